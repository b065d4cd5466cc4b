"""What processes that train together tell each other. One that trains alone asks the same, and answers itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.train.processes.place import meeting, place

PATIENCE = timedelta(minutes=10)
"""That a process waits for the others, before it takes them to be stuck. Of one that has ended, all hear at once."""
ALONE = timedelta(days=30)
"""That it waits for one that has work to do before the others go on: to pack millions of pictures takes hours."""

T = TypeVar("T")


class Ranks:
    """The processes that train together, as one of them sees them. Each asks the same as the others, in step."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count

    @classmethod
    def joined(cls, device: torch.device) -> Ranks:
        """Those that this process was started with; the first call waits until all of them are there."""
        here = place()
        if here is None:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                init_method=meeting(),
                rank=here.rank,
                world_size=here.of,
                timeout=PATIENCE,
            )
            _patient()
        return cls(*here)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, size: int) -> slice:
        """Which places of a batch this process computes: parts of equal size, in order.

        Raises:
            UserError: there are no such parts.
        """
        if size % self.count:
            near = f"train.batch_size to {size - size % self.count}, or " if size > self.count else ""
            raise UserError(
                f"params.yaml: {self.count} processes cannot share a batch of {size} pictures evenly.\n"
                f"Set {near}compute.processes to a number that divides {size}."
            )
        part = size // self.count
        return slice(self.rank * part, (self.rank + 1) * part)

    def wait(self) -> None:
        """Until all have come as far as this."""
        if self.count > 1:
            self.most(0)  # the barrier of torch would take a GPU

    def in_turn(self, act: Callable[[], T]) -> T:
        """What an act of each process comes to; the others begin theirs when the first has ended its own."""
        if not self.first:
            self._attend()
        done = act()
        if self.first:
            self._attend()
        self._attend()
        return done

    def agreed(self, value: T) -> T:
        """The value that the first one has."""
        if self.count == 1:
            return value
        held = [value if self.first else None]
        dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        return held[0]  # type: ignore[return-value]

    def found(self, act: Callable[[], T]) -> T:
        """What an act of the first one comes to, for which the others wait."""
        done = act() if self.first else None
        self._attend()
        return self.agreed(done)  # type: ignore[return-value]

    def _attend(self) -> None:
        """As `wait`, however long one of them works by itself."""
        if self.count > 1:
            dist.all_reduce(torch.zeros(1), group=_patient())

    def most(self, *numbers: int) -> list[int]:
        """The largest that any process has, of each of these."""
        if self.count == 1:
            return list(numbers)
        largest = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return largest.tolist()

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, float64 of the same shape; with one process, what it has.

        Added up in their order: a ring would add different places in different orders, and the last bits of a value
        would depend on how many others it is sent with.
        """
        if self.count == 1:
            return values
        values = values.double().contiguous()
        all_of_them = [torch.empty_like(values) for _ in range(self.count)]
        dist.all_gather(all_of_them, values)
        return torch.stack(all_of_them).mean(dim=0)

    def mean_weight(self, weight: Tensor | float) -> Tensor | float:
        """What the parts of a batch weigh in the mean over the processes; 1 in place of 0. Numbers are alike in all."""
        if not isinstance(weight, Tensor):
            return weight
        total = weight.float()
        if self.count > 1:
            dist.all_reduce(total)
            total = total / self.count
        return torch.where(total > 0, total, 1.0)

    def dealt(self, batches: Iterable[T]) -> Iterator[tuple[T, bool]]:
        """One batch after the other for each process in turn, and whether it counts.

        Where the last ones are not enough for all, some take one that another has: each takes as many as the others.
        """
        waiting: list[T] = []
        for batch in batches:
            waiting.append(batch)
            if len(waiting) == self.count:
                yield waiting[self.rank], True
                waiting = []
        if waiting:
            yield waiting[min(self.rank, len(waiting) - 1)], self.rank < len(waiting)

    def gathered(self, value: T | None) -> list[T]:
        """What each process has, in their order, but for those that have nothing; the first one is told."""
        found: list[T | None] = [value]
        if self.count > 1:
            found = [None] * self.count
            dist.gather_object(value, found if self.first else None, dst=0)
        return [each for each in found if each is not None]

    def all_of(self, value: T) -> list[T]:
        """What each process has, in their order."""
        return self.agreed(self.gathered(value))

    def give_buffers(self, module: nn.Module) -> None:
        """Let the others have the buffers of the first one: the statistics of batch normalisation, which each measures
        on its own pictures."""
        if self.count > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)


@cache
def _patient() -> dist.ProcessGroup:
    """The same processes, as they wait for one that works alone; made once, by all of them together."""
    group = dist.new_group(backend="gloo", timeout=ALONE)
    assert isinstance(group, dist.ProcessGroup)  # else this process would be none of them
    return group
