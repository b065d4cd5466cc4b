"""What a page says of the images of one version: counts, sizes, metadata, those of a class or split, what is wrong.

What is known of an image goes through here unseen: its task has words for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dashboard.opened import PROBLEMS, REJECTED, RUNS, SAMPLES, Opened
from pipeline.contracts import SPLITS

SHOWN = 5
"""Values of a metadata column that are named."""
LABELS = "labels."
"""Before the path of a column of sets of class ids."""
SHOWN_COLUMNS = ("id", "source", "split", "width", "height")
KINDS = (
    ("^the same bytes as .*", "the same bytes as another picture"),
    ("^labelled .*", "the same bytes under two labels"),
    ("^[0-9]+ x [0-9]+ pixels; .*", "too many pixels"),
    (" *[:;(].*", ""),
)
"""Reasons name files and numbers; what is left of them when these are replaced can be counted."""


class Count(NamedTuple):
    """How much there is of one class, in the unit of the task."""

    name: str
    label: int | None
    """By which samples.parquet knows it; None where its images cannot be asked for."""
    splits: Sequence[int]
    """In the order of `SPLITS`."""
    total: int
    shares: Sequence[tuple[float, float]]
    """Of each split: where its part of a bar begins and how long it is, in percent of the longest bar."""


class Column(NamedTuple):
    """What is known of one column of metadata."""

    name: str
    numbers: tuple[float, float, float] | None
    """Least, median and greatest; None if it holds text."""
    distinct: int
    common: Sequence[tuple[str, int]]
    """The most frequent texts with their counts."""
    missing: int


class Image(NamedTuple):
    """One image in a grid."""

    id: str
    source: str
    words: str
    """What is known of it, in a line."""
    split: str
    width: int
    height: int


class Problem(NamedTuple):
    """One thing that is wrong with an annotation."""

    kind: str
    """The rule of `params.yaml` that it falls under."""
    source: str
    place: str
    found: str
    done: str


class Some(NamedTuple):
    """A page of what was asked for."""

    rows: Sequence[Any]
    total: int
    page: int
    pages: int


def counts(version: Opened) -> list[Count]:
    """How much there is of each class, in the order of the classes."""
    info = version.info
    names = dict.fromkeys([*info.classes, *(name for split in SPLITS for name in info.counts.get(split, {}))])
    splits = {name: [info.counts.get(split, {}).get(name, 0) for split in SPLITS] for name in names}
    longest = max((sum(of_class) for of_class in splits.values()), default=0) or 1
    labels = {name: label for label, name in enumerate(info.classes)} if class_column(version) else {}
    return [Count(name, labels.get(name), found, sum(found), _shares(found, longest)) for name, found in splits.items()]


def sizes(version: Opened) -> tuple[list[tuple[int, int, int]], int]:
    """Least, median and greatest width and height in pixels; in how many groups the images are."""
    import pyarrow.compute as pc

    table = version.table(SAMPLES, ("width", "height", "group"))
    spans = []
    for side in ("width", "height"):
        least, middle, most = pc.quantile(table.column(side), [0, 0.5, 1], interpolation="lower").to_pylist()
        spans.append((int(least or 0), int(middle or 0), int(most or 0)))
    return spans, int(pc.count_distinct(table.column("group")).as_py())


def metadata(version: Opened) -> list[Column]:
    """What is known of each column that the source adds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = version.table(SAMPLES, version.info.metadata)
    found = []
    for name in table.column_names:
        column = table.column(name)
        distinct, missing = pc.count_distinct(column).as_py(), column.null_count
        if pa.types.is_floating(column.type):
            least, middle, most = pc.quantile(column, [0, 0.5, 1]).to_pylist()
            found.append(Column(name, (least, middle, most), distinct, (), missing))
            continue
        values = pc.value_counts(column.drop_null()).to_pylist()
        common = sorted(values, key=lambda value: (-value["counts"], value["values"]))[:SHOWN]
        found.append(Column(name, None, distinct, [(one["values"], one["counts"]) for one in common], missing))
    return found


def class_column(version: Opened) -> str | None:
    """The column of class ids, by which images can be asked for: of each image, one or many, or of its objects."""
    paths = (path for path in version.leaves if path == "label" or path.endswith(".label") or path.startswith(LABELS))
    return next(paths, None)


