"""Memory that steps give back is taken again, and not fetched anew from the system."""

from __future__ import annotations

import platform
import resource
from functools import partial
from pathlib import Path

import pytest
import torch
from forked import Forked

from pipeline.train.allocation import keep_memory

BLOCK = 2**26
"""Bytes: more than glibc ever keeps by itself."""
HUGE = 2**21
"""Bytes of the largest page that the system fetches at a time."""
ROUNDS = 20


def pages_fetched(device: str) -> int:
    """Say how often pages were fetched while blocks were taken and given back."""
    keep_memory(torch.device(device))
    torch.empty(BLOCK, dtype=torch.uint8).fill_(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ROUNDS):
        torch.empty(BLOCK, dtype=torch.uint8).fill_(1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_blocks_are_taken_again(tmp_path: Path) -> None:
    """In processes of their own: the setting is theirs. Where something else computes, nothing is set."""
    kept, anew = (int(Forked(tmp_path, partial(pages_fetched, name)).ended().words) for name in ("cpu", "cuda"))
    assert anew >= ROUNDS * BLOCK // HUGE
    assert kept < anew / 4  # a block that is aligned otherwise may not fit into what the first has left: once or twice
