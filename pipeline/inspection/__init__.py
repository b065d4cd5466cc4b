"""What lies in a source, said before anything is ingested."""
