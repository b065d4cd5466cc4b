"""Boxes and masks on pictures: where lines and colours lie, by hand; and nothing that is said can make it fail."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from pipeline import drawing
from pipeline.answering import MarkedBox, Marks
from pipeline.contracts import Target
from pipeline.drawing import DARK, PALETTE, SHARE, annotated, legend, marked, over, shown
from pipeline.masks import VOID

CLASSES = ("cat", "dog", "eel")
GREY = np.full((200, 300, 1), 100, np.uint8)


def boxes(*found: MarkedBox) -> Marks:
    return Marks("", boxes=found, classes=CLASSES)


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
    assert (found[99 - 1, 60] == drawing.UNKNOWN).all()
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
    assert drawing.UNKNOWN in colours(found)


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
