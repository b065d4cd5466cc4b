"""The review page: what was run, what it came to, and who decides what goes into use. Reads `flows` and `pipeline`."""
