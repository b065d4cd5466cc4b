"""YOLO: what is read of small sources, by hand, and every flaw in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from object_sources import Result, tree

from pipeline.annotations import Drawn, Objects, Thing
from pipeline.contracts import Target
from pipeline.errors import UserError


def test_yolo_by_hand(tmp_path: Path):
    files = {
        "labels/train/a.txt": "0 0.5 0.5 0.5 0.25\n\n1 0 0 1 0 1 0.5\n",
        "labels/val/b.txt": "",
        "data.yaml": "path: /datasets/pets\ntrain: images/train\nval: images/val\nnames: {0: no, 1: dog, 2: bird}\n",
        **dict.fromkeys(["images/train/a.png", "images/val/b.png", "images/val/c.png"]),
        "README.txt": "These are pets.",
    }
    got = Result("yolo", tree(tmp_path, files))
    objects = got.found["images/train/a.png"].annotation[Target.OBJECTS]
    assert objects.relative and objects.source == "labels/train/a.txt"
    assert objects.things == (
        Thing("no", (0.25, 0.375, 0.75, 0.625)),
        Thing("dog", (0, 0, 1, 0.5), outline=((0, 0, 1, 0, 1, 0.5),)),
    )
    assert [thing.place for thing in objects.things] == ["line 1 (no)", "line 3 (dog)"]
    assert Target.MASK not in got.found["images/train/a.png"].annotation, "a row of it is no polygon"
    nothing = Objects((), relative=True)
    objects = dict.fromkeys((Target.OBJECTS, Target.INSTANCES), nothing)
    assert got.found["images/val/b.png"].annotation == {**objects, Target.MASK: Drawn(nothing)}
    assert got.found["images/val/c.png"].annotation == {}
    assert [got.found[f"images/{name}.png"].split for name in ("train/a", "val/b", "val/c")] == ["train", "val", "val"]
    assert got.told() == [("empty_class", "data.yaml", "class 2", "bird: nothing is of that class")]
    assert got.left_out == {"README.txt": "text without rows of a class and a box, and no picture has its name"}


@pytest.mark.parametrize(
    ("label", "picture", "split"),
    [
        ("labels/train/a.txt", "images/train/a.png", None),
        ("train/labels/a.txt", "train/images/a.png", None),
        ("Annotations/a.txt", "Images/a.png", None),
        ("obj_train_data/a.txt", "obj_train_data/a.png", None),
        ("a.txt", "a.png", None),
        ("labels/labels/train/a.txt", "labels/images/train/a.png", None),
    ],
)
def test_yolo_layouts(tmp_path: Path, label: str, picture: str, split: str | None):
    names = [picture, "other/deep/er/a.png"]
    got = Result("yolo", tree(tmp_path, {label: "3 0.5 0.5 1 1", **dict.fromkeys(names)}))
    assert [thing.name for thing in got.things(picture)] == ["3"], "numbers are names where nothing names them"
    assert got.flaws == []
    assert list(got.left_out) == names[1:]


def test_every_flaw_of_yolo_labels(tmp_path: Path):
    rows = ["0 0.5 0.5 0.5", "0 0.5 0.5 0.5 x", "cat 0.5 0.5 0.5 0.5", "7 0.5 0.5 0.5 0.5", "-1 0.5 0.5 0.5 0.5"]
    rows += ["0 1 2 3 4 5 6 7", "0 nan 0.5 0.5 1e308", "0.0 0.5 0.5 0.5 0.5"]
    files = {
        "classes.txt": "cat\ndog\n",
        "labels/a.txt": "\n".join(rows),
        "labels/gone.txt": "0 0.5 0.5 0.5 0.5",
        "labels/empty.txt": "",
        "labels/far.txt": "1 0.5 0.5 0.5 0.5",
        "more/labels/a.txt": "1 0.5 0.5 0.5 0.5",
        "images/a.png": None,
        "x/deep/far.png": None,
    }
    got = Result("yolo", tree(tmp_path, files))
    assert sorted(got.told()) == sorted([
        ("unreadable", "labels/a.txt", "line 1", "4 values; expected 5, or for a polygon an odd number from 7 on"),
        ("unreadable", "labels/a.txt", "line 2", "'x' is no number"),
        ("unreadable", "labels/a.txt", "line 3", "its class is 'cat'; expected a whole number"),
        ("unknown_class", "labels/a.txt", "line 4", "classes.txt names no class 7"),
        ("unknown_class", "labels/a.txt", "line 5", "classes.txt names no class -1"),
        ("unreadable", "labels/a.txt", "line 6", "8 values; expected 5, or for a polygon an odd number from 7 on"),
        ("no_picture", "labels/gone.txt", "", "no picture, or more than one, is named 'gone'"),
        ("no_picture", "labels/empty.txt", "", "no picture, or more than one, is named 'empty'"),
        ("foreign_path", "labels/far.txt", "", "its picture was expected as images/far, and found as x/deep/far.png"),
        ("duplicate", "more/labels/a.txt", "", "labels/a.txt says of images/a.png already"),
    ])  # fmt: skip
    assert [thing.place for thing in got.things("images/a.png")] == ["line 7 (cat)", "line 8 (cat)"]


def test_yolo_names_and_splits_that_are_wrong(tmp_path: Path):
    files = {"labels/a.txt": "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5", "images/a.png": None, "images/b.png": None}
    source = tree(tmp_path, files)
    bad = "names: {0: cat, 1: cat, x: dog, 3: [1], 4: }\ntrain: train.txt\nval: [val.txt, images]\nnc: 2"
    lists = {"train.txt": "./images/a.png\nimages/gone.png\n", "val.txt": "/home/me/images/b.png\nimages/a.png\n"}
    got = Result("yolo", tree(source, {"data.yaml": bad, **lists}))
    assert {name: item.split for name, item in got.found.items()} == {"images/a.png": "train", "images/b.png": "val"}
    assert got.told() == [
        ("duplicate", "data.yaml", "names 1", "a second class is named cat; they are taken for one"),
        ("unreadable", "data.yaml", "names", "'x': 'dog'; expected a number and the name of a class"),
        ("unreadable", "data.yaml", "names", "'3': ['1']; expected a number and the name of a class"),
        ("unreadable", "data.yaml", "names", "'4': ''; expected a number and the name of a class"),
        ("no_picture", "train.txt", "line 2", "no picture, or more than one, is 'images/gone.png'"),
        ("foreign_path", "val.txt", "line 1", "'/home/me/images/b.png' was found as images/b.png"),
        ("duplicate", "val.txt", "line 2", "images/a.png is in the list of train too, and is taken for that"),
    ]
    assert [flaw.source for flaw in got.found["images/a.png"].flaws] == ["val.txt"]
    got = Result(
        "yolo", tree(source, {"data.yaml": "a: &x 1\nb: *x", "obj.names": "cat\ndog", "obj.data": "names = x"})
    )
    assert got.told()[0][:3] == ("unreadable", "data.yaml", "")
    assert {thing.name for thing in got.things("images/a.png")} == {"cat", "dog"}
    with pytest.raises(
        UserError, match=r"2 files name different classes: q/data\.yaml, q/x/data\.yaml\. Set data\.inside"
    ):
        Result(
            "yolo", tree(source, {"data.yaml": "", "q/data.yaml": "names: [a, b]", "q/x/data.yaml": "names: [b, a]"})
        )


def test_yolo_boxes_with_keypoints(tmp_path: Path):
    files = {"labels/a.txt": "0 0.5 0.5 0.5 0.5" + " 0.1 0.1 2" * 3, "images/a.png": None}
    got = Result("yolo", tree(tmp_path, {**files, "data.yaml": "kpt_shape: [3, 3]\nnames: [cat]"}))
    assert got.things("images/a.png") == (Thing("cat", (0.25, 0.25, 0.75, 0.75)),)
    assert got.flaws == []


def test_a_number_below_0_where_numbers_are_the_names(tmp_path: Path):
    got = Result("yolo", tree(tmp_path, {"a.png": None, "a.txt": "0 0.5 0.5 0.5 0.5\n-1 0.5 0.5 0.5 0.5"}))
    assert got.told() == [("unknown_class", "a.txt", "line 2", "classes are numbers from 0 on, and none is -1")]
