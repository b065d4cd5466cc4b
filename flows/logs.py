"""The log of a flow run: everything that it says, its stages included, also after it was killed and taken up again.

.convoy/logs/runs/ID.log      by the id of the flow run, in the state that all trees share
.convoy/logs/runs/ID.old.log  what came before, once that has grown long, or of the flow run that it goes on with

`pipeline.progress` writes it, line by line, in whichever process something is printed.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from pipeline.errors import UserError
from pipeline.files import shared
from pipeline.progress import LOG, copied, older, write_log

HOME = Path("logs") / "runs"
AT_ONCE = 200_000
"""Bytes that a look at a log gives: of more, the last ones."""
LEFT_OUT = "(earlier lines are left out)\n"


def path(flow_run: UUID | str) -> Path:
    """Where the log of a flow run lies."""
    return shared().absolute() / HOME / f"{UUID(str(flow_run))}.log"


@contextmanager
def kept(flow_run: UUID | str) -> Iterator[None]:
    """Inside, all that this process and its stages print is kept, and the error that ends it."""
    log = path(flow_run)
    if os.environ.get(LOG) == str(log):  # the process of a scheduled run keeps it from its first line on
        yield
        return
    os.environ[LOG] = str(log)
    try:
        with copied():
            write_log(f"The run {'goes on' if log.exists() else 'begins'}, in process {os.getpid()}.")
            yield
    except UserError as error:
        write_log(str(error))
        raise
    except Exception:
        write_log(traceback.format_exc().rstrip())
        raise
    except KeyboardInterrupt:
        write_log("Stopped.")
        raise
    finally:
        del os.environ[LOG]


def go_on(before: str, flow_run: str) -> None:
    """A run that flow run `before` began is taken up by another: so is its log."""
    if before and flow_run and before != flow_run:
        with suppress(OSError, ValueError):
            path(before).rename(older(path(flow_run)))


def tail(log: Path, offset: int) -> tuple[str, int]:
    """The lines of a log after a byte offset, and the offset after them.

    Args:
        log: its newer half.
        offset: as this function gave it the last time; 0 for the first look, which begins with the older half. Of more
            than `AT_ONCE` bytes the last ones are given.
    """
    begun = 0 < offset <= _size(log)  # else it was empty, or has become the older half since
    before = b"" if begun else _read(older(log), offset)
    new = _read(log, offset if begun else 0)
    new = new[: new.rfind(b"\n") + 1]
    data = before + new
    text = data[-AT_ONCE:].decode(errors="replace")
    if len(data) > AT_ONCE:
        text = LEFT_OUT + text.partition("\n")[2]
    # Where nothing has come since the cut, the offset stays that in the older half: 0 would be a first look again.
    return text, len(new) if new and not begun else offset + len(data)


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return 0


def _read(log: Path, offset: int) -> bytes:
    try:
        with log.open("rb") as file:
            file.seek(max(0, offset))
            return file.read()
    except FileNotFoundError:
        return b""
