"""What this clone remembers of its runs without asking MLflow, whose import alone takes seconds.

.convoy/run.json       the run at work: it outlives a kill, and the next attempt goes on in the same MLflow run
.convoy/computed.json  digest of a stage's entry in dvc.lock -> the MLflow run that first computed it
.convoy/finished.json  digest of params and dvc.lock -> what came of the run that ended with them
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from pipeline.contracts import Options
from pipeline.files import STATE, code_digest, write_json
from pipeline.params import Params, described

RUN = STATE / "run.json"
COMPUTED = STATE / "computed.json"
FINISHED = STATE / "finished.json"
LOCK = Path("dvc.lock")
_changing = threading.Lock()  # the thread that talks to MLflow and the one that runs stages both write


class Attempt(Options):
    """`run.json`."""

    id: str
    """Names this run before MLflow has."""
    key: str
    """Of everything that the run's result depends on: another key is another run."""
    started: int
    """Milliseconds since 1970."""
    resumed: int = 0
    """How often the run was taken up again."""
    run: str = ""
    """The MLflow run, once there is one."""
    seconds: dict[str, float] = Field(default_factory=dict)
    """What each stage took that ran in this run."""
    abandoned: list[str] = Field(default_factory=list)
    """MLflow runs with another key that never ended."""
    verdict: dict[str, Any] = Field(default_factory=dict)
    """Of the gate, once it has spoken: a kill after the promotion must not make it speak of its own champion."""


class Finished(Options):
    """What came of a run."""

    run: str
    version: str
    outcome: str
    """promote, hold or reject."""
    champion: bool
    """Whether that version was the champion when the run ended."""
    reasons: list[str]


def begin(params: Params) -> Attempt:
    """Start a run, or take up the one that was killed: the same params, the same code of this package, the same source.

    Raises:
        UserError: the source of the data is missing.
    """
    key = _digest([described(params), code_digest(), list(params.data.fingerprint())])
    old = read()
    if old and old.key == key:
        return _change(resumed=old.resumed + 1)
    abandoned = [*old.abandoned, *([old.run] if old.run else [])] if old else []
    attempt = Attempt(id=uuid.uuid4().hex, key=key, started=time.time_ns() // 1_000_000, abandoned=abandoned)
    write_json(RUN, attempt.model_dump())
    return attempt


def read() -> Attempt | None:
    """The run at work, or the one that was killed."""
    try:
        return Attempt.model_validate_json(RUN.read_bytes())
    except (OSError, ValidationError):
        return None


def opened(run: str) -> Attempt:
    """Note the MLflow run of the run at work; the abandoned ones are dealt with."""
    return _change(run=run, abandoned=[])


def stage_ran(stage: str, seconds: float) -> Attempt:
    """Note what a stage took, as soon as it is done."""
    attempt = read()
    return _change(seconds={**(attempt.seconds if attempt else {}), stage: round(seconds, 3)})


def decided(verdict: dict[str, Any]) -> None:
    """Note the gate's verdict, if a run is at work."""
    if read():
        _change(verdict=verdict)


def stage_digests(lock: Path = LOCK) -> dict[str, str]:
    """Each stage's entry in `dvc.lock` as a digest: what it was computed from, and what came out."""
    try:
        stages = yaml.safe_load(lock.read_text())["stages"]
    except OSError:
        return {}
    return {name: _digest(entry) for name, entry in stages.items()}


def first_computed(digests: dict[str, str]) -> dict[str, str]:
    """The MLflow run that first computed each stage, where one is known."""
    index = _read(COMPUTED)
    return {stage: index[digest] for stage, digest in digests.items() if digest in index}


def computed(digests: dict[str, str], run: str) -> None:
    """Remember that `run` computed these stages, unless an earlier one did."""
    write_json(COMPUTED, {**dict.fromkeys(digests.values(), run), **_read(COMPUTED)})


def finished(params_text: str) -> Finished | None:
    """What came of an earlier run that ended with these params and this `dvc.lock`: then there is nothing to do.

    Args:
        params_text: of `params.yaml`; the door is not asked, for it would import torch to find nothing to do.
    """
    found = _read(FINISHED).get(_outcome_key(params_text))
    return Finished.model_validate(found) if found else None


def remember(params_text: str, finished: Finished) -> None:
    """The run at work has ended with these params and this `dvc.lock`, and is recorded whole: the next is another."""
    write_json(FINISHED, {**_read(FINISHED), _outcome_key(params_text): finished.model_dump()})
    RUN.unlink(missing_ok=True)


def _outcome_key(params_text: str) -> str:
    try:
        plain = yaml.safe_load(params_text)
    except (yaml.YAMLError, RecursionError):
        plain = params_text  # the door will say what is wrong with it
    if isinstance(plain, dict):
        plain.pop("flow", None)  # no result depends on it
    return _digest([plain, stage_digests()])


def _change(**updates: Any) -> Attempt:
    with _changing:
        attempt = read()
        assert attempt is not None, f"{RUN} is gone while its run is at work"
        attempt = attempt.model_copy(update=updates)
        write_json(RUN, attempt.model_dump())
        return attempt


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    except (OSError, ValueError):
        return {}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
