"""The moments between two writes at which a kill would hurt most, numbered so that tests kill at each of them.

Register, gate, decide, promote and rollback write to several stores that no transaction spans. Each place where one
has been written and the next has not is a point here; `tests/test_failpoints.py` ends a process by SIGKILL at every
one and starts anew. So are those of a training between its files, for `tests/test_resume.py`. Unset, the variable
costs a look at the environment.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from enum import IntEnum, auto

VARIABLE = "CONVOY_FAIL_POINT"
"""Number of the point at which this process kills itself: `3`; or, the fifth time that it comes there, `3:5`."""


class Point(IntEnum):
    """What has just been written; what follows has not."""

    LOGGED_MODEL_MADE = auto()
    """MLflow has a logged model without files."""
    MODEL_FILES_WRITTEN = auto()
    """The logged model has its files and is not finalized."""
    MODEL_FINALIZED = auto()
    """No version names the logged model yet."""
    REGISTERED_MODEL_MADE = auto()
    """The registered model has no version yet."""
    VERSION_MADE = auto()
    """The logged model does not name its version yet."""
    VERSION_SHOWN = auto()
    """The run does not name the model as its output yet."""
    CASE_IMAGES_WRITTEN = auto()
    """The case's folder is under its temporary name."""
    CASE_WRITTEN = auto()
    """The ledger does not know the case yet."""
    CASE_ENTERED = auto()
    """The attempt does not know the verdict yet."""
    VERDICT_NOTED = auto()
    """Nothing is promoted yet."""
    ENTRY_WRITTEN = auto()
    """The ledger has the move or decision in an open transaction."""
    ENTRY_COMMITTED = auto()
    """The mark of the ledger's end is one behind."""
    LEDGER_MARKED = auto()
    """MLflow's alias is one behind."""
    ALIAS_SET = auto()
    """Nothing else was told of the move."""
    RUN_TOLD = auto()
    """MLflow's run says what was decided; its version does not."""
    VERSION_TOLD = auto()
    """Prefect has not heard of it."""
    PREFECT_TOLD = auto()
    """Nobody was notified."""
    NOTIFIED = auto()
    """The case is not marked as settled: people are notified twice."""
    RUN_CLOSED = auto()
    """The record of the run is not written yet."""
    RECORD_WRITTEN = auto()
    """The attempt is not finished yet."""


class TrainingPoint(IntEnum):
    """As `Point`, of a training."""

    STEPS_NOTED = 101
    """Journal and log of what was seen have steps that no checkpoint has."""
    CHECKPOINT_BEGUN = auto()
    """A checkpoint lies under its temporary name, not flushed."""
    CHECKPOINT_WRITTEN = auto()
    """It is whole, and the one before it has its name."""
    CHECKPOINT_SHIFTED = auto()
    """The one before it is the older one; none has the newer one's name."""
    CHECKPOINT_NAMED = auto()
    """Weights of epochs that are not the best any more are still there."""
    BEST_KEPT = auto()
    """No checkpoint says that this epoch is the best."""
    EPOCH_NOTED = auto()
    """The journal has an epoch that no checkpoint has."""
    EPOCHS_DONE = auto()
    """All is learnt, and no output is written."""
    MODEL_WRITTEN = auto()
    """The notes are not written."""
    NOTES_WRITTEN = auto()
    """The training's folder does not say that all is done."""
    WENT_BACK = auto()
    """A checkpoint stands where a training that diverged goes on; what was noted after that place is still there."""


_passed: Counter[IntEnum] = Counter()


def passing(point: Point | TrainingPoint) -> None:
    """Die here if the environment says so."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    _passed[point] += 1
    number, _, time = wanted.partition(":")
    if number == str(point.value) and _passed[point] >= int(time or 1):
        os.kill(os.getpid(), signal.SIGKILL)
