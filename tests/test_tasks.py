"""Every file in pipeline/tasks/ meets one contract; each task in detail, by hand."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import boxes, masks
from pipeline.annotations import Canvas, Drawn, Objects, Thing
from pipeline.contracts import AnnotationRules, Frame, Output, Target, TaskConfig, Views
from pipeline.errors import UserError
from pipeline.frames import views
from pipeline.plugin import config_class, names
from pipeline.tasks import object_detection, semantic_segmentation
from pipeline.tasks._names import natural
from pipeline.tasks.classification import Config
from pipeline.tasks.object_detection import Config as Detection
from pipeline.tasks.semantic_segmentation import Config as Segmentation

OF_OTHERS = "default::pytest.PytestUnraisableExceptionWarning"
"""A socket that a test before left open is told while this one runs, and is no warning of what it is about."""

TASK = Config()


@pytest.mark.parametrize("name", names("tasks"))
def test_says_what_it_learns_and_its_score_is_a_metric_of_that(name: str):
    task = config_class("tasks", name)()
    assert isinstance(task, TaskConfig)
    assert isinstance(task.learns, Target) and all(isinstance(output, Output) for output in task.needs)
    assert task.reads and task.needs
    assert task.learns in config_class("metrics", task.score).takes


def test_classes_come_in_natural_order_once_each():
    found = TASK.classes(iter(["10", "2", "cat", "dog 10", "dog 9", "2", "007", "7", "Ähre"]))
    assert found == ["2", "007", "7", "10", "cat", "dog 9", "dog 10", "Ähre"]


@given(st.lists(st.text(alphabet="0129a-²٣ ", max_size=6), min_size=2, unique=True))
def test_order_of_classes_does_not_depend_on_the_order_of_files(found: list[str]):
    classes = TASK.classes(found)
    assert sorted(classes) == sorted(found)
    assert TASK.classes(reversed(found)) == classes


def test_numbers_of_any_length_compare():
    assert natural("9" * 5000) < natural("1" + "0" * 5000)
    assert natural("x" + "9" * 5000) < natural("x1" + "0" * 5000)


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ([], "Classification needs images of two classes or more; the source has 0 (none)."),
        (["cat", "cat"], "Classification needs images of two classes or more; the source has 1 ('cat')."),
    ],
)
def test_fewer_than_two_classes_are_refused(annotations: list[str], words: str):
    with pytest.raises(UserError) as error:
        TASK.classes(annotations)
    assert words in str(error.value)
    assert "Add images of another class" in str(error.value)


def test_label_is_the_position_of_the_class_and_the_stratum_its_name():
    assert TASK.columns("dog", ["cat", "dog"]) == {"label": 1}
    assert TASK.stratum("dog") == "dog"


@pytest.mark.filterwarnings("error", OF_OTHERS)
def test_told_is_the_softmax_at_any_scale():
    outputs = np.array([[0, np.log(3)], [1e30, -1e30], [-3e38, -3e38]], np.float32)
    told = np.stack(TASK.told(outputs, whole(3)))
    assert told.dtype == np.float64
    assert told == pytest.approx(np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]]), abs=1e-7)


def test_a_picture_in_tiles_is_told_by_their_mean():
    outputs = np.log(np.array([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]], np.float32))
    seen = Views(np.array([0, 0, 1]), np.zeros((3, 4)), np.array([[8, 4], [4, 4]]), 4)
    assert np.stack(TASK.told(outputs, seen)) == pytest.approx(np.array([[0.4, 0.6], [0.5, 0.5]]), abs=1e-7)


def test_a_blind_answer_is_the_shares_of_the_training_images():
    train = FakeSplit(classes=["a", "b", "c"], labels=np.array([1, 1, 0, 1]))
    blind = TASK.blind(train, FakeSplit(classes=["a", "b", "c"], labels=np.array([2, 0])))
    assert blind.probabilities.tolist() == [[0.25, 0.75, 0], [0.25, 0.75, 0]]
    assert blind.labels.tolist() == [2, 0]


def test_a_told_class_in_words_and_in_plain_values():
    told = np.array([0.125, 0.625, 0.25])
    assert TASK.marks(told, ["a", "b", "c"]).words == "b 62.5%, c 25.0%, a 12.5%"
    plain = TASK.plain(told, ["a", "b", "c"])
    assert (plain["label"], plain["probability"]) == ("b", 0.625)
    assert list(plain["probabilities"].items()) == [("b", 0.625), ("c", 0.25), ("a", 0.125)]


class FakeSplit:
    """What a task asks of a split, without one on disk."""

    def __init__(
        self,
        classes: list[str],
        labels: Any = None,
        objects: Any = None,
        masks: Any = None,
        sizes: Any = None,
        counts: Any = None,
    ) -> None:
        self.classes, self.labels = classes, labels
        self._objects, self._masks = objects, masks
        self.sizes = None if sizes is None else np.array(sizes)
        self.dataset = SimpleNamespace(info=SimpleNamespace(counts={"train": counts}))

    def __len__(self) -> int:
        return len(self.labels if self.labels is not None else self.sizes)

    def objects(self, position: int) -> np.ndarray:
        return self._objects[position]

    def mask(self, position: int) -> bytes:
        return self._masks[position]


def whole(count: int) -> Views:
    return Views(np.arange(count), np.zeros((count, 4)), np.full((count, 2), 4), 4)


# Object detection

DETECTION = Detection()
RULES = AnnotationRules()


def thing(*box: float, name: str = "cell", **more: Any) -> Thing:
    return Thing(name, box, **more)  # type: ignore[arg-type]


def test_a_good_box_stays_as_it_is_to_the_last_digit():
    objects = Objects((thing(0.1, 0.2, 10, 8), thing(3, 3, 4, 4, crowd=True)), "a.xml", said_size=(10, 8))
    settled = DETECTION.settle(objects, 10, 8, RULES)
    assert settled.problems == () and settled.annotation == objects


@pytest.mark.parametrize(
    ("box", "kind", "words"),
    [
        ((5, 3, 5, 3), "bad_box", "the box 5,3,5,3 has no area"),
        ((5, 3, 2, 8), "bad_box", "the box 5,3,2,8 is inverted"),
        ((0, 0, float("nan"), 4), "bad_box", "the box 0,0,nan,4 is not finite"),
        ((-2, 1, 4, 4), "outside", "the box -2,1,4,4 reaches beyond the picture of 10 x 8"),
        ((12, 1, 14, 4), "outside", "the box 12,1,14,4 lies outside of the picture of 10 x 8"),
    ],
)
def test_a_bad_box_is_named_with_its_place(box: Any, kind: str, words: str):
    objects = Objects((thing(1, 1, 2, 2), thing(*box, place="object 2 (cell)")), "a.xml")
    settled = DETECTION.settle(objects, 10, 8, RULES)
    ((flaw, done),) = settled.problems
    assert (flaw.kind, flaw.source, flaw.place, flaw.found) == (kind, "a.xml", "object 2 (cell)", words)
    assert done == ("clip" if "beyond" in words else "drop")
    kept = [one.box for one in settled.annotation.things]
    assert kept == [(1, 1, 2, 2), (0, 1, 4, 4)] if done == "clip" else kept == [(1, 1, 2, 2)]


def test_rules_reject_the_picture_or_stop():
    objects = Objects((thing(-2, 1, 4, 4),), "a.xml")
    for rule in ("reject", "stop"):
        settled = DETECTION.settle(objects, 10, 8, AnnotationRules(outside=rule))
        assert settled.problems[0][1] == rule
        assert (settled.annotation is None) == (rule == "reject")


def test_a_size_that_is_not_the_pictures_is_said():
    settled = DETECTION.settle(Objects((), "a.xml", said_size=(8, 10)), 10, 8, RULES)
    assert settled.annotation is None
    assert settled.problems[0][0].found == "it says 8 x 10; the picture is 10 x 8"


def test_shares_of_the_picture_become_pixels():
    objects = Objects((thing(0.25, 0.5, 0.75, 1.0, outline=((0.25, 0.5, 0.75, 0.5, 0.5, 1.0),)),), relative=True)
    (one,) = DETECTION.settle(objects, 40, 20, RULES).annotation.things
    assert one.box == (10, 10, 30, 20)
    assert one.outline == ((10, 10, 30, 10, 20, 20),)


def test_columns_hold_what_the_source_said():
    objects = Objects((thing(1, 2, 3, 4, name="b"), thing(5, 6, 7, 8, outline=((5, 6, 7, 6, 7, 8),))))
    (first, second) = DETECTION.columns(objects, ["a", "b", "cell"])["objects"]
    assert first == {"label": 1, "x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0, "crowd": False, "outline": None}
    assert second["label"] == 2 and second["outline"] == [[5.0, 6.0, 7.0, 6.0, 7.0, 8.0]]
    assert DETECTION.tally(Objects((thing(1, 2, 3, 4), thing(1, 2, 3, 4, crowd=True)))) == {"cell": 1}


def test_boxes_go_back_into_the_picture_and_are_cut_there():
    seen = views(Frame.model_validate("pad"), np.array([[200, 100]]), 50)
    outputs = np.array([[[10, 5, 20, 15, 0.9, 1], [40, 20, 60, 40, 0.8, 0], [0, 0, 0, 0, 0, 0]]], np.float32)
    (told,) = DETECTION.told(outputs, seen)
    assert told.tolist() == [[40, 20, 80, 60, pytest.approx(0.9), 1], [160, 80, 200, 100, pytest.approx(0.8), 0]]


def test_an_object_on_the_seam_of_two_tiles_is_told_once():
    frame = Frame.model_validate({"name": "tiles", "tile": 60, "overlap": 0.3})
    seen = views(frame, np.array([[100, 60]]), 60)
    assert seen.regions[:, 0].tolist() == [0, 40]
    outputs = np.zeros((2, 2, 6), np.float32)
    outputs[0, 0] = [42, 10, 60, 30, 0.7, 0]  # x 42..60 of the picture, cut by the end of the tile
    outputs[1, 0] = [2, 10, 25, 30, 0.9, 0]  # x 42..65: the same object
    outputs[1, 1] = [2, 10, 25, 30, 0.6, 1]  # of another class
    (told,) = DETECTION.told(outputs, seen)
    assert told[:, [0, 2, 5]].tolist() == [[42, 65, 0], [42, 65, 1]]


@pytest.mark.parametrize("wide", [40, 90, 130, 220, 260, 330])
def test_an_object_of_any_width_on_a_seam_is_told_once_and_its_neighbour_too(wide: int):
    seen = views(Frame.model_validate({"name": "tiles", "tile": 256}), np.array([[420, 256]]), 256)
    assert seen.regions[:, 0].tolist() == [0, 164]
    for left in range(0, 420 - wide, 5):
        outputs = np.zeros((2, 2, 6), np.float32)
        for tile, (start, end) in enumerate(seen.regions[:, [0, 2]].tolist()):
            for row, (begin, stop) in enumerate([(left, left + wide), (left + wide, 420)]):
                shown = max(begin, start) - start, min(stop, end) - start
                if shown[1] - shown[0] > 8:
                    outputs[tile, row] = [shown[0], 50, shown[1], 120, 0.9 - 0.1 * tile, 0]
        assert len(DETECTION.told(outputs, seen)[0]) == (2 if left + wide < 412 else 1)


def told_by_tiles(tiles: int, each: int, side: float, seed: int = 0) -> list[np.ndarray]:
    """Boxes of two classes of what several tiles say of a picture of this side, many at one place."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(tiles):
        corners = random.integers(0, int(side), (each, 2)) * 1.0
        sides, scores = random.integers(5, 25, (each, 2)), random.integers(1, 9, each) / 9
        found.append(np.column_stack([corners, corners + sides, scores, random.integers(0, 2, each)]))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_of_objects_in_tiles_those_are_left_that_comparing_all_with_all_leaves(seed: int, monkeypatch):
    monkeypatch.setattr(boxes, "PORTION", 50)
    found = told_by_tiles(5, 30, side=70, seed=seed)
    rows, tile = np.concatenate(found), np.repeat(np.arange(5), 30)
    order = np.argsort(-rows[:, 4], kind="stable")
    rows, tile = rows[order], tile[order]
    common, areas = boxes.intersection(rows[:, :4], rows[:, :4]), boxes.area(rows[:, :4])
    left: list[int] = []
    for place in range(len(rows)):
        others = [one for one in left if rows[one, 5] == rows[place, 5] and tile[one] != tile[place]]
        if not any(common[one, place] > 0.6 * min(areas[one], areas[place]) for one in others):
            left.append(place)
    assert 20 < len(left) < 140
    assert object_detection._joined(found, [np.array([0.0, 0, 100, 100])] * 5).tolist() == rows[left].tolist()


