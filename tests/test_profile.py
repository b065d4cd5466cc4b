"""`convoy profile`: what a training waits for, in numbers made by hand and on real ones; the advice and its words."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from engine_project import inside, params_of, prepare
from torch import nn

from flows.profile import refuse_unwritable, show
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.host import cores
from pipeline.params import Params
from pipeline.policy import Policy
from pipeline.tuning.apart import apart
from pipeline.tuning.laps import AVERAGE, BACKWARD, COPY, FORWARD, INPUT, NOTING, OPTIMIZER, PHASES, Laps
from pipeline.tuning.profile import profile
from pipeline.tuning.report import write_profile, write_timeline
from pipeline.tuning.threads import TURNS, Turns, faster, in_turn, numbers
from pipeline.tuning.verdict import Bound, Facts, Operator, advice, verdict

__all__ = ["inside"]
CPU = torch.device("cpu")


def facts(
    params: Params, *, device: str = "cpu", smaller: int = 24, threads: Turns | None = None, **seconds: float
) -> Facts:
    """Of a step of 10 pictures; what is not said takes 1 ms, or nothing."""
    phases = dict.fromkeys(PHASES, 0.0) | {FORWARD: 0.001, BACKWARD: 0.001}
    alone = {"input_alone": 0.001, "network_alone": 0.002, "fixed": 0.0, "checkpoint": 0.0}
    alone |= {name: seconds.pop(name) for name in list(seconds) if name in alone}
    names = {"waiting": INPUT, "copying": COPY, "noting": NOTING, "moving": OPTIMIZER}
    phases |= {names[name]: value for name, value in seconds.items()}
    return Facts(
        device=device,
        cores=4,
        images=10,
        available=1000,
        size=32,
        smaller=smaller,
        steps=5,
        phases=phases,
        operators=[Operator("aten::mm", 2, 0.001)],
        operating=0.004,
        threads=threads or {},
        params=params,
        arithmetic={"precision": "float32"},
        **alone,
    )


@pytest.fixture(scope="module")
def params() -> Params:
    return params_of(Path("/nowhere"))


def test_input_is_to_blame_where_it_alone_is_slower_than_all_the_rest(params):
    # 10 pictures come every 10 ms, and the network takes 2 ms for them: it waits 8 of 10 ms
    slow = facts(params, input_alone=0.010, network_alone=0.002, waiting=0.008)
    assert slow.bound is Bound.INPUT and slow.step == pytest.approx(0.010) and slow.share(INPUT) == pytest.approx(0.8)
    assert verdict(slow) == (
        "Bound by input: the input path alone gives 1,000 images/s, the network alone takes 5,000 images/s, and "
        "together they make 1,000 images/s."
    )
    first, second, last = advice(slow)
    assert first == (
        "compute.loader_threads: 0 takes all 4 cores; it is 1, and gives 1,000 images/s where the network could take "
        "5,000 images/s."
    )
    assert "a picture takes 1.00 ms until it is ready, and the network 0.20 ms to learn from it" in second
    assert last.endswith("a step waits for input 80% of the time.")


def test_computing_is_to_blame_where_the_network_is_slower(params):
    slow = facts(params, input_alone=0.001, network_alone=0.002, fixed=0.0005)
    assert slow.bound is Bound.COMPUTING
    named = [line.partition(":")[0] for line in advice(slow)]
    assert named == [
        "compute.precision",
        "compute.memory_format",
        "compute.compile",
        "augment.size",
        "A smaller network",
    ]
    assert (
        "24 instead of 32 is 56% of the pixels; forward and backward pass take 100% of a step" in list(advice(slow))[3]
    )
    fixed = [line.partition(":")[0] for line in advice(facts(params, smaller=0, network_alone=0.002))]
    assert fixed == [name for name in named if name != "augment.size"]
    again = params.train.model_copy(update={"recompute": True})
    words = next(advice(facts(params.model_copy(update={"train": again}), network_alone=0.002)))
    assert words.startswith("train.recompute: false, if memory allows") and "takes 1 ms of 2 ms" in words


def test_overhead_is_to_blame_where_it_would_stay_if_batches_were_small(params):
    # of 2 ms 1.5 are there for any batch: 20 pictures would take 1.5 + 20 x 0.05 = 2.5 ms, which is 8,000 images/s
    slow = facts(params, network_alone=0.002, fixed=0.0015)
    assert slow.bound is Bound.OVERHEAD
    assert "of 2 ms a step, 1.5 ms are there for a batch of any size, and 0 ms go into notes" in verdict(slow)
    larger, compiled = advice(slow)
    assert larger == (
        "train.batch_size: 20 would learn from about 8,000 images/s in place of 5,000; `convoy tune batch` finds the "
        "fastest."
    )
    assert compiled == "compute.compile: auto; launching and Python take up to 1.5 ms of 2 ms."


def test_notes_and_checkpoints_are_overhead(params):
    often = params.train.model_copy(update={"checkpoint_seconds": 0})
    slow = facts(params.model_copy(update={"train": often}), noting=0.018, checkpoint=0.017)
    assert slow.bound is Bound.OVERHEAD and slow.share(NOTING) == pytest.approx(0.9)
    assert next(advice(slow)) == (
        "train.checkpoint_seconds: 30 or more; it is 0, and notes and checkpoints take 90% of a step, one checkpoint "
        "17 ms."
    )
    rare = params.train.model_copy(update={"checkpoint_seconds": 40})
    slow = facts(params.model_copy(update={"train": rare}), noting=0.018, checkpoint=0.017)
    assert next(advice(slow)).startswith("train.checkpoint_seconds: 80 or more; it is 40, and notes")


def test_what_is_worth_changing_besides(params):
    assert any(line.startswith("The optimizer takes 33% of a step") for line in advice(facts(params, moving=0.001)))
    copying = facts(params, device="cuda", copying=0.002)
    assert any(line.startswith("compute.pictures: auto keeps the pictures on the device") for line in advice(copying))
    assert not any("pictures" in line.partition(":")[0] for line in advice(facts(params, copying=0.002)))
    rare = params.train.model_copy(update={"checkpoint_seconds": 10})
    slow = facts(params.model_copy(update={"train": rare}), checkpoint=5)
    assert list(advice(slow))[-1].startswith("A checkpoint takes 5e+03 ms, and one is due every 10 s")


def test_each_table_says_of_what_its_shares_are(params, capsys):
    show(facts(params, threads={2: [0.003, 0.004, 0.004], 1: [0.002, 0.002, 0.005]}))
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines()]
    assert ["phase", "ms", "a", "step", "share", "of", "a", "step"] in rows
    assert ["forward", "1.000", "50.0%"] in rows and ["all", "2.000", "100.0%"] in rows
    assert ["operator", "of", "torch", "ms", "a", "step", "share", "of", "operators"] in rows
    assert ["aten::mm", "1.000", "25.0%"] in rows and ["others", "3.000", "75.0%"] in rows
    assert ["all", "4.000", "100.0%"] in rows
    assert "a step of the loop, by threads: 4.000 ms with 2, 2.000 ms with 1\n" in said


def refused(trace: Path) -> str:
    with pytest.raises(UserError) as told:
        refuse_unwritable(trace)
    return str(told.value)


def test_a_place_where_no_timeline_can_be_written_is_refused(tmp_path):
    assert refused(tmp_path) == (
        f"--trace {tmp_path}: this is a folder. Name a file in it: --trace {tmp_path / 'trace.json'}"
    )
    assert refused(Path("/dev/null")) == "--trace /dev/null: this is neither a file nor a new name. Name another."
    (tmp_path / "file").touch()
    assert refused(tmp_path / "file/trace.json").endswith("/file/trace.json: cannot be written: File exists.")
    assert refused(Path("/proc/nowhere/trace.json")).endswith(": cannot be written: No such file or directory.")
    assert refused(tmp_path / ("x" * 300)).endswith(": cannot be written: File name too long.")
    refuse_unwritable(tmp_path / "new/trace.json")
    refuse_unwritable(tmp_path / "file")
    assert not list((tmp_path / "new").iterdir()) and len(list(tmp_path.iterdir())) == 2


def test_fewer_threads_are_proposed_where_they_are_faster_in_every_turn_and_by_much(params):
    # 10 pictures take 10 ms with 4 threads, and 8 with two: 1,250 images/s
    sure = {4: [0.010, 0.011, 0.010], 2: [0.008, 0.009, 0.008], 1: [0.009, 0.012, 0.009]}
    assert faster(sure) == 2
    assert next(advice(facts(params, threads=sure))) == (
        "compute.threads: 2 makes 1,250 images/s in place of 1,000 images/s, in each of 3 turns of 2 and 4 threads; "
        "weights get other last bits."
    )
    assert faster({4: [0.010, 0.011, 0.010], 2: [0.008, 0.012, 0.008]}) is None  # not in every turn
    assert faster({4: [0.0101, 0.0101, 0.0101], 2: [0.010, 0.010, 0.010]}) is None  # by a hundredth
    assert faster({}) is None and faster({4: [0.010]}) is None
    more = {1: [0.010, 0.010], 4: [0.005, 0.005]}
    assert next(advice(facts(params, threads=more))).startswith("compute.threads: 0 makes 2,000 images/s in place of")


def test_the_numbers_of_threads_that_are_tried():
    assert numbers(8, 8) == [8, 4, 2, 1]
    assert numbers(1, 6) == [1, 6, 3]
    assert numbers(3, 8) == [3, 8, 4, 2, 1]
    assert numbers(64, 2) == [64, 32, 16, 8, 4, 2, 1]
    assert numbers(1, 1) == [1]


@pytest.mark.slow
def test_steps_are_taken_with_other_numbers_of_threads(inside, monkeypatch):
    monkeypatch.setattr("pipeline.tuning.threads.TURN", 0.0)
    if cores() < 2:
        pytest.skip("one core")
    with apart(prepare(inside), Dataset.open(), Policy.open()) as training:
        turns = in_turn(training, lambda count: None)
        assert torch.get_num_threads() == 1
        training.machine.arithmetic = training.machine.arithmetic._replace(execution="compiled")
        assert in_turn(training, lambda count: None) == {}
    assert next(iter(turns)) == 1 and cores() in turns
    assert {len(seconds) for seconds in turns.values()} == {TURNS} and all(min(each) > 0 for each in turns.values())


class Watch:
    """As much of torch's profiler as a timeline needs."""

    def export_chrome_trace(self, path: str) -> None:
        Path(path).write_text("{}")


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz", "trace"])
def test_a_timeline_is_there_whole_or_the_old_one_is(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_text("old")
    write_timeline(Watch(), path)  # type: ignore[arg-type]
    assert path.read_text() == "{}" and [one.name for one in tmp_path.iterdir()] == [name]
    monkeypatch.setattr(Watch, "export_chrome_trace", lambda self, where: None)  # torch only logs what it cannot write
    with pytest.raises(FileNotFoundError):
        write_timeline(Watch(), path)  # type: ignore[arg-type]
    assert path.read_text() == "{}" and [one.name for one in tmp_path.iterdir()] == [name]


def test_a_stopwatch_is_always_in_one_phase(monkeypatch):
    moments = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(moments))
    laps = Laps(CPU)
    for name in (INPUT, COPY, FORWARD, INPUT, COPY):
        laps.lap(name)
    found = laps.seconds()
    assert (found[INPUT], found[COPY], found[FORWARD], found[BACKWARD]) == (1 + 4, 2, 3, 0)
    laps.clear()
    laps.lap(FORWARD)
    assert laps.seconds()[COPY] == 5 and sum(laps.seconds().values()) == 5


