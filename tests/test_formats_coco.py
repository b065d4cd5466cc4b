"""COCO: what is read of small files, by hand, and every flaw in them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from object_sources import PICTURE, SQUARE, Result, coco, tree

from pipeline.annotations import Drawn, FlawKind, Objects, Painted, Runs, Thing
from pipeline.contracts import Target
from pipeline.errors import UserError
from pipeline.formats import _coco_outlines
from pipeline.masks import runs_of


def test_coco_by_hand(tmp_path: Path):
    files = {"x.json": coco(), "a.png": None, "b.png": None, "c.png": None, "logo/l.png": None, "README": "hello"}
    got = Result("coco", tree(tmp_path, files))
    assert got.found["a.png"].annotation == {
        Target.OBJECTS: Objects((Thing("cat", (1, 1, 3, 3.5)), Thing("cat", (0, 0, 5, 4), crowd=True)))
    }
    objects = got.found["a.png"].annotation[Target.OBJECTS]
    assert (objects.source, objects.said_size, objects.relative) == ("x.json", (5, 4), False)
    assert [thing.place for thing in objects.things] == ["annotation 1 (cat)", "annotation 2 (cat)"]
    assert got.found["b.png"].annotation == {Target.OBJECTS: Objects(())}, "listed without objects: there is none"
    assert got.found["c.png"].annotation == {}, "not listed: nothing is said"
    assert got.left_out == {
        "README": "neither a picture nor a file of annotations",
        "logo/l.png": "in a folder with no picture that a file of annotations names",
    }
    assert got.told() == [("empty_class", "x.json", "category 0", "all: nothing is of that class")]


def test_coco_masks_are_drawn_where_all_is_outlined(tmp_path: Path):
    square = {"image_id": 1, "category_id": 7, "bbox": [1, 1, 2, 2], "segmentation": [SQUARE, SQUARE]}
    crowd = {"image_id": 1, "category_id": 0, "bbox": [0, 0, 1, 4], "iscrowd": 1}
    crowd["segmentation"] = {"size": [4, 5], "counts": [0, 4, 16]}
    boxed = {"image_id": 9, "category_id": 7, "bbox": [1, 1, 2, 2]}
    unboxed = {"image_id": 1, "category_id": 7, "segmentation": [SQUARE]}
    source = tree(tmp_path, {"a.png": None, "b.png": None})
    got = Result("coco", tree(source, {"x.json": coco(annotations=[square, crowd, unboxed])}))
    things = got.things("a.png")
    assert things[0].outline == (tuple(map(float, SQUARE)),) * 2
    assert things[1].outline == Runs(4, 5, (0, 4, 16))
    assert things[2].box == (1, 1, 3, 3), "the extent of its outline, where no box is written"
    assert got.found["a.png"].annotation[Target.MASK] == Drawn(got.found["a.png"].annotation[Target.OBJECTS])
    assert got.found["b.png"].annotation[Target.MASK] == Drawn(Objects(())), "all background"
    got = Result("coco", tree(source, {"x.json": coco(annotations=[square, boxed])}))
    assert Target.MASK in got.found["a.png"].annotation and Target.MASK not in got.found["b.png"].annotation


def test_packed_runs_are_those_of_pycocotools():
    coder = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(0)
    for share in (0.0, 0.01, 0.5, 0.99, 1.0):
        mask = (generator.random((37, 61)) < share).astype(np.uint8)
        mask[:, 20:40] = 1  # long runs
        packed = coder.encode(np.asfortranarray(mask))
        runs = _coco_outlines.outline_of({"size": packed["size"], "counts": packed["counts"].decode()})
        assert isinstance(runs, Runs) and list(runs.lengths) == runs_of(mask.astype(bool))


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ("abc", "its segmentation is 'abc'; expected polygons or runs"),
        ([SQUARE, [1, 2, 3, 4]], "its polygon 2 holds 4 numbers; expected x, y of three corners or more"),
        ([[1, 2, 3, 4, 5, 6, 7]], "its polygon 1 holds 7 numbers"),
        ([[1, 2, 3, 4, 5, "6"]], "its polygon 1 holds what are no numbers"),
        ([7], "its polygon 1 is 7; expected a list"),
        ({"size": [4, 5]}, "its runs are None; expected lengths, or text"),
        ({"size": [4], "counts": []}, r"its runs are of the size \[4\]; expected height and width"),
        ({"size": [10**9, 10**9], "counts": []}, "its runs are of the size"),
        ({"size": [30_000, 30_000], "counts": []}, "900,000,000 pixels; the limit is 200,000,000"),
        ({"size": [4, 5], "counts": [21]}, "its runs do not fill 5 x 4 pixels"),
        ({"size": [4, 5], "counts": [-1, 21]}, "its runs do not fill 5 x 4 pixels"),
        ({"size": [4, 5], "counts": [20, "x"]}, "its runs do not fill 5 x 4 pixels"),
        ({"size": [4, 5], "counts": "\ud800"}, "no compressed text"),
        ({"size": [4, 5], "counts": "o" * 90}, "no compressed text"),
        ({"size": [4, 5], "counts": "P"}, "its runs end within a number"),
    ],
)
def test_outlines_that_cannot_be_understood(segmentation: Any, words: str):
    with pytest.raises(ValueError, match=words):
        _coco_outlines.outline_of(segmentation)


def test_coco_files_are_splits_by_name_or_folder(tmp_path: Path):
    one = coco(images=[{"id": 1, "file_name": "a.png"}])
    layouts = {
        "coco": ["ann/instances_train2017.json", "train2017/a.png", "ann/instances_val2017.json", "val2017/a.png"],
        "roboflow": ["train/_a.coco.json", "train/a.png", "valid/_a.coco.json", "valid/a.png"],
        "mmdet": ["test-7/train.json", "test-7/images/train/a.png", "test-7/val.json", "test-7/images/val/a.png"],
    }
    for layout, names in layouts.items():
        source = tree(tmp_path / layout, {name: one if name.endswith("json") else None for name in names})
        got = Result("coco", source)
        assert {name: item.split for name, item in got.found.items()} == {names[1]: "train", names[3]: "val"}
        assert got.kinds() == {FlawKind.EMPTY_CLASS: 1}, layout
        assert all(len(got.things(name)) == 2 for name in got.found)
        alone = Result("coco", source, annotations=names[0].rpartition("/")[2] if layout != "roboflow" else "train/*")
        assert alone.found[names[1]].split is None, "a split alone says nothing"
    both = coco(images=[{"id": 1, "file_name": "train/a.png"}, {"id": 2, "file_name": "val/a.png"}])
    got = Result("coco", tree(tmp_path / "one", {"x.json": both, "img/train/a.png": None, "img/val/a.png": None}))
    assert {name: item.split for name, item in got.found.items()} == {
        "img/train/a.png": "train",
        "img/val/a.png": "val",
    }


def test_coco_does_not_take_a_picture_of_another_split(tmp_path: Path):
    names = ["train/a.png", "val/a.png", "val/b.png"]
    one = coco(images=[{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}])
    got = Result("coco", tree(tmp_path, {"ann/train.json": one, **dict.fromkeys(names)}))
    assert sorted(got.found) == ["train/a.png"]
    assert ("no_picture", "ann/train.json", "image 2", "no picture, or more than one, is 'b.png'") in got.told()


NO_NAME = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"


def test_every_flaw_of_a_coco_file(tmp_path: Path):
    raw = {
        "categories": [
            {"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3}, 7,
            {"id": 4, "name": "bird"},
        ],
        "images": [
            {"id": 1, "file_name": "/home/me/old/a.png"},
            {"id": 1, "file_name": "b.png"},
            {"id": 2, "file_name": "img/b.png", "width": "5", "height": 4},
            {"id": 3, "file_name": "img/a.png"},
            {"id": 4, "file_name": "gone.png"},
            {"id": 5},
            None,
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]},
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]},
            {"id": 2, "image_id": 1, "category_id": 8, "bbox": [0, 0, 1, 1]},
            {"id": 3, "image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1]},
            {"id": 4, "image_id": 2, "category_id": 2, "bbox": [0, 0, 1]},
            {"id": 5, "image_id": 2, "category_id": 1, "bbox": [0, 0, math.nan, -1]},
            {"id": 6, "image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1], "iscrowd": "no"},
            {"id": 7, "image_id": 2, "bbox": [0, 0, 1, 1]},
            {"id": 8, "category_id": 1},
            "x",
        ],
    }  # fmt: skip
    files = {"x.json": raw, "broken.json": "{", "other.json": {"a": 1}, "img/a.png": None, "img/b.png": None}
    got = Result("coco", tree(tmp_path, files))
    assert sorted(got.told()) == sorted([
        ("unreadable", "broken.json", "", f"is no JSON: {NO_NAME}."),
        ("duplicate", "x.json", "category 1", "dog: cat has that id too"),
        ("duplicate", "x.json", "category 2", "a second class is named cat; they are taken for one"),
        ("unreadable", "x.json", "category 3", "it has the id 3 and the name None; expected a number and text"),
        ("unreadable", "x.json", "category at position 5", "7; expected an object with keys"),
        ("empty_class", "x.json", "category 4", "bird: nothing is of that class"),
        ("foreign_path", "x.json", "image 1", "'/home/me/old/a.png' was found as img/a.png"),
        ("duplicate", "x.json", "image 1", "'b.png': the id is that of '/home/me/old/a.png' too"),
        ("unreadable", "x.json", "image 2", "its width and height are '5' and 4; expected whole numbers"),
        ("duplicate", "x.json", "image 3", "'img/a.png': image 1 is that picture too"),
        ("no_picture", "x.json", "image 4", "no picture, or more than one, is 'gone.png'"),
        ("unreadable", "x.json", "image 5", "it has the id 5 and the file_name None; expected a number and text"),
        ("unreadable", "x.json", "image at position 7", "None; expected an object with keys"),
        ("duplicate", "x.json", "annotation 1", "another annotation has that id"),
        ("unknown_class", "x.json", "annotation 2", "it is of the category 8, which is not listed"),
        ("no_picture", "x.json", "annotation 3", "it is of the picture 99, which is not listed"),
        ("unreadable", "x.json", "annotation 4", "its bbox is [0, 0, 1]; expected x, y, width, height"),
        ("unreadable", "x.json", "annotation 6", "its iscrowd is 'no'; expected 0 or 1"),
        ("unreadable", "x.json", "annotation 7", "its category_id is None; expected the id of a category"),
        ("unreadable", "x.json", "annotation 8", "its image_id is None; expected the id of a picture"),
        ("unreadable", "x.json", "annotation at position 10", "'x'; expected an object with keys"),
    ])  # fmt: skip
    assert [thing.box for thing in got.things("img/a.png")] == [(0, 0, 1, 1)], "what is wrong is left out"
    assert [str(thing.box) for thing in got.things("img/b.png")] == ["(0.0, 0.0, nan, -1.0)"], "boxes are for the task"
    assert got.left_out == {"other.json": "JSON without a list of images beside annotations or categories"}
    where = {flaw.place for flaw in got.found["img/b.png"].flaws}
    assert where == {"image 2", "annotation 4", "annotation 6", "annotation 7"}, "flaws lie with their picture"


def test_a_key_that_stands_twice_spoils_its_annotation_alone(tmp_path: Path):
    text = json.dumps(coco()).replace('"iscrowd": 1', '"iscrowd": 1, "bbox": [0, 0, 1, 1]')
    got = Result("coco", tree(tmp_path, {"x.json": text, "a.png": None, "b.png": None}))
    assert len(got.things("a.png")) == 1
    assert ("unreadable", "x.json", "annotation 2", "the key 'bbox' stands twice") in got.told()


def test_panoptic_masks_are_painted_by_colour(tmp_path: Path):
    segments = [
        {"id": 1 + 256 * 2 + 65536 * 3, "category_id": 1, "bbox": [0, 0, 2, 2], "iscrowd": 0},
        {"id": 9, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        {"id": 5 * (1 + 256 + 65536), "category_id": 2, "bbox": [0, 2, 5, 2]},
        {"id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]},
        {"id": 10, "category_id": 3, "bbox": [0, 0, 1, 1]},
        {"id": 0, "category_id": 1, "bbox": [0, 0, 1, 1]},
        {"id": 12, "category_id": 1},
    ]
    raw = {
        "categories": [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}],
        "images": [{"id": k, "file_name": f"{k}.png"} for k in (1, 2, 3)],
        "annotations": [
            {"image_id": 1, "file_name": "1.png", "segments_info": segments},
            {"image_id": 1, "file_name": "1.png", "segments_info": segments},
            {"image_id": 2, "file_name": "gone.png", "segments_info": segments[:1]},
        ],
    }
    masks = ["ann/panoptic_val/1.png", "ann/panoptic_val/unused.png"]
    names = ["val/1.png", "val/2.png", "val/3.png", "val/4.png", *masks]
    got = Result("coco", tree(tmp_path, {"ann/panoptic_val.json": raw, **dict.fromkeys(names)}))
    first = got.found["val/1.png"].annotation
    assert first[Target.OBJECTS] == Objects((Thing("cat", (0, 0, 2, 2)), Thing("cat", (0, 0, 9, 9), crowd=True)))
    assert isinstance(first[Target.MASK], Painted)
    (layer,) = first[Target.MASK].layers
    assert (layer.name, layer.data) == (masks[0], PICTURE)
    assert layer.classes == {(1, 2, 3): "cat", (9, 0, 0): "cat", (5, 5, 5): "sky", 5: "sky"}, "grey may come as a level"
    assert layer.void == {(0, 0, 0), 0, (10, 0, 0), (12, 0, 0)}
    assert got.found["val/2.png"].annotation.keys() == {Target.OBJECTS}
    assert got.found["val/3.png"].annotation == got.found["val/4.png"].annotation == {}
    assert got.left_out[masks[1]] == "a mask of ann/panoptic_val.json, which does not name it or is not read"
    assert got.kinds() == {FlawKind.DUPLICATE: 2, FlawKind.UNKNOWN_CLASS: 1, FlawKind.UNREADABLE: 3}


def test_coco_files_that_say_of_the_same_picture_are_to_be_chosen(tmp_path: Path):
    panoptic = {**coco(), "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": []}]}
    captions = coco(annotations=[{"id": 1, "image_id": 1, "caption": "a cat"}])
    nothing = {key: value for key, value in coco().items() if key != "annotations"}
    files = {"instances_x.json": coco(), "panoptic_x.json": panoptic, "captions_x.json": captions}
    source = tree(tmp_path, {**files, "image_info_x.json": nothing, "a.png": None, "b.png": None})
    words = (
        r"several files say of the same 2 pictures, of a\.png for one: instances_x\.json, panoptic_x\.json\. "
        r"Set data\.annotations to those to read, as in 'instances_\*\.json'\."
    )
    with pytest.raises(UserError, match=words):
        Result("coco", source)
    got = Result("coco", source, annotations="instances_*.json")
    assert len(got.things("a.png")) == 2
    assert got.left_out["panoptic_x.json"] == "not among data.annotations (instances_*.json)"
    with pytest.raises(UserError, match=r"has no JSON file 'instance_x\.json'\. Did you mean 'instances_x\.json'\?"):
        Result("coco", source, annotations="instance_x.json")
    with pytest.raises(UserError, match=r"no COCO file was found.* captions_x\.json: captions, which no task learns"):
        Result("coco", source, annotations="cap*")
    got = Result("coco", source, annotations="image_info_x.json")
    assert [item.annotation for item in got.found.values()] == [{}, {}], "a list of pictures says nothing of them"


def test_lvis_names_pictures_by_their_address(tmp_path: Path):
    url = "http://images.cocodataset.org/train2017/000000391895.jpg"
    raw = coco(images=[{"id": 1, "coco_url": url, "height": 4, "width": 5}])
    got = Result("coco", tree(tmp_path, {"lvis_v1_val.json": raw, "train2017/000000391895.jpg": None}))
    assert len(got.things("train2017/000000391895.jpg")) == 2
    assert got.kinds() == {FlawKind.EMPTY_CLASS: 1}
