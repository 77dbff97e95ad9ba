"""The embedded PanDA server, for tests and tutorials."""
