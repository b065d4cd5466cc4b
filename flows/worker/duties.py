"""What a process that lives for months is made of: duties that fall due, and signals that end it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager


class Every:
    """A duty that is due at once, and then every so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._next = seconds, 0.0

    def due(self) -> bool:
        """Whether it is time; the next time counts from now."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True

    def at_once(self) -> None:
        """Make it due."""
        self._next = 0.0


@contextmanager
def told_to_stop() -> Iterator[Sequence[int]]:
    """Inside, SIGINT and SIGTERM are collected in what this yields, for the loop to see; the second one interrupts.

    Raises:
        KeyboardInterrupt: at the second signal.
    """
    told: list[int] = []  # and not an event, whose lock the interrupted code may hold

    def note(number: int, _: object) -> None:
        told.append(number)
        if len(told) > 1:
            raise KeyboardInterrupt

    with ExitStack() as before:
        for number in (signal.SIGINT, signal.SIGTERM):
            before.callback(signal.signal, number, signal.signal(number, note))
        yield told
