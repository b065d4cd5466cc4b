"""Pictures that text files list, each with its mask or its class.

    train.txt   /SegNet/CamVid/train/1.png /SegNet/CamVid/trainannot/1.png      (CamVid as SegNet has it)
    val.txt     val/2.png valannot/2.png
    train.txt   n01440764/1.JPEG 0                                              (ImageNet)
    ages.txt    1.jpg 23                                                        (with `numbers: [age]`)
    all.txt     1.jpg cat                            2.jpg cat;dog

The name of a list is its split. Paths of another machine are mapped by their end, and each such picture has a flaw.
Classes are named as in `_class_files`, or by options; what the values of masks mean is said in `_mask_kinds`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.formats import _class_files, _list_files, _mask_kinds
from pipeline.formats._class_files import ClassName
from pipeline.formats._class_lists import Names
from pipeline.formats._files import PICTURES, Listing, clutter, parent, suffix
from pipeline.formats._label_sets import parted, separator
from pipeline.formats._list_files import Row, Said
from pipeline.formats._mask_look import Look, look
from pipeline.formats._names import splits
from pipeline.formats._numbers_of import numbers_of
from pipeline.formats._samples import joined, lines, lost
from pipeline.formats._values import class_said
from pipeline.source import open_source

TRIED = 20
"""Text files of a source that are looked into to recognise it."""
STRICTEST = {"test": 0, "val": 1, "train": 2, None: 3}
"""Of a picture in several lists the split that keeps it from being learnt counts."""


class Config(FormatConfig):
    """Options of lists of pictures."""

    gives: ClassVar[frozenset[Target]] = frozenset({Target.MASK, Target.LABEL, Target.LABELS, Target.NUMBERS})

    path: str = Field(min_length=1)
    """A folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets."""
    lists: tuple[str, ...] = ()
    """The text files within it that are lists; empty: found out by what they hold."""
    classes: dict[int, ClassName] | tuple[ClassName, ...] = ()
    """Names of mask values or class numbers, `{0: sky, 1: road}` or in order; empty: from a file of the source."""
    numbers: tuple[str, ...] = ()
    """Names of the numbers that stand after each picture, in their order, `[age]`; empty: there stands a class."""
    separator: str = ""
    """Between several classes of one picture; empty: `;`, `|` or `,`, the first of these that some line holds."""
    void: tuple[int, ...] | None = None
    """Values that say nothing of a pixel; empty: 255, unless it has a class. CamVid's is 11."""

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """By the first lines of its text files."""
        bases = _list_files.bases([name for name in names if suffix(name) in PICTURES])
        texts = [name for name in names if suffix(name) in _list_files.SUFFIXES and not clutter(name)]
        texts = [name for name in texts if "/imagesets/" not in f"/{name.lower()}"]
        for name in sorted(texts, key=lambda name: (name.count("/"), name))[:TRIED] if bases else ():
            found = list(_list_files.rows(peek(name).decode("utf-8-sig", "replace"), name))
            if _list_files.is_list(found, bases):
                row = next(row for row in found if isinstance(row, Row))
                return Recognised(3 if row.masked else 2, f"{name} lists {row.picture} with {row.second}")
        return None

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each file, or of the archive."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """Name, size and time of each picture, and of its mask or class."""
        listing = Listing.of(self.path, self.inside)
        said, _ = _list_files.resolve(listing, _list_files.read(listing, self.lists, bool(self.numbers))[0])
        parts = {name: tuple(of.masks) for name, of in said.items()}
        yield from lines(listing, parts, {name: sorted(of.labels) for name, of in said.items()})

    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Every picture with what the lists say of it."""
        listing = Listing.of(self.path, self.inside)
        found, left_out = _list_files.read(listing, self.lists, bool(self.numbers))
        said, flaws = _list_files.resolve(listing, found)
        masks = sorted({mask for of in said.values() for mask in of.masks})
        near = masks[0] if masks else found[0][0]
        named, odd = (Names(), []) if self.classes else _class_files.find(listing, str(near))
        yield from listing.left_out
        yield from flaws
        yield from odd
        read = {row.file if isinstance(row, Row) else row.source for row in found}
        read |= {named.file, *(flaw.source for flaw in odd), *masks}
        yield from (item for item in left_out if item.name not in read)
        read |= {item.name for item in left_out}
        homes = {parent(mask) for mask in masks} - {parent(picture) for picture in said}
        unsaid = {}
        for name in listing.names:
            if name in read or name in said:
                continue
            if name not in listing.pictures:
                yield LeftOut(name, "by its suffix no picture")
            elif parent(name) in homes:
                yield LeftOut(name, "it lies among the masks, and no list names it")
            else:
                unsaid[name] = Said()
        seen = look(listing, masks) if masks else Look()
        labels: set[str] = set()
        for item in self._samples(listing, {**said, **unsaid}, named, seen):
            if isinstance(item, Found):
                labels |= {item.annotation.get(Target.LABEL, ""), *item.annotation.get(Target.LABELS, ())}
            yield item
        if labels - {""}:
            yield from _class_files.empty(named.by_value.values(), labels, named.file)

    def _samples(
        self, listing: Listing, said: Mapping[str, Said], named: Names, seen: Look
    ) -> Iterator[Found | LeftOut]:
        meaning = _mask_kinds.meaning(seen, named, self.classes, self.void)
        classes = _numbered(self.classes) or named.by_value
        whole = classes.values()  # a class may hold what stands between others
        between = separator((text for of in said.values() for text in of.labels if text not in whole), self.separator)
        by_list = splits({file for of in said.values() for file in of.files})
        for item in joined(listing, {name: tuple(of.masks) for name, of in said.items()}):
            if isinstance(item, LeftOut):
                yield item
                continue
            of = said[item.name]
            flaws = [*of.flaws, *lost(item, tuple(of.masks)), *_several(of, by_list)]
            painted = [
                meaning.painted([mask], [data])
                for mask, data in zip(of.masks, item.parts, strict=True)
                if data is not None
            ]
            labels: list[str] = []
            members: set[str] = set()
            numbers: list[dict[str, float]] = []
            for text, place in of.labels.items():
                if self.numbers:
                    measured, flaw = _measured(text, self.numbers, place)
                    numbers += [] if measured is None else [measured]
                    flaws += [] if flaw is None else [flaw]
                    continue
                several = parted(text, between) if between and text not in whole else {text}
                known = [_label(one, classes, place) for one in sorted(several)]
                found = [label for label, _ in known if label is not None]
                members |= set(found)
                labels += found if len(several) == 1 else [] if classes else [text]
                flaws += [flaw for _, flaw in known if flaw is not None]
            # those who contradict each other come apart
            for count in range(max(1, len(painted), len(labels), len(numbers))):
                annotation: dict[Target, Any] = {}
                if painted:
                    annotation[Target.MASK] = painted[min(count, len(painted) - 1)]
                if labels:
                    annotation[Target.LABEL] = labels[min(count, len(labels) - 1)]
                if numbers:
                    annotation[Target.NUMBERS] = numbers[min(count, len(numbers) - 1)]
                if between and members:
                    annotation[Target.LABELS] = frozenset(members)
                split = min((by_list[file] for file in of.files), key=STRICTEST.__getitem__, default=None)
                yield Found(item.name, item.data, annotation, split, flaws=tuple(flaws))


