"""The cases and the ledger, kept in memory between two looks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import get_args

from pipeline.errors import UserError
from pipeline.files import shared
from pipeline.registry import cases, ledger
from pipeline.registry.cases import Standing
from pipeline.registry.champion import Champion, fetched
from pipeline.registry.ledger import Action, Entry

MINUTE = 60.0
REFUSALS = 200
"""That are kept."""
TURN = 2.0
"""Seconds after which both are read again though nothing seems to have changed: a team's ledger, a deadline."""


def entries() -> Sequence[Entry]:
    """Every entry of the ledger but refusals, oldest first."""
    return _entries(_stamp(), int(time.monotonic() / TURN))


def refusals() -> Sequence[Entry]:
    """The newest refusals, oldest first: strangers can cause 86,400 of them a day."""
    return _refusals(_stamp(), int(time.monotonic() / TURN))


def standings() -> Sequence[Standing]:
    """Every case, newest first."""
    return _standings(_stamp(), int(time.monotonic() / TURN))


def waiting() -> int:
    """How many cases somebody is asked about."""
    return sum(one.state == "waiting" for one in standings()) if cases.pending() else 0


def of_run(run: str) -> Standing | None:
    """The newest case about what a run made."""
    return next((one for one in standings() if one.case.run == run), None)


@lru_cache(maxsize=1)
def _entries(stamp: tuple[int, ...], turn: int) -> Sequence[Entry]:
    return ledger.history(None, [action for action in get_args(Action) if action != "refuse"])


@lru_cache(maxsize=1)
def _refusals(stamp: tuple[int, ...], turn: int) -> Sequence[Entry]:
    return ledger.history(None, ("refuse",), most=REFUSALS)


@lru_cache(maxsize=1)
def _standings(stamp: tuple[int, ...], turn: int) -> Sequence[Standing]:
    return cases.standings(_entries(stamp, turn))


def broken() -> str:
    """What is wrong with the chain of the ledger; walked again when it has grown, and every minute."""
    return _broken(_stamp(), int(time.monotonic() / MINUTE))


def trouble(move: Entry) -> str:
    """What is wrong with the files of a champion, if they are on this machine; they are read again every minute."""
    return _trouble(move.number, int(time.monotonic() / MINUTE))


@lru_cache(maxsize=1)
def _broken(stamp: tuple[int, ...], turn: int) -> str:
    return ledger.verify() or ""


@lru_cache(maxsize=16)
def _trouble(number: int, turn: int) -> str:
    reigning = Champion.of(next(entry for entry in entries() if entry.number == number))
    away = reigning.version.location.startswith("models:/") and not fetched(reigning.version.digest).exists()
    if away:  # to fetch them takes MLflow's client, which is not for this process
        return ""
    try:
        reigning.bundle()
    except UserError as error:
        return str(error)
    return ""


def _stamp() -> tuple[int, ...]:
    """Changes with each entry and each case."""
    return tuple(_time(name) for name in (ledger.HEAD, ledger.POSTGRES_HEAD, ledger.LEDGER, "cases"))


def _time(name: str) -> int:
    try:
        return (shared() / name).stat().st_mtime_ns
    except FileNotFoundError:
        return 0
