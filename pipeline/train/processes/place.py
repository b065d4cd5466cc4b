"""Which of the processes that train together this one is. Nothing heavy is imported."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from pipeline import interrupts

MEETING = "CONVOY_MEETING"
"""Variable with the file by which the processes find each other that a stage has started."""
TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Variable that says that torchrun has started this process, and how it finds the others in variables beside it."""
WORDS = "TORCHELASTIC_ERROR_FILE"
"""Variable with the file for what a process says as it ends; torch's own, as it reads that file."""
EXIT_LEFT_ALONE = 75
"""What a process ends with because another one has ended."""
NOTICE = 3.0
"""Seconds in which whoever started the processes sees that one has ended, and ends the others."""


class Ended(Exception):
    """The processes have ended, and not well."""

    def __init__(self, words: str, status: int) -> None:
        super().__init__(words)
        self.status = status
        """What the stage ends with."""


class Place(NamedTuple):
    """Of a process among those that train together."""

    rank: int
    """0-based; the first one writes."""
    of: int
    """How many there are."""


def place() -> Place | None:
    """That of this process, or None: it was started alone."""
    if MEETING not in os.environ and not by_torchrun():
        return None
    return Place(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def by_torchrun() -> bool:
    """Whether torchrun has started this process, and not a stage."""
    return MEETING not in os.environ and TORCHRUN in os.environ


def meeting() -> str:
    """Where the processes find each other, as torch takes it."""
    return "env://" if by_torchrun() else f"file://{os.environ[MEETING]}"


def left_alone() -> bool:
    """Whether an error comes of the end of another process: whoever started them then ends this one as well."""
    ends = time.monotonic() + NOTICE
    while place() and not interrupts.asked() and time.monotonic() < ends:
        time.sleep(0.05)
    return place() is not None and interrupts.asked()


def leave_word(words: str) -> None:
    """Leave why this process ends to whoever started it."""
    Path(os.environ[WORDS]).write_text(json.dumps({"message": words, "timestamp": int(time.time())}))
