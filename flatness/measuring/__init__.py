"""One measure a file; what they share is in base."""
