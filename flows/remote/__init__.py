"""Data, models and records on their way to the DVC remote and back."""
