"""What a check of `convoy doctor` says."""

from __future__ import annotations

from typing import NamedTuple

OK, WARNING, FAILED = "ok", "warning", "failed"


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    status: str
    """`ok`, `warning` (works, at a cost) or `failed`."""
    found: str
    advice: str = ""
    """What to do, where there is something to do."""
