"""What a COCO file says of one picture: its objects with their outlines, or the segments of a panoptic mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pipeline.annotations import Colour, Corners, Drawn, Flaw, FlawKind, Layer, Objects, Painted, Pieces, Runs, Thing
from pipeline.contracts import Target
from pipeline.formats._coco_file import Category, CocoFile, Listed, listed_in
from pipeline.formats._coco_outlines import extent, outline_of
from pipeline.formats._coco_points import points
from pipeline.formats._said import Story
from pipeline.formats._values import Id, Twice, identity, number, numbers, shown, whole

COLOURS = 256**3


class _Bad(Exception):
    def __init__(self, kind: FlawKind, found: str) -> None:
        super().__init__(found)
        self.kind = kind


def objects(file: CocoFile, listed: Listed) -> Story:
    """The objects of a picture, which may have outlines; its mask, where all of them have one and none is left out."""
    things: list[Thing] = []
    flaws = list(listed.flaws)
    whole_mask = file.outlined
    for place, entry in file.annotations.get(listed.id, ()):
        try:
            things.append(_thing(file, place, entry))
        except _Bad as bad:
            flaws.append(Flaw(bad.kind, file.name, place, str(bad)))
            whole_mask = False
    found = Objects(tuple(things), file.name, said_size=listed.size)
    told: dict[Target, Any] = {Target.OBJECTS: found}
    if file.outlined:
        told[Target.INSTANCES] = found
    if whole_mask and all(thing.outline is not None for thing in things):
        told[Target.MASK] = Drawn(found)
    if (pointed := points(_pointing(file, listed), file.name)) is not None:
        told[Target.POINTS] = pointed
    return told, flaws


def _pointing(file: CocoFile, listed: Listed) -> Iterator[tuple[str, dict[str, Any], tuple[str, ...]]]:
    """The annotations of a picture that name points, each with where it stands and what its points are called."""
    for place, entry in file.annotations.get(listed.id, ()):
        if "keypoints" in entry and not isinstance(entry, Twice) and not entry.get("iscrowd"):
            key = identity(entry.get("category_id"))
            category = None if key is None else file.categories.get(key)
            yield place, entry, category.points if category else ()


def panoptic(file: CocoFile, listed: Listed, mask: str | None, masks: Mapping[str, bytes]) -> Story:
    """The segments of a picture.

    Args:
        file: with the segments.
        listed: the picture.
        mask: the file of its mask, if it is there.
        masks: the contents of that file.
    """
    flaws = list(listed.flaws)
    entries = file.annotations.get(listed.id, [])
    if not entries:
        return {}, flaws
    (place, entry), *others = entries
    second = "the picture has another annotation before it"
    flaws += [Flaw(FlawKind.DUPLICATE, file.name, other, second) for other, _ in others]
    if not isinstance(entry.get("segments_info"), list) or isinstance(entry, Twice):
        found = f"its segments_info are {shown(entry.get('segments_info'))}; expected a list, and each key once"
        return {}, [*flaws, Flaw(FlawKind.UNREADABLE, file.name, place, found)]
    things: list[Thing] = []
    classes: dict[int | Colour, str] = {}
    stuff: set[int | Colour] = set()
    crowds: set[int | Colour] = set()
    void: set[int | Colour] = set(_values(0))
    for position, segment in enumerate(listed_in(entry, "segments_info"), start=1):
        where = f"{place}, segment at position {position}"
        try:
            thing, values, counted = _segment(file, segment, where)
        except _Bad as bad:
            flaws.append(Flaw(bad.kind, file.name, where, str(bad)))
            void.update(_values(_colour(segment.get("id")) or 0) if isinstance(segment, dict) else ())
            continue
        if not classes.keys().isdisjoint(values):
            flaws.append(Flaw(FlawKind.DUPLICATE, file.name, thing.place, "another segment has that id"))
            continue
        classes.update(dict.fromkeys(values, thing.name))
        things += [thing] if counted else []
        stuff.update(() if counted else values)
        crowds.update(values if thing.crowd else ())
    objects_found = Objects(tuple(things), file.name, said_size=listed.size)
    if mask is None or mask not in masks:
        return {Target.OBJECTS: objects_found}, [*flaws, _no_mask(file, place, entry)]
    layer = Layer(mask, masks[mask], classes, frozenset(void - classes.keys()))
    countable = {value: name for value, name in classes.items() if value not in stuff}
    told = {
        Target.OBJECTS: objects_found,
        Target.INSTANCES: Pieces((replace(layer, classes=countable, clear=frozenset(stuff)),), frozenset(crowds)),
        Target.MASK: Painted((layer,)),
    }
    return told, flaws


def _thing(file: CocoFile, place: str, entry: dict[str, Any]) -> Thing:
    """One annotation, understood."""
    if isinstance(entry, Twice):
        raise _Bad(FlawKind.UNREADABLE, f"the key {shown(entry.key)} stands twice")
    category = _category(file, entry)
    crowd = _crowd(entry)
    try:
        outline = outline_of(entry.get("segmentation"))
    except ValueError as error:
        raise _Bad(FlawKind.UNREADABLE, str(error)) from None
    if entry.get("bbox") in (None, []) and outline is not None and not isinstance(outline, Runs):
        box = extent(outline)
    else:
        box = _box(entry.get("bbox"))
    return Thing(category.name, box, f"{place} ({category.name})", crowd, outline)


def _segment(file: CocoFile, segment: Any, place: str) -> tuple[Thing, tuple[int | Colour, ...], bool]:
    """One segment: the thing, the values of its pixels, and whether it can be counted."""
    if not isinstance(segment, dict):
        raise _Bad(FlawKind.UNREADABLE, f"{shown(segment)}; expected an object with keys")
    if isinstance(segment, Twice):
        raise _Bad(FlawKind.UNREADABLE, f"the key {shown(segment.key)} stands twice")
    colour = _colour(segment.get("id"))
    if not colour:
        found = f"its id is {shown(segment.get('id'))}; expected a number of 1 to {COLOURS - 1:,}"
        raise _Bad(FlawKind.UNREADABLE, found)
    category = _category(file, segment)
    box = _box(segment.get("bbox")) if category.thing else (0.0, 0.0, 0.0, 0.0)
    thing = Thing(category.name, box, f"{place} ({category.name})", _crowd(segment))
    return thing, _values(colour), category.thing


def _category(file: CocoFile, entry: dict[str, Any]) -> Category:
    key: Id | None = identity(entry.get("category_id"))
    if key is None:
        found = f"its category_id is {shown(entry.get('category_id'))}; expected the id of a category"
        raise _Bad(FlawKind.UNREADABLE, found)
    if key not in file.categories:
        raise _Bad(FlawKind.UNKNOWN_CLASS, f"it is of the category {shown(key)}, which is not listed")
    return file.categories[key]


def _crowd(entry: dict[str, Any]) -> bool:
    said = entry.get("iscrowd")
    if said is not None and number(int(said) if isinstance(said, bool) else said) not in (0, 1):
        raise _Bad(FlawKind.UNREADABLE, f"its iscrowd is {shown(said)}; expected 0 or 1")
    return bool(said)


def _box(said: Any) -> Corners:
    values = numbers(said)
    if values is None or len(values) != 4:
        raise _Bad(FlawKind.UNREADABLE, f"its bbox is {shown(said)}; expected x, y, width, height")
    x, y, width, height = values
    return x, y, x + width, y + height


def _colour(said: Any) -> int | None:
    """The id of a segment, if it is one that a colour can say."""
    key = whole(said)
    return key if key is not None and 0 < key < COLOURS else None


def _values(key: int) -> tuple[int | Colour, ...]:
    """What pixels of a segment hold: red + 256 green + 65,536 blue is its id. A grey one may be decoded as a level."""
    red, green, blue = key % 256, key // 256 % 256, key // 65_536
    return ((red, green, blue), red) if red == green == blue else ((red, green, blue),)


def _no_mask(file: CocoFile, place: str, entry: dict[str, Any]) -> Flaw:
    return Flaw(FlawKind.UNREADABLE, file.name, place, f"its mask {shown(entry.get('file_name'))} is not there")
