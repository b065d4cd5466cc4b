"""Copies of what a training holds, for whoever writes them while it goes on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor


def copied(value: Any) -> Any:
    """The same on the processor, in memory of its own: the next step changes the tensors of this one."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        made = copy.copy(value)  # with what torch notes beside a state: the versions of its modules
        made.update((key, copied(each)) for key, each in value.items())
        return made
    return type(value)(map(copied, value)) if isinstance(value, list | tuple) else value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All that dictionaries, lists and tuples hold, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(each)


def bytes_of(content: dict[str, Any]) -> int:
    """Of its numbers: a file of them is a little larger."""
    return sum(tensor.nbytes for tensor in tensors_in(content))
