"""Two runs compared picture by picture, by `convoy compare` in a process of its own: this one stays small.

What came of it is kept for the pairs that were looked at last; records never change.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from pipeline.errors import UserError
from pipeline.registry.verdict import Comparison

PATIENCE = 300
"""Seconds; two runs of 100,000 test images each take some ten."""
NAMED = 10

WAITING = 3
"""Looks that may wait for it at a time: each holds one of the page's few threads."""

_one_at_a_time = threading.Lock()
_waiting = threading.Semaphore(WAITING)


class Kind(NamedTuple):
    """Pictures that are otherwise in the second run."""

    words: str
    many: int
    named: list[dict[str, str]]
    """The first of them: `id`, `source`, `before`, `after`."""


class Compared(NamedTuple):
    """What the records do not say by themselves."""

    paired: Comparison | None
    note: str
    """Why there is no paired comparison, or what was passed over for it."""
    stat: Sequence[str]
    """Files of the code, as git's `--stat` has them."""
    code_same: bool
    code_note: str
    kinds: list[Kind]
    data_note: str


def compared(before: str, after: str) -> Compared:
    """The difference between two runs, by their whole ids; the first look takes seconds.

    Raises:
        UserError: it cannot be told.
    """
    if not _waiting.acquire(blocking=False):
        raise UserError(f"{WAITING} comparisons are at work already. Load this page again in a minute.")
    try:
        with _one_at_a_time:
            return _compared(before, after)
    finally:
        _waiting.release()


@lru_cache(maxsize=64)
def _compared(before: str, after: str) -> Compared:
    command = [sys.executable, "-m", "flows.cli", "compare", before, after, "--json"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"Comparing them took longer than {PATIENCE} s. `convoy compare` in a terminal has time."
        ) from None
    if done.returncode:
        raise UserError(done.stderr.decode(errors="replace").strip() or "`convoy compare` ended without a word.")
    return _read(json.loads(done.stdout))


def _read(found: dict[str, Any]) -> Compared:
    from pipeline.registry.difference import KINDS  # and with it numpy and pyarrow: not when the page starts

    images, code = found["data"]["images"] or {}, found["code"]
    return Compared(
        paired=Comparison.model_validate(found["paired"]) if found["paired"] else None,
        note=found["note"],
        stat=[line.removeprefix(" ") for line in code["stat"].splitlines()],
        code_same=code["same"],
        code_note=code["note"],
        kinds=[
            Kind(words, len(images[kind]), images[kind][:NAMED]) for kind, words in KINDS.items() if images.get(kind)
        ],
        data_note=found["data"]["note"],
    )