def images(version: Opened, split: str, label: int | None, page: int, size: int) -> Some:
    """The images of a split and that hold a class, of all if these are not given, in the order of ids.

    Args:
        version: whose images.
        split: or nothing.
        label: the class, or None; nothing where `class_column` finds none.
        page: from 1.
        size: images on a page.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = class_column(version)
    table = version.table(SAMPLES, ("split", *([column] if column else [])))
    wanted = pa.chunked_array([pa.repeat(True, table.num_rows)])
    if split:
        wanted = pc.and_(wanted, pc.equal(table.column("split"), split))
    if label is not None and column:
        wanted = pc.and_(wanted, _holding(table.column(column.partition(".")[0]), label))
    places = pc.indices_nonzero(wanted)
    page, pages = bounded(page, len(places), size)
    known = version.task.fields if version.task else ()
    mine = [path for path in version.leaves if path.partition(".")[0] in known and RUNS not in path]
    columns = [*SHOWN_COLUMNS, *mine]
    rows = version.table(SAMPLES, columns).take(places[(page - 1) * size : page * size]).to_pylist()
    return Some([_image(version, row) for row in rows], len(places), page, pages)


def _holding(column: Any, label: int) -> Any:
    """Which rows are of a class, alone or among others, or hold an object of it: pyarrow booleans."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_list(column.type):
        return pc.fill_null(pc.equal(column, label), False)
    flat, parents = pc.list_flatten(column), pc.list_parent_indices(column)
    labels = pc.struct_field(flat, "label") if pa.types.is_struct(flat.type) else flat
    hits = parents.filter(pc.equal(labels, label))
    found = np.zeros(len(column), bool)
    found[hits.to_numpy()] = True
    return pa.chunked_array([pa.array(found)])


def _image(version: Opened, row: dict[str, Any]) -> Image:
    try:
        words = version.task.truth(row, None, version.info.classes).words if version.task else ""
    except (LookupError, TypeError):  # written by other code
        words = ""
    return Image(row["id"], row["source"], words, row["split"], row["width"], row["height"])


def rejects(version: Opened, kind: str, page: int, size: int) -> tuple[Some, list[tuple[str, int]]]:
    """Files that were left out, each with its reason, `size` of them a page; the kinds of reasons with their counts."""
    import pyarrow.compute as pc

    table = version.table(REJECTED)
    kinds = table.column("reason")
    for pattern, said in KINDS:
        kinds = pc.replace_substring_regex(kinds, pattern, said)
    counted = pc.value_counts(kinds).to_pylist()
    every = sorted(((one["values"], one["counts"]) for one in counted), key=lambda pair: (-pair[1], pair[0]))
    if kind:
        table = table.filter(pc.equal(kinds, kind))
    page, pages = bounded(page, table.num_rows, size)
    rows = table.slice((page - 1) * size, size).to_pylist()
    return Some([(row["source"], row["reason"]) for row in rows], table.num_rows, page, pages), every


def problems(version: Opened, kind: str, page: int, size: int) -> Some:
    """What is wrong with annotations, of one kind if it is given, `size` of them a page."""
    import pyarrow.compute as pc

    if PROBLEMS not in version.files:  # written by other code
        return Some([], 0, 1, 1)
    table = version.table(PROBLEMS)
    if kind:
        table = table.filter(pc.equal(table.column("problem"), kind))
    page, pages = bounded(page, table.num_rows, size)
    rows = table.slice((page - 1) * size, size).to_pylist()
    found = [Problem(row["problem"], row["source"], row["place"], row["found"], row["done"]) for row in rows]
    return Some(found, table.num_rows, page, pages)


def _shares(found: Sequence[int], longest: int) -> list[tuple[float, float]]:
    shares, begins = [], 0.0
    for count in found:
        share = 100 * count / longest
        shares.append((round(begins, 3), round(share, 3)))
        begins += share
    return shares


def bounded(page: int, rows: int, size: int) -> tuple[int, int]:
    """A page that there is, and how many there are."""
    pages = max(1, -(-rows // size))
    return min(max(page, 1), pages), pages
