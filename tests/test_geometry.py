"""What lies in a picture goes with its pixels through every preset: boxes and masks stay with their shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline import masks
from pipeline.boxes import VISIBLE, area
from pipeline.contracts import Frame, PolicyConfig, Target, Transform
from pipeline.plugin import config_class, names
from pipeline.transforms import Augmenter, resolve, sample_seed

SIDE = 96
"""P of the pictures."""
EVERY: dict[str, dict[str, Any]] = {
    **{name: {} for name in names("policies") if name != "custom"},
    "custom": {
        "transforms": [
            {
                "name": "Affine",
                "arguments": {"rotate": [-45, 45], "shear": [-10, 10], "translate_percent": 0.2, "p": 1.0},
            },
            {"name": "VerticalFlip"},
            {"name": "RandomCrop", "arguments": {"height": 80, "width": 80}},
        ],
        "from_size": SIDE,
    },
}
"""Options of every preset; one that is new comes in by itself."""
SOLID = {"ColorJitter", "RandomBrightnessContrast", "GaussianBlur", "CoarseDropout"}
"""Transforms that change the look of a shape and not its place; without them a shape is known by its grey."""


def policy(name: str) -> PolicyConfig:
    options = {
        "size": SIDE if name in ("light", "none", "mosaic", "shifted") else 84 if name != "custom" else 80,
        "frame": "pad",
        **EVERY[name],
    }
    made = config_class("policies", name).model_validate(options)
    assert isinstance(made, PolicyConfig) and isinstance(made.frame, Frame)
    return made


def still(transforms: list[Transform]) -> list[Transform]:
    return [transform for transform in transforms if transform.name not in SOLID]


def shapes(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three rectangles that do not touch: pixels, mask, and boxes float32 [M, 6] with room for one more."""
    random = np.random.default_rng(seed)
    pixels, mask = np.zeros((SIDE, SIDE, 1), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    table = np.full((4, 6), -1, np.float32)
    for place, (left, top) in enumerate([(4, 4), (52, 6), (20, 50)]):
        width, height = random.integers(12, 40, 2)
        x1, y1 = left + random.integers(0, 4), top + random.integers(0, 4)
        x2, y2 = min(x1 + width, left + 40), min(y1 + height, top + 40)
        pixels[y1:y2, x1:x2], mask[y1:y2, x1:x2] = 80 * (place + 1), place + 1
        table[place] = [x1, y1, x2, y2, place + 1, 0]
    return pixels, mask, table


@pytest.mark.parametrize("name", EVERY)
def test_pixels_masks_and_boxes_move_alike(name: str) -> None:
    """Of 60 pictures. A mask moves by nearest neighbours, so it is that of the pixels but at their blended edges; a box
    holds its shape, and without turns it is the shape's own but for a pixel."""
    made = policy(name)
    spec = resolve(still(made.transforms(located=True)), made.packed, made.size, 1, Target.OBJECTS)
    with_boxes, with_mask = Augmenter(spec, Target.OBJECTS), Augmenter(spec, Target.MASK)
    turns = any(transform.name in ("Rotate", "Affine") for transform in made.transforms(located=True))
    seen = 0
    for number in range(60):
        pixels, mask, table = (resized(item, made.packed) for item in shapes(number))
        seed = sample_seed(7, 0, str(number))
        moved, boxes = with_boxes(pixels, table, seed)
        again, moved_mask = with_mask(pixels, mask, seed)
        assert (moved == again).all()
        for label in (1, 2, 3):
            inside = moved_mask == label
            if inside.sum() > 30:
                grey = moved[:, :, 0][eroded(inside)]
                assert (np.abs(grey.astype(int) - 80 * label) < 40).all()  # nearer to its own shade than to any other
            own = masks.box_of(inside)
            (found,) = boxes[boxes[:, 4] == label][:, :4].tolist() or [None]
            if found is None or own is None:
                continue
            seen += 1
            slack = 1.5
            assert found[0] <= own[0] + slack and found[1] <= own[1] + slack
            assert found[2] >= own[2] - slack and found[3] >= own[3] - slack
            if not turns:
                assert found == pytest.approx(own, abs=slack)
    assert seen > 100


@pytest.mark.parametrize("name", EVERY)
def test_a_box_of_which_too_little_is_left_is_dropped_and_no_other(name: str) -> None:
    made = policy(name)
    transforms = still(made.transforms(located=True))
    spec = resolve(transforms, made.packed, made.size, 1, Target.OBJECTS)
    augment = Augmenter(spec, Target.OBJECTS)
    boxes = np.array([[0, 0, 8, 8, 0, 0], [40, 40, 48, 48, 1, 1]], np.float32)
    for number in range(40):
        _, moved = augment(np.zeros((made.packed, made.packed, 1), np.uint8), boxes, sample_seed(1, 0, str(number)))
        real = moved[moved[:, 4] >= 0]
        assert (moved[len(real) :] == -1).all()  # those that are gone leave padding, at the end
        assert (real[:, :4] >= 0).all() and (real[:, :4] <= made.size).all()
        assert (area(real[:, :4]) > 0).all()
        assert set(real[:, 4].tolist()) <= {0.0, 1.0} and (real[:, 5] == real[:, 4]).all()  # rows stay together


def test_the_rule_for_boxes_that_leave_by_hand() -> None:
    crop = [Transform(name="Crop", arguments={"x_min": 20, "y_min": 0, "x_max": 60, "y_max": 40})]
    augment = Augmenter(resolve(crop, 96, 40, 1, Target.OBJECTS), Target.OBJECTS)
    # From 10 on, and cut at 20: a share s of the width is left where the box ends at 20 + 10 s / (1 - s).
    for share, stays in ((VISIBLE + 0.0001, True), (VISIBLE - 0.0001, False)):
        box = np.array([[10, 0, 20 + 10 * share / (1 - share), 8, 0, 0]], np.float32)
        _, moved = augment(np.zeros((96, 96, 1), np.uint8), box, 0)
        assert bool((moved[:, 4] >= 0).any()) is stays
        if stays:
            assert moved[0].tolist() == pytest.approx([0, 0, 10 * share / (1 - share), 8, 0, 0], abs=1e-3)


def test_what_comes_in_from_outside_is_void_and_holes_stay_what_they_are() -> None:
    shift = [Transform(name="Affine", arguments={"translate_px": {"x": [10, 10], "y": [0, 0]}, "p": 1.0})]
    augment = Augmenter(resolve(shift, 32, 32, 1, Target.MASK), Target.MASK)
    _, mask = augment(np.zeros((32, 32, 1), np.uint8), np.ones((32, 32), np.uint8), 0)
    assert (mask[:, :10] == masks.VOID).all() and (mask[:, 10:] == 1).all()
    holes = [Transform(name="CoarseDropout", arguments={"p": 1.0})]
    augment = Augmenter(resolve(holes, 32, 32, 1, Target.MASK), Target.MASK)
    assert (augment(np.zeros((32, 32, 1), np.uint8), np.ones((32, 32), np.uint8), 0)[1] == 1).all()


def resized(item: np.ndarray, side: int) -> np.ndarray:
    """Padded to P: what lies in the picture stays where it is."""
    if item.ndim == 2 and item.shape[1] == 6:
        return item
    extra = side - item.shape[0]
    return np.pad(item, [(0, extra), (0, extra), *([(0, 0)] if item.ndim == 3 else [])])


def eroded(inside: np.ndarray) -> np.ndarray:
    """Pixels with two of the same on every side."""
    result = inside.copy()
    for axis in (0, 1):
        for step in (-2, -1, 1, 2):
            result &= np.roll(inside, step, axis)
    for step in (-1, 1):
        result &= np.roll(np.roll(inside, step, 0), step, 1) & np.roll(np.roll(inside, step, 0), -step, 1)
    result[:2], result[-2:], result[:, :2], result[:, -2:] = False, False, False, False
    return result
