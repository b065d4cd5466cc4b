"""The files of params/, over the shipped params, and with changes."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from flows.edits import edited, merged
from pipeline.contracts import Options
from pipeline.door import parse
from pipeline.errors import ParamsError
from pipeline.params import Params

ROOT = Path(__file__).parents[1]

P = TypeVar("P", bound=Options)


def of_ready(ready: str, *changes: str, wanted: type[P] = Params) -> P:
    """The sections of a ready file with some changes."""
    file = ROOT / "params" / f"{ready}.yaml"
    return parse(wanted, edited(merged(file.read_text(), (ROOT / "params.yaml").read_text(), str(file)), list(changes)))


def clashes(ready: str, *changes: str, wanted: type[Options] = Params) -> list[str]:
    """What the door says of a ready file with some changes, after its first line."""
    try:
        of_ready(ready, *changes, wanted=wanted)
    except ParamsError as error:
        return str(error).splitlines()[1:]
    return []
