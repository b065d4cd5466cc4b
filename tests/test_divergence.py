"""A training that diverges: where, why and on which pictures it began, and how it goes back; norms of the gradient."""

from __future__ import annotations

import csv
import functools
import json
import math
import shutil
from contextlib import closing
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diverging import RATE, WILD, Faulty, left, seed_of, stage_train, wild
from engine_project import params_of, prepared, project, training, training_of
from forked import Ended, Forked
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from flows.curves import Course
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.failpoints import VARIABLE, TrainingPoint
from pipeline.journal import ROLLBACK, Journal, journals, read, standing
from pipeline.models.convnet import Config
from pipeline.params import Params, described
from pipeline.policy import Policy
from pipeline.train import epochs, seen, stage
from pipeline.train.assembly import Training, assemble
from pipeline.train.batches import Batch
from pipeline.train.divergence import Diverged, check_epoch, check_losses, check_weights
from pipeline.train.epochs import finish_epochs
from pipeline.train.evidence import Found, keep
from pipeline.train.learner import Learner, counted
from pipeline.train.losses_of_views import losses_of_views
from pipeline.train.machine import Arithmetic, Machine, Pace
from pipeline.train.members import members_of
from pipeline.train.norms import MOST, gradient_norms, layer_names, warning
from pipeline.train.outputs import facts_of, write_notes
from pipeline.train.saved import Progress
from pipeline.train.steps import entered, rest_of_epoch
from pipeline.wording import short

__all__ = ["prepared", "project", "training"]

STEPS = 5
"""Of an epoch: 40 pictures in batches of 8."""
MEASURED = [step for epoch in range(5) for step in (epoch * STEPS, epoch * STEPS + STEPS - 1)]
"""Steps whose gradient is, of five epochs: first and last ones."""
EPOCH, STEP = 3, 2
"""Where a wild one diverges, 0-based."""
CPU = torch.device("cpu")


