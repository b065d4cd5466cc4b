"""The courses of the trainings that make one model: those of an ensemble stand in one journal and in one table."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import lru_cache
from itertools import zip_longest
from typing import Any

from flows import live
from flows.curves import GRADIENTS, TABLES, Column, Course, Curves, Points, course
from flows.records import outputs
from pipeline.errors import UserError
from pipeline.journal import JOURNAL, Row, Turns, trainings
from pipeline.registry import attempts
from pipeline.registry.glances import Glance

Members = list[dict[str, Points]]
"""The columns of a table, of each member."""


class Joint(Course):
    """The journal of an ensemble, read as far as it goes."""

    def __init__(self, training: str, epochs: int) -> None:
        """
        Args:
            training: name of its folder.
            epochs: of a member, at most.
        """
        super().__init__(trainings().absolute() / training / JOURNAL)
        self.members: list[Course] = []
        """Those that have begun, each as if it learnt alone."""
        self._turns, self._most = Turns(epochs), epochs

    def _take(self, row: Row) -> None:
        number, own = self._turns.take(row)
        if number == len(self.members):
            self.members.append(Course(self._path))
        self.members[number]._take(own)
        super()._take(row)
        self.epochs = max(self.epochs, number * self._most)  # one that stopped early has none left


def count_of(params: Mapping[str, Any]) -> int:
    """How many trainings make the model, by the flat params of a run."""
    return int(params.get("ensemble.members", 1))


def joint(run: Glance) -> Joint | None:
    """How far the ensemble of a run has come, if it has begun and its journal is still here."""
    attempt = attempts.read(run.id)
    first = course(attempt.training) if attempt else None
    epochs = int(run.params.get("train.epochs", 0))
    if not attempt or not first or not epochs:
        return None
    found = _joint(first, attempt.training, epochs)
    try:
        found.look()
    except (OSError, ValueError, TypeError, LookupError):  # gone since, or damaged
        return None
    return found


def curves(run: Glance) -> list[Curves]:
    """What is known of the course of each training of a run, in their order."""
    if count_of(run.params) > 1:
        attempt = attempts.read(run.id)
        if attempt and attempt.finished and (found := recorded(run.id)):
            return found
        if following := joint(run):
            return [member.curves() for member in following.members]
    return [live.curves(run.id)]


def recorded(run: str) -> list[Curves]:
    """Those of the members of a finished ensemble, if its tables are here; the DVC remote is not asked."""
    try:
        return _recorded(run)
    except UserError:
        return []


@lru_cache(maxsize=16)
def _joint(first: Course, training: str, epochs: int) -> Joint:  # noqa: ARG001 (another one where training starts over)
    return Joint(training, epochs)


@lru_cache(maxsize=64)
def _recorded(run: str) -> list[Curves]:
    from pipeline.registry import runs

    record = runs.read(run)
    if record is None:
        raise UserError(f"Run {run[:8]} has no record.")
    tables = [_table(outputs.read(record, name, remote=False).decode()) for name in (*TABLES, GRADIENTS)]
    return [
        Curves(epochs=epochs, steps=steps, gradients=gradients)
        for epochs, steps, gradients in zip_longest(*tables, fillvalue={})
    ]


def _table(text: str) -> Members:
    """The columns of a table whose first one counts, and whose second one says of whom a row is."""
    header, *rows = csv.reader(text.splitlines())
    if header[1:2] != ["member"]:
        return []
    found: list[tuple[int, dict[str, Column]]] = []
    for counter, member, *cells in rows:
        if int(member) > len(found):
            found.append((int(counter), {name: Column() for name in header[2:]}))
        begin, columns = found[-1]
        for column, cell in zip(columns.values(), cells, strict=True):
            if cell:  # a layer that rested has no gradient
                column.append(int(counter) - begin + 1, float(cell))
    return [{name: column.points() for name, column in columns.items()} for _, columns in found]
