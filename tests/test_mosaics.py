"""Mosaics: four pictures become one, with what is known of them, and nothing but the seed decides how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import located_sets
import numpy as np
import pytest
import torch
from ready_files import clashes

from pipeline import masks
from pipeline.augment import stage
from pipeline.boxes import VISIBLE
from pipeline.contracts import Frame, Target
from pipeline.errors import UserError
from pipeline.masks import CROWD, VOID
from pipeline.mosaics import COUNT, JOINED, Corner, Mosaics, drawn, instances, objects, painted, rows
from pipeline.params import AugmentParams
from pipeline.plugin import config_class
from pipeline.policy import Policy
from pipeline.train.batches import Material, TrainingBatches, mosaic_epochs
from pipeline.transforms import resolve, sample_seed

SIDE = 64
KINDS = [Target.OBJECTS, Target.INSTANCES, Target.MASK]
QUARTERS = [(0, 0, 32, 32), (32, 0, 64, 32), (0, 32, 32, 64), (32, 32, 64, 64)]


def shapes(count: int, seed: int = 0) -> dict[Target | None, np.ndarray]:
    """Pictures of three rectangles that do not touch, each of its own shade; under None, and what is known of them."""
    random = np.random.default_rng(seed)
    pictures = np.zeros((count, SIDE, SIDE, 1), np.uint8)
    table, mask = np.full((count, 4, 6), -1, np.float32), np.zeros((count, SIDE, SIDE), np.uint8)
    pieces = np.full((count, SIDE, SIDE, 3), VOID, np.uint8)
    for picture in range(count):
        for place, (left, top) in enumerate([(2, 2), (34, 4), (12, 34)]):
            x1, y1 = left + random.integers(0, 5), top + random.integers(0, 5)
            x2, y2 = x1 + random.integers(6, 24), y1 + random.integers(6, 24)
            shade = 10 + 3 * picture + place
            pictures[picture, y1:y2, x1:x2] = shade
            table[picture, place] = [x1, y1, x2, y2, shade, 0]
            mask[picture, y1:y2, x1:x2] = shade
            pieces[picture, y1:y2, x1:x2] = shade, place, 1  # numbers need not begin at 0
    return {None: pictures, Target.OBJECTS: table, Target.MASK: mask, Target.INSTANCES: pieces}


def whole(places: list[tuple[int, int, int, int]]) -> list[Corner]:
    """Windows of full size, and the same place in picture and mosaic."""
    return [Corner(place, tuple(map(float, place))) for place in places]


@pytest.mark.parametrize("seed", range(8))
def test_four_windows_fill_the_mosaic_without_stretching_anything(seed: int) -> None:
    corners = drawn(SIDE, np.random.default_rng(seed))
    covered = np.zeros((SIDE, SIDE), int)
    for (x1, y1, x2, y2), window in corners:
        covered[y1:y2, x1:x2] += 1
        assert min(window[:2]) >= 0 and max(window[2:]) <= SIDE
        assert (window[2] - window[0]) / (x2 - x1) == pytest.approx((window[3] - window[1]) / (y2 - y1))
        assert window[2] - window[0] >= x2 - x1 - 1e-9  # never larger than life
    assert (covered == 1).all()
    assert SIDE / 4 <= corners[0].place[2] <= 3 * SIDE / 4


@pytest.mark.parametrize("side", [4, 5, 31, 320])
def test_any_side_will_do(side: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    for seed in range(50):
        assert painted([picture] * 4, drawn(side, np.random.default_rng(seed))).shape == (side, side, 3)


def test_windows_of_full_size_are_copied_pixel_by_pixel() -> None:
    made = shapes(4)
    corners = whole(QUARTERS)
    mosaic = painted(list(made[None]), corners)
    told = objects(list(made[Target.OBJECTS]), corners)
    for picture, (x1, y1, x2, y2) in enumerate(QUARTERS):
        assert np.array_equal(mosaic[y1:y2, x1:x2], made[None][picture, y1:y2, x1:x2])
    seen = {int(row[4]): row for row in told if row[4] >= 0}
    assert set(seen) == set(np.unique(mosaic)) - {0}  # nothing is told that is not seen, nor the other way round
    for shade, row in seen.items():
        assert row[:4].tolist() == list(masks.box_of(mosaic[:, :, 0] == shade) or ())


@pytest.mark.parametrize("seed", range(20))
def test_boxes_hold_their_objects_and_no_more(seed: int) -> None:
    made = shapes(4, seed)
    corners = drawn(SIDE, np.random.default_rng(seed))
    told = objects(list(made[Target.OBJECTS]), corners)
    shown = JOINED[Target.MASK](list(made[Target.MASK]), corners)  # by nearest pixels: every one is an object's or none
    for row in told[told[:, 4] >= 0]:
        found = masks.box_of(shown == row[4])
        if found is None:
            assert min(row[2] - row[0], row[3] - row[1]) < 1  # too thin to reach the middle of a pixel
        else:
            # A pixel belongs to an object if its centre does, so a box is the pixels' own but for half a pixel.
            assert np.abs(row[:4] - np.array(found)).max() <= 0.5 + 1e-4
    assert {int(row[4]) for row in told if row[4] >= 0} >= set(np.unique(shown).tolist()) - {0}


def test_boxes_by_hand() -> None:
    window = (10.0, 20.0, 50.0, 60.0)  # 40 pixels on 20: half size
    corners = [Corner((0, 0, 20, 20), window), *(Corner((0, 0, 1, 1), (0.0, 0.0, 1.0, 1.0)) for _ in range(3))]
    given = np.full((1, 4, 6), -1, np.float32)
    given[0, :3] = [[14, 24, 34, 44, 1, 0], [0, 20, 18, 40, 2, 0], [0, 20, 12, 40, 3, 0]]
    nothing = np.full((4, 6), -1, np.float32)
    told = objects([given[0], nothing, nothing, nothing], corners)
    assert told.shape == (16, 6) and told.dtype == np.float32
    # the first is whole; of the second 8 of 18 columns are seen, of the third 2 of 12, less than a quarter: a crowd
    assert 2 / 12 < VISIBLE < 8 / 18
    assert told[:3].tolist() == [[2, 2, 12, 12, 1, 0], [0, 0, 4, 10, 2, 0], [0, 0, 1, 10, 3, 1]]
    assert (told[3:] == -1).all()


@pytest.mark.parametrize("seed", range(10))
def test_no_two_objects_share_a_number(seed: int) -> None:
    made = shapes(4, seed)
    corners = drawn(SIDE, np.random.default_rng(seed))
    mosaic = instances(list(made[Target.INSTANCES]), corners)
    shown = JOINED[Target.MASK](list(made[Target.MASK]), corners)
    assert np.array_equal(mosaic[:, :, 0] == VOID, shown == 0)
    there = mosaic[:, :, 0] != VOID
    numbers = mosaic[:, :, 1].astype(int) + 256 * mosaic[:, :, 2].astype(int)
    pairs = set(zip(numbers[there].tolist(), shown[there].tolist(), strict=True))  # each shade is one object's
    assert len(pairs) == len({number for number, _ in pairs}) == len({shade for _, shade in pairs})
    assert {number for number, _ in pairs} == set(range(len(pairs)))
    kept = there & (mosaic[:, :, 0] != CROWD)
    assert (mosaic[:, :, 0][kept] == shown[kept]).all()


def test_an_instance_of_which_too_little_is_seen_is_a_crowd() -> None:
    square = np.full((SIDE, SIDE, 3), VOID, np.uint8)
    square[10:14, 26:46] = 1, 7, 0  # 20 columns, 6 of them in the window: 0.3
    square[20:24, 29:49] = 1, 8, 0  # 3 of 20
    mosaic = instances([square] * 4, whole(QUARTERS[:1]) + whole(QUARTERS[1:]))
    assert (mosaic[10:14, 26:32] == [1, 0, 0]).all() and (mosaic[20:24, 29:32] == [CROWD, 1, 0]).all()


# --- in the input path


@pytest.fixture(scope="module", params=["one by one", "in bulk"])
def policy(request: pytest.FixtureRequest) -> Policy:
    """As it is, and without its colours, which are not known to `pipeline.variations`."""
    options = config_class("policies", "mosaic").model_validate({"size": SIDE, "frame": "pad", "share": 0.6})
    transforms = options.transforms(located=True)[: 2 if request.param == "in bulk" else None]
    spec = resolve(transforms, SIDE, SIDE, 1, Target.OBJECTS)
    frame = Frame.model_validate("pad")
    moments = {"mean": [0.5], "deviation": [0.25]}
    return Policy(channels=1, frame=frame, packed=SIDE, size=SIDE, transforms=spec, mosaic=options.mosaic, **moments)


def material(learns: Target, count: int = 24) -> Material:
    made = shapes(count)
    return Material([f"{row:064x}" for row in range(count)], made[None], made[learns], learns, np.arange(count))


def epoch(
    learns: Target, policy: Policy, threads: int = 1, first: int = 0, number: int = 2, until: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    batches = TrainingBatches(material(learns), policy, 7, 6, threads, until)
    seen = [(got.pictures.clone(), got.targets.clone()) for got in batches.epoch(number, first, np.arange(24)[::-1])]
    batches.close()
    return torch.cat([pictures for pictures, _ in seen]), torch.cat([targets for _, targets in seen])


@pytest.mark.parametrize("learns", KINDS, ids=lambda learns: learns.name)
def test_threads_and_the_point_of_resumption_leave_no_trace(learns: Target, policy: Policy) -> None:
    pictures, targets = epoch(learns, policy)
    for others, other_targets in (epoch(learns, policy, threads=3), epoch(learns, policy, threads=1)):
        assert torch.equal(pictures, others) and torch.equal(targets, other_targets)
    rest, rest_targets = epoch(learns, policy, threads=3, first=2)
    assert torch.equal(pictures[12:], rest) and torch.equal(targets[12:], rest_targets)


@pytest.mark.parametrize("learns", KINDS, ids=lambda learns: learns.name)
def test_epochs_differ_and_the_last_ones_see_no_mosaic(learns: Target, policy: Policy) -> None:
    assert not torch.equal(epoch(learns, policy, number=2)[0], epoch(learns, policy, number=3)[0])
    plain, _ = epoch(learns, policy, number=2, until=2)
    never, _ = epoch(learns, policy.model_copy(update={"mosaic": 0.0}), number=2)
    assert torch.equal(plain, never)
    assert not torch.equal(epoch(learns, policy, number=2, until=3)[0], never)


def test_there_is_room_for_the_objects_of_four(policy: Policy) -> None:
    _, targets = epoch(Target.OBJECTS, policy)
    assert targets.shape == (24, COUNT * 4, 6)
    counts = (targets[:, :, 4] >= 0).sum(dim=1)
    assert counts.max() > 4  # more than any picture has
    assert rows(4, 0.0, Target.OBJECTS) == 4 and rows(4, 0.5, Target.MASK) == 4


def test_as_many_are_mosaics_as_the_policy_says() -> None:
    made = shapes(2)
    mosaics = Mosaics(made[None], made[Target.MASK], Target.MASK, 0.3)
    plain = [np.array_equal(mosaics.seen(1, sample_seed(0, 0, str(one)))[0], made[None][1]) for one in range(300)]
    assert 70 <= 300 - sum(plain) <= 110  # 90 +- 2.5 deviations of a fair draw


def test_the_last_tenth_of_the_epochs_by_hand() -> None:
    assert [mosaic_epochs(epochs) for epochs in (1, 5, 10, 11, 30, 300)] == [0, 4, 9, 9, 27, 270]


def test_all_that_can_be_put_together_is() -> None:
    assert set(JOINED) == {kind for kind in Target if kind.joins} == set(KINDS)


def test_the_stage_shows_mosaics_and_refuses_them_where_they_cannot_be(tmp_path: Path) -> None:
    dataset = located_sets.objects(tmp_path / "dataset")
    options = config_class("policies", "mosaic").model_validate({"size": 32, "frame": "pad", "share": 1.0})
    made = stage.run(AugmentParams(augment=options), dataset, tmp_path / "policy")
    assert made.mosaic == Policy.open(tmp_path / "policy/policy.json").mosaic == 1.0
    assert (tmp_path / "policy/preview.png").exists()
    whole_pictures = replace(dataset, info=dataset.info.model_copy(update={"learns": "COUNTS"}))
    with pytest.raises(UserError) as refused:
        stage.run(AugmentParams(augment=options), whole_pictures, tmp_path / "policy")
    assert str(refused.value) == (
        "params.yaml: augment 'mosaic' joins four pictures, with their objects or masks, but task 'object_detection' "
        "learns how many of each class per image; set augment to another policy, such as standard."
    )
    middle = config_class("policies", "mosaic").model_validate({"size": 32, "frame": "crop"})
    with pytest.raises(UserError) as refused:
        stage.run(AugmentParams(augment=middle), dataset, tmp_path / "policy")
    assert str(refused.value) == (
        "params.yaml: task 'object_detection' learns where things are in all of a picture, but augment.frame 'crop' "
        "shows its middle; set pad, stretch or tiles."
    )


def test_the_door_refuses_mosaics_of_what_has_none() -> None:
    assert clashes("classification-folder", "augment={name: mosaic, size: 64}") == [
        "  the parts together: augment 'mosaic' joins four pictures, with their objects or masks, but task "
        "'classification' learns one class per image; set augment to another policy, such as standard."
    ]
    assert not clashes("detection-mosaic")
