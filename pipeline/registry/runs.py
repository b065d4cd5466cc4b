"""The record of a run: all that it was made of and came to, in one file that can travel.

.convoy/runs/ID/record.json   beside the attempt that it belongs to; also an artifact of the MLflow run

It holds the params, `dvc.lock` and the patch of the code as they were, so that the commit, the data in DVC's cache or
remote, and this file are enough to rebuild the run.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from pipeline.contracts import Options
from pipeline.dataset import DatasetInfo
from pipeline.door import PARAMS
from pipeline.files import DATASET, code_digest, write_json
from pipeline.params import Params, described
from pipeline.registry import attempts, environment, glances
from pipeline.registry.attempts import LOCK, RECORD, Attempt
from pipeline.registry.champion import Version
from pipeline.registry.code import Code
from pipeline.registry.environment import Environment
from pipeline.registry.verdict import Verdict

ARTIFACT = RECORD
SCORES = Path("out/evaluation/metrics.json")
TRAINING = Path("out/training/training.json")


class CodeOf(Options):
    """Which code ran."""

    commit: str
    """Empty outside a git repository."""
    branch: str
    patch: str = Field(repr=False)
    """From the commit to the files as they lay there."""
    left_out: list[str]
    """New files too large for the patch: with any of these the run cannot be rebuilt from its record."""
    digest: str
    """Of the package `pipeline`."""


class DataOf(Options):
    """Which data it learnt from."""

    digest: str
    origin: dict[str, Any]
    """The section `data` of the params."""
    images: int
    classes: list[str]
    splits: dict[str, int]
    rejected: int


class RunRecord(Options):
    """`record.json`."""

    id: str = Field(pattern="^[0-9a-f]{32}$")
    """A record may come from elsewhere, and its id becomes the name of a folder."""
    model: str
    started: int
    """Milliseconds since 1970."""
    ended: int
    resumed: int
    code: CodeOf
    params: dict[str, Any]
    """With every default."""
    params_text: str = Field(repr=False)
    lock_text: str = Field(repr=False)
    """`dvc.lock`: what each stage read and wrote, by its digest."""
    seconds: dict[str, float]
    """What each stage took that ran."""
    first_computed: dict[str, str]
    """The MLflow run that first computed a stage that did not run."""
    data: DataOf
    environment: Environment
    mlflow_run: str
    flow_run: str
    """Of Prefect; the last one, if the run was taken up again by another."""
    tags: dict[str, str]
    """What else ties it: `dvc.experiment`, `trigger`."""
    version: Version
    scores: dict[str, Any]
    verdict: Verdict


def gather(
    attempt: Attempt, params: Params, code: Code, version: Version, verdict: Verdict, tags: dict[str, str]
) -> RunRecord:
    """The record of the run whose outputs lie in `out/`, as it stands now."""
    info = DatasetInfo.model_validate_json((DATASET / "dataset.json").read_bytes())
    digests = attempts.stage_digests()
    return RunRecord(
        id=attempt.id,
        model=params.name,
        started=attempt.started,
        ended=time.time_ns() // 1_000_000,
        resumed=attempt.resumed,
        code=CodeOf(
            commit=code.commit,
            branch=code.branch,
            patch=code.patch,
            left_out=list(code.left_out),
            digest=code_digest(),
        ),
        params=described(params),
        params_text=PARAMS.read_text(encoding="utf-8"),
        lock_text=LOCK.read_text(encoding="utf-8"),
        seconds=attempt.seconds,
        first_computed={
            stage: run for stage, run in attempts.first_computed(digests).items() if stage not in attempt.seconds
        },
        data=DataOf(
            digest=info.digest,
            origin=described(params)["data"],
            images=info.images,
            classes=info.classes,
            splits=info.splits,
            rejected=info.rejected,
        ),
        environment=environment.current(json.loads(TRAINING.read_text())),
        mlflow_run=attempt.run,
        flow_run=attempt.flow_run,
        tags=tags,
        version=version,
        scores=json.loads(SCORES.read_text()),
        verdict=verdict,
    )


def write(record: RunRecord) -> None:
    """Keep it beside its attempt, and its glance beside it."""
    plain = record.model_dump(mode="json")
    write_json(attempts.folder(record.id) / RECORD, plain)
    glances.write(plain)


def read(run: str) -> RunRecord | None:
    """The record of the run with this id, if it has finished here."""
    try:
        return RunRecord.model_validate_json((attempts.folder(run) / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def read_all() -> list[RunRecord]:
    """Every finished run that is recorded here, oldest first."""
    found = (read(attempt.id) for attempt in attempts.read_all())
    return [record for record in found if record]
