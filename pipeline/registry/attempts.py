"""What this project remembers of its runs without asking MLflow, whose import alone takes seconds.

.convoy/runs/ID/attempt.json  how far a run is: it outlives a kill, and the next attempt goes on in the same MLflow run
.convoy/runs/ID/code.json     the `pipeline.registry.code.Code` that works on it
.convoy/at-work/KEY.lock      held by whoever works on the run of that key; the kernel frees it when its holder dies
.convoy/computed/DIGEST       a stage's entry in dvc.lock -> the MLflow run that first computed it
.convoy/finished/DIGEST       params and dvc.lock -> what came of the run that ended with them

All of it is shared by the working trees of a project, so that a run that was killed in one goes on in another.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import yaml
from pydantic import Field, ValidationError

from pipeline.contracts import Options
from pipeline.errors import NO_VALUE
from pipeline.files import code_digest, shared, write_json, write_text
from pipeline.params import Params, described

LOCK = Path("dvc.lock")
CODE = "code.json"
RECORD = "record.json"
"""Of a finished run; `pipeline.registry.runs` writes it, and takes a second to import."""
NO_MATTER = ("flow", "notify")
"""Sections of params.yaml that no result depends on."""
GLANCE = 0.1
"""Seconds; whoever only looks whether a lock is held has let it go by then."""
POLL_SECONDS = 0.5


class Finished(Options):
    """What came of a run."""

    id: str
    """Of the run."""
    run: str
    """In MLflow."""
    version: str
    outcome: str
    """promote, hold or reject."""
    champion: bool
    """Whether that version was the champion when the run ended."""
    reasons: list[str]


class Attempt(Options):
    """`attempt.json`."""

    id: str
    """Names this run before MLflow has, and everywhere else: `convoy show ID`."""
    key: str
    """Of everything that the run's result depends on: another key is another run."""
    model: str
    """Its name in the registry."""
    started: int
    """Milliseconds since 1970."""
    resumed: int = 0
    """How often the run was taken up again."""
    run: str = ""
    """The MLflow run, once there is one."""
    flow_run: str = ""
    """The newest Prefect flow run that worked on it."""
    params: dict[str, Any] = Field(default_factory=dict)
    """With every default; empty if an older version of this package began it."""
    stage: str = ""
    """What is at work, or was when the run stopped short: `train`, `judge`; empty once the run has finished."""
    training: str = ""
    """Folder in `pipeline.journal.trainings()` of the training that made its model, once there is one."""
    seconds: dict[str, float] = Field(default_factory=dict)
    """What each stage took that ran in this run."""
    verdict: dict[str, Any] = Field(default_factory=dict)
    """Of the gate, once it has spoken."""
    case: str = ""
    """That the gate opened: a kill after the promotion must not make it speak of its own champion."""
    error: str = ""
    """Why it stopped short the last time, if it could say so."""
    mistake: bool = False
    """Whether that is for somebody to change: going on as it is would stop at the same place; see `endings`."""
    closed: bool = False
    """Whether MLflow was told that it stopped short."""
    finished: Finished | None = None


class Work:
    """A run at work in this process: its attempt, and the lock that says so to others."""

    def __init__(self, attempt: Attempt, lock: IO[str], before: str = "") -> None:
        self.attempt = attempt
        self.before = before
        """The flow run that worked on it before, if it was taken up again."""
        self._lock = lock
        self._changing = threading.Lock()  # the thread that talks to MLflow and the one that runs stages both write

    def opened(self, run: str) -> None:
        """Note the MLflow run."""
        self._change(run=run)

    def at(self, stage: str) -> None:
        """Note what is at work now."""
        if stage != self.attempt.stage:
            self._change(stage=stage)

    def trains(self, training: str) -> None:
        """Note the folder of the training."""
        if training != self.attempt.training:
            self._change(training=training)

    def stage_ran(self, stage: str, seconds: float) -> None:
        """Note what a stage took, as soon as it is done."""
        self._change(seconds={**self.attempt.seconds, stage: round(seconds, 3)})

    def judged(self, case: str, verdict: dict[str, Any]) -> None:
        """Note the case that the gate opened, and its verdict."""
        self._change(case=case, verdict=verdict)

    def stopped(self, error: str, told: bool, mistake: bool = False) -> None:
        """Note why the run stops short, whether MLflow knows, and whether somebody has to change something first."""
        self._change(error=error, closed=told, mistake=mistake)

    def finish(self, params_text: str, finished: Finished) -> None:
        """The run has ended with these params and this `dvc.lock`, and is recorded whole: the next is another."""
        write_json(_outcome(params_text), finished.model_dump())
        self._change(finished=finished, stage="")

    def release(self) -> None:
        """Let the lock go: nobody in this process works on the run any more."""
        Path(self._lock.name).unlink(missing_ok=True)
        self._lock.close()

    def _change(self, **updates: Any) -> None:
        with self._changing:
            self.attempt = self.attempt.model_copy(update=updates)
            _write(self.attempt)


