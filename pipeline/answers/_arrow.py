"""Boxes as a column of Arrow, and back; with their pixels, where these are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.answers._ragged import Ragged
from pipeline.runs import Insides


def to_columns(found: Ragged, classes: Sequence[str], insides: Insides | None = None) -> Any:
    """Rows x1, y1, x2, y2, score, class id of N images as lists of box, score and label, and of runs."""
    import pyarrow as pa

    names = pa.array(list(classes), pa.string()).take(pa.array(found.rows[:, 5].astype(np.int64)))
    columns = {
        "box": pa.FixedSizeListArray.from_arrays(pa.array(found.rows[:, :4].ravel()), 4),
        "score": pa.array(np.ascontiguousarray(found.rows[:, 4])),
        "label": names,
    }
    if insides is not None:
        columns["runs"] = pa.ListArray.from_arrays(pa.array(insides.starts.astype(np.int32)), pa.array(insides.lengths))
    flat = pa.StructArray.from_arrays(list(columns.values()), list(columns))
    return pa.ListArray.from_arrays(pa.array(found.starts.astype(np.int32)), flat)


def from_table(table: Any, classes: Sequence[str], images: int) -> Ragged:
    """The rows of a table's column `objects`.

    Raises:
        ValueError: it has no such column, or names other images or classes.
    """
    return _read(table, classes, images, with_runs=False)[0]


def insides_from_table(table: Any, classes: Sequence[str], sizes: np.ndarray) -> tuple[Ragged, Insides]:
    """The same, and the pixels of each object, in images of these widths and heights, int64 [N, 2].

    Raises:
        ValueError: likewise; or runs do not fill their picture.
    """
    import pyarrow.compute as pc

    found, runs = _read(table, classes, len(sizes), with_runs=True)
    starts = np.append(0, np.cumsum(pc.list_value_length(runs).to_numpy(zero_copy_only=False)))
    return found, Insides(runs.flatten().to_numpy(zero_copy_only=False), starts, sizes[found.images])


def _read(table: Any, classes: Sequence[str], images: int, with_runs: bool) -> tuple[Ragged, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = f"expected {'objects' if with_runs else 'boxes'} of {len(classes)} classes for {images} images"
    if "objects" not in table.column_names or len(table) != images:
        raise ValueError(f"{wanted}, found {len(table)} rows of {', '.join(table.column_names)}")
    item = [("box", pa.list_(pa.float64(), 4)), ("score", pa.float64()), ("label", pa.string())]
    item += [("runs", pa.list_(pa.int32()))] if with_runs else []
    try:
        lists = pa.chunked_array(table.column("objects")).cast(pa.list_(pa.struct(item))).combine_chunks()
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f"{wanted}, found objects of another kind: {error}") from error
    flat = lists.flatten()
    boxes, scores, labels, *runs = flat.flatten()
    parts = [lists, flat, boxes, scores, labels, boxes.flatten(), *runs, *(one.flatten() for one in runs)]
    if any(part.null_count for part in parts):
        raise ValueError(f"{wanted}, found some that are missing")
    ids = pc.index_in(labels, pa.array(list(classes), pa.string()))
    if ids.null_count:
        strange = labels.filter(pc.is_null(ids))[0].as_py()
        raise ValueError(f"{wanted}, found the class {strange!r}; these are {', '.join(classes)}")
    corners = boxes.flatten().to_numpy().reshape(-1, 4)
    rows = np.column_stack([corners, scores.to_numpy(), ids.to_numpy().astype(np.float64)])
    starts = np.append(0, np.cumsum(pc.list_value_length(lists).to_numpy())).astype(np.int64)
    return Ragged(rows, starts), (runs[0] if runs else None)
