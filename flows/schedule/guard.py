"""Whether a run that is due may begin: pure, told everything that it weighs.

What comes of a run that does not begin is a state of its own on Prefect's page, with the reason in words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from flows.schedule.request import Request

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


class Outcome(StrEnum):
    """Why nothing is done, as Prefect's page names it."""

    SUPERSEDED = "Superseded"
    COOLING_DOWN = "CoolingDown"
    NOTHING_TO_DO = "NothingToDo"


@dataclass(frozen=True)
class Skip:
    """A run that does not do anything, and why."""

    outcome: Outcome
    reason: str

    def state(self, data: Any = None) -> State[Any]:
        """As Prefect records it: nothing to do is well done, the others are called off."""
        from prefect.states import Cancelled, Completed

        ends = Completed if self.outcome is Outcome.NOTHING_TO_DO else Cancelled
        return ends(name=self.outcome.value, message=self.reason, data=data)


@dataclass(frozen=True)
class Waiting:
    """A flow run that has not begun."""

    id: str
    intended: datetime
    """When it was to begin."""
    request: Request


def decide(run: Waiting, others: Iterable[Waiting], last_start: datetime | None, now: datetime) -> Skip | None:
    """None for go; else why not.

    Args:
        run: what is about to begin.
        others: the other waiting runs of its deployment.
        last_start: when the last run of its deployment began that did begin.
        now: the moment.
    """
    return _superseded(run, others, now) or cooling_down(run.request, last_start, now)


def cooling_down(request: Request, last_start: datetime | None, now: datetime) -> Skip | None:
    """Whether the last run began too short a time ago; one that began in the future tells of a clock set back."""
    rest = timedelta(minutes=request.cooldown_minutes)
    if last_start is None or not timedelta() <= now - last_start < rest:
        return None
    return Skip(
        Outcome.COOLING_DOWN,
        f"The last run of this deployment began at {_shown(last_start)}, and the cooldown is "
        f"{request.cooldown_minutes:g} minutes: the next may begin at {_shown(last_start + rest)}.",
    )


def _superseded(run: Waiting, others: Iterable[Waiting], now: datetime) -> Skip | None:
    """After an outage the latest of the runs that are due does for all: each would train the same newest commit."""
    later = [
        other
        for other in others
        if other.id != run.id
        and other.request == run.request
        and (run.intended, run.id) < (other.intended, other.id)
        and other.intended <= now
    ]
    if not later:
        return None
    latest = max(later, key=lambda other: (other.intended, other.id))
    return Skip(
        Outcome.SUPERSEDED,
        f"Meant for {_shown(run.intended)}; the one for {_shown(latest.intended)} is due as well and does for both.",
    )


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}"
