"""Masks as bytes, and outlines as pixels: by hand, and against pycocotools and Pillow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from pipeline import masks


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.sampled_from([0, 1, 7, 255])))
def test_a_mask_comes_back_and_says_its_size(mask: np.ndarray):
    data = masks.encode(mask)
    assert (masks.decode(data) == mask).all()
    assert masks.size(data) == (mask.shape[1], mask.shape[0])


def test_long_runs_are_split():
    mask = np.zeros((300, 700), np.uint8)
    mask[299, 699] = 3
    data = masks.encode(mask)
    assert len(data) == 16 + 3 * 5  # 209,999 zeros are three runs of 65,535 and one of 13,394; and the 3
    assert (masks.decode(data) == mask).all()


def test_equal_masks_are_equal_bytes_by_hand():
    assert masks.encode(np.array([[1, 1], [1, 2]], np.uint8)).hex() == ("52554e53020000000200000002000000010203000100")


@pytest.mark.parametrize(
    "damage", [lambda d: b"", lambda d: b"NOPE" + d[4:], lambda d: d[:-1], lambda d: d[:-2] + b"\x09\x09"]
)
def test_damage_is_an_error_and_not_a_picture(damage):
    with pytest.raises(ValueError, match="mask"):
        masks.decode(damage(masks.encode(np.eye(4, dtype=np.uint8))))


@given(arrays(np.uint8, (5, 7), elements=st.integers(0, 5)), st.permutations(range(6)), st.booleans())
def test_relabelled_is_encoded_anew(mask: np.ndarray, order: list[int], merge: bool):
    table = np.arange(256, dtype=np.uint8)
    table[:6] = [0, 0, 1, 1, 2, 2] if merge else order
    assert masks.relabelled(masks.encode(mask), table) == masks.encode(table[mask])


def test_a_pixel_is_inside_if_its_centre_is():
    square = masks.fill([(0.6, 0.4, 3.4, 0.4, 3.4, 2.6, 0.6, 2.6)], 5, 4)
    assert square.astype(int).tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert masks.fill([(0, 0, 4, 0, 4, 4, 0, 4), (6, 6, 9, 6, 9, 9, 6, 9)], 10, 10).sum() == 16 + 9
    assert masks.fill([(-5, -5, 50, -5, 50, 50, -5, 50)], 6, 5).all()


@given(st.lists(st.tuples(st.floats(-5, 45), st.floats(-5, 35)), min_size=3, max_size=8))
def test_polygons_agree_with_pillow_inside_of_their_edges(corners: list[tuple[float, float]]):
    """Pillow draws the edge as well, so the two agree where no edge is near."""
    ours = masks.fill([[value for corner in corners for value in corner]], 40, 30)
    theirs, edge = Image.new("1", (40, 30)), Image.new("1", (40, 30))
    moved = [(x - 0.5, y - 0.5) for x, y in corners]  # Pillow's pixels have their centres at whole numbers
    ImageDraw.Draw(theirs).polygon(moved, fill=1)
    ImageDraw.Draw(edge).line([*moved, moved[0]], fill=1, width=5)
    far = ~np.asarray(edge)
    xs, ys = zip(*corners, strict=True)
    if _convex(np.array(corners)):
        assert (ours == np.asarray(theirs))[far].all(), (xs, ys)


def _convex(corners: np.ndarray) -> bool:
    """Where edges cross, even-odd and non-zero winding differ."""
    ahead, behind = np.roll(corners, -1, axis=0) - corners, corners - np.roll(corners, 1, axis=0)
    turns = behind[:, 0] * ahead[:, 1] - behind[:, 1] * ahead[:, 0]
    angles = np.arctan2(ahead[:, 1], ahead[:, 0])
    turning = np.diff(np.unwrap(np.append(angles, angles[0])))
    return bool(((turns > 0).all() or (turns < 0).all()) and abs(abs(turning.sum()) - 2 * np.pi) < 1e-6)


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_runs_are_cocos(inside: np.ndarray):
    height, width = inside.shape
    lengths = masks.runs_of(inside)
    assert (masks.of_runs(lengths, width, height) == inside).all()
    compressed = coco.frPyObjects({"counts": lengths, "size": [height, width]}, height, width)
    assert (coco.decode(compressed).astype(bool) == inside).all()


def test_runs_that_do_not_fill_the_picture_are_refused():
    with pytest.raises(ValueError, match="runs of 5 pixels; the picture has 6"):
        masks.of_runs([2, 3], 3, 2)


def test_box_of_the_pixels():
    inside = np.zeros((5, 6), bool)
    assert masks.box_of(inside) is None
    inside[1:3, 2:6] = True
    assert masks.box_of(inside) == (2, 1, 6, 3)
