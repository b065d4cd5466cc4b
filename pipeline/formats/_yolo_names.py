"""What goes with YOLO label files: the names of the classes, and which folders and lists make the splits.

data.yaml            names: [cat, dog]   train: images/train   val: ../valid/images   test: test.txt
obj.names, classes.txt                   one name a line
obj.data             train = data/train.txt   valid = data/valid.txt   names = data/obj.names
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import LeftOut
from pipeline.errors import UserError
from pipeline.formats._files import Listing
from pipeline.formats._metadata import SPLIT_NAMES
from pipeline.formats._names import base, folder, folder_splits, parent, resolved, suffix
from pipeline.formats._said import class_lists
from pipeline.formats._values import class_name, number_in, shown, whole
from pipeline.formats._yaml import MAX_BYTES, parsed
from pipeline.formats._yolo_rows import Classes

MAX_LIST = 100_000_000
"""Bytes of a list of pictures."""
MAX_SAID = 100
"""Folders and lists of one split."""
MAX_FILES = 100
"""Files of settings that are looked into."""
LISTS = ("classes.txt", "obj.names", "_darknet.labels")


@dataclass
class Config:
    """What the files beside the labels say."""

    classes: Classes = field(default_factory=lambda: Classes("", {}))
    read: set[str] = field(default_factory=set)
    flaws: list[Flaw] = field(default_factory=list)
    said: list[tuple[str, str, str]] = field(default_factory=list)
    """Folders and lists of pictures: the split, what is said, and the file that says it."""


def config(listing: Listing) -> Config:
    """Read them.

    Raises:
        UserError: several files name different classes.
    """
    found = Config()
    named: dict[str, Classes] = {}
    for name, raw in _settings(listing, found):
        for key, value in raw.items():
            if split := SPLIT_NAMES.get(key.lower()):
                said = value[:MAX_SAID] if isinstance(value, list) else [value]
                found.said += [(split, one, name) for one in said if isinstance(one, str) and one]
        if raw.get("names") and (classes := _classes(name, raw, found.flaws)):
            named[name] = classes
    lists = [name for name in listing.names if base(name) in LISTS or suffix(name) == "names"]
    for name, told in class_lists(listing, lists[:MAX_FILES]).items():
        found.read.add(name)
        if isinstance(told, Flaw):
            found.flaws.append(told)
        elif not any(suffix(other) in ("yaml", "yml") for other in named):  # these say more
            named[name] = Classes(name, told.by_value)
    if named:
        found.classes = _the_one(listing.source.shown, named)
    return found


def _settings(listing: Listing, found: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files that tell of classes or splits under keys, each with what it says."""
    names = [name for name in listing.with_suffix("yaml", "yml", "data") if listing.sizes[name] <= MAX_BYTES]
    for item in listing.contents(names[:MAX_FILES]):
        if isinstance(item, LeftOut):
            continue  # it cannot be read, and says nothing
        name, data = item
        try:
            raw = _pairs(data) if suffix(name) == "data" else parsed(data)
        except ValueError as error:
            found.read.add(name)
            found.flaws.append(Flaw(FlawKind.UNREADABLE, name, "", str(error)))
            continue
        if isinstance(raw, dict) and not {"names", *SPLIT_NAMES}.isdisjoint(raw):
            found.read.add(name)
            yield name, raw


def _pairs(data: bytes) -> dict[str, Any]:
    """`key = value`, as in darknet's obj.data; its `names` leads to a file, which is found by itself."""
    lines = [line.partition("=") for line in data.decode("utf-8-sig", "replace").splitlines()]
    return {key.strip(): value.strip() for key, equals, value in lines if equals and key.strip() != "names"}


