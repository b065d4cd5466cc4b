"""The tables behind the report: by class, confusion, calibration, ROC, and one row per test image."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset import Split
from pipeline.evaluate.answers import Answers
from pipeline.files import write_bytes, write_text

BINS = 15
DIGITS = 6
"""Decimals kept in text files: more than any test set can tell apart."""


class ClassRow(NamedTuple):
    """How one class fares; a share of nothing is 0."""

    name: str
    images: int
    precision: float
    recall: float
    f1: float


class Bin(NamedTuple):
    """The images whose confidence lies in (low, high]."""

    low: float
    high: float
    images: int
    confidence: float
    """Mean over them."""
    accuracy: float
    """Share of them answered rightly."""


def confusion(answers: Answers) -> np.ndarray:
    """How many images of each true class (row) are taken for each class (column): int64 [K, K]."""
    classes = len(answers.classes)
    return np.bincount(answers.labels * classes + answers.predicted, minlength=classes**2).reshape(classes, classes)


def per_class(matrix: np.ndarray, classes: Sequence[str]) -> list[ClassRow]:
    """Precision, recall and F1 of each class, from a confusion matrix int64 [K, K]."""
    right, actual, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    return [
        ClassRow(name, int(a), _share(r, p), _share(r, a), _share(2 * r, a + p))
        for name, r, a, p in zip(classes, right, actual, predicted, strict=True)
    ]


def calibration(answers: Answers) -> list[Bin]:
    """Confidence against accuracy in 15 equal bins; a bin without images is left out."""
    place = np.clip(np.ceil(answers.confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    bins = []
    for index in np.unique(place).tolist():
        inside = place == index
        confidence, accuracy = answers.confidence[inside].mean(), answers.right[inside].mean()
        bins.append(Bin(index / BINS, (index + 1) / BINS, int(inside.sum()), float(confidence), float(accuracy)))
    return bins


def roc(answers: Answers) -> list[tuple[float, float]]:
    """The one-vs-rest ROC curve, averaged over the classes that have images and are not all there is.

    Source: Fawcett. An Introduction to ROC Analysis, 2006, algorithm 3 (vertical averaging).

    Returns:
        (false positive rate, true positive rate), the former on a grid that is finer near 0.
    """
    grid = np.linspace(0, 1, 101) ** 2
    curves = []
    for index in range(len(answers.classes)):
        positive = answers.labels == index
        if positive.any() and not positive.all():
            curves.append(np.interp(grid, *_roc_points(answers.probabilities[:, index], positive)))
    if not curves:
        return []
    mean = np.mean(curves, axis=0)
    mean[0] = 0  # every curve starts at the origin, however steep
    return [(float(x), float(y)) for x, y in zip(grid, mean, strict=True)]


def write_predictions(path: Path, test: Split, answers: Answers) -> None:
    """One row per test image, in the order of their ids."""
    flat = pa.array(answers.probabilities.astype(np.float32).ravel())
    starts = np.arange(len(answers.labels) + 1, dtype=np.int32) * len(answers.classes)
    table = pa.table(
        {
            "id": test.samples.column("id"),
            "source": test.samples.column("source"),
            "label": pa.array(answers.labels.astype(np.int32)),
            "predicted": pa.array(answers.predicted.astype(np.int32)),
            "correct": pa.array(answers.right),
            "confidence": pa.array(answers.confidence.astype(np.float32)),
            "loss": pa.array(answers.losses.astype(np.float32)),
            "probabilities": pa.ListArray.from_arrays(pa.array(starts), flat),
        }
    )
    out = io.BytesIO()
    pq.write_table(table, out)
    write_bytes(path, out.getvalue())


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Replace `path` by rows, floats to a fixed number of decimals."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([round(cell, DIGITS) if isinstance(cell, float) else cell for cell in row] for row in rows)
    write_text(path, out.getvalue())


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0


def _roc_points(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of one class's curve, from (0, 0) to (1, 1); images that score alike make one step."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    found = np.cumsum(positive[order])[last]
    mistaken = last + 1 - found
    return np.append(0, mistaken / (~positive).sum()), np.append(0, found / positive.sum())
