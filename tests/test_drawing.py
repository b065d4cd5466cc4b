"""Boxes, objects, points and masks on pictures: where lines and colours lie, by hand; nothing can make it fail."""

from __future__ import annotations

import io
import math
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import drawing
from pipeline.annotations import Runs
from pipeline.answering import MarkedBox, MarkedPoint, Marks
from pipeline.contracts import Target
from pipeline.drawing import TARGETS, annotated, legend, marked, over
from pipeline.masks import CROWD, VOID, box_of, of_runs, runs_of
from pipeline.strokes.colours import DARK, PALETTE, SHADES, UNKNOWN, shaded
from pipeline.strokes.letters import shown
from pipeline.strokes.pixels import SHARE

CLASSES = ("cat", "dog", "eel")
GREY = np.full((200, 300, 1), 100, np.uint8)


def boxes(*found: MarkedBox) -> Marks:
    return Marks("", boxes=found, classes=CLASSES)


def points(*found: MarkedPoint) -> Marks:
    return Marks("", points=found, classes=CLASSES)


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, picture.reshape(-1, 3).tolist()))


def test_a_box_is_the_line_of_its_pixels_in_the_colour_of_its_class() -> None:
    found = over(GREY, boxes(MarkedBox((20, 30, 120, 90), "dog")), (300, 200), named=False)
    line = (found == PALETTE[1]).all(axis=2)
    assert line[30:32, 20:120].all()  # two pixels thick, inward
    assert line[88:90, 20:120].all()
    assert line[30:90, 20:22].all()
    assert line[30:90, 118:120].all()
    assert line.sum() == 100 * 60 - 96 * 56
    assert (found[29, 19:121] < 100).all()  # a shadow around it
    assert (found[60, 70] == 100).all()


def test_boxes_scale_with_the_picture() -> None:
    found = over(GREY, boxes(MarkedBox((4, 6, 24, 18), "dog")), (60, 40), named=False)
    assert (found == over(GREY, boxes(MarkedBox((20, 30, 120, 90), "dog")), (300, 200), named=False)).all()
    small = marked(np.zeros((20, 30, 1), np.uint8), boxes(MarkedBox((5, 5, 25, 15), "cat")), 100)
    assert small.shape == (60, 90, 3)  # enlarged thrice
    assert (small[15, 15:75] == PALETTE[0]).all()
    assert (small[46, 15:75] == 0).all()  # below its last row, and its shadow
    assert marked(np.zeros((500, 1000, 3), np.uint8), boxes(), 100).shape == (50, 100, 3)
    assert marked(np.zeros((1, 1000, 1), np.uint8), boxes(), 100).shape == (1, 100, 3)


def test_an_enlarged_picture_keeps_each_pixel_a_square() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    assert (marked(pixels, Marks("", classes=CLASSES), 64) == pixels.repeat(7, 0).repeat(7, 1)).all()


def test_class_and_score_are_written_where_there_is_room() -> None:
    wide = over(GREY, boxes(MarkedBox((50, 60, 250, 160), "eel", 0.873)), (300, 200))
    bare = over(GREY, boxes(MarkedBox((50, 60, 250, 160), "eel", 0.873)), (300, 200), named=False)
    changed = np.argwhere((wide != bare).any(axis=2))
    assert changed[:, 0].min() == 44  # above the box, as wide as the letters
    assert changed[:, 0].max() < 60
    assert 100 < changed[:, 1].max() < 140
    narrow = boxes(MarkedBox((50, 60, 62, 72), "eel", 0.873))
    assert (over(GREY, narrow, (300, 200)) == over(GREY, narrow, (300, 200), named=False)).all()
    twice = boxes(*[MarkedBox((50, 60, 250, 160), "eel", 0.873)] * 2)
    assert (over(GREY, twice, (300, 200))[40:58] == wide[40:58]).all()  # one label does not hide another


def test_a_crowd_is_dashed_and_has_no_name() -> None:
    found = over(GREY, boxes(MarkedBox((50, 60, 250, 160), "cat", faint=True)), (300, 200))
    edge = found[60, 50:250].tolist()
    assert edge.count(list(PALETTE[0])) > 80
    assert edge.count(list(DARK)) > 40
    assert (found[61, 51:249] == 100).all()
    assert (found[40:60] == 100).all()


