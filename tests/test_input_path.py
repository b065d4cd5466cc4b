"""The input path: which pictures in which order with which pixels, and that nothing but the seed decides it."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.augment.stage import moments
from pipeline.contracts import Frame, Target, Transform
from pipeline.door import parse
from pipeline.errors import UserError
from pipeline.params import TrainParams
from pipeline.plugin import config_class
from pipeline.policy import Policy
from pipeline.train import resident as resident_module
from pipeline.train.batches import Batch, Material, TrainingBatches, plain_batches, steps_per_epoch
from pipeline.train.learner import counted
from pipeline.train.orders import epoch_order
from pipeline.train.resident import ResidentBatches, open_batches
from pipeline.train.varied import Asked
from pipeline.train_options import ComputeOptions
from pipeline.training import Known
from pipeline.transforms import resolve
from pipeline.variations.plan import Plan

COUNT, PACKED, SIZE, BATCH = 53, 20, 16, 8
IMAGES = np.arange(COUNT)


def shuffled(number: int, seed: int = 7) -> np.ndarray:
    known = Known(COUNT, None, lambda name: np.zeros(0))
    return epoch_order(config_class("orders", "shuffled")(), seed, number, 10, known)


CROP = Transform(name="RandomCrop", arguments={"height": SIZE, "width": SIZE})
FLIP = Transform(name="HorizontalFlip")
BLUR = Transform(name="GaussianBlur", arguments={"p": 1.0})


def policy_of(*transforms: Transform, alternates: bool = False) -> Policy:
    spec = resolve(transforms, PACKED, SIZE, 1, Target.LABEL)
    moments = {"mean": [0.5], "deviation": [0.25]}
    sides = {"frame": Frame.model_validate("crop"), "packed": PACKED, "size": SIZE}
    return Policy(channels=1, transforms=spec, alternates=alternates, **sides, **moments)


@pytest.fixture(scope="module", params=["in bulk", "one by one"])
def policy(request) -> Policy:
    """Transforms that are all known to `pipeline.variations`, and one more that is not."""
    return policy_of(CROP, FLIP) if request.param == "in bulk" else policy_of(CROP, FLIP, BLUR)


def targets_of(learns: Target) -> np.ndarray:
    """Something of that kind for each picture, another for each."""
    random = np.random.default_rng(1)
    if learns in (Target.LABEL, Target.GRADE, Target.IDENTITY):
        return np.arange(COUNT)
    if learns in (Target.LABELS, Target.NUMBERS, Target.COUNTS):
        return random.integers(0, 2, (COUNT, 5)).astype(np.uint8 if learns is Target.LABELS else np.float32)
    if learns is Target.POINTS:
        places = random.uniform(0, PACKED, (COUNT, 4, 2))
        return np.concatenate([places, np.tile([[1, 1], [1, 0], [0, 2], [1, 3]], (COUNT, 1, 1))], 2).astype(np.float32)
    if learns is Target.INSTANCES:
        return random.integers(0, 3, (COUNT, PACKED, PACKED, 3), dtype=np.uint8)
    if learns is Target.MASK:
        return random.integers(0, 5, (COUNT, PACKED, PACKED), dtype=np.uint8)
    table = np.full((COUNT, 3, 6), -1, np.float32)
    for row in range(COUNT):
        x, y = random.integers(0, 10, 2)
        table[row, : 1 + row % 2] = [x, y, x + 8, y + 9, row, row % 2]
    return table


@pytest.fixture(scope="module", params=list(Target), ids=lambda learns: learns.name)
def material(request) -> Material:
    pictures = np.random.default_rng(0).integers(0, 256, (COUNT, PACKED, PACKED, 1), dtype=np.uint8)
    pictures.setflags(write=False)  # as the packed cache is
    return Material([f"{i:064x}" for i in range(COUNT)], pictures, targets_of(request.param), request.param, IMAGES)


def epoch(material, policy, threads=2, number=3, first=0, batch=BATCH, seed=7):
    batches = TrainingBatches(material, policy, seed, batch, threads)
    seen = [(got.pictures.clone(), got.targets.clone()) for got in batches.epoch(number, first, shuffled(number, seed))]
    batches.close()
    return torch.cat([pictures for pictures, _ in seen]), torch.cat([targets for _, targets in seen])


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_leave_no_trace(material, policy, threads):
    pictures, targets = epoch(material, policy)
    others, other_targets = epoch(material, policy, threads=threads)
    assert torch.equal(pictures, others)
    assert torch.equal(targets, other_targets)


def test_the_point_of_resumption_leaves_no_trace(material, policy):
    pictures, targets = epoch(material, policy)
    rest, rest_targets = epoch(material, policy, first=4)
    assert torch.equal(pictures[4 * BATCH :], rest)
    assert torch.equal(targets[4 * BATCH :], rest_targets)


def test_the_batch_size_changes_no_pixel(material, policy):
    pictures, targets = epoch(material, policy)
    others, other_targets = epoch(material, policy, batch=16)
    count = len(other_targets)
    assert torch.equal(pictures[:count], others)
    assert torch.equal(targets[:count], other_targets)


def test_each_picture_once_an_epoch_and_in_another_order_the_next(material, policy):
    labelled = Material(material.ids, material.pictures, targets_of(Target.LABEL), Target.LABEL, IMAGES)
    _, first = epoch(labelled, policy, number=0)
    _, second = epoch(labelled, policy, number=1)
    assert len(first) == COUNT // BATCH * BATCH == len(set(first.tolist()))
    assert not torch.equal(first, second)
    assert sorted(shuffled(0)) == list(range(COUNT))


def test_a_caller_that_stops_early_leaves_no_thread_writing(material, policy):
    batches = TrainingBatches(material, policy, 7, BATCH, 2)
    for _ in range(20):  # each time, batches ahead are being filled
        first = batches.epoch(0, 0, shuffled(0))
        next(first)
        first.close()
    whole = [(got.pictures.clone(), got.targets.clone()) for got in batches.epoch(3, 0, shuffled(3))]
    batches.close()
    for part, expected in zip(zip(*whole, strict=True), epoch(material, policy), strict=True):
        assert torch.equal(torch.cat(part), expected)


def test_a_part_that_fails_leaves_none_of_the_others_writing(monkeypatch):
    batches, fill = TrainingBatches(labelled(), policy_of(CROP, FLIP), 7, BATCH, 2), TrainingBatches._fill
    failed, at_work = threading.Event(), []

    def fails(self, batch, asked, part, reading):
        if part.start == 0:
            failed.set()
            raise MemoryError("no room")
        at_work.append(part)
        assert failed.wait(120)
        time.sleep(0.1)  # still at work when the caller hears of it
        fill(self, batch, asked, part, reading)
        at_work.remove(part)

    monkeypatch.setattr(TrainingBatches, "_fill", fails)
    with pytest.raises(MemoryError, match="no room"):
        next(batches.epoch(0, 0, shuffled(0)))
    assert not at_work
    batches.close()


PLAIN = Material([f"{i:064x}" for i in range(COUNT)], np.zeros(0), np.arange(COUNT), Target.LABEL, IMAGES)


def labelled() -> Material:
    pictures = np.random.default_rng(0).integers(0, 256, (COUNT, PACKED, PACKED, 1), dtype=np.uint8)
    pictures.setflags(write=False)  # as the packed cache is
    return dataclasses.replace(PLAIN, pictures=pictures)


def resident(policy, number=3, first=0, batch=BATCH) -> list[Batch]:
    material, device = labelled(), torch.device("cpu")
    plan = Plan.read(policy.transforms, PACKED, 1, Target.LABEL, policy.alternates)
    batches = ResidentBatches(material, policy, plan, 7, batch, device)
    return list(batches.epoch(number, first, shuffled(number)))


def test_pictures_on_the_device_are_those_of_the_host(monkeypatch):
    light = Transform(name="RandomBrightnessContrast", arguments={"p": 0.5})
    crop = Transform(name="RandomResizedCrop", arguments={"size": [SIZE, SIZE]})
    policy = policy_of(crop, FLIP, light, alternates=True)
    pictures, targets = epoch(labelled(), policy)
    for portion in (1, 3 * BATCH * SIZE**2, 2**25):  # a batch at once, three, all
        monkeypatch.setattr(resident_module, "PORTION", portion)
        seen = resident(policy)
        assert torch.equal(torch.cat([batch.pictures for batch in seen]), pictures)
        assert torch.equal(torch.cat([batch.targets for batch in seen]), targets)
        assert np.concatenate([batch.views for batch in seen]).tolist() == targets.tolist()
        rest = resident(policy, first=4)
        assert torch.equal(torch.cat([batch.pictures for batch in rest]), pictures[4 * BATCH :])
    assert [len(batch.targets) for batch in resident(policy, batch=100)] == [COUNT]


@pytest.mark.parametrize("transforms", [(CROP, FLIP), (CROP, FLIP, BLUR)], ids=["in bulk", "one by one"])
def test_a_view_that_comes_again_is_varied_in_another_way_each_time(transforms):
    policy, order = policy_of(*transforms), np.concatenate([np.repeat(IMAGES[:4], 4), IMAGES[:37]])
    batches = TrainingBatches(labelled(), policy, 7, BATCH, 3)
    pictures = torch.cat([batch.pictures.clone() for batch in batches.epoch(3, 0, order)])
    rest = torch.cat([batch.pictures.clone() for batch in batches.epoch(3, 2, order)])
    once = torch.cat([batch.pictures.clone() for batch in batches.epoch(3, 0, IMAGES)])
    batches.close()
    for view in range(4):
        first, *others = pictures[4 * view : 4 * view + 4]
        fifth = pictures[16 + view]
        assert torch.equal(first, once[view])  # as if it came once
        assert len({each.numpy().tobytes() for each in (first, *others, fifth)}) >= 4  # of 50 crops and mirrors
    assert torch.equal(pictures[16 + 4 : 48], once[4:32]) and torch.equal(pictures[16:], rest)
    if BLUR not in transforms:
        plan = Plan.read(policy.transforms, PACKED, 1, Target.LABEL, policy.alternates)
        on_device = ResidentBatches(labelled(), policy, plan, 7, BATCH, torch.device("cpu")).epoch(3, 0, order)
        assert torch.equal(torch.cat([batch.pictures for batch in on_device]), pictures)


def test_how_often_a_view_came_before_by_hand():
    asked = Asked.all_of(2, np.array([4, 1, 4, 0, 1, 4]))
    assert asked.turns.tolist() == [0, 0, 1, 0, 1, 2]
    assert [each.tolist() for each in asked.at(slice(2, 4))[1:]] == [[4, 0], [1, 0]]


@pytest.mark.parametrize("transforms", [(CROP, FLIP), (CROP, FLIP, BLUR)], ids=["in bulk", "one by one"])
def test_a_picture_mirrored_in_one_epoch_is_not_in_the_next(transforms):
    ramp = np.broadcast_to(np.arange(PACKED, dtype=np.uint8)[None, None, :, None], (COUNT, PACKED, PACKED, 1))
    policy, material = policy_of(*transforms, alternates=True), dataclasses.replace(PLAIN, pictures=ramp)
    mirrored = []
    for number in range(3):
        pictures, targets = epoch(material, policy, number=number, batch=COUNT)
        turned = pictures[:, 0, 0, 0] > pictures[:, 0, -1, 0]
        mirrored.append(turned[targets.argsort()])
    assert torch.equal(mirrored[0], ~mirrored[1])
    assert torch.equal(mirrored[0], mirrored[2])
    assert 15 < mirrored[0].sum() < 38  # half of 53 +- 3 deviations


PARAMS = parse(TrainParams, (Path(__file__).parents[1] / "params.yaml").read_text())


def opened(where: str, device: str, policy: Policy, material: Material):
    params = PARAMS.model_copy(update={"compute": ComputeOptions(pictures=where, loader_threads=1)})
    batches = open_batches(params, material, policy, torch.device(device))
    batches.close()
    return batches


def test_where_pictures_are_varied():
    policy, material = policy_of(CROP, FLIP), labelled()
    assert isinstance(opened("device", "cpu", policy, material), ResidentBatches)
    assert isinstance(opened("auto", "cpu", policy, material), TrainingBatches)
    assert isinstance(opened("host", "cpu", policy, material), TrainingBatches)


def test_pictures_that_cannot_be_varied_on_the_device(monkeypatch):
    policy, material = policy_of(CROP, FLIP), labelled()
    with pytest.raises(UserError, match="'device', but the augmentation policy has transforms that are done on the ho"):
        opened("device", "cpu", policy_of(CROP, FLIP, BLUR), material)
    masks = dataclasses.replace(material, targets=targets_of(Target.MASK), learns=Target.MASK)
    with pytest.raises(UserError, match="one class per pixel.*, moves with the pixels.*\nSet it to host or auto"):
        opened("device", "cpu", policy, masks)
    monkeypatch.setattr(resident_module, "SHARE", 2**40)
    with pytest.raises(UserError, match="pictures take 0.0 GiB, and a third of the memory of cpu is"):
        opened("device", "cpu", policy, material)


def test_steps_by_hand():
    assert steps_per_epoch(53, 8) == 6
    assert steps_per_epoch(5, 8) == 1  # one small batch rather than none


def test_evaluation_sees_every_centre_in_order(material, policy):
    batches = list(plain_batches(material, policy, 10))
    assert [len(batch.targets) for batch in batches] == [10, 10, 10, 10, 10, 3]
    pictures = torch.cat([batch.pictures for batch in batches])
    assert np.array_equal(pictures.numpy(), material.pictures[:, 2:18, 2:18])
    assert np.array_equal(torch.cat([batch.targets for batch in batches]).numpy(), material.targets)


def test_moments_by_hand():
    pictures = np.zeros((2, 1, 2, 2), np.uint8)
    pictures[..., 0] = [[[0, 255]], [[0, 255]]]  # mean 1/2, deviation 1/2
    pictures[..., 1] = 51  # 0.2 everywhere: divided by 1, not by 0
    assert moments(pictures) == ([0.5, 0.2], [0.5, 1.0])


def test_counted_randomness_depends_on_seed_and_position_alone():
    values = {counted(seed, "step", epoch, step) for seed in range(5) for epoch in range(20) for step in range(20)}
    assert len(values) == 2000
    assert all(0 <= value < 2**63 for value in values)
    assert counted(1, "step", 11, 1) != counted(1, "step", 1, 11)
    assert counted(0, "weights") == 7388263408636359099  # another value would be other weights
