"""Every file in params/ works through the real flow: its format is read, a few steps are learnt, the gate decides."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import small_project
import yaml
from small_project import ROOT, convoy
from tiny_sources import SOURCES

READY = sorted(path.stem for path in (ROOT / "params").glob("*.yaml"))
FEW_STEPS = ("train.epochs=1", "train.batch_size=8", "augment.size=64", "evaluate.resamples=100", "gate.promote=never")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One project for all: a user changes params.yaml and runs again."""
    pictures = small_project.make_pictures(tmp_path_factory.mktemp("shades"))
    return small_project.make(tmp_path_factory.mktemp("ready") / "project", pictures)


def test_every_file_has_a_source_to_try_it_on() -> None:
    assert set(READY) == set(SOURCES)


@pytest.mark.parametrize("name", READY)
def test_from_a_source_to_a_verdict(name: str, project: Path, tmp_path: Path) -> None:
    SOURCES[name](tmp_path / "source")
    smaller = [] if "tiles" not in name else ["augment.frame={name: tiles, tile: 40, overlap: 0.25}"]
    changes = [f"data.path={tmp_path / 'source'}", *FEW_STEPS, *smaller]
    said = convoy(
        project,
        *("run", "--params", str(ROOT / "params" / f"{name}.yaml")),
        *(word for change in changes for word in ("--set", change)),
    )
    assert "report" in said and "on" in said
    scores = json.loads((project / "out/evaluation/metrics.json").read_text())
    task = json.loads((project / "out/dataset/dataset.json").read_text())
    form = yaml.safe_load((ROOT / "params" / f"{name}.yaml").read_text())["data"]["name"]
    predictions = pq.read_table(project / "out/evaluation/predictions.parquet")
    assert task["images"] == 24 and task["format"] == form
    assert predictions.num_rows == scores["images"] == task["splits"]["test"]
    assert {"id", "source", "actual", "answer", "quality", "confidence", "loss"} <= set(predictions.column_names)
    assert (project / "out/evaluation/report.html").stat().st_size > 5000
    # What the registered files answer to a picture is what people and programs see.
    picture = next(path for path in sorted((project / "out/policy").glob("*.png")))
    assert picture.stat().st_size > 1000
