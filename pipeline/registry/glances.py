"""What a list shows of a run and what names it, in a file of its own: 2,000 records are 50 MB, their glances 3.

.convoy/runs/ID/glance.json   derived from `record.json` beside it, and made again where it is missing
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.files import shared, write_json
from pipeline.registry import attempts
from pipeline.registry.attempts import Attempt

GLANCE = "glance.json"
SHORTEST = 4
"""Characters of an id that name a run, if no other begins so."""
SHOWN = 8
"""Characters of an id that people see."""

State = Literal["finished", "working", "stopped"]


class Glance(Options):
    """A run in a list."""

    id: str
    model: str
    state: State
    started: int
    """Milliseconds since 1970."""
    ended: int = 0
    """0: it has not finished."""
    mlflow_run: str = ""
    flow_run: str = ""
    experiment: str = ""
    """Its name in DVC."""
    trigger: str = ""
    version: str = ""
    digest: str = ""
    """Of the model."""
    verdict: str = ""
    reason: str = ""
    """Why it stopped short, if it could say so."""
    mistake: bool = False
    """Whether that is for somebody to change: going on as it is would stop at the same place."""
    score: str = ""
    """Name of the metric that decides."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    dirty: bool = False
    """Whether the commit alone does not say what ran."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Flat, with every default: `train.epochs`."""


def of_record(record: dict[str, Any]) -> Glance:
    """The glance of a finished run, from its record as plain JSON."""
    score = str(record["params"]["task"]["score"])
    found = record["scores"].get(score) or {}
    tags = record["tags"]
    return Glance(
        id=record["id"],
        model=record["model"],
        state="finished",
        started=record["started"],
        ended=record["ended"],
        mlflow_run=record["mlflow_run"],
        flow_run=record["flow_run"],
        experiment=tags.get("dvc.experiment", ""),
        trigger=tags.get("trigger", ""),
        version=record["version"]["version"],
        digest=record["version"]["digest"],
        verdict=record["verdict"]["outcome"],
        score=score,
        value=found.get("value"),
        low=found.get("low"),
        high=found.get("high"),
        dirty=bool(record["code"]["patch"] or record["code"]["left_out"]),
        params=flat(record["params"]),
    )


def of_attempt(attempt: Attempt) -> Glance:
    """The glance of a run that has not finished, as far as it is known."""
    return Glance(
        id=attempt.id,
        model=attempt.model,
        state="working" if attempts.at_work(attempt) else "stopped",
        started=attempt.started,
        mlflow_run=attempt.run,
        flow_run=attempt.flow_run,
        verdict=str(attempt.verdict.get("outcome", "")),
        reason=attempt.error,
        mistake=attempt.mistake,
        params=flat(attempt.params),
    )


def write(record: dict[str, Any]) -> None:
    """Keep the glance of a record beside it."""
    write_json(attempts.folder(record["id"]) / GLANCE, of_record(record).model_dump(mode="json"))


def read_all() -> list[Glance]:
    """Every run that this project remembers, finished or not, oldest first."""
    found = (read(folder) for folder in shared().glob("runs/*"))
    return sorted((glance for glance in found if glance), key=lambda glance: (glance.started, glance.id))


def resolve(name: str, known: Sequence[Glance], model: Callable[[], str]) -> Glance | None:
    """The run that `name` means, of those `known`.

    Args:
        name: `latest` (finished last), or the id, or its first characters, of the run, its MLflow run or its Prefect
            flow run; its DVC experiment; a model version as `digits/3`, or `3` of the project's own model.
        known: oldest first.
        model: gives the name of the project's own model.

    Raises:
        UserError: it fits several.
    """
    if name == "latest":
        return max((one for one in known if one.ended), key=lambda one: one.ended, default=None)
    found = [one for one in known if name and name in (*ids(one), one.experiment)]
    if not found and len(name) >= SHORTEST:
        found = [one for one in known if any(whole.startswith(name.lower()) for whole in ids(one))]
    if not found and ("/" in name or name.isdecimal()):
        version = name if "/" in name else f"{model()}/{name}"
        # It may be registered by one run and found again by a later one, which changed nothing: the first made it.
        found = [one for one in known if one.version and version == f"{one.model}/{one.version}"][:1]
    if len(found) > 1:
        listed = ", ".join(f"{one.id[:SHOWN]} ({_day(one)})" for one in found[:5])
        raise UserError(f"{name!r} fits {len(found)} runs: {listed}. Give more characters.")
    return found[0] if found else None


def ids(glance: Glance) -> list[str]:
    """What may be shortened."""
    return [one for one in (glance.id, glance.mlflow_run, glance.flow_run) if one]


def names(glance: Glance) -> list[str]:
    """What people call a run by."""
    version = f"{glance.model}/{glance.version}" if glance.version else ""
    return [one for one in (glance.id[:SHOWN], glance.experiment, version) if one]


def flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested sections as `train.epochs`; lists stay whole."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found


def read(folder: Path) -> Glance | None:
    """The glance of the run in `folder`, derived anew where it is missing; None if nothing there can be read."""
    try:
        return Glance.model_validate_json((folder / GLANCE).read_bytes())
    except (OSError, ValidationError):
        pass
    try:
        glance = of_record(json.loads((folder / attempts.RECORD).read_bytes()))
        with suppress(OSError, UserError):  # a full disk, or somebody else's; the next look takes as long as this one
            write_json(folder / GLANCE, glance.model_dump(mode="json"))
        return glance
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # none, or nothing that can be read
        pass
    try:
        return of_attempt(Attempt.model_validate_json((folder / "attempt.json").read_bytes()))
    except (OSError, ValidationError):
        return None


def _day(glance: Glance) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(glance.started / 1000))
