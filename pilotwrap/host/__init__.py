"""What runs on the host, on nothing but the standard library of Python 3.6."""
