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
from pipeline.registry.champion import Champion
from pipeline.registry.ledger import Action, Entry

MINUTE = 60.0
TURN = 2.0
"""Seconds after which both are read again though nothing seems to have changed: a team's ledger, a deadline."""


def entries() -> Sequence[Entry]:
    """Every entry of the ledger, oldest first."""
    return _entries(_stamp(), int(time.monotonic() / TURN))


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
    return ledger.history(None, get_args(Action))


@lru_cache(maxsize=1)
def _standings(stamp: tuple[int, ...], turn: int) -> Sequence[Standing]:
    return cases.standings(_entries(stamp, turn))


def broken() -> str:
    """What is wrong with the chain of the ledger; walked again when it has grown, and every minute."""
    return _broken(_stamp(), int(time.monotonic() / MINUTE))


def trouble(move: Entry) -> str:
    """What is wrong with the files of a champion; they are read again every minute."""
    return _trouble(move.number, int(time.monotonic() / MINUTE))


@lru_cache(maxsize=1)
def _broken(stamp: tuple[int, ...], turn: int) -> str:
    return ledger.verify() or ""


@lru_cache(maxsize=16)
def _trouble(number: int, turn: int) -> str:
    try:
        Champion.of(next(entry for entry in entries() if entry.number == number)).bundle()
    except UserError as error:
        return str(error)
    return ""


def _stamp() -> tuple[int, ...]:
    """Changes with each entry and each case."""
    return tuple(_time(name) for name in (ledger.HEAD, ledger.LEDGER, "cases"))


def _time(name: str) -> int:
    try:
        return (shared() / name).stat().st_mtime_ns
    except FileNotFoundError:
        return 0