def test_every_phase_of_a_real_step_is_heard_and_nothing_is_left(inside, monkeypatch):
    monkeypatch.setattr("pipeline.tuning.threads.TURN", 0.0)
    params = prepare(inside, "average.name=ema", "train.accumulation=2")
    with apart(params, Dataset.open(), Policy.open()) as training:
        found = profile(training, 3, None, lambda count: None)
        hooks = [module._forward_pre_hooks for module in (training.machine.module, training.machine.learner.normalise)]
    assert (found.steps, found.images, found.available) == (3, 8, 40)
    assert len(found.operators) == 10 and found.operating > sum(one.seconds for one in found.operators)
    assert all(found.phases[name] > 0 for name in PHASES)
    assert not any(hooks)
    left = {path.name for path in Path(".convoy").iterdir()}
    assert left == {"cache", "ingest", "ingested"}  # no checkpoint, no journal, no pointer to one


class Slept:
    """A network whose passes take so long whatever else the machine does: it sleeps for each picture."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        time.sleep(self.seconds * len(arguments[0]))


SLOW_INPUT = "augment={name: custom, size: 32, transforms: [" + ", ".join(["{name: ElasticTransform}"] * 12) + "]}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "a_picture", "bound", "named"),
    [
        ((SLOW_INPUT, "model={name: convnet, width: 1}"), 0.0, Bound.INPUT, "compute.loader_threads"),
        (("train.batch_size=32",), 0.003, Bound.COMPUTING, "compute.precision"),
        (("train.checkpoint_seconds=0", "train.batch_size=2"), 0.0, Bound.OVERHEAD, "train.checkpoint_seconds"),
    ],
    ids=["input", "computing", "overhead"],
)
def test_verdicts_of_real_trainings(inside, capsys, monkeypatch, changes, a_picture, bound, named):
    monkeypatch.setattr("pipeline.tuning.threads.TURN", 0.0)
    params, trace = prepare(inside, *changes), inside / "trace.json"
    for _ in range(3):  # whatever else the machine does may hold one of them up
        with apart(params, Dataset.open(), Policy.open()) as training:
            training.machine.module.register_forward_pre_hook(Slept(a_picture))
            found = profile(training, 5, trace, lambda count: None)
        if found.bound is bound:
            break
    assert found.bound is bound, found
    assert found.phases[AVERAGE] == 0
    show(found)
    said = capsys.readouterr().out
    assert all(phase in said for phase in PHASES) and verdict(found) in said and named in said
    assert "aten::" in said and json.loads(trace.read_text())["traceEvents"]
    write_profile(found)
    written = json.loads(Path("out/tuning/profile.json").read_text())
    assert written["bound"] == bound and written["phases"].keys() == set(PHASES) and written["advice"]
