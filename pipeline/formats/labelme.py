"""labelme JSON: a file of shapes beside each picture, or with the picture in it.

    a.json  a.jpg            imagePath: a.jpg
    labels/a.json            imagePath: ..\\images\\a.jpg
    a.json                   imageData: the picture in base64, which is used where the file is missing

Polygons, rectangles, circles (as polygons of 64 corners) and masks are objects with an outline; shapes of one class
and one group_id are one object. Points and lines have no area. A file without shapes says that there is nothing in
its picture, in a source that has shapes. One that draws more than rectangles tells objects apart pixel by pixel; there
the mask of a picture is drawn where no shape is left out. A shape `__ignore__` is a crowd of no class, whose pixels are
void. A file without shapes in which just one flag is set says the class of its picture.

Source: https://github.com/wkentaro/labelme
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar

from pydantic import Field

from pipeline.annotations import Flaw
from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.errors import UserError
from pipeline.formats._files import Listing
from pipeline.formats._labelme_file import LabelmeFile, assign, labelme_file, picture_in
from pipeline.formats._names import folder_splits
from pipeline.formats._said import Said, deliver, heads, sample_lines
from pipeline.source import open_source

SHAPES = re.compile(rb'"shapes"\s*:\s*\[')
OTHERS = re.compile(rb'"(version|flags|imagePath|imageData)"\s*:')


class Config(FormatConfig):
    """Options of a source with labelme files."""

    gives: ClassVar[frozenset[Target]] = frozenset({Target.LABEL, Target.OBJECTS, Target.INSTANCES, Target.MASK})

    path: str = Field(min_length=1)
    """A folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets; pictures may lie outside of it."""

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """By the first keys of its JSON files."""
        for name, head in heads(names, peek, "json"):
            if SHAPES.search(head) and OTHERS.search(head):
                return Recognised(3, f"{name} holds a list of shapes, as labelme writes it")
        return None

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each file, or of the archive."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """Name, size and time of each picture and its file of shapes."""
        yield from sample_lines(self.path, self.inside, "json")

    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Every file of the source once, and what is wrong with its annotations."""
        listing = Listing.of(self.path, self.inside)
        files: list[LabelmeFile] = []
        reasons: dict[str, str] = {}
        for item in listing.texts(listing.with_suffix("json")):
            if isinstance(item, LeftOut):
                reasons[item.name] = item.reason
            elif (file := labelme_file(*item)) is None:
                reasons[item[0]] = "JSON without a list of shapes"
            else:
                files.append(file)
        if not any(file.objects for file in files):
            why = f" {files[0].name} {files[0].flaws[0].found}" if files else ""
            expected = "Expected JSON with shapes and an imagePath."
            raise UserError(f"{listing.source.shown}: no file of labelme was found. {expected}{why}")
        shaped = any(file.objects and file.objects.things for file in files)
        drawn = any(file.drawn for file in files)
        pictures, flaws = assign(listing, sorted(files, key=lambda file: file.name))
        yield from flaws
        splits = folder_splits(pictures)
        said = {
            name: Said(partial(file.tell, shaped, drawn), splits[name], (), picture_in if name == file.name else bytes)
            for name, file in pictures.items()
        }
        yield from deliver(listing, said, {file.name for file in files}, reasons)
