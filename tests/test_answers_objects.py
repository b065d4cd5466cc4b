"""Scores of objects are pycocotools', plain and resampled; what answers say of each image is by hand."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from coco_reference import DATA, REAL, Boxes, evaluated, many_classes, prepared, random_boxes

from pipeline.answers.objects import ObjectAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.plugin import config_class, names

OF_OTHERS = "default::pytest.PytestUnraisableExceptionWarning"
"""A socket that a test before left open is told while this one runs, and is no warning of what it is about."""

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
METRICS = [name for name in names("metrics") if Target.OBJECTS in config_class("metrics", name).takes]
COCO_NAMES = {
    "map": "ap",
    "map50": "ap50",
    "map75": "ap75",
    "map_small": "ap small",
    "map_medium": "ap medium",
    "map_large": "ap large",
    "average_recall": "ar 100",
}


def metric(name: str) -> MetricConfig:
    return config_class("metrics", name)()


def plain(name: str, answers: ObjectAnswers) -> float:
    return float(metric(name).score(answers, np.ones((1, len(answers))))[0])


def mean(of_class: np.ndarray) -> float:
    return float(np.nanmean(of_class)) if not np.isnan(of_class).all() else np.nan


def assert_coco(boxes: Boxes) -> None:
    """All that pycocotools says is what we say, to nine decimals."""
    answers, (numbers, of_class) = ObjectAnswers(*boxes), evaluated(*prepared(boxes))
    ones = np.ones((1, len(answers)))
    ours = {coco: plain(name, answers) for name, coco in COCO_NAMES.items()}
    ours |= {f"ar {most}": mean(answers.average_recall(ones, "all", most)) for most in (1, 10, 100)}
    ours |= {f"ar {area}": mean(answers.average_recall(ones, area)) for area in ("small", "medium", "large")}
    assert ours == pytest.approx(numbers, abs=1e-9, nan_ok=True)
    assert answers.average_precision(ones)[0].mean(axis=1) == pytest.approx(of_class, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("start", range(0, 150, 10))
def test_scores_equal_pycocotools_on_random_sets(start: int):
    for seed in range(start, start + 10):
        assert_coco(random_boxes(seed, crowded=seed % 10 == 0))


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("name", REAL)
def test_scores_equal_pycocotools_on_real_sets(name: str):
    boxes = REAL[name]()
    assert sum(map(len, boxes.truth)) == {"bccd-voc": 4888, "lunar-craters-coco": 6779}[name]
    assert_coco(boxes)


def test_scores_equal_pycocotools_on_many_classes():
    assert_coco(many_classes(60))


def test_every_score_of_objects_is_held_against_pycocotools():
    assert sorted(COCO_NAMES) == METRICS
    assert all(metric(name).title and metric(name).higher_is_better and type(metric(name)).__doc__ for name in METRICS)


# Resampled

LETTERS = "abcdefghijklmnopqrst"


def untied(seed: int) -> Boxes:
    """Scores that are equal in two images, but never twice in one."""
    boxes, random = random_boxes(seed, images=15), np.random.default_rng(seed)
    for rows in boxes.found:
        rows[:, 4] = random.choice(60, size=len(rows), replace=False) / 60
    return boxes


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", METRICS)
def test_whole_numbers_weigh_like_repeated_images(name: str, seed: int):
    boxes = untied(seed)
    counts = np.random.default_rng(seed).integers(4, size=(8, len(boxes.truth)))
    again = [np.repeat(np.arange(len(boxes.truth)), row) for row in counts]
    answers = ObjectAnswers(*boxes)
    repeated = [
        plain(name, ObjectAnswers(boxes.classes, *([part[i] for i in row] for part in boxes[1:]))) for row in again
    ]
    weighted = metric(name).score(answers, counts.astype(float))
    assert weighted == pytest.approx(repeated, abs=1e-12, nan_ok=True)
    assert [plain(name, answers.at(row)) for row in again] == pytest.approx(repeated, abs=1e-12, nan_ok=True)
    assert metric(name).score(answers, counts[:3] / 8) == pytest.approx(weighted[:3], abs=1e-12, nan_ok=True)


def test_portions_of_resamples_change_nothing(monkeypatch: pytest.MonkeyPatch):
    answers = ObjectAnswers(*untied(5))
    weights = np.random.default_rng(0).integers(3, size=(70, len(answers))).astype(float)
    whole = metric("map").score(answers, weights)
    monkeypatch.setattr("pipeline.answers._curves.PORTION", 1)
    assert (metric("map").score(answers, weights) == whole).all()
    monkeypatch.setattr("pipeline.answers._pairs.PORTION", 7)
    assert (metric("map").score(ObjectAnswers(*untied(5)), weights) == whole).all()


@pytest.mark.parametrize("name", METRICS)
def test_perfect_is_1_under_any_weights_and_nothing_is_0(name: str):
    truth = [rows for rows in many_classes(40, 3).truth if len(rows)]
    for rows in truth:
        rows[:, 5] = 0
    random = np.random.default_rng(1)
    found = [np.column_stack([rows[:, :4], random.random(len(rows)), rows[:, 4]]) for rows in truth]
    weights = random.gamma(1.0, size=(5, len(truth)))  # their sums depend on the order
    sizes = [(640, 640)] * len(truth)
    assert metric(name).score(ObjectAnswers(LETTERS, truth, found, sizes), weights) == pytest.approx(np.ones(5))
    silent = ObjectAnswers(LETTERS, truth, [np.zeros((0, 6))] * len(truth), sizes)
    assert (metric(name).score(silent, weights) == 0).all()


@pytest.mark.filterwarnings("error", OF_OTHERS)
@pytest.mark.parametrize("name", METRICS)
def test_without_weight_or_objects_it_is_undefined(name: str):
    answers = ObjectAnswers(*untied(0))
    assert np.isnan(metric(name).score(answers, np.zeros((2, len(answers))))).all()
    assert np.isnan(metric(name).score(answers.at([]), np.ones((2, 0)))).all()
    nothing = ObjectAnswers("ab", [np.zeros((0, 6))], [np.array([[0, 0, 9, 9, 0.5, 1]])], [(9, 9)])
    assert np.isnan(metric(name).score(nothing, np.ones((2, 1)))).all()


# By hand: pictures of 100 x 100, the classes RBC and WBC.


def box(x: float, y: float, *rest: float, side: float = 10) -> list[float]:
    return [x, y, x + side, y + side, *rest]


def blood(truth: list[list[list[float]]], found: list[list[list[float]]]) -> ObjectAnswers:
    arrays = [[np.array(rows, np.float64).reshape(-1, 6) for rows in side] for side in (truth, found)]
    return ObjectAnswers(["RBC", "WBC"], *arrays, [(100, 100)] * len(truth))


RBC, WBC = 0, 1
HAND = blood(
    truth=[
        [box(0, 0, RBC, 0), box(20, 0, RBC, 0), box(40, 0, WBC, 0)],
        [box(0, 0, WBC, 0), box(50, 50, RBC, 1, side=40)],
        [],
        [],
    ],
    found=[
        [box(0, 0, 0.9, RBC), box(1, 0, 0.8, RBC), box(40, 0, 0.7, RBC), box(20, 0, 0.2, RBC)],
        [box(1, 0, 0.6, WBC), box(55, 55, 0.75, RBC)],
        [],
        [box(0, 0, 0.1, WBC)],
    ],
)


def test_the_threshold_has_the_highest_f1():
    # down to 0.9: 1 of 1 right, F1 2/5; 0.8: 1 of 2; the crowd does not count; 0.7: 1 of 3; 0.6: 2 of 4, F1 4/8;
    # 0.2: 3 of 5, F1 6/9; 0.1: 3 of 6, F1 6/10
    assert HAND.threshold == 0.2
    assert blood([[box(0, 0, RBC, 0)]], [[]]).threshold == 1
    # Boxes that score alike go together: 0.5 is 1 of 3 right, not its first box alone.
    alike = [box(0, 0, 0.5, RBC), box(90, 0, 0.5, RBC), box(90, 9, 0.5, RBC), box(50, 0, 0.3, RBC)]
    assert blood([[box(0, 0, RBC, 0), box(50, 0, RBC, 0)]], [alike]).threshold == 0.3
    assert blood([[]], [[box(0, 0, 0.3, RBC), box(9, 9, 0.2, RBC)]]).threshold == 0.3


def test_quality_is_the_f1_of_each_image():
    assert HAND.quality == pytest.approx([2 * 2 / (4 + 3), 1, 1, 1])
    present, quality = HAND.by_class
    assert present.tolist() == [[True, True], [False, True], [False, False], [False, False]]
    assert quality[:2] == pytest.approx(np.array([[4 / 6, 0], [1, 1]]))


def test_losses_count_what_is_missed_and_what_is_false_by_its_score():
    assert HAND.losses == pytest.approx([1 + 0.8 + 0.7, 0, 0, 0])
    assert HAND.worst(5) == [0]


def test_confidence_is_the_mean_score_of_what_is_said():
    assert HAND.confidence == pytest.approx([(0.9 + 0.8 + 0.7 + 0.2) / 4, (0.6 + 0.75) / 2, 1, 1 - 0.1])


def test_marks_say_how_many_of_each():
    assert [HAND.true(k).words for k in range(3)] == ["2 RBC, 1 WBC", "1 WBC", "nothing"]
    assert [HAND.said(k).words for k in (0, 1, 3)] == ["4 RBC", "1 WBC", "nothing"]
    assert [(m.name, m.score, m.faint) for m in HAND.said(1).boxes] == [("RBC", 0.75, True), ("WBC", 0.6, False)]
    crowd = HAND.true(1).boxes[1]
    assert crowd == ((50, 50, 90, 90), "RBC", None, True, None)
    assert list(HAND.said(0).classes) == ["RBC", "WBC"]


def test_confusion_by_hand():
    # Image 0: of the two boxes on the first cell the better one is right, the other background; a WBC is called RBC.
    confusion = HAND.confusion()
    assert list(confusion.names) == ["RBC", "WBC", "background"] and confusion.unit == "objects"
    assert confusion.counts.tolist() == [[2, 0, 0], [1, 1, 0], [1, 0, 0]]
    missed = blood([[box(0, 0, RBC, 0), box(50, 0, WBC, 0)]], [[box(0, 0, 0.9, RBC)]]).confusion()
    assert missed.counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_of_equal_overlaps_the_right_class_is_the_partner():
    counts = blood([[box(0, 0, RBC, 0)]], [[box(0, 0, 0.9, WBC), box(0, 0, 0.8, RBC)]]).confusion().counts
    assert counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_the_table_by_hand():
    table = HAND.class_table()
    assert table.header == ("class", "objects", "precision", "recall", "ap50", "ap75", "ap")
    # RBC: right, wrong, wrong, right: precision 1 up to a recall of a half, then 2/4: 51 and 50 of 101 recalls
    ap = (51 + 50 * 0.5) / 101
    assert table.rows[0] == ("RBC", 2, 2 / 4, 1.0, pytest.approx(ap), pytest.approx(ap), pytest.approx(ap))
    # WBC: one of two found, with an IoU of 90/110 = 0.82: at 7 of the 10 overlaps
    half = 51 / 101
    assert table.rows[1] == ("WBC", 2, 1.0, 1 / 2, pytest.approx(half), pytest.approx(half), pytest.approx(half * 0.7))
    unused = blood([[box(0, 0, RBC, 0)]], [[]]).class_table().rows
    assert unused[0][2:] == (pytest.approx(np.nan, nan_ok=True), 0.0, 0.0, 0.0, 0.0)
    assert unused[1][:2] == ("WBC", 0) and np.isnan(unused[1][2:]).all()


def test_curves_show_the_mean_and_the_largest_classes():
    (curve,) = HAND.curves()
    series = dict(curve.series)
    assert list(series) == ["Mean over the classes", "RBC", "WBC"]
    assert series["RBC"][50] == (0.5, 1) and series["RBC"][51] == (0.51, 0.5)
    assert series["Mean over the classes"][100] == (1, pytest.approx(0.25))
    assert "RBC 100.0%" in curve.summary
    assert blood([[]], [[]]).curves() == []
    many = ObjectAnswers(*many_classes(60))
    (curve,) = many.curves()
    assert len(curve.series) == 7
    mean_ap50 = np.mean([precision for _, precision in curve.series[0][1]])
    assert mean_ap50 == pytest.approx(plain("map50", many))


def test_a_part_keeps_the_threshold_of_the_whole():
    part = HAND.at(np.array([3, 0]))
    assert len(part) == 2 and part.threshold == HAND.threshold and part.sizes.tolist() == [[100, 100]] * 2
    assert part.quality == pytest.approx(HAND.quality[[3, 0]]) and part.losses == pytest.approx(HAND.losses[[3, 0]])
    assert part.said(1) == HAND.said(0) and part.true(1) == HAND.true(0)
    assert len(HAND.at([])) == 0 and HAND.at([-1]).said(0) == HAND.said(3)


# How far apart


def test_difference_by_hand():
    other = blood(
        [[], [], [], []],
        [
            [box(0, 0, 0.9, RBC), box(1, 0, 0.8, RBC), box(40, 0, 0.65, RBC), box(20, 0, 0.2, RBC)],
            [box(0, 0, 0.6, WBC), box(55, 55, 0.75, RBC)],
            [],
            [box(0, 0, 0.1, RBC)],
        ],
    )
    assert HAND.difference(other) == pytest.approx([0.05, 1 - 90 / 110, 0, 0.1])
    assert other.difference(HAND) == pytest.approx(HAND.difference(other))
    with pytest.raises(ValueError, match="4 and to 1 images"):
        HAND.difference(HAND.at([0]))


def test_equal_answers_do_not_differ_even_of_boxes_without_area_or_twice_the_same():
    twice = [[box(5, 5, 0.9, RBC, side=0), box(0, 0, 0.9, RBC), box(0, 0, 0.8, RBC), box(0, 0, 0.8, RBC)]]
    assert blood([[]], twice).difference(blood([[]], twice)).tolist() == [0]
    answers = ObjectAnswers(*random_boxes(0))
    assert (answers.difference(ObjectAnswers(*random_boxes(0))) == 0).all()


@pytest.mark.filterwarnings("error", OF_OTHERS)
def test_a_network_that_says_nan_or_inf_is_scored_and_never_shown():
    nan, inf = np.nan, np.inf
    broken = blood(
        [[box(0, 0, RBC, 0)], [box(0, 0, RBC, 0)]],
        [[box(0, 0, 0.9, RBC), box(0, 0, nan, RBC)], [[nan, 0, 10, 10, 0.8, RBC], [-inf, -inf, inf, inf, 0.1, RBC]]],
    )
    assert plain("map50", broken) == pytest.approx(51 / 101)
    assert broken.threshold == 0.9 and broken.said(0).words == "1 RBC" and broken.said(1).words == "nothing"
    assert np.isfinite(np.concatenate([broken.losses, broken.quality, broken.confidence])).all()
    assert np.isnan(broken.difference(broken)).all()
    assert broken.confusion().counts.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]


# To a file and back


def written(columns: dict[str, pa.Array]) -> pa.Table:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return pq.read_table(io.BytesIO(out.getvalue()))


def test_what_is_said_is_read_again_exactly():
    boxes = random_boxes(1)
    answers = ObjectAnswers(*boxes)
    again = answers.again(written(answers.columns()))
    assert (again.found.rows == answers.found.rows).all() and (again.found.starts == answers.found.starts).all()
    assert again.truth is answers.truth and (again.difference(answers) == 0).all()
    last = answers.again(written(answers.columns()).slice(0, len(answers)))
    assert (last.found.rows == answers.found.rows).all()
    part = answers.at(range(4, 9)).again(written(answers.columns()).slice(4, 5))
    assert (part.found.rows == answers.at(range(4, 9)).found.rows).all()
    empty = blood([[]], [[]])
    assert len(empty.again(written(empty.columns())).found.rows) == 0
    item = written(answers.columns()).column("objects").to_pylist()
    assert next(cell for cell in item if cell)[0].keys() == {"box", "score", "label"}


def test_a_table_of_something_else_is_refused():
    answers = blood([[], []], [[box(0, 0, 0.5, WBC)], []])
    table = pa.table(answers.columns())
    with pytest.raises(ValueError, match="boxes of 2 classes for 2 images, found 2 rows of label"):
        answers.again(table.rename_columns(["label"]))
    with pytest.raises(ValueError, match="found 1 rows of objects"):
        answers.again(table.slice(0, 1))
    with pytest.raises(ValueError, match="found the class 'WBC'; these are cat, dog"):
        _of(["cat", "dog"]).again(table)
    for strange in (pa.array([[0.1], []]), pa.array(["a", "b"]), pa.array([[{"box": [1.0, 2.0]}], []])):
        with pytest.raises(ValueError, match="boxes of 2 classes for 2 images"):
            answers.again(pa.table({"objects": strange}))
    holes = [[{"box": [0.0, 0.0, 1.0, None], "score": 0.5, "label": "WBC"}], []]
    with pytest.raises(ValueError, match="found some that are missing"):
        answers.again(pa.table({"objects": holes}))


def _of(classes: list[str]) -> ObjectAnswers:
    return ObjectAnswers(classes, [np.zeros((0, 6))] * 2, [np.zeros((0, 6))] * 2, [(100, 100)] * 2)


def test_answers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="1 images have a truth, 2 an answer, 1 a size"):
        ObjectAnswers(["a"], [[]], [[], []], [(1, 1)])
    with pytest.raises(ValueError, match=r"class ids in 0..0, found 7"):
        ObjectAnswers(["a"], [np.array([[0, 0, 1, 1, 7, 0]])], [[]], [(1, 1)])
    with pytest.raises(ValueError, match=r"image 0: rows of 6 numbers are needed, not \(1, 5\)"):
        ObjectAnswers(["a"], [np.zeros((1, 5))], [[]], [(1, 1)])
