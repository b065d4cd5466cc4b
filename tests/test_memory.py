"""A step that does not fit into memory: told with what would fit, or computed in more parts, to the same effect.

`Hungry` asks for more memory than any machine has, so the allocator's own error comes; in little memory all is real.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_project import params_of, prepare, prepared, project, training, training_of
from forked import Forked
from torch import Tensor, nn
from torch.optim import Optimizer
from wide import SIZE, train_in_little_memory

from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.journal import read
from pipeline.models.convnet import Config
from pipeline.policy import Policy
from pipeline.train import seen, stage
from pipeline.train.assembly import Training
from pipeline.train.epochs import finish_epochs
from pipeline.train.memory import _more, out_of_room
from pipeline.train.outputs import facts_of
from pipeline.train.probe import choose
from pipeline.train.processes.ranks import Ranks
from pipeline.train.saved import Progress
from pipeline.train.shortage import enough_for, ran_out
from pipeline.train.steps import entered, rest_of_epoch

__all__ = ["prepared", "project", "training"]

BATCH = 8
STEPS = 5
"""Of an epoch."""
ENDLESS = 1 << 60


class Hungry(nn.Module):
    """Has room for so many pictures at a time from a certain pass on, which a checkpoint counts too."""

    def __init__(self, most: int, first: int) -> None:
        super().__init__()
        self.most, self.first = most, first
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, logits: Tensor) -> Tensor:
        if self.training:
            if len(logits) > self.most and self.passes >= self.first:
                torch.empty(ENDLESS)
            self.passes += 1
        return logits


def trained(monkeypatch: pytest.MonkeyPatch, project: Path, *changes: str, **hunger: int) -> Training:
    """A training that has ended, of a network with such an ending."""
    with hungry(monkeypatch, project, *changes, **hunger) as training:
        finish_epochs(training)
    return training


def hungry(
    monkeypatch: pytest.MonkeyPatch, project: Path, *changes: str, most: int = BATCH, first: int = 0
) -> AbstractContextManager[Training]:
    """A training of a network with such an ending."""

    def build(config: Config, *shape: int) -> nn.Module:
        return nn.Sequential(*built(config, *shape), Hungry(most, first))

    monkeypatch.setattr(Config, "build", build)
    return training_of(params_of(project, *changes))


def same(one: Training, other: Training) -> bool:
    """Whether two networks have the same weights and statistics, bit for bit."""
    these, those = one.machine.learner.state_dict(), other.machine.learner.state_dict()
    return all(torch.equal(tensor, those[name]) for name, tensor in these.items() if not name.endswith("passes"))


built = Config.build


def test_what_says_that_memory_ran_out() -> None:
    for asked in (lambda: torch.empty(ENDLESS), lambda: np.empty(ENDLESS, np.uint8)):
        with pytest.raises((RuntimeError, MemoryError)) as error:
            asked()
        assert ran_out(error.value)
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    for sign in ("std::bad_alloc", "could not create a primitive", "can't start new thread"):
        assert ran_out(RuntimeError(sign))
    assert not ran_out(RuntimeError("could not create a primitive descriptor for the convolution"))
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"))
    assert not ran_out(ValueError("std::bad_alloc"))


def test_other_errors_are_not_held_to_be_that(training: Training) -> None:
    training.machine.learner.network.append(nn.Linear(7, 7))  # type: ignore[operator]
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        finish_epochs(training)


@pytest.mark.slow
def test_it_says_what_would_fit_and_keeps_what_was_learnt(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hungry(monkeypatch, project, most=2, first=7) as training:
        with pytest.raises(UserError) as error:
            finish_epochs(training)
        assert sum(row.series == "step" for row in read(training.checkpoints.journal, 0)[0]) == 7
    assert str(error.value).splitlines() == [
        "train: out of memory: 8 pictures at a time do not fit into memory; 2 do.",
        "Set train.batch_size: 2, or train.accumulation: 4 for the same steps in less memory, or "
        "train.when_out_of_memory: halve.",
    ]
    with hungry(monkeypatch, project) as again:  # there is more memory now
        assert (again.progress.epoch, again.progress.step) == (1, 2)
        finish_epochs(again)
    assert same(again, trained(monkeypatch, project, "train.patience=9"))


def test_it_says_when_nothing_fits(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as error:
        trained(monkeypatch, project, most=0)
    assert str(error.value).splitlines() == [
        "train: out of memory: not even one picture at a time fits into memory.",
        "Set train.recompute: true, or take a smaller model or augment.size.",
    ]


@pytest.mark.parametrize(
    ("changes", "most", "advice"),
    [
        # of 4 in 2 parts 2 pictures are computed at a time, and so are they in 4 parts of a batch of 8
        (("train.accumulation=2",), 2, "Set train.batch_size: 4, or train.accumulation: 4 for the same steps in less "),
        (("train.accumulation=4", "train.recompute=true"), 1, "Set train.batch_size: 4, or train.accumulation: 8 for "),
        (("mixing.name=mixup",), 1, "Set train.accumulation: 8 for the same steps in less memory, or train.when_out_"),
        (("train.recompute=true",), 0, "Take a smaller model or augment.size."),
    ],
)
def test_what_it_says_to_set_is_let_in_and_fits(
    project: Path, monkeypatch: pytest.MonkeyPatch, changes: tuple[str], most: int, advice: str
) -> None:
    with pytest.raises(UserError) as error:
        trained(monkeypatch, project, *changes, most=most)
    told = str(error.value).splitlines()[1]
    assert told.startswith(advice)
    for assignment in re.findall(r"(train[.]\w+): (\d+)", told):
        trained(monkeypatch, project, *changes, "=".join(assignment), "train.epochs=1", most=most)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (
            8,
            "train: out of memory: 2 pictures at a time do not fit into memory, and batch normalisation has too little "
            "to go by in one.\nSet train.recompute: true, or take a smaller model or augment.size, or a model without "
            "batch normalisation.",
        ),
        (
            3,
            "train: out of memory: 3 pictures at a time do not fit into memory, and batch normalisation has too little "
            "to go by in one.\nSet train.batch_size: 2, which is a guess: untried, or train.recompute: true, or take "
            "a smaller model or augment.size, or a model without batch normalisation.",
        ),
    ],
)
def test_one_picture_is_not_said_to_fit_where_it_is_too_few(
    project: Path, monkeypatch: pytest.MonkeyPatch, images: int, words: str
) -> None:
    def build(config: Config, channels: int, outputs: int, size: int) -> nn.Module:
        return nn.Sequential(*built(config, channels, outputs, size), nn.BatchNorm1d(outputs), Hungry(1, 0))

    monkeypatch.setattr(Config, "build", build)
    with training_of(params_of(project, f"train.batch_size={images}")) as training, pytest.raises(UserError) as error:
        finish_epochs(training)
    assert str(error.value) == words


def test_no_part_is_of_one_picture_as_long_as_possible() -> None:
    assert [list(_more(1, size)) for size in (1, 2, 3, 5, 8, 40)] == [
        [],
        [2],
        [3],
        [2, 5],
        [2, 4, 8],
        [2, 4, 8, 16, 20, 40],
    ]
    assert [list(_more(3, size)) for size in (3, 5, 8)] == [[], [5], [4, 8]]


def test_halved_from_the_first_step_it_is_as_if_params_had_said_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    halved = trained(monkeypatch, project, "train.when_out_of_memory=halve", most=3)
    assert facts_of(halved)["accumulation"] == 4
    assert (
        "train: out of memory in epoch 1, step 1; from here on each batch of 8 is computed in 4 parts "
        "(train.accumulation: 4)\n"
    ) in capsys.readouterr().out
    told = trained(monkeypatch, project, "train.accumulation=4")
    assert same(halved, told)
    assert "accumulation" not in facts_of(told)


def test_what_a_failed_step_has_changed_is_put_right(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch normalisation has seen the pictures when a step fails; and here it fails as weights are moved."""
    once = hungry(monkeypatch, project, "train.epochs=1", "train.patience=9")
    with once as wanted, closing(rest_of_epoch(wanted)) as steps:
        list(islice(steps, 3))
        wanted.machine.accumulation = 2
        list(steps)
    with hungry(monkeypatch, project, "train.epochs=1", "train.when_out_of_memory=halve") as training:
        machine = training.machine

        def fail(optimizer: Optimizer, *_: Any) -> None:
            done = max((int(state["step"]) for state in optimizer.state.values()), default=0)
            if done == 3 and machine.accumulation == 1:
                with torch.no_grad():
                    next(machine.learner.parameters()).add_(1)
                torch.empty(ENDLESS)

        machine.optimizer.register_step_pre_hook(fail)
        finish_epochs(training)
    assert same(training, wanted)


