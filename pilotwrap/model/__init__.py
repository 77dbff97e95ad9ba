"""The values, one noun a file."""
