"""Errors that say that memory has run out, whoever says it, and the words for them."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.errors import UserError

SIGNS = re.compile(
    r"DefaultCPUAllocator: can't allocate memory"
    r"|std::bad_alloc"
    r"|could not (create|execute) a primitive(?! descriptor)"  # oneDNN; with a descriptor, it does not know how
    r"|can't start new thread"  # for whose stack there is no room
    r"|CUDNN_STATUS_ALLOC_FAILED"
    r"|CUBLAS_STATUS_ALLOC_FAILED"
    r"|MPS backend out of memory"
)
"""What other errors than those made for it say."""


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(SIGNS.search(str(error)))


@contextmanager
def enough_for(what: str, remedy: str) -> Iterator[None]:
    """Say in a line what ran out of memory, if it does.

    Raises:
        UserError: it did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        raise UserError(f"train: {what} does not fit into {room(error)}. {remedy}") from None


def room(error: BaseException | None = None) -> str:
    """What was too small, in words."""
    if torch.cuda.is_available() and not isinstance(error, MemoryError):
        found = torch.cuda.get_device_properties(torch.cuda.current_device())
        return f"the {found.total_memory / 2**30:.0f} GiB of {found.name}"
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return "memory" if limit == resource.RLIM_INFINITY else f"the {limit / 1e9:.1f} GB that are allowed (ulimit -v)"
