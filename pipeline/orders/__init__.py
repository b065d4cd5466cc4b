"""Orders of the training pictures, one per file."""
