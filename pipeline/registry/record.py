"""The record of a run in MLflow: one flow run is one MLflow run, also when it was killed and taken up again.

Everything here may be done twice: the second time changes nothing.
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.dataset import DatasetInfo
from pipeline.door import PARAMS
from pipeline.files import DATASET, sha256_of
from pipeline.params import Params, described, part_name
from pipeline.registry import attempts
from pipeline.registry.attempts import LOCK, Attempt, Work
from pipeline.registry.code import Code
from pipeline.registry.decisions import person
from pipeline.registry.environment import REQUIREMENTS
from pipeline.registry.tracking import address, experiment, reaching

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

OUT = Path("out")
KEPT = ("policy", "training", "evaluation")
"""Folders of `out/` that are kept with the run; the dataset and the model have places of their own."""
TRAINING = OUT / "training" / "training.json"
SCORES = OUT / "evaluation" / "metrics.json"
ATTEMPT = "mlflow.convoy.attempt"  # MLflow's page leaves out tags that begin with its name


@dataclass(frozen=True)
class Run:
    """An MLflow run that is open."""

    client: MlflowClient
    id: str
    experiment: str
    """Its id."""
    name: str
    """Of the experiment and of the registered model."""
    started: int
    """Milliseconds since 1970."""


def open_run(client: MlflowClient, work: Work, params: Params, code: Code, flow: dict[str, str]) -> Run:
    """The MLflow run of this attempt: made, or taken up again; runs that were left behind are ended.

    Args:
        client: from `tracking.connect`.
        work: from `attempts.begin`.
        params: all of them.
        code: what is at work.
        flow: tags that tie the run to what runs it, as `{"prefect.flow_run": ...}`.

    Raises:
        UserError: MLflow does not answer.
    """
    attempt = work.attempt
    with reaching(address()):
        close_stopped(client)
        where = experiment(client, params.name)
        run_id = _existing(client, attempt, where) or _create(client, attempt, where, params)
        work.opened(run_id)
        if client.get_run(run_id).info.status != "RUNNING":
            client.update_run(run_id, status="RUNNING")
        run = Run(client, run_id, where, params.name, attempt.started)
        _log(run, params=_flat(described(params)), tags=_environment(attempt, code) | flow)
        if code.dirty:
            left = "".join(f"# left out, too large: {name}\n" for name in code.left_out)
            client.log_text(run_id, left + code.patch, "code/uncommitted.patch")
        return run


def close_stopped(client: MlflowClient) -> None:
    """End the MLflow runs of those that were killed: nobody works on them, and nobody could say so."""
    attempts.close_stopped(lambda left: _terminate(client, left.run, "KILLED"))


def record_outputs(run: Run, params: Params, seconds: dict[str, float]) -> None:
    """Log what the stages left, whether this run computed it or found it.

    Args:
        run: at work.
        params: of it.
        seconds: what each stage took that ran in it.

    Raises:
        UserError: MLflow does not answer.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    info = DatasetInfo.model_validate_json((DATASET / "dataset.json").read_bytes())
    digests = attempts.stage_digests()
    earlier = {stage: found for stage, found in attempts.first_computed(digests).items() if found != run.id}
    facts = json.loads(TRAINING.read_text())
    tags = {
        "dvc.lock": sha256_of(LOCK),
        "dataset.digest": info.digest,
        **{
            f"training.{key}": str(facts[key])
            for key in ("device", "processes", "threads", "precision", "memory_format", "execution")
            if key in facts
        },
        **({"training.moves": "; ".join(facts["moves"])} if "moves" in facts else {}),
        **{f"stage.{stage}": _fate(stage, seconds, earlier) for stage in digests},
    }
    metrics = scores() | {f"seconds/{stage}": spent for stage, spent in seconds.items()}
    source = json.dumps(described(params)["data"])
    data = Dataset(params.name, info.digest[:36], part_name(params.data), source, None, _profile(info))
    with reaching(address()):
        _log(run, metrics=_metrics(run, metrics), tags=tags)
        run.client.log_inputs(run.id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
        for name in KEPT:
            run.client.log_artifacts(run.id, str(OUT / name), name)
        for file, folder in ((PARAMS, None), (LOCK, None), (DATASET / "dataset.json", "dataset")):
            run.client.log_artifact(run.id, str(file), folder)
        rejected = DATASET / "rejected.parquet"
        if rejected.exists():
            run.client.log_artifact(run.id, str(rejected), "dataset")
    attempts.computed(digests, run.id)


def note(run: Run, tags: dict[str, str], description: str) -> None:
    """Add tags, and say in Markdown what came of the run."""
    with reaching(address()):
        _log(run, tags=tags | {"mlflow.note.content": description})


def keep(run: Run, name: str, value: Any) -> None:
    """Keep a value with the run, as the JSON artifact `name`."""
    with reaching(address()):
        run.client.log_text(run.id, json.dumps(value, indent=2, sort_keys=True) + "\n", name)


def close(run: Run) -> None:
    """The run is done. `Work.finish` comes after: until then a kill makes the next run finish this one again."""
    with reaching(address()):
        _terminate(run.client, run.id, "FINISHED")


def interrupt(run: Run, status: str) -> None:
    """The run stops short: `FAILED` or `KILLED`. The next one with the same inputs takes it up again."""
    with reaching(address()):
        _terminate(run.client, run.id, status)


def scores() -> dict[str, float]:
    """The test scores with their intervals as MLflow metrics: `test/accuracy`, `test/accuracy_low`, ..."""
    found: dict[str, float] = {}
    for name, value in json.loads(SCORES.read_text()).items():
        if isinstance(value, dict):
            suffixes = {"value": "", "low": "_low", "high": "_high"}
            found |= {f"test/{name}{end}": value[part] for part, end in suffixes.items() if value[part] is not None}
    return found


def _existing(client: MlflowClient, attempt: Attempt, where: str) -> str | None:
    """The attempt's MLflow run: noted, or made by a process that was killed before it could note it."""
    for run in client.search_runs([where], f"tags.`{ATTEMPT}` = '{attempt.id}'", max_results=1):
        return str(run.info.run_id)
    return None


def _create(client: MlflowClient, attempt: Attempt, where: str, params: Params) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(attempt.started / 1000))
    name = f"{part_name(params.model)} {moment}"
    tags = {ATTEMPT: attempt.id, "mlflow.user": person()}
    return str(client.create_run(where, attempt.started, tags, name).info.run_id)