def test_thousands_of_objects_in_tiles_are_not_compared_all_with_all():
    found = told_by_tiles(200, 30, side=4000)
    tracemalloc.start()
    assert len(object_detection._joined(found, [np.array([0.0, 0, 5000, 5000])] * 200)) > 5000
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert highest < 50e6  # a matrix of all with all takes 288 MB, and there were several


def test_a_blind_detector_puts_training_boxes_everywhere():
    train = FakeSplit(
        ["a", "b"],
        objects=[np.array([[0, 0, 5, 10, 0, 0.0], [5, 5, 10, 10, 0, 0], [0, 0, 1, 1, 0, 1]])],
        sizes=[(10, 10)],
    )
    test = FakeSplit(["a", "b"], objects=[np.zeros((0, 6))], sizes=[(20, 40)])
    told = DETECTION.blind(train, test).said(0)
    assert sorted(box.box for box in told.boxes) == [(0, 0, 10, 40), (10, 20, 20, 40)]


# Semantic segmentation

SEGMENTATION = Segmentation()


def test_outlines_become_pixels_and_later_ones_lie_on_top():
    objects = Objects(
        (
            thing(0, 0, 4, 4, name="b", outline=((0, 0, 4, 0, 4, 4, 0, 4),)),
            thing(1, 1, 3, 3, name="a", outline=((1, 1, 3, 1, 3, 3, 1, 3),)),
        )
    )
    settled = SEGMENTATION.settle(Drawn(objects), 5, 4, RULES)
    canvas = settled.annotation
    assert canvas.names == ("a", "b", "background")
    assert masks.decode(canvas.mask).tolist() == [[1, 1, 1, 1, 2], [1, 0, 0, 1, 2], [1, 0, 0, 1, 2], [1, 1, 1, 1, 2]]
    assert SEGMENTATION.tally(canvas) == {"a": 4, "b": 12, "background": 4}
    assert masks.decode(SEGMENTATION.settle(Drawn(objects, None), 5, 4, RULES).annotation.mask)[0, 4] == 255


