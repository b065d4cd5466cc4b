"""The report: everything about one model on one page, a file that needs nothing else and runs nothing.

Class names, file names and reasons come from whoever made the data. Jinja escapes them all, and the page's own
policy forbids scripts, so that a name is a name and nothing more.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.bootstrap import Interval
from pipeline.contracts import SPLITS
from pipeline.dataset import DatasetInfo
from pipeline.evaluate import charts, tables
from pipeline.evaluate.answers import Answers
from pipeline.evaluate.pictures import Mistake
from pipeline.evaluate.wording import decimal, lower, percent, shown, thousands
from pipeline.images import encode_png

HOME = Path(__file__).parent
MATRIX_CLASSES = 30
"""A confusion matrix of more classes is unreadable: the most confused pairs stand in for it."""
MOST_CONFUSED = 20
CLASS_ROWS = 60
SHADES = 6


class Figure(NamedTuple):
    """One metric of the model."""

    name: str
    title: str
    higher_is_better: bool
    interval: Interval
    baseline: float
    """The score of a model that never looks at a picture."""


class Material(NamedTuple):
    """What a report tells."""

    headline: Figure
    figures: Sequence[Figure]
    answers: Answers
    mistakes: Sequence[Mistake]
    epochs: Mapping[str, Sequence[float]]
    """Columns of `epochs.csv`; empty where there is none."""
    dataset: DatasetInfo
    rejected: Sequence[tuple[str, int]]
    """Reasons and how many files they befell."""
    model: Mapping[str, Any]
    """What the bundle says of itself."""


def page(material: Material) -> str:
    """The report as one HTML file."""
    environment = Environment(
        loader=FileSystemLoader(HOME), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        shown=shown, png=_png, percent=percent, decimal=decimal, lower=lower, thousands=thousands
    )
    environment.filters["headline"] = percent if material.headline.higher_is_better else decimal
    style = (HOME / "report.css").read_text(encoding="utf-8")
    matrix = tables.confusion(material.answers)
    answers = material.answers
    html = environment.get_template("report.html.jinja").render(
        material._asdict(),
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        groups=_groups(material.figures),
        errors=int((~answers.right).sum()),
        images=len(answers.labels),
        matrix=_matrix(matrix) if len(answers.classes) <= MATRIX_CLASSES else None,
        confused=_confused(matrix, answers.classes),
        rows=sorted(tables.per_class(matrix, answers.classes), key=lambda row: row.f1)[:CLASS_ROWS],
        learning=_learning(material.epochs, material.headline),
        curves=[charts.reliability(tables.calibration(answers)), charts.roc(tables.roc(answers))],
        chart_size=(charts.WIDTH, charts.HEIGHT, charts.LEFT, charts.RIGHT, charts.TOP, charts.BOTTOM),
        all_but=1 - 0.05 ** (1 / len(answers.labels)),
        architecture=_architecture(material.model["model"]),
        facts=_facts({key: value for key, value in material.model.items() if key not in ("classes", "dataset")}),
        splits=_splits(material.dataset),
        split_names=SPLITS,
    )
    return html.strip() + "\n"


class Group(NamedTuple):
    """Figures that share a direction, and the scale that their bars share."""

    title: str
    low: float
    high: float
    figures: list[tuple[Figure, Mapping[str, float] | None]]
    """Each with the places of its bar in 0..100, None where it is undefined."""


def _groups(figures: Sequence[Figure]) -> list[Group]:
    groups = []
    for title, higher in (("Higher is better", True), ("Lower is better", False)):
        mine = [figure for figure in figures if figure.higher_is_better is higher]
        known = [value for figure in mine for value in figure.interval if math.isfinite(value)]
        if not mine:
            continue
        if higher:
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
        groups.append(Group(title, low, high, list(zip(mine, bars, strict=True))))
    return groups


def _matrix(matrix: np.ndarray) -> list[list[tuple[int, int]]]:
    """Each cell's count and shade 0..6, by its share of the row's images."""
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shades = np.ceil(np.sqrt(matrix / totals) * SHADES).astype(int)  # a root, so that single errors show
    return [list(zip(row, shade, strict=True)) for row, shade in zip(matrix.tolist(), shades.tolist(), strict=True)]


def _confused(matrix: np.ndarray, classes: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """The pairs confused most often: true, predicted, images, share of the true class's images."""
    wrong = matrix * (1 - np.eye(len(classes), dtype=matrix.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(place), len(classes)) for place in order if wrong.flat[place]]
    return [(classes[a], classes[b], int(wrong[a, b]), float(wrong[a, b] / matrix[a].sum())) for a, b in pairs]


def _learning(epochs: Mapping[str, Sequence[float]], headline: Figure) -> list[charts.Chart]:
    """Loss and score over the epochs, counted from 1, with a mark at the epoch that training kept."""

    def points(column: str) -> charts.Points:
        return [(epoch + 1, value) for epoch, value in zip(epochs["epoch"], epochs[column], strict=True)]

    if not epochs:
        return []
    score, loss = points(f"val_{headline.name}"), points("val_loss")
    sign = 1 if headline.higher_is_better else -1
    known = [place for place, (_, value) in enumerate(score) if math.isfinite(value)]
    # The highest score, of equal ones the lowest loss, of equal ones the first: as training chooses.
    best = max(known, key=lambda place: (sign * score[place][1], -loss[place][1]), default=None)
    title = f"Validation {lower(headline.title)}"
    drawn = [
        charts.curves("Loss", "Loss", {"Training": points("train_loss"), "Validation": loss}),
        charts.curves(title, headline.title, {"Validation": score}, None if best is None else score[best]),
    ]
    return [chart for chart in drawn if chart]


def _facts(model: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested options as one list of (dotted key, value)."""
    facts = []
    for key, value in model.items():
        if isinstance(value, Mapping):
            facts += _facts(value, f"{prefix}{key}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            facts.append((prefix + key, thousands(value)))
        elif isinstance(value, list):
            facts.append((prefix + key, ", ".join(map(str, value))))
        else:
            facts.append((prefix + key, str(value)))
    return facts


def _architecture(options: Mapping[str, Any]) -> str:
    """The model's name and whichever of its options are names too: `timm resnet18`."""
    others = [value for key, value in sorted(options.items()) if key != "name" and isinstance(value, str)]
    return " ".join([options["name"], *others])


def _splits(dataset: DatasetInfo) -> list[tuple[str, list[int]]]:
    """Images of each class in each split, then of all."""
    counts = [dataset.counts[split] for split in SPLITS]
    return [(name, [split.get(name, 0) for split in counts]) for name in dataset.classes]


def _png(pixels: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(pixels)).decode()
