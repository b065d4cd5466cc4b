"""Augmentation policies, one per file."""
