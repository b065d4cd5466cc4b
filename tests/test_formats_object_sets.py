"""Real sets of objects: counts and defects as their SOURCE.md has them."""

from __future__ import annotations

import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from object_sources import DATA, FORMS, Result, needs_data, sound

from pipeline.annotations import Drawn, FlawKind, Objects, Runs, Thing
from pipeline.contracts import Target
from pipeline.plugin import config_class

pytestmark = pytest.mark.slow


def packed(name: str, form: str, **options: Any) -> Result:
    return Result(form, DATA / name / f"{name}.tar.gz", **options)


def per_split(got: Result, what: str) -> dict[str | None, int]:
    counts: Counter[str | None] = Counter()
    for name, item in got.found.items():
        things = got.things(name) if Target.OBJECTS in item.annotation else ()
        counts[item.split] += len(things) if what == "objects" else 1
    return dict(counts)


@needs_data
def test_bccd():
    got = packed("bccd-voc", "voc")
    assert per_split(got, "pictures") == {"train": 205, "val": 87, "test": 72}
    assert Counter(thing.name for thing in got.boxes()) == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert got.kinds() == {FlawKind.FOREIGN_PATH: 364}
    machines = Counter(flaw.found.split("/JPEG")[0] for flaw in got.flaws if flaw.found.startswith("'/home"))
    assert machines == {"'/home/pi/detection_dataset": 361}
    flat = {
        (name, thing.place): thing.box
        for name in got.found
        for thing in got.things(name)
        if thing.box[0] >= thing.box[2]
    }
    assert sorted(flat.values()) == [(181, 329, 181, 329), (504, 337, 504, 337)], "left to the task to judge"
    assert all(got.found[name].annotation[Target.OBJECTS].said_size == (640, 480) for name in got.found)


@needs_data
def test_raccoons():
    got = packed("raccoon-voc", "voc")
    assert len(got.found) == 200 and Counter(thing.name for thing in got.boxes()) == {"raccoon": 217}
    assert got.kinds() == {FlawKind.FOREIGN_PATH: 200}


@needs_data
def test_lunar_craters():
    got = packed("lunar-craters-coco", "coco")
    assert per_split(got, "pictures") == {"val": 200, "test": 100}
    assert per_split(got, "objects") == {"val": 4633, "test": 2146}
    assert {thing.name for thing in got.boxes()} == {"crater"}
    assert {item.annotation.keys() == {Target.OBJECTS} for item in got.found.values()} == {True}, "nothing is outlined"
    assert [(flaw.kind, flaw.place) for flaw in got.flaws] == [(FlawKind.EMPTY_CLASS, "category 0")]
    assert got.left_out["lunar-craters-coco/data/test/.DS_Store"] == "hidden"
    alone = packed("lunar-craters-coco", "coco", inside="lunar-craters-coco/data/valid")
    assert per_split(alone, "objects") == {None: 4633}, "a split alone says nothing"


@needs_data
def test_coco128_boxes():
    got = packed("coco128", "yolo", inside="coco128/data/object_detection")
    assert per_split(got, "pictures") == {"train": 128, "val": 128}
    assert per_split(got, "objects") == {"train": 941 - 12, "val": 898}, "12 are of the two labels without picture"
    home = "coco128/data/object_detection/labels/train2017/0000000006"
    assert [flaw.source for flaw in got.flaws if flaw.kind is FlawKind.NO_PICTURE] == [f"{home}56.txt", f"{home}59.txt"]
    silent = [name for name, item in got.found.items() if not item.annotation]
    assert silent == [f"coco128/data/images/train2017/000000000{k}.jpg" for k in (250, 508)]
    assert got.kinds() == {FlawKind.NO_PICTURE: 2, FlawKind.EMPTY_CLASS: 4, FlawKind.FOREIGN_PATH: 254}
    assert {thing.name for thing in got.things("coco128/data/images/train2017/000000000009.jpg")} >= {
        "bowl",
        "broccoli",
    }


@needs_data
def test_coco128_outlines():
    got = packed("coco128", "yolo", inside="coco128/data/instance_segmentation")
    assert {thing.name for thing in got.things("coco128/data/images/train2017/000000000009.jpg")} >= {
        "bowl",
        "broccoli",
    }
    assert sum(Target.MASK in item.annotation for item in got.found.values()) == 200
    nothing = Objects((), relative=True)
    for k in (250, 508):  # empty label files
        annotation = got.found[f"coco128/data/images/train2017/000000000{k}.jpg"].annotation
        objects = dict.fromkeys((Target.OBJECTS, Target.INSTANCES), nothing)
        assert annotation == {**objects, Target.MASK: Drawn(nothing)}
    assert sum(not item.annotation for item in got.found.values()) == 56, "28 of each split have no label file"


@needs_data
def test_coco128_panoptic():
    got = packed("coco128", "coco", inside="coco128/data/panoptic_segmentation")
    assert per_split(got, "pictures") == {"train": 128, "val": 128}
    painted = [item.annotation for item in got.found.values() if item.annotation]
    assert len(painted) == 200 and all(len(one[Target.MASK].layers) == 1 for one in painted)
    names = {name for one in painted for name in one[Target.MASK].layers[0].classes.values()}
    empty = [flaw for flaw in got.flaws if flaw.kind is FlawKind.EMPTY_CLASS]
    assert len(names) + len(empty) == 133 and got.kinds() == {FlawKind.EMPTY_CLASS: len(empty)}
    assert len(got.boxes()) == 1458 and all(thing.box[2] > thing.box[0] for thing in got.boxes())


