"""The probe: what params fix is kept, what they leave open is measured once and remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.door import parse
from pipeline.params import TrainParams
from pipeline.plugin import config_class
from pipeline.train import probe
from pipeline.train.batches import Batch
from pipeline.train.learner import Learner
from pipeline.train.loop import Arithmetic
from pipeline.train_options import ComputeOptions

SHIPPED = (Path(__file__).parents[1] / "params.yaml").read_text()
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "convoy" / "probe"


@pytest.fixture
def learner() -> Learner:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))
    return Learner(Scaled(), network, nn.CrossEntropyLoss(), config_class("mixings", "none")())


class Scaled(nn.Module):
    def forward(self, pictures):
        return pictures.permute(0, 3, 1, 2).float() / 255


def params(**compute) -> TrainParams:
    return parse(TrainParams, SHIPPED).model_copy(update={"compute": ComputeOptions(**compute)})


BATCH = Batch(torch.zeros(4, 8, 8, 1, dtype=torch.uint8), torch.tensor([0, 1, 2, 0]))


def test_what_params_fix_is_not_measured(learner, memory):
    fixed = params(precision="bfloat16", memory_format="channels_last")
    assert probe.choose(fixed, learner, BATCH, CPU) == Arithmetic("bfloat16", "channels_last")
    assert not memory.exists()


def test_a_choice_is_measured_once_and_then_remembered(learner, memory):
    chosen = probe.choose(params(), learner, BATCH, CPU)
    (noted,) = memory.iterdir()
    found = json.loads(noted.read_text())
    assert found.keys() == {"precision", "memory_format", "seconds"}
    assert len(found["seconds"]) == 4
    other = "bfloat16" if chosen.precision == "float32" else "float32"
    noted.write_text(json.dumps(found | {"precision": other}))
    assert probe.choose(params(loader_threads=3), learner, BATCH, CPU).precision == other
    noted.write_text("{")
    assert probe.choose(params(), learner, BATCH, CPU) in [
        Arithmetic(precision, layout)
        for precision in ("float32", "bfloat16")
        for layout in ("contiguous", "channels_last")
    ]


def test_measuring_moves_no_weight(learner):
    before = {name: weights.clone() for name, weights in learner.state_dict().items()}
    probe.choose(params(), learner, BATCH, CPU)
    assert all(torch.equal(before[name], weights) for name, weights in learner.state_dict().items())


def test_a_close_race_goes_to_the_plainer(learner, monkeypatch):
    plain, fancy = Arithmetic("float32", "contiguous"), Arithmetic("bfloat16", "channels_last")
    for seconds, winner in ((1.10, plain), (1.20, fancy)):
        monkeypatch.setattr(probe, "_race", lambda *_, s=seconds: {plain: s, fancy: 1.0})
        monkeypatch.setattr(probe, "_candidates", lambda *_: [plain, fancy])
        monkeypatch.setattr(probe, "_recall", lambda _: None)
        assert probe.choose(params(), learner, BATCH, CPU) == winner
