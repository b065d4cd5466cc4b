"""The parts of a detector that sees a picture once: body, neck, head, and which place learns which object."""