def test_pixels_of_what_is_no_class_are_void():
    left, right = ((x, 0, x + 2, 0, x + 2, 2, x, 2) for x in (0, 2))
    things = thing(0, 0, 2, 2, name="a", outline=(left,)), thing(2, 0, 4, 2, name="?", outline=(right,))
    canvas = SEGMENTATION.settle(Drawn(Objects(things), "b", frozenset({"?"})), 5, 2, RULES).annotation
    assert canvas.names == ("a", "b")
    assert masks.decode(canvas.mask).tolist() == [[0, 0, 255, 255, 1]] * 2


def test_a_box_within_the_rounding_of_its_file_is_within_its_picture():
    over = Objects((thing(-0.009, 0, 10.009, 8), thing(0, 0, 10.011, 8)), "a.txt")
    settled = DETECTION.settle(over, 10, 8, RULES)
    assert [flaw.found for flaw, _ in settled.problems] == ["the box 0,0,10.011,8 reaches beyond the picture of 10 x 8"]
    assert [one.box for one in settled.annotation.things] == [(-0.009, 0, 10.009, 8), (0, 0, 10, 8)]


def test_a_mask_of_another_size_is_left_out_with_both_sizes():
    canvas = Canvas(("a",), 5, 4, "0" * 64, b"", {"a": 20}, source="m.png")
    settled = SEGMENTATION.settle(canvas, 4, 5, RULES)
    assert settled.annotation is None
    assert settled.problems[0][0][1:] == ("m.png", "", "a mask of 5 x 4; the picture is 4 x 5")