def test_a_class_of_no_known_name_is_grey_and_small_boxes_lie_on_top() -> None:
    found = over(
        GREY, boxes(MarkedBox((0, 0, 99, 99), "gnu"), MarkedBox((0, 0, 50, 50), "cat")), (300, 200), named=False
    )
    assert (found[99 - 1, 60] == UNKNOWN).all()
    assert (found[0, 20] == PALETTE[0]).all()
    found = over(
        GREY, boxes(MarkedBox((0, 0, 50, 50), "cat"), MarkedBox((0, 0, 99, 99), "gnu")), (300, 200), named=False
    )
    assert (found[0, 20] == PALETTE[0]).all()


@pytest.mark.parametrize(
    "box",
    [
        (math.nan, 0, 10, 10),
        (0, 0, math.inf, 10),
        (-1e300, -1e300, -1e299, -1e299),
        (1e300, 0, 1e301, 10),
        (1e308, 0, 1.7e308, 10),
        (300, 0, 310, 10),
        (-10, 0, 0, 10),
    ],
)
def test_a_box_that_is_none_or_lies_outside_is_passed_over(box: tuple[float, float, float, float]) -> None:
    marks = boxes(MarkedBox(box, "cat", 0.5), MarkedBox((20, 20, 60, 60), "dog", math.nan))
    assert (over(GREY, marks, (300, 200)) == over(GREY, boxes(marks.boxes[1]), (300, 200))).all()


@pytest.mark.parametrize(
    "box", [(-50, -50, 400, 400), (90, 90, 10, 10), (50, 50, 50, 50), (299.9, 199.9, 1e9, 1e9), (0.2, 0.2, 0.3, 0.3)]
)
def test_whatever_is_seen_of_a_box_is_drawn(box: tuple[float, float, float, float]) -> None:
    found = over(GREY, boxes(MarkedBox(box, "\0\n\u202e" + "x" * 10_000, 5.0)), (300, 200))
    assert UNKNOWN in colours(found)


def test_masks_tint_their_pixels_and_outline_their_classes() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[:, 15:] = 1
    found = over(GREY, Marks("", mask=mask, classes=CLASSES), (30, 20))
    assert found[100, 20].tolist() == [round(100 * (1 - SHARE) + one * SHARE) for one in PALETTE[0]]
    assert found[100, 280].tolist() == [round(100 * (1 - SHARE) + one * SHARE) for one in PALETTE[1]]
    assert (found[:, 149] == PALETTE[0]).all()
    assert (found[:, 150] == PALETTE[1]).all()
    assert len(colours(found)) == 4


def test_void_is_hatched_and_tinted_by_no_class() -> None:
    void = over(GREY, Marks("", mask=np.full((20, 30), VOID, np.uint8), classes=CLASSES), (30, 20))
    assert (void.min(axis=2) == void.max(axis=2)).all()
    assert 100 in void
    assert len(colours(void)) == 3


def test_a_mask_of_another_size_or_of_nothing_is_no_failure() -> None:
    for shape in ((1, 1), (1000, 3), (0, 0)):
        assert over(GREY, Marks("", mask=np.full(shape, 200, np.uint8)), (300, 200)).shape == (200, 300, 3)


def test_colours_go_by_place_and_begin_again() -> None:
    names = [str(place) for place in range(len(PALETTE) + 1)]
    found = legend(names)
    assert found[:2] == [("0", "#e69f00"), ("1", "#56b4e9")]
    assert found[-1] == (names[-1], "#e69f00")
    assert len({colour for _, colour in found}) == len(PALETTE)


def test_a_training_picture_shows_what_is_learnt_from_it() -> None:
    pixels = np.full((64, 64, 1), 50, np.uint8)
    assert annotated(pixels, np.int64(1), Target.LABEL, CLASSES) is pixels
    table = np.array([[8, 8, 40, 40, 2, 0], [10, 10, 20, 20, 7, 0], [-1, -1, -1, -1, -1, -1]], np.float32)
    drawn = annotated(pixels, table, Target.OBJECTS, CLASSES)
    assert (drawn[8, 8:40] == PALETTE[2]).all()
    assert (drawn[10:20, 10:20] == 50).all()  # of no class that there is
    mask = np.full((64, 64), VOID, np.uint8)
    mask[:32] = 1
    painted = annotated(pixels, mask, Target.MASK, CLASSES)
    assert painted[10, 10].tolist() == [round(50 * (1 - SHARE) + one * SHARE) for one in PALETTE[1]]
    assert (painted[31] == PALETTE[1]).all()
    assert (painted[40:, :, 0] == painted[40:, :, 1]).all()


