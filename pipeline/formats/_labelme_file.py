"""One labelme file, understood, and the picture that it is of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.annotations import Drawn, Flaw, FlawKind, Objects
from pipeline.contracts import Target
from pipeline.errors import UserError
from pipeline.formats._files import Listing, parsed
from pipeline.formats._labelme_shapes import AREALESS, IGNORED, decoded, things
from pipeline.formats._names import parent, stem
from pipeline.formats._said import Story
from pipeline.formats._values import Twice, class_name, shown, whole

PICTURE_BYTES = 256_000_000
"""Of a picture within a file."""


@dataclass(frozen=True)
class LabelmeFile:
    """What one file says."""

    name: str
    objects: Objects | None = None
    """None where the file cannot be read."""
    label: str | None = None
    """The one flag that is set, where there are no shapes."""
    said: str = ""
    """Its imagePath."""
    embedded: bool = False
    """Whether the picture is in the file."""
    drawn: bool = False
    """Whether a shape of it is more than a box."""
    flaws: list[Flaw] = field(default_factory=list)

    def tell(self, shaped: bool, drawn: bool, masks: Mapping[str, bytes]) -> Story:
        """The annotation and its flaws.

        Args:
            shaped: whether there are objects in the source, so that a picture without shapes is one without objects.
            drawn: whether there are outlines in the source, and so masks.
            masks: none.

        The pixels of a shape `__ignore__`, which is of no class, are void.
        """
        told: dict[Target, Any] = {}
        if self.label:
            told[Target.LABEL] = self.label
        if self.objects and shaped:
            told[Target.OBJECTS] = self.objects
            if drawn:
                told[Target.INSTANCES] = self.objects
        left_out = any(flaw.kind is FlawKind.UNREADABLE for flaw in self.flaws)
        if self.objects and drawn and not left_out:
            told[Target.MASK] = Drawn(self.objects, void=frozenset({IGNORED}))
        return told, self.flaws


def labelme_file(name: str, data: bytes) -> LabelmeFile | None:
    """Read one file; None if it is JSON of another kind."""
    try:
        raw = parsed(data, name)
    except UserError as error:
        found = str(error).removeprefix(f"{name} ")
        return LabelmeFile(name, flaws=[Flaw(FlawKind.UNREADABLE, name, "", found)])
    if not isinstance(raw, dict) or not isinstance(raw.get("shapes"), list):
        return None
    flaws: list[Flaw] = []
    size = _size(name, raw, flaws)
    found_things, more = things(name, raw["shapes"], size)
    path = raw.get("imagePath")
    return LabelmeFile(
        name,
        Objects(tuple(found_things), name, said_size=size),
        None if raw["shapes"] else _flag(raw.get("flags")),
        path if isinstance(path, str) else "",
        isinstance(raw.get("imageData"), str) and bool(raw["imageData"]),
        not all(isinstance(one, dict) and one.get("shape_type") in ("rectangle", *AREALESS) for one in raw["shapes"]),
        [*flaws, *more],
    )


def picture_in(data: bytes) -> bytes:
    """The picture within a file; what is none stays as it is, for the decoder to say so."""
    text = json.loads(data).get("imageData")
    try:
        return decoded(text, PICTURE_BYTES)
    except ValueError:
        return str(text).encode("utf-8", "replace")


def assign(listing: Listing, files: Iterable[LabelmeFile]) -> tuple[dict[str, LabelmeFile], list[Flaw]]:
    """The file of each picture, and the flaws of those that have none. A picture within a file has its name."""
    found: dict[str, LabelmeFile] = {}
    flaws: list[Flaw] = []
    for file in files:
        picture = _picture(listing, file)
        if picture is None:
            told = f"no picture, or more than one, is {shown(file.said or stem(file.name))}"
            flaws += [Flaw(FlawKind.NO_PICTURE, file.name, "imagePath", told)] if file.objects else []
            flaws += file.flaws
        elif (first := found.setdefault(picture, file)) is not file:
            told = f"{first.name} says of {picture} already"
            first.flaws.append(Flaw(FlawKind.DUPLICATE, file.name, "", told))
    return found, flaws


def _picture(listing: Listing, file: LabelmeFile) -> str | None:
    """Where the file says, or by the end of that, or beside the file by its name, or in it."""
    match = listing.find(file.said, file.name)
    beside = f"{parent(file.name)}/{stem(file.name)}".removeprefix("/")
    picture = match.name or listing.at(beside, listing.pictures)
    if picture is None:
        outside = listing.find(file.said, file.name, listing.pictures_outside)
        picture = file.name if file.embedded and not outside.exact else outside.name
    if picture and file.objects and not match.exact and picture != file.name:
        told = f"{shown(file.said)} was found as {picture}"
        file.flaws.append(Flaw(FlawKind.FOREIGN_PATH, file.name, "imagePath", told))
    return picture


def _size(name: str, raw: Mapping[str, Any], flaws: list[Flaw]) -> tuple[int, int] | None:
    """Width and height, where the file says them."""
    said = raw.get("imageWidth"), raw.get("imageHeight")
    width, height = map(whole, said)
    if width is not None and height is not None:
        return width, height
    if said != (None, None):
        told = f"imageWidth and imageHeight are {shown(said[0])} and {shown(said[1])}; expected whole numbers"
        flaws.append(Flaw(FlawKind.UNREADABLE, name, "", told))
    return None


def _flag(flags: Any) -> str | None:
    """The one flag that is set."""
    if not isinstance(flags, dict) or isinstance(flags, Twice):
        return None
    names = [name for name, value in flags.items() if value is True and name != IGNORED]
    return class_name(names[0]) if len(names) == 1 and flags.get(IGNORED) is not True else None
