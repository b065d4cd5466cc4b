"""What the columns of a table of pictures stand for, by their names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import UserError, did_you_mean
from pipeline.formats import _label_sets, _table_points
from pipeline.formats._files import PICTURES, base, stem, suffix
from pipeline.formats._label_sets import NOT_ASKED, Asked, listed
from pipeline.formats._lookup import alike
from pipeline.formats._metadata import MAX_COLUMNS, MAX_NAME, MAX_VALUE
from pipeline.formats._table_files import Row, Table
from pipeline.source import UNPRINTABLE

IMAGES = (
    *("image", "image_path", "imagepath", "img", "img_path", "image_name", "image_file", "img_name", "file"),
    *(
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "path",
        "picture",
        "imageid",
        "image_id",
        "name",
        "name_id",
        "id",
    ),
    *("", "unnamed:_0"),
)
LABELS = (
    *("label", "class", "target", "category", "label_name", "class_name", "classname", "labelname", "category_name"),
    *("labels", "species", "y", "tags", "classes", "categories"),
)
LABEL_ENDS = ("label", "class", "category", "type", "species", "labels", "tags")
"""Of a column that none of these names is: `cell_type`."""
MASKS = ("mask", "mask_path", "maskpath", "mask_file", "mask_name", "segmentation", "annotation", "label_path")
CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
SIZED = (
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("x1", "y1", "w", "h"),
    ("xmin", "ymin", "width", "height"),
    ("left", "top", "width", "height"),
)
CROWDS = ("difficult", "iscrowd", "is_crowd", "isgroupof")
SIZES = (("width", "height"), ("image_width", "image_height"), ("img_width", "img_height"))
TAKEN = frozenset(
    (
        *("id", "source", "width", "height", "shard", "row", "mask", "mask_shard", "mask_row", "together"),
        *("label", "labels", "numbers", "points", "objects"),
    )
)
"""Columns that a dataset has by itself."""
LOOKED_AT = 50
"""Rows that say whether a column names pictures."""


@dataclass(frozen=True)
class Layout:
    """What a table does not say of itself."""

    header: tuple[str, ...] = ()
    """The names of its columns; empty: its first line says them."""
    numbers: tuple[str, ...] = ()
    """Columns of numbers that are learnt, and are no metadata."""


AS_IT_IS = Layout()


@dataclass(frozen=True)
class Roles:
    """Which column says what: its place in a row."""

    image: int
    label: int | None = None
    mask: int | None = None
    separator: str = ""
    """Between several classes in the cells of `label`."""
    flags: Mapping[str, int] = field(default_factory=dict)
    """Columns of zeros and ones, by the class that each is of."""
    exclusive: bool = False
    """Whether every row says yes to one of `flags` alone."""
    objects: int | None = None
    """Boxes and classes in one cell, as `_hugging_face` has them."""
    box: tuple[int, ...] = ()
    sized: bool = False
    """Whether the box is x, y, width, height, and not two corners."""
    crowd: int | None = None
    size: tuple[int, ...] = ()
    """Width and height of the picture."""
    split: int | None = None
    group: int | None = None
    metadata: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    points: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Of each named point by its name the columns of x and y."""

    @property
    def useful(self) -> bool:
        """Whether there is anything to learn from."""
        return any(place is not None for place in (self.label, self.mask, self.objects)) or bool(
            self.box or self.flags or self.numbers or self.points
        )


