"""Varying in bulk: given the same numbers, what Albumentations does, on the host bit for bit, on a device nearly.

Albumentations is run here on numbers that a test hands to it, those that the step under test got, so that its draws are
compared too and not only its pixels.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline.contracts import PolicyConfig, Target, Transform
from pipeline.plugin import config_class
from pipeline.transforms import Augmenter, resolve
from pipeline.variations.affine import Affine
from pipeline.variations.crops import TRIES, RandomResizedCrop
from pipeline.variations.device import vary
from pipeline.variations.draws import keys, uniform
from pipeline.variations.holes import CoarseDropout
from pipeline.variations.host import Bench
from pipeline.variations.plan import EVEN, Plan, alternating
from pipeline.variations.step import Step
from pipeline.variations.targets import moved_objects, moved_points

PACKED, SIZE, COUNT = 37, 32, 24
SAMPLES = keys([f"{number:064x}" for number in range(COUNT)])

CROP = {"name": "RandomResizedCrop", "arguments": {"size": [SIZE, SIZE], "scale": [0.35, 1.0]}}
NARROW = {"name": "RandomResizedCrop", "arguments": {"size": [SIZE, SIZE], "scale": [0.9, 1.0], "ratio": [1.2, 3.0]}}
FLIP = {"name": "HorizontalFlip", "arguments": {"p": 0.5}}
LIGHT = {"name": "RandomBrightnessContrast", "arguments": {"p": 0.8}}
RANDOM_CROP = {"name": "RandomCrop", "arguments": {"height": SIZE, "width": SIZE}}
AFFINE = {"scale": [0.8, 1.2], "translate_percent": [-0.1, 0.1], "rotate": [-30, 30], "p": 0.9}
CHAINS: dict[str, list[dict[str, Any]]] = {
    "standard": [CROP, FLIP, LIGHT],
    "fallback": [NARROW],
    "crop": [RANDOM_CROP, FLIP, {"name": "VerticalFlip", "arguments": {"p": 0.5}}],
    "reflected": [
        {"name": "PadIfNeeded", "arguments": {"min_height": 44, "min_width": 44, "border_mode": 4}},
        RANDOM_CROP,
        FLIP,
    ],
    "framed": [
        {"name": "PadIfNeeded", "arguments": {"min_height": 40, "min_width": 40, "fill": 9, "border_mode": 0}},
        RANDOM_CROP,
    ],
    "resized": [
        {"name": "CenterCrop", "arguments": {"height": 30, "width": 30}},
        FLIP,
        {"name": "Resize", "arguments": {"height": SIZE, "width": SIZE}},
    ],
    "twice": [{**CROP, "arguments": {"size": [40, 40]}}, CROP],
    "affine": [RANDOM_CROP, {"name": "Affine", "arguments": {**AFFINE, "border_mode": 1}}],
    "sheared": [
        RANDOM_CROP,
        {"name": "Affine", "arguments": {**AFFINE, "shear": [-20, 20], "keep_ratio": True, "fill": 50.0}},
    ],
    "pixels": [
        {"name": "Affine", "arguments": {"translate_px": [-3, 3], "border_mode": 4, "p": 1.0}},
        RANDOM_CROP,
    ],
    "holes": [
        RANDOM_CROP,
        {"name": "CoarseDropout", "arguments": {"num_holes_range": [1, 4], "fill": 7, "p": 0.8}},
        {"name": "CoarseDropout", "arguments": {"hole_height_range": [2, 9], "hole_width_range": [1, 40], "p": 1.0}},
    ],
    "erasing": [RANDOM_CROP, {"name": "Erasing", "arguments": {"scale": [0.02, 0.3], "fill": 200, "p": 0.8}}],
}


def resolved(chain: Sequence[dict[str, Any]], channels: int, learns: Target) -> dict[str, Any]:
    return resolve([Transform.model_validate(each) for each in chain], PACKED, SIZE, channels, learns)


def planned(chain: Sequence[dict[str, Any]], channels: int = 3, learns: Target = Target.LABEL) -> Plan:
    plan = Plan.read(resolved(chain, channels, learns), PACKED, channels, learns)
    assert plan
    return plan


def pictures(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, PACKED, PACKED, channels), dtype=np.uint8)


class Told(random.Random):
    """Numbers of [0, 1) that are handed out one after the other, for each way of asking."""

    def __init__(self, shares: Sequence[float] = (), evenly: Sequence[float] = (), whole: Sequence[float] = ()) -> None:
        super().__init__(0)
        self.shares, self.evenly, self.wholes = iter(shares), iter(evenly), iter(whole)

    def random(self) -> float:
        return next(self.shares)

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * next(self.evenly)

    def randint(self, a: int, b: int) -> int:
        return a + int(next(self.wholes) * (b - a + 1))


class ToldArrays:
    """Likewise as NumPy asks for them."""

    def __init__(self, arrays: Iterator[np.ndarray]) -> None:
        self.arrays = arrays

    def uniform(self, low: float, high: float, size: int) -> np.ndarray:
        return low + (high - low) * next(self.arrays)[:size]

    def integers(self, low: Any, high: Any, size: int | None = None) -> Any:
        return 0 if size is None else (low + next(self.arrays)[:size] * (high - low)).astype(np.int64)


def told(step: Step, name: str, p: float, numbers: np.ndarray) -> tuple[Any, Told]:
    """What makes a transform of Albumentations draw what a step of ours draws from these numbers."""
    first = numbers.tolist()
    nothing = ToldArrays(iter([]))
    chance = [] if p == 1 or not first else first[:1]
    if name == "RandomResizedCrop":
        tries = np.stack([numbers[:TRIES], numbers[TRIES : 2 * TRIES]], axis=1).ravel()
        return nothing, Told(shares=[first[-1], first[-2]], evenly=tries.tolist())
    if name == "RandomCrop":
        return nothing, Told(shares=first[::-1])
    if name == "Affine":
        assert isinstance(step, Affine)
        drawn, moves = first[1:], 2 if step.by_pixels else 0
        return nothing, Told(chance, drawn[moves:], drawn[:moves])
    if name == "Erasing":
        return nothing, Told(chance, first[1:3], first[3:5])
    if name == "CoarseDropout":
        assert isinstance(step, CoarseDropout)
        most = step.count[1]
        return ToldArrays(iter(numbers[2 : 2 + 4 * most].reshape(4, most))), Told(chance, whole=first[1:2])
    return nothing, Told(chance, first[1:])


def replayed(
    plan: Plan, spec: dict[str, Any], learns: Target, row: int, pixels: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What Albumentations makes of the numbers that the plan got for a picture, in epoch 3 of seed 7."""
    augment = Augmenter(spec, learns)
    compose, numbers, start = augment._compose, uniform(SAMPLES, plan.takes, 7, 3)[row], 0
    for step, transform in zip(plan.steps, compose.transforms, strict=True):
        name = type(transform).__name__
        transform.set_random_state(*told(step, name, transform.p, numbers[start : start + step.takes]))
        start += step.takes
    compose.py_random = Told([0.0])
    return augment._carry(compose, pixels, target)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CHAINS)
