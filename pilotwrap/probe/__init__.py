"""What needs a library and a child process to find out."""
