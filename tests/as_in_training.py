"""Arithmetic as the stage `train` sets it up, for as long as a test lasts: import the fixture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def as_in_training() -> Iterator[None]:
    """One thread, and an error for every operation that is not repeatable."""
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(mode)
