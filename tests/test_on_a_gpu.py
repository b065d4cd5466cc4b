"""A real GPU beside the processor: the same losses, the same pixels; nobody waits; compiled, in little memory, by NCCL.

    python -m pytest tests/test_on_a_gpu.py tests/test_on_a_gpu_twice.py -n 6

Everything is skipped where there is none; tests/test_imagined_gpu.py shows without one what it can.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from engine_project import params_of, prepared, project, training_of
from forked import Forked
from gpu_trainings import (
    CHANGES,
    GPU,
    NEEDS_GPU,
    ON_GPU,
    PARTS,
    augmented,
    exact,
    learnt,
    losses_of_epoch,
)
from test_variations import CHAINS, COUNT, SAMPLES, pictures, planned, replayed, resolved
from torch.nn import functional as F

from pipeline.contracts import Target
from pipeline.devices import averaged, sampled
from pipeline.files import STATE
from pipeline.params import Params
from pipeline.train.batches import Batch
from pipeline.train.epochs import finish_epochs
from pipeline.train.machine import Machine, Pace
from pipeline.train.processes.place import MEETING
from pipeline.train.processes.ranks import Ranks
from pipeline.train.processes.shards import Shards
from pipeline.train.processes.sharing import Sharing
from pipeline.variations.device import vary

__all__ = ["exact", "prepared", "project"]

pytestmark = NEEDS_GPU

COMPILED = [
    [],
    ["train.recompute=true"],
    ["train.first_size=8"],
    ["train.accumulation=3"],  # parts of 2, 3 and 3 pictures
    ["mixing={name: both}"],
    ["optimizer={name: sam, lr: 0.01}"],
]


@contextmanager
def nobody_waits() -> Iterator[None]:
    """Whatever has the processor wait for the GPU raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- beside the processor


@pytest.mark.parametrize("changes", CHANGES, ids=" ".join)
def test_a_step_waits_for_nothing_and_learns_what_the_processor_does(project: Path, changes: list[str]) -> None:
    with training_of(augmented(params_of(project, *changes, "compute.pictures=device"))) as training:
        expected = losses_of_epoch(training).tolist()
    with training_of(params_of(project, *changes, ON_GPU)) as training, nobody_waits():
        losses = losses_of_epoch(training)
    # Muon reckons in bfloat16 there; of a gradient near 0 Lion follows the sign
    rounding = 2e-2 if "muon" in changes[0] or "lion" in changes[0] else 1e-3
    assert losses.tolist() == pytest.approx(expected, rel=rounding)


@pytest.mark.parametrize("name", CHAINS)
def test_pictures_are_varied_to_the_pixels_of_the_processor_and_of_albumentations(name: str) -> None:
    plan, spec = planned(CHAINS[name]), resolved(CHAINS[name], 3, Target.LABEL)
    given, which, known = pictures(), np.arange(COUNT), np.zeros((), np.int64)
    drawn = plan.drawn(SAMPLES, 7, 3)
    here = vary(plan, torch.from_numpy(given), which, drawn).numpy().astype(int)
    theirs = np.stack([replayed(plan, spec, Target.LABEL, row, given[row], known)[0] for row in range(COUNT)])
    lying = torch.from_numpy(given).to(GPU)
    with nobody_waits():
        there = vary(plan, lying, which, drawn)
    blended = name in ("affine", "sheared")
    for other in (here, theirs):
        difference = np.abs(there.cpu().numpy() - other.astype(int))
        assert difference.max() <= blended
        assert (difference > 0).mean() < 0.001


@pytest.mark.parametrize("output", PARTS)
def test_means_of_parts_are_torchs_with_a_gradient_that_is_repeatable(output: object) -> None:
    maps = torch.randn(2, 3, 12, 7)
    expected = learnt(lambda each: F.adaptive_avg_pool2d(each, output), maps)  # type: ignore[arg-type]
    torch.set_deterministic_debug_mode("error")
    found, again = (learnt(lambda each: averaged(each, output), maps.to(GPU)) for _ in range(2))
    torch.testing.assert_close(found, expected)
    assert all(map(torch.equal, found, again))


