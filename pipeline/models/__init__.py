"""Architectures, or one library's family of them, one per file."""
