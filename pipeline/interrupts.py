"""Stopping a stage: Ctrl-C, a polite kill, or the end of whoever started it.

A first signal asks the stage to stop at its next safe point; the same one again stops it on the spot.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

EXIT_CODE = 130
GRACE_SECONDS = 20.0
"""What an orphan gets to reach a safe point."""

STAGE = "CONVOY_STAGE_PID"
"""Variable by which a stage that starts processes of its own tells them who their parent is."""

_asked: set[int] = set()
_safe_points = threading.Event()


class Interrupted(Exception):
    """The stage was asked to stop and has kept what is done."""


def asked() -> bool:
    """Whether the stage should stop at its next safe point."""
    return bool(_asked)


def heed() -> None:
    """Stop if that was asked for: what a signal raises while an extension is imported may be lost there (pandas)."""
    if _asked:
        raise KeyboardInterrupt


def at_safe_points() -> None:
    """From now on a signal only asks; the stage looks at `asked` often enough."""
    _safe_points.set()


def listen() -> None:
    """Handle SIGINT and SIGTERM, and stop when the process that started this one ends."""
    signal.signal(signal.SIGINT, _on_signal)
    signal.signal(signal.SIGTERM, _on_signal)
    threading.Thread(target=_watch, args=(_parents(),), daemon=True).start()


def _on_signal(number: int, frame: FrameType | None) -> None:
    # Of Ctrl-C the terminal tells the stage, and then the flow does, by SIGTERM: that is no second time.
    again, first = number in _asked, not _asked
    _asked.add(number)
    if again or (first and not _safe_points.is_set()):
        raise KeyboardInterrupt


def _parents() -> list[int]:
    """Processes without which this one is an orphan: its parent and the flow, which a shell may stand between."""
    flow, stage = os.environ.get("CONVOY_FLOW_PID", ""), os.environ.get(STAGE, "")
    parent = int(stage) if stage.isdigit() else os.getppid()  # which may have ended before this line
    return [parent, *([int(flow)] if flow.isdigit() else [])]


def _watch(parents: list[int]) -> None:
    """A killed flow cannot tell its stage; without this, the stage would train on beside the next run."""
    while os.getppid() == parents[0] and all(map(_alive, parents)):
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(EXIT_CODE)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
