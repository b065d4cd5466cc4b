"""Named points: the task, what is said of them beside the truth, and their scores, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from torch import nn

from pipeline.annotations import FlawKind, Place, Points
from pipeline.answers.points import PointAnswers
from pipeline.contracts import AnnotationRules, Frame, Output, Target
from pipeline.errors import UserError
from pipeline.frames import views
from pipeline.plugin import config_class, names
from pipeline.tasks._mirrors import IBUG68, partner
from pipeline.tasks._placing import Placing
from pipeline.tasks.keypoints import Config

TASK, RULES = Config(), AnnotationRules()
NAN = float("nan")
METRICS = [name for name in names("metrics") if Target.POINTS in config_class("metrics", name).takes]


def points(**places: tuple[float, float] | None) -> Points:
    return Points({name: place and Place(*place) for name, place in places.items()}, "a.csv", "line 2")


# --- what a source says


def test_a_place_in_the_picture_stays_as_it_is_and_one_that_is_no_number_is_unknown() -> None:
    said = points(nose=(3.25, 0), chin=(10, 8), brow=(NAN, 2), ear=(float("inf"), 1), lip=None)
    settled = TASK.settle(said, 10, 8, RULES)
    assert settled.problems == ()
    assert settled.annotation.places == {"nose": (3.25, 0), "chin": (10, 8), "brow": None, "ear": None, "lip": None}
    assert TASK.tally(settled.annotation) == {"nose": 1, "chin": 1}


def test_shares_of_a_picture_are_made_pixels() -> None:
    said = Points({"nose": Place(0.25, 0.5), "chin": None}, relative=True)
    assert TASK.settle(said, 10, 8, RULES).annotation.places == {"nose": (2.5, 4), "chin": None}


@pytest.mark.parametrize(
    ("place", "rule", "kept", "done"),
    [
        ((-2, 4), "clip", (-2, 4), "keep"),
        ((12.5, 4), "clip", (12.5, 4), "keep"),
        ((13, 4), "clip", None, "drop"),
        ((5, 10.5), "clip", None, "drop"),
        ((-2, 4), "drop", None, "drop"),
        ((-2, 4), "stop", (-2, 4), "stop"),
    ],
)
def test_a_point_outside_of_its_picture(place: Any, rule: Any, kept: Any, done: str) -> None:
    settled = TASK.settle(points(nose=place, chin=(1, 1)), 10, 8, AnnotationRules(outside=rule))
    assert settled.annotation.places["nose"] == kept
    ((flaw, what),) = settled.problems
    assert (flaw.kind, flaw.place, what) == (FlawKind.OUTSIDE, "line 2, nose", done)
    assert flaw.found == f"the point {place[0]:g},{place[1]:g} lies outside of the 10 x 8 picture"


def test_a_picture_is_left_out_that_is_rejected_or_without_a_known_point() -> None:
    assert TASK.settle(points(nose=(-2, 4)), 10, 8, AnnotationRules(outside="reject")).annotation is None
    settled = TASK.settle(points(nose=None), 10, 8, RULES)
    assert settled.annotation is None
    ((flaw, done),) = settled.problems
    assert (flaw.kind, flaw.found, done) == (FlawKind.NO_ANNOTATION, "no point of it is known", "reject")
    assert TASK.settle(points(nose=None), 10, 8, AnnotationRules(no_annotation="keep")).annotation is None


def test_classes_are_the_names_in_natural_order_and_columns_follow_them() -> None:
    assert TASK.classes({"10", "9", "0"}) == ["0", "9", "10"]
    told = TASK.columns(points(b=(1, 2), a=None), ["a", "b", "c"])
    assert told == {"points": [None, {"x": 1.0, "y": 2.0}, None]}
    with pytest.raises(UserError, match="Keypoints needs points; the source names none in any usable picture"):
        TASK.classes([])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mirror": {"left": "rigth"}}, "task.mirror: the source has no point named 'rigth'. Did you mean 'right'?"),
        ({"normalise": ["left", "nose"]}, "task.normalise: the source has no point named 'nose'"),
        ({"mirror": "ibug68"}, "task.mirror: ibug68 is about 68 points in their order, and the source has 2."),
    ],
)
def test_options_that_do_not_fit_the_source(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        Config(**options).classes(["left", "right"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mirror": {"a": "b", "b": "c"}}, "'b' is paired with 'a' and with 'c'; a mirror makes one point of it"),
        ({"mirror": {"a": "c", "b": "c"}}, "'c' is paired with 'a' and with 'b'; a mirror makes one point of it"),
        ({"normalise": ["a", "a"]}, "expected two points, which lie apart; found 'a' twice"),
    ],
)
def test_options_that_contradict_themselves(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Config.model_validate(options)


def test_names_that_are_numbers_need_no_quotes() -> None:
    assert Config.model_validate({"normalise": [36, 45]}).normalise == ("36", "45")
    assert Config.model_validate({"mirror": {0: 16}}).mirror == {"0": "16"}
    with pytest.raises(ValidationError):
        Config.model_validate({"normalise": [36]})


def test_copies_of_a_picture_have_points_in_common_or_contradict_each_other() -> None:
    assert TASK.joined([points(a=(1, 2)), points(a=(1, 2))]) == points(a=(1, 2))
    assert TASK.joined([points(a=(1, 2)), points(a=(1, 3))]) is None


# --- mirrors


@pytest.mark.parametrize(
    ("found", "pairs"),
    [
        (("left_eye", "nose", "right_eye"), {"left_eye": "right_eye", "right_eye": "left_eye"}),
        (("eye_L", "eye_R", "chin"), {"eye_L": "eye_R", "eye_R": "eye_L"}),
        (("LeftEye", "RightEye"), {"LeftEye": "RightEye", "RightEye": "LeftEye"}),
        (("l.hip", "r.hip", "pelvis"), {"l.hip": "r.hip", "r.hip": "l.hip"}),
        (("left_eye", "nose"), {}),
        (("0", "1"), {}),
        (("ear", "lobe", "real"), {}),
    ],
)
def test_names_say_what_is_left(found: tuple[str, ...], pairs: dict[str, str]) -> None:
    assert partner(found) == pairs


def test_the_68_points_of_a_face_are_mirrored_as_300w_has_them() -> None:
    assert len(IBUG68) == 68 and sorted(IBUG68) == list(range(68))
    assert [IBUG68[IBUG68[place]] for place in range(68)] == list(range(68))
    pairs = {
        0: 16,
        7: 9,
        17: 26,
        21: 22,
        31: 35,
        36: 45,
        39: 42,
        37: 44,
        40: 47,
        41: 46,
        48: 54,
        59: 55,
        60: 64,
        67: 65,
    }
    assert {place: IBUG68[place] for place in pairs} == pairs
    stay = [place for place in range(68) if IBUG68[place] == place]
    assert stay == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]


@pytest.mark.parametrize(
    ("mirror", "mirrored"),
    [
        ("names", [1, 0, 2]),
        ("none", [0, 1, 2]),
        ({"nose": "right_eye"}, [0, 2, 1]),
        ({"nose": "right_eye", "right_eye": "nose", "left_eye": "left_eye"}, [0, 2, 1]),
    ],
)
def test_about_tells_partners(mirror: Any, mirrored: list[int]) -> None:
    assert Config(mirror=mirror).about([], ["left_eye", "right_eye", "nose"]) == {"mirrored": mirrored}


def test_where_names_say_nothing_nobody_has_said_it() -> None:
    assert TASK.about([], ["0", "1"]) == {}
    assert Config(mirror="ibug68").about([], [str(n) for n in range(68)]) == {"mirrored": list(IBUG68)}


# --- what a network says


def test_a_network_has_two_numbers_for_a_point_or_the_point() -> None:
    info = SimpleNamespace(classes=["a", "b", "c"])
    assert TASK.outputs(info, Output.VECTOR) == 6
    assert TASK.outputs(info, Output.POINTS) == 3
    net = config_class("models", "heatmap")(width=4, features=4, depth=2).build(3, 3, 16)
    assert TASK.answering(net, info) is net
    assert isinstance(TASK.answering(nn.Identity(), info), Placing)


def test_told_is_in_pixels_of_the_picture() -> None:
    seen = views(Frame(name="stretch"), np.array([[20, 10], [8, 8]]), 16)
    outputs = np.array([[[8, 8, 0.5]], [[4, 12, 1]]], np.float32)
    first, second = TASK.told(outputs, seen)
    assert first.tolist() == [[10, 5, 0.5]] and second.tolist() == [[2, 6, 1]]
    assert first.dtype == np.float64 and outputs[0, 0, 0] == 8


def test_of_several_tiles_each_point_is_told_by_the_surest() -> None:
    seen = views(Frame(name="tiles", tile=8, overlap=0), np.array([[16, 8], [8, 8]]), 16)
    assert len(seen.images) == 3
    outputs = np.array([[[2, 4, 0.9], [2, 2, 0.1]], [[6, 4, 0.3], [4, 2, 0.8]], [[1, 1, 0.2], [3, 3, 0.2]]])
    first, second = TASK.told(outputs.astype(np.float32), seen)
    assert first == pytest.approx(np.array([[1, 2, 0.9], [8 + 2, 1, 0.8]]))
    assert second == pytest.approx(np.array([[0.5, 0.5, 0.2], [1.5, 1.5, 0.2]]))


def split(truth: list[Any], sizes: list[Any]) -> Any:
    places = np.array(truth, np.float64)
    return FakeSplit([f"p{number}" for number in range(places.shape[1])], places, np.array(sizes))


class FakeSplit:
    """What the task asks of a split, without one on disk."""

    def __init__(self, classes: list[str], places: np.ndarray, sizes: np.ndarray) -> None:
        self.classes, self.points, self.sizes = classes, places, sizes

    def __len__(self) -> int:
        return len(self.points)


def test_a_blind_answer_is_the_mean_place_as_shares_of_the_picture() -> None:
    train = split([[[5, 5], [0, 8]], [[10, 5], [NAN, NAN]]], [[10, 10], [40, 10]])
    blind = TASK.blind(train, split([[[0, 0], [0, 0]]], [[100, 20]]))
    assert blind.told.tolist() == [[[37.5, 10, 1], [0, 16, 0.5]]]


def test_a_told_picture_in_words_points_and_plain_values() -> None:
    told = np.array([[1.0, 2.0, 0.5], [NAN, 3.0, 0.25]])
    marks = TASK.marks(told, ["nose", "chin"])
    assert marks.words == "1 point" and marks.points == [(1.0, 2.0, "nose")]
    plain = TASK.plain(told[:1], ["nose"])
    assert plain == {"points": {"nose": [1.0, 2.0, 0.5]}}
    true = TASK.truth({"points": [{"x": 4.0, "y": 5.0}, None]}, None, ["nose", "chin"])
    assert true.points == [(4.0, 5.0, "nose")]


# --- answers and scores, by hand
# Of the first image the box of true points is 8 x 2, so a distance counts in quarters; the second has one point: its
# picture is 20 x 5, tenths; the third has none.
TRUTH = np.array([[[0, 0], [8, 2]], [[4, 4], [NAN, NAN]], [[NAN, NAN], [NAN, NAN]]])
TOLD = np.array([[[0, 0.3, 0.9], [8, 3, 0.5]], [[4, 5.5, 1], [0, 0, 0]], [[1, 1, 0.1], [2, 2, 0.3]]])
SIZES = np.array([[20, 10], [20, 5], [4, 4]])


def answers(normalise: Any = "box") -> PointAnswers:
    return PointAnswers(["a", "b"], TRUTH, TOLD, SIZES, normalise)


def test_distances_are_shares_of_the_box_of_the_picture_or_of_the_distance_of_two_points() -> None:
    assert answers().scales.tolist() == [4, 10, 4]
    assert answers("picture").scales == pytest.approx([200**0.5, 10, 4])
    assert answers((0, 1)).scales == pytest.approx([68**0.5, 10, 4])  # where one is not known, as for box


def test_errors_by_hand() -> None:
    errors = answers().errors
    assert errors[0] == pytest.approx([0.075, 0.25]) and errors[1, 0] == pytest.approx(0.15)
    assert np.isnan(errors[1, 1]) and np.isnan(errors[2]).all()
    assert answers().mean_errors[:2] == pytest.approx([0.1625, 0.15]) and np.isnan(answers().mean_errors[2])
    assert answers().quality.tolist() == [0.5, 0, 1] and answers().graded
    assert answers().losses == pytest.approx([0.1625, 0.15, 0])
    assert answers().confidence == pytest.approx([0.7, 0.5, 0.2])
    present, right = answers().by_class
    assert present.tolist() == [[True, True], [True, False], [False, False]]
    assert right.tolist() == [[1, 0], [0, 0], [0, 0]]
    assert answers().worst(3) == [0, 1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("normalised_mean_error", [(0.1625 + 0.15) / 2, (2 * 0.1625 + 0.15) / 3, NAN]),
        ("correct_keypoints", [1 / 3, 2 / 5, NAN]),
        ("correct_keypoints_05", [0, 0, NAN]),
        ("failure_rate", [1, 1, NAN]),
    ],
)
def test_scores_by_hand(name: str, expected: list[float]) -> None:
    weights = np.array([[1.0, 1, 1], [2, 1, 7], [0, 0, 3]])
    assert config_class("metrics", name)().score(answers(), weights) == pytest.approx(expected, nan_ok=True)


def many(images: int = 30, seed: int = 0) -> PointAnswers:
    random = np.random.default_rng(seed)
    truth = random.uniform(0, 50, (images, 4, 2))
    truth[random.random((images, 4)) < 0.2] = NAN
    near = np.nan_to_num(truth) + random.normal(0, 4, truth.shape)
    told = np.concatenate([near, random.random((images, 4, 1))], axis=2)
    return PointAnswers(list("abcd"), truth, told, np.full((images, 2), 50))


@pytest.mark.parametrize("name", METRICS)
def test_whole_numbers_weigh_like_repeated_images(name: str) -> None:
    metric, found = config_class("metrics", name)(), many()
    counts = np.random.default_rng(3).integers(4, size=(5, len(found)))
    repeated = []
    for row in counts:
        again = found.at(np.repeat(np.arange(len(found)), row))
        repeated.append(metric.score(again, np.ones((1, len(again))))[0])
    assert metric.score(found, counts.astype(float)) == pytest.approx(repeated, abs=1e-12)
    assert metric.title and isinstance(metric.higher_is_better, bool)


@pytest.mark.parametrize("name", METRICS)
def test_the_truth_itself_scores_best_and_nothing_scores_nothing(name: str) -> None:
    metric, found = config_class("metrics", name)(), many()
    perfect = PointAnswers(found.classes, found.truth, np.nan_to_num(found.told), found.sizes)
    perfect.told[:, :, :2] = np.nan_to_num(found.truth)
    best, own = (metric.score(one, np.ones((1, 30)))[0] for one in (perfect, found))
    assert best == (1 if metric.higher_is_better else 0)
    assert best > own if metric.higher_is_better else best < own
    assert np.isnan(metric.score(found, np.zeros((2, 30)))).all()
    assert np.isnan(metric.score(found.at([]), np.ones((1, 0)))).all()


def test_answers_that_are_no_numbers_are_as_bad_as_can_be_and_finite() -> None:
    told = TOLD.copy()
    told[0, 0] = NAN
    told[0, 1, 0] = np.inf
    bad = PointAnswers(["a", "b"], TRUTH, told, SIZES)
    assert np.isfinite(bad.losses).all() and bad.quality[0] == 0 and np.isfinite(bad.confidence).all()
    assert np.isnan(bad.difference(answers())[0]) and bad.confusion().counts.sum() == 3


def test_columns_come_back_as_they_were() -> None:
    table = pa.table(answers().columns())
    again = answers().again(table)
    assert (again.told == TOLD).all() and again.normalise == "box"
    assert again.difference(answers()).tolist() == [0, 0, 0]
    assert len(answers().at([1])) == 1 and answers().at(np.array([1])).told.tolist() == TOLD[1:2].tolist()
    for wrong in (table.slice(1), pa.table({"places": [[1.0, 2, 3]] * 3}), pa.table({"x": [1, 2, 3]})):
        with pytest.raises(ValueError, match="expected places of 2 points for 3 images"):
            answers().again(wrong)


def test_a_difference_is_the_mean_distance_as_a_share_of_the_picture_or_of_scores() -> None:
    told = TOLD.copy()
    told[1, 0, :2] += (3, 4)
    told[2, 1, 2] += 0.4
    assert PointAnswers(["a", "b"], TRUTH, told, SIZES).difference(answers()) == pytest.approx([0, 2.5 / 10, 0.2])


def test_confusion_is_the_known_point_that_is_nearest_to_what_is_said() -> None:
    told = TOLD.copy()
    told[0, 1, :2] = (1, 1)  # b is said to be where a is
    matrix = PointAnswers(["a", "b"], TRUTH, told, SIZES).confusion()
    assert matrix.counts.tolist() == [[2, 0], [1, 0]] and matrix.unit == "points"


def test_two_points_at_one_place_are_not_taken_for_each_other() -> None:
    truth = np.array([[[3.0, 3], [3, 3], [9, 9]]])
    told = np.concatenate([truth, np.ones((1, 3, 1))], axis=2)
    assert (
        PointAnswers(list("abc"), truth, told, np.array([[10, 10]])).confusion().counts.tolist() == np.eye(3).tolist()
    )


def test_the_table_and_the_curve_of_the_report() -> None:
    table = answers().class_table()
    assert table.header == ("class", "images", "mean_error", "pck_0.05", "pck_0.1")
    assert table.rows[0][:2] == ("a", 2) and table.rows[0][2:] == pytest.approx([0.1125, 0, 0.5])
    assert table.rows[1][:2] == ("b", 1) and table.rows[1][2:] == pytest.approx([0.25, 0, 0])
    (curve,) = answers().curves()
    images, of_points = dict(curve.series).values()
    assert images[0] == (0.0, 0.0) and images[-1] == (1.0, 1.0)
    assert dict(of_points)[1.0] == pytest.approx(2 / 3)  # 0.25 lies beyond the axis, which ends at 0.2
    assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in (*images, *of_points))
    assert "33.3% of the points are within 0.1 of it, 0.0% within 0.05" in curve.summary
    assert answers().at([2]).curves() == []


def test_inter_ocular_error_of_a_face() -> None:
    # eyes 40 apart, every point 2 too far right: 2 / 40
    random = np.random.default_rng(0)
    truth = random.uniform(20, 80, (1, 68, 2))
    truth[0, 36], truth[0, 45] = (30, 50), (70, 50)
    told = np.concatenate([truth + np.array([2, 0]), np.ones((1, 68, 1))], axis=2)
    classes = [str(number) for number in range(68)]
    fake = FakeSplit(classes, truth, np.array([[100, 100]]))
    found = Config.model_validate({"normalise": [36, 45]}).answers(fake, list(told))
    assert found.normalise == (36, 45)
    assert found.mean_errors == pytest.approx([0.05])