def test_the_same_numbers_give_the_pixels_of_albumentations(name: str, channels: int) -> None:
    plan, given = planned(CHAINS[name], channels), pictures(channels)
    drawn, spec = plan.drawn(SAMPLES, 7, 3), resolved(CHAINS[name], channels, Target.LABEL)
    here = np.empty((COUNT, SIZE, SIZE, channels), np.uint8)
    Bench(plan).vary(given, drawn, here)
    known = np.zeros((), np.int64)
    expected = np.stack([replayed(plan, spec, Target.LABEL, row, given[row], known)[0] for row in range(COUNT)])
    # A matrix is multiplied together in another order here: a rounding error of it may turn one level.
    blended = name in ("affine", "sheared")
    difference = np.abs(here.astype(int) - expected)
    assert difference.max() <= blended
    assert (difference > 0).mean() < 0.001
    assert len(np.unique(here, axis=0)) == COUNT


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CHAINS)
def test_a_device_gives_the_pixels_of_the_host_within_one_grey_level(name: str, channels: int) -> None:
    plan, given = planned(CHAINS[name], channels), pictures(channels)
    which = np.random.default_rng(1).permutation(COUNT)
    drawn = plan.drawn(SAMPLES[which], 7, 3)
    here = np.empty((COUNT, SIZE, SIZE, channels), np.uint8)
    Bench(plan).vary(given[which], drawn, here)
    there = vary(plan, torch.from_numpy(given), which, drawn)
    assert there.dtype == torch.uint8
    blended = name in ("affine", "sheared")
    assert np.abs(there.numpy().astype(int) - here).max() <= blended  # all others repeat OpenCV's whole-number sums
    halves = [
        vary(plan, torch.from_numpy(given), which[part], plan.drawn(SAMPLES[which[part]], 7, 3))
        for part in (slice(0, 5), slice(5, COUNT))
    ]
    assert torch.equal(torch.cat(halves), there)


