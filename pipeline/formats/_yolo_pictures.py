"""YOLO's label files, and the picture that each is of: beside it, or in a folder that mirrors its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import LeftOut
from pipeline.formats._files import Listing
from pipeline.formats._names import IMAGES, parent, stem
from pipeline.formats._values import shown
from pipeline.formats._yolo_rows import Survey, survey

MAX_BYTES = 16_000_000
"""Of a label file."""
NO_ROWS = "text without rows of a class and a box, and no picture has its name"
LABELS = ("labels", "annotations", "label", "txt")
"""Folders of label files, in lower case; pictures are then expected in `images`."""


@dataclass(frozen=True)
class Label:
    """One label file."""

    data: bytes
    """Kept as it is, which is short; it is understood when its picture comes."""
    survey: Survey
    picture: str | None
    expected: bool
    """Whether the picture lies where YOLO has it."""
    flaws: list[Flaw] = field(default_factory=list)
    """Of the file as a whole."""


def label_files(listing: Listing, taken: Collection[str], keypoints: int) -> tuple[dict[str, Label], dict[str, str]]:
    """The label files among the text files, and why others are none."""
    labels: dict[str, Label] = {}
    reasons: dict[str, str] = {}
    pictures = pools(listing)
    texts = [name for name in listing.with_suffix("txt") if name not in taken]
    large = {name for name in texts if listing.sizes[name] > MAX_BYTES}
    reasons.update({name: f"{listing.sizes[name]:,} bytes; a label file has at most {MAX_BYTES:,}" for name in large})
    for item in listing.contents(set(texts) - large):
        if isinstance(item, LeftOut):
            reasons[item.name] = item.reason
            continue
        name, data = item
        label = Label(data, survey(data, keypoints), *picture_of(listing, name, pictures))
        if label.picture is None and not label.survey.numeric:
            reasons[name] = NO_ROWS
        else:
            labels[name] = label
    homes = {parent(name) for name in labels}
    for name in [name for name, why in reasons.items() if why is NO_ROWS and parent(name) in homes]:
        if not listing.sizes[name]:  # one of a picture without objects, and the picture has gone
            labels[name] = Label(b"", survey(b"", 0), None, False)
            del reasons[name]
    return dict(sorted(labels.items())), reasons


def assign(labels: Mapping[str, Label]) -> tuple[dict[str, str], list[Flaw]]:
    """The label file of each picture, and the flaws of those that have none."""
    found: dict[str, str] = {}
    flaws: list[Flaw] = []
    for name, label in labels.items():
        if label.picture is None:
            told = f"no picture, or more than one, is named {shown(stem(name))}"
            flaws.append(Flaw(FlawKind.NO_PICTURE, name, "", told))
        elif (first := found.setdefault(label.picture, name)) != name:
            told = f"{first} says of {label.picture} already"
            labels[first].flaws.append(Flaw(FlawKind.DUPLICATE, name, "", told))
        elif not label.expected:
            label.flaws.append(misplaced(name, label.picture))
    return found, flaws


def pools(listing: Listing) -> list[frozenset[str]]:
    """The pictures of a source, in sets that are searched one after the other."""
    known = {images.lower() for images in IMAGES}
    named = {name for name in listing.pictures if not known.isdisjoint(parent(name).lower().split("/"))}
    return [frozenset(named), listing.pictures, listing.pictures_outside]


def picture_of(listing: Listing, label: str, pictures: Iterable[Collection[str]]) -> tuple[str | None, bool]:
    """The picture of a label file, and whether it lies where YOLO expects it."""
    home, name = parent(label), stem(label)
    place = _expected(home, name)
    for expected in (f"{home}/{name}".removeprefix("/"), place):
        if found := listing.at(expected, listing.pictures):
            return found, True
    for pool in pictures:
        if found := listing.closest(place, pool):
            return found, _mirrors(home, parent(found))
    return None, False


def misplaced(label: str, picture: str) -> Flaw:
    """The flaw of a picture that had to be looked for."""
    expected = _expected(parent(label), stem(label))
    return Flaw(FlawKind.FOREIGN_PATH, label, "", f"its picture was expected as {expected}, and found as {picture}")


def _mirrors(labels: str, pictures: str) -> bool:
    """Whether two folders differ in one part: `labels/train` and `images/train`, `train/labels` and `train/images`."""
    first, second = labels.lower().split("/"), pictures.lower().split("/")
    return len(first) == len(second) and sum(one != other for one, other in zip(first, second, strict=True)) == 1


def _expected(home: str, name: str) -> str:
    """Where the picture of a label should be, without suffix."""
    parts = home.split("/") if home else []
    for place in reversed(range(len(parts))):
        if parts[place].lower() in LABELS:
            parts[place] = "images"
            break
    return "/".join([*parts, name])