@pytest.fixture
def wilderness(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose networks diverge."""
    monkeypatch.setattr(Config, "build", wild)
    return project


def diverged(training: Training) -> tuple[str, Path, dict[str, Any]]:
    """The words of a training that diverges, the folder that it leaves, and what it says of the step."""
    with pytest.raises(UserError) as error:
        finish_epochs(training)
    folder = training.checkpoints.folder / "diverged"
    return str(error.value), folder, json.loads((folder / "step.json").read_text())


# Norms of the gradient


class Learning(nn.Module):
    """As a learner has them: a network and its loss, each with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
        self.network.register_parameter("token", nn.Parameter(torch.zeros(3)))
        self.loss = nn.Linear(1, 1, bias=False)


def test_norms_by_hand() -> None:
    learner = Learning()
    first, last, loss = learner.network[0], learner.network[2], learner.loss
    first.weight.grad, first.bias.grad = torch.tensor([[1.0, 2.0], [2.0, 4.0]]), torch.tensor([0.0, 12.0])
    last.weight.grad, loss.weight.grad = torch.tensor([[3.0, 4.0]]), torch.tensor([[84.0]])
    norms = gradient_norms(learner)
    assert norms.by_layer(norms.values.tolist()) == {"0": 13.0, "2": 5.0, "loss": 84.0, "all": math.sqrt(7250)}
    learner.network.token.grad = torch.tensor([0.0, 0.0, math.inf])
    norms = gradient_norms(learner)
    by_layer = norms.by_layer(norms.values.tolist())
    assert (by_layer["network"], by_layer["all"], by_layer["2"]) == (math.inf, math.inf, 5.0)


def test_layers_that_lie_together_count_as_one_where_there_are_many() -> None:
    names = [f"network.stage{n}.{block}.conv{c}.weight" for n in range(2) for block in range(30) for c in range(2)]
    layers = layer_names((*names, "network.head.weight", "network.head.bias"))
    assert len(set(layers)) == 61 <= MOST < 121
    assert layers[:3] == ("stage0.0", "stage0.0", "stage0.1")
    assert layers[-2:] == ("head", "head")
    assert layer_names(("network.parts.a(b) c.weight",)) == ("parts.a_b__c",)  # what MLflow would refuse


def test_what_is_said_of_a_gradient_that_vanishes_or_explodes() -> None:
    first = {"all": 2.0, "a": 1e-9, "b": 2.0}
    assert warning(first, [first, {"all": 2.0, "a": 1.0, "b": 2.0}]) == ""  # once is no sign, if there is more
    assert warning(first, [first]).startswith("the gradient vanishes in layer a: all epoch it is under 1e-7 of")
    large = {"all": 3000.0, "a": 1.0, "b": 3000.0}
    words = (
        "the gradient explodes: its norm has grown from 2 to 3,000. A lower optimizer.lr or train.clip_norm holds it."
    )
    assert warning(first, [large]) == words
    assert warning(first, [large, first | {"a": 1.0}]) == ""
    assert warning({}, []) == ""


def test_the_first_and_the_last_step_of_each_epoch_are_measured_and_noted(training: Training, tmp_path: Path) -> None:
    finish_epochs(training)
    rows = [row for row in read(training.checkpoints.journal, 0)[0] if row.series == "gradient"]
    assert [row.step for row in rows] == MEASURED[:6]
    write_notes(tmp_path, training.checkpoints.home, "accuracy", facts_of(training))
    table = list(csv.DictReader((tmp_path / "gradients.csv").open()))
    assert [int(line["step"]) for line in table] == MEASURED[:6]
    assert [float(line["2.0"]) for line in table] == [row.values["gradient_norm/2.0"] for row in rows]
    course = Course(training.checkpoints.journal)
    course.look()
    norms = [(row.step + 1, row.values["gradient_norm/all"]) for row in rows]
    assert course.curves().gradients["all"] == norms
    assert course.steps == 3 * STEPS
    with training_of(params_of(Path.cwd(), "seed=0", "train.epochs=4")) as fresh:  # another training, not begun
        order = entered(fresh).order
        fresh.machine.learn()
        batches = fresh.batches.epoch(0, 0, order)
        fresh.machine.backward(next(batches), counted(fresh.params.seed, "step", 0, 0))
        batches.close()
        gradient = torch.cat([weights.grad.flatten() for weights in fresh.machine.learner.parameters()])
    assert rows[0].values["gradient_norm/all"] == pytest.approx(gradient.norm().item(), rel=1e-5)


def test_the_pace_of_an_epoch_counts_the_pictures_that_there_are(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter((10.0, 12.0))
    with training_of(params_of(project, "train.batch_size=64", "train.epochs=1")) as training:
        monkeypatch.setattr(epochs, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
        finish_epochs(training)
    assert training.batch_size == 40
    assert "  20 images/s\n" in capsys.readouterr().out  # one step of 40 in two seconds


# Gradients in parts, and clipped ones


def plain_learner() -> Learner:
    """Without batch normalisation, which sees each part alone."""
    torch.manual_seed(0)
    convolutions = nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 4, 3), nn.ReLU()
    network = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(4 * 16, 3))
    return Learner(Scaled(), network, nn.CrossEntropyLoss(), parsed().mixing)


class Scaled(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.permute(0, 3, 1, 2).float() / 255


@functools.cache
def parsed() -> Params:
    return params_of(Path("nowhere"), "optimizer={name: sgd, lr: 0.5, momentum: 0, nesterov: false, weight_decay: 0}")


def machine_of(**train: float) -> Machine:
    params = parsed()
    params = params.model_copy(update={"train": params.train.model_copy(update=train)})
    return Machine.assemble(params, plain_learner(), CPU, Arithmetic("float32", "contiguous"), steps=1)


def batch_of(count: int) -> Batch:
    random = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (count, 8, 8, 1), dtype=torch.uint8, generator=random)
    return Batch(pictures, torch.randint(0, 3, (count,), generator=random))


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_a_gradient_in_parts_is_that_of_the_whole_batch(parts: int) -> None:
    batch, reference = batch_of(7), plain_learner()
    loss = F.cross_entropy(reference.network(Scaled()(batch.pictures)), batch.targets)
    loss.backward()
    machine = machine_of(accumulation=parts)
    assert machine.backward(batch, 0).item() == pytest.approx(loss.item(), rel=1e-6)
    for weights, wanted in zip(machine.learner.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(weights.grad, wanted.grad)


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_a_step_is_clipped_as_torch_does_it(limit: float) -> None:
    batch, reference, machine = batch_of(7), plain_learner(), machine_of(clip_norm=limit)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.5)
    F.cross_entropy(reference.network(Scaled()(batch.pictures)), batch.targets).backward()
    norm = nn.utils.clip_grad_norm_(reference.parameters(), limit)
    assert (norm > limit) == (limit == 0.01)
    optimizer.step()
    machine.step(batch, Pace(0.5))
    for weights, wanted in zip(machine.learner.parameters(), reference.parameters(), strict=True):
        assert torch.equal(weights, wanted)


# What the optimizer remembers


@pytest.mark.parametrize("optimizer", ["{name: adamw, lr: 0.1}", "{name: sgd, lr: 0.5}"])
def test_a_state_from_another_layout_is_laid_out_as_the_weights_are(optimizer: str) -> None:
    params = params_of(Path("nowhere"), f"optimizer={optimizer}")
    there, here, reference = (
        Machine.assemble(params, plain_learner(), CPU, Arithmetic("float32", memory_format), steps=1)
        for memory_format in ("contiguous", "channels_last", "contiguous")
    )
    for step in range(2):
        there.step(batch_of(7), Pace(0.1, None, step))
        reference.step(batch_of(7), Pace(0.1, None, step))
    here.restore(there.state())
    for machine in (here, reference):
        machine.step(batch_of(9), Pace(0.1, None, 2))
    filters = list(here.learner.network.parameters())[2]
    assert filters.is_contiguous(memory_format=torch.channels_last)
    for weights, wanted in zip(here.learner.parameters(), reference.learner.parameters(), strict=True):
        torch.testing.assert_close(weights, wanted)


# Where it began


def test_a_training_that_diverges_says_where_and_keeps_the_pictures(wilderness: Path) -> None:
    with training_of(params_of(wilderness, *WILD, "train.epochs=9")) as training:
        words, folder, step = diverged(training)
        assert (step["epoch"], step["step"], step["learning_rate"], step["loss"]) == (EPOCH + 1, STEP + 1, RATE, "nan")
        noted = standing(read(training.checkpoints.journal, 0)[0])
        assert all(math.isfinite(row.values["train/loss"]) for row in noted if row.series == "step")
        rows = list(csv.DictReader((folder / "pictures.csv").open()))
        training.progress = Progress(epoch=EPOCH, step=STEP)
        order = entered(training).order
        with closing(training.batches.epoch(EPOCH, STEP, order)) as batches:
            batch = next(batches)
            shown = [np.array(Image.open(folder / row["file"])) for row in rows]
            assert np.array_equal(np.stack(shown), batch.pictures.numpy()[..., 0])
        views = order[STEP * 8 : (STEP + 1) * 8]
        assert [row["id"] for row in rows] == [training.train.ids[view] for view in views]
        split = training.member.train  # each picture is one view
        assert [row["source"] for row in rows] == [split.samples["source"][int(view)].as_py() for view in views]
        norms = {row["layer"]: row for row in csv.DictReader((folder / "norms.csv").open())}
        assert norms["all"]["norm"] == "nan" and float(norms["all"]["norm_before"]) > 0
    assert words.splitlines() == [
        "train: diverged in epoch 4, step 3 of 5, at a learning rate of 0.01: the loss is nan, and the first layer "
        "that gives no numbers is 12.",
        f"Its pictures, with the loss of each, and the norm of the gradient in each layer are in {folder}.",
        "Lower optimizer.lr (it is 0.01) to what `convoy tune lr` proposes, set train.clip_norm: 1, or "
        "train.when_diverging: rollback.",
    ]
    with training_of(params_of(wilderness, *WILD, "train.epochs=9")) as again:  # from its checkpoint to the same end
        assert again.progress.epoch == EPOCH
        assert diverged(again)[0] == words


def test_the_pictures_stay_until_the_training_starts_over(training: Training) -> None:
    training.machine.learner.network.append(Rooted())  # type: ignore[operator]
    _, folder, _ = diverged(training)
    training.checkpoints.clear()
    assert not folder.exists()


def test_the_first_layer_that_gives_no_numbers_is_named(training: Training) -> None:
    with torch.no_grad():
        training.machine.learner.network[4].second[0].weight[0, 0, 1, 1] = math.nan  # type: ignore[union-attr, index]
    words, _, step = diverged(training)
    assert ": the loss is nan, and the first layer that gives no numbers is 4.second.0.\n" in words
    assert (step["epoch"], step["step"]) == (1, 1)
    assert set(step["gradient_norms"]) >= {"all", "0.0", "4.second.0", "11"}


class Rooted(nn.Module):
    """Numbers that change nothing, and whose gradient is none."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits + (logits * 0).sqrt()


def test_a_gradient_that_is_no_number_though_the_loss_is_one(training: Training) -> None:
    training.machine.learner.network.append(Rooted())  # type: ignore[operator]
    words, _, step = diverged(training)
    assert (step["epoch"], step["step"]) == (1, 1)
    assert isinstance(step["loss"], float)
    assert ", but its gradient is no number from layer 11 on, back to the pictures.\n" in words
    assert step["gradient_norms"]["11"] == "nan"


def test_a_picture_with_a_loss_that_is_no_number_is_told_from_the_others(training: Training) -> None:
    class Picky(nn.Module):
        """A picture whose first pixel is the brightest of them all has no answer."""

        def forward(self, pictures: Tensor) -> Tensor:
            first = pictures[:, :1, :1, :1]
            return torch.where(first >= brightest, pictures * math.nan, pictures)

    with closing(training.batches.epoch(0, 0, entered(training).order)) as batches:
        brightest = training.machine.learner.prepared(*next(batches)[:2])[0][:, 0, 0, 0].max()
    training.machine.learner.network.insert(0, Picky())  # type: ignore[operator]
    words, folder, _ = diverged(training)
    rows = list(csv.DictReader((folder / "pictures.csv").open()))
    bad = [row["file"] for row in rows if row["loss"] == "nan"]
    assert 1 <= len(bad) < 8
    assert words.splitlines()[1].endswith(f"; by themselves {len(bad)} of them have a loss that is no number.")
    assert max(rows, key=lambda row: np.array(Image.open(folder / row["file"]))[0, 0])["file"] in bad


def test_what_cannot_be_found_again_is_said(training: Training) -> None:
    class Once(nn.Module):
        """As a fault of the machine: it does not come again."""

        faults = 1

        def forward(self, logits: Tensor) -> Tensor:
            self.faults -= self.training
            return logits * (math.nan if self.faults == 0 else 1)

    training.machine.learner.network.append(Once())  # type: ignore[operator]
    with pytest.raises(UserError, match="a loss in epoch 1 was no number, but the same steps taken again gave numbers"):
        finish_epochs(training)


def test_what_float16_skips_is_no_divergence_until_it_skips_all() -> None:
    machine = machine_of()
    check_losses(machine, [1.0])
    with pytest.raises(Diverged):
        check_losses(machine, [1.0, math.nan])
    machine.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-4)
    machine.scaler.scale(torch.ones(()))
    check_losses(machine, [1.0, math.nan])
    machine.scaler.update(2.0**-5)
    with pytest.raises(Diverged):
        check_losses(machine, [1.0])


def test_large_weights_are_numbers() -> None:
    machine = machine_of()
    with torch.no_grad():
        machine.learner.network[0].bias[0] = 1e30  # type: ignore[index, operator]
    check_weights(machine)
    with torch.no_grad():
        machine.learner.network[0].bias[0] = math.inf  # type: ignore[index, operator]
    with pytest.raises(Diverged):
        check_weights(machine)


SAM = ("optimizer={name: sam, lr: 0.05}", "train.epochs=2")


def test_pictures_are_asked_about_with_the_weights_before_the_step(project: Path) -> None:
    with training_of(params_of(project, *SAM)) as training:
        Faulty(training, lambda _, seed: seed == seed_of(training, 1, 3))
        words, folder, step = diverged(training)
        found = training.machine.learner.state_dict()
    assert (step["epoch"], step["step"]) == (2, 4)
    assert ": the loss is nan, and the first layer that gives no numbers is 12.\n" in words
    with training_of(params_of(project, *SAM, "train.patience=9")) as plain:
        list(rest_of_epoch(plain))
        plain.progress = Progress(epoch=1)
        order = entered(plain).order
        with closing(rest_of_epoch(plain)) as steps:
            list(islice(steps, 3))
        assert all(torch.equal(found[name], tensor) for name, tensor in plain.machine.learner.state_dict().items())
        with closing(plain.batches.epoch(1, 3, order)) as batches:
            costs = losses_of_views(plain.machine, [next(batches)])
    rows = list(csv.DictReader((folder / "pictures.csv").open()))
    assert [row["loss"] for row in rows] == [f"{cost:g}" for cost in costs]


def test_where_a_step_leads_to_no_weights_its_pictures_have_losses(project: Path) -> None:
    changes = ("optimizer={name: sgd, lr: 1e39}", "schedule={name: constant}")
    with training_of(params_of(project, *changes)) as training:
        words, folder, _ = diverged(training)
    assert "its gradient is finite, but the weights that it leads to are not" in words
    rows = list(csv.DictReader((folder / "pictures.csv").open()))
    assert len(rows) == 8
    assert all(math.isfinite(float(row["loss"])) for row in rows)


def test_an_epoch_of_which_float16_skips_every_step_is_told(project: Path) -> None:
    with training_of(params_of(project, "compute.precision=float16", "optimizer={name: sgd, lr: 0.05}")) as training:
        Faulty(training, lambda progress, _: progress.epoch == 1)
        words, folder, step = diverged(training)
        assert len(training.progress.worths) == 1
    assert (step["epoch"], step["step"], step["loss"]) == (2, 5, "nan")
    rate = short(step["learning_rate"])
    assert words.splitlines() == [
        f"train: diverged in epoch 2, step 5 of 5, at a learning rate of {rate}: as in every step of this epoch, the "
        "loss is nan, and the first layer that gives no numbers is 12.",
        f"Its pictures, with the loss of each, and the norm of the gradient in each layer are in {folder}.",
        "Lower optimizer.lr (it is 0.05) to what `convoy tune lr` proposes, set train.clip_norm: 1, set "
        "compute.precision: bfloat16, or train.when_diverging: rollback.",
    ]


def test_an_epoch_needs_one_loss_that_is_a_number() -> None:
    check_epoch([math.nan, 1.0, math.inf])
    with pytest.raises(Diverged):
        check_epoch([math.nan, math.inf])


# Going back


def test_what_is_taken_back_does_not_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(".convoy/train/k")
    for attempt in range(2):  # the second one opens what the first one left
        journal = Journal(folder)
        for step in range(4):
            journal.append("step", step, {"train/loss": 10.0 * attempt + step})
        for epoch in range(2):
            journal.append("epoch", epoch, {"epoch/val_loss": 10.0 * attempt + epoch})
        journal.append("rollback", 0, {"step": 2.0, "gradient": 2.0, "epoch": 1.0})
        journal.close()
    rows = read(folder / "journal.jsonl", 0)[0]
    assert sum(row.series == "rollback" for row in rows) == 1
    losses = [(row.step, row.values["train/loss"]) for row in standing(rows) if row.series == "step"]
    assert losses == [(0, 0.0), (1, 1.0), (2, 12.0), (3, 13.0)]
    assert [row.values["epoch/val_loss"] for row in standing(rows) if row.series == "epoch"] == [0.0, 11.0]
    course = Course(folder / "journal.jsonl")
    course.look()
    assert course.curves().steps["loss"] == [(1, 0.0), (2, 1.0), (3, 12.0), (4, 13.0)]
    assert (course.steps, course.epochs) == (4, 2)


def test_it_goes_back_and_on_with_half_the_rate(wilderness: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = params_of(wilderness, *WILD, "train.epochs=5", "train.when_diverging=rollback")
    with training_of(params) as training:
        finish_epochs(training)
        # Back to epoch 3, where half the rate comes as far one step later, and then to epoch 2.
        assert training.progress.rollbacks == [[3, 2], [3, 3]]
        assert training.progress.rate_scale == 0.25
        rows = standing(read(training.checkpoints.journal, 0)[0])
        rates = [(row.step, row.values["train/learning_rate"]) for row in rows if row.series == "step"]
        assert rates == [(step, RATE if step < 2 * STEPS else RATE / 4) for step in range(5 * STEPS)]
        assert [row.step for row in rows if row.series == "gradient"] == MEASURED
        assert [row.step for row in rows if row.series == "epoch"] == list(range(5))
        assert seen.steps_in(training.checkpoints.seen) == 5 * STEPS
        facts = facts_of(training)
        assert facts["diverged"] == [{"epoch": 4, "step": 3}, {"epoch": 4, "step": 4}]
        assert facts["rate_scale"] == 0.25
        weights = training.machine.learner.state_dict()
    said = capsys.readouterr().out
    assert "train: goes back to where epoch 4 began, and on with 0.5 of the learning rate\n" in said
    assert "train: goes back to where epoch 3 began, and on with 0.25 of the learning rate\n" in said
    # The same steps at the same rates, of a training that never goes back.
    with training_of(params_of(wilderness, *WILD, "train.epochs=5")) as plain:
        for epoch in range(5):
            plain.progress = Progress(epoch=epoch, rollbacks=[[3, 2], [3, 3]] if epoch >= 2 else [])
            assert all(math.isfinite(step.loss.item()) for step in rest_of_epoch(plain))
        same = plain.machine.learner.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in same.items())


def test_it_goes_back_three_times_and_stops(project: Path) -> None:
    changes = ("optimizer={name: sgd, lr: 1e30}", "schedule={name: constant}", "train.when_diverging=rollback")
    with training_of(params_of(project, *changes)) as training:
        words, _, step = diverged(training)
    assert step["learning_rate"] == 1.25e29
    assert "at a learning rate of 1.25e29: " in words
    assert words.splitlines()[2] == (
        "It went back 3 times, to an eighth of the learning rate. Lower optimizer.lr (it is 1e30) to what "
        "`convoy tune lr` proposes, or set train.clip_norm: 1."
    )


def same_as_one_that_went_on(training: Training, *changes: str, until: int) -> bool:
    """Whether it ends as a training does that never goes back, at the same rates: scaled up to epoch `until`, 0-based,
    by nothing."""
    with training_of(params_of(Path.cwd(), *changes)) as plain:
        for epoch in range(plain.params.train.epochs):
            gone_back = training.progress.rollbacks if epoch >= until else []
            plain.progress = Progress(epoch=epoch, rollbacks=gone_back)
            list(rest_of_epoch(plain))
        same = plain.machine.learner.state_dict()
    return all(torch.equal(training.machine.learner.state_dict()[name], tensor) for name, tensor in same.items())


def test_it_goes_back_further_each_time_also_from_where_it_has_gone_back_to(project: Path) -> None:
    changes, plan = ("train.epochs=4", "train.batch_size=20"), [3, 3, 2]

    def bad(progress: Progress, _: int) -> bool:
        done = len(progress.rollbacks)
        return done < len(plan) and progress.epoch == plan[done]

    with training_of(params_of(project, *changes, "train.when_diverging=rollback")) as training:
        Faulty(training, bad)
        finish_epochs(training)
    assert [epoch for epoch, _ in training.progress.rollbacks] == plan
    noted = standing(read(training.checkpoints.journal, 0)[0])
    assert [row.step for row in noted if row.series == "step"] == list(range(8))
    assert same_as_one_that_went_on(training, *changes, until=0)  # back to 3, to 3 - 1 and to 2 - 2


def test_an_optimizer_that_had_climbed_goes_back_to_where_it_stood(project: Path) -> None:
    with training_of(params_of(project, *SAM, "train.when_diverging=rollback")) as training:
        Faulty(training, lambda progress, seed: not progress.rollbacks and seed == seed_of(training, 1, 3))
        finish_epochs(training)
    assert training.progress.rollbacks == [[1, 3]]
    assert same_as_one_that_went_on(training, *SAM, until=1)


def test_a_member_of_an_ensemble_goes_back_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = params_of(project, "ensemble={members: 2}", "train.epochs=2", "train.when_diverging=rollback")
    dataset, policy = Dataset.open(), Policy.open()
    first, second = members_of(params, dataset)
    stage.train(params, dataset, policy, first)
    with closing(assemble(params, dataset, policy, second)) as training:
        Faulty(training, lambda progress, seed: not progress.rollbacks and seed == seed_of(training, 1, 3))
        finish_epochs(training)
    torch.set_deterministic_debug_mode("default")
    noted = {member: read(path, 0)[0] for member, path in journals(training.checkpoints.home).items()}
    back = {member: [row.values for row in rows if row.series == ROLLBACK] for member, rows in noted.items()}
    assert back == {1: [], 2: [{"step": 5.0, "gradient": 5.0, "epoch": 1.0}]}
    steps = {member: [row.step for row in standing(rows) if row.series == "step"] for member, rows in noted.items()}
    assert steps == {1: list(range(10)), 2: list(range(10))}
    said = capsys.readouterr().out
    assert "train: member 2 of 2: diverged in epoch 2, step 4 of 5, at a learning rate of" in said
    assert "train: member 2 of 2: goes back to where epoch 2 began, and on with 0.5 of the learning rate\n" in said
    assert "train: member 1 of 2: epoch   2/2  loss" in said


def test_of_kept_features_of_half_precision_the_norms_are_kept_and_no_pictures(training: Training) -> None:
    folder = training.checkpoints.folder / "diverged"
    found = Found(0, 1, 0.1, math.inf, "the loss is inf", {"all": 1.0}, {}, np.empty(0), folder)
    keep(found, training, Batch(torch.zeros(4, 3, dtype=torch.bfloat16), torch.zeros(4), np.arange(4)))
    assert sorted(path.name for path in folder.iterdir()) == ["norms.csv", "pictures.csv", "step.json"]
    assert (folder / "pictures.csv").read_text().splitlines() == ["file,id,loss,source"]


def trained(project: Path, **variables: str) -> Ended:
    return Forked(project, stage_train, **variables).ended()


@pytest.mark.slow
def test_killed_while_it_goes_back_it_ends_the_same(prepared: Path, tmp_path: Path) -> None:
    params = params_of(prepared, *WILD, "train.epochs=5", "train.when_diverging=rollback")
    unharmed = shutil.copytree(prepared, tmp_path / "unharmed")
    (unharmed / "params.yaml").write_text(yaml.safe_dump(described(params), sort_keys=False))
    killed = {point: shutil.copytree(unharmed, tmp_path / point) for point in (BETWEEN, GONE_BACK, AGAIN, ON)}
    first = trained(unharmed)
    assert first.status == 0, first.words
    for point, place in killed.items():
        assert trained(place, **{VARIABLE: point}).status == -9
        again = trained(place)
        assert again.status == 0, again.words
        assert left(place) == left(unharmed)


BETWEEN = f"{TrainingPoint.CHECKPOINT_NAMED.value}:5"
"""The beginning and three epochs; then the first of the two with which it goes back."""
GONE_BACK = f"{TrainingPoint.WENT_BACK.value}:1"
AGAIN = f"{TrainingPoint.WENT_BACK.value}:2"
ON = f"{TrainingPoint.EPOCH_NOTED.value}:6"
"""At the end of the epoch that it has gone back to."""
