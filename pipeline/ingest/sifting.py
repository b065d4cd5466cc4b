"""From the files of a source to the pictures worth keeping: every file is one, or is rejected with a reason."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

from pipeline.annotations import Canvas, Flaw, FlawKind, Objects, Painted, Pieces
from pipeline.contracts import AnnotationRules, Found, LeftOut, Settled, TaskConfig
from pipeline.errors import UserError
from pipeline.ingest.child import Job
from pipeline.ingest.decoding import Verdict, decode_all
from pipeline.ingest.problems import Problem, check_stops, noted, reason
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
    """Settled, as the task learns from it."""
    split: str | None
    group: str | None
    width: int
    height: int
    grey: bool
    metadata: Mapping[str, str] = field(default_factory=dict)
    family: str = ""
    """Pictures of one family are the same picture, and never parted between splits; empty: it has none."""
    together: str | None = None
    """The same for all pictures that are never parted, by group or by family; None: it is by itself."""


class Rejected(NamedTuple):
    """A file that is not kept."""

    source: str
    reason: str


class Sifted(NamedTuple):
    """What a source comes to."""

    pictures: list[Picture]
    """By id."""
    rejected: list[Rejected]
    """By name."""
    problems: list[Problem]
    """By source and place."""
    kin: Sequence[tuple[str, str]] = ()
    """Groups that have a picture in common, whichever file of it was kept: one house under two numbers."""


class _File(NamedTuple):
    id: str
    name: str
    annotation: Any
    """None: nothing is said of it."""
    split: str | None
    group: str | None
    metadata: Mapping[str, str]
    flaws: tuple[Flaw, ...]


def sift(
    items: Iterable[Found | LeftOut | Flaw],
    task: TaskConfig,
    rules: AnnotationRules,
    spool: Spool,
    verdicts: dict[str, Verdict],
    advance: Callable[[int], None],
    groups: str = "",
) -> Sifted:
    """Read a source once, decode what is new, check annotations, and settle duplicates.

    Args:
        items: the files of the source, in any order.
        task: that learns from them.
        rules: what becomes of flawed annotations.
        spool: takes the bytes of each picture and mask.
        verdicts: of earlier runs, by content id; new ones are added.
        advance: called after each file.
        groups: a pattern of names, whose first bracket is the group of a picture where the source names none.

    Returns:
        The same for any order of `items`.

    Raises:
        UserError: no picture is left, none of one class, or a rule says to stop.
    """
    read, pattern = _read(items, task, spool, verdicts, advance), re.compile(groups)
    problems = [noted(flaw, rules) for flaw in read.flaws]
    pictures: list[Picture] = []
    kin: set[tuple[str, str]] = set()
    rejected = read.rejected
    for content, copies in sorted(_by_content(read.files).items()):
        verdict = verdicts[content]
        if verdict.reason:
            rejected += [Rejected(file.name, verdict.reason) for file in copies]
            continue
        settled: list[tuple[_File, Any]] = []
        for file in copies:
            annotation, wrong = _settled(file, read.canvases, verdict, task, rules)
            problems += wrong
            if annotation is None:
                rejected.append(Rejected(file.name, reason(wrong)))
            else:
                settled.append((file, _stored(annotation, spool)))
        said = [annotation for _, annotation in settled]
        annotation = _agreed(said, task)
        kin |= related(task.group(one, file.group or _group(file.name, pattern)) for file, one in settled)
        if settled and annotation is None:
            rejected += _contradictions(settled)
        elif settled:
            (kept, _), *others = settled
            rejected += [Rejected(file.name, f"the same bytes as {kept.name}") for file, _ in others]
            group = task.group(annotation, kept.group or _group(kept.name, pattern))
            picture = Picture(content, kept.name, annotation, kept.split, group, *verdict[:3], kept.metadata)
            pictures.append(picture)
    check_stops(problems)
    rejected.sort()
    _check_left(pictures, read.files, rejected, task)
    return Sifted(pictures, rejected, sorted(problems), sorted(kin))


def related(groups: Iterable[str | None]) -> set[tuple[str, str]]:
    """Pairs that make these groups one; none if there are fewer than two."""
    ordered = sorted({group for group in groups if group is not None})
    return set(pairwise(ordered))


class _Read(NamedTuple):
    files: list[_File]
    rejected: list[Rejected]
    flaws: list[Flaw]
    """That belong to no picture."""
    canvases: dict[str, Canvas | Objects]
    """By the id of the painted annotation."""


def _read(
    items: Iterable[Found | LeftOut | Flaw],
    task: TaskConfig,
    spool: Spool,
    verdicts: dict[str, Verdict],
    advance: Callable[[int], None],
) -> _Read:
    """Every file of the source, decoded."""
    read = _Read([], [], [], {})
    painted: dict[str, Painted | Pieces] = {}

    def undecoded() -> Iterator[tuple[str, Job]]:
        from pipeline.ingest import painting

        for item in items:
            advance(1)
            if isinstance(item, LeftOut):
                read.rejected.append(Rejected(item.name, item.reason))
                continue
            if isinstance(item, Flaw):
                read.flaws.append(item)
                continue
            content = hashlib.sha256(item.data).hexdigest()
            annotation = next((item.annotation[kind] for kind in task.reads if kind in item.annotation), None)
            if isinstance(annotation, Painted | Pieces):
                job = Job(True, painting.packed(annotation))
                identity = f"mask {hashlib.sha256(job.data).hexdigest()}"
                if identity not in painted:
                    # What is kept of it in memory is what names it, not its pixels.
                    painted[identity] = _emptied(annotation)
                    yield identity, job
                annotation = identity
            read.files.append(_File(content, item.name, annotation, item.split, item.group, item.metadata, item.flaws))
            if content not in spool:
                spool.add(content, item.data)
                if content not in verdicts:
                    yield content, Job(False, item.data)

    for content, verdict in decode_all(undecoded()):
        if content in painted:
            read.canvases[content] = _canvas(painted[content], verdict, spool)
        else:
            verdicts[content] = verdict
    return read


def _emptied(painted: Painted | Pieces) -> Painted | Pieces:
    emptied = replace(painted, layers=tuple(replace(layer, data=b"") for layer in painted.layers))
    if isinstance(emptied, Pieces) and emptied.kinds:
        return replace(emptied, kinds=replace(emptied.kinds, data=b""))
    return emptied


def _canvas(painted: Painted | Pieces, verdict: Verdict, spool: Spool) -> Canvas | Objects:
    from pipeline.ingest import painting

    if verdict.painted is None or isinstance(verdict.painted[0], str):
        return painting.unmade(painted, verdict.reason or str(verdict.painted[0] if verdict.painted else ""))
    made: Canvas | Objects = _stored(painting.made(painted, *verdict.painted), spool)
    return made


def _stored(annotation: Any, spool: Spool) -> Any:
    """An annotation with its mask, if it has one, on disk and no longer in memory."""
    if not isinstance(annotation, Canvas) or not annotation.mask:
        return annotation
    if annotation.id not in spool:
        spool.add(annotation.id, annotation.mask)
    return replace(annotation, mask=b"")


def _settled(
    file: _File, canvases: Mapping[str, Canvas | Objects], verdict: Verdict, task: TaskConfig, rules: AnnotationRules
) -> tuple[Any, list[Problem]]:
    """What the task learns from a file, if it can, and what was wrong."""
    wrong = [noted(flaw, rules) for flaw in file.flaws]
    annotation = file.annotation
    if annotation is None:
        found = "nothing is said of this picture"
        done = rules.no_annotation if rules.no_annotation != "keep" or task.nothing is not None else "reject"
        wrong.append(noted(Flaw(FlawKind.NO_ANNOTATION, file.name, "", found), rules, done))
        annotation = task.nothing if done == "keep" else None
    elif isinstance(annotation, str) and annotation in canvases:
        annotation = canvases[annotation]
    settled = Settled(None)
    if annotation is not None:
        settled = task.settle(annotation, verdict.width, verdict.height, rules)
        named = [(flaw if flaw.source else flaw._replace(source=file.name), done) for flaw, done in settled.problems]
        wrong += [noted(flaw, rules, done) for flaw, done in named]
    if any(problem.done == "reject" for problem in wrong):
        return None, wrong
    return settled.annotation, wrong


def _agreed(said: Sequence[Any], task: TaskConfig) -> Any:
    """What files with one content say, if they agree or can be joined; None if they contradict each other."""
    if all(annotation == said[0] for annotation in said):
        return said[0] if said else None
    return task.joined(said)


def _group(name: str, pattern: re.Pattern[str]) -> str | None:
    found = pattern.search(name) if pattern.groups else None
    return found[1] if found else None


def _by_content(files: Iterable[_File]) -> dict[str, list[_File]]:
    """The copies of each content, the one to keep first."""
    copies = defaultdict(list)
    for file in sorted(files, key=lambda file: (PREFERENCE[file.split], file.name)):
        copies[file.id].append(file)
    return copies


def _contradictions(copies: list[tuple[_File, Any]]) -> Iterator[Rejected]:
    for file, annotation in copies:
        other, differing = next((other, said) for other, said in copies if said != annotation)
        if isinstance(annotation, str):
            words = f"labelled {annotation!r}, but {other.name}, the same bytes, {differing!r}"
        else:
            words = f"annotated otherwise than {other.name}, the same bytes"
        yield Rejected(file.name, words)


def _check_left(pictures: list[Picture], files: list[_File], rejected: list[Rejected], task: TaskConfig) -> None:
    if not files:
        raise UserError(f"The source holds no pictures. {_first(rejected)}".rstrip())
    if not any(file.annotation is not None for file in files):
        raise UserError(
            f"The source says nothing that this task learns from, of none of its {len(files):,} pictures: expected "
            f"{' or '.join(kind.partition(',')[0] for kind in task.reads)}. `convoy inspect` says what it holds."
        )
    left = {picture.annotation for picture in pictures if isinstance(picture.annotation, str)}
    lost = sorted({file.annotation for file in files if isinstance(file.annotation, str)} - left) if left else []
    if pictures and not lost:
        return
    names = {file.name for file in files if not pictures or file.annotation in lost}
    whose = f"of {lost[0]!r}" if len(lost) == 1 else f"of {len(lost)} classes ({', '.join(map(repr, lost[:5]))})"
    if not pictures:
        whose = "of the source"
    reasons = _first([row for row in rejected if row.source in names])
    raise UserError(f"None of the {len(names):,} pictures {whose} can be used. {reasons} Mend or remove them.")


def _first(rejected: list[Rejected], count: int = 3) -> str:
    """The first few reasons as a sentence, each reason once."""
    shown = list({row.reason: row for row in reversed(rejected)}.values())[::-1][:count]
    return "".join(f"{row.source}: {row.reason}. " for row in shown).rstrip()
