"""Boxes as a column of Arrow, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.answers._ragged import Ragged


def to_columns(found: Ragged, classes: Sequence[str]) -> Any:
    """Rows x1, y1, x2, y2, score, class id of N images as lists of box, score and label."""
    import pyarrow as pa

    names = pa.array(list(classes), pa.string()).take(pa.array(found.rows[:, 5].astype(np.int64)))
    flat = pa.StructArray.from_arrays(
        [
            pa.FixedSizeListArray.from_arrays(pa.array(found.rows[:, :4].ravel()), 4),
            pa.array(np.ascontiguousarray(found.rows[:, 4])),
            names,
        ],
        ["box", "score", "label"],
    )
    return pa.ListArray.from_arrays(pa.array(found.starts.astype(np.int32)), flat)


def from_table(table: Any, classes: Sequence[str], images: int) -> Ragged:
    """The rows of a table's column `objects`.

    Raises:
        ValueError: it has no such column, or names other images or classes.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = f"expected boxes of {len(classes)} classes for {images} images"
    if "objects" not in table.column_names or len(table) != images:
        raise ValueError(f"{wanted}, found {len(table)} rows of {', '.join(table.column_names)}")
    item = pa.struct([("box", pa.list_(pa.float64(), 4)), ("score", pa.float64()), ("label", pa.string())])
    try:
        lists = pa.chunked_array(table.column("objects")).cast(pa.list_(item)).combine_chunks()
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f"{wanted}, found objects of another kind: {error}") from error
    flat = lists.flatten()
    boxes, scores, labels = flat.flatten()
    corners = boxes.flatten()
    if any(part.null_count for part in (lists, flat, boxes, scores, labels, corners)):
        raise ValueError(f"{wanted}, found some that are missing")
    ids = pc.index_in(labels, pa.array(list(classes), pa.string()))
    if ids.null_count:
        strange = labels.filter(pc.is_null(ids))[0].as_py()
        raise ValueError(f"{wanted}, found the class {strange!r}; these are {', '.join(classes)}")
    rows = np.column_stack([corners.to_numpy().reshape(-1, 4), scores.to_numpy(), ids.to_numpy().astype(np.float64)])
    return Ragged(rows, np.append(0, np.cumsum(pc.list_value_length(lists).to_numpy())).astype(np.int64))
