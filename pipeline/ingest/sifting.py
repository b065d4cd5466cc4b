"""From the files of a source to the pictures worth keeping: every file is one, or is rejected with a reason."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.contracts import Found, LeftOut, Target
from pipeline.errors import UserError
from pipeline.ingest.decoding import Verdict, decode_all
from pipeline.ingest.shards import Spool

PREFERENCE = {"test": 0, "val": 1, "train": 2, None: 3}
"""Of a picture that lies in several splits the copy in `test` stays, or training would see a test image."""


@dataclass(frozen=True)
class Picture:
    """A picture that is kept."""

    id: str
    """sha256 of its bytes, hexadecimal."""
    name: str
    annotation: Any
    split: str | None
    group: str | None
    width: int
    height: int
    grey: bool
    metadata: Mapping[str, str] = field(default_factory=dict)


class Rejected(NamedTuple):
    """A file that is not kept."""

    source: str
    reason: str


class _File(NamedTuple):
    id: str
    name: str
    annotation: Any
    split: str | None
    group: str | None
    metadata: Mapping[str, str]


def sift(
    items: Iterable[Found | LeftOut],
    target: Target,
    spool: Spool,
    verdicts: dict[str, Verdict],
    advance: Callable[[int], None],
) -> tuple[list[Picture], list[Rejected]]:
    """Read a source once, decode what is new, and settle duplicates.

    Args:
        items: the files of the source, in any order.
        target: the annotation that the task learns from.
        spool: takes the bytes of each.
        verdicts: of earlier runs, by content id; new ones are added.
        advance: called after each file.

    Returns:
        The pictures by id and the rejected by name: the same for any order of `items`.

    Raises:
        UserError: no picture is left, or none of one annotation.
    """
    files: list[_File] = []
    rejected: list[Rejected] = []

    def undecoded() -> Iterator[tuple[str, bytes]]:
        for item in items:
            advance(1)
            if isinstance(item, LeftOut):
                rejected.append(Rejected(item.name, item.reason))
                continue
            content = hashlib.sha256(item.data).hexdigest()
            files.append(_File(content, item.name, item.annotation[target], item.split, item.group, item.metadata))
            if content not in spool:
                spool.add(content, item.data)
                if content not in verdicts:
                    yield content, item.data

    for content, verdict in decode_all(undecoded()):
        verdicts[content] = verdict
    pictures: list[Picture] = []
    for content, copies in sorted(_by_content(files).items()):
        verdict = verdicts[content]
        if verdict.reason:
            rejected += [Rejected(file.name, verdict.reason) for file in copies]
        elif len({file.annotation for file in copies}) > 1:
            rejected += _contradictions(copies)
        else:
            kept = copies[0]
            rejected += [Rejected(file.name, f"the same bytes as {kept.name}") for file in copies[1:]]
            pictures.append(Picture(*kept[:-1], verdict.width, verdict.height, verdict.grey, kept.metadata))
    rejected.sort()
    _check_left(pictures, files, rejected)
    return pictures, rejected


def _by_content(files: Iterable[_File]) -> dict[str, list[_File]]:
    """The copies of each content, the one to keep first."""
    copies = defaultdict(list)
    for file in sorted(files, key=lambda file: (PREFERENCE[file.split], file.name)):
        copies[file.id].append(file)
    return copies


def _contradictions(copies: list[_File]) -> Iterator[Rejected]:
    for file in copies:
        other = next(copy for copy in copies if copy.annotation != file.annotation)
        yield Rejected(
            file.name, f"labelled {file.annotation!r}, but {other.name}, the same bytes, {other.annotation!r}"
        )


def _check_left(pictures: list[Picture], files: list[_File], rejected: list[Rejected]) -> None:
    if not files:
        raise UserError(f"The source holds no pictures. {_first(rejected)}".rstrip())
    left = {picture.annotation for picture in pictures}
    lost = sorted({str(file.annotation) for file in files if file.annotation not in left})
    if not lost:
        return
    names = {file.name for file in files if str(file.annotation) in lost}
    whose = f"of {lost[0]!r}" if len(lost) == 1 else f"of {len(lost)} classes ({', '.join(map(repr, lost[:5]))})"
    if not left:
        whose = "of the source"
    reasons = _first([row for row in rejected if row.source in names])
    raise UserError(f"None of the {len(names):,} pictures {whose} can be used. {reasons} Mend or remove them.")


def _first(rejected: list[Rejected], count: int = 3) -> str:
    """The first few reasons as a sentence, each reason once."""
    shown = list({row.reason: row for row in reversed(rejected)}.values())[::-1][:count]
    return "".join(f"{row.source}: {row.reason}. " for row in shown).rstrip()
