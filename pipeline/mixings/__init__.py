"""Blends of the pictures of a batch, one per file."""