def disc(x: int, y: int, r: int, width: int = 300, height: int = 200) -> np.ndarray:
    down, across = np.mgrid[:height, :width]
    inside: np.ndarray = (across - x) ** 2 + (down - y) ** 2 <= r * r
    return inside


def thing(inside: np.ndarray, name: str, **more: Any) -> MarkedBox:
    """An object of these pixels."""
    box = box_of(inside)
    assert box
    return MarkedBox(box, name, inside=Runs(*inside.shape, tuple(runs_of(inside))), **more)


def tinted(place: int, shade: float = 0.0, ground: int = 100) -> list[int]:
    return [round(ground * (1 - SHARE) + part * SHARE) for part in shaded(PALETTE[place], shade)]


def test_an_object_is_tinted_where_its_pixels_are_and_has_a_rim_and_no_box() -> None:
    inside = np.zeros((200, 300), bool)
    inside[60:80, 40:140] = inside[60:160, 40:60] = True  # an angle: most of its box is not of it
    found = over(GREY, boxes(thing(inside, "dog", score=0.9)), (300, 200), named=False)
    core = inside.copy()
    core[1:] &= inside[:-1]
    core[:-1] &= inside[1:]
    core[:, 1:] &= inside[:, :-1]
    core[:, :-1] &= inside[:, 1:]
    assert (found[core] == tinted(1)).all()
    assert (found[inside & ~core] == PALETTE[1]).all()
    assert (found[~inside] == 100).all()
    named = over(GREY, boxes(thing(inside, "dog", score=0.9)), (300, 200))
    assert (named[44:60] != found[44:60]).any()  # its name, as above a box


def test_objects_of_one_class_that_lie_side_by_side_have_different_shades() -> None:
    row = [disc(30 + 41 * place, 60, 20) for place in range(6)]
    found = over(GREY, boxes(*[thing(inside, "cat") for inside in row]), (300, 200), named=False)
    shades = [found[60, 30 + 41 * place].tolist() for place in range(6)]
    assert all(one != other for one, other in pairwise(shades))
    assert {tuple(shade) for shade in shades} == {tuple(tinted(0)), tuple(tinted(0, SHADES[1]))}
    apart = [disc(30 + 60 * place, 60, 20) for place in range(4)]
    found = over(GREY, boxes(*[thing(inside, "cat") for inside in apart]), (300, 200), named=False)
    assert all(found[60, 30 + 60 * place].tolist() == tinted(0) for place in range(4))
    other = over(GREY, boxes(thing(row[0], "cat"), thing(row[1], "dog")), (300, 200), named=False)
    assert (other[60, 30].tolist(), other[60, 71].tolist()) == (tinted(0), tinted(1))


def test_smaller_objects_lie_on_top_and_a_crowd_is_striped() -> None:
    large, small = disc(100, 100, 60), disc(100, 100, 20)
    found = over(GREY, boxes(thing(small, "dog"), thing(large, "cat")), (300, 200), named=False)
    assert found[100, 100].tolist() == tinted(1)
    assert found[100, 60].tolist() == tinted(0)
    crowd = over(GREY, boxes(thing(large, "cat", faint=True)), (300, 200))
    shown = crowd[disc(100, 100, 57)]
    assert {tuple(one) for one in shown.tolist()} == {(100, 100, 100), tuple(tinted(0))}
    assert 0.4 < (shown == 100).all(axis=1).mean() < 0.6


def test_objects_scale_with_the_picture() -> None:
    inside = np.zeros((20, 30), bool)
    inside[5:15, 10:20] = True
    found = marked(np.full((20, 30, 1), 100, np.uint8), boxes(thing(inside, "eel")), 300)
    assert found.shape == (200, 300, 3)
    assert (found[51:149, 101:199] == tinted(2)).all()
    assert (found[50:150, 100] == PALETTE[2]).all()
    assert (found[:34] == 100).all()  # above its name
    assert (found[150:] == 100).all()
    small = over(np.full((10, 15, 1), 100, np.uint8), boxes(thing(inside, "eel")), (30, 20), named=False)
    wanted = np.zeros((10, 15), bool)
    wanted[2:7, 5:10] = True  # centres of canvas pixels lie in rows 1, 3, 5, ... of the picture
    assert ((small != 100).any(axis=2) == wanted).all()


