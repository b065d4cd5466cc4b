"""Vision tasks, one per file."""
