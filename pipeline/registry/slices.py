"""The test images by class and by what else is known of them: how both models fare on each part, and the floors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import mcnemar
from pipeline.answering import Answers
from pipeline.bootstrap import Units
from pipeline.dataset import Dataset
from pipeline.errors import UserError, did_you_mean
from pipeline.params import GateOptions
from pipeline.registry.verdict import SliceRow

CLASS = "class"
COMMON = ("group", "width", "height", "source")
"""Columns of every dataset that can be sliced by."""
OTHER = "(other)"
NONE = "(none)"
MOST = 20
"""Values of a text column that are slices of their own; the rest are one together."""
TOLD = 5
"""Slices under their floor that the reasons name."""


@dataclass(frozen=True)
class Cut:
    """The test images, cut into slices by one column."""

    column: str
    values: list[str]
    """Of the slices, in the order in which they are shown."""
    slice_of: np.ndarray
    """For each image its slice's position in `values`, int64 [N]."""

    def texts(self) -> pa.Array:
        """The slice of each image, by its value."""
        return pa.array(self.values, pa.string()).take(pa.array(self.slice_of))


def columns(dataset: Dataset) -> list[str]:
    """What the images of a dataset can be sliced by."""
    known = (*COMMON, *dataset.info.metadata)
    return [name for name in known if name in dataset.samples.column_names]


def check(names: Sequence[str], columns: Sequence[str]) -> None:
    """Say what is wrong with `gate.slices`.

    Args:
        names: that params.yaml gives.
        columns: that the dataset has; see `columns`.

    Raises:
        UserError: it has no such column.
    """
    for name in names:
        if name not in columns:
            also = "; a slice of each class is there anyway" if name in (CLASS, "label") else ""
            raise UserError(
                f"params.yaml: gate.slices names {name!r}, and the dataset has no such column."
                f"{did_you_mean(name, columns)} It has: {', '.join(columns) or 'none'}{also}."
            )


def by_column(name: str, column: pa.ChunkedArray) -> Cut:
    """Slices by a column of the test split's samples: numbers in thirds of the images, anything else by its values."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return _thirds(name, column.to_numpy().astype(np.float64))
    texts = [NONE if value is None else str(value) for value in column.to_pylist()]
    ordered = sorted(Counter(texts).items(), key=lambda item: (item[0] == NONE, -item[1], item[0]))
    values = [value for value, _ in ordered if value != NONE]
    shown = [*values[:MOST], *([OTHER] if len(values) > MOST else []), *([NONE] if NONE in texts else [])]
    places = {value: place for place, value in enumerate(shown)}
    return Cut(name, shown, np.array([places.get(text, MOST) for text in texts], np.int64))


def by_value(cut: Cut, challenger: Answers, champion: Answers, asked: GateOptions, units: Units) -> list[SliceRow]:
    """How both fare on each slice that has images.

    Args:
        cut: by one column.
        challenger: its answers to N images.
        champion: likewise.
        asked: the floor.
        units: of the images.
    """
    holds = cut.slice_of[:, None] == np.arange(len(cut.values))
    qualities = challenger.quality[:, None], champion.quality[:, None]
    return rows(Slices(cut.column, cut.values, holds & challenger.counted[:, None], units), *qualities, asked)


def by_class(challenger: Answers, champion: Answers, asked: GateOptions, units: Units) -> list[SliceRow]:
    """How both fare on the images that hold each class, in what they say of that class; see `by_value`."""
    (holds, qualities), (_, of_champion) = challenger.by_class, champion.by_class
    slices = Slices(CLASS, challenger.classes, holds & challenger.counted[:, None], units)
    return rows(slices, qualities, of_champion, asked)


class Slices(NamedTuple):
    """J slices of N images, which may overlap."""

    column: str
    """By which they are told apart."""
    values: Sequence[str]
    holds: np.ndarray
    """Whether an image is in a slice and counts, bool [N, J]."""
    units: Units


def rows(slices: Slices, challenger: np.ndarray, champion: np.ndarray, asked: GateOptions) -> list[SliceRow]:
    """Rows of the slices that have images.

    Args:
        slices: J of them.
        challenger: how well it answers each image, float64 [N, J] or [N, 1].
        champion: likewise.
        asked: the floors.
    """
    column, values, holds, units = slices
    floor = asked.class_floor if column == CLASS else asked.slice_floor
    images = holds.sum(axis=0)
    shares = [np.where(holds, side, 0.0).sum(axis=0) / np.maximum(images, 1) for side in (challenger, champion)]
    better = np.where(holds, np.sign(challenger - champion), 0).astype(np.int64)
    fixed, broken = (better > 0).sum(axis=0), (better < 0).sum(axis=0)
    won = mcnemar.won(better, units)
    chances = mcnemar.two_sided((won > 0).sum(axis=0), (won < 0).sum(axis=0))
    found = []
    for place in np.flatnonzero(images):
        of_this = floor if images[place] >= asked.smallest_slice else 0.0
        share = float(shares[0][place])
        found.append(
            SliceRow(
                column=column,
                value=values[int(place)],
                images=int(images[place]),
                challenger=share,
                champion=float(shares[1][place]),
                fixed=int(fixed[place]),
                broken=int(broken[place]),
                p=float(chances[place]),
                floor=of_this,
                held=share >= of_this,
            )
        )
    return found


def under(found: Sequence[SliceRow]) -> list[str]:
    """Which slices are under their floor, the farthest first, in a sentence; none if none is."""
    failing = sorted((row for row in found if not row.held), key=lambda row: row.challenger - row.floor)
    if not failing:
        return []
    named = [
        f"{row.column} {row.value!r} {row.challenger:.4f} of {row.images} images (floor {row.floor:g})"
        for row in failing[:TOLD]
    ]
    more = f", and {len(failing) - TOLD} more" if len(failing) > TOLD else ""
    return [f"Too few right answers in {len(failing)} slice{'s'[: len(failing) > 1]}: {', '.join(named)}{more}."]


def _thirds(name: str, numbers: np.ndarray) -> Cut:
    """Three slices of as many images as equal numbers allow, named by the least and the largest number in each."""
    known = np.sort(numbers[~np.isnan(numbers)])
    ends = [known[(len(known) * third - 1) // 3] for third in (1, 2, 3)] if len(known) else []
    place = np.searchsorted(np.unique(ends), numbers)  # nan comes after every end
    present, slice_of = np.unique(place, return_inverse=True)
    values = []
    for third in present:
        inside = numbers[place == third]
        least, largest = _plain(inside.min()), _plain(inside.max())
        values.append(NONE if np.isnan(inside).any() else least if least == largest else f"{least} to {largest}")
    return Cut(name, values, slice_of.astype(np.int64))


def _plain(number: float) -> str:
    """As a person writes it, with every digit."""
    return str(int(number)) if float(number).is_integer() else repr(float(number))
