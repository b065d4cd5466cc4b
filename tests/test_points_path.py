"""Points move with the pixels: each is painted as a dot, and found again where the point is said to be afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import frames
from pipeline.augment.stage import check_mirror
from pipeline.contracts import Frame, Target, Transform
from pipeline.dataset import FIELDS, Dataset, DatasetInfo
from pipeline.errors import UserError
from pipeline.images import cut
from pipeline.packed import packed_points
from pipeline.plugin import config_class, names
from pipeline.tasks._mirrors import IBUG68
from pipeline.transforms import CORNER, Augmenter, mirrors, resolve, sample_seed

SIDE, SIZE = 64, 56
PLACES = np.array([[20.5, 21.5], [41.3, 24.0], [31.5, 40.2]])
WIDE = 1.6
"""Deviation of a dot: wide enough to be found to a tenth of a pixel."""


def dots(places: np.ndarray, width: int = SIDE, height: int = SIDE, wide: float = WIDE) -> np.ndarray:
    """A dot of its own colour at each of up to three places: uint8 [H, W, 3]."""
    picture = np.zeros((height, width, 3))
    for channel, (x, y) in enumerate(places):
        across, down = np.arange(width) + 0.5 - x, np.arange(height) + 0.5 - y
        picture[:, :, channel] = 255 * np.exp(-(across**2 + down[:, None] ** 2) / (2 * wide**2))
    return picture.round().astype(np.uint8)


def middle(plane: np.ndarray) -> np.ndarray:
    """Where the dot of one colour is: the mean of its bright pixels."""
    light = np.where(plane > 40, plane, 0).astype(np.float64)
    across, down = np.arange(plane.shape[1]) + 0.5, np.arange(plane.shape[0]) + 0.5
    return np.array([(light.sum(axis=0) * across).sum(), (light.sum(axis=1) * down).sum()]) / light.sum()


def target(places: np.ndarray = PLACES, partners: Any = None) -> np.ndarray:
    known = np.ones((len(places), 1))
    partners = np.arange(len(places)) if partners is None else np.asarray(partners)
    return np.concatenate([places, known, partners[:, None]], axis=1).astype(np.float32)


def augmenter(*transforms: tuple[str, dict[str, Any]], size: int = SIDE) -> Augmenter:
    parts = [Transform(name=name, arguments=arguments) for name, arguments in transforms]
    return Augmenter(resolve(parts, SIDE, size, 3, Target.POINTS), Target.POINTS)


CROP = {"size": [SIDE, SIDE], "scale": [0.6, 0.9], "ratio": [0.9, 1.1]}
MOVES: dict[str, tuple[str, dict[str, Any]]] = {
    "flip": ("HorizontalFlip", {"p": 1.0}),
    "upside down": ("VerticalFlip", {"p": 1.0}),
    "any of eight": ("D4", {"p": 1.0}),
    "quarters": ("RandomRotate90", {"p": 1.0}),
    "turn": ("Rotate", {"limit": [20, 25], "p": 1.0}),
    "map": ("Affine", {"scale": [0.8, 1.1], "translate_percent": [-0.1, 0.1], "rotate": [-20, 20], "p": 1.0}),
    "crop": ("RandomResizedCrop", CROP),
    "perspective": ("Perspective", {"p": 1.0}),
    "in a choice": ("OneOf", {"transforms": [{"name": "RandomResizedCrop", "arguments": CROP}], "p": 1.0}),
}


@pytest.mark.parametrize("name", MOVES)
def test_a_point_is_where_its_pixels_are(name: str) -> None:
    augment = augmenter(MOVES[name])
    found = 0
    for number in range(12):
        pixels, moved = augment(dots(PLACES), target(), sample_seed(0, 0, str(number)))
        for channel in range(3):
            x, y = moved[channel, :2]
            if 6 < x < SIDE - 6 and 6 < y < SIDE - 6:  # else a part of the dot may be gone
                found += 1
                dot = middle(pixels[:, :, channel])
                assert np.abs(dot - (x, y)).max() < 0.2, (name, number, channel)
    assert found > 12


@pytest.mark.parametrize(("larger", "how"), [(SIDE * 2, "Resize"), (SIDE // 2, "Resize"), (SIDE * 2, "LongestMaxSize")])
def test_a_point_is_where_its_pixels_are_in_a_picture_of_another_size(larger: int, how: str) -> None:
    arguments = {"height": larger, "width": larger} if how == "Resize" else {"max_size": larger}
    pixels, moved = augmenter((how, arguments), size=larger)(dots(PLACES, wide=3.0), target(), 1)
    for channel in range(3):
        assert moved[channel, :2] == pytest.approx(PLACES[channel] * larger / SIDE, abs=1e-4)
        assert np.abs(middle(pixels[:, :, channel]) - moved[channel, :2]).max() < 0.2


@pytest.mark.parametrize("name", [name for name in names("policies") if name != "custom"])
def test_every_policy_moves_points_with_pixels(name: str) -> None:
    policy = config_class("policies", name)(size=SIZE, frame="stretch")
    spec = resolve(policy.transforms(True), policy.packed, SIZE, 3, Target.POINTS)
    augment, scale = Augmenter(spec, Target.POINTS), policy.packed / SIDE
    places, off = PLACES * scale, []
    for number in range(20):
        pixels, moved = augment(
            dots(places, policy.packed, policy.packed, 2.0), target(places), sample_seed(0, 0, str(number))
        )
        assert moved.shape == (3, 4) and moved.dtype == np.float32 and (moved[:, 2:] == target()[:, 2:]).all()
        for channel in range(3):
            x, y = moved[channel, :2]
            other = pixels[:, :, [one for one in range(3) if one != channel]].max(axis=2).astype(int)
            clear = np.clip(pixels[:, :, channel].astype(int) - other, 0, 255)  # light and colour change it too
            if 8 < x < SIZE - 8 and 8 < y < SIZE - 8 and clear.max() > 60:
                near = np.zeros_like(clear)
                box = slice(int(y) - 7, int(y) + 8), slice(int(x) - 7, int(x) + 8)
                near[box] = np.where(clear[box] > 60, clear[box], 0)
                off.append(np.abs(middle(near) - (x, y)).max() if near.any() else 9.0)
    assert len(off) > 15
    assert np.median(off) < 0.2


def test_in_a_mirror_a_left_eye_is_a_right_one() -> None:
    # left eye, right eye, nose: after the flip the first row is the place where the right eye now is
    pixels, moved = augmenter(MOVES["flip"])(dots(PLACES), target(partners=[1, 0, 2]), 1)
    assert moved[0, :2] == pytest.approx([SIDE - PLACES[1, 0], PLACES[1, 1]], abs=1e-4)
    assert moved[1, :2] == pytest.approx([SIDE - PLACES[0, 0], PLACES[0, 1]], abs=1e-4)
    assert moved[2, :2] == pytest.approx([SIDE - PLACES[2, 0], PLACES[2, 1]], abs=1e-4)
    assert moved[0, 0] < moved[1, 0]  # the eye at the left of the picture is still the first one
    assert moved[:, 3].tolist() == [1, 0, 2]
    assert np.abs(middle(pixels[:, :, 1]) - moved[0, :2]).max() < 0.1


@pytest.mark.parametrize("second", ["upside down", "flip"])
def test_two_mirrors_are_none(second: str) -> None:
    _, moved = augmenter(MOVES["flip"], MOVES[second])(dots(PLACES), target(partners=[1, 0, 2]), 1)
    back = PLACES if second == "flip" else SIDE - PLACES
    assert moved[:, :2] == pytest.approx(back, abs=1e-4)


@pytest.mark.parametrize("angle", [90, 135, 180])
def test_a_turn_is_no_mirror(angle: int) -> None:
    _, moved = augmenter(("Rotate", {"limit": [angle, angle], "p": 1.0}))(dots(PLACES), target(partners=[1, 0, 2]), 1)
    turn = np.deg2rad(-angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    assert moved[:, :2] == pytest.approx((PLACES - SIDE / 2) @ matrix.T + SIDE / 2, abs=1e-3)


def test_a_mirrored_face_of_68_points_keeps_its_order() -> None:
    # As the 68 points lie in a face: the numbers of a jaw run from the left of the picture to its right.
    random = np.random.default_rng(0)
    places = random.uniform(10, 54, (68, 2))
    order = np.array(IBUG68)
    middle_line = order == np.arange(68)
    places[middle_line, 0] = 32
    left = np.flatnonzero(order > np.arange(68))
    places[left, 0] = random.uniform(10, 30, len(left))
    places[order[left]] = np.stack([64 - places[left, 0], places[left, 1]], axis=1)  # a face that is symmetric
    _, moved = augmenter(MOVES["flip"])(dots(places[:3]), target(places, order), 1)
    assert moved[:, :2] == pytest.approx(places, abs=1e-4)  # looks in a mirror as it is


def test_an_unknown_point_stays_unknown_and_one_that_leaves_is_known_still() -> None:
    points = target()
    points[1] = [0, 0, 0, 1]
    points[0, 3], points[1, 3] = 1, 0
    _, moved = augmenter(MOVES["flip"])(dots(PLACES), points, 1)
    assert moved[0].tolist() == [0, 0, 0, 1]  # what was the right one is unknown, and the left one in the mirror
    assert moved[1, 2] == 1
    shifted = augmenter(("Affine", {"translate_px": {"x": [40, 40], "y": [0, 0]}, "p": 1.0}))
    _, moved = shifted(dots(PLACES), target(), 1)
    assert moved[1].tolist() == pytest.approx([81.3, 24.0, 1, 1], abs=1e-3)  # outside of the 64 pixels


def test_holes_take_no_point_away() -> None:
    holes = ("CoarseDropout", {"num_holes_range": [4, 4], "hole_height_range": [0.4, 0.5], "p": 1.0})
    _, moved = augmenter(holes)(dots(PLACES), target(), 1)
    assert moved == pytest.approx(target())


def test_what_shows_a_mirror_is_not_in_the_way() -> None:
    assert CORNER.shape == (3, 2)
    pixels, moved = Augmenter(resolve([], SIDE, SIDE, 3, Target.POINTS), Target.POINTS)(dots(PLACES), target(), 0)
    assert (moved == target()).all() and (pixels == dots(PLACES)).all()


# --- who is left


def info(classes: list[str], mirrored: list[int]) -> DatasetInfo:
    counts = {split: dict.fromkeys(classes, 1) for split in ("train", "val", "test")}
    return DatasetInfo(
        task="keypoints",
        format="table",
        classes=classes,
        channels=3,
        counts=counts,
        splits={"train": 1, "val": 1, "test": 1},
        learns="POINTS",
        images=3,
        bytes=3,
        rejected=0,
        digest="0" * 64,
        mirrored=mirrored,
    )


FLIP = Transform(name="HorizontalFlip")


def test_a_mirror_is_refused_where_nobody_says_what_is_left() -> None:
    with pytest.raises(UserError) as error:
        check_mirror([FLIP], Target.POINTS, info(["0", "1"], []))
    assert "augment mirrors pictures, and nobody has said which of the 2 points (0, 1, ...) is the left" in str(
        error.value
    )
    assert "Set task.mirror to pairs by name, to ibug68" in str(error.value)
    nested = Transform(name="OneOf", arguments={"transforms": [{"name": "Transpose", "arguments": {}}]})
    with pytest.raises(UserError):
        check_mirror([nested], Target.POINTS, info(["0", "1"], []))


def test_no_mirror_or_pairs_or_one_point_are_fine() -> None:
    check_mirror([Transform(name="Rotate")], Target.POINTS, info(["0", "1"], []))
    check_mirror([FLIP], Target.POINTS, info(["0", "1"], [0, 1]))
    check_mirror([FLIP], Target.POINTS, info(["nose"], []))
    check_mirror([FLIP], Target.OBJECTS, info(["0", "1"], []))
    assert not mirrors([Transform(name="Rotate"), Transform(name="Affine")])


# --- packed


def dataset(root: Path, places: list[Any], size: tuple[int, int], mirrored: list[int]) -> Dataset:
    count = len(places[0])
    points = [[None if p is None else {"x": p[0], "y": p[1]} for p in of_one] for of_one in places]
    samples = pa.table(
        {
            "id": [f"{number:064x}" for number in range(len(places))],
            "split": ["train"] * len(places),
            "width": pa.array([size[0]] * len(places), pa.int32()),
            "height": pa.array([size[1]] * len(places), pa.int32()),
            "points": pa.array(points, FIELDS["points"]),
        }
    )
    return Dataset(root, info([f"p{number}" for number in range(count)], mirrored), samples)


@pytest.mark.parametrize("frame", [{"name": "pad"}, {"name": "stretch"}, {"name": "tiles", "tile": 30}])
def test_packed_points_are_where_the_pixels_of_their_squares_are(frame: dict[str, Any], tmp_path: Path) -> None:
    width, height, side = 96, 48, 64
    places = np.array([[20.5, 13.0], [70.2, 30.1], [48.0, 24.0]])
    chosen, picture = Frame.model_validate(frame), dots(places, width, height, 2.5)
    split = dataset(tmp_path, [[tuple(p) for p in places.tolist()]], (width, height), [1, 0, 2]).split("train")
    table = packed_points(split, chosen, side)
    seen = frames.views(chosen, split.sizes, side)
    assert table.shape == (len(seen.images), 3, 4) and (table[:, :, 2] == 1).all()
    assert (table[:, :, 3] == [1, 0, 2]).all()
    found = 0
    for region, points in zip(seen.regions, table, strict=True):
        square = cut(picture, region, side)
        for channel, (x, y, *_) in enumerate(points):
            if 8 < x < side - 8 and 8 < y < side - 8:
                found += 1
                near = square[:, :, channel].astype(int) - square.min(axis=2)  # grey beside a picture is no dot
                assert np.abs(middle(near) - (x, y)).max() < 0.25
    assert found >= 3


def test_packed_points_that_are_unknown_and_partners_without_a_mirror(tmp_path: Path) -> None:
    split = dataset(tmp_path, [[(3.0, 4.0), None], [None, (-2.0, 9.0)]], (10, 10), []).split("train")
    table = packed_points(split, Frame(name="stretch"), 20)
    assert table.tolist() == [[[6, 8, 1, 0], [0, 0, 0, 1]], [[0, 0, 0, 0], [-4, 18, 1, 1]]]
