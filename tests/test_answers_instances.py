"""Scores of objects by their pixels are pycocotools'; panoptic quality and what is said of each image are by hand."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from coco_reference import DATA, STATISTICS, evaluated
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from pipeline import masks, runs
from pipeline.answers.instances import InstanceAnswers
from pipeline.answers.objects import ObjectAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.formats._coco_outlines import unpacked
from pipeline.plugin import config_class, names

METRICS = [name for name in names("metrics") if Target.INSTANCES in config_class("metrics", name).takes]
COCO_NAMES = {
    "mask_map": "ap",
    "mask_map50": "ap50",
    "mask_map75": "ap75",
    "mask_map_small": "ap small",
    "mask_map_medium": "ap medium",
    "mask_map_large": "ap large",
}
WIDTH, HEIGHT = 120, 100


class Shapes(NamedTuple):
    """Of N images, as `InstanceAnswers` takes them."""

    classes: list[str]
    truth: tuple[list[np.ndarray], list[list[list[int]]]]
    found: tuple[list[np.ndarray], list[list[list[int]]]]
    sizes: list[tuple[int, int]]


def metric(name: str) -> MetricConfig:
    return config_class("metrics", name)()


def plain(name: str, answers: ObjectAnswers) -> float:
    return float(metric(name).score(answers, np.ones((1, len(answers))))[0])


# Against pycocotools


def random_shapes(seed: int, images: int = 8, classes: int = 3) -> Shapes:
    """Blots in all sizes, crowds, blots upon blots, equal scores; classes and images without objects."""
    random = np.random.default_rng(seed)
    truth: tuple[list[np.ndarray], list[list[list[int]]]] = ([], [])
    found: tuple[list[np.ndarray], list[list[list[int]]]] = ([], [])
    for _ in range(images):
        blots = [blot(random) for _ in range(random.integers(0, 7) * random.integers(0, 2))]
        labels = random.integers(0, max(1, classes - 1), len(blots))  # the last class has no objects
        truth[0].append(rows(blots, labels, random.random(len(blots)) < 0.2))
        truth[1].append([masks.runs_of(one) for one in blots])
        near = [moved(blots[place], random) for place in random.integers(0, max(1, len(blots)), 12 * bool(blots))]
        said = near + [blot(random) for _ in range(random.integers(0, 5))]
        said = [one for one in said if one.any()]
        scores = random.integers(0, 12, len(said)) / 11
        boxes = rows(said, scores, random.integers(0, classes, len(said)))
        boxes[:, :4] += random.normal(0, 1, (len(said), 4))  # what a network says of the box is another thing
        found[0].append(boxes)
        found[1].append([masks.runs_of(one) for one in said])
    return Shapes([f"class {k}" for k in range(classes)], truth, found, [(WIDTH, HEIGHT)] * images)


def blot(random: np.random.Generator) -> np.ndarray:
    """Some pixels in a box, all of them or with holes: bool [H, W]."""
    inside = np.zeros((HEIGHT, WIDTH), bool)
    x, y = random.integers(0, WIDTH - 4), random.integers(0, HEIGHT - 4)
    w, h = random.choice([2, 9, 31, 32, 33, 96, 200], 2)
    inside[y : y + h, x : x + w] = True
    if random.random() < 0.5:
        inside &= random.random(inside.shape) < 0.8
    return inside


def moved(inside: np.ndarray, random: np.random.Generator) -> np.ndarray:
    shifted = np.roll(inside, random.integers(-2, 3, 2), axis=(0, 1))
    return shifted & (random.random(inside.shape) < random.choice([1.0, 0.95, 0.6]))


def rows(insides: Sequence[np.ndarray], fifth: np.ndarray, sixth: np.ndarray) -> np.ndarray:
    boxes = np.array([masks.box_of(one) for one in insides], np.float64).reshape(-1, 4)
    return np.column_stack([boxes, fifth, sixth]).astype(np.float64)


def prepared(shapes: Shapes) -> tuple[COCO, COCO]:
    """Truth and detections as pycocotools wants them."""
    sides = []
    for (tables, pixels), is_truth in ((shapes.truth, True), (shapes.found, False)):
        side, entries = COCO(), []
        for image, (table, of_image) in enumerate(zip(tables, pixels, strict=True)):
            for row, lengths in zip(np.asarray(table).tolist(), of_image, strict=True):
                width, height = shapes.sizes[image]
                packed = coco_masks.frPyObjects({"size": [height, width], "counts": list(lengths)}, height, width)
                entry = {"image_id": image, "segmentation": packed, "area": float(coco_masks.area(packed))}
                about = {"category_id": int(row[4]), "iscrowd": int(row[5])} if is_truth else {}
                about |= {} if is_truth else {"category_id": int(row[5]), "iscrowd": 0, "score": row[4]}
                entries.append(entry | about | {"id": len(entries) + 1})
        side.dataset = {
            "images": [{"id": k, "width": w, "height": h} for k, (w, h) in enumerate(shapes.sizes)],
            "categories": [{"id": k, "name": name} for k, name in enumerate(shapes.classes)],
            "annotations": entries,
        }
        sides.append(side)
    return sides[0], sides[1]


def assert_coco(shapes: Shapes, capfd: pytest.CaptureFixture[str]) -> None:
    """All that pycocotools says is what we say, to nine decimals."""
    truth, found = prepared(shapes)
    truth.createIndex()
    found.createIndex()
    answers, (numbers, of_class) = InstanceAnswers(*shapes), evaluated(truth, found, "segm")
    capfd.readouterr()
    ones = np.ones((1, len(answers)))
    ours = {coco: plain(name, answers) for name, coco in COCO_NAMES.items()}
    recalls = {f"ar {most}": answers.average_recall(ones, "all", most) for most in (1, 10, 100)}
    recalls |= {f"ar {area}": answers.average_recall(ones, area) for area in ("small", "medium", "large")}
    ours |= {name: float(np.nanmean(one)) if not np.isnan(one).all() else float("nan") for name, one in recalls.items()}
    assert ours.keys() == set(STATISTICS)
    assert ours == pytest.approx(numbers, abs=1e-9, nan_ok=True)
    assert answers.average_precision(ones)[0].mean(axis=1) == pytest.approx(of_class, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("seed", range(12))
def test_scores_equal_pycocotools_on_random_sets(seed: int, capfd: pytest.CaptureFixture[str]):
    assert_coco(random_shapes(seed), capfd)


def panoptic_coco128() -> Shapes:
    """The things of coco128's panoptic masks, crowds among them, each found nearly, twice, or not at all."""
    random = np.random.default_rng(0)
    truth: tuple[list[np.ndarray], list[list[list[int]]]] = ([], [])
    found: tuple[list[np.ndarray], list[list[list[int]]]] = ([], [])
    sizes, home = [], "coco128/data/panoptic_segmentation/annotations"
    with tarfile.open(DATA / "coco128" / "coco128.tar.gz") as archive:
        told = json.load(archive.extractfile(f"{home}/panoptic_val2017.json"))
        kinds = [one["id"] for one in told["categories"] if one["isthing"]]
        for entry in told["annotations"]:
            data = archive.extractfile(f"{home}/panoptic_val2017/{entry['file_name']}").read()
            pixels = np.asarray(_picture(data)).astype(np.int64) @ [1, 256, 65536]
            things = [one for one in entry["segments_info"] if one["category_id"] in kinds]
            insides = [pixels == one["id"] for one in things]
            labels = np.array([kinds.index(one["category_id"]) for one in things])
            truth[0].append(rows(insides, labels, np.array([one["iscrowd"] for one in things])))
            truth[1].append([masks.runs_of(one) for one in insides])
            said = [np.roll(one, random.integers(-4, 5, 2), (0, 1)) for one in insides if random.random() < 0.9]
            told_labels = random.choice(labels, len(said)) if len(said) else np.zeros(0)
            told_labels = np.where(random.random(len(said)) < 0.5, told_labels, labels[: len(said)])
            found[0].append(rows(said, random.random(len(said)).round(2), told_labels))
            found[1].append([masks.runs_of(one) for one in said])
            sizes.append(pixels.shape[::-1])
    return Shapes([str(kind) for kind in kinds], truth, found, sizes)


