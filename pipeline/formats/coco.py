"""COCO JSON: objects with boxes, polygons or run lengths, keypoint files, and panoptic masks.

    annotations/instances_train2017.json   train2017/000000000009.jpg    COCO's own layout, for each split
    annotations/panoptic_val2017.json      annotations/panoptic_val2017/000000000139.png  val2017/000000000139.jpg
    train/_annotations.coco.json           train/a.jpg                   Roboflow's
    annotations.json                       images/a.jpg                  one file for all

Every JSON file that holds `images` beside `annotations` or `categories` is read. Its name, or else its folder, says the
split, where files of several are read; else the folders of the pictures do. A picture that a file lists is one without
objects if no annotation names it; a file without any annotation says nothing. Where `file_name` is missing, as in
LVIS, `coco_url` names the picture. The boxes of a file of keypoints are its objects; of a picture with several whose
points are known, the points are those of the largest.

Objects are told apart pixel by pixel in files that have outlines, and in panoptic masks, where things are objects and
stuff is none. The mask of a picture is drawn where each of its annotations has an outline, crowds included, in the
order of the file; a panoptic mask is painted, and black is void. Files of captions or of classes alone are left out.

Source: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import ClassVar

from pydantic import Field

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.errors import UserError, did_you_mean
from pipeline.formats._coco_file import CocoFile, Kind, coco_file, is_coco, used
from pipeline.formats._coco_pictures import assign, mask_folders, unused_masks
from pipeline.formats._files import Listing, base, parsed
from pipeline.formats._names import below, parent
from pipeline.formats._said import deliver, heads, sample_lines
from pipeline.formats._values import shown
from pipeline.source import open_source

OTHER: Mapping[Kind, str] = {
    "captions": "captions, which no task learns from",
    "classes": "classes of whole pictures, without boxes",
}
SUITS = re.compile(rb'"images"\s*:\s*\[')
MARKS = re.compile(rb'"(annotations|categories|licenses|file_name)"\s*:')
FAMILIES = ("instances", "person_keypoints", "panoptic", "stuff", "captions", "image_info", "labels")
"""What COCO's own files begin with, the most useful first: they say different things of the same pictures."""


class Config(FormatConfig):
    """Options of a source with COCO files."""

    gives: ClassVar[frozenset[Target]] = frozenset({Target.OBJECTS, Target.INSTANCES, Target.MASK, Target.POINTS})

    path: str = Field(min_length=1)
    """A folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets; pictures may lie outside of it."""
    annotations: str = ""
    """The JSON files to read, by name or pattern: `instances_*.json`; empty: every one, if they fit together."""

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """By the first keys of its JSON files."""
        for name, head in heads(names, peek, "json"):
            if SUITS.search(head) and MARKS.search(head):
                families = [one for one in FAMILIES if any(base(other).startswith(f"{one}_") for other in names)]
                options = {"annotations": f"{families[0]}_*.json"} if len(families) > 1 else {}
                return Recognised(3, f"{name} holds a list of images, and annotations or categories", options)
        return None

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each file, or of the archive."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """Name, size and time of each picture; another annotation makes none new."""
        for line in sample_lines(self.path, self.inside):
            if not base(parent(line.split("\t")[0])).startswith("panoptic"):
                yield line

    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Every file of the source once, and what is wrong with its annotations."""
        listing = Listing.of(self.path, self.inside)
        files, flaws, reasons = self._files(listing)
        yield from flaws
        for file in files:
            yield from file.flaws
        yield from _empty_classes(files)
        said, missing = assign(listing, files)
        yield from missing
        reasons.update(unused_masks(listing, mask_folders(listing, files)))
        read = {*(file.name for file in files), *(flaw.source for flaw in flaws)}
        yield from deliver(listing, said, read, {name: why for name, why in reasons.items() if name not in said})

    def _files(self, listing: Listing) -> tuple[list[CocoFile], list[Flaw], dict[str, str]]:
        """The COCO files that are chosen, those that cannot be read, and why others are left out.

        Raises:
            UserError: there is none.
        """
        files: list[CocoFile] = []
        flaws: list[Flaw] = []
        reasons: dict[str, str] = {}
        every = listing.with_suffix("json")
        chosen = {name for name in every if self._chosen(name, listing.inside)}
        if self.annotations and not chosen:
            near = did_you_mean(self.annotations, map(base, every)) or f" It has: {', '.join(every[:8]) or 'none'}."
            raise UserError(f"data.annotations: {listing.source.shown} has no JSON file {self.annotations!r}.{near}")
        reasons.update(dict.fromkeys(set(every) - chosen, f"not among data.annotations ({self.annotations})"))
        for item in listing.texts(chosen):
            if isinstance(item, LeftOut):
                reasons[item.name] = item.reason
                continue
            try:
                raw = parsed(item[1], item[0])
            except UserError as error:
                flaws.append(Flaw(FlawKind.UNREADABLE, item[0], "", str(error).removeprefix(f"{item[0]} ")))
                continue
            if not is_coco(raw):
                reasons[item[0]] = "JSON without a list of images beside annotations or categories"
                continue
            file = coco_file(item[0], raw)
            if file.kind in OTHER:
                reasons[item[0]] = OTHER[file.kind]
            else:
                files.append(file)
        if not files:
            why = [f"{flaw.source} {flaw.found}" for flaw in flaws]
            why += [f"{name}: {reasons[name]}." for name in sorted(chosen & reasons.keys())]
            expected = "Expected JSON with images, annotations and categories."
            raise UserError(f"{listing.source.shown}: no COCO file was found. {expected} {' '.join(why[:3])}".rstrip())
        return sorted(files, key=lambda file: file.name), flaws, reasons

    def _chosen(self, name: str, inside: str) -> bool:
        within = name.removeprefix(f"{inside}/") if below(name, inside) else name
        wanted = self.annotations
        return not wanted or any(fnmatchcase(one, wanted) for one in (base(name), within, name))


def _empty_classes(files: Sequence[CocoFile]) -> Iterator[Flaw]:
    """A class that is nowhere: Roboflow lists its groups of classes among them."""
    told = [file for file in files if file.kind != "pictures"]
    present = used(told)
    for file in told:
        for key, category in file.categories.items():
            if category.name not in present:
                present.add(category.name)  # told once, though every split lists it
                found = f"{category.name}: nothing is of that class"
                yield Flaw(FlawKind.EMPTY_CLASS, file.name, f"category {shown(key)}", found)
