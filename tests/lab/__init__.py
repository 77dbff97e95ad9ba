"""The lab: its rules one by one, and its server as a process."""
