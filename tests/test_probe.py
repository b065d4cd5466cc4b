"""The probe: what params fix is kept, what they leave open is measured once and remembered."""

from __future__ import annotations

import copy
import json
import weakref
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
from pipeline.train.machine import Arithmetic, Machine, Pace
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
    assert probe.choose(fixed, learner, BATCH, CPU, 100) == Arithmetic("bfloat16", "channels_last")
    assert not memory.exists()


def test_a_choice_is_measured_once_and_then_remembered(learner, memory):
    chosen = probe.choose(params(), learner, BATCH, CPU, 100)
    (noted,) = memory.iterdir()
    found = json.loads(noted.read_text())["chosen"]
    assert found.keys() == {"precision", "memory_format", "execution", "step", "seconds"}
    assert len(found["seconds"]) == 4
    other = "bfloat16" if chosen.precision == "float32" else "float32"
    noted.write_text(json.dumps({"chosen": found | {"precision": other}}))
    assert probe.choose(params(loader_threads=3), learner, BATCH, CPU, 100).precision == other
    for unreadable in ("{", "[]", '{"chosen": 1}'):
        noted.write_text(unreadable)
        assert probe.choose(params(), learner, BATCH, CPU, 100) in [
            Arithmetic(precision, layout)
            for precision in ("float32", "bfloat16")
            for layout in ("contiguous", "channels_last")
        ]


def test_measuring_moves_no_weight(learner):
    before = {name: weights.clone() for name, weights in learner.state_dict().items()}
    probe.choose(params(), learner, BATCH, CPU, 100)
    assert all(torch.equal(before[name], weights) for name, weights in learner.state_dict().items())


def test_a_close_race_goes_to_the_plainer(learner, monkeypatch):
    plain, fancy = Arithmetic("float32", "contiguous"), Arithmetic("bfloat16", "channels_last")
    for seconds, winner in ((1.02, plain), (1.05, fancy)):
        monkeypatch.setattr(probe, "_race", lambda *_, s=seconds: {plain: s, fancy: 1.0})
        monkeypatch.setattr(probe, "_candidates", lambda *_: [plain, fancy])
        monkeypatch.setattr(probe, "_recall", lambda *_: None)
        assert probe.choose(params(), learner, BATCH, CPU, 100) == winner


@pytest.fixture
def raced(monkeypatch) -> list[list[Arithmetic]]:
    """All that was measured, in place of measuring it: a step takes 0.1 s, and 0.05 s once it is compiled."""
    raced = []

    def race(params, learner, batch, device, candidates):
        raced.append(candidates)
        return {each: 0.05 if each.execution == "compiled" else 0.1 for each in candidates}

    monkeypatch.setattr(probe, "_race", race)
    return raced


@pytest.mark.parametrize(("steps", "tried"), [(100, False), (100_000, True)])
def test_compiling_is_tried_where_the_run_is_long_enough(learner, raced, steps, tried):
    # 100 steps of 0.1 s are 10 s, of which 2 % compile nothing
    chosen = probe.choose(params(), learner, BATCH, CPU, steps)
    assert chosen == Arithmetic("float32", "contiguous", "compiled" if tried else "eager")
    assert len(raced) == 1 + tried
    assert probe.choose(params(), learner, BATCH, CPU, steps) == chosen
    assert len(raced) == 1 + tried  # remembered
    assert probe.choose(params(), learner, BATCH, CPU, 100_000).execution == "compiled"  # a longer run tries it later
    assert probe.choose(params(), learner, BATCH, CPU, steps) == chosen  # and the shorter one computes as before
    assert len(raced) == 2


def test_one_candidate_is_the_same_for_a_run_before_and_after_a_longer_one(learner, monkeypatch):
    monkeypatch.setattr(probe, "_race", lambda *given: dict.fromkeys(given[-1][:1], 5.0) | {given[-1][-1]: 4.0})
    fixed = params(precision="float32", memory_format="contiguous")
    chosen = [probe.choose(fixed, learner, BATCH, CPU, steps).execution for steps in (1_000, 10_000, 1_000)]
    assert chosen == ["eager", "compiled", "eager"]


def test_a_choice_is_for_all_that_a_step_is_made_of(learner, raced):
    plain = params()
    others = [
        {"optimizer": config_class("optimizers", "sam")()},
        {"loss": config_class("losses", "focal")()},
        {"mixing": config_class("mixings", "mixup")()},
        {"train": plain.train.model_copy(update={"recompute": True})},
        {"train": plain.train.model_copy(update={"accumulation": 2})},
    ]
    for number, changed in enumerate([{}, *others], start=1):
        probe.choose(plain.model_copy(update=changed), learner, BATCH, CPU, 100)
        assert len(raced) == number
    faster = plain.optimizer.model_copy(update={"lr": 2 * plain.optimizer.lr})
    probe.choose(plain.model_copy(update={"optimizer": faster}), learner, BATCH, CPU, 100)
    assert len(raced) == len(others) + 1


