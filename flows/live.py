"""How far a run is, its curves and what it says, for whoever looks: read from files, and no server is asked.

Cheap enough to ask every second; nothing heavy is imported before a run has finished.
"""

from __future__ import annotations

import time

from pydantic import Field

from flows import logs
from flows.curves import Curves, Points, course, recorded
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
    epoch: int = 0
    """Epochs done."""
    epochs: int = 0
    """At most, by the params; 0 where they are not known."""
    step: int = 0
    """Steps done, over all epochs."""
    steps: int = 0
    """At most; 0 until the first epoch is done."""
    losses: Points = Field(default_factory=list)
    """Training loss by step."""
    eta: float | None = None
    """Seconds until the last epoch is done, if that can be told; patience may end training sooner."""
    resumed: int = 0
    """How often the run was taken up again."""
    error: str = ""
    """Why it stopped short, if it could say so."""


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
        epochs=attempt.params.get("train", {}).get("epochs", 0),
        resumed=attempt.resumed,
        error=attempt.error,
    )
    found = course(attempt.training)
    if found is None:
        return told
    trains = state == "working" and attempt.stage == "train"
    return told.model_copy(
        update={
            "epoch": found.epochs,
            "step": found.steps,
            "steps": found.steps_per_epoch * told.epochs,
            "losses": found.curves().steps.get("loss", []),
            "eta": found.seconds_left(told.epochs, time.time()) if trains else None,
        }
    )


def curves(run: str) -> Curves:
    """The curves of a run as far as they are known: from its record, or from the journal of its training."""
    attempt = attempts.read(run)
    if attempt is None:
        return Curves()
    if attempt.finished and (found := recorded(run)):
        return found
    following = course(attempt.training)
    return following.curves() if following else Curves()


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
