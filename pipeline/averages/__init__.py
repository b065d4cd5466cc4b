"""Averages of weights, one per file."""
