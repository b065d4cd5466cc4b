"""A dataset written back in formats that other tools read; one file each."""
