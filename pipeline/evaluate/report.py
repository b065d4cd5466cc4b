"""The report: everything about one model on one page, a file that needs nothing else and runs nothing.

Class names, file names and reasons come from whoever made the data. Jinja escapes them all, and the page's own
policy forbids scripts, so that a name is a name and nothing more.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline import drawing
from pipeline.answering import Answers
from pipeline.contracts import SPLITS, Target
from pipeline.dataset import DatasetInfo
from pipeline.evaluate import charts, sections
from pipeline.evaluate.pictures import Mistake
from pipeline.evaluate.sections import Figure
from pipeline.evaluate.wording import amount, cell, decimal, lower, one, percent, thousands
from pipeline.images import encode_png
from pipeline.strokes.letters import shown
from pipeline.wording import members_said

__all__ = ["Figure", "Material", "errors", "page"]

HOME = Path(__file__).parent
MATRIX_CLASSES = 30
"""A confusion matrix of more classes is unreadable: the most confused pairs stand in for it."""
CLASS_ROWS = 60
LEGEND = 60
"""Classes that a legend of colours names."""
APART = ("classes", "dataset")
"""What a bundle says of itself that has a place of its own."""


class Material(NamedTuple):
    """What a report tells."""

    headline: Figure
    figures: Sequence[Figure]
    answers: Answers
    units: int
    """In how many the test images come: see `bootstrap.Units`."""
    mistakes: Sequence[Mistake]
    located: bool
    """Whether truth and answers lie somewhere in the pictures, and are drawn on them."""
    beside: bool
    """Whether answers are shown beside the pictures: see `pictures.beside`."""
    epochs: Mapping[str, Sequence[float]]
    """Columns of `epochs.csv`; empty where there is none."""
    dataset: DatasetInfo
    rejected: Sequence[tuple[str, int]]
    """Reasons and how many files they befell."""
    model: Mapping[str, Any]
    """What the bundle says of itself."""


def errors(answers: Answers) -> int:
    """Images that are not answered perfectly."""
    return int((answers.quality < 1).sum())


def page(material: Material) -> str:
    """The report as one HTML file."""
    environment = Environment(
        loader=FileSystemLoader(HOME), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        cell=cell, shown=shown, picture=_picture, percent=percent, decimal=decimal, lower=lower, thousands=thousands
    )
    headline, answers = material.headline, material.answers
    environment.filters.update(headline=headline.large, amount=amount, one=one)
    style = (HOME / "report.css").read_text(encoding="utf-8")
    confusion, curves = answers.confusion(), answers.curves()
    noun, nouns = Target[material.dataset.learns].named
    members = sections.courses(material.epochs, headline)
    learnt = material.model.get("learnt")
    heads, rows = sections.class_rows(answers.class_table(), CLASS_ROWS)
    html = environment.get_template("report.html.jinja").render(
        material._asdict(),
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        groups=sections.groups(material.figures),
        errors=errors(answers),
        images=len(answers),
        # Where no resample can differ from another, the interval says nothing: how many images there are does.
        flawless=not errors(answers) and headline.interval.low == headline.interval.high,
        all_but=1 - 0.05 ** (1 / material.units),
        legend=drawing.legend(answers.classes) if material.located and len(answers.classes) <= LEGEND else [],
        confusion=confusion,
        noun=noun,
        nouns=nouns,
        sure=bool((answers.confidence < 1).any()),
        matrix=sections.matrix(confusion) if 0 < len(confusion.names) <= MATRIX_CLASSES + 1 else None,
        in_shares=sections.in_shares(confusion),
        confused=sections.confused(confusion),
        heads=heads,
        rows=rows,
        learning=sections.learning(members, headline) if members else [],
        kept=sections.kept(members, headline),
        sides=sections.sides(members),
        members=members_said(material.model.get("ensemble", {})),
        learnt=None if learnt == material.model["parameters"] else learnt,
        curves=[chart for chart in map(charts.of_curve, curves) if chart],
        calibrated=any(curve.sizes and curve.ideal for curve in curves),
        chart_size=(charts.WIDTH, charts.HEIGHT, charts.LEFT, charts.RIGHT, charts.TOP, charts.BOTTOM),
        architecture=sections.architecture(material.model["model"]),
        facts=sections.facts(
            {key: value for key, value in material.model.items() if key not in APART and value is not None}
        ),
        splits=sections.splits(material.dataset, CLASS_ROWS),
        split_names=SPLITS,
    )
    return html.strip() + "\n"


def _picture(pixels: np.ndarray, drawn: bool) -> str:
    """Pixels as they are, or, of a picture with boxes or a mask, as JPEG, which takes a tenth of the room."""
    kind, data = ("jpeg", drawing.encoded(pixels)) if drawn else ("png", encode_png(pixels))
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()
