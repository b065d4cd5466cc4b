"""The guard: what may begin, what is called off, and the words for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flows.schedule.guard import Outcome, Skip, Waiting, decide
from flows.schedule.request import Request

NOW = datetime(2027, 5, 1, 12, tzinfo=UTC)
NIGHTLY = Request.model_validate({"branch": "main"})
HOUR = timedelta(hours=1)


def waiting(name: str, before: timedelta, request: Request = NIGHTLY) -> Waiting:
    return Waiting(name, NOW - before, request)


def cooling(minutes: float) -> Request:
    return Request.model_validate({"branch": "main", "cooldown_minutes": minutes})


def test_after_an_outage_the_latest_that_is_due_runs_and_no_other() -> None:
    late = [waiting("a", 50 * HOUR), waiting("b", 26 * HOUR), waiting("c", 2 * HOUR)]
    future = waiting("d", -22 * HOUR)
    decisions = {run.id: decide(run, [*late, future], None, NOW) for run in late}
    assert decisions["c"] is None
    assert [decisions[name].outcome for name in "ab"] == [Outcome.SUPERSEDED] * 2
    assert decisions["a"].reason == (
        "Meant for 2027-04-29 10:00:00 UTC; the one for 2027-05-01 10:00:00 UTC is due as well and does for both."
    )


def test_of_two_for_the_same_moment_one_runs() -> None:
    twins = [waiting("a", HOUR), waiting("b", HOUR)]
    assert [decide(run, twins, None, NOW) is None for run in twins] == [False, True]


def test_a_run_that_was_asked_for_with_other_params_is_not_replaced() -> None:
    other = Request.model_validate({"branch": "main", "set": ["train.epochs=5"]})
    assert decide(waiting("a", 2 * HOUR, other), [waiting("b", HOUR)], None, NOW) is None


def test_cooldown() -> None:
    run = waiting("a", timedelta(), cooling(90))
    skip = decide(run, [], NOW - HOUR, NOW)
    assert skip == Skip(
        Outcome.COOLING_DOWN,
        "The last run of this deployment began at 2027-05-01 11:00:00 UTC, and the cooldown is 90 minutes: "
        "the next may begin at 2027-05-01 12:30:00 UTC.",
    )
    assert decide(run, [], NOW - 1.5 * HOUR, NOW) is None  # just over
    assert decide(run, [], None, NOW) is None  # the first run ever
    assert decide(waiting("a", timedelta(), cooling(0)), [], NOW, NOW) is None
    assert decide(run, [], NOW + 24 * HOUR, NOW) is None  # the clock was set back by a day: nobody waits for it


def test_what_prefect_shows() -> None:
    superseded = Skip(Outcome.SUPERSEDED, "why").state()
    assert (superseded.name, superseded.message, superseded.is_cancelled()) == ("Superseded", "why", True)
    assert Skip(Outcome.COOLING_DOWN, "why").state().is_cancelled()
    nothing = Skip(Outcome.NOTHING_TO_DO, "as it was").state()
    assert (nothing.name, nothing.message, nothing.is_completed()) == ("NothingToDo", "as it was", True)