def test_matrices_are_those_of_albumentations() -> None:
    from albumentations.augmentations.geometric.functional import create_affine_transformation_matrix

    options = {**AFFINE, "shear": [-20, 20], "rotate": [-180, 180]}
    plan = planned([{"name": "Affine", "arguments": options}, RANDOM_CROP])
    step = plan.steps[0]
    assert isinstance(step, Affine)
    numbers = uniform(SAMPLES, 8, 0, 0)
    for row, matrix in enumerate(step.drawn(numbers).values):
        told_numbers = Told(evenly=numbers[row, 1:].tolist())
        move = {axis: int(told_numbers.uniform(-0.1, 0.1) * PACKED) for axis in "xy"}
        shear = {axis: -told_numbers.uniform(-20, 20) for axis in "xy"}
        scale = {axis: told_numbers.uniform(0.8, 1.2) for axis in "xy"}
        turn = told_numbers.uniform(-180, 180)
        whole = create_affine_transformation_matrix(move, shear, scale, turn, (PACKED / 2 - 0.5,) * 2)
        assert matrix == pytest.approx(whole[:2], abs=1e-10)


BOXED = {
    "standard": CHAINS["standard"],
    "affine": [
        RANDOM_CROP,
        {"name": "Affine", "arguments": {**AFFINE, "shear": [-9, 9], "border_mode": 0}},
        {"name": "VerticalFlip", "arguments": {"p": 0.5}},
    ],
    "framed": CHAINS["framed"],
    "resized": CHAINS["resized"],
    "nothing": [RANDOM_CROP],
}


def boxes() -> np.ndarray:
    """Float32 [COUNT, 5, 6]: large ones, small ones and thin ones, and rows that hold none."""
    numbers = np.random.default_rng(2)
    table = np.full((COUNT, 5, 6), -1, np.float32)
    for row in range(COUNT):
        for column in range(row % 6):
            x, y = numbers.uniform(0, PACKED - 3, 2)
            width, height = numbers.uniform(1, 20, 2)
            table[row, column] = [x, y, min(x + width, PACKED), min(y + height, PACKED), column, row % 2]
    return table


@pytest.mark.parametrize("name", BOXED)
def test_boxes_go_where_albumentations_moves_them(name: str) -> None:
    learns, given, table = Target.OBJECTS, pictures(), boxes()
    plan, spec = planned(BOXED[name], 3, learns), resolved(BOXED[name], 3, learns)
    moved = moved_objects(plan, plan.drawn(SAMPLES, 7, 3), table)
    for row in range(COUNT):
        _, expected = replayed(plan, spec, learns, row, given[row], table[row])
        assert moved[row] == pytest.approx(expected, abs=1e-3), row
    assert (moved[:, :, 4] >= 0).sum() > 20


@pytest.mark.parametrize("name", BOXED)
def test_points_go_where_albumentations_moves_them(name: str) -> None:
    learns, given = Target.POINTS, pictures()
    plan, spec = planned(BOXED[name], 3, learns), resolved(BOXED[name], 3, learns)
    places = np.random.default_rng(3).uniform(0, PACKED, (COUNT, 3, 2))
    table = np.concatenate([places, np.tile([[1, 1], [1, 0], [0, 2]], (COUNT, 1, 1))], axis=2).astype(np.float32)
    table[:, 2, :2] = 0
    moved = moved_points(plan, plan.drawn(SAMPLES, 7, 3), table)
    for row in range(COUNT):
        _, expected = replayed(plan, spec, learns, row, given[row], table[row])
        assert moved[row] == pytest.approx(expected, abs=1e-3), row


@pytest.mark.parametrize("learns", [Target.MASK, Target.INSTANCES])
@pytest.mark.parametrize("name", BOXED)
def test_masks_go_where_albumentations_moves_them(name: str, learns: Target) -> None:
    given, deep = pictures(), (3,) if learns is Target.INSTANCES else ()
    plan, spec = planned(BOXED[name], 3, learns), resolved(BOXED[name], 3, learns)
    masks = np.random.default_rng(3).integers(0, 9, (COUNT, PACKED, PACKED, *deep), dtype=np.uint8)
    moved = np.empty((COUNT, SIZE, SIZE, *deep), np.uint8)
    Bench(plan).move(masks, plan.drawn(SAMPLES, 7, 3), moved)
    expected = np.stack([replayed(plan, spec, learns, row, given[row], masks[row])[1] for row in range(COUNT)])
    assert (moved != expected).mean() < (0.001 if name == "affine" else 1e-9)
    assert (moved == 255).any() == (name in ("affine", "framed"))


POLICIES: dict[str, dict[str, Any]] = {
    "none": {},
    "light": {},
    "standard": {"erase": 0.5},
    "shifted": {"erase": 0.5, "flip": "alternating"},
}


@pytest.mark.parametrize("learns", [Target.LABEL, Target.OBJECTS, Target.MASK, Target.POINTS])
@pytest.mark.parametrize("name", POLICIES)
def test_the_usual_policies_have_plans(name: str, learns: Target) -> None:
    options = {} if learns.located else POLICIES[name]
    part: PolicyConfig = config_class("policies", name).model_validate({"size": SIZE, **options})
    spec = resolve(part.transforms(learns.located), part.packed, SIZE, 3, learns)
    plan = Plan.read(spec, part.packed, 3, learns, part.alternates)
    assert plan
    assert plan.side == SIZE
    assert len(plan.steps) == len(part.transforms(learns.located))


