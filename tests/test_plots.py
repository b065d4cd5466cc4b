"""`dvc plots show`: a line for each training, also where several make one model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_project import ROOT, command

from pipeline.files import write_text
from pipeline.journal import Journal
from pipeline.train.outputs import write_notes

PLOTS = ("Loss by epoch", "out/training/epochs.csv")


def shown(project: Path, monkeypatch: pytest.MonkeyPatch, members: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """What DVC draws of trainings of two epochs, in Vega-Lite."""
    shutil.copytree(ROOT / ".dvc", project / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "*.local"))
    write_text(project / ".dvc/config", "[core]\n    no_scm = true\n")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, project)
    monkeypatch.chdir(project)
    home = Path(".convoy/train/k")
    for member in members:
        journal = Journal(home, member)
        for epoch in range(2):
            loss = {"epoch/train_loss": 1.0 / (1 + epoch), "epoch/val_loss": 2.0 / (1 + epoch)}
            journal.append("epoch", epoch, {**loss, "epoch/val_accuracy": 0.5 + epoch / 10 + member / 100})
        journal.close()
    write_notes(Path("out/training"), home, "accuracy", {})
    found = json.loads(command(project, "-m", "dvc", "plots", "show", "--json", *PLOTS).splitlines()[-1])["data"]
    return {plot: found[plot][0]["content"] for plot in PLOTS}


def test_members_of_an_ensemble_have_a_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for plot, drawn in shown(tmp_path, monkeypatch, (1, 2)).items():
        (whose,) = drawn["transform"]
        encoding = drawn["encoding"]
        assert "datum.member" in whose["calculate"] and encoding["color"]["field"] == whose["as"], plot
        lines: dict[tuple[str, str], list[float]] = {}
        for row in drawn["data"]["values"]:
            lines.setdefault((row["member"], row.get("field", "")), []).append(float(row[encoding["x"]["field"]]))
        assert set(map(tuple, lines.values())) == {(0, 1)} and {member for member, _ in lines} == {"1", "2"}, plot
        assert len(lines) == (4 if plot == "Loss by epoch" else 2)
        assert "<DVC_METRIC" not in json.dumps(drawn)


def test_one_training_has_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for plot, drawn in shown(tmp_path, monkeypatch, (0,)).items():
        assert drawn["encoding"]["x"]["field"] == "epoch", plot
        assert all("member" not in row for row in drawn["data"]["values"])
        assert "isValid(datum.member)" in drawn["transform"][0]["calculate"]
