"""What the flow says when DVC could not bring a stage up to date."""

from __future__ import annotations

import errno

import pytest
from dvc.exceptions import ReproductionError
from dvc.lock import LockError
from dvc.stage.exceptions import StageCmdFailedError

from flows.stage import Died, Mistake, Stopped, _explained
from pipeline.errors import UserError


def explained(cause: Exception) -> Exception:
    error = ReproductionError("failed to reproduce 'train'")
    error.__cause__ = cause
    return _explained("train", error)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (1, Mistake, "train: see the words above."),
        (130, Stopped, "train"),
        (-2, Stopped, "train"),
        (-9, Died, "train: its process ended by signal SIGKILL (the system kills so when memory runs out)."),
        (143, Died, "train: its process ended by signal SIGTERM."),
        (70, Died, "train: its process ended with status 70."),
    ],
)
def test_what_the_exit_status_means(status: int, kind: type[Exception], words: str) -> None:
    error = explained(StageCmdFailedError("python -m pipeline train", status))
    assert (type(error), str(error)) == (kind, words)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), "[Errno 28] No space left on device: 'x'"),
        (LockError("'out' is busy, it is being blocked by:\n  (PID 7): dvc"), "'out' is busy, it is being blocked by"),
    ],
)
def test_what_dvc_wraps_is_told(cause: Exception, words: str) -> None:
    error = explained(cause)
    assert type(error) is UserError
    assert str(error).startswith(f"train: DVC says: {words}")
