"""Copies of what a training holds, for whoever writes or reads them while it goes on; a GPU is waited for once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


def copied(value: Any) -> Any:
    """The same on the processor, in memory of its own: the next step changes the tensors of this one."""
    # Copies that a GPU may not have made yet.
    made = mapped(value, lambda tensor: tensor.detach().to("cpu", copy=True, non_blocking=tensor.is_cuda))
    _wait_for(tensors_in(value))
    return made


def fetched(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same on the processor; those that are there already are not copied."""
    # Of a GPU's tensors these copies have only been asked for, into pinned memory that torch takes for them.
    made = [tensor.detach().to("cpu", non_blocking=tensor.is_cuda) for tensor in tensors]
    _wait_for(tensors)
    return made


def mapped(value: Any, act: Callable[[Tensor], Any]) -> Any:
    """The same with what an act makes of each tensor in its place, however deep."""
    if isinstance(value, Tensor):
        return act(value)
    if isinstance(value, dict):
        made = copy.copy(value)  # with what torch notes beside a state: the versions of its modules
        made.update((key, mapped(each, act)) for key, each in value.items())
        return made
    return type(value)(mapped(each, act) for each in value) if isinstance(value, list | tuple) else value


def _wait_for(tensors: Iterable[Tensor]) -> None:
    """Until the GPUs of these tensors have done all that they were asked."""
    for device in {tensor.device for tensor in tensors if tensor.is_cuda}:
        torch.cuda.synchronize(device)


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