def test_of_two_runs_that_measure_at_once_both_go_by_the_first(learner, monkeypatch):
    def race(*given):
        monkeypatch.setattr(probe, "_race", lambda *_: dict.fromkeys(given[-1], 1.0))
        first = probe.choose(params(), learner, BATCH, CPU, 100)
        return {each: 1.0 if each == first else 0.1 for each in given[-1]}

    monkeypatch.setattr(probe, "_race", race)
    chosen = [probe.choose(params(), learner, BATCH, CPU, 100) for _ in range(2)]
    assert chosen == [Arithmetic("float32", "contiguous")] * 2


def test_what_batch_normalisation_refuses_is_left_to_the_training_to_tell(learner, memory):
    learner.network.append(nn.BatchNorm1d(3))
    one = Batch(BATCH.pictures[:1], BATCH.targets[:1])
    assert probe.choose(params(), learner, one, CPU, 100) == Arithmetic("float32", "contiguous")
    assert not memory.exists()


LARGE = Batch(torch.zeros(100, 8, 8, 1, dtype=torch.uint8), torch.zeros(100, dtype=torch.int64))


class Clock:
    """Steps take what is said of one picture, and no time passes but in them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.now, self._each = 0.0, seconds
        monkeypatch.setattr(probe.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(probe, "_timed", self.timed)

    def timed(self, machine: Machine, batch: Batch) -> float:
        self.now += self._each * len(batch.targets)
        return self._each * len(batch.targets)


@pytest.mark.parametrize(
    ("seconds", "accumulation", "count"),
    [
        (0.0001, 1, 100),
        (0.02, 1, 32),  # 32 take 0.64 s; 10 s / (3 tries x 4) is less than 64 would take
        (1000, 1, 8),
        (1000, 16, 32),  # batch normalisation takes no single ones
        (1000, 64, 100),
    ],
)
def test_slow_steps_are_tried_on_a_part_of_the_batch(
    learner, monkeypatch, seconds: float, accumulation: int, count: int
):
    machine = Machine.assemble(params(), learner, CPU, Arithmetic("float32", "contiguous"), steps=1)
    machine.accumulation = accumulation
    Clock(monkeypatch, seconds)
    assert len(probe._affordable(machine, LARGE, 4).targets) == count


@pytest.mark.parametrize("seconds", [0.0001, 0.001, 0.01, 0.1])
def test_trying_keeps_to_its_budget(learner, monkeypatch, seconds: float):
    clock = Clock(monkeypatch, seconds)
    probe.choose(params(), learner, LARGE, CPU, 100)
    assert 0 < clock.now <= 1.1 * probe.BUDGET  # the last step may end later


def test_what_there_is_no_memory_for_beside_the_others_is_tried_alone(learner, monkeypatch):
    alive: list[weakref.ref[Machine]] = []

    def timed(machine: Machine, batch: Batch) -> float:
        if all(other() is not machine for other in alive):
            alive.append(weakref.ref(machine))
        if sum(other() is not None for other in alive) > 3:
            raise MemoryError
        return 1.0 if machine.arithmetic.memory_format == "contiguous" else 0.5

    monkeypatch.setattr(probe, "_timed", timed)
    assert probe.choose(params(), learner, BATCH, CPU, 100) == Arithmetic("float32", "channels_last")
    assert len(alive) == 5  # the fourth was made twice


def test_what_a_recorded_run_chose_is_taken_again(learner, monkeypatch):
    monkeypatch.setenv("CONVOY_PROBE_CHOSE", "bfloat16 channels_last compiled")
    assert probe.choose(params(), learner, BATCH, CPU, 100) == Arithmetic("bfloat16", "channels_last", "compiled")
    monkeypatch.setenv("CONVOY_PROBE_CHOSE", "bfloat16 channels_last ")  # by a version that knew no compiling
    assert probe.choose(params(), learner, BATCH, CPU, 100) == Arithmetic("bfloat16", "channels_last", "eager")


@pytest.mark.slow
def test_a_compiled_step_is_the_eager_one(learner):
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")
    after = []
    for execution in ("eager", "compiled", "compiled"):
        machine = Machine.assemble(
            params(), copy.deepcopy(learner), CPU, Arithmetic("float32", "contiguous", execution), steps=3
        )
        machine.learner.train()
        for number in range(3):
            machine.step(BATCH, Pace(0.01, None, number, number))
        after.append(torch.cat([weights.detach().flatten() for weights in machine.learner.parameters()]))
    torch.set_deterministic_debug_mode("default")
    assert torch.allclose(after[0], after[1], atol=1e-6)
    assert torch.equal(after[1], after[2])
