"""The lists of Pascal VOC that say which picture is of which split: `ImageSets/Main/train.txt` and its like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import LeftOut
from pipeline.formats._files import Listing
from pipeline.formats._names import PICTURES, ancestors, base, parent, stem, suffix
from pipeline.formats._values import shown

SPLITS = {"train.txt": "train", "val.txt": "val", "test.txt": "test", "trainval.txt": None}
RANKS = ("main", "imagesets", "segmentation", "layout", "action")
"""Folders of lists: where two tell of one picture, the first of them counts."""
MAX_BYTES = 50_000_000
MARKS = ("-1", "0", "1")
"""What may stand after a name: whether the class of the list is in that picture."""


@dataclass(frozen=True)
class Lists:
    """What the lists say."""

    splits: dict[tuple[str, str], str] = field(default_factory=dict)
    """By the folder that `ImageSets` lies in, and the name of a picture without suffix, in lower case."""
    lines: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """Of each name in a list: the list, and its place there."""
    flaws: dict[tuple[str, str], list[Flaw]] = field(default_factory=dict)
    """Of names that stand in several."""
    read: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)
    """Why other lists are left out."""

    def key(self, picture: str) -> tuple[str, str]:
        """What the lists call a picture or an annotation."""
        around = (home for home in ancestors([picture]) if home in self._roots)
        return next(around, ""), stem(picture).lower()

    @cached_property
    def _roots(self) -> set[str]:
        return {root for root, _ in self.lines}


def lists(listing: Listing) -> Lists:
    """Read the lists of a source."""
    found = Lists()
    names = [name for name in listing.with_suffix("txt") if "/imagesets/" in f"/{name.lower()}"]
    homes = {parent(name) for name in names if base(name) in ("train.txt", "val.txt")}
    for name in names:
        if base(name) not in SPLITS or base(parent(name)).lower() not in RANKS:
            found.reasons[name] = "a list of the pictures of one class; the objects say more"
        elif base(name) == "trainval.txt" and parent(name) in homes:
            found.reasons[name] = "train.txt and val.txt say more"
        elif listing.sizes[name] > MAX_BYTES:
            found.reasons[name] = f"{listing.sizes[name]:,} bytes; the limit for a list is {MAX_BYTES:,}"
        else:
            found.read.add(name)
    texts: dict[str, str] = {}
    for item in listing.contents(found.read):
        if isinstance(item, LeftOut):
            found.reasons[item.name] = item.reason
        else:
            texts[item[0]] = item[1].decode("utf-8-sig", "replace")
    _tell(found, texts)
    return found


def _tell(found: Lists, texts: Mapping[str, str]) -> None:
    order = sorted(texts, key=lambda name: (RANKS.index(base(parent(name)).lower()), [*SPLITS].index(base(name)), name))
    homes: dict[tuple[str, str], str] = {}
    for name in order:
        root = name[: f"/{name.lower()}".rindex("/imagesets/")].removesuffix("/")
        split = SPLITS[base(name)]
        for number, line in enumerate(texts[name].splitlines(), start=1):
            key = root, _id(line)
            if not key[1] or key[1].startswith("#"):
                continue
            first = homes.setdefault(key, parent(name))
            found.lines.setdefault(key, (name, f"line {number}"))
            if split and first == parent(name) and found.splits.setdefault(key, split) != split:
                told = f"{shown(key[1])} is in {found.lines[key][0]} too, and is taken for {found.splits[key]}"
                found.flaws.setdefault(key, []).append(Flaw(FlawKind.DUPLICATE, name, f"line {number}", told))


def _id(line: str) -> str:
    """The picture that a line names, without folders, suffix and mark."""
    parts = line.rsplit(maxsplit=1)
    line = parts[0] if len(parts) > 1 and parts[1] in MARKS else line
    name = base(line.strip().replace("\\", "/"))
    return (stem(name) if suffix(name) in PICTURES else name).lower()
