"""How far a run is, in words and stages, for the pages that show it while it works."""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

from dashboard import courses
from dashboard.courses import Joint
from dashboard.wording import took
from flows import live
from flows.live import Progress
from pipeline.registry.glances import Glance

STAGES = ("ingest", "augment", "train", "evaluate", "judge")

Step = tuple[str, Literal["done", "now", "to-come"], float | None]


class Live(NamedTuple):
    """A run at work."""

    run: Glance
    stages: list[Step]
    words: str
    aside: str
    done: int
    total: int
    """0: nobody knows."""

    @property
    def said(self) -> str:
        """What is read aloud when it changes: not every step."""
        now = next((stage for stage, state, _ in self.stages if state == "now"), "")
        return f"Run {self.run.id[:8]}: {now}" if now else ""


def live_of(run: Glance) -> Live:
    """How far a run is."""
    told = live.progress(run.id)
    if told is None:
        return Live(run, [], "at work", "", 0, 0)
    words, done, total, eta = told.stage or "preparing", 0, 0, None
    if told.stage == "train":
        of = courses.count_of(run.params)
        joint = courses.joint(run) if of > 1 else None
        words, done, total = _members(told, joint, of) if joint else _training(told)
        eta = joint.seconds_left(told.epochs * of, time.time()) if joint else told.eta
    aside = f"about {took(eta)} left" if eta is not None and told.state == "working" else ""
    if told.resumed:
        aside = ", ".join(
            filter(None, [aside, f"taken up again {told.resumed} times" if told.resumed > 1 else "taken up again"])
        )
    return Live(run, _stages(told), words, aside, done, total)


def _training(told: Progress) -> tuple[str, int, int]:
    if not told.epochs:
        return "training", 0, 0
    words = f"epoch {min(told.epoch + 1, told.epochs)} of {told.epochs}"
    if told.steps:
        return f"{words}, step {told.step:,} of {told.steps:,}", told.step, told.steps
    return words, told.epoch, told.epochs


def _members(told: Progress, joint: Joint, of: int) -> tuple[str, int, int]:
    """As `_training`, of the member that learns; the bar is that of all, which take as many steps as those before."""
    if not told.epochs or not joint.members:
        return "training", 0, 0
    *earlier, one = joint.members
    number, usual = len(joint.members), one.steps_per_epoch or (earlier[-1].steps_per_epoch if earlier else 0)
    words, most = f"epoch {min(one.epochs + 1, told.epochs)} of {told.epochs}", usual * told.epochs
    words = f"member {number} of {of}, {words}" + (f", step {one.steps:,} of {most:,}" if most else "")
    before = sum(member.steps_per_epoch * told.epochs for member in earlier)
    return words, before + one.steps if most else 0, before + most * (of - number + 1)


def _stages(told: Progress) -> list[Step]:
    """Those that dvc.yaml has, and the gate; one that did not run was up to date."""
    names = [*STAGES, *(name for name in told.seconds if name not in STAGES)]
    at = names.index(told.stage) if told.stage in names else -1
    return [
        (name, "now" if place == at else "done" if place < at else "to-come", told.seconds.get(name))
        for place, name in enumerate(names)
    ]