def _picture(data: bytes):
    from PIL import Image

    return Image.open(io.BytesIO(data))


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_scores_equal_pycocotools_on_coco128(capfd: pytest.CaptureFixture[str]):
    shapes = panoptic_coco128()
    assert len(shapes.sizes) == 100 and sum(int(one[:, 5].sum()) for one in shapes.truth[0]) > 0
    assert_coco(shapes, capfd)


def test_every_score_by_pixels_is_held_against_pycocotools_or_counted_by_hand():
    by_hand = {"panoptic_quality", "recognition_quality", "segmentation_quality"}
    boxes = {name for name in METRICS if Target.OBJECTS in config_class("metrics", name).takes}
    assert set(METRICS) == by_hand | boxes | set(COCO_NAMES)
    assert boxes == {"map", "map50", "map75", "map_small", "map_medium", "map_large", "average_recall"}


def test_scores_of_boxes_are_those_of_the_boxes():
    shapes = random_shapes(3)
    answers, boxes = (
        InstanceAnswers(*shapes),
        ObjectAnswers(shapes.classes, shapes.truth[0], shapes.found[0], shapes.sizes),
    )
    assert plain("map", answers) == plain("map", boxes) != plain("mask_map", answers)
    assert plain("average_recall", answers) == plain("average_recall", boxes)