def test_what_an_optimizer_has_climbed_when_a_step_fails_is_put_right(project: Path) -> None:
    changes = ("optimizer={name: sam, lr: 0.05}", "train.epochs=1")
    with (
        training_of(params_of(project, *changes, "train.patience=9")) as wanted,
        closing(rest_of_epoch(wanted)) as steps,
    ):
        list(islice(steps, 3))
        wanted.machine.accumulation = 2
        list(steps)
    with training_of(params_of(project, *changes, "train.when_out_of_memory=halve")) as training:
        machine, gradient, gradients = training.machine, training.machine.gradient, 0

        def fail(pictures: Tensor, targets: Tensor, seed: int) -> Tensor:
            nonlocal gradients
            gradients += 1
            if gradients == 8 and machine.accumulation == 1:  # the second one of the fourth step
                torch.empty(ENDLESS)
            return gradient(pictures, targets, seed)

        machine.gradient = fail  # type: ignore[method-assign]
        finish_epochs(training)
        assert machine.accumulation == 2
    assert same(training, wanted)


def test_what_several_processes_are_told_is_said_to_be_a_guess(training: Training) -> None:
    training.machine.sharing.ranks = Ranks(0, 2)
    assert str(out_of_room(training)).splitlines() == [
        "train: out of memory: in one of 2 processes 4 pictures at a time do not fit into memory.",
        "Set compute.sharded: true, or train.accumulation: 2 for the same steps in less memory, which is a guess: "
        "untried.",
    ]
    training.machine.accumulation = 2  # twice as many are of one picture, and the network has batch normalisation
    assert str(out_of_room(training)).splitlines()[1] == (
        "Set compute.sharded: true, or train.recompute: true, or take a smaller model or augment.size."
    )
    training.machine.learner.network = nn.Linear(2, 2)
    assert "train.accumulation: 4 for" in str(out_of_room(training))


