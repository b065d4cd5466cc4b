"""What a long piece of work says: how far it has come, on stderr, and a copy of every line in the log of its run.

with copied(), track("ingest", total=60_000) as advance:
    for batch in batches:
        advance(len(batch))

A terminal shows a bar, anything else a plain line now and then; the log gets the plain lines in any case. It is named
by the variable CONVOY_LOG, so that flow and stages, each a process of its own, write to the same one. Each line is
opened, appended and closed for itself: a kill leaves whole lines, and nobody waits for anybody.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

LINE_SECONDS = 10.0
"""Between plain lines; work that is done sooner prints none."""
LOG = "CONVOY_LOG"
"""Variable with the path of the log that takes the copy."""
LOG_BYTES = 2_500_000
"""Of a log; when it is longer it becomes the older half, and what was the older half is gone."""
LONGEST_LINE = 4_000
"""Characters; the rest of a longer line is left out of the log."""
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")
"""What moves a cursor, sets a colour or a title."""


@contextmanager
def track(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of items just done.

    Args:
        label: what is being done, as a person reads it.
        total: items in all; None where nobody knows.
    """
    if not sys.stderr.isatty():
        yield _lines(label, total, lambda line: print(line, file=sys.stderr, flush=True))
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    note = _lines(label, total, write_log)
    with _streams(_bare(sys.stdout), _bare(sys.stderr)):  # the bar stays out of the log
        with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar, copied():
            task = bar.add_task(label, total=total)

            def advance(count: int) -> None:
                bar.advance(task, count)
                note(count)

            yield advance


@contextmanager
def copied() -> Iterator[None]:
    """Inside, what is printed goes to the log of the run as well, if there is one."""
    if not os.environ.get(LOG):
        yield
        return
    copies = _Copy(sys.stdout), _Copy(sys.stderr)
    with _streams(*(cast(TextIO, copy) for copy in copies)):
        try:
            yield
        finally:
            for copy in copies:
                copy.finish()


def write_log(text: str) -> None:
    """Append lines to the log of the run, each with the time; a log that cannot be written stops no run."""
    if not (name := os.environ.get(LOG)):
        return
    path, now = Path(name), time.strftime("%Y-%m-%d %H:%M:%S")
    data = "".join(f"{now}  {_plain(line)}\n" for line in text.split("\n")).encode(errors="replace")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, data)  # in one piece, so that the lines of two processes do not mix
            if os.fstat(handle).st_size > LOG_BYTES:
                _make_older(path, handle)
        finally:
            os.close(handle)


def older(log: Path) -> Path:
    """The older half of a log, if it has grown that long."""
    return log.with_suffix(".old.log")


def _make_older(path: Path, handle: int) -> None:
    """Of several that find the log too long, one renames it; whoever has it open still writes to it."""
    with suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), path.stat()):
            path.replace(older(path))


class _Copy:
    """A stream that passes everything on to another, and whole lines to the log."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._line = ""
        self._lock = threading.RLock()  # a signal may interrupt a print, and print

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._lock:
            lines, newline, rest = (self._line + text).rpartition("\n")
            self._line = rest[-LONGEST_LINE:]  # a bar of some library may draw for hours without a newline
            if newline:
                write_log(lines)
        return self.stream.write(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def finish(self) -> None:
        """Log what was begun and not ended by a newline."""
        with self._lock:
            if self._line.strip():
                write_log(self._line)
            self._line = ""


@contextmanager
def _streams(out: TextIO, err: TextIO) -> Iterator[None]:
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _bare(stream: TextIO) -> TextIO:
    return stream.stream if isinstance(stream, _Copy) else stream


def _plain(line: str) -> str:
    """What stays of a line when it has been printed: without what was written over, and no control characters."""
    shown = _ESCAPES.sub("", line.rstrip("\r").rpartition("\r")[2])[:LONGEST_LINE]
    return "".join(one if one.isprintable() or one == "\t" else one.encode("unicode_escape").decode() for one in shown)


def _lines(label: str, total: int | None, say: Callable[[str], None]) -> Callable[[int], None]:
    done, due = 0, time.monotonic() + LINE_SECONDS

    def advance(count: int) -> None:
        nonlocal done, due
        done += count
        if time.monotonic() >= due:
            due = time.monotonic() + LINE_SECONDS
            share = f" of {total:,} ({done / total:.0%})" if total else ""
            say(f"{label}: {done:,}{share}")

    return advance
