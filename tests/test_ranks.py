"""What each of several processes holds, reads and knows while they train together."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from engine_project import params_of, prepared, project, training_of
from together import together
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from pipeline.errors import UserError
from pipeline.packed import views
from pipeline.plugin import config_class, metric_named
from pipeline.train import assembly
from pipeline.train.assembly import Training
from pipeline.train.batches import Batch, plain_batch, plain_batches
from pipeline.train.ensemble import kept
from pipeline.train.epochs import finish_epochs
from pipeline.train.learner import Learner
from pipeline.train.loop import Score, validate
from pipeline.train.losses_of_views import known_now, losses_of_views
from pipeline.train.processes import alone
from pipeline.train.processes.ranks import Ranks
from pipeline.train.processes.sharing import Sharing
from pipeline.train.steps import rest_of_epoch

__all__ = ["prepared", "project"]

GPU = torch.device("cuda")


@contextmanager
def shared(*changes: str) -> Iterator[Training]:
    """A training of two processes in the current folder, as one of them sees it."""
    with training_of(params_of(Path.cwd(), "compute.processes=2", *changes)) as training:
        yield training


def of_all(training: Training, value: Any) -> list[Any]:
    """What each process has, in all of them."""
    found: list[Any] = training.ranks.agreed(training.ranks.gathered(value))
    return found


def learn_an_epoch(training: Training) -> list[Tensor]:
    """Each process from its part of every batch; the statistics of batch normalisation that each has then."""
    for _ in rest_of_epoch(training):
        pass
    norm = next(module for module in training.machine.learner.modules() if isinstance(module, nn.BatchNorm2d))
    found: list[Tensor] = of_all(training, norm.running_mean)
    return found


def validated_as_the_first() -> int:
    """The others answer with the statistics of the first one, and each reads what it answers."""
    read: list[slice] = []

    def noted(material: Any, policy: Any, part: slice) -> Batch:
        read.append(part)
        return plain_batch(material, policy, part)

    assembly.plain_batch = noted  # type: ignore[attr-defined]
    with shared() as training:
        mine, others = learn_an_epoch(training)
        assert not torch.equal(mine, others)
        found = training.validated()
        assert read == [(slice(0, 8), slice(8, 10))[training.ranks.rank]]
        if training.ranks.first:
            training.machine.sharing = Sharing(Ranks())
            task, policy, split = training.params.task, training.policy, training.member.val
            batches = ((batch, True) for batch in plain_batches(training.val, policy, 8))
            seen = views(split, policy.frame, policy.plain)
            expected = validate(training.machine, batches, split, seen, Score(task, metric_named(task.score)))
            assert found.loss == pytest.approx(expected.loss, rel=1e-6)
            assert found.score == expected.score
    return 0


def test_each_reads_its_part_of_validation_and_answers_as_the_first_would(project: Path) -> None:
    together(project, validated_as_the_first)


def ordered_alike() -> int:
    """By what the pictures cost the first one, though they cost the others something else."""
    with shared("order={name: curriculum}", "train.epochs=4") as training:
        learn_an_epoch(training)
        batches = plain_batches(training.train, training.policy, 8)
        mine, others = of_all(training, losses_of_views(training.machine, batches))
        assert not np.array_equal(mine, others)
        training.progress.epoch, training.progress.step = 1, 0
        known, theirs = of_all(training, known_now(training).losses)
        assert np.array_equal(known, theirs) and np.array_equal(known, mine)
    return 0


def test_all_order_pictures_by_what_they_cost_the_first(project: Path) -> None:
    together(project, ordered_alike)


def taken_up_beside_another_device() -> int:
    """What the second process computes on is not what the first one does."""
    plain, rank = assembly.environment, os.environ["RANK"]
    assembly.environment = lambda *about: plain(*about) | {"device": f"device {rank}"}  # type: ignore[attr-defined]
    for done in (0, 1):
        with shared("train.epochs=1") as training:
            assert of_all(training, training.progress.epoch) == [done, done]
            finish_epochs(training)
    return 0


def test_a_training_goes_on_where_the_first_one_began_it(project: Path) -> None:
    together(project, taken_up_beside_another_device)


def read_other_params() -> int:
    with (
        pytest.raises(UserError, match="not about to learn the same, for params.yaml"),
        shared(f"seed={os.environ['RANK']}"),
    ):
        pass
    return 0


def test_processes_that_have_read_different_params_say_so(project: Path) -> None:
    together(project, read_other_params)


def works_by_itself() -> int:
    """For longer than a process waits for one that takes part in a step."""
    ranks = Ranks.joined(torch.device("cpu"))
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=1.5))

    def work() -> str:
        time.sleep(2.5)
        return f"of {ranks.rank}"

    assert ranks.found(work) == "of 0"
    assert ranks.in_turn(work) == f"of {ranks.rank}"
    return 0


def test_one_that_works_by_itself_is_waited_for(project: Path) -> None:
    together(project, works_by_itself)


def test_dropout_differs_between_processes(project: Path) -> None:
    with training_of(params_of(project, "model={name: convnet, width: 4, dropout: 0.5}")) as training:
        machine = training.machine
        machine.learn()
        batch = next(iter(plain_batches(training.train, training.policy, 8)))
        losses = []
        for rank in (0, 1, 1):
            machine.sharing = Sharing(Ranks(rank, 2))
            losses.append(machine.gradient(*batch.on(machine.device), seed=5).item())
    assert losses[0] != losses[1] == losses[2]


@contextmanager
def putting_together() -> Iterator[list[int]]:
    """How many numbers are in whole tensors, after each that is put together of its parts."""
    alive: list[weakref.ref[Tensor]] = []
    held: list[int] = []
    plain = DTensor.full_tensor

    def watched(self: DTensor, **options: Any) -> Tensor:
        made = plain(self, **options)
        alive.append(weakref.ref(made))
        held.append(sum(found.numel() for each in alive if (found := each()) is not None))
        return made

    DTensor.full_tensor = watched  # type: ignore[method-assign]
    try:
        yield held
    finally:
        DTensor.full_tensor = plain  # type: ignore[method-assign]


def saved_tensor_by_tensor() -> int:
    """And what is saved is the whole, which one of them has."""
    with shared("compute.sharded=true", "optimizer={name: adamw}", "average={name: ema}") as training:
        learn_an_epoch(training)
        machine = training.machine
        largest = max(weights.numel() for weights in machine.learner.parameters())
        with putting_together() as held:
            training.checkpoints.save(machine, training.progress)
            training.checkpoints.keep_best(machine, 0)
        whole = sum(weights.numel() for weights in machine.learner.parameters())
        assert max(held) == largest and sum(held) > 4 * whole
        state, weights = machine.state(), machine.weights()
        if training.ranks.first:
            assert sum(each.numel() for each in state["learner"].values()) > whole
            assert not any(isinstance(each, DTensor) for each in weights.values())
        else:
            assert state == weights == {}
        training.checkpoints.wait()
    return 0


def test_what_is_shared_out_is_saved_one_whole_tensor_at_a_time(project: Path) -> None:
    together(project, saved_tensor_by_tensor)


def shared_out_from_the_processor() -> int:
    """No network is whole on a device: it comes there as parts, and they make room before it is."""
    sizes: list[int] = []
    moved: list[torch.device] = []
    Learner.to = lambda _, device: moved.append(device)  # type: ignore[assignment, method-assign, misc]
    with pytest.MonkeyPatch.context() as patch, shared("compute.sharded=true", "train.epochs=1") as training:
        assert not moved
        del Learner.to
        finish_epochs(training)
        parts = [weights.to_local() for weights in training.machine.learner.parameters()]  # type: ignore[attr-defined]
        assert sum(part.untyped_storage().nbytes() for part in parts) > 0
        build = alone.build_learner

        def built(*given: Any) -> Learner:
            sizes.append(sum(part.untyped_storage().nbytes() for part in parts))
            return build(*given)

        patch.setattr(alone, "build_learner", built)
        trained = kept(training)
        assert sizes == ([0] if training.ranks.first else [])
        if training.ranks.first:
            best = training.checkpoints.best(0)
            assert all(torch.equal(each, best[name]) for name, each in trained.network.state_dict().items())
    return 0


def test_parts_make_room_before_the_whole_is_built(project: Path) -> None:
    together(project, shared_out_from_the_processor)


NETWORKS = {
    "timm": ("efficientnet_b0", "mobilenetv3_small_100", "regnety_002", "resnet18"),
    "torchvision": ("resnet18", "mobilenet_v3_small"),
    "airbench": ("",),
    "segmentation_models": ("unet",),
}


@pytest.mark.parametrize(("model", "architecture"), [(name, each) for name, many in NETWORKS.items() for each in many])
def test_batch_normalisation_that_sees_all_parts_is_otherwise_as_it_was(model: str, architecture: str) -> None:
    torch.manual_seed(0)
    options = {"architecture": architecture} if architecture else {}
    network = config_class("models", model).model_validate(options).build(3, 4, 64)  # type: ignore[attr-defined]
    pictures = torch.randn(2, 3, 64, 64)
    network(pictures)  # statistics that are not those it begins with
    network.eval()
    before, names = network(pictures), list(network.state_dict())
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    Sharing(Ranks(0, 2)).synchronise(network, GPU)
    assert norms and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert torch.equal(network(pictures), before)
    assert list(network.state_dict()) == names