def _numbered(classes: Mapping[int, str] | Sequence[str]) -> dict[int, str]:
    return dict(classes) if isinstance(classes, Mapping) else dict(enumerate(classes))


def _label(text: str, classes: Mapping[int, str], place: str) -> tuple[str | None, Flaw | None]:
    """The class that a list means, by number or by name, where the source or the options name any."""
    file, _, line = place.partition(": ")
    try:
        name = class_said(text)
    except ValueError as error:
        return None, Flaw(FlawKind.UNREADABLE, file, line, str(error))
    if not classes or name in classes.values():
        return name, None
    if text.isdecimal() and len(text) < 6 and int(text) in classes:
        return classes[int(text)], None
    return None, Flaw(FlawKind.UNKNOWN_CLASS, file, line, f"no class is named or numbered {text[:80]!r}")


def _measured(text: str, names: Sequence[str], place: str) -> tuple[dict[str, float] | None, Flaw | None]:
    """The numbers that a list tells of a picture."""
    words = re.split(r"[\s,;]+", text)
    try:
        if len(words) != len(names):
            raise ValueError(f"{len(words)} values, {text[:80]!r}; data.numbers names {len(names)}")
        return numbers_of(dict(zip(names, words, strict=True))), None
    except ValueError as error:
        file, _, line = place.partition(": ")
        return None, Flaw(FlawKind.UNREADABLE, file, line, str(error))


def _several(of: Said, by_list: Mapping[str, str | None]) -> list[Flaw]:
    """The flaw of a picture that lists of different splits name."""
    files = {by_list[file]: file for file in reversed(of.files) if by_list[file]}
    if len(files) < 2:
        return []
    first, second = sorted(files.values())[:2]
    return [Flaw(FlawKind.DUPLICATE, second, "", f"{first} lists the picture too")]