@pytest.mark.parametrize(
    "inside",
    [
        Runs(200, 300, (1,)),
        Runs(200, 300, ()),
        Runs(200, 300, (70_000, -10_000)),
        Runs(10, 10, (0, 100)),
        Runs(10**9, 10**9, (0, 10**18)),
        Runs(200, 300, (0, 10**40)),
        Runs(200, 300, (60_000,)),
        Runs(200, 300, ("a", None)),  # type: ignore[arg-type]
    ],
)
def test_an_object_whose_pixels_are_damaged_or_none_has_a_box(inside: Runs) -> None:
    marks = boxes(MarkedBox((20, 30, 120, 90), "dog", inside=inside))
    bare = boxes(MarkedBox((20, 30, 120, 90), "dog"))
    assert (over(GREY, marks, (300, 200)) == over(GREY, bare, (300, 200))).all()


def test_hundreds_of_objects_on_a_large_picture_take_a_moment() -> None:
    dice, found = np.random.default_rng(0), []
    for x, y, r in np.stack([dice.integers(low, high, 300) for low, high in ((40, 960), (40, 760), (8, 40))], axis=1):
        inside = np.zeros((800, 1000), bool)
        inside[y - 40 : y + 40, x - 40 : x + 40] = disc(40, 40, r, 80, 80)
        found.append(thing(inside, CLASSES[r % 3]))
    picture, marks = np.full((800, 1000, 3), 90, np.uint8), boxes(*found)
    began = time.process_time()
    drawn = marked(picture, marks, 1000)
    assert time.process_time() - began < 2  # 0.15 s
    assert drawn.shape == picture.shape


def test_a_point_is_a_dot_with_a_dark_ring_in_the_colour_of_its_place() -> None:
    found = over(GREY, points(MarkedPoint(100.5, 50.5, "eel")), (300, 200), named=False)
    assert found[50, 100].tolist() == list(PALETTE[2])
    # The radius is 300 / 80, and the ring 1.25 wide: 5 pixels away it ends, in the middle of a pixel.
    half = round(100 / 2 + DARK[0] / 2)
    assert found[50, 105].tolist() == found[50, 95].tolist() == found[45, 100].tolist() == [half] * 3
    changed = np.argwhere((found != 100).any(axis=2))
    assert (changed.min(axis=0).tolist(), changed.max(axis=0).tolist()) == ([45, 95], [55, 105])
    large = np.full((400, 600, 1), 100, np.uint8)
    assert over(large, points(MarkedPoint(100.5, 50.5, "eel")), (300, 200))[101, 201].tolist() == list(PALETTE[2])


@pytest.mark.parametrize(
    ("x", "y"), [(math.nan, 5), (5, math.inf), (-1, 5), (301, 5), (5, 200.5), (1e308, 1e308), (-1e308, 5)]
)
def test_a_point_that_is_none_or_lies_outside_is_passed_over(x: float, y: float) -> None:
    assert (over(GREY, points(MarkedPoint(x, y, "cat")), (300, 200)) == 100).all()


def test_points_at_the_edges_and_of_no_known_name_are_drawn() -> None:
    corners = [MarkedPoint(x, y, "\0\u202e" + "x" * 9999) for x in (0, 300) for y in (0, 200)]
    found = over(GREY, points(*corners), (300, 200))
    assert all(tuple(found[y, x].tolist()) == UNKNOWN for x in (0, 299) for y in (0, 199))


def test_few_points_are_named_where_there_is_room() -> None:
    one = points(MarkedPoint(100, 50, "eel"))
    named, bare = over(GREY, one, (300, 200)), over(GREY, one, (300, 200), named=False)
    changed = np.argwhere((named != bare).any(axis=2))
    assert (changed[:, 1] > 104).all()  # to the right
    assert np.abs(changed[:, 0] - 50).max() <= 9
    edge = points(MarkedPoint(295, 50, "eel"))
    changed = np.argwhere((over(GREY, edge, (300, 200)) != over(GREY, edge, (300, 200), named=False)).any(axis=2))
    assert (changed[:, 1] < 290).all()  # to the left
    many = points(*[MarkedPoint(20 + 50 * place, 100, "eel") for place in range(5)])
    assert (over(GREY, many, (300, 200)) == over(GREY, many, (300, 200), named=False)).all()


