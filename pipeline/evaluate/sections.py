"""What the sections of the report show, made ready for its template."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.answering import Cell, Confusion, Table
from pipeline.bootstrap import Interval
from pipeline.contracts import SPLITS
from pipeline.dataset import DatasetInfo
from pipeline.evaluate import charts
from pipeline.evaluate.wording import amount, decimal, heading, lower, percent, thousands
from pipeline.wording import between, sides_said

MOST_CONFUSED = 20
SHADES = 6
GROUPS = (
    ("Higher is better", True, False),
    ("Lower is better", False, False),
    ("Higher is better, in the unit of what is measured", True, True),
    ("Lower is better, in the unit of what is measured", False, True),
)
"""Title, whether higher is better, and whether they are amounts."""
LARGE = 10_000
"""Counts from which on a matrix shows shares of its rows instead."""


class Figure(NamedTuple):
    """One metric of the model."""

    name: str
    title: str
    higher_is_better: bool
    interval: Interval
    baseline: float
    """The score of a model that never looks at a picture."""
    measured: bool = False
    """Whether it is an amount in the unit of what is measured, and no share."""

    def text(self, value: float) -> str:
        """How a value of it is written."""
        return amount(value) if self.measured else decimal(value)

    def large(self, value: float) -> str:
        """Likewise as a headline: a share of which more is better in percent."""
        return percent(value) if self._in_percent(value) else self.text(value)

    @property
    def defined(self) -> bool:
        """Whether these images define it, as those of one class do not define a ROC AUC."""
        return math.isfinite(self.interval.value)

    @property
    def ends(self) -> str:
        """Of its interval; empty where it has none or is a point."""
        return between(self.interval.low, self.interval.high, 3)

    @property
    def large_ends(self) -> str:
        """Likewise beside a headline."""
        low, high = self.interval.low, self.interval.high
        in_percent = self._in_percent(low) and self.ends
        return f"{between(100 * low, 100 * high, 1)}%" if in_percent else self.ends

    def _in_percent(self, value: float) -> bool:
        return self.higher_is_better and not self.measured and value >= 0


class Group(NamedTuple):
    """Figures that share a direction, and the scale that their bars share."""

    title: str
    low: float
    high: float
    figures: list[tuple[Figure, Mapping[str, float] | None]]
    """Each with the places of its bar in 0..100, None where it is undefined."""


class Square(NamedTuple):
    """A cell of the confusion matrix."""

    many: int
    text: str
    shade: int
    """0..6, by its share of the row."""


class ClassRow(NamedTuple):
    """How one class fares."""

    name: str
    score: Cell
    bar: float
    """The score in percent; 0 where it is undefined."""
    others: Sequence[Cell]


def groups(figures: Sequence[Figure]) -> list[Group]:
    """Metrics with their bars, those of which more is better first; amounts apart from shares."""
    found = []
    for title, higher, measured in GROUPS:
        mine = [figure for figure in figures if (figure.higher_is_better, figure.measured) == (higher, measured)]
        known = [value for figure in mine for value in figure.interval if math.isfinite(value)]
        if not mine:
            continue
        if measured:
            low, high = 0.0, charts.above(max(known, default=1.0))
        elif higher:
            low, high = math.floor(min(known, default=0.0) * 10) / 10, 1.0
            low = min(low, 0.9)
        else:
            low, high = 0.0, max(0.1, math.ceil(max(known, default=1.0) * 10) / 10)
        scale = charts.Scale(low, high, 0, 100)
        bars = [
            {"value": scale.at(f.interval.value), "low": scale.at(f.interval.low), "high": scale.at(f.interval.high)}
            if all(map(math.isfinite, f.interval))
            else None
            for f in mine
        ]
        found.append(Group(title, low, high, list(zip(mine, bars, strict=True))))
    return found


def matrix(confusion: Confusion) -> list[list[Square]]:
    """Counts with a shade, or, where they are too long to read, shares of their row."""
    counts = confusion.counts
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = np.ceil(np.sqrt(shares) * SHADES).astype(int)  # a root, so that single errors show
    large = in_shares(confusion)

    def text(count: int, share: float) -> str:
        if not count:
            return ""
        if not large:
            return str(count)
        return "<1" if share < 0.005 else f"{100 * share:.0f}"

    return [
        [Square(count, text(count, share), shade) for count, share, shade in zip(*row, strict=True)]
        for row in zip(counts.tolist(), shares.tolist(), shades.tolist(), strict=True)
    ]


def in_shares(confusion: Confusion) -> bool:
    """Whether the matrix shows percent of each row."""
    return bool((confusion.counts >= LARGE).any())


def confused(confusion: Confusion) -> list[tuple[str, str, int, float]]:
    """The pairs confused most often: true, said, how many, share of all that are truly so."""
    counts, names = confusion.counts, confusion.names
    true, said = np.nonzero(counts)  # of thousands of classes few pairs are confused, and the matrix is large
    true, said = true[true != said], said[true != said]
    order = np.argsort(-counts[true, said], kind="stable")[:MOST_CONFUSED]
    pairs = zip(true[order].tolist(), said[order].tolist(), strict=True)
    return [(names[a], names[b], int(counts[a, b]), float(counts[a, b] / counts[a].sum())) for a, b in pairs]


def class_rows(table: Table, most: int) -> tuple[list[str], list[ClassRow]]:
    """The headings after the name of the class, the score first; and at most so many classes, the hardest first."""
    last = len(table.header) - 1
    scored = [(row, float(row[last])) for row in table.rows]
    scored.sort(key=lambda pair: pair[1] if math.isfinite(pair[1]) else math.inf)
    rows = [ClassRow(str(row[0]), row[last], _bar(score), row[1:last]) for row, score in scored[:most]]
    return [heading(table.header[last]), *map(heading, table.header[1:last])], rows


class Course(NamedTuple):
    """How one training went."""

    epochs: int
    best: int | None
    """Its place among them of the one that training kept; None: no score is known."""
    columns: Mapping[str, charts.Points]
    """By epoch, counted from 1."""


def courses(epochs: Mapping[str, Sequence[float]], headline: Figure) -> list[Course]:
    """The courses of the trainings that made the model: of one, or of each member of an ensemble."""
    whose = epochs.get("member") or [1.0] * len(epochs.get("epoch", []))
    found = []
    for member in sorted(set(whose)):
        rows = [row for row, of in enumerate(whose) if of == member]
        columns = {
            name: [(number, values[row]) for number, row in enumerate(rows, start=1)] for name, values in epochs.items()
        }
        found.append(Course(len(rows), _best(columns, headline), columns))
    return found


def learning(members: Sequence[Course], headline: Figure) -> list[charts.Chart]:
    """Loss and score over the epochs, with a mark at the epoch that training kept; of several trainings a line each."""
    score = f"val_{headline.name}"
    kept = [one.columns[score][one.best] for one in members if one.best is not None]
    title = f"Validation {lower(headline.title)}"
    if len(members) == 1:
        columns = members[0].columns
        losses = {"Loss": {"Training": columns["train_loss"], "Validation": columns["val_loss"]}}
        scores = {"Validation": columns[score]}
    else:
        losses = {"Training loss": _lines(members, "train_loss"), "Validation loss": _lines(members, "val_loss")}
        scores = _lines(members, score)
    drawn = [charts.curves(name, "Loss", lines) for name, lines in losses.items()]
    return [chart for chart in (*drawn, charts.curves(title, headline.title, scores, kept)) if chart]


def kept(members: Sequence[Course], headline: Figure) -> list[tuple[str, ...]]:
    """What each member of an ensemble kept: epoch, loss and score; nothing where there is one training."""
    if len(members) < 2:
        return []
    rows = []
    for number, one in enumerate(members, start=1):
        values = ["", "", ""]
        if one.best is not None:
            loss, score = (one.columns[name][one.best][1] for name in ("val_loss", f"val_{headline.name}"))
            values = [f"{one.best + 1} of {one.epochs}", amount(loss), headline.text(score)]
        rows.append((str(number), *values))
    return rows


def sides(members: Sequence[Course]) -> str:
    """When pictures grew, if they did."""
    return sides_said([side for one in members[:1] for _, side in one.columns.get("side", [])])


def _best(columns: Mapping[str, charts.Points], headline: Figure) -> int | None:
    """The highest score, of equal ones the lowest loss, of equal ones the first: as training chooses."""
    score, loss = columns[f"val_{headline.name}"], columns["val_loss"]
    sign = 1 if headline.higher_is_better else -1
    known = [place for place, (_, value) in enumerate(score) if math.isfinite(value)]
    return max(known, key=lambda place: (sign * score[place][1], -loss[place][1]), default=None)


def _lines(members: Sequence[Course], column: str) -> dict[str, charts.Points]:
    return {f"Member {number}": one.columns[column] for number, one in enumerate(members, start=1)}


def facts(model: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested options as one list of (dotted key, value)."""
    found = []
    for key, value in model.items():
        if isinstance(value, Mapping):
            found += facts(value, f"{prefix}{key}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            found.append((prefix + key, thousands(value)))
        elif isinstance(value, list):
            found.append((prefix + key, ", ".join(map(str, value))))
        else:
            found.append((prefix + key, str(value)))
    return found


def architecture(options: Mapping[str, Any]) -> str:
    """The model's name and whichever of its options are names too: `timm resnet18`."""
    others = [value for key, value in sorted(options.items()) if key != "name" and isinstance(value, str)]
    return " ".join([options["name"], *others])


def splits(dataset: DatasetInfo, most: int) -> list[tuple[str, list[int]]]:
    """How much of each of the first `most` classes each split holds."""
    counts = [dataset.counts.get(split, {}) for split in SPLITS]
    return [(name, [split.get(name, 0) for split in counts]) for name in dataset.classes[:most]]


def _bar(score: float) -> float:
    return round(100 * min(max(score, 0), 1), 2) if math.isfinite(score) else 0