@needs_data
def test_labelme_examples():
    home = "labelme-examples/data/examples"
    boxes = packed("labelme-examples", "labelme", inside=f"{home}/bbox_detection/data_annotated")
    voc_boxes = packed("labelme-examples", "voc", inside=f"{home}/bbox_detection/data_dataset_voc")
    assert Counter(thing.name for thing in boxes.boxes()) == {"person": 6, "bus": 2, "car": 1}
    assert sorted(thing.box for thing in boxes.boxes()) == sorted(thing.box for thing in voc_boxes.boxes())
    assert boxes.flaws == [] and voc_boxes.kinds() == {FlawKind.EMPTY_CLASS: 18}
    instances = packed("labelme-examples", "labelme", inside=f"{home}/instance_segmentation/data_annotated")
    exported = packed("labelme-examples", "coco", inside=f"{home}/instance_segmentation/data_dataset_coco")
    counted = Counter(thing.name for thing in instances.boxes() if not thing.crowd)
    assert counted == Counter(thing.name for thing in exported.boxes()), "the export leaves __ignore__ out"
    assert max(len(thing.outline) for thing in instances.boxes()) == 4, "several polygons of one sofa"
    primitives = packed("labelme-examples", "labelme", inside=f"{home}/primitives")
    assert [thing.name for thing in primitives.boxes()] == ["rectangle", "circle", "rectangle", "polygon", "octagon"]
    assert primitives.boxes()[4].box == (417, 305, 517, 405)
    assert [flaw.found for flaw in primitives.flaws] == [
        "a line has no area",
        "a point has no area",
        "a linestrip has no area",
    ]
    flags = packed("labelme-examples", "labelme", inside=f"{home}/classification")
    assert [item.annotation for item in flags.found.values()] == [{Target.LABEL: "cat"}, {Target.LABEL: "dog"}]
    for name in ("instance_segmentation", "semantic_segmentation"):
        masks = packed("labelme-examples", "voc", inside=f"{home}/{name}/data_dataset_voc")
        layers = [item.annotation[Target.MASK].layers[0] for item in masks.found.values()]
        assert len(layers) == 3 and all(layer.classes[15] == "person" for layer in layers)


KNOWN = {
    "coco": (
        *(
            "coco_dataset/coco",
            "coco_dataset/coco_image_info",
            "coco_dataset/coco_instances",
            "coco_dataset/coco_panoptic",
        ),
        *("coco_dataset/coco_person_keypoints", "coco_dataset/coco_roboflow", "coco_dataset/coco_stuff"),
        *("coco_dataset/mmdet_coco", "kaggle_dataset/relaxed_coco", "roboflow_dataset/coco"),
    ),
    "voc": (
        *("kaggle_dataset/relaxed_voc1", "kaggle_dataset/relaxed_voc2", "roboflow_dataset/voc"),
        *("voc_dataset/voc_dataset1", "voc_dataset/voc_dataset2", "voc_dataset/voc_dataset3"),
    ),
    "yolo": (
        *("kaggle_dataset/relaxed_yolo", "roboflow_dataset/yolo", "yolo_dataset/annotations", "yolo_dataset/labels"),
        "yolo_dataset/strict",
    ),
    "labelme": (),
}
"""Datumaro's fixtures that are of our formats."""


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("datumaro")
    with tarfile.open(DATA / "datumaro-assets/datumaro-assets.tar.gz") as archive:
        archive.extractall(path, filter="data")
    return path / "datumaro-assets/data/assets"


@needs_data
@pytest.mark.parametrize("form", FORMS)
def test_fixtures_of_many_formats(fixtures: Path, form: str):
    config = config_class("formats", form)
    for folder in sorted(path for path in fixtures.glob("**/") if len(path.relative_to(fixtures).parts) in (1, 2)):
        names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
        known = config.recognise(names, lambda name, folder=folder: (folder / name).read_bytes()[:65536])
        place = folder.relative_to(fixtures).as_posix()
        if place in KNOWN[form]:
            assert known and known.certainty >= 2, place
            got = Result(form, folder, **known.options)
            assert got.found or place == "voc_dataset/voc_dataset2", place  # its pictures are not there
            told = {
                *got.found,
                *got.left_out,
                *(name for name in names if name.endswith((".json", ".xml", ".txt", ".names", ".yaml", ".data"))),
            }
            kinds = ("panoptic", "SegmentationClass", "SegmentationObject")
            masks = {name for name in names if any(kind in name for kind in kinds)}
            assert set(names) <= told | masks, f"{place}: every file is told of"
        sound(form, folder)  # known or not, it does not crash


@needs_data
def test_fixtures_by_hand(fixtures: Path):
    stuff = Result("coco", fixtures / "coco_dataset/coco_stuff").found["images/train/a.jpg"]
    (thing,) = stuff.annotation[Target.OBJECTS].things
    assert (thing.name, thing.box, thing.crowd) == ("a", (2, 0, 6, 4), True)
    assert thing.outline == Runs(5, 10, (10, 10, 5, 10, 15))
    voc1 = Result("voc", fixtures / "voc_dataset/voc_dataset1")
    assert {name: item.split for name, item in voc1.found.items()} == {
        "JPEGImages/2007_000001.jpg": "train",
        "JPEGImages/2007_000002.jpg": "test",
    }
    assert voc1.things("JPEGImages/2007_000001.jpg") == (Thing("cat", (1, 2, 3, 4)), Thing("person", (4, 5, 6, 7)))
    strict = Result("yolo", fixtures / "yolo_dataset/strict")
    assert strict.found["obj_train_data/1.jpg"].split is None or strict.found["obj_train_data/1.jpg"].split == "train"
    assert [thing.name for thing in strict.things("obj_train_data/1.jpg")] == ["label_2", "label_4"]
    assert strict.things("obj_train_data/1.jpg")[0].box == pytest.approx((-5e-7, 0.2, 0.2666665, 0.4))
