"""A project as the page finds it after some months: runs of every kind, a ledger, pictures; nothing was trained.

    project = page_project.make(tmp_path / "project", runs=40)
    with page_project.serve(project.root) as url: ...
    with page_project.working(project.root, project.working): ...      # somebody works on that run meanwhile

Half of the names are hostile: whatever a page shows of them must be text.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from page_outputs import CLASSES, EVIL, TEST, TRAIN, answers, dataset, interval

from flows.servers.processes import HOST, listen
from pipeline.door import parse
from pipeline.files import write_json, write_text
from pipeline.params import Params, described
from pipeline.registry import glances, ledger
from pipeline.registry.attempts import Attempt, Finished
from pipeline.registry.ledger import Act
from pipeline.registry.runs import RunRecord

ROOT = Path(__file__).parents[1]
DAY = 86_400_000
HOUR = 3_600_000
NETWORKS = ("lenet5", "convnet", "timm")
PACKAGES = {f"package-{number}": f"{number % 7}.{number % 11}.0" for number in range(160)}


@dataclass
class Project:
    """What was made."""

    root: Path
    finished: list[str] = field(default_factory=list)
    """Ids of runs, oldest first."""
    stopped: list[str] = field(default_factory=list)
    working: str = ""
    """A run that has not finished: `working` holds its lock."""
    champion: str = ""
    """The run that made the champion."""
    dataset: str = ""
    """Digest."""


def make(root: Path, runs: int = 40) -> Project:
    """Fill the empty folder `root`: so many runs, one in eight of them stopped short, and one that `working` is for."""
    root.mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml"):
        write_text(root / name, (ROOT / name).read_text())
    write_text(root / ".dvc" / "config", "")
    project = Project(root)
    project.dataset, folder = dataset(root)
    models = [answers(root, skill, folder) for skill in (0.78, 0.86, 0.93)]
    params = described(parse(Params, (ROOT / "params.yaml").read_text()))
    began = time.time_ns() // 1_000_000 - runs * 5 * HOUR
    for number in range(runs):
        began_here = began + number * 5 * HOUR
        if number % 8 == 5:
            project.stopped.append(_stopped(root, number, began_here, params))
        else:
            level = min(2, number * 3 // runs)
            record = _record(number, began_here, params, models[level], project.dataset)
            _keep(root, record)
            project.finished.append(record["id"])
    project.working = _id(runs)
    _attempt(root, runs, time.time_ns() // 1_000_000 - 95_000, params, stage="train", training="a" * 32)
    project.champion = _champions(root, project.finished)
    return project


@contextmanager
def working(root: Path, run: str) -> Iterator[None]:
    """Hold the lock of a run: as long as this lasts, it is at work."""
    key = json.loads((root / f".convoy/runs/{run}/attempt.json").read_text())["key"]
    path = root / f".convoy/at-work/{key}.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    path.unlink()


@contextmanager
def serve(root: Path, **variables: str) -> Iterator[str]:
    """The page of the project, in a process of its own; its address."""
    with _served(root, **variables) as (url, _):
        yield url


@contextmanager
def _served(root: Path, **variables: str) -> Iterator[tuple[str, psutil.Process]]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_", "CONVOY_"))}
    door = listen(0)
    url = f"http://{HOST}:{door.getsockname()[1]}"
    log = (root / "page.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "dashboard", str(door.fileno()), HOST],
        cwd=root,
        env={**clean, "PYTHONPATH": str(ROOT), **variables},
        pass_fds=[door.fileno()],
        stdout=log,
        stderr=log,
    )
    door.close()
    try:
        assert httpx.get(f"{url}/health", timeout=120).json() == {"status": "ok"}
        yield url, psutil.Process(process.pid)
    except httpx.HTTPError as error:
        raise AssertionError((root / "page.log").read_text()) from error
    finally:
        process.terminate()
        process.wait(60)
        log.close()


served = _served
"""As `serve`, with the process."""


def _id(number: int) -> str:
    return hashlib.md5(f"run {number}".encode(), usedforsecurity=False).hexdigest()


def _uuid(number: int) -> str:
    text = hashlib.md5(f"flow {number}".encode(), usedforsecurity=False).hexdigest()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _record(number: int, began: int, params: dict[str, Any], made: dict[str, Any], dataset: str) -> dict[str, Any]:
    dice = random.Random(number)
    digest = hashlib.sha256(f"model {number}".encode()).hexdigest()
    changed = {**params, "model": {**params["model"], "name": NETWORKS[number % 3]}, "seed": number}
    changed["train"] = {**params["train"], "epochs": 3 + number % 9}
    outcome = ("promote", "hold", "reject", "hold")[dice.randrange(4)] if number else "promote"
    accuracy = made["scores"]["accuracy"]["value"] + dice.uniform(-0.02, 0.02)
    scores = {**made["scores"], "accuracy": interval(accuracy)}
    record = {
        "id": _id(number),
        "model": "parts" if number % 5 else "parts-small",
        "started": began,
        "ended": began + dice.randrange(20_000, 3_000_000),
        "resumed": number % 3 // 2,
        "code": {
            "commit": hashlib.sha1(f"{number // 6}".encode(), usedforsecurity=False).hexdigest(),
            "branch": "main",
            "patch": ""
            if number % 4
            else f"diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-old\n+{EVIL}\n",
            "left_out": [],
            "digest": "c" * 64,
        },
        "params": changed,
        "params_text": yaml.safe_dump(changed),
        "lock_text": made["lock"],
        "seconds": {"train": 9.2 + number, "evaluate": 3.2},
        "first_computed": {"ingest": "e" * 32, "augment": "e" * 32},
        "data": {
            "digest": dataset,
            "origin": {"name": "folder", "path": "~/parts"},
            "images": TEST + TRAIN,
            "classes": CLASSES,
            "splits": {"train": TRAIN, "val": 0, "test": TEST},
            "rejected": 3,
        },
        "environment": {
            "requirements": "f" * 64,
            "packages": {**PACKAGES, "torch": "2.11.0", "numpy": "2.4.1"},
            "python": "3.11.7",
            "system": "Linux-6.18-x86_64",
            "processor": "Intel(R) Xeon(R) Processor",
            "cores": 8,
            "training": {"device": "cuda", "threads": 8, "precision": "bfloat16", "memory_format": "channels_last"},
        },
        "mlflow_run": hashlib.md5(f"mlflow {number}".encode(), usedforsecurity=False).hexdigest(),
        "flow_run": _uuid(number),
        "tags": {"trigger": "nightly"} if number % 6 == 2 else {"dvc.experiment": EVIL} if number % 9 == 4 else {},
        "version": {
            "name": "parts" if number % 5 else "parts-small",
            "version": str(number + 1),
            "digest": digest,
            "dataset": dataset,
            "location": f".convoy/mlartifacts/parts/models/m-{digest[:8]}/artifacts/model",
        },
        "scores": scores,
        "verdict": _verdict(outcome, accuracy, digest),
    }
    return RunRecord.model_validate(record).model_dump(mode="json")


def _verdict(outcome: str, accuracy: float, digest: str) -> dict[str, Any]:
    champion = accuracy - {"promote": 0.04, "hold": 0.004, "reject": -0.05}[outcome]
    difference = accuracy - champion
    finding = {"promote": "Better than", "hold": "No difference that this test can show to", "reject": "Worse than"}[
        outcome
    ]
    return {
        "outcome": outcome,
        "reasons": [
            f"{finding} version 1: Accuracy {accuracy:.4f} against {champion:.4f} on the same {TEST} test images.",
            f"With 95 % confidence it is at least {difference - 0.02:+.4f}, and more than 0 is needed. {EVIL}",
        ],
        "comparison": {
            "score": "Accuracy",
            "champion_name": "version 1",
            "images": TEST,
            "units": TEST,
            "challenger": accuracy,
            "champion": champion,
            "difference": difference,
            "low": difference - 0.025,
            "high": difference + 0.025,
            "lower": difference - 0.02,
            "detectable": 0.031,
            "confidence": 0.95,
            "fixed": 9,
            "broken": 3,
            "p": 0.146,
        },
        "slices": [
            _slice("class", CLASSES[0], 20, 0.85, 0.9, True),
            _slice("class", EVIL, 20, 0.6, 0.9, outcome != "reject"),
        ],
        "checks": [
            {"name": "files", "passed": True, "found": "The files are those that were trained."},
            {
                "name": "latency",
                "passed": outcome != "reject",
                "found": f"12.4 ms an image; 20 ms is the limit. {EVIL}",
            },
        ],
        "challenger": digest,
        "epoch": 0,
    }


def _slice(column: str, value: str, images: int, challenger: float, champion: float, held: bool) -> dict[str, Any]:
    return {
        "column": column,
        "value": value,
        "images": images,
        "challenger": challenger,
        "champion": champion,
        "fixed": 1,
        "broken": 2,
        "p": 0.75,
        "floor": 0.8,
        "held": held,
    }


def _keep(root: Path, record: dict[str, Any]) -> None:
    """Plain writes: a thousand of them that wait for the disk take a minute."""
    folder = root / ".convoy/runs" / record["id"]
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "glance.json").write_text(glances.of_record(record).model_dump_json())
    ended = Finished(
        id=record["id"],
        run=record["mlflow_run"],
        version=record["version"]["version"],
        outcome=record["verdict"]["outcome"],
        champion=False,
        reasons=record["verdict"]["reasons"],
    )
    attempt = Attempt(
        id=record["id"], key=record["id"] * 2, model=record["model"], started=record["started"], finished=ended
    )
    (folder / "attempt.json").write_text(attempt.model_dump_json())


def _attempt(root: Path, number: int, began: int, params: dict[str, Any], **more: Any) -> str:
    run = _id(number)
    attempt = Attempt(
        id=run,
        key=run * 2,
        model="parts",
        started=began,
        run=run[::-1],
        flow_run=_uuid(number),
        params=params,
        seconds={"ingest": 2.4, "augment": 1.1},
        **more,
    )
    write_json(root / ".convoy/runs" / run / "attempt.json", attempt.model_dump(mode="json"))
    if attempt.training:
        folder = root / ".convoy/train" / attempt.training
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "journal.jsonl").write_text("\n".join(map(json.dumps, _journal(6, began))) + "\n")
        log = root / f".convoy/logs/runs/{attempt.flow_run}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("The run begins, in process 4711.\n" + "".join(f"train: epoch {n} {EVIL}\n" for n in range(40)))
    return run


def _stopped(root: Path, number: int, began: int, params: dict[str, Any]) -> str:
    errors = ("", "The training diverged: the loss is nan.\nLower `optimizer.lr` in params.yaml.", EVIL)
    error = errors[number % 3]
    return _attempt(root, number, began, params, stage="train", error=error, mistake="diverged" in error)


def _journal(epochs: int, began: int) -> Iterator[dict[str, Any]]:
    for step in range(epochs * 20):
        values = {"train/loss": 2.3 * math.exp(-step / 40) + 0.1, "train/learning_rate": 0.003}
        yield {"time": began + step * 500, "series": "step", "step": step, "values": values}
        if step % 20 == 19:
            epoch = step // 20
            loss = 2.0 * math.exp(-epoch / 3)
            values = {"epoch/train_loss": loss, "epoch/val_loss": loss + 0.1, "epoch/val_accuracy": 1 - loss / 2.5}
            yield {"time": began + step * 500, "series": "epoch", "step": epoch, "values": values}


def _champions(root: Path, finished: list[str]) -> str:
    """Three moves of the champion of `parts`; the run of the last one."""
    path = root / ".convoy" / ledger.LEDGER
    records = [json.loads((root / f".convoy/runs/{run}/record.json").read_text()) for run in finished]
    mine = [record for record in records if record["model"] == "parts"]
    before, chosen = None, [mine[0], mine[len(mine) // 2], mine[-2 if len(mine) > 2 else -1]]
    for epoch, record in enumerate(chosen):
        version = record["version"]
        act = Act(
            action="promote",
            model="parts",
            who="ada",
            via="page",
            why=f"Better on every slice. {EVIL}",
            from_version=before,
            to_version=version["version"],
            model_digest=version["digest"],
            dataset_digest=version["dataset"],
            location=version["location"],
        )
        ledger.append(act, after=epoch, path=path)
        before = version["version"]
    return str(chosen[-1]["id"])
