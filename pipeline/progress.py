"""How far a long piece of work has come: a bar on a terminal, a plain line now and then anywhere else, on stderr.

with track("ingest", total=60_000) as advance:
    for batch in batches:
        advance(len(batch))
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_SECONDS = 10.0
"""Between plain lines; work that is done sooner prints none."""


@contextmanager
def track(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of items just done.

    Args:
        label: what is being done, as a person reads it.
        total: items in all; None where nobody knows.
    """
    if not sys.stderr.isatty():
        yield _lines(label, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


def _lines(label: str, total: int | None) -> Callable[[int], None]:
    done, due = 0, time.monotonic() + LINE_SECONDS

    def advance(count: int) -> None:
        nonlocal done, due
        done += count
        if time.monotonic() >= due:
            due = time.monotonic() + LINE_SECONDS
            share = f" of {total:,} ({done / total:.0%})" if total else ""
            print(f"{label}: {done:,}{share}", file=sys.stderr, flush=True)

    return advance
