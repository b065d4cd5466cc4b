"""What is allowed and hardly ever wanted is said before a training begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_project import params_of

from pipeline.models import convnet
from pipeline.train.processes.place import MEETING
from pipeline.train.remarks import remarks

BEGUN = "layers.frozen_epochs is 20, but model"
NOISE = "starts from random weights, and its last layer learns from what those make of a picture;"


def test_layers_that_rest_on_random_weights(tmp_path: Path) -> None:
    assert list(remarks(params_of(tmp_path))) == []
    params = params_of(tmp_path, "layers.frozen_epochs=20")
    assert list(remarks(params)) == [
        f"{BEGUN} 'convnet' {NOISE} set model.weights to a file, or layers.frozen_epochs to 0"
    ]
    started = convnet.Config(weights="here.pth", weights_sha256="0" * 64)
    assert list(remarks(params.model_copy(update={"model": started}))) == []
    assert list(remarks(params_of(tmp_path, "layers.frozen_epochs=20", "model={name: lenet5}"))) == [
        f"{BEGUN} 'lenet5' {NOISE} take a model that brings weights, or layers.frozen_epochs to 0"
    ]


def test_more_processes_than_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.train.remarks.cores", lambda: 2)
    for name, value in {MEETING: "here", "RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    params = params_of(tmp_path, "compute.processes=4")
    assert list(remarks(params)) == [
        "compute.processes is 4, but there are 2 cores of the processor, for which they wait in turn: fewer are faster"
    ]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert list(remarks(params)) == []