def _classes(file: str, raw: Mapping[str, Any], flaws: list[Flaw]) -> Classes | None:
    """The classes under `names`, a list or a mapping from numbers; None where a path stands there."""
    said = raw["names"]
    if not isinstance(said, list | dict):
        return None
    names: dict[int, str] = {}
    seen: set[str] = set()
    for key, value in said.items() if isinstance(said, dict) else enumerate(said):
        number, name = key if isinstance(key, int) else whole(number_in(key)), class_name(value)
        if number is None or name is None:
            found = f"{shown(key)}: {shown(value)}; expected a number and the name of a class"
            flaws.append(Flaw(FlawKind.UNREADABLE, file, "names", found))
            continue
        if name in seen:
            found = f"a second class is named {name}; they are taken for one"
            flaws.append(Flaw(FlawKind.DUPLICATE, file, f"names {number}", found))
        names[number] = name
        seen.add(name)
    shape = raw.get("kpt_shape")
    sides = [whole(number_in(side)) or 0 for side in shape if isinstance(side, str)] if isinstance(shape, list) else []
    return Classes(file, names, max(0, sides[0] * sides[1]) if len(sides) == 2 else 0)


def _the_one(path: str, named: Mapping[str, Classes]) -> Classes:
    first = named[min(named, key=lambda name: (name.count("/"), name))]
    if any(other.names != first.names for other in named.values()):
        raise UserError(
            f"{path}: {len(named)} files name different classes: {', '.join(sorted(named)[:8])}. Set data.inside to "
            "the folder of one data set, or take out those that do not belong to it."
        )
    return first


def splits(
    listing: Listing, found: Config, pictures: Collection[str]
) -> tuple[dict[str, str | None], list[tuple[str | None, Flaw]]]:
    """The split of each picture: by a list, else by the folder that a file names, else by the name of its folder.

    Returns:
        The splits, and what is wrong in lists, each with the picture that it is about, if there is one.
    """
    by_folder = folder_splits(pictures)
    homes = {parent(name) for name in pictures}
    by_home: dict[str, str] = {}
    by_list: dict[str, str] = {}
    flaws: list[tuple[str | None, Flaw]] = []
    texts = set(listing.with_suffix("txt"))
    for split, said, file in found.said:
        if suffix(said) == "txt":
            name = listing.find(said, file, texts).name
            if name:
                found.read.add(name)
                flaws += _listed(listing, name, split, set(pictures), by_list)
            continue
        for home in _meant(said, homes):
            by_home.setdefault(home, split)
    return {name: by_list.get(name) or by_home.get(parent(name)) or by_folder[name] for name in pictures}, flaws


def _listed(
    listing: Listing, file: str, split: str, pictures: Collection[str], by_list: dict[str, str]
) -> Iterator[tuple[str | None, Flaw]]:
    """Note the split of the pictures that a list names."""
    lines = listing.text(file).decode("utf-8-sig", "replace").splitlines() if listing.sizes[file] < MAX_LIST else []
    for number, line in enumerate(lines, start=1):
        if not (said := line.strip()):
            continue
        match = listing.find(said, file, pictures)
        if match.name is None:
            found = f"no picture, or more than one, is {shown(said)}"
            yield None, Flaw(FlawKind.NO_PICTURE, file, f"line {number}", found)
            continue
        if by_list.setdefault(match.name, split) != split:
            found = f"{match.name} is in the list of {by_list[match.name]} too, and is taken for that"
            yield match.name, Flaw(FlawKind.DUPLICATE, file, f"line {number}", found)
        if resolved("", said) is None and not match.exact:
            found = f"{shown(said)} was found as {match.name}"
            yield match.name, Flaw(FlawKind.FOREIGN_PATH, file, f"line {number}", found)


def _meant(said: str, homes: Iterable[str]) -> list[str]:
    """The folders of pictures that a file means, by as much of the end of what it says as one of them holds.

    Two parts or more, if it says that many: `../valid/images` is not every folder of the name `images`.
    """
    parts = [part for part in folder(said).split("/") if part not in ("", "..")]
    for start in range(max(1, len(parts) - 1)):
        tail = "/".join(parts[start:])
        if tail and (meant := [home for home in homes if f"/{tail}/" in f"/{home}/"]):
            return sorted(meant)
    return []
