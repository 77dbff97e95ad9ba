"""Launchers, one file each."""
