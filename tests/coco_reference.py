"""pycocotools' verdict, and sets of boxes to hold it against ours: made up, and real ones with made-up detections."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

DATA = Path(__file__).parents[2] / "shared" / "data"
STATISTICS = (
    *("ap", "ap50", "ap75", "ap small", "ap medium", "ap large"),
    *("ar 1", "ar 10", "ar 100", "ar small", "ar medium", "ar large"),
)
"""What pycocotools prints, in its order."""


class Boxes(NamedTuple):
    """Of N images, as `ObjectAnswers` takes them."""

    classes: list[str]
    truth: list[np.ndarray]
    found: list[np.ndarray]
    sizes: list[tuple[int, int]]


def prepared(boxes: Boxes) -> tuple[COCO, COCO]:
    """Truth and detections as pycocotools wants them."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        images = [{"id": k, "width": w, "height": h} for k, (w, h) in enumerate(boxes.sizes)]
        categories = [{"id": k, "name": name} for k, name in enumerate(boxes.classes)]
        for side, rows in ((truth, boxes.truth), (found, boxes.found)):
            side.dataset = {"images": images, "categories": categories, "annotations": []}
            for image, row in ((k, row) for k, part in enumerate(rows) for row in np.asarray(part).tolist()):
                x1, y1, x2, y2, *rest = row
                entry = {"image_id": image, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
                if side is truth:
                    entry |= {"category_id": int(rest[0]), "iscrowd": int(rest[1])}
                else:
                    entry |= {"category_id": int(rest[1]), "iscrowd": 0, "score": rest[0]}
                # Ids start at 1: pycocotools takes a match with object 0 for none.
                side.dataset["annotations"].append(entry | {"id": len(side.dataset["annotations"]) + 1})
            side.createIndex()
    return truth, found


def evaluated(truth: COCO, found: COCO, kind: str = "bbox") -> tuple[dict[str, float], np.ndarray]:
    """pycocotools' twelve numbers, and the average precision of each class [K]; nan where it says -1."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    of_class = evaluation.eval["precision"][:, :, :, 0, 2].mean(axis=(0, 1))
    numbers = {name: float(number) for name, number in zip(STATISTICS, evaluation.stats, strict=True)}
    return {name: np.nan if n == -1 else n for name, n in numbers.items()}, np.where(of_class == -1, np.nan, of_class)


def random_boxes(seed: int, images: int = 12, classes: int = 4, crowded: bool = False) -> Boxes:
    """What is easily got wrong: crowds, equal scores, images and classes without objects or detections, areas at the
    borders of the ranges, objects upon objects, boxes without area, more detections than count.

    Coordinates are multiples of 1/8, so that widths are exact, and equal overlaps and areas are equal.
    """
    random = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(images):
        objects = random.integers(0, 9) * random.integers(0, 2)
        corners = np.floor(random.random((objects, 2)) * 800) / 8
        sides = random.choice([4, 8, 16, 32, 48, 96, 128.125], size=(objects, 2))
        boxes = np.concatenate([corners, corners + sides], axis=1)
        labels = random.integers(0, max(1, classes - 1), size=objects)  # the last class has no objects
        truth.append(np.column_stack([boxes, labels, random.random(objects) < 0.15]))
        near = boxes[random.integers(0, max(objects, 1), size=(objects and random.integers(0, 30))).astype(int)]
        near = near + random.integers(-3, 4, size=near.shape) * random.choice([0, 0.125, 1, 4], size=(len(near), 1))
        near[:, 2:] = np.maximum(near[:, :2], near[:, 2:])
        far = np.floor(random.random((130 if crowded else random.integers(0, 6), 4)) * 400) / 8
        far[:, 2:] += far[:, :2]
        boxes = np.concatenate([near, far])
        told = random.integers(0, classes - 1 if random.random() < 0.5 else classes, size=len(boxes))
        told[random.random(len(told)) < 0.5] = 0
        scores = random.integers(0, 12, size=len(boxes)) / 11
        found.append(np.column_stack([boxes, scores, told]))
    return Boxes([f"class {k}" for k in range(classes)], truth, found, [(256, 256)] * images)


def jittered(classes: list[str], truth: list[np.ndarray], sizes: list[tuple[int, int]], seed: int = 0) -> Boxes:
    """Made-up detections of real objects: most of them nearly in place, some twice, some of another class, some of
    nothing at all."""
    random = np.random.default_rng(seed)
    found = []
    for rows, (width, height) in zip(truth, sizes, strict=True):
        rows = rows[random.random(len(rows)) < 0.9]
        rows = np.concatenate([rows, rows[random.random(len(rows)) < 0.3]])
        sides = np.tile(rows[:, 2:4] - rows[:, :2], 2)
        boxes = rows[:, :4] + random.normal(0, 0.06, (len(rows), 4)) * sides
        labels = np.where(random.random(len(rows)) < 0.9, rows[:, 4], random.integers(0, len(classes), len(rows)))
        corners = random.random((20, 2)) * [width, height]
        strange = np.concatenate([corners, corners + 5 + random.random((20, 2)) * 60], axis=1)
        boxes = np.concatenate([boxes, strange])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
        labels = np.append(labels, random.integers(0, len(classes), 20))
        scores = np.append(random.beta(5, 2, len(rows)), random.beta(1, 4, 20)).round(3)
        found.append(np.column_stack([boxes, scores, labels]))
    return Boxes(classes, truth, found, sizes)


def blood_cells() -> Boxes:
    """bccd-voc: 364 images, three classes; the two boxes without area are among them."""
    classes, truth, sizes = ["Platelets", "RBC", "WBC"], [], []
    with tarfile.open(DATA / "bccd-voc" / "bccd-voc.tar.gz") as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if "/Annotations/" in member.name and member.name.endswith(".xml"):
                tree = ElementTree.parse(archive.extractfile(member))  # our own test data
                rows = [
                    [float(thing.findtext(f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")]
                    + [classes.index(thing.findtext("name")), 0]
                    for thing in tree.iter("object")
                ]
                truth.append(np.array(rows, np.float64).reshape(-1, 6))
                sizes.append((int(tree.findtext("size/width")), int(tree.findtext("size/height"))))
    return jittered(classes, truth, sizes)


def craters() -> Boxes:
    """lunar-craters-coco: 300 images, one class and an empty one."""
    truth, sizes = [], []
    with tarfile.open(DATA / "lunar-craters-coco" / "lunar-craters-coco.tar.gz") as archive:
        for split in ("test", "valid"):
            told = json.load(archive.extractfile(f"lunar-craters-coco/data/{split}/_annotations.coco.json"))
            for image in told["images"]:
                mine = [entry for entry in told["annotations"] if entry["image_id"] == image["id"]]
                rows = [
                    [x, y, x + w, y + h, e["category_id"], e["iscrowd"]] for e in mine for x, y, w, h in [e["bbox"]]
                ]
                truth.append(np.array(rows, np.float64).reshape(-1, 6))
                sizes.append((image["width"], image["height"]))
    return jittered(["craters", "crater"], truth, sizes)


def many_classes(images: int = 500, classes: int = 20, seed: int = 0) -> Boxes:
    """As a trained detector would answer: 500 images of 20 classes, some ten objects in each."""
    random = np.random.default_rng(seed)
    truth = []
    for _ in range(images):
        count = random.integers(0, 21)
        corners = random.random((count, 2)) * 500
        boxes = np.concatenate([corners, corners + np.exp(random.normal(4, 0.8, (count, 2)))], axis=1)
        truth.append(np.column_stack([boxes, random.integers(0, classes, count), random.random(count) < 0.02]))
    return jittered([f"class {k}" for k in range(classes)], truth, [(640, 640)] * images, seed)


REAL: dict[str, Callable[[], Boxes]] = {"bccd-voc": blood_cells, "lunar-craters-coco": craters}
