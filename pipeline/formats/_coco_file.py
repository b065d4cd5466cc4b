"""One COCO file: its categories, pictures and annotations, with everything in it that is wrong by itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pipeline.annotations import Flaw, FlawKind
from pipeline.formats._coco_points import names_of
from pipeline.formats._values import Id, Twice, class_name, identity, number, shown, whole

Kind = Literal["objects", "panoptic", "captions", "classes", "pictures"]
"""What its annotations are; `pictures`: there are none, so that the file says nothing of its pictures."""

MARKS = ("annotations", "categories")
"""Keys beside `images`, one of which makes JSON a COCO file."""


class Category(NamedTuple):
    """A class, as a file numbers it."""

    name: str
    thing: bool
    """Of things that can be counted, and not of stuff such as sky."""
    points: tuple[str, ...] = ()
    """Names of the points that its objects have."""


@dataclass(frozen=True)
class Listed:
    """A picture that a file lists."""

    id: Id
    said: str
    """Its `file_name`."""
    size: tuple[int, int] | None
    """Width and height, where the file says them."""
    flaws: list[Flaw]
    """What is wrong with what the file says of it, beside single annotations."""


@dataclass(frozen=True)
class CocoFile:
    """What one file says."""

    name: str
    kind: Kind = "pictures"
    outlined: bool = False
    """Whether any of its annotations has an outline."""
    categories: dict[Id, Category] = field(default_factory=dict)
    listed: dict[Id, Listed] = field(default_factory=dict)
    annotations: dict[Id, list[tuple[str, dict[str, Any]]]] = field(default_factory=lambda: defaultdict(list))
    """Of each picture: where it stands, and the annotation."""
    flaws: list[Flaw] = field(default_factory=list)
    """What is wrong and belongs to none of its pictures."""


def is_coco(raw: Any) -> bool:
    """Whether JSON is a COCO file at all."""
    return isinstance(raw, dict) and isinstance(raw.get("images"), list) and not raw.keys().isdisjoint(MARKS)


def coco_file(name: str, raw: dict[str, Any]) -> CocoFile:
    """What a file says; nothing in it is trusted."""
    entries = raw.get("annotations", [])
    known = entries if isinstance(entries, list) else []
    kind, outlined = _kind(known)
    file = CocoFile(name, kind, outlined)
    if entries is not known:
        file.flaws.append(_unreadable(file, "", f"its annotations are {shown(entries)}; expected a list"))
    _read_categories(file, raw.get("categories"))
    _read_pictures(file, raw["images"])
    _read_annotations(file, known)
    return file


def used(files: Iterable[CocoFile]) -> set[str]:
    """The names of the classes that something is of."""
    ids = [(file, said) for file in files for entries in file.annotations.values() for _, said in entries]
    segments = [(file, one) for file, said in ids for one in listed_in(said, "segments_info")]
    found = [(file, identity(said.get("category_id"))) for file, said in ids + segments if isinstance(said, dict)]
    return {file.categories[key].name for file, key in found if key is not None and key in file.categories}


def listed_in(said: dict[str, Any], key: str) -> list[Any]:
    """A list within an entry; empty for anything else."""
    found = said.get(key)
    return found if isinstance(found, list) else []


def _kind(entries: list[Any]) -> tuple[Kind, bool]:
    """What most annotations are, and whether any has an outline."""
    found = [entry for entry in entries if isinstance(entry, dict)]
    if any("segments_info" in entry for entry in found):
        return "panoptic", False
    if any("bbox" in entry or "segmentation" in entry for entry in found):
        return "objects", any(entry.get("segmentation") for entry in found)
    if any("caption" in entry for entry in found):
        return "captions", False
    return ("classes" if entries else "pictures"), False


def _read_categories(file: CocoFile, entries: Any) -> None:
    names: set[str] = set()
    for place, entry in _entries(file, entries, "category", "categories"):
        key, name = identity(entry.get("id")), class_name(entry.get("name"))
        if key is None or name is None:
            what = f"the id {shown(entry.get('id'))} and the name {shown(entry.get('name'))}"
            file.flaws.append(_unreadable(file, place, f"it has {what}; expected a number and text"))
        elif key in file.categories:
            found = f"{name}: {file.categories[key].name} has that id too"
            file.flaws.append(Flaw(FlawKind.DUPLICATE, file.name, place, found))
        else:
            if name in names:
                found = f"a second class is named {name}; they are taken for one"
                file.flaws.append(Flaw(FlawKind.DUPLICATE, file.name, place, found))
            names.add(name)
            counted = number(entry.get("isthing", 1)) != 0
            file.categories[key] = Category(name, counted, names_of(entry.get("keypoints")))


def _read_pictures(file: CocoFile, entries: Any) -> None:
    for place, entry in _entries(file, entries, "image", "images"):
        key, said = identity(entry.get("id")), _said(entry)
        if key is None or not isinstance(said, str) or not said.strip():
            what = f"the id {shown(entry.get('id'))} and the file_name {shown(said)}"
            file.flaws.append(_unreadable(file, place, f"it has {what}; expected a number and text"))
        elif key in file.listed:
            found = f"{shown(said)}: the id is that of {shown(file.listed[key].said)} too"
            file.listed[key].flaws.append(Flaw(FlawKind.DUPLICATE, file.name, place, found))
        else:
            sides = [entry.get("width"), entry.get("height")]
            width, height = map(whole, sides)
            flaws = []
            if (width is None or height is None) and sides != [None, None]:
                found = f"its width and height are {shown(sides[0])} and {shown(sides[1])}; expected whole numbers"
                flaws.append(_unreadable(file, place, found))
            size = None if width is None or height is None else (width, height)
            file.listed[key] = Listed(key, said, size, flaws)


def _said(entry: dict[str, Any]) -> Any:
    """The `file_name`; where there is none, as in LVIS, folder and name at the end of `coco_url`."""
    url = entry.get("coco_url")
    if "file_name" in entry or not isinstance(url, str):
        return entry.get("file_name")
    return "/".join(url.split("/")[-2:])


def _read_annotations(file: CocoFile, entries: list[Any]) -> None:
    ids: set[Id] = set()
    for place, entry in _entries(file, entries, "annotation", "annotations"):
        key, image = identity(entry.get("id")), identity(entry.get("image_id"))
        listed = None if image is None else file.listed.get(image)
        if image is None:
            found = f"its image_id is {shown(entry.get('image_id'))}; expected the id of a picture"
            file.flaws.append(_unreadable(file, place, found))
        elif listed is None:
            found = f"it is of the picture {shown(image)}, which is not listed"
            file.flaws.append(Flaw(FlawKind.NO_PICTURE, file.name, place, found))
        elif file.kind != "panoptic" and key is not None and key in ids:
            listed.flaws.append(Flaw(FlawKind.DUPLICATE, file.name, place, "another annotation has that id"))
        else:
            file.annotations[image].append((place, entry))
            if key is not None:
                ids.add(key)


def _entries(file: CocoFile, entries: Any, one: str, many: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of a list that are JSON objects, each with its place as a person finds it."""
    if not isinstance(entries, list):
        file.flaws.append(_unreadable(file, "", f"its {many} are {shown(entries)}; expected a list"))
        return
    for position, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            found = f"{shown(entry)}; expected an object with keys"
            file.flaws.append(_unreadable(file, f"{one} at position {position}", found))
            continue
        key = identity(entry.get("id"))
        place = f"{one} at position {position}" if key is None else f"{one} {shown(key)}"
        if isinstance(entry, Twice) and one != "annotation":  # of an annotation, its picture gets to know it
            file.flaws.append(_unreadable(file, place, f"the key {shown(entry.key)} stands twice"))
        else:
            yield place, entry


def _unreadable(file: CocoFile, place: str, found: str) -> Flaw:
    return Flaw(FlawKind.UNREADABLE, file.name, place, found)
