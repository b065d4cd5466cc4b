"""How far a run is, its curves and what it says, for whoever looks: read from files, and no server is asked.

Cheap enough to ask every second; nothing heavy is imported before a run has finished.
"""

from __future__ import annotations

import time

from pydantic import Field

from flows import logs
from flows.curves import Course, Curves, courses, recorded, seconds_left
from pipeline.contracts import Options
from pipeline.registry import attempts
from pipeline.registry.glances import State


class Progress(Options):
    """How far a run is."""

    run: str
    state: State
    stage: str
    """What is at work now: `train`, `judge`; of a run that stopped short, where; empty once it has finished."""
    seconds: dict[str, float]
    """What each stage took that has ended and ran in this run."""
    member: int = 0
    """Of an ensemble the one that learns, or was the last to, 1-based; 0: none has begun, or there is one training."""
    members: int = 1
    epoch: int = 0
    """Epochs done, by that member alone."""
    epochs: int = 0
    """Of a training at most, by the params; 0 where they are not known."""
    step: int = 0
    """Steps done, over all epochs of that member."""
    steps: int = 0
    """Of that member at most; 0 until the first epoch of any is done."""
    before: int = 0
    """Steps of the members before it, as if none had stopped early."""
    latest: dict[str, float] = Field(default_factory=dict)
    """What the last epoch came to that is done, as `train_loss`, `val_loss` and the validation score."""
    eta: float | None = None
    """Seconds until the last epoch of the last member is done, if that can be told; patience may end them sooner."""
    resumed: int = 0
    """How often the run was taken up again."""
    error: str = ""
    """Why it stopped short, if it could say so."""

    @property
    def training(self) -> str:
        """How far training is, in words: `member 2 of 3, epoch 4 of 10`; empty where nobody knows how long it is."""
        if not self.epochs:
            return ""
        whose = f"member {max(1, self.member)} of {self.members}, " if self.members > 1 else ""
        return f"{whose}epoch {min(self.epoch + 1, self.epochs)} of {self.epochs}"


def progress(run: str) -> Progress | None:
    """How far the run of this id is, or None where no such run is known."""
    attempt = attempts.read(run)
    if attempt is None:
        return None
    state: State = "finished" if attempt.finished else "working" if attempts.at_work(attempt) else "stopped"
    told = Progress(
        run=run,
        state=state,
        stage=attempt.stage,
        seconds=attempt.seconds,
        members=attempt.params.get("ensemble", {}).get("members", 1),
        epochs=attempt.params.get("train", {}).get("epochs", 0),
        resumed=attempt.resumed,
        error=attempt.error,
    )
    begun = courses(attempt.training)
    if not begun:
        return told
    trains = state == "working" and attempt.stage == "train"
    eta = seconds_left(begun, told.members, told.epochs, time.time()) if trains else None
    return told.model_copy(update={**_how_far(begun, told.epochs), "eta": eta})


def curves(run: str) -> list[Curves]:
    """The curves of a run as far as they are known: from its record, or from the journal of its training.

    Of an ensemble those of each member that has begun; one, without a point, where nothing is known.
    """
    attempt = attempts.read(run)
    found: list[Curves] = []
    if attempt and attempt.finished:
        found = recorded(run)
    if attempt and not found:
        found = [one.curves() for one in courses(attempt.training)]
    return found or [Curves()]


def log_tail(run: str, offset: int) -> tuple[str, int]:
    """What a run has said since, and the offset to ask with the next time; see `flows.logs.tail`.

    Args:
        run: id of the run, or of a flow run whose run is not known yet.
        offset: 0 for the first look.
    """
    attempt = attempts.read(run)
    try:
        return logs.tail(logs.path(attempt.flow_run if attempt else run), offset)
    except ValueError:  # no id, or a run that an older version of this package began
        return "", 0


def _how_far(begun: list[Course], epochs: int) -> dict[str, object]:
    """The fields of `Progress` about the training, or the member of an ensemble, that has begun last."""
    *earlier, one = begun
    usual = one.steps_per_epoch or (earlier[-1].steps_per_epoch if earlier else 0)
    return {
        "member": one.member,
        "epoch": one.epochs,
        "step": one.steps,
        "steps": usual * epochs,
        "before": sum(each.steps_per_epoch for each in earlier) * epochs,
        "latest": one.latest(),
    }
