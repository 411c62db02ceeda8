"""What stands in tables: columns of printed, toy's and trained networks' numbers."""
