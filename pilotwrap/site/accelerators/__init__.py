"""Vendors of accelerators, one file each."""
