"""What the source says of the pictures beside their class, as columns of `samples.parquet`."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa

from pipeline.errors import UserError
from pipeline.ingest.sifting import Picture

Columns = dict[str, Any]
"""pyarrow arrays, by name."""
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""What everybody reads as one; Python's `float` also takes `1_0`, `nan` and `infinity`."""


def columns(pictures: Sequence[Picture], taken: Collection[str]) -> Columns:
    """A column of each name that any picture has: float64 if each value is a finite number, else text.

    Args:
        pictures: in the order of their rows; null where one has no value.
        taken: names of the dataset's own columns.

    Raises:
        UserError: a name is taken.
    """
    names = list(dict.fromkeys(name for picture in pictures for name in picture.metadata))
    if clashes := ", ".join(repr(name) for name in names if name in taken):
        raise UserError(
            f"data.metadata: the dataset has columns of its own that are named {clashes}. Give those of the metadata "
            "other names."
        )
    return {name: _column([picture.metadata.get(name, "") for picture in pictures]) for name in names}


def _column(texts: list[str]) -> Any:
    values = [text or None for text in texts]
    if any(values) and all(_is_number(text) for text in values if text):
        return pa.array([float(text) if text else None for text in values], pa.float64())
    return pa.array(values, pa.string())


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None and math.isfinite(float(text))
