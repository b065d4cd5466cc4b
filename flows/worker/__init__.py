"""`convoy worker`: scheduled runs, served one at a time, and what happens when one dies."""
