"""Errors that say that memory has run out, whoever says it, and the words for them."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.errors import TemporaryFailure, UserError
from pipeline.host import limits, memory

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
SHARED = "memory"
"""Of the host, without a limit of this process."""


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
        raise shortage(f"train: {what} does not fit into {room(error)}. {remedy}", error) from None


def shortage(words: str, error: BaseException | None = None) -> UserError:
    """A mistake where what was too small stays so; a passing failure where others hold memory that may come free."""
    return TemporaryFailure(words) if room(error) == SHARED else UserError(words)


def room(error: BaseException | None = None) -> str:
    """What was too small, in words."""
    if torch.cuda.is_available() and not isinstance(error, MemoryError):
        found = torch.cuda.get_device_properties(torch.cuda.current_device())
        return f"the {found.total_memory / 2**30:.0f} GiB of {found.name}"
    limit, container = resource.getrlimit(resource.RLIMIT_AS)[0], limits().memory
    if limit != resource.RLIM_INFINITY and limit <= container:
        return f"the {limit / 1e9:.1f} GB that are allowed (ulimit -v)"
    return f"the {container / 1e9:.1f} GB that this container may have" if container <= memory() else SHARED
