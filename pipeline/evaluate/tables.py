"""The files behind the report, for spreadsheets, `dvc plots` and the review page."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.answering import Answers, Confusion, Curve
from pipeline.dataset import Split
from pipeline.evaluate.wording import plotted
from pipeline.files import write_bytes, write_rows
from pipeline.marking import as_text

DIGITS = 6
"""Decimals kept in text files: more than any test set can tell apart."""
MOST_ROWS = 10_000
"""Of `confusion.csv`: a row for each image or object, and for so many pixels in proportion."""


def write_predictions(path: Path, test: Split, answers: Answers) -> None:
    """One row per test image, in the order of their ids: what is true and said in words, how good and how sure it is.

    Images with the same `unit` belong together: see `bootstrap.Units`.

    Args:
        path: of the file.
        test: the images.
        answers: to them; their own `columns` come last, from which `Answers.again` makes them anew. `marks` holds what
            is to be drawn, so that a page which shows one image need not judge all of them.
    """
    said, actual = [], []
    for position in range(len(test)):  # one at a time: masks are large
        mark = answers.said(position)
        said.append((mark.words, as_text(mark)))
        actual.append(answers.true(position).words)
    columns = {
        "id": test.samples.column("id"),
        "source": test.samples.column("source"),
        "unit": pa.array(test.units, pa.int64()),
        "actual": pa.array(actual, pa.string()),
        "answer": pa.array([words for words, _ in said], pa.string()),
        "quality": pa.array(answers.quality, pa.float64()),
        "confidence": pa.array(answers.confidence, pa.float64()),
        "loss": pa.array(answers.losses, pa.float64()),
        "marks": pa.array([text for _, text in said], pa.string()),
    }
    out = io.BytesIO()
    pq.write_table(pa.table({**columns, **answers.columns()}), out)
    write_bytes(path, out.getvalue())


def write_confusion(path: Path, confusion: Confusion) -> None:
    """Two columns, `actual` and `predicted`, which `dvc plots` counts: a row for each of what was counted."""
    names, counts = [plotted(name) for name in confusion.names], shrunk(confusion.counts, MOST_ROWS)

    def rows() -> Iterator[tuple[str, str]]:
        for place, other in np.argwhere(counts):
            yield from [(names[place], names[other])] * int(counts[place, other])

    write_csv(path, ["actual", "predicted"], rows())


def shrunk(counts: np.ndarray, most: int) -> np.ndarray:
    """Counts in proportion, `most` in all if they are more: by the largest remainders, of equal ones the first.

    Args:
        counts: int64 [...].
        most: that the result may add up to.
    """
    total = int(counts.sum())
    if total <= most:
        return counts
    places = np.flatnonzero(counts)
    parts = [divmod(int(count) * most, total) for count in counts.flat[places]]  # exact, however many pixels
    order = sorted(range(len(parts)), key=lambda place: -parts[place][1])
    for place in order[: most - sum(whole for whole, _ in parts)]:
        parts[place] = parts[place][0] + 1, 0
    shares = np.zeros_like(counts)
    shares.flat[places] = [whole for whole, _ in parts]
    return shares


def write_curves(path: Path, curves: Sequence[Curve]) -> None:
    """Every point of every curve, as the values that its axes stand for."""
    rows = (
        (plotted(curve.title), plotted(name), curve.x_span.value(float(x)), curve.y_span.value(float(y)))
        for curve in curves
        for name, points in curve.series
        for x, y in points
    )
    write_csv(path, ["curve", "series", "x", "y"], rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Replace `path` by rows, floats to a fixed number of decimals, nothing where they are undefined."""
    write_rows(path, header, ([_written(cell) for cell in row] for row in rows))


def _written(cell: Any) -> Any:
    if not isinstance(cell, float):
        return cell
    return round(float(cell), DIGITS) if math.isfinite(cell) else ""