def begin(params: Params, dataset: str, flow_run: str = "", wait: Callable[[], None] = lambda: None) -> Work:
    """Start a run, or take up the one that stopped short: the same params, code of this package and data.

    Args:
        params: all of them.
        dataset: digest of the data that the stages work with.
        flow_run: of Prefect, that works on it.
        wait: called once if another process works on the very same run; it is waited for.
    """
    key = run_key(params, dataset)
    lock = _locked(key, wait)
    before = ""
    for old in reversed(read_all()):
        if old.key == key and old.finished is None:
            before = old.flow_run
            again = {"resumed": old.resumed + 1, "flow_run": flow_run, "error": "", "mistake": False, "closed": False}
            attempt = old.model_copy(update=again | {"params": described(params), "stage": ""})
            break
    else:
        attempt = Attempt(
            id=uuid.uuid4().hex,
            key=key,
            model=params.name,
            started=time.time_ns() // 1_000_000,
            flow_run=flow_run,
            params=described(params),
        )
    _write(attempt)
    return Work(attempt, lock, before)


def run_key(params: Params, dataset: str) -> str:
    """Of everything that a run's result depends on: params, code of this package, and data."""
    about = {section: value for section, value in described(params).items() if section not in NO_MATTER}
    return _digest([about, code_digest(), dataset])


def finished_as(params: Params, dataset: str) -> Finished | None:
    """What the last finished run with these params, this code and these data came to."""
    key = run_key(params, dataset)
    return next((old.finished for old in reversed(read_all()) if old.key == key and old.finished), None)


def folder(run: str) -> Path:
    """Where what is known of a run is kept, by the id of its attempt."""
    return shared() / "runs" / run


def read(run: str) -> Attempt | None:
    """The run with this id, if this project remembers it; what is no id, as that of a web page, is none."""
    return _read(folder(run) / "attempt.json") if re.fullmatch("[0-9a-f]{32}", run) else None


def read_all() -> list[Attempt]:
    """Every run that this project remembers, oldest first."""
    found = [attempt for path in shared().glob("runs/*/attempt.json") if (attempt := _read(path))]
    return sorted(found, key=lambda attempt: (attempt.started, attempt.id))


def stopped_short() -> list[Attempt]:
    """Runs that nobody works on and that have not finished, oldest first: killed, failed or interrupted."""
    return [attempt for attempt in read_all() if attempt.finished is None and not at_work(attempt)]


def at_work(attempt: Attempt) -> bool:
    """Whether a process works on it now."""
    try:
        with _lock_file(attempt.key).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def close_stopped(tell: Callable[[Attempt], None]) -> None:
    """Call `tell` with each run that stopped short and could not say so to MLflow, once."""
    for left in stopped_short():
        if left.run and not left.closed and (lock := _try_lock(left.key)):
            now = _read(folder(left.id) / "attempt.json")  # it may have been taken up and finished meanwhile
            work = Work(now or left, lock)
            if work.attempt == left:
                tell(left)
                work.stopped(left.error, told=True, mistake=left.mistake)
            work.release()


def stage_digests(lock: Path = LOCK) -> dict[str, str]:
    """Each stage's entry in `dvc.lock` as a digest: what it was computed from, and what came out."""
    try:
        stages = yaml.safe_load(lock.read_text()).get("stages") or {}
    except (OSError, yaml.YAMLError, AttributeError):  # none yet, or one that a kill has cut short
        return {}
    return {name: _digest(entry) for name, entry in stages.items()}


def first_computed(digests: dict[str, str]) -> dict[str, str]:
    """The MLflow run that first computed each stage, where one is known."""
    known = {stage: _computed(digest) for stage, digest in digests.items()}
    return {stage: path.read_text().strip() for stage, path in known.items() if path.exists()}


def computed(digests: dict[str, str], run: str) -> None:
    """Remember that `run` computed these stages, unless an earlier one did."""
    for digest in digests.values():
        if not _computed(digest).exists():
            write_text(_computed(digest), f"{run}\n")


def finished(params_text: str) -> Finished | None:
    """What came of an earlier run that ended with these params and this `dvc.lock`: then there is nothing to do.

    Args:
        params_text: of `params.yaml`; the door is not asked, for it would import torch to find nothing to do.
    """
    try:
        return Finished.model_validate_json(_outcome(params_text).read_bytes())
    except (OSError, ValidationError):
        return None


def _outcome(params_text: str) -> Path:
    try:
        plain = yaml.safe_load(params_text)
    except (yaml.YAMLError, *NO_VALUE):
        plain = params_text  # the door will say what is wrong with it
    if isinstance(plain, dict):
        plain = {section: value for section, value in plain.items() if section not in NO_MATTER}
    return shared() / "finished" / f"{_digest([plain, stage_digests()])}.json"


def _computed(digest: str) -> Path:
    return shared() / "computed" / digest


def _lock_file(key: str) -> Path:
    return shared() / "at-work" / f"{key}.lock"


def _locked(key: str, wait: Callable[[], None]) -> IO[str]:
    lock = _try_lock(key)
    if lock is None:
        time.sleep(GLANCE)
        lock = _try_lock(key)
    if lock is None:
        wait()
    while lock is None:
        time.sleep(POLL_SECONDS)
        lock = _try_lock(key)
    return lock


def _try_lock(key: str) -> IO[str] | None:
    path = _lock_file(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):  # held, or its holder has ended and removed it meanwhile
        pass
    lock.close()
    return None


def _read(path: Path) -> Attempt | None:
    try:
        return Attempt.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(attempt: Attempt) -> None:
    write_json(folder(attempt.id) / "attempt.json", attempt.model_dump(mode="json"))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