# Arithmetic of runs


def test_common_pixels_and_iou_are_those_of_masks(monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(0)
    insides = [blot(random) for _ in range(20)] + [np.zeros((HEIGHT, WIDTH), bool), np.ones((HEIGHT, WIDTH), bool)]
    held = runs.Insides.of([masks.runs_of(one) for one in insides], np.tile([WIDTH, HEIGHT], (22, 1)))
    one, other = np.divmod(np.arange(22 * 22), 22)
    common = [(insides[a] & insides[b]).sum() for a, b in zip(one, other, strict=True)]
    assert (held.common(one, held, other) == common).all()
    crowd = random.random(22) < 0.3
    encoded = [coco_masks.encode(np.asfortranarray(inside.astype(np.uint8))) for inside in insides]
    reference = coco_masks.iou(encoded, encoded, crowd.astype(np.uint8).tolist())
    assert (held.iou(one, held, other, crowd[other]).reshape(22, 22) == reference).all()
    least = held.iou(one, held, other, crowd[other], 0.5).reshape(22, 22)
    assert (np.where(least >= 0.5, least, 0) == np.where(reference >= 0.5, reference, 0)).all()
    monkeypatch.setattr(runs, "PORTION", 7)
    assert (held.common(one, held, other) == common).all()
    assert held.areas.tolist() == [inside.sum() for inside in insides]
    assert [tuple(box) for box in held.boxes] == [masks.box_of(inside) or (0, 0, 0, 0) for inside in insides]


def test_runs_that_do_not_fill_their_picture_are_refused():
    with pytest.raises(ValueError, match="runs that fill 4 x 3 pixels, found 11"):
        runs.Insides.of([[5, 6]], np.array([[4, 3]]))
    with pytest.raises(ValueError, match="runs that fill 4 x 3 pixels, found 0"):
        runs.Insides.of([[12], []], np.array([[4, 3], [4, 3]]))
    assert runs.tidy([0, 0, 3, 2, 0, 4, 3, 0], 4, 3).tolist() == [3, 6, 3]
    assert runs.tidy([0, 12], 4, 3).tolist() == [0, 12] and runs.tidy([12], 4, 3).tolist() == [12]


def test_compressed_text_of_pycocotools_is_understood():
    inside = blot(np.random.default_rng(5))
    packed = coco_masks.encode(np.asfortranarray(inside.astype(np.uint8)))
    assert unpacked(packed["counts"].decode()) == masks.runs_of(inside)


# By hand: pictures of 20 x 10, the classes RBC and WBC, objects that are rectangles


def rectangle(x: int, y: int, w: int, h: int) -> list[int]:
    inside = np.zeros((10, 20), bool)
    inside[y : y + h, x : x + w] = True
    return masks.runs_of(inside)


def blood(truth: list[list[tuple]], found: list[list[tuple]], threshold: float | None = None) -> InstanceAnswers:
    """Each object as x, y, w, h, class, crowd or x, y, w, h, score, class."""
    sides = [
        (
            [np.array([[x, y, x + w, y + h, *rest] for x, y, w, h, *rest in of], float).reshape(-1, 6) for of in side],
            [[rectangle(*one[:4]) for one in of] for of in side],
        )
        for side in (truth, found)
    ]
    return InstanceAnswers(["RBC", "WBC"], sides[0], sides[1], [(20, 10)] * len(truth), threshold)


RBC, WBC = 0, 1
HAND = blood(
    [
        [(0, 0, 4, 4, RBC, 0), (10, 0, 4, 4, RBC, 0), (0, 6, 4, 4, WBC, 0)],
        [(0, 0, 10, 10, RBC, 1)],
        [],
    ],
    [
        [(0, 0, 4, 3, 0.9, RBC), (1, 0, 4, 4, 0.8, RBC), (0, 6, 4, 4, 0.7, RBC)],
        [(0, 0, 4, 4, 0.6, RBC), (8, 0, 4, 4, 0.5, WBC)],
        [],
    ],
    threshold=0.5,
)


def test_panoptic_quality_by_hand():
    # RBC: the first is right with 12/16. Of the second, 16 pixels, the first has taken 9: 7 are left, which share 4
    # with the object: wrong. The third is a WBC: wrong. One cell is missed. A box within the crowd is not counted.
    sums = HAND.panoptic.summed(np.ones((1, 3)))
    assert [part[0].tolist() for part in sums] == [[0.75, 0], [1, 0], [2, 1], [1, 1]]
    # PQ: 0.75 / (1 + 2/2 + 1/2), and 0 of WBC, of which one is missed and one wrong: half of it is in a crowd, of RBC
    assert plain("panoptic_quality", HAND) == pytest.approx((0.75 / 2.5 + 0) / 2)
    assert plain("segmentation_quality", HAND) == pytest.approx(0.75 / 2)
    assert plain("recognition_quality", HAND) == pytest.approx(1 / 2.5 / 2)
    # The second image alone: RBC is neither there nor said, a WBC is said.
    alone = metric("panoptic_quality").score(HAND, np.array([[0, 1, 0], [0, 0, 1], [2, 0, 0]], float))
    assert alone == pytest.approx([0, np.nan, 0.75 / 2.5 / 2], nan_ok=True)


def test_of_true_objects_that_overlap_the_smaller_has_the_pixels():
    # 16 of 40 pixels are another cell's: 24 are left, of which all are found.
    answers = blood(
        [[(0, 0, 10, 4, RBC, 0), (2, 0, 4, 4, RBC, 0)]],
        [[(2, 0, 4, 4, 0.9, RBC), (0, 0, 10, 4, 0.8, RBC)]],
        threshold=0.5,
    )
    assert plain("panoptic_quality", answers) == 1
    covered = blood([[(0, 0, 4, 4, RBC, 0)]], [[(0, 0, 4, 4, 0.9, RBC), (1, 1, 2, 2, 0.8, RBC)]], threshold=0.5)
    assert plain("panoptic_quality", covered) == 1  # the second has no pixel left: it is none
    assert np.isnan(plain("panoptic_quality", blood([[]], [[]])))


def test_a_box_around_other_pixels_is_not_right():
    # The boxes are the same, the pixels are not.
    ring, inner = np.ones((10, 10), bool), np.zeros((10, 10), bool)
    ring[2:8, 2:8], inner[2:8, 2:8] = False, True
    inner[[0, 9], [0, 9]] = True
    truth = [np.array([[0, 0, 10, 10, 0, 0.0]])], [[masks.runs_of(ring)]]
    found = [np.array([[0, 0, 10, 10, 0.9, 0]])], [[masks.runs_of(inner)]]
    answers = InstanceAnswers(["a"], truth, found, [(10, 10)])
    assert plain("map", answers) == pytest.approx(1) and plain("mask_map", answers) == 0
    assert answers.quality.tolist() == [0] and answers.confusion().counts.tolist() == [[0, 1], [1, 0]]


def test_quality_confusion_table_and_losses_are_by_pixels():
    # At an IoU of 0.5: right is the first (12/16); the second shares 12/20 with it, but it is taken; the third: a WBC.
    assert HAND.quality == pytest.approx([2 / (2 + 2 + 2), 0, 1])
    assert HAND.confusion().counts.tolist() == [[1, 0, 1], [1, 0, 0], [1, 1, 0]]
    assert HAND.losses == pytest.approx([2 + 0.8 + 0.7, 0.5, 0])
    table = HAND.class_table()
    assert table.header == ("class", "objects", "precision", "recall", "ap50", "ap75", "ap")
    ap50 = 51 / 101  # half of two cells, the surest
    assert table.rows[0] == (
        "RBC",
        2,
        1 / 3,
        1 / 2,
        pytest.approx(ap50),
        pytest.approx(ap50),
        pytest.approx(ap50 * 0.6),
    )
    assert HAND.curves()[0].title == "Precision over recall"


def test_marks_hold_the_pixels():
    said, true = HAND.said(1), HAND.true(0)
    assert said.words == "1 WBC" and [box.faint for box in said.boxes] == [True, False]
    assert list(said.boxes[0].inside.lengths) == rectangle(0, 0, 4, 4)
    assert (true.boxes[2].inside.width, true.boxes[2].inside.height) == (20, 10)
    assert list(true.boxes[2].inside.lengths) == rectangle(0, 6, 4, 4)


def test_difference_is_by_pixels_or_scores():
    other = blood(
        [[], [], []],
        [
            [(0, 0, 4, 4, 0.9, RBC), (1, 0, 4, 4, 0.8, RBC), (0, 6, 4, 4, 0.6, RBC)],
            [(0, 0, 4, 4, 0.6, RBC)],
            [(0, 0, 1, 1, 0.25, WBC)],
        ],
    )
    assert HAND.difference(other) == pytest.approx([0.25, 0.5, 0.25])
    assert (HAND.difference(HAND) == 0).all()
    with pytest.raises(ValueError, match="3 and to 1 images"):
        HAND.difference(HAND.at([0]))


# To a file and back


def written(answers: InstanceAnswers) -> pa.Table:
    out = io.BytesIO()
    pq.write_table(pa.table(answers.columns()), out)
    return pq.read_table(io.BytesIO(out.getvalue()))


def test_what_is_said_is_read_again_exactly():
    answers = InstanceAnswers(*random_shapes(1))
    again = answers.again(written(answers))
    assert (again.found.rows == answers.found.rows).all() and (again.difference(answers) == 0).all()
    assert (again.found_insides.lengths == answers.found_insides.lengths).all()
    assert (again.found_insides.starts == answers.found_insides.starts).all()
    part = answers.at([5, 2])
    twice = part.again(written(answers).take([5, 2]))
    assert (twice.found_insides.lengths == part.found_insides.lengths).all()
    assert plain("mask_map", twice) == pytest.approx(plain("mask_map", part), nan_ok=True)
    item = next(cell for cell in written(answers).column("objects").to_pylist() if cell)
    assert item[0].keys() == {"box", "score", "label", "runs"}
    assert len(blood([[]], [[]]).again(written(blood([[]], [[]]))).found.rows) == 0


def test_a_table_of_something_else_is_refused():
    answers = blood([[]], [[(0, 0, 4, 4, 0.9, RBC)]])
    boxes = ObjectAnswers(["RBC", "WBC"], [[]], answers.found, [(20, 10)])
    with pytest.raises(
        ValueError, match="expected objects of 2 classes for 1 images, found objects of another kind|missing"
    ):
        answers.again(pa.table(boxes.columns()))
    larger = InstanceAnswers(["RBC", "WBC"], ([[]], [[]]), ([[]], [[]]), [(30, 10)])
    with pytest.raises(ValueError, match="runs that fill 30 x 10 pixels, found 200"):
        larger.again(pa.table(answers.columns()))
    with pytest.raises(ValueError, match="the pixels of 1 objects, found those of 0"):
        InstanceAnswers(["a"], ([[]], [[]]), ([np.zeros((1, 6))], [[]]), [(9, 9)])


def test_a_given_threshold_stays_for_what_is_read_and_a_found_one_does_not():
    found = [[(0, 0, 4, 4, 0.9, RBC), (8, 0, 4, 4, 0.4, RBC)]]
    truth = [[(0, 0, 4, 4, RBC, 0), (8, 0, 4, 4, RBC, 0)]]
    given, open_ = blood(truth, found, threshold=0.7), blood(truth, found)
    assert given.threshold == 0.7 and open_.threshold == 0.4
    less = pa.table(blood(truth, [[(0, 0, 4, 4, 0.2, RBC)]]).columns())
    assert given.at([0]).again(less).threshold == 0.7 and open_.at([0]).again(less).threshold == 0.2
    assert given.said(0).words == "1 RBC" and open_.said(0).words == "2 RBC"


@pytest.mark.parametrize("name", METRICS)
def test_whole_numbers_weigh_like_repeated_images(name: str):
    shapes, random = random_shapes(7), np.random.default_rng(7)
    for table in shapes.found[0]:
        table[:, 4] = random.choice(60, len(table), replace=False) / 60
    answers = InstanceAnswers(*shapes, threshold=0.3)
    counts = random.integers(4, size=(4, len(answers)))
    repeated = [plain(name, answers.at(np.repeat(np.arange(len(answers)), row))) for row in counts]
    assert metric(name).score(answers, counts.astype(float)) == pytest.approx(repeated, abs=1e-12, nan_ok=True)
