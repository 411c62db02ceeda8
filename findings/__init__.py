"""What results say: claims as data, and what is read from result files."""