@pytest.mark.parametrize("corners", [False, True])
def test_samples_are_torchs_with_a_gradient_that_is_repeatable(corners: bool) -> None:
    maps, places = torch.randn(2, 3, 5, 7), torch.rand(2, 400, 6, 2) * 2.6 - 1.3  # many of one cell
    expected = learnt(lambda *each: F.grid_sample(*each, align_corners=corners), maps, places)
    torch.set_deterministic_debug_mode("error")
    found, again = (
        learnt(lambda *each: sampled(*each, align_corners=corners), maps.to(GPU), places.to(GPU)) for _ in range(2)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert all(map(torch.equal, found, again))


# --- compiled


def losses_of_all(params: Params) -> list[float]:
    """Of three epochs, and of a batch that is not full."""
    with training_of(params) as training:
        found = []
        for training.progress.epoch in range(3):
            found.append(losses_of_epoch(training))
        batch = next(training.batches.epoch(0, 0, np.arange(40)))
        found.append(training.machine.step(Batch(batch.pictures[:5], batch.targets[:5]), Pace(0.01))[None])
        return torch.cat(found).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("changes", COMPILED, ids=" ".join)
def test_compiled_and_launched_as_graphs_it_learns_the_same(project: Path, changes: list[str]) -> None:
    params = params_of(project, ON_GPU, *changes)
    compiled = params_of(project, ON_GPU, *changes, "compute.compile=always")
    assert losses_of_all(compiled) == pytest.approx(losses_of_all(params), rel=5e-3)


@pytest.mark.parametrize(
    "changes", [("compute.precision=float16",), ("compute.precision=bfloat16", "compute.compile=always")]
)
def test_a_step_in_half_precision_waits_for_nothing(project: Path, changes: tuple[str, ...]) -> None:
    with training_of(params_of(project, ON_GPU, *changes)) as training:
        losses_of_epoch(training)  # compiles and records
        with nobody_waits():
            losses = losses_of_epoch(training)
        assert losses.isfinite().all()


# --- memory, processes


def test_out_of_memory_it_goes_on_in_two_parts(project: Path) -> None:
    large = ("augment={name: none, size: 128}", "model={name: convnet, width: 64}", "train.batch_size=40", ON_GPU)
    augmented(params_of(project, *large))
    reserved = []
    for parts in (1, 2):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        with training_of(params_of(project, *large, f"train.accumulation={parts}")) as training:
            finish_epochs(training)
        reserved.append(torch.cuda.max_memory_reserved())
    torch.cuda.empty_cache()
    shutil.rmtree(STATE / "train")
    torch.cuda.set_per_process_memory_fraction(sum(reserved) / 2 / torch.cuda.get_device_properties(GPU).total_memory)
    try:
        with training_of(params_of(project, *large, "train.when_out_of_memory=halve")) as training:
            finish_epochs(training)
            assert training.machine.accumulation == 2
            assert training.progress.epoch == 3
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def shared_out_by_nccl() -> int:
    """Take the steps of an epoch with weights that are shared out among one process, and with whole ones."""
    Ranks.joined(GPU)
    told = torch.full((3,), 2.0, device=GPU)
    dist.all_reduce(told)
    assert told.tolist() == [2, 2, 2] and "nccl" in dist.get_backend_config()
    params, states = params_of(Path.cwd(), ON_GPU), []
    with training_of(params) as training:
        batches = list(training.batches.epoch(0, 0, np.arange(40)))
        for sharing in (Sharing(Ranks()), Shards(Ranks(0, 1))):
            learner, arithmetic = copy.deepcopy(training.machine.learner), training.machine.arithmetic
            machine = Machine.assemble(params, learner, GPU, arithmetic, len(batches), sharing)
            machine.learn()
            for number, batch in enumerate(batches):
                machine.step(batch, Pace(0.01, None, number, number))
            states.append(sharing.whole(machine.learner.state_dict()))
    torch.testing.assert_close(states[1], states[0])
    return 0


def test_weights_are_shared_out_by_nccl(project: Path, tmp_path: Path) -> None:
    alone = {"RANK": "0", "WORLD_SIZE": "1", MEETING: str(tmp_path / "meeting"), "GLOO_SOCKET_IFNAME": "lo"}
    ended = Forked(project, shared_out_by_nccl, **alone).ended()
    assert ended.status == 0, ended.words