def _environment(attempt: Attempt, code: Code) -> dict[str, str]:
    tags = {
        "mlflow.source.name": "convoy run",
        "mlflow.source.type": "LOCAL",
        "env.python": platform.python_version(),
        "env.torch": installed("torch"),
        "env.requirements": sha256_of(REQUIREMENTS) if REQUIREMENTS.exists() else "",
        "resumed": str(attempt.resumed),
        "git.commit": code.commit or "none: not a git repository",
    }
    if code.commit:
        dirty = "yes: see code/uncommitted.patch among the artifacts" if code.dirty else "no"
        tags |= {"mlflow.source.git.commit": code.commit, "git.branch": code.branch or "none", "git.dirty": dirty}
    return tags


def _fate(stage: str, seconds: dict[str, float], earlier: dict[str, str]) -> str:
    ran = f"ran in {seconds[stage]:.1f} s" if stage in seconds else "up to date"
    return f"{ran}; first computed by run {earlier[stage]}" if stage in earlier else ran


def _profile(info: DatasetInfo) -> str:
    return json.dumps({"images": info.images, **info.splits, "classes": len(info.classes), "rejected": info.rejected})


def _flat(values: dict[str, Any], above: str = "") -> dict[str, str]:
    """Nested values as `model.name: convnet`; lists and empty sections as JSON."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{above}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[f"{above}{key}"] = text[:6000]  # MLflow's limit; params.yaml is among the artifacts
    return flat


def _metrics(run: Run, values: dict[str, float]) -> list[Metric]:
    from mlflow.entities import Metric

    # All at the run's start: logged again, they are the same to MLflow.
    return [Metric(name, value, run.started, 0) for name, value in values.items()]


def _log(
    run: Run,
    metrics: list[Metric] | None = None,
    params: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
) -> None:
    from mlflow.entities import Param, RunTag

    given = [Param(key, value) for key, value in (params or {}).items()]
    for start in range(0, max(1, len(given)), 100):  # MLflow's limit
        run.client.log_batch(run.id, params=given[start : start + 100])
    run.client.log_batch(
        run.id, metrics=metrics or (), tags=[RunTag(key, value) for key, value in (tags or {}).items()]
    )


def _terminate(client: MlflowClient, run_id: str, status: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        running = client.get_run(run_id).info.status in ("RUNNING", "SCHEDULED")
    except MlflowException:  # removed by hand
        return
    if running:
        client.set_terminated(run_id, status)
