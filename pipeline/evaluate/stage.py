"""The stage `evaluate`: model and test split -> scores with intervals, tables, pictures, report.

metrics.json         every metric: value and 95 % interval; how many images, and in how many units
predictions.parquet  one row per test image
answer.json          what an answer holds, with types as MLflow spells them
classes.csv          how each class fares
confusion.csv        what is taken for what
curves.csv           the curves of the report, point by point
errors.png           the worst errors on one sheet
report.html          all of it on one page
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline.answering import Answers
from pipeline.bootstrap import Interval, how_many, interval
from pipeline.bundle import Bundle
from pipeline.dataset import Dataset, Split
from pipeline.devices import set_up
from pipeline.errors import UserError
from pipeline.evaluate import pictures, report, schema, sheet, tables
from pipeline.evaluate.wording import lower
from pipeline.files import replacing_folder, write_bytes, write_json, write_text
from pipeline.images import encode_png
from pipeline.packed import packed, views
from pipeline.params import EvaluateParams
from pipeline.plugin import metrics_for
from pipeline.wording import images_said, spread_said, written

EVALUATION = Path("out/evaluation")
EPOCHS = Path("out/training/epochs.csv")
CONFIDENCE = 0.95
SEED = 0
"""Of the resamples: fixed, so that two models meet the same ones."""
REASONS = 20


def run(
    params: EvaluateParams, dataset: Dataset, bundle: Bundle, out: Path, epochs: Path = EPOCHS
) -> list[report.Figure]:
    """Score the model on the test split and write everything that is to be known about it.

    Returns:
        The task's own score first, then the other metrics by name.

    Raises:
        UserError: the test split is empty, or the model is for other classes or answers with no numbers.
    """
    return tell(params, dataset, bundle, ask(params, dataset.split("test"), bundle), out, read_epochs(epochs))


def tell(
    params: EvaluateParams,
    dataset: Dataset,
    bundle: Bundle,
    told: Sequence[Any],
    out: Path,
    epochs: dict[str, list[float]],
) -> list[report.Figure]:
    """Write everything that is to be known about what a model said; the scores as `run` returns them.

    Args:
        params: what they are scored by.
        dataset: whose test split was asked about.
        bundle: the model; it is not asked again.
        told: what `ask` returned.
        out: folder to write.
        epochs: of `read_epochs`.
    """
    test, located, model = dataset.split("test"), params.task.learns.located, bundle.info
    answers = bundle.task.answers(test, told)
    figures, units = scored(params, dataset, answers), how_many(test.units)
    worst = pictures.mistakes(test, answers, model.frame, located, params.evaluate.worst)
    material = report.Material(
        headline=figures[0],
        figures=figures,
        answers=answers,
        units=units,
        mistakes=worst,
        located=located,
        beside=pictures.beside(answers, located, worst),
        epochs=epochs,
        dataset=dataset.info,
        rejected=reasons(dataset.root / "rejected.parquet"),
        model=model.model_dump(mode="json"),
    )
    scores = summary(figures, len(test), units)
    with replacing_folder(out) as folder:
        write_json(folder / "metrics.json", scores)
        tables.write_predictions(folder / "predictions.parquet", test, answers)
        write_json(folder / "answer.json", schema.columns(bundle.task.plain(one, model.classes) for one in told))
        tables.write_csv(folder / "classes.csv", *answers.class_table())
        tables.write_confusion(folder / "confusion.csv", answers.confusion())
        tables.write_curves(folder / "curves.csv", answers.curves())
        drawing = sheet.sheet(worst, report.errors(answers), len(test))
        write_bytes(folder / "errors.png", encode_png(drawing))
        write_text(folder / "report.html", report.page(material))
    print(f"evaluate: {said(figures[0], scores)}")
    return figures


def said(figure: report.Figure, scores: Mapping[str, Any]) -> str:
    """The score that decides in a line: with its interval, and beside what a model scores that never looks."""
    if figure.name not in scores:
        return f"{lower(figure.title)} undefined on {images_said(scores)}"
    return (
        f"{lower(figure.title)} {written(figure.interval.value)} on {images_said(scores)} "
        f"({spread_said(scores, figure.name)}); without looking {written(figure.baseline)}"
    )


def ask(params: EvaluateParams, test: Split, bundle: Bundle) -> list[Any]:
    """What the model says of each test image, as its task reads it.

    Raises:
        UserError: there are none, the model is for other classes, or its answers are not numbers.
    """
    known, given = bundle.info, test.dataset.info
    if not len(test):
        raise UserError(
            "The test split has no images, so the model cannot be scored. Raise `split.test` in params.yaml, "
            "or add images to the source's own test split."
        )
    if (known.classes, known.channels) != (given.classes, given.channels):
        raise UserError(
            f"The model in {bundle.root} is for {_described(known.classes, known.channels)}, but the dataset in "
            f"{test.dataset.root} has {_described(given.classes, given.channels)}. `convoy run` trains one for it."
        )
    device = set_up(params.compute.device, params.compute.threads)
    seen = views(test, known.frame, known.packed)
    return bundle.told(packed(test, known.frame, known.packed), seen, device)


def scored(params: EvaluateParams, dataset: Dataset, answers: Answers) -> list[report.Figure]:
    """Every metric that fits the task, with its interval and the score of a model that never looks."""
    test = dataset.split("test")
    blind = params.task.blind(dataset.split("train"), test)
    once = np.ones((1, len(answers)))
    figures = []
    for name, metric in metrics_for(params.task).items():
        found = interval(
            partial(metric.score, answers),
            test.units,
            resamples=params.evaluate.resamples,
            confidence=CONFIDENCE,
            seed=SEED,
        )
        baseline = float(metric.score(blind, once)[0])
        figures.append(
            report.Figure(name, metric.title, metric.higher_is_better, found, baseline, measured=metric.measured)
        )
    return figures


def summary(figures: list[report.Figure], images: int, units: int) -> dict[str, Any]:
    """`metrics.json`: how many images, in how many units, and every metric; one that is undefined on these images is
    left out, since JSON has no word for it."""
    defined = {figure.name: figure.interval for figure in figures if np.isfinite(figure.interval).all()}
    return {"images": images, "units": units, **{name: _rounded(found) for name, found in defined.items()}}


def read_epochs(path: Path) -> dict[str, list[float]]:
    """The columns of `epochs.csv`; none where there is no such file."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {column: [float(row[column] or "nan") for row in rows] for column in (rows[0] if rows else {})}


def reasons(path: Path) -> list[tuple[str, int]]:
    """Why files were left out of the dataset and how many, the most common reasons first."""
    counted = Counter(pq.read_table(path, columns=["reason"]).column("reason").to_pylist())
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    others = sum(count for _, count in ordered[REASONS:])
    return ordered[:REASONS] + ([("other reasons", others)] if others else [])


def _rounded(found: Interval) -> dict[str, float]:
    return {key: round(value, tables.DIGITS) for key, value in found._asdict().items()}


def _described(classes: list[str], channels: int) -> str:
    few = ", ".join(map(repr, classes[:5])) + (", ..." if len(classes) > 5 else "")
    return f"{len(classes)} classes ({few}) in {'grey' if channels == 1 else 'colour'}"