def roles(
    table: Table,
    known: Collection[str],
    image: str = "",
    label: str = "",
    sets: Asked = NOT_ASKED,
    layout: Layout = AS_IT_IS,
) -> Roles | None:
    """What the columns of a table stand for; None if it seems to name no pictures.

    Args:
        table: with its rows, or the first of them.
        known: pictures of the source, as `bases` has them.
        image: the column of the pictures; empty: found out.
        label: the column of the classes; empty: found out.
        sets: how several classes are written.
        layout: what else is said of the table.

    Raises:
        UserError: there is no such column.
    """
    columns = {name.strip().lower().replace(" ", "_").replace("-", "_"): at for at, name in enumerate(table.columns)}
    where = _chosen(table, image, "image") if image else _image(columns, table.rows, known)
    if where is None:
        return None
    numbers = {name: _chosen(table, name, "numbers") for name in layout.numbers}
    points = _table_points.columns(table, {where, *numbers.values()})
    taken = {where, *numbers.values(), *(at for pair in points.values() for at in pair)}
    left = {name: at for name, at in columns.items() if at not in taken}
    box, sized = _box(left)
    rest = {name: at for name, at in left.items() if at not in box}
    labelled = _chosen(table, label, "label") if label else _first(rest, LABELS)
    if labelled is None:
        labelled = next((at for name, at in rest.items() if name.rpartition("_")[2] in LABEL_ENDS), None)
    mask = _first(rest, MASKS)
    if labelled is not None and mask is None and _names_pictures(table.rows, labelled, known, whole=True):
        labelled, mask = None, labelled
    size = next((tuple(rest[name] for name in pair) for pair in SIZES if all(name in rest for name in pair)), ())
    used = {where, labelled, mask, *box, *size}
    objects = left["objects"] if not box and "objects" in left else None
    crowd = _first(left, CROWDS) if box else None
    split, group = left.get("split"), left.get("group")
    used |= {objects, crowd, split, group, *taken}
    flags = _label_sets.chosen(table.columns, sets.columns, table.name)
    cells = [[text(cell) for cell in row.cells] for row in table.rows] if {labelled, mask, objects} == {None} else []
    if cells and not box and not flags:
        flags = _label_sets.flags(table.columns, [at for at in range(len(table.columns)) if at not in used], cells)
    used |= set(flags.values())
    return Roles(
        image=where,
        label=labelled,
        separator=_separator(table, labelled, sets) if labelled is not None and not box else "",
        flags=flags,
        exclusive=bool(flags) and all(_yes(row, flags) == 1 for row in table.rows),
        mask=mask,
        objects=objects,
        box=box,
        sized=sized,
        crowd=crowd,
        size=size,
        split=split,
        group=group,
        metadata=_metadata(table, [at for at in range(len(table.columns)) if at not in used]),
        numbers=numbers,
        points=points,
    )


def bases(names: Collection[str]) -> frozenset[str]:
    """Names without folders, as `alike` has them, with and without suffix."""
    return frozenset(alike(found) for name in names for found in (base(name), stem(name)))


def text(value: Any) -> str:
    """A cell as text: 3.0 is 3, and nothing is empty, as is what pandas has for it, nan."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value).strip()


def _separator(table: Table, at: int, sets: Asked) -> str:
    cells = (row.cells[at] for row in table.rows)
    return _label_sets.separator((text(cell) for cell in cells if not listed(cell)), sets.separator)


def _yes(row: Row, flags: Mapping[str, int]) -> int:
    return sum(text(row.cells[at]).lower() in _label_sets.YES for at in flags.values())


def _chosen(table: Table, column: str, option: str) -> int:
    if column in table.columns:
        return table.columns.index(column)
    hint = did_you_mean(column, table.columns) or f" It has: {', '.join(table.columns[:12])}."
    raise UserError(f"data.{option}: {table.name} has no column {column!r}.{hint}")


def _image(columns: Mapping[str, int], rows: Sequence[Row], known: Collection[str]) -> int | None:
    """The first column, by its name, whose values are pictures of the source."""
    named = [columns[name] for name in IMAGES if name in columns]
    return next((at for at in named if _names_pictures(rows, at, known)), None)


def _names_pictures(rows: Sequence[Row], at: int, known: Collection[str], whole: bool = False) -> bool:
    """Whether the values of a column are pictures of the source; if `whole` with their suffix."""
    values = [text(row.cells[at]).replace("\\", "/") for row in rows[:LOOKED_AT]]
    if any(suffix(value) in PICTURES and alike(base(value)) in known for value in values):
        return True
    return not whole and sum(alike(base(value)) in known for value in values if value) * 2 > len(values)


def _first(columns: Mapping[str, int], wanted: Sequence[str]) -> int | None:
    return next((columns[name] for name in wanted if name in columns), None)


def _box(columns: Mapping[str, int]) -> tuple[tuple[int, ...], bool]:
    """The columns of the box, and whether it has a width and a height."""
    for sets, sized in ((CORNERS, False), (SIZED, True)):
        for names in sets:
            if all(name in columns for name in names):
                return tuple(columns[name] for name in names), sized
    return (), False


def _metadata(table: Table, places: Sequence[int]) -> dict[str, int]:
    """The columns to slice by: short texts and numbers. Long texts, and what datasets name themselves, are none."""
    found = {}
    for at in places:
        name = table.columns[at]
        values = [row.cells[at] for row in table.rows]
        plain = all(value is None or isinstance(value, str | int | float) for value in values)
        short = plain and all(len(word) <= MAX_VALUE and not UNPRINTABLE.search(word) for word in map(text, values))
        if short and 0 < len(name) <= MAX_NAME and name.isprintable() and name.lower() not in TAKEN:
            found[name] = at
    return dict(list(found.items())[:MAX_COLUMNS])
