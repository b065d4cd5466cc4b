"""`convoy inspect`: what lies in a source, without ingesting it, in a project or elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import settings
from flows.tables import console, table
from pipeline.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from pipeline.inspection.counting import ClassCount, Groups
    from pipeline.inspection.look import Seen

MOST_CLASSES = 40
"""Of a table; --json has all of them."""
MOST_REASONS = 12
MOST_SIZES = 5
UNITS = {"LABEL": "pictures", "LABELS": "pictures", "OBJECTS": "objects", "INSTANCES": "objects", "MASK": "outlines"}
OF_PICTURES = ("LABEL", "LABELS")
"""Kinds of which a picture holds each class once at most."""


def inspect(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A folder, an archive, or an address as in data.path.")],
    form: Annotated[str, typer.Option("--format", metavar="NAME", help="Read it as this format.")] = "auto",
    inside: Annotated[str, typer.Option(metavar="FOLDER", help="A folder within it.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Everything as one JSON object.")] = False,
) -> None:
    """Say what lies in a source, without ingesting it: format, tasks, pictures, classes, sizes, problems.

    Nothing of the project is changed, and no project is needed. An archive behind https or on S3 is fetched, checked
    and kept, so that `convoy run` finds it.
    """
    path = _enter(path)
    from pipeline.inspection.look import look
    from pipeline.progress import track

    with track("inspect") as advance:
        seen = look(path, form, inside, advance)
    if as_json:
        print(json.dumps(seen.plain(), indent=2))
    else:
        show(seen)


def _enter(path: str) -> str:
    """Go to the project around, if there is one, so that DVC and kept archives are found; the path seen from there."""
    from pipeline.source import is_address

    for name, value in settings.SWITCHES.items():
        os.environ.setdefault(name, value)
    here = Path.cwd()
    try:
        root = settings.project_root()
    except UserError:
        return path
    os.chdir(root)
    if is_address(path) or path.startswith("~") or Path(path).is_absolute() or root == here:
        return path
    place = Path(os.path.normpath(here / path))
    return str(place.relative_to(root)) if place.is_relative_to(root) else str(place)


def show(seen: Seen) -> None:
    """Print what was seen, for people."""
    out = console()
    out.print(table(["", ""], _facts(seen)))
    for kind, classes in seen.targets.items():
        if classes:
            out.print(_classes(kind, classes, seen.masks))
    _groups(out, "wrong with annotations", seen.problems, by_rule=True)
    _groups(out, "pictures that cannot be decoded, of the sample", seen.sizes.damaged)
    _groups(out, "left out", seen.left_out)
    if seen.copies.count:
        pairs = [f"{copy} is {first}" for copy, first in seen.copies.examples]
        out.print(
            table(
                ["there more than once", "pictures", "for example"],
                [("same bytes", f"{seen.copies.count:,}", "\n".join(pairs))],
            )
        )
    out.print(f"For params.yaml:\n\n{seen.params}", soft_wrap=True)


def _classes(kind: str, classes: Mapping[str, ClassCount], masks: int) -> RenderableType:
    """How much there is of each class: of painted masks the share of the pixels of a sample."""
    total = sum(one.count for one in classes.values())
    unit = UNITS[kind]
    if kind == "MASK" and masks:
        unit = f"pixels of {masks:,} masks"
    rows = []
    for name, one in sorted(classes.items()):
        count = f"{one.count / max(1, total):.1%}" if unit.startswith("pixels") else f"{one.count:,}"
        rows.append((name, count, f"{one.pictures:,}") if kind not in OF_PICTURES else (name, count))
    header = [f"class ({kind.lower()})", unit, *(["in pictures"] if kind not in OF_PICTURES else [])]
    return table(header, _first(rows, MOST_CLASSES), right=(1, 2))


def _facts(seen: Seen) -> Iterable[Sequence[str]]:
    yield "source", seen.path
    yield "format", f"{seen.format}: {seen.why}" if seen.why else seen.format
    yield "tasks", ", ".join(seen.tasks) or "none: the source says nothing that a task learns from"
    splits = ", ".join(f"{split} {count:,}" for split, count in seen.splits.items())
    yield "pictures", f"{seen.pictures:,} ({splits})" if splits else "0"
    for kind, count in seen.said.items():
        if count != seen.pictures:
            yield "", f"{seen.pictures - count:,} of them say nothing of {kind.lower()}"
    sizes = seen.sizes
    if sizes.common:
        shown = ", ".join(f"{width} x {height} ({count:,})" for width, height, count in sizes.common[:MOST_SIZES])
        more = f", and {len(sizes.common) - MOST_SIZES:,} more" if len(sizes.common) > MOST_SIZES else ""
        span = f"{sizes.widths[0]} to {sizes.widths[-1]} wide, {sizes.heights[0]} to {sizes.heights[-1]} high"
        yield "sizes", f"{shown}{more}" + (f"; {span}" if more else "")
        of_sample = f"of a sample of {sizes.sampled:,}" if sizes.sampled < seen.pictures else "of all"
        yield "", f"{of_sample}, {sizes.grey:,} of them grey"


def _groups(out: Console, title: str, groups: Groups, by_rule: bool = False) -> None:
    if not groups:
        return
    rows = []
    for kind, group in groups.ordered():
        more = ["..."] if group.count > len(group.examples) else []
        rows.append(
            (f"annotations.{kind}" if by_rule else kind, f"{group.count:,}", "\n".join([*group.examples, *more]))
        )
    out.print(table([title, "number", "for example"], _first(rows, MOST_REASONS)))


def _first(rows: Sequence[Sequence[str]], most: int) -> list[Sequence[str]]:
    left = len(rows) - most
    return [*rows[:most], *([(f"and {left:,} more", "", "")] if left > 0 else [])]
