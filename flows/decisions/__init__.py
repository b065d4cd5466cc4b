"""Who becomes champion, seen from the flow: asking, waiting, answering, and telling everybody what was decided."""
