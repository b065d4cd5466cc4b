"""Where views lie in a picture, and the way there and back, by hand and for shapes of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import frames, masks
from pipeline.contracts import Frame
from pipeline.images import GREY, cut

EVERY = ("crop", "pad", "stretch", {"name": "tiles", "tile": 40, "overlap": 0.3})


def frame(said: Any) -> Frame:
    return Frame.model_validate(said)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("crop", [(50, 0, 150, 100)]),
        ("pad", [(0, 0, 200, 200)]),
        ("stretch", [(0, 0, 200, 100)]),
        ({"name": "tiles", "tile": 100, "overlap": 0}, [(0, 0, 100, 100), (100, 0, 200, 100)]),
        ({"name": "tiles", "tile": 100}, [(0, 0, 100, 100), (50, 0, 150, 100), (100, 0, 200, 100)]),
        ({"name": "tiles", "tile": 300}, [(0, 0, 300, 300)]),
    ],
)
def test_regions_by_hand(said: Any, expected: list[tuple[float, ...]]):
    assert frames.regions(frame(said), 200, 100, 64) == expected


def test_a_tile_is_as_large_as_the_networks_picture_unless_said():
    assert frames.regions(frame("tiles"), 64, 64, 64) == [(0, 0, 64, 64)]
    assert len(frames.regions(frame("tiles"), 128, 64, 64)) == 3  # 0, 32, 64: a quarter in common is not enough at 64


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(8, 90), st.floats(0, 0.9))
def test_tiles_cover_every_pixel_once_and_overlap_enough(width: int, height: int, tile: int, overlap: float):
    of_one = np.array(frames.regions(frame({"name": "tiles", "tile": tile, "overlap": overlap}), width, height, 64))
    seen = np.zeros((height, width), int)
    for left, top, right, bottom in frames.windows(of_one, width, height):
        seen[top:bottom, left:right] += 1
    assert (seen == 1).all()
    for start, end, length in ((0, 2, width), (1, 3, height)):
        places = np.unique(of_one[:, start])
        assert of_one[:, end].max() >= length
        assert (np.diff(places) <= max(1, tile * (1 - overlap)) + 1).all()


@pytest.mark.parametrize("said", EVERY)
@given(
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.lists(st.floats(0, 200, width=32), min_size=4, max_size=4),
)
def test_a_box_comes_back_from_every_view(said: Any, size: tuple[int, int], corners: list[float]):
    for region in np.array(frames.regions(frame(said), *size, 64)):
        there = frames.boxes_into(np.array(corners), region, 64)
        assert frames.boxes_back(there, region, 64) == pytest.approx(np.array(corners), abs=1e-9)


def test_cut_by_hand():
    ramp = np.arange(16, dtype=np.uint8).reshape(4, 4, 1) * 16
    assert cut(ramp, (0, 0, 4, 4), 4).tolist() == ramp.tolist()
    padded = cut(ramp[:2], (0, 0, 4, 4), 4)
    assert padded[:2].tolist() == ramp[:2].tolist() and (padded[2:] == GREY).all()
    assert cut(ramp, (2, 1, 4, 3), 2)[:, :, 0].tolist() == [[96, 112], [160, 176]]
    assert cut(np.full((3, 1000, 3), 7, np.uint8), (0, 0, 1000, 1000), 10)[0].tolist() == [[7, 7, 7]] * 10


@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("said", ["pad", "stretch", {"name": "tiles", "tile": 64, "overlap": 0.3}])
@given(st.data())
def test_boxes_masks_and_pixels_go_to_the_same_place(said: Any, data: st.DataObject):
    """A bright rectangle on black: where its pixels, its mask and its box lie in a view differs by rounding alone."""
    width, height = data.draw(st.tuples(st.integers(40, 160), st.integers(40, 160)))
    x1, y1 = data.draw(st.tuples(st.integers(0, width - 12), st.integers(0, height - 12)))
    x2, y2 = data.draw(st.tuples(st.integers(x1 + 10, width), st.integers(y1 + 10, height)))
    pixels, mask = np.zeros((height, width, 1), np.uint8), np.zeros((height, width), np.uint8)
    pixels[y1:y2, x1:x2], mask[y1:y2, x1:x2] = 255, 1
    side = 64
    for region in np.array(frames.regions(frame(said), width, height, side)):
        expected = np.clip(frames.boxes_into(np.array([x1, y1, x2, y2], float), region, side), 0, side)
        if min(expected[2] - expected[0], expected[3] - expected[1]) < 2:
            continue
        of_mask = masks.box_of(frames.mask_into(mask, region, side, 255) == 1)
        of_pixels = masks.box_of(cut(pixels, region, side)[:, :, 0] > 185)  # grey beside the picture is darker
        assert of_mask == pytest.approx(expected, abs=0.51)
        assert of_pixels == pytest.approx(expected, abs=1.01)


def test_outside_of_the_picture_a_mask_is_void():
    shown = frames.mask_into(np.zeros((2, 4), np.uint8), np.array([0.0, 0, 4, 4]), 4, 255)
    assert shown.tolist() == [[0] * 4] * 2 + [[255] * 4] * 2


def test_maps_go_back_linearly_between_pixel_centres():
    maps = np.array([[[0.0, 1.0], [0.0, 1.0]]], np.float32)
    back = frames.maps_back(maps, np.array([0.0, 0, 4, 4]), (0, 0, 4, 4))
    assert back[0, 0].tolist() == [0, 0.25, 0.75, 1]
    assert frames.maps_back(maps, np.array([0.0, 0, 4, 4]), (1, 3, 3, 4)).tolist() == [[[0.25, 0.75]]]
