"""The files of params/, over the shipped params, and with changes."""

from __future__ import annotations

from pathlib import Path

from flows.edits import edited, merged
from pipeline.door import parse
from pipeline.errors import ParamsError
from pipeline.params import Params

ROOT = Path(__file__).parents[1]


def clashes(ready: str, *changes: str) -> list[str]:
    """What the door says of a ready file with some changes, after its first line."""
    file = ROOT / "params" / f"{ready}.yaml"
    text = edited(merged(file.read_text(), (ROOT / "params.yaml").read_text(), str(file)), list(changes))
    try:
        parse(Params, text)
    except ParamsError as error:
        return str(error).splitlines()[1:]
    return []
