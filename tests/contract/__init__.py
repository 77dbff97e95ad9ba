"""The lab held against what a real PanDA server answered."""
