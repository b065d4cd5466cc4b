"""Which columns of a Parquet file hold pictures, classes and objects, and what its schema says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UserError, did_you_mean
from pipeline.formats import _hugging_face

IMAGES = ("image", "img", "picture", "jpg", "jpeg", "png", "image_bytes", "bytes")
SETS = ("labels", "label", "tags", "classes", "categories", "targets")
"""Of lists."""
LABELS = ("label", "labels", "fine_label", "class", "target", "category", "y")


@dataclass(frozen=True)
class Columns:
    """Their names, and those of classes."""

    image: str
    label: str | None
    several: str | None
    """Of lists of classes."""
    objects: str | None
    classes: Mapping[int, str]
    """Of the label, by number; empty, if the schema does not say."""
    several_classes: Mapping[int, str]
    """Of the lists, likewise."""
    categories: Mapping[int, str]
    """Of the objects, likewise."""
    numbers: tuple[str, ...] = ()

    @property
    def wanted(self) -> list[str]:
        """Those to be read."""
        one_each = (self.image, self.label, self.several, self.objects)
        return [*(name for name in one_each if name is not None), *self.numbers]


def columns_of(
    schema: Any, file: str, image: str = "", label: str = "", numbers: tuple[str, ...] = ()
) -> Columns | None:
    """The columns of a file; None if none holds pictures.

    Args:
        schema: of Arrow.
        file: its name, for errors.
        image: the column of the pictures; empty: found out.
        label: the column of the classes; empty: found out.
        numbers: columns of numbers that are to be learnt.

    Raises:
        UserError: there is no such column.
    """
    for name, option in ((image, "image"), (label, "label"), *((name, "numbers") for name in numbers)):
        if name and name not in schema.names:
            hint = did_you_mean(name, schema.names) or f" It has: {', '.join(schema.names[:12])}."
            raise UserError(f"data.{option}: {file} has no column {name!r}.{hint}")
    kinds = {field.name: field.type for field in schema if field.name not in numbers}
    pictures = [name for name, kind in kinds.items() if _is_picture(kind)]
    chosen = image if image in pictures else _first(IMAGES, pictures)
    if chosen is None:
        return None
    classed = [name for name in kinds if _hugging_face.class_names(schema.metadata, name) and _is_label(kinds[name])]
    labels = [name for name, kind in kinds.items() if _is_label(kind)]
    lists = [name for name, kind in kinds.items() if _is_labels(kind)]
    lists = [label] if label in lists else lists
    several = next((name for name in SETS if name in lists), None) or _with_classes(schema, lists)
    label = "" if label == several else label
    named = label or next((name for name in LABELS if name in labels), None) or next(iter(classed), None)
    objects = next((name for name, kind in kinds.items() if _has_boxes(kind)), None)
    return Columns(
        chosen,
        named,
        several,
        objects,
        _hugging_face.class_names(schema.metadata, named) if named else {},
        _hugging_face.class_names(schema.metadata, several) if several else {},
        _hugging_face.class_names(schema.metadata, objects) if objects else {},
        numbers,
    )


def _first(wanted: Sequence[str], found: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in found), None) or next(iter(found), None)


def _is_picture(kind: Any) -> bool:
    """Bytes, or a struct that holds them under `bytes`."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_picture(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_label(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_labels(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_label(kind.value_type)


def _with_classes(schema: Any, names: Sequence[str]) -> str | None:
    """The first of some columns whose numbers are classes, as the schema says."""
    return next((name for name in names if _hugging_face.class_names(schema.metadata, name)), None)


def _has_boxes(kind: Any) -> bool:
    """A struct, or a list of them, that holds boxes."""
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return pa.types.is_struct(kind) and any(kind.get_field_index(name) >= 0 for name in _hugging_face.BOXES)
