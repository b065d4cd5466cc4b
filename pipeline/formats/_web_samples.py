"""Samples of a WebDataset shard: files of one name and several suffixes, put together as they stream by."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import LeftOut
from pipeline.errors import UserError
from pipeline.formats._files import PICTURES, base, parent, suffix
from pipeline.formats._values import class_name, shown, whole
from pipeline.source import Source

TEXTS = ("cls", "json", "txt")
"""Suffixes of what may say the class, in the order in which they are asked."""
KEYS = ("label", "class", "cls", "target", "category", "class_name", "label_name")
"""Of JSON, likewise."""
TEXT_BYTES = 1_000_000
HELD = 500_000_000
"""Bytes of samples whose files do not lie beside each other."""


@dataclass
class Sample:
    """The files of one name."""

    picture: str = ""
    """The name of the picture; empty, if there is none."""
    texts: dict[str, str] = field(default_factory=dict)
    """Names of the files that may say the class, by suffix."""
    contents: dict[str, bytes] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of all its files that are read."""
        return [name for name in (self.picture, *self.texts.values()) if name]


def key(name: str) -> str:
    """What the files of one sample have in common: `train/0001` of `train/0001.seg.png`."""
    first = base(name).partition(".")[0]
    return f"{parent(name)}/{first}" if parent(name) else first


def grouped(names: Sequence[str]) -> tuple[dict[str, Sample], list[LeftOut]]:
    """The samples among the files of a shard, and the files that are of none."""
    samples: dict[str, Sample] = defaultdict(Sample)
    left_out: list[LeftOut] = []
    for name in sorted(names, key=lambda name: (name.count("."), name)):  # `1.jpg` before `1.seg.png`
        kind = suffix(name)
        sample = samples[key(name)]
        if kind in PICTURES and not sample.picture:
            sample.picture = name
        elif kind in TEXTS and kind not in sample.texts:
            sample.texts[kind] = name
        else:
            known = kind in PICTURES or kind in TEXTS
            left_out.append(LeftOut(name, f"a further .{kind} of its sample" if known else f"nothing reads a .{kind}"))
    return {key: sample for key, sample in samples.items() if sample.names}, left_out


def complete(source: Source, samples: Mapping[str, Sample]) -> Iterator[Sample | LeftOut]:
    """Each sample once all of its files have come by, with their contents.

    Raises:
        UserError: the files of samples lie too far from each other to be held; the source is damaged.
    """
    open_files = {key: len(sample.names) for key, sample in samples.items()}
    wanted = {name for sample in samples.values() for name in sample.names}
    held = 0
    for item in source.stream(wanted):
        name = item.name if isinstance(item, LeftOut) else item[0].name
        sample = samples[key(name)]
        if isinstance(item, LeftOut):
            yield item
        else:
            sample.contents[name] = item[1]
            held += len(item[1])
        open_files[key(name)] -= 1
        if not open_files[key(name)]:
            held -= sum(map(len, sample.contents.values()))
            yield sample
            sample.contents.clear()
        elif held > HELD:
            raise UserError(
                f"{source.shown}: the files of its samples lie too far apart. Pack those of each one after another."
            )


def class_of(sample: Sample, classes: Mapping[int, str], prefix: str) -> tuple[str | None, Flaw | None]:
    """What the files of a sample say of its class.

    Args:
        sample: with its contents.
        classes: by number; empty, if nobody names them.
        prefix: of file names, in flaws.
    """
    for kind in TEXTS:
        data = sample.contents.get(sample.texts.get(kind, ""))
        if data is None:
            continue
        where = prefix + sample.texts[kind]
        try:
            found = _told(data, kind)
        except (ValueError, RecursionError) as error:
            return None, Flaw(FlawKind.UNREADABLE, where, "", " ".join(str(error).split())[:200])
        if found is None:
            continue
        number = whole(found) if not isinstance(found, str) else int(found) if _digits(found) else None
        if classes and found not in classes.values() and number not in classes:
            return None, Flaw(FlawKind.UNKNOWN_CLASS, where, "", f"no class is named or numbered {shown(found)}")
        if number is not None and found not in classes.values():
            return classes.get(number, str(number)), None
        return str(found), None
    return None, None


def _told(data: bytes, kind: str) -> str | int | None:
    """A class by name or number; None where nothing is said of one.

    Raises:
        ValueError: it cannot be understood.
    """
    if len(data) > TEXT_BYTES:
        raise ValueError(f"{len(data):,} bytes; the limit is {TEXT_BYTES:,}")
    found: Any = data.decode("utf-8-sig").strip()
    if kind == "json":
        found = json.loads(found)
        if isinstance(found, dict):
            found = next((found[key] for key in KEYS if key in found), None)
        if found is None:
            return None
    if (number := whole(found)) is not None:
        return number
    if (name := class_name(found)) is None:
        raise ValueError(f"expected one class, found {shown(found)}")
    return name


def _digits(text: str) -> bool:
    return text.isdecimal() and len(text) < 10
