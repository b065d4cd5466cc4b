"""Files that name classes: by number, in order, or by the colour they are painted in.

    classes.txt        one name per line, or `0: sky`, `0 sky`; the first line is 0
    label_colors.txt   128 64 128 road
    labelmap.txt       road:128,64,128:: (CVAT, after a line that begins with #)
    class_dict.csv     name,r,g,b
    data.yaml          names: or classes: with a list, or a number before each name
    dataset_meta.json  label_map and segmentation_colors (Datumaro)

What they are is told by what they hold, not by their name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Annotated

from pydantic import StringConstraints

from pipeline.annotations import Flaw, FlawKind
from pipeline.formats._class_lists import LONGEST, MAX_BYTES, Names, parsed
from pipeline.formats._files import Listing, base, parent, stem, suffix

STEM = re.compile(
    r"(classes|categories|synsets|labels?|(class|label)_?(names|colou?rs|map|dict|list)|colou?r_?map)", re.I
)
META = "dataset_meta.json"
TRIED = 20
"""Files that are looked into, the nearest first."""
ClassName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST)]
"""Of options."""


def find(listing: Listing, near: str) -> tuple[Names, list[Flaw]]:
    """The classes that a file of the source names, if one does.

    Args:
        listing: of the source.
        near: a file that the names are wanted for: those beside it, or above, come before those elsewhere.

    Returns:
        The names, and flaws of files that seem to name classes and cannot be understood.
    """
    flaws: list[Flaw] = []
    names = [name for name in candidates(listing.names) if listing.sizes.get(name, 0) <= MAX_BYTES]
    ordered = sorted(names, key=lambda name: (-_common(name, near), name.count("/"), name))[:TRIED]
    contents = {item[0]: item[1] for item in listing.contents(ordered) if isinstance(item, tuple)} if ordered else {}
    for name in ordered:
        found = parsed(contents[name], name) if name in contents else None
        if isinstance(found, Names):
            return found, flaws
        if found and _promises(name):
            flaws.append(found)
    return Names(), flaws


def candidates(names: Iterable[str]) -> list[str]:
    """The files that may name classes, by their own names."""
    tables = [name for name in names if suffix(name) == "csv" and STEM.fullmatch(stem(name))]
    return [*tables, *(name for name in names if _promises(name) or suffix(name) in ("yaml", "yml"))]


def _promises(name: str) -> bool:
    """Whether a file of that name says classes or nothing; `labels.csv` may be a table of pictures."""
    listed = suffix(name) == "txt" and STEM.fullmatch(stem(name)) is not None
    return listed or suffix(name) == "names" or base(name) == META


def _common(name: str, near: str) -> int:
    """How many folders two files have in common, from the top."""
    first, second = parent(name).split("/"), parent(near).split("/")
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def empty(names: Iterable[str], seen: Collection[str], source: str) -> Iterator[Flaw]:
    """The flaws of classes that a file names, and that nothing in the source is of.

    Args:
        names: of the classes.
        seen: those that something is of.
        source: the file.
    """
    for name in dict.fromkeys(names):
        if name not in seen:
            yield Flaw(FlawKind.EMPTY_CLASS, source, "", f"nothing is of the class {name!r}")
