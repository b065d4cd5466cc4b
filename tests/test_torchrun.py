"""The stage `train` as torchrun starts it: as many processes as params say, of which one speaks and writes."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from engine_project import SHIPPED, SMALL, params_of, prepared, project
from forked import ROOT, Forked, stage
from safetensors.torch import load_file
from together import begun_together

from flows.edits import edited
from pipeline.errors import UserError
from pipeline.train.processes.fitting import joined

__all__ = ["prepared", "project"]

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
WEIGHTS = Path("out/model/weights.safetensors")


def write_params(folder: Path, *changes: str) -> None:
    source = f"data={{name: folder, path: {folder / 'pictures'}}}"
    (folder / "params.yaml").write_text(edited(SHIPPED, [source, *SMALL, "compute.processes=2", *changes]))


@pytest.mark.slow
def test_torchrun_trains_what_the_stage_trains_by_itself(project: Path) -> None:
    write_params(project)
    for one in begun_together(project, functools.partial(stage, "train"), 2):
        ended = one.ended()
        assert ended.status == 0, ended.words
    expected = load_file(WEIGHTS)
    shutil.rmtree(".convoy")
    shutil.rmtree("out/model")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*TORCHRUN, "2", "-m", "pipeline", "train"], env=environment, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    found = load_file(WEIGHTS)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    said = run.stdout.splitlines()
    assert [line[:16] for line in said] == [f"train: epoch   {number}" for number in (1, 2, 3)] + ["train: kept epoc"]
    assert said[-1].endswith("2 processes")
    assert "train" not in run.stderr and "Warning" not in run.stderr


@pytest.mark.parametrize(
    ("started", "here", "words"),
    [
        (
            3,
            3,
            "params.yaml: compute.processes is 2, but torchrun has started 3.\n"
            "Start as many (torchrun --nproc-per-node 2 -m pipeline train), or set compute.processes to 3.",
        ),
        (
            2,
            1,
            "train: torchrun has started 2 processes, but 1 of them on this machine.\n"
            "They read and write the same folder: start all on one machine, by torchrun --nproc-per-node 2 -m pipeline "
            "train.",
        ),
    ],
)
def test_other_processes_than_params_say_are_refused(project, monkeypatch, started: int, here: int, words: str) -> None:
    for name, value in as_torchrun(1, started, here).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        joined(params_of(project, "compute.processes=2"))
    assert str(error.value) == words


def test_a_stage_of_one_process_is_refused_and_has_done_nothing(project: Path) -> None:
    write_params(project)
    shutil.rmtree("out", ignore_errors=True)
    before = sorted(project.rglob("*"))
    for rank in (0, 1):
        word = project.parent / f"word-{rank}"
        variables = as_torchrun(rank, 2, 2) | {"TORCHELASTIC_ERROR_FILE": str(word)}
        assert Forked(project, functools.partial(stage, "ingest"), **variables).ended() == (1, "")
        said = json.loads(word.read_text())["message"]
        assert said == "ingest: is done by one process; run it without torchrun, by python -m pipeline ingest."
    assert sorted(project.rglob("*")) == before


def as_torchrun(rank: int, started: int, here: int) -> dict[str, str]:
    """What torchrun tells a process of its place."""
    names = {"RANK": rank, "WORLD_SIZE": started, "LOCAL_WORLD_SIZE": here}
    return {"TORCHELASTIC_RUN_ID": "none", **{name: str(number) for name, number in names.items()}}