def test_a_training_picture_shows_its_objects_pixel_by_pixel() -> None:
    pixels = np.full((64, 48, 1), 50, np.uint8)
    target = np.full((64, 48, 3), VOID, np.uint8)
    target[8:20, 8:20] = (2, 0, 0)
    target[8:20, 20:32] = (2, 44, 1)  # number 300, of the same class, side by side
    target[40:52, 8:20] = (CROWD, 3, 0)
    target[60:62, 2:4] = (9, 7, 0)  # of no class that there is
    drawn = annotated(pixels, target, Target.INSTANCES, CLASSES)
    assert drawn[14, 14].tolist() == tinted(2, ground=50)
    assert drawn[14, 26].tolist() == tinted(2, SHADES[1], ground=50)
    assert (drawn[20:40] == 50).all()
    stripes = drawn[42:50, 10:18].reshape(-1, 3).tolist()
    assert {tuple(one) for one in stripes} == {(50,) * 3, (round(50 * (1 - SHARE) + UNKNOWN[0] * SHARE),) * 3}
    assert drawn[60, 2].tolist() == list(UNKNOWN)
    empty = np.full((64, 48, 3), VOID, np.uint8)
    assert (annotated(pixels, empty, Target.INSTANCES, CLASSES) == 50).all()
    everywhere = np.zeros((64, 48, 3), np.uint8)
    assert annotated(pixels, everywhere, Target.INSTANCES, CLASSES)[30, 30].tolist() == tinted(0, ground=50)


def test_objects_of_a_target_have_their_own_boxes_and_runs() -> None:
    dice = np.random.default_rng(1)
    target = np.full((20, 30, 3), VOID, np.uint8)
    numbers = dice.integers(0, 4, (20, 30))
    target[numbers < 3] = np.stack([np.zeros_like(numbers), numbers, 0 * numbers], axis=2)[numbers < 3]
    found = TARGETS[Target.INSTANCES](target, CLASSES).boxes
    assert len(found) == 3
    for number, box in enumerate(found):
        assert box.inside
        assert (of_runs(box.inside.lengths, 30, 20) == (numbers == number)).all()
        assert box.box == box_of(numbers == number)


def test_a_training_picture_shows_its_points() -> None:
    pixels = np.full((64, 64, 1), 50, np.uint8)
    target = np.array([[10.5, 20.5, 1, 0], [0, 0, 0, 1], [40.5, 50.5, 1, 2]], np.float32)
    drawn = annotated(pixels, target, Target.POINTS, CLASSES)
    assert drawn[20, 10].tolist() == list(PALETTE[0])
    assert drawn[50, 40].tolist() == list(PALETTE[2])
    assert (drawn[:10] == 50).all()  # the one that is not known is nowhere


def test_thousands_of_boxes_take_no_time_to_speak_of() -> None:
    dice = np.random.default_rng(0)
    corners = np.sort(dice.random((5000, 2, 2)) * 200, axis=1).reshape(-1, 4)
    many = [MarkedBox((x1, y1, x2, y2), "cat", 0.5) for x1, y1, x2, y2 in corners.tolist()]
    assert over(GREY, boxes(*many), (300, 200)).shape == (200, 300, 3)


def test_pixels_are_left_as_they_were() -> None:
    before = GREY.copy()
    over(GREY, boxes(MarkedBox((0, 0, 99, 99), "cat", 0.5)), (300, 200))
    assert (before == GREY).all()


def test_jpeg_is_the_same_picture_nearly() -> None:
    picture = over(GREY, boxes(MarkedBox((20, 30, 120, 90), "dog", 0.5)), (300, 200))
    found = Image.open(io.BytesIO(drawing.encoded(picture)))
    assert (found.format, found.size) == ("JPEG", (300, 200))
    assert np.abs(np.asarray(found).astype(int) - picture).mean() < 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cat", "cat"),
        ("", "(blank)"),
        (" \u200d", "(blank)"),
        ("a\u202eb\nc\0", "a\ufffdb\ufffdc\ufffd"),
        ("می\u200cخواهم 👩\u200d🔬 猫", "می\u200cخواهم 👩\u200d🔬 猫"),
    ],
)
def test_names_for_people_to_read(name: str, said: str) -> None:
    assert shown(name) == said
