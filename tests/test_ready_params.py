"""Every file in params/ works: its format is read, a few steps are learnt, the answers scored and reported.

One file goes through the real flow. Of the others the stages run in this process; one file for each task is also
registered, judged and shown, as the flow does it: the flow itself costs five times as much, and is the same for all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import databases
import pyarrow.parquet as pq
import pytest
import small_project
import torch
import yaml
from small_project import ROOT, convoy
from tiny_sources import SOURCES

from flows import artifacts, retrain
from flows.edits import edited, merged
from flows.recording import Recording
from pipeline import plugin
from pipeline.__main__ import STAGES
from pipeline.dataset import Dataset
from pipeline.door import load
from pipeline.params import Params

READY = sorted(path.stem for path in (ROOT / "params").glob("*.yaml"))
READ = {name: yaml.safe_load((ROOT / "params" / f"{name}.yaml").read_text()) for name in READY}
TASKS = {name: params["task"]["name"] for name, params in READ.items()}
FLOWN = "detection-coco"
JUDGED = {task: name for name, task in sorted(TASKS.items(), reverse=True)}.values()
"""The first file of each task."""
RECIPES = {
    name: yaml.safe_dump([READ[name].get(section) for section in ("task", "augment", "model", "loss")])
    for name in READY
}
LEARNT = {recipe: name for name, recipe in sorted(RECIPES.items(), reverse=True)}.values()
"""The first file of each recipe: others differ in the format of the source."""
FEW_STEPS = (
    *("train.epochs=1", "train.batch_size=8", "augment.size=64", "evaluate.resamples=100", "gate.promote=never"),
    *("compute.precision=float32", "compute.memory_format=contiguous"),  # else the fastest is found out by trying
)
pytestmark = pytest.mark.slow


def test_every_file_has_a_source_to_try_it_on() -> None:
    assert set(READY) == set(SOURCES)


def test_from_a_source_to_a_verdict(tmp_path: Path) -> None:
    project = small_project.make(tmp_path / "project", small_project.make_pictures(tmp_path / "shades"))
    said = convoy(
        project,
        *("run", "--params", str(ROOT / "params" / f"{FLOWN}.yaml")),
        *(word for change in changes(FLOWN, tmp_path / "source") for word in ("--set", change)),
    )
    assert "report" in said and "on" in said
    check_data(FLOWN, project / "out")
    check(project / "out")


@pytest.mark.parametrize("name", [name for name in READY if name != FLOWN])
def test_from_a_source_to_a_report(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = ROOT / "params" / f"{name}.yaml"
    text = merged(ready.read_text(), (ROOT / "params.yaml").read_text(), str(ready))
    (tmp_path / "params.yaml").write_text(edited(text, changes(name, tmp_path / "source")))
    monkeypatch.chdir(tmp_path)
    learnt = name in LEARNT
    for stage in STAGES if learnt else ("ingest", "augment"):
        STAGES[stage]()
    check_data(name, tmp_path / "out")
    if learnt:
        check(tmp_path / "out")
    if name in JUDGED:
        shutil.copy(ROOT / "requirements.lock", tmp_path)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        databases.give(tmp_path, "mlflow.db")
        stages = {stage: {"cmd": f"python -m pipeline {stage}"} for stage in STAGES}  # as DVC notes that they have run
        (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
        judge_and_show()


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(mode)


def changes(name: str, source: Path) -> list[str]:
    """Of the params, for a tiny source, which is made."""
    SOURCES[name](source)
    smaller = [] if "tiles" not in name else ["augment.frame={name: tiles, tile: 40, overlap: 0.25}"]
    return [f"data.path={source}", *FEW_STEPS, *smaller]


def judge_and_show() -> None:
    """What the flow does once its stages are done."""
    params = load(Params)
    with Recording(params, {}) as recording:
        recording.begin(Dataset.open().info.digest)
        version = retrain.register.fn(recording)
        case = retrain.judge.fn(recording, params, version, False)
        assert not retrain.promote.fn(recording, params, case)  # gate.promote=never
        shown = artifacts.of_run(params, version, case.verdict, False)
        record = recording.whole(version, case.verdict, {})
        assert recording.conclude(record, False).version == version.version
    assert case.verdict.reasons and len(shown) == 4
    assert {row["score"] for row in json.loads(shown[0].data)} >= {plugin.metric_named(params.task.score).title}


def check_data(name: str, out: Path) -> None:
    """What the first stages leave."""
    info = json.loads((out / "dataset/dataset.json").read_text())
    assert info["images"] == 24 and info["format"] == READ[name]["data"]["name"] and info["task"] == TASKS[name]
    assert (out / "policy/preview.png").stat().st_size > 1000


def check(out: Path) -> None:
    """What the others leave."""
    scores = json.loads((out / "evaluation/metrics.json").read_text())
    info = json.loads((out / "dataset/dataset.json").read_text())
    predictions = pq.read_table(out / "evaluation/predictions.parquet")
    assert predictions.num_rows == scores["images"] == info["splits"]["test"]
    assert {"id", "source", "actual", "answer", "quality", "confidence", "loss"} <= set(predictions.column_names)
    assert (out / "evaluation/report.html").stat().st_size > 5000