def test_several_processes_are_not_told_to_set_what_the_door_refuses(training: Training) -> None:
    training.machine.sharing.ranks = Ranks(0, 2)
    compute = training.params.compute.model_copy(update={"processes": 2, "precision": "float16"})
    train = training.params.train.model_copy(update={"recompute": True})
    training.params = training.params.model_copy(update={"compute": compute, "train": train})
    training.machine.accumulation = 4
    assert str(out_of_room(training)).splitlines()[1] == "Take a smaller model or augment.size."


@pytest.mark.slow
def test_where_what_came_before_does_not_fit_any_more_either_it_goes_on_from_the_checkpoint(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hungry(monkeypatch, project, "train.when_out_of_memory=halve", most=4, first=7) as training:
        hunger = training.machine.learner.network[-1]  # type: ignore[index]
        del hunger.passes
        hunger.passes = 0  # type: ignore[union-attr]
        finish_epochs(training)
        assert seen.steps_in(training.checkpoints.seen) == 3 * STEPS
    with hungry(monkeypatch, project, "train.patience=9") as wanted:
        for epoch in range(3):
            wanted.machine.accumulation = 2 if epoch else 1
            wanted.progress = Progress(epoch=epoch)
            list(rest_of_epoch(wanted))
    assert same(training, wanted)


@pytest.mark.slow
def test_killed_after_that_it_goes_on_in_as_many_parts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, hunger = ("train.when_out_of_memory=halve", "train.epochs=2"), {"most": 4, "first": 3}
    unharmed = trained(monkeypatch, project, *changes, "train.patience=9", **hunger)
    assert unharmed.machine.accumulation == 2
    with hungry(monkeypatch, project, *changes, **hunger) as killed:
        killed.machine.learner.network.append(Killed(after=20))  # type: ignore[operator]
        with pytest.raises(KeyboardInterrupt):
            finish_epochs(killed)
    with hungry(monkeypatch, project, *changes, most=4) as again:
        assert again.machine.accumulation == 2
        finish_epochs(again)
    assert same(again, unharmed)


class Killed(nn.Module):
    """Ends a training in one of its passes."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def forward(self, logits: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return logits


def test_a_validation_that_does_not_fit_is_told(training: Training) -> None:
    class Answering(nn.Module):
        def forward(self, logits: Tensor) -> Tensor:
            return logits if self.training else logits + torch.empty(ENDLESS)

    training.machine.learner.network.append(Answering())  # type: ignore[operator]
    words = "train: the validation of epoch 1 does not fit into memory. Lower train.batch_size."
    with pytest.raises(UserError, match=f"^{words}$"):
        finish_epochs(training)


def test_what_the_network_is_asked_before_an_epoch_is_not_taken_for_a_step(project: Path) -> None:
    class Answering(nn.Module):
        def forward(self, logits: Tensor) -> Tensor:
            return logits if torch.is_grad_enabled() else logits + torch.empty(ENDLESS)

    words = "train: a look at every training picture before epoch 1 does not fit into memory. Lower"
    with training_of(
        params_of(project, "order={name: curriculum, warmup_epochs: 0}", "train.when_out_of_memory=halve")
    ) as training:
        training.machine.learner.network.append(Answering())  # type: ignore[operator]
        with pytest.raises(UserError, match=f"^{words}"):
            finish_epochs(training)


def test_whatever_else_does_not_fit_is_told() -> None:
    with pytest.raises(UserError, match=r"^train: this does not fit into memory\. Do that\.$"):
        with enough_for("this", "Do that."):
            np.empty(ENDLESS, np.uint8)
    with pytest.raises(RuntimeError, match="^another$"):
        with enough_for("this", "Do that."):
            raise RuntimeError("another")


def unreadable(error: Exception) -> Callable[..., Any]:
    """In place of `torch.load`."""

    def load(*_: Any, **__: Any) -> Any:
        raise error

    return load


def test_a_checkpoint_that_does_not_fit_is_not_held_to_be_damaged(
    training: Training, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = training.checkpoints
    checkpoints.save(training.machine, training.progress)
    monkeypatch.setattr(torch, "load", unreadable(RuntimeError("DefaultCPUAllocator: can't allocate memory")))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        checkpoints.latest(STEPS)
    assert not capsys.readouterr().out
    monkeypatch.setattr(torch, "load", unreadable(RuntimeError("invalid header")))
    assert checkpoints.latest(STEPS) is None
    assert "train: checkpoint.pt cannot be read (RuntimeError); trying the one before it\n" in capsys.readouterr().out


def test_a_step_and_then_a_checkpoint_that_do_not_fit_are_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hungry(monkeypatch, project, most=2) as training:
        monkeypatch.setattr(torch, "load", unreadable(RuntimeError("std::bad_alloc")))
        with pytest.raises(UserError) as error:
            finish_epochs(training)
    assert str(error.value) == (
        "train: what a step leaves room for, a copy of the weights and the checkpoint, does not fit into memory. Take "
        "a smaller model, train.batch_size or augment.size, or run again once there is more memory."
    )


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (
            "pipeline.train.stage.assemble",
            "what a training begins with does not fit into memory. Take a smaller model, train.batch_size or "
            "augment.size.",
        ),
        (
            "pipeline.train.epochs.begin",
            "a copy of the weights, for a checkpoint, does not fit into memory. Take a smaller model or "
            "train.batch_size.",
        ),
    ],
)
def test_what_does_not_fit_before_the_first_step_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, where: str, words: str
) -> None:
    monkeypatch.setattr(where, unreadable(RuntimeError("can't start new thread")))
    with pytest.raises(UserError) as error:
        stage.run(params_of(project), Dataset.open(), Policy.open(), project / "model", project / "notes")
    torch.set_deterministic_debug_mode("default")
    assert str(error.value) == f"train: {words}"


def test_the_probe_passes_over_what_does_not_fit(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(project))
    params = params_of(project, "compute.precision=auto")
    with training_of(params_of(project)) as training:
        learner = training.machine.learner
        learner.network.append(Hungry(0, 0))  # type: ignore[operator]
        batches = training.batches.epoch(0, 0, entered(training).order)
        chosen = choose(params, learner, next(batches), torch.device("cpu"), steps=15)
        batches.close()  # type: ignore[attr-defined]
    assert chosen.precision == "float32"  # the first step says what would fit
    assert not list(project.glob("convoy/probe/*"))  # nothing was measured that is worth remembering


@pytest.mark.slow
def test_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, *SIZE)
    ended = Forked(tmp_path, train_in_little_memory).ended()
    assert ended.status == 0, ended.words
    told = re.search(
        r"train: out of memory: 40 pictures at a time do not fit into the \d+\.\d GB that are allowed \(ulimit -v\); "
        r"(\d+) do\.\nSet train\.batch_size: \1, or train\.accumulation: (\d+) for",
        ended.words,
    )
    assert told, ended.words
    some, parts = map(int, told.groups())
    assert 1 <= some <= 20
    assert some == -(-40 // parts)
    assert re.search(r"\nparts (2|4|8|16|20|40)\n", ended.words), ended.words
    halved = re.findall(r"out of memory in epoch (\d+), step (\d+)", ended.words)
    # Steps that were taken before memory ran out, or ran out again, have other bits.
    assert halved != [("1", "1")] or "\nthe same True\n" in ended.words, ended.words
