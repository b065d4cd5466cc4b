"""`convoy inspect`: a source is read once, by its format, and counted. Nothing is written, no picture is kept.

Pictures and masks are decoded for a sample of them alone, in a process of its own, as `ingest` does. What is wrong with
boxes is found where the source says how large its pictures are, or has boxes in shares of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipeline.annotations import Drawn, Flaw, FlawKind, Layer, Objects, Painted, Pieces
from pipeline.contracts import SPLITS, AnnotationRules, FormatConfig, Found, LeftOut, Target, TaskConfig
from pipeline.errors import UserError, did_you_mean
from pipeline.inspection.advice import advice
from pipeline.inspection.counting import ClassCount, Classes, Copies, Groups, pattern
from pipeline.inspection.sample import Sample, Sizes
from pipeline.plugin import config_class, names
from pipeline.source import check_writable, printable

UNSAID = "not said"
"""The split of pictures of which the source says none."""
AUTO = "auto"


@dataclass
class Seen:
    """What a source holds."""

    path: str
    format: str
    why: str
    """How the format was found out; empty where it was named."""
    options: dict[str, Any]
    """Of the format, those that are not as they are by default."""
    pictures: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    targets: dict[str, dict[str, ClassCount]] = field(default_factory=dict)
    """Of each kind of annotation, by its name in `contracts.Target`, the classes."""
    said: dict[str, int] = field(default_factory=dict)
    """Pictures that have such an annotation."""
    masks: int = 0
    """Painted ones whose pixels were counted, of a sample; 0 where outlines were."""
    tasks: dict[str, str] = field(default_factory=dict)
    """Those that could learn from it, and what they would read, the most natural first."""
    sizes: Sizes = field(default_factory=Sizes)
    problems: Groups = field(default_factory=Groups)
    """With annotations, by the rule of `params.yaml` that they fall under."""
    left_out: Groups = field(default_factory=Groups)
    """Files, by reason."""
    copies: Copies = field(default_factory=Copies)
    params: str = ""
    """Sections of `params.yaml` for it."""

    def plain(self) -> dict[str, Any]:
        """All of it as JSON values."""
        found = asdict(replace(self, copies=Copies()))
        found["copies"] = {"count": self.copies.count, "examples": self.copies.examples}
        return found


def look(path: str, form: str = AUTO, inside: str = "", advance: Callable[[int], None] = lambda _: None) -> Seen:
    """Read a source and count what is in it.

    Args:
        path: as in `data.path`.
        form: a format of `pipeline/formats/`; `auto` finds it out.
        inside: a folder within the source.
        advance: called after each file.

    Raises:
        UserError: the source cannot be read, or is not of this format.
    """
    config, seen = _opened(path, form, inside)
    sample, classes, found = Sample(), {target: Classes() for target in Target}, Groups()
    judge = _task_for(Target.OBJECTS)
    for item in config.read():
        advance(1)
        if isinstance(item, LeftOut):
            kind, name = pattern(item.reason), printable(item.name)
            seen.left_out.add(kind, name if kind == item.reason else f"{name}: {printable(item.reason)}")
            continue
        flaws = [item] if isinstance(item, Flaw) else [*item.flaws, *_geometry(item, judge)]
        for flaw in flaws:
            found.add(flaw.kind.value, _told(flaw))
        if isinstance(item, Found):
            _count(item, seen, classes)
            painted = item.annotation.get(Target.MASK)
            sample.add(item.name, item.data, painted if isinstance(painted, Painted) else None)
    pixels = sample.painted()
    for flaw in pixels.flaws:
        found.add(flaw.kind.value, _told(flaw))
    seen.problems, seen.masks = found, pixels.masks
    if pixels.masks:
        classes[Target.MASK].counts = pixels.classes
    seen.splits = {split: seen.splits[split] for split in (*SPLITS, UNSAID) if split in seen.splits}
    seen.targets = {target.name: classes[target].counts for target in Target if seen.said.get(target.name)}
    seen.tasks = _tasks(seen, config)
    seen.sizes = sample.decoded()
    seen.params = advice(seen)
    return seen


def _opened(path: str, form: str, inside: str) -> tuple[FormatConfig, Seen]:
    """The format with its options."""
    valid = names("formats")
    if form not in valid:
        raise UserError(f"No format is named {form!r}.{did_you_mean(form, valid)} There are: {', '.join(valid)}.")
    config_of = config_class("formats", form)
    if "path" not in config_of.model_fields:
        raise UserError(f"Format {form!r} reads no path: `data: {{name: {form}}}` is all of it.")
    if not path:
        raise UserError("The path is empty. Name a folder, an archive, or an address as in data.path.")
    check_writable(path)
    check_writable(inside)
    config: Any = config_of.model_validate({"path": path, **({"inside": inside} if inside else {})})
    why = ""
    if form == AUTO:
        finding = _found_out(config, path, inside)
        form, why, config = finding.name, finding.why, config.format()
    options = {
        key: value for key, value in config.model_dump(mode="json", exclude_defaults=True).items() if key != "path"
    }
    return config, Seen(path, form, why, options)


def _found_out(config: Any, path: str, inside: str) -> Any:
    """The format; where none can be told, what is known of the folders of the source.

    Raises:
        UserError: no format, or no one format, knows the source.
    """
    try:
        return config.found()
    except UserError as error:
        from pipeline.formats.auto import in_folders

        lines = [f"  {one.name} in {printable(one.options['inside'])}: {one.why}" for one in in_folders(path)]
        if inside or not lines:
            raise
        raise UserError("\n".join([f"{error} Its folders:", *lines])) from None


def _count(item: Found, seen: Seen, classes: dict[Target, Classes]) -> None:
    seen.pictures += 1
    split = item.split or UNSAID
    seen.splits[split] = seen.splits.get(split, 0) + 1
    seen.copies.add(item.name, item.data)
    for target, annotation in item.annotation.items():
        seen.said[target.name] = seen.said.get(target.name, 0) + 1
        if isinstance(annotation, str):
            classes[target].add([annotation])
        elif isinstance(annotation, frozenset):
            classes[target].add(sorted(annotation))
        elif isinstance(annotation, Objects):
            classes[target].add([thing.name for thing in annotation.things if not thing.crowd])
        elif isinstance(annotation, Drawn):
            classes[target].add([thing.name for thing in annotation.objects.things])
        elif isinstance(annotation, Pieces):
            classes[target].add([name for layer in annotation.layers for name in _objects(layer)])


def _objects(layer: Layer) -> list[str]:
    """The classes of the objects of a layer; of a grey one both its colour and its level may be named."""
    coloured = any(isinstance(value, tuple) for value in layer.classes)
    return [name for value, name in layer.classes.items() if isinstance(value, tuple) is coloured]


def _task_for(target: Target) -> TaskConfig | None:
    for name in names("tasks"):
        task = config_class("tasks", name)
        if issubclass(task, TaskConfig) and task.learns is target:
            return task.model_validate({})
    return None


def _geometry(item: Found, task: TaskConfig | None) -> list[Flaw]:
    """What is wrong with the boxes of a picture whose size nobody has looked at."""
    objects = item.annotation.get(Target.OBJECTS)
    if task is None or not isinstance(objects, Objects) or not objects.things:
        return []
    width, height = (1, 1) if objects.relative else objects.said_size or (math.inf, math.inf)
    settled = task.settle(objects, width, height, AnnotationRules())  # type: ignore[arg-type]
    flaws = [flaw for flaw, _ in settled.problems if flaw.kind in (FlawKind.BAD_BOX, FlawKind.OUTSIDE)]
    return [flaw._replace(found=flaw.found.removesuffix(f" of {width} x {height}")) for flaw in flaws]


def _told(flaw: Flaw) -> str:
    where = f"{flaw.source}, {flaw.place}" if flaw.place else flaw.source
    return printable(f"{where}: {flaw.found}")


def _tasks(seen: Seen, config: FormatConfig) -> dict[str, str]:
    """Tasks that learn from what was found; of a source that says nothing, from what its format can say."""
    known = [target for target in Target if target.name in seen.said] or sorted(config.gives)
    found: dict[str, str] = {}
    every = [(name, config_class("tasks", name)) for name in names("tasks")]
    for target in sorted(known, key=lambda target: (-seen.said.get(target.name, 0), target is Target.LABEL)):
        fitting = [(name, task) for name, task in every if issubclass(task, TaskConfig) and target in task.reads]
        for name, _ in sorted(fitting, key=lambda pair: pair[1].learns is not target):
            found.setdefault(name, target.name)
    return found
