"""Work on several items at once, a bounded number ahead of whoever takes the results, in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = 8
AHEAD = 32
"""Items that are under way or wait to be taken, at most."""
AHEAD_BYTES = 64_000_000
"""Of these items; one alone may have more."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    items: Iterable[Item], work: Callable[[Item], Result], weight: Callable[[Item], int]
) -> Iterator[tuple[Item, Result]]:
    """Each item with its result; an error of `work` is raised where its item is due.

    Args:
        items: read no further ahead than what is under way.
        work: called in threads.
        weight: bytes that an item's result takes.
    """
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="reading")
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    held = 0
    try:
        for item in items:
            while waiting and (len(waiting) >= AHEAD or held + weight(item) > AHEAD_BYTES):
                first, future = waiting.popleft()
                yield first, future.result()
                held -= weight(first)
            waiting.append((item, pool.submit(work, item)))
            held += weight(item)
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