@pytest.mark.parametrize(
    ("chain", "learns"),
    [
        ([{"name": "Rotate"}, RANDOM_CROP], Target.LABEL),
        ([{"name": "OneOf", "arguments": {"transforms": [FLIP, LIGHT]}}, RANDOM_CROP], Target.LABEL),
        ([{**CROP, "arguments": {**CROP["arguments"], "interpolation": 2}}], Target.LABEL),
        ([{**CROP, "arguments": {**CROP["arguments"], "area_for_downscale": "image"}}], Target.LABEL),
        ([{"name": "RandomCrop", "arguments": {"height": SIZE, "width": SIZE, "pad_if_needed": True}}], Target.LABEL),
        ([RANDOM_CROP, {"name": "Affine", "arguments": {"border_mode": 1}}], Target.OBJECTS),
        ([RANDOM_CROP, {"name": "Affine", "arguments": {"balanced_scale": True}}], Target.LABEL),
        ([RANDOM_CROP, {"name": "RandomBrightnessContrast", "arguments": {"brightness_by_max": False}}], Target.LABEL),
        ([RANDOM_CROP, {"name": "Erasing", "arguments": {"fill": "random"}}], Target.LABEL),
        ([RANDOM_CROP, {"name": "Erasing"}], Target.MASK),
    ],
)
def test_what_is_not_known_has_no_plan(chain: list[dict[str, Any]], learns: Target) -> None:
    assert Plan.read(resolved(chain, 3, learns), PACKED, 3, learns) is None


def test_another_version_of_albumentations_has_no_plan() -> None:
    spec = {**resolved([RANDOM_CROP], 3, Target.LABEL), "__version__": "2.0.9"}
    assert Plan.read(spec, PACKED, 3, Target.LABEL) is None


def test_holes_have_a_colour_each() -> None:
    holes = {"name": "Erasing", "arguments": {"scale": [0.1, 0.3], "fill": "random_uniform", "p": 1.0}}
    plan = planned([RANDOM_CROP, holes])
    black = np.zeros((COUNT, PACKED, PACKED, 3), np.uint8)
    covered = vary(plan, torch.from_numpy(black), np.arange(COUNT), plan.drawn(SAMPLES, 0, 0)).numpy()
    colours = [np.unique(picture.reshape(-1, 3), axis=0) for picture in covered]
    assert all(len(colour) == 2 for colour in colours)
    assert len({tuple(colour[1]) for colour in colours}) == COUNT
    assert 0.09 < (covered.any(axis=3)).mean() < 0.31


def test_parts_are_spread_as_they_should_be() -> None:
    plan = planned([{**CROP, "arguments": {"size": [SIZE, SIZE], "scale": [0.08, 0.5]}}])
    samples = keys([str(number) for number in range(3000)])
    x1, y1, x2, y2 = plan.drawn(samples, 0, 0)[0].values.T
    # Areas of up to half the picture nearly always fit: they are even then, and so are logarithms of proportions.
    areas, ratios = (x2 - x1) * (y2 - y1) / PACKED**2, np.log((x2 - x1) / (y2 - y1))
    assert stats.kstest(areas, "uniform", (0.08, 0.42)).statistic < 0.05
    assert stats.kstest(ratios, "uniform", (np.log(3 / 4), 2 * np.log(4 / 3))).statistic < 0.08
    assert stats.kstest((x1 + 0.5) / (PACKED - x2 + x1 + 1), "uniform").statistic < 0.05
    assert abs(np.corrcoef(x1 / (PACKED - x2 + x1 + 1), y1 / (PACKED - y2 + y1 + 1))[0, 1]) < 0.08


def test_a_part_that_never_fits_is_the_middle() -> None:
    plan = planned([NARROW])
    step = plan.steps[0]
    assert isinstance(step, RandomResizedCrop)
    # 0.9 of the area at proportions of 1.2 is as wide as the square is, or wider: 37 / 1.2 = 30.8 rows are left.
    assert step.drawn(np.full((1, step.takes), 0.5)).values.tolist() == [[0, 3, 37, 34]]


def test_mirrors_of_a_plan_alternate() -> None:
    spec = resolved([RANDOM_CROP, FLIP], 3, Target.LABEL)
    plan = Plan.read(spec, PACKED, 3, Target.LABEL, alternates=True)
    assert plan
    for epoch in range(4):
        assert np.array_equal(plan.drawn(SAMPLES, 3, epoch)[1].happens, alternating(SAMPLES, 3, epoch) < EVEN)
