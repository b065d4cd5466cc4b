"""The picture that an annotation or a mask of Pascal VOC is of, and what these say of it together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import Target
from pipeline.formats._files import Listing
from pipeline.formats._names import IMAGES, PICTURES, base, below, ends_with, parent, resolved, stem, suffix
from pipeline.formats._said import Story
from pipeline.formats._values import shown
from pipeline.formats._voc_annotation import Annotation
from pipeline.formats._voc_classes import Classes, unknown


class Places:
    """The pictures of a source, looked up by the name of the file that says something of them."""

    def __init__(self, listing: Listing, masks: Collection[str]) -> None:
        """Of a source; `masks` are pictures that are none of the data."""
        self._listing = listing
        self._inside = listing.pictures - set(masks)

    def of(self, file: str) -> str | None:
        """The picture with the name of a file: beside it, in a neighbouring folder, or the only one anywhere."""
        home, name = parent(file), stem(file)
        around = parent(home)
        for place in (home, *(f"{around}/{images}" for images in IMAGES)):
            if found := self._listing.at(f"{place}/{name}".removeprefix("/"), self._inside):
                return found
        expected = f"{around}/{IMAGES[0]}/{name}"
        pools = self._inside, self._listing.pictures_outside
        return next(filter(None, (self._listing.closest(expected, pool) for pool in pools)), None)

    def named(self, said: Annotation) -> str | None:
        """The picture that an annotation names, where none has its own name."""
        names = [name for name in (said.filename, said.path) if name]
        matches = [self._listing.find(name, said.file, self._inside).name for name in names]
        return next((match for match in matches if match), None)


def foreign(said: Annotation, picture: str, inside: str) -> Flaw | None:
    """The flaw of an annotation that leads elsewhere than to its picture, or that lies in no folder beside it."""
    home = parent(said.file)
    if said.path and not _leads(said.path, home, picture, inside):
        return Flaw(FlawKind.FOREIGN_PATH, said.file, "path", f"{shown(said.path)} was found as {picture}")
    told = base(said.filename.replace("\\", "/"))
    bare = suffix(told) not in PICTURES and told.lower() == stem(picture).lower()
    if told and not bare and told.lower() != base(picture).lower():
        found = f"{shown(said.filename)}; by the name of this file it is of {picture}"
        return Flaw(FlawKind.FOREIGN_PATH, said.file, "filename", found)
    if not below(picture, parent(home)):
        return Flaw(FlawKind.FOREIGN_PATH, said.file, "", f"its picture was found far away, as {picture}")
    return None


def _leads(path: str, home: str, picture: str, inside: str) -> bool:
    """Whether a path within the source leads to the picture."""
    places = {resolved(place, path) for place in (home, parent(home), inside, "")}
    return picture in places or (ends_with(picture, path) and ".." not in path)


@dataclass
class Gathered:
    """What files say of one picture."""

    annotation: Annotation | None = None
    mask: str | None = None
    pieces: str | None = None
    """The mask that tells objects apart."""
    flaws: list[Flaw] = field(default_factory=list)

    def tell(self, classes: Classes, masks: Mapping[str, bytes]) -> Story:
        """The annotation and its flaws, given the contents of the mask."""
        told: dict[Target, Any] = {}
        flaws = list(self.flaws)
        if self.annotation and self.annotation.objects:
            things = []
            for thing in self.annotation.objects.things:
                flaw = unknown(classes, self.annotation.file, thing.place, thing.name)
                flaws += [flaw] if flaw else []
                things += [] if flaw else [thing]
            told[Target.OBJECTS] = replace(self.annotation.objects, things=tuple(things))
        if self.mask and self.mask in masks and classes.values:
            told[Target.MASK] = classes.painted(self.mask, masks[self.mask])
            if self.pieces and self.pieces in masks:
                named = self.mask, masks[self.mask], self.pieces, masks[self.pieces]
                told[Target.INSTANCES] = classes.pieces(*named)
        elif self.mask:
            why = (
                "it cannot be read" if classes.values else "nobody can say what its pixels are: see the list of classes"
            )
            flaws.append(Flaw(FlawKind.UNREADABLE, self.mask, "", why))
        return told, flaws


def gather(
    listing: Listing, annotations: Sequence[Annotation], masks: Sequence[str], instances: Collection[str]
) -> tuple[dict[str, Gathered], list[Flaw]]:
    """What is said of each picture, and the flaws of what belongs to none.

    Args:
        listing: of the source.
        annotations: of its XML files.
        masks: of classes.
        instances: masks that tell objects apart.
    """
    places = Places(listing, {*masks, *instances})
    found: dict[str, Gathered] = defaultdict(Gathered)
    flaws: list[Flaw] = []
    for one in annotations:
        picture = places.of(one.file) or places.named(one)
        if picture is None:
            flaws += [_no_picture(one.file), *one.flaws]
        elif found[picture].annotation:
            found[picture].flaws.append(_duplicate(one.file, picture))
        else:
            found[picture].annotation = one
            flaw = foreign(one, picture, listing.inside)
            found[picture].flaws += [*one.flaws, *([flaw] if flaw else [])]
    for mask in masks:
        picture = places.of(mask)
        if picture is None:
            flaws.append(_no_picture(mask))
        elif found[picture].mask:
            found[picture].flaws.append(_duplicate(mask, picture))
        else:
            found[picture].mask = mask
    for mask in instances:
        picture = places.of(mask)
        if picture in found and found[picture].mask and not found[picture].pieces:
            found[picture].pieces = mask
    return dict(found), flaws


def _no_picture(file: str) -> Flaw:
    return Flaw(FlawKind.NO_PICTURE, file, "", f"no picture, or more than one, is named {shown(stem(file))}")


def _duplicate(file: str, picture: str) -> Flaw:
    return Flaw(FlawKind.DUPLICATE, file, "", f"another file says of {picture} already")
