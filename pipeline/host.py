"""The machine that this process runs on, as far as results may depend on it. Nothing heavy is imported."""

from __future__ import annotations

import os
import platform
from pathlib import Path

RESUME = "CONVOY_RESUME"
"""Variable that says what becomes of a training that was begun on another machine, or with other libraries or threads:
`anyway`, it goes on, or `anew`, it starts over. Unset, it is refused."""


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
