"""Machines, one TOML file each with its sources."""