def test_each_pixel_is_told_by_the_view_that_shows_it_best():
    frame = Frame.model_validate({"name": "tiles", "tile": 4, "overlap": 0.5})
    seen = views(frame, np.array([[6, 4]]), 4)
    outputs = np.zeros((2, 2, 4, 4), np.float32)
    outputs[0, 0], outputs[1, 1] = 1, 1  # the left tile says class 0 everywhere, the right one class 1
    (told,) = SEGMENTATION.told(outputs, seen)
    assert masks.decode(told.mask).tolist() == [[0, 0, 0, 1, 1, 1]] * 4
    assert told.confidence == pytest.approx(1 / (1 + np.exp(-1)))


def test_maps_of_a_padded_picture_are_enlarged_between_the_centres():
    seen = views(Frame.model_validate("pad"), np.array([[8, 4]]), 4)
    outputs = np.zeros((1, 2, 4, 4), np.float32)
    outputs[0, 1, :, 2:] = 1
    outputs[0, 0, :, :2] = 1
    (told,) = SEGMENTATION.told(outputs, seen)
    assert masks.decode(told.mask).tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 4


@pytest.mark.parametrize("said", ["crop", "stretch", {"name": "tiles", "tile": 20, "overlap": 0.3}])
def test_a_picture_is_told_band_by_band_as_it_is_at_once(said: Any, monkeypatch: pytest.MonkeyPatch):
    seen = views(Frame.model_validate(said), np.array([[53, 31], [9, 40]]), 16)
    outputs = np.random.default_rng(0).normal(size=(len(seen.images), 3, 16, 16)).astype(np.float32)
    whole = SEGMENTATION.told(outputs, seen)
    monkeypatch.setattr(semantic_segmentation, "AT_ONCE", 400)
    assert SEGMENTATION.told(outputs, seen) == whole


def test_many_classes_of_a_large_picture_need_little_memory():
    seen = views(Frame.model_validate("stretch"), np.array([[2000, 1500]]), 32)
    outputs = np.zeros((1, 30, 32, 32), np.float32)
    tracemalloc.start()
    (told,) = SEGMENTATION.told(outputs, seen)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert masks.size(told.mask) == (2000, 1500)
    assert highest < 120e6  # a number for each pixel and class takes 360 MB


def test_a_blind_answer_is_the_most_frequent_class():
    train = FakeSplit(["a", "b"], sizes=[(1, 1)], counts={"a": 1, "b": 3})
    truth = masks.encode(np.array([[0, 1], [1, 1]], np.uint8))
    blind = SEGMENTATION.blind(train, FakeSplit(["a", "b"], masks=[truth], sizes=[(2, 2)]))
    assert blind.confidence.tolist() == [0.75]
    assert blind.said(0).mask.tolist() == [[1, 1], [1, 1]]
