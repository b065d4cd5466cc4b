"""Names of files in a source, as text: what a file of annotations says is compared with them, and is no path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pipeline.formats._metadata import SPLIT_NAMES

PICTURES = frozenset(
    ("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm", "pnm")
)
"""Suffixes; what the files are is for the decoder to say."""
IMAGES = ("JPEGImages", "images", "imgs", "image", "img")
"""Folders in which pictures are looked for before others."""
CLUTTER = {
    "__macosx": "macOS puts it into archives; no picture of the data",
    "thumbs.db": "a thumbnail cache of Windows",
    "desktop.ini": "a settings file of Windows",
}


SET_ASIDE = frozenset(("bad", "bak", "corrupt", "crdownload", "old", "orig", "part", "tmp"))
"""Suffixes after that of a picture, of one that somebody took out of use or never got whole."""


def split_of(name: str) -> str | None:
    """The split that a folder or the file's own name tells of: `train2017`, `valid/a.jpg`, `instances_val.json`."""
    for part in reversed(name.lower().split("/")):
        for word in re.split(r"[^a-z]+", part):
            if word in SPLIT_NAMES:
                return SPLIT_NAMES[word]
    return None


def splits(names: Iterable[str]) -> dict[str, str | None]:
    """The split of each file by `split_of`, whatever the folders around all of them are called.

    One split alone says nothing: it is a folder `train` around everything.
    """
    names = list(names)
    around = _common_start([name.split("/")[:-1] for name in names])
    found = {name: split_of("/".join(name.split("/")[around:])) for name in names}
    return found if len(set(found.values()) - {None}) > 1 else dict.fromkeys(found)


def folder_splits(names: Iterable[str]) -> dict[str, str | None]:
    """As `splits`, of the folders that files lie in."""
    names = list(names)
    by_folder = splits({parent(name) + "/" for name in names})
    return {name: by_folder[parent(name) + "/"] for name in names}


def clutter(name: str) -> str | None:
    """Why a file is nothing of the data, if it is not."""
    parts = name.split("/")
    if any(part.startswith(".") for part in parts):
        return "hidden"
    stem, _, last = base(name).lower().rpartition(".")
    if last in SET_ASIDE and suffix(stem) in PICTURES:
        return f"set aside: .{last} after the suffix of a picture"
    return next((CLUTTER[part.lower()] for part in parts if part.lower() in CLUTTER), None)


def folder(path: str) -> str:
    """A path with single forward slashes and no dots: `./a//b/` is `a/b`."""
    return "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))


def resolved(home: str, said: str) -> str | None:
    """Where a relative name leads from a folder, `..` and all; None for one that leads out of the source."""
    said = said.replace("\\", "/")
    if said.startswith("/") or re.match("[A-Za-z]:", said):
        return None
    parts: list[str] = []
    for part in f"{home}/{said}".split("/"):
        if part == ".." and not parts:
            return None
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def below(name: str, home: str) -> bool:
    """Whether a file lies in a folder; everything lies in the empty one."""
    return not home or name.startswith(home + "/")


def parent(name: str) -> str:
    """The folder that a file lies in; empty at the top."""
    return name.rpartition("/")[0]


def ancestors(names: Iterable[str]) -> Iterator[str]:
    """Every folder around files, but for the top."""
    for home in {parent(name) for name in names}:
        while home:
            yield home
            home = parent(home)


def base(name: str) -> str:
    """A file's name without its folders."""
    return name.rpartition("/")[2]


def stem(name: str) -> str:
    """A file's name without folders and suffix."""
    return base(name).rpartition(".")[0] or base(name)


def suffix(name: str) -> str:
    """A file's suffix in lower case, without the dot."""
    return base(name).rpartition(".")[2].lower()


def common_end(first: str, second: str) -> int:
    """How many parts at the end of two names are the same, in any case of letters."""
    count = 0
    for one, other in zip(reversed(first.lower().split("/")), reversed(second.lower().split("/")), strict=False):
        if one != other:
            break
        count += 1
    return count


def ends_with(name: str, said: str) -> bool:
    """Whether a file's name ends with all of `said`: `images/a.jpg` with `a.jpg`."""
    said = said.replace("\\", "/").removeprefix("./")
    return f"/{name}".endswith(f"/{said}") and not said.startswith("/")


def _common_start(names: list[list[str]]) -> int:
    """How many parts all names begin with."""
    if not names:
        return 0
    first, last = min(names), max(names)  # whatever these share, all share
    return next((place for place, part in enumerate(first) if place >= len(last) or last[place] != part), len(first))
