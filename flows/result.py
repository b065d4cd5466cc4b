"""What a run came to, for whoever started it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.registry.attempts import Finished


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    finished: Finished
    new: bool
    """False: everything was up to date, and this is what the run before came to."""
    experiment: str = ""
    """Its name in DVC, if the run worked in a tree of its own."""
