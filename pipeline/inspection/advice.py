"""The sections of `params.yaml` that suit a source: a start, not a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.contracts import SPLITS, TaskConfig
from pipeline.plugin import config_class
from pipeline.source import printable, quoted

if TYPE_CHECKING:
    from pipeline.inspection.look import Seen

SIDES = (32, 64, 96, 128, 160, 224, 320, 448)
"""Of the square pictures that a network sees."""
LARGE = 1_000
"""Longer sides beyond it lose small objects when they are shrunk to any of `SIDES`."""


def advice(seen: Seen) -> str:
    """`data`, `task` and `augment`, as text."""
    data = {"name": seen.format, "path": seen.path, **seen.options}
    lines = ["data:", *(f"  {key}: {_yaml(value)}" for key, value in data.items())]
    if seen.tasks:
        first, *others = seen.tasks
        more = f"  # or {', '.join(others)}" if others else ""
        lines += ["task:", f"  name: {first}{more}"]
        task = config_class("tasks", first)
        located = issubclass(task, TaskConfig) and task.learns.located
    else:
        located = False
    lines += ["augment:", "  name: standard", f"  size: {_side(seen)}"]
    if located:
        large = seen.sizes.longer > LARGE
        note = "  # all of a picture; tiles where objects are small in it" if large else "  # all of a picture"
        lines.append(f"  frame: pad{note}")
    missing = [split for split in SPLITS if split not in seen.splits]
    if seen.pictures and not seen.splits.keys() - {"val", "test"}:
        lines.append(
            "# No picture is for training. `inside` may name one folder, whose pictures `split` then shares out."
        )
    elif missing and seen.pictures:
        named = "no splits" if len(missing) == len(SPLITS) else f"no {' and no '.join(missing)}"
        lines.append(f"# The source names {named}: `split` says what share is taken for each.")
    return "\n".join(lines) + "\n"


def _side(seen: Seen) -> int:
    """The largest side that enlarges no ordinary picture of the source."""
    fitting = [side for side in SIDES if side <= seen.sizes.shorter]
    return fitting[-1] if fitting else SIDES[0]


def _yaml(value: Any) -> str:
    """A value as YAML reads it again."""
    import yaml

    if isinstance(value, str) and printable(value) == value:
        try:
            if yaml.safe_load(f"key: {value}") == {"key": value}:
                return value
        except yaml.YAMLError:
            pass
    return quoted(value)
