"""How far a run is, in words and stages, for the pages that show it while it works."""

from __future__ import annotations

from typing import Literal, NamedTuple

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
    words, done, total = _training(told) if told.stage == "train" else (told.stage or "preparing", 0, 0)
    aside = f"about {took(told.eta)} left" if told.eta is not None and told.state == "working" else ""
    if told.resumed:
        aside = ", ".join(
            filter(None, [aside, f"taken up again {told.resumed} times" if told.resumed > 1 else "taken up again"])
        )
    return Live(run, _stages(told), words, aside, done, total)


def _training(told: Progress) -> tuple[str, int, int]:
    """In words, and the bar: that of all members, each of which takes as many steps as the one that learns."""
    if not told.steps:
        return told.training or "training", told.epoch, told.epochs
    words = f"{told.training}, step {told.step:,} of {told.steps:,}"
    later = (told.members - max(1, told.member)) * told.steps
    return words, told.before + told.step, told.before + told.steps + later


def _stages(told: Progress) -> list[Step]:
    """Those that dvc.yaml has, and the gate; one that did not run was up to date."""
    names = [*STAGES, *(name for name in told.seconds if name not in STAGES)]
    at = names.index(told.stage) if told.stage in names else -1
    return [
        (name, "now" if place == at else "done" if place < at else "to-come", told.seconds.get(name))
        for place, name in enumerate(names)
    ]
