"""labelme: what is read of small sources, by hand, and every flaw in them."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from object_sources import PICTURE, TRIANGLE, Result, labelme, png, shape, tree

from pipeline.annotations import Drawn, FlawKind, Objects, Runs
from pipeline.contracts import Target
from pipeline.images import encode_png
from pipeline.masks import runs_of
from pipeline.runs import placed


def test_labelme_by_hand(tmp_path: Path):
    shapes = [
        shape("polygon", TRIANGLE, group_id=1),
        shape("rectangle", [[4, 3], [1, 2]], "dog"),
        shape("circle", [[2, 2], [2, 3]]),
        shape("polygon", [[2, 2], [5, 2], [2, 4]], group_id=1),
        shape("polygon", [[2, 2], [5, 2], [2, 4]], "dog", group_id=1),
        shape("mask", [[1.6, 1.2], [3.6, 2.2]], mask=png([[0, 1, 1], [0, 0, 1]])),
    ]
    files = {"a.json": labelme(*shapes), "b.json": labelme(image="b.png"), "a.png": None, "b.png": None, "c.png": None}
    got = Result("labelme", tree(tmp_path, files))
    things = got.things("a.png")
    assert [thing.name for thing in things] == ["cat", "dog", "cat", "dog", "cat"]
    assert things[0].outline == ((0, 0, 4, 0, 0, 3), (2, 2, 5, 2, 2, 4)) and things[0].box == (0, 0, 5, 4)
    assert things[1].outline == ((1, 2, 4, 2, 4, 3, 1, 3),) and things[1].box == (1, 2, 4, 3)
    (circle,) = things[2].outline
    assert len(circle) == 128 and things[2].box == pytest.approx((1, 1, 3, 3))
    assert all(math.dist(corner, (2, 2)) == pytest.approx(1) for corner in zip(circle[::2], circle[1::2], strict=True))
    assert things[4].outline == Runs(
        4, 5, tuple(runs_of(np.pad(np.array([[0, 1, 1], [0, 0, 1]]) > 0, ((1, 1), (1, 1)))))
    )
    assert things[4].box == (2, 1, 4, 3), "of its pixels"
    void = frozenset({"__ignore__"})
    assert got.found["a.png"].annotation[Target.MASK] == Drawn(got.found["a.png"].annotation[Target.OBJECTS], void=void)
    nothing = Objects(())
    assert got.found["b.png"].annotation == {
        **dict.fromkeys((Target.OBJECTS, Target.INSTANCES), nothing),
        Target.MASK: Drawn(nothing, void=void),
    }
    assert got.found["c.png"].annotation == {}
    assert got.flaws == [] and got.left_out == {}


def test_a_mask_is_placed_as_one_of_the_whole_picture():
    generator = np.random.default_rng(0)
    for _ in range(500):
        height, width = generator.integers(1, 7, 2)
        down, across = generator.integers(1, height + 1), generator.integers(1, width + 1)
        top, left = generator.integers(0, height - down + 1), generator.integers(0, width - across + 1)
        mask = generator.random((down, across)) < generator.choice([0.2, 0.5, 0.9, 1])
        mask[0, 0] = True
        whole = np.zeros((height, width), bool)
        whole[top : top + down, left : left + across] = mask
        assert placed(mask, int(left), int(top), int(width), int(height)).tolist() == runs_of(whole)


def test_labelme_rectangles_alone_draw_no_mask_and_flags_are_classes(tmp_path: Path):
    boxes = tree(tmp_path / "boxes", {"a.json": labelme(shape("rectangle", [[1, 1], [2, 2]])), "a.png": None})
    assert Result("labelme", boxes).found["a.png"].annotation.keys() == {Target.OBJECTS}
    flags = [{"cat": True, "dog": False}, {"cat": True, "dog": True}, {"cat": False}, {"__ignore__": True}, {"cat": 1}]
    files = {f"{k}.json": labelme(image=f"{k}.png", flags=one) for k, one in enumerate(flags)}
    got = Result("labelme", tree(tmp_path / "flags", {**files, **{f"{k}.png": None for k in range(5)}}))
    assert got.found["0.png"].annotation == {Target.LABEL: "cat"}
    assert all(got.found[f"{k}.png"].annotation == {} for k in range(1, 5))


def test_labelme_ignored_shapes_are_nobodys(tmp_path: Path):
    shapes = [shape("polygon", TRIANGLE), shape("polygon", TRIANGLE, "__ignore__")]
    got = Result("labelme", tree(tmp_path, {"a.json": labelme(*shapes), "a.png": None}))
    assert [thing.crowd for thing in got.things("a.png")] == [False, True]
    drawn = got.found["a.png"].annotation[Target.MASK]
    assert drawn.void == {"__ignore__"}, "nobody knows what its pixels are"


def test_labelme_finds_its_picture_or_brings_it(tmp_path: Path):
    other = encode_png(np.full((4, 5, 3), 7, np.uint8))
    embedded = {"imageData": base64.b64encode(other).decode()}
    files = {
        "l/a.json": labelme(image="..\\images\\a.png"),
        "l/b.json": labelme(image="/home/me/b.png"),
        "l/c.json": labelme(image="gone.png", **embedded),
        "l/d.json": labelme(image="../images/d.png", **embedded),
        "l/e.json": labelme(image="missing.png"),
        "l/f.json": labelme(image="f.png", imageData="no base64"),
        "l/g.json": labelme(shape("rectangle", [[0, 0], [1, 1]]), image=None),
        "l/h.json": labelme(image="../images/a.png"),
        **dict.fromkeys(["images/a.png", "images/b.png", "images/d.png", "l/g.png"]),
    }
    got = Result("labelme", tree(tmp_path, files))
    assert sorted(got.found) == ["images/a.png", "images/b.png", "images/d.png", "l/c.json", "l/f.json", "l/g.png"]
    assert got.found["l/c.json"].data == other and got.found["images/d.png"].data == PICTURE
    assert got.found["l/f.json"].data == b"no base64", "the decoder will say that it is no picture"
    assert sorted(got.told()) == [
        ("duplicate", "l/h.json", "", "l/a.json says of images/a.png already"),
        ("foreign_path", "l/b.json", "imagePath", "'/home/me/b.png' was found as images/b.png"),
        ("foreign_path", "l/g.json", "imagePath", "'' was found as l/g.png"),
        ("no_picture", "l/e.json", "imagePath", "no picture, or more than one, is 'missing.png'"),
    ]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (7, "7; expected an object with a label and points"),
        (shape("polygon", TRIANGLE, None), "its label is None; expected the name of a class"),
        (shape("point", [[1, 1]]), "a point has no area"),
        (shape("line", [[1, 1], [2, 2]]), "a line has no area"),
        (shape("linestrip", TRIANGLE), "a linestrip has no area"),
        (
            shape("polygon", TRIANGLE[:2]),
            "2 points of a 'polygon'; expected polygon, rectangle, circle or mask with theirs",
        ),
        (shape("rectangle", TRIANGLE), "3 points of a 'rectangle'; expected"),
        (shape("sphere", TRIANGLE), "3 points of a 'sphere'; expected"),
        (shape("polygon", [[1, 2, 3]]), "one of its points is [1, 2, 3]; expected x and y"),
        (shape("polygon", [[1, "2"]]), "one of its points is [1, '2']; expected x and y"),
        (shape("polygon", []), "its points are []; expected a list of x and y"),
        (shape("polygon", TRIANGLE, group_id=[1]), "its group_id is [1]; expected a number"),
        (shape("mask", [[0, 0]]), "None, where a picture in base64 is expected"),
        (shape("mask", [[0, 0]], mask="???"), "it is no base64"),
        (shape("mask", [[0, 0]], mask="aGVsbG8="), "its mask is no PNG of up to 4,096 pixels a side"),
        (shape("mask", [[0, 0]], mask="A" * 6_000_000), "6,000,000 characters of base64; the limit is 4,000,000 bytes"),
        (shape("mask", [[0, 0]], mask=png([[1]] * 5)), "its mask of 1 x 5 at 0,0 reaches beyond 5 x 4 pixels"),
        (shape("mask", [[-1, 0]], mask=png([[1]])), "its mask of 1 x 1 at -1,0 reaches beyond"),
        (shape("mask", [[math.nan, 0]], mask=png([[1]])), "its mask of 1 x 1 at -1,0 reaches beyond"),
        (shape("mask", [[1, 1]], mask=png([[0]])), "its mask has no pixel"),
    ],
)
def test_labelme_shapes_that_cannot_be_understood(tmp_path: Path, entry: Any, words: str):
    got = Result("labelme", tree(tmp_path, {"a.json": labelme(shape("polygon", TRIANGLE), entry), "a.png": None}))
    (flaw,) = got.flaws
    assert (flaw.kind, flaw.source) == (FlawKind.UNREADABLE, "a.json") and flaw.place.startswith("shape 2")
    assert flaw.found.startswith(words)
    assert got.found["a.png"].annotation.keys() == {Target.OBJECTS, Target.INSTANCES}, "no mask"


def test_a_png_that_promises_to_be_huge_is_not_decoded(tmp_path: Path):
    data = bytearray(encode_png(np.zeros((1, 1, 1), np.uint8)))
    data[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    mask = shape("mask", [[0, 0]], mask=base64.b64encode(bytes(data)).decode())
    got = Result("labelme", tree(tmp_path, {"a.json": labelme(mask), "a.png": None}))
    assert got.told()[0][3] == "its mask is no PNG of up to 4,096 pixels a side"
