"""What a file says that names classes: by number, in order, or by the colour they are painted in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unicodedata import normalize

from pipeline.annotations import Colour, Flaw, FlawKind
from pipeline.formats import _yaml as _yaml_file
from pipeline.formats._names import suffix
from pipeline.source import UNPRINTABLE

MAX_BYTES = 1_000_000
"""Larger files are not lists of classes."""
MAX_CLASSES = 10_000
LONGEST = 200
"""Characters of a name."""
NUMBER = r"\s*(\d{1,3})\s*"
COLOUR_FIRST = re.compile(rf"{NUMBER}[\s,]{NUMBER}[\s,]{NUMBER}[\s,]\s*(\S.*)")
COLOUR_LAST = re.compile(rf"(\S.*?)\s*[:,\s]{NUMBER}[\s,]{NUMBER}[\s,]{NUMBER}(?::.*)?")
NUMBERED = re.compile(r"(\d{1,5})\s*[:,\s]\s*(\S.*)")


@dataclass(frozen=True)
class Names:
    """What files say of classes."""

    by_value: Mapping[int, str] = field(default_factory=dict)
    """By number."""
    by_colour: Mapping[Colour, str] = field(default_factory=dict)
    """By colour, where the file says any; numbers are then the order in which it does."""
    file: str = ""
    """Where it stands; empty if nothing was found."""


def parsed(data: bytes, name: str) -> Names | Flaw:
    """The classes in the contents of a file; a flaw if there are none."""
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"{len(data):,} bytes; a list of classes has at most {MAX_BYTES:,}")
        text = data.decode("utf-8-sig")
        kinds: dict[str, Callable[[str], Names | None]] = {"json": _json, "yaml": _yaml, "yml": _yaml, "csv": _csv}
        found = kinds.get(suffix(name), _lines)(text)
        if found is None or not (found.by_value or found.by_colour):
            raise ValueError("no list of classes")
        _check(found)
    except (ValueError, RecursionError) as error:
        return Flaw(FlawKind.UNREADABLE, name, "", " ".join(str(error).split())[:LONGEST])
    by_value = {value: normalize("NFC", one) for value, one in found.by_value.items()}
    return Names(by_value, {colour: normalize("NFC", one) for colour, one in found.by_colour.items()}, name)


def _check(names: Names) -> None:
    every = [*names.by_value.values(), *names.by_colour.values()]
    if len(every) > 2 * MAX_CLASSES:
        raise ValueError(f"{len(every):,} classes; the limit is {MAX_CLASSES:,}")
    if odd := [name for name in every if not name or len(name) > LONGEST or UNPRINTABLE.search(name)]:
        raise ValueError(f"a class is named {odd[0][:LONGEST]!r}")


def _lines(text: str) -> Names | None:
    """A text file, by what all of its lines have in common."""
    rows = _rows(text)
    if coloured := _colours(rows):
        return coloured
    numbered = [match for row in rows if (match := NUMBERED.fullmatch(row))]
    if len(numbered) == len(rows) == len({int(match[1]) for match in numbered}):
        return Names({int(match[1]): _bare(match[2]) for match in numbered})
    if rows and rows[0] == "__ignore__":  # labelme's: it has the number -1
        rows = rows[1:]
    return Names(dict(enumerate(map(_bare, rows))))


def _csv(text: str) -> Names | None:
    """Colours, or one column; anything else is a table of something."""
    rows = _rows(text)
    return _colours(rows) or (None if any("," in row for row in rows) else Names(dict(enumerate(map(_bare, rows)))))


def _rows(text: str) -> list[str]:
    rows = [" ".join(line.split()) for line in text.splitlines()]  # long blanks would take the patterns for ever
    if max(map(len, rows), default=0) > 800:
        raise ValueError("a line of more than 800 characters")
    return [re.sub(r":+$", "", row) for row in rows if row and not row.startswith("#")]


def _colours(rows: list[str]) -> Names | None:
    """Rows that each hold a name and a colour, under a header or none."""
    for pattern, places in ((COLOUR_FIRST, (4, 1, 2, 3)), (COLOUR_LAST, (1, 2, 3, 4))):
        for some in (rows, rows[1:]):
            matches = [match for row in some if (match := pattern.fullmatch(row))]
            if some and len(matches) == len(some):
                cells = [[match[place] for place in places] for match in matches]
                return _coloured([(_bare(name), (int(r), int(g), int(b))) for name, r, g, b in cells])
    return None


def _bare(name: str) -> str:
    return name.strip().strip("\"'").strip()


def _coloured(pairs: list[tuple[str, Colour]]) -> Names:
    if any(level > 255 for _, colour in pairs for level in colour):
        raise ValueError("a colour beyond 255")
    by_colour: dict[Colour, str] = {}
    for name, colour in pairs:
        if by_colour.setdefault(colour, name) != name:
            raise ValueError(f"two classes of the colour {colour}: {by_colour[colour]!r} and {name!r}")
    return Names(dict(enumerate(dict.fromkeys(by_colour.values()))), by_colour)


def _json(text: str) -> Names | None:
    """Datumaro's own list, or a plain one."""
    found = json.loads(text)
    if not isinstance(found, dict):
        return _plain(found)
    names = _plain(found.get("label_map") or found.get("labels") or found.get("names") or found.get("classes"))
    colours = found.get("segmentation_colors")
    if names is None or not isinstance(colours, list) or len(colours) != len(names.by_value):
        return names
    pairs: list[tuple[str, Colour]] = []
    for name, colour in zip(names.by_value.values(), colours, strict=True):
        if not isinstance(colour, list) or len(colour) != 3 or not all(isinstance(level, int) for level in colour):
            return names
        pairs.append((name, (colour[0], colour[1], colour[2])))
    return Names(names.by_value, _coloured(pairs).by_colour)


def _yaml(text: str) -> Names | None:
    found = _yaml_file.parsed(text.encode())
    return _plain(found.get("names") or found.get("classes")) if isinstance(found, dict) else None


def _plain(found: Any) -> Names | None:
    """A list of names, or names under numbers."""
    if isinstance(found, list) and all(isinstance(name, str | int | float) for name in found):
        return Names({place: str(name).strip() for place, name in enumerate(found)})
    if not isinstance(found, dict) or not all(str(key).isdecimal() and len(str(key)) < 6 for key in found):
        return None
    if not all(isinstance(name, str | int | float) for name in found.values()):
        return None
    return Names({int(key): str(name).strip() for key, name in found.items()})
