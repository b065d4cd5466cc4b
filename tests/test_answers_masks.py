"""Masks beside the truth, and their scores: scikit-learn's, those of a plain loop over pixels, or by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as reference

from pipeline.answers._pixels import boundaries, boundary_scores, tolerance
from pipeline.answers.masks import MaskAnswers
from pipeline.bootstrap import alone, draws
from pipeline.contracts import Target
from pipeline.masks import VOID, encode
from pipeline.plugin import config_class, names

METRICS = [name for name in names("metrics") if Target.MASK in config_class("metrics", name).takes]
CLASSES = ("sky", "road", "tree", "car")


def answers(truths: Sequence[np.ndarray], masks: Sequence[np.ndarray], classes: Sequence[str] = CLASSES) -> MaskAnswers:
    confidences = np.linspace(0.5, 0.9, len(truths))
    return MaskAnswers(
        classes, [encode(np.uint8(one)) for one in truths], [encode(np.uint8(one)) for one in masks], confidences
    )


def blobs(height: int, width: int, classes: int, seed: int, grain: int = 20) -> np.ndarray:
    """A mask of regions about `grain` pixels wide."""
    coarse = np.random.default_rng(seed).random((classes, height // grain + 2, width // grain + 2))
    layers = [cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC) for layer in coarse]
    return np.argmax(layers, axis=0).astype(np.uint8)


def sample(images: int = 6, seed: int = 0, classes: int = 4) -> MaskAnswers:
    """Pictures of several sizes, an eighth of their pixels void, and masks that are often right."""
    random = np.random.default_rng(seed)
    truths, masks = [], []
    for index in range(images):
        height, width = random.integers(20, 60, 2)
        true = blobs(height, width, classes, seed + index)
        said = np.where(random.random(true.shape) < 0.6, true, blobs(height, width, classes, seed + index + 99))
        true[blobs(height, width, 8, seed + index + 50, 8) == 0] = VOID
        truths.append(true)
        masks.append(said)
    return answers(truths, masks, CLASSES[:classes])


def known_pixels(told: MaskAnswers, positions: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """True and said classes of the pixels that are not void."""
    pairs = [(told.true(at).mask, told.said(at).mask) for at in (range(len(told)) if positions is None else positions)]
    true = np.concatenate([true[true != VOID] for true, _ in pairs])
    return true, np.concatenate([said[true != VOID] for true, said in pairs])


def score(name: str, told: MaskAnswers, *weights: Sequence[float]) -> list[float]:
    rows = np.array(weights or [[1] * len(told)], np.float64)
    return config_class("metrics", name)().score(told, rows).tolist()


REFERENCES = {
    "mean_iou": lambda true, said: reference.jaccard_score(true, said, average="macro"),
    "mean_dice": lambda true, said: reference.f1_score(true, said, average="macro"),
    "pixel_accuracy": lambda true, said: reference.accuracy_score(true, said),
}


# --- scores of pixels


@pytest.mark.parametrize("name", REFERENCES)
def test_scores_are_those_of_scikit_learn(name: str) -> None:
    for seed in range(5):
        told = sample(seed=seed)
        assert score(name, told)[0] == pytest.approx(REFERENCES[name](*known_pixels(told)), rel=1e-12)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_weight_is_how_often_an_image_counts(name: str) -> None:
    told = sample()
    for weights in next(draws(alone(len(told)), 5, seed=1)):
        positions = np.repeat(np.arange(len(told)), weights.astype(int))
        expected = REFERENCES[name](*known_pixels(told, positions.tolist()))
        assert score(name, told, weights)[0] == pytest.approx(expected, rel=1e-12)


def test_confusion_is_that_of_scikit_learn() -> None:
    told = sample()
    names_, counts, unit = told.confusion()
    assert (tuple(names_), unit) == (CLASSES, "pixels")
    assert np.array_equal(counts, reference.confusion_matrix(*known_pixels(told), labels=range(4)))


def test_scores_by_hand() -> None:
    true = np.array([[0, 0, 1], [1, 1, VOID]])
    said = np.array([[0, 1, 1], [1, 2, 2]])
    told = answers([true], [said], CLASSES)
    # sky: 1 common, 2 true, 1 said; road: 2 common, 3 true, 3 said; tree: said once of a known pixel; car: nowhere
    assert score("mean_iou", told)[0] == pytest.approx((1 / 2 + 2 / 4 + 0) / 3)
    assert score("mean_dice", told)[0] == pytest.approx((2 / 3 + 4 / 6 + 0) / 3)
    assert score("pixel_accuracy", told)[0] == pytest.approx(3 / 5)
    assert told.quality.tolist() == pytest.approx([(1 / 2 + 2 / 4 + 0) / 3])
    held, well = told.by_class
    assert held.tolist() == [[True, True, False, False]]
    assert well.tolist() == [[1 / 2, 2 / 4, 0, 0]]
    assert told.losses.tolist() == pytest.approx([1 - 1 / 3])


@pytest.mark.parametrize("name", METRICS)
def test_order_of_the_images_does_not_matter(name: str) -> None:
    told, order = sample(), [3, 0, 5, 1, 4, 2]
    weights = np.arange(1.0, 7)
    assert score(name, told.at(order), weights[order])[0] == pytest.approx(score(name, told, weights)[0], rel=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_each_weighting_is_scored_by_itself(name: str) -> None:
    told = sample()
    rows = [np.arange(6.0), np.ones(6), np.eye(6)[2], np.zeros(6)]
    together = score(name, told, *rows)
    assert together[:3] == pytest.approx([score(name, told, row)[0] for row in rows[:3]], rel=1e-12)
    assert together[2] == pytest.approx(score(name, told.at([2]))[0])
    assert math.isnan(together[3])


@pytest.mark.parametrize("name", METRICS)
def test_the_truth_is_perfect_and_nothing_is_better(name: str) -> None:
    told = sample()
    perfect = told.again(pa.table({"mask": pa.array(told.truths, pa.large_binary()), "confidence": [1.0] * 6}))
    assert score(name, perfect) == [1.0]
    assert 0 <= score(name, told)[0] < 1


@pytest.mark.parametrize("name", METRICS)
def test_no_images_have_no_score(name: str) -> None:
    nothing = sample().at([])
    assert len(nothing) == 0 and math.isnan(score(name, nothing)[0])
    assert nothing.curves() == [] and nothing.worst(5) == [] and nothing.difference(nothing).tolist() == []
    assert nothing.confusion().counts.tolist() == np.zeros((4, 4)).tolist()


# --- void


def test_what_is_said_of_void_pixels_changes_nothing() -> None:
    told = sample()
    noise = np.random.default_rng(1)
    masks = []
    for at in range(len(told)):
        true, said = told.true(at).mask, told.said(at).mask.copy()
        said[true == VOID] = noise.integers(4, size=int((true == VOID).sum()))
        masks.append(said)
    other = answers([told.true(at).mask for at in range(len(told))], masks)
    assert np.array_equal(other.confusion().counts, told.confusion().counts)
    assert np.array_equal(other.boundaries, told.boundaries)
    assert np.array_equal(other.quality, told.quality)


def test_an_image_without_a_known_pixel_is_no_accident() -> None:
    void = np.full((4, 5), VOID)
    told = answers([void], [np.zeros((4, 5))])
    assert told.quality.tolist() == [1.0] and told.losses.tolist() == [0.0]
    assert all(math.isnan(score(name, told)[0]) for name in METRICS)
    assert told.true(0).words == "nothing is known"
    assert told.worst(3) == []


def test_a_known_pixel_that_is_said_to_be_void_is_missed() -> None:
    told = answers([np.array([[0, 0, 1, 1]])], [np.array([[0, VOID, 1, 1]])], CLASSES[:2])
    assert score("mean_iou", told)[0] == pytest.approx((1 / 2 + 1) / 2)
    assert score("pixel_accuracy", told)[0] == pytest.approx(3 / 4)
    assert told.confusion().counts.tolist() == [[1, 0], [0, 2]]


# --- boundaries


def plain_boundaries(true: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """As `boundaries`, by a loop over pixels and all pairs of points."""
    height, width = true.shape
    reach = math.ceil(0.0075 * math.sqrt(height**2 + width**2))
    counts = np.zeros((classes, 4), np.int64)
    for index in range(classes):
        points: list[list[tuple[int, int]]] = [[], []]
        for which, mask in enumerate((true, said)):
            for i in range(height):
                for j in range(width):
                    around = [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
                    inside = [(a, b) for a, b in around if 0 <= a < height and 0 <= b < width and true[a, b] != VOID]
                    if mask[i, j] == index and true[i, j] != VOID and any(mask[at] != index for at in inside):
                        points[which].append((i, j))
        for which in (0, 1):
            own, others = np.array(points[which]).reshape(-1, 2), np.array(points[1 - which]).reshape(-1, 2)
            squares = ((own[:, None] - others[None]) ** 2).sum(axis=2)
            counts[index, 2 * which] = len(own)
            counts[index, 2 * which + 1] = (squares <= reach**2).any(axis=1).sum() if len(others) else 0
    return counts


@pytest.mark.parametrize(("height", "width", "reach"), [(11, 9, 1), (40, 60, 1), (150, 160, 2), (90, 300, 3)])
def test_boundaries_are_those_of_a_plain_loop(height: int, width: int, reach: int) -> None:
    assert tolerance(height, width) == reach
    for seed in range(3):
        true, said = blobs(height, width, 4, seed), blobs(height, width, 4, seed + 9 * (seed % 2))
        said = np.roll(said, (seed, reach), axis=(0, 1))
        true[blobs(height, width, 8, seed + 5, 10) == 0] = VOID
        assert np.array_equal(boundaries(true, said, 4), plain_boundaries(true, said, 4))


@pytest.mark.parametrize(("apart", "expected"), [(0, 1.0), (1, 1.0), (2, 1.0), (3, 0.0), (9, 0.0)])
def test_a_line_may_lie_as_far_away_as_the_tolerance(apart: int, expected: float) -> None:
    # the diagonal is 224 pixels: 1.68 of them, rounded up, are 2
    true, said = np.zeros((100, 200)), np.zeros((100, 200))
    true[:, 80:] = 1
    said[:, 80 + apart :] = 1
    assert score("boundary_f1", answers([true], [said]))[0] == pytest.approx(expected)


def test_boundary_f1_by_hand() -> None:
    # A square of 10 pixels at a pixel's distance, in a picture whose tolerance is 1: of its 36 boundary pixels all lie
    # near. A second one of 3 pixels, 8 on its boundary, is made up. Likewise for what is around: 40 pixels, and 12.
    true, said = np.zeros((60, 60)), np.zeros((60, 60))
    true[5:15, 5:15] = 1
    said[5:15, 6:16] = 1
    said[40:43, 40:43] = 1
    counts = boundaries(np.uint8(true), np.uint8(said), 2)
    assert counts[1].tolist() == [36, 36, 36 + 8, 36]
    assert counts[0].tolist() == [40, 40, 40 + 12, 40]
    f1 = [2 * p / (p + 1) for p in (40 / 52, 36 / 44)]
    assert boundary_scores(counts).tolist() == pytest.approx(f1)
    assert score("boundary_f1", answers([true], [said], CLASSES[:2]))[0] == pytest.approx(sum(f1) / 2)


def test_boundary_f1_is_a_mean_over_images_of_means_over_classes() -> None:
    told = sample()
    images = [
        np.nanmean(boundary_scores(plain_boundaries(told.true(at).mask, told.said(at).mask, 4)))
        for at in range(len(told))
    ]
    assert score("boundary_f1", told)[0] == pytest.approx(np.mean(images))
    weights = [3.0, 0, 1, 0, 2, 5]
    assert score("boundary_f1", told, weights)[0] == pytest.approx(np.average(images, weights=weights))


def test_without_boundaries_there_is_nothing_to_score() -> None:
    blank, line = np.zeros((10, 10)), np.zeros((10, 10))
    line[:, 5:] = 1
    told = answers([blank, line, blank], [blank, line, line])
    assert np.isnan(told.boundary_quality).tolist() == [True, False, False]
    # the third draws a line where there is none
    assert score("boundary_f1", told)[0] == pytest.approx((1 + 0) / 2)
    assert math.isnan(score("boundary_f1", told, [1, 0, 0])[0])


# --- what the stages ask for


def test_predictions_can_be_read_again(tmp_path) -> None:
    told = sample()
    pq.write_table(pa.table(told.columns()), tmp_path / "predictions.parquet")
    table = pq.read_table(tmp_path / "predictions.parquet")
    again = told.again(table)
    assert again.difference(told).tolist() == [0.0] * 6
    assert np.array_equal(again.confidence, told.confidence)
    assert [score(name, again) for name in METRICS] == [score(name, told) for name in METRICS]
    assert table.schema.field("mask").type == pa.large_binary()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop_columns("mask"), "expected a mask and a confidence for each of 6 images"),
        (lambda t: t.drop_columns("confidence"), "expected a mask and a confidence"),
        (lambda t: t.slice(1), "expected a mask and a confidence"),
        (lambda t: t.set_column(0, "mask", pa.array(["x"] * 6)), "expected a mask and a confidence"),
        (lambda t: t.set_column(0, "mask", pa.array([b"x"] * 6)), "not as large as its picture"),
        (lambda t: t.set_column(0, "mask", pa.array([encode(np.zeros((2, 2)))] * 6)), "not as large as its picture"),
    ],
)
def test_predictions_of_another_kind_are_refused(change, words: str) -> None:
    told = sample()
    with pytest.raises(ValueError, match=words):
        told.again(change(pa.table(told.columns())))


def test_predictions_of_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="a mask with another class than these 3"):
        sample(classes=3).again(pa.table(sample(classes=4).columns()))


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="a mask of 3 x 2 pixels for a picture of 2 x 2"):
        _ = answers([np.zeros((2, 2))], [np.zeros((2, 3))]).pixels


def test_difference_is_the_share_of_pixels() -> None:
    masks = [np.zeros((2, 5)), np.zeros((2, 5)), np.zeros((2, 5))]
    others = [np.zeros((2, 5)), np.eye(2, 5), np.zeros((5, 2))]
    first, second = answers(masks, masks), answers(masks, others)
    assert first.difference(second).tolist() == [0.0, 0.2, 1.0]
    assert second.difference(first).tolist() == [0.0, 0.2, 1.0]


def test_some_of_the_images_are_themselves() -> None:
    told = sample()
    told.boundaries  # noqa: B018  some are asked for before, some after
    some, fresh = told.at(np.array([4, 1])), sample().at([4, 1])
    assert np.array_equal(some.boundaries, fresh.boundaries)
    assert some.quality.tolist() == told.quality[[4, 1]].tolist()
    assert some.confidence.tolist() == told.confidence[[4, 1]].tolist()


def test_the_worst_come_first() -> None:
    told = answers(
        [np.zeros((1, 4))] * 4,
        [np.zeros((1, 4)), np.array([[0, 0, 0, 1]]), np.array([[1] * 4]), np.array([[0, 0, 1, 1]])],
    )
    assert told.worst(10) == [2, 3, 1]
    assert told.worst(1) == [2]


def test_words_name_the_largest_classes() -> None:
    mask = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 2, 3], [VOID] * 5])
    told = answers([mask], [np.full((3, 5), 3)])
    assert told.true(0).words == "road 50%, sky 30%, tree 10%"
    assert told.said(0).words == "car 100%"
    assert np.array_equal(told.true(0).mask, mask)
    assert tuple(told.true(0).classes) == CLASSES


def test_class_table_is_what_scikit_learn_says() -> None:
    told = sample()
    header, rows = told.class_table()
    assert tuple(header) == ("class", "images", "pixels", "precision", "recall", "dice", "boundary_f1", "iou")
    true, said = known_pixels(told)
    precision, recall, dice, pixels = reference.precision_recall_fscore_support(true, said, labels=range(4))
    iou = reference.jaccard_score(true, said, labels=range(4), average=None)
    for index, row in enumerate(rows):
        assert row[0] == CLASSES[index]
        assert row[1] == sum(index in told.true(at).mask for at in range(6))
        assert row[2] == pixels[index]
        assert row[3:6] == pytest.approx((precision[index], recall[index], dice[index]))
        assert row[7] == pytest.approx(iou[index])
    assert [row[6] for row in rows] == pytest.approx(np.nanmean(boundary_scores(told.boundaries), axis=0).tolist())


def test_a_class_that_is_nowhere_has_no_score() -> None:
    _, rows = answers([np.zeros((3, 3))], [np.zeros((3, 3))]).class_table()
    assert rows[0][1:6] == (1, 9, 1.0, 1.0, 1.0)
    assert all(math.isnan(value) for value in rows[3][3:])


def test_the_curve_says_how_many_images_reach_a_quality() -> None:
    told = answers([np.zeros((1, 2))] * 2, [np.zeros((1, 2)), np.ones((1, 2))])
    (curve,) = told.curves()
    assert curve.series == [("Images", [(0.0, 1.0), (0.0, 1.0), (1.0, 0.5), (1.0, 0.0)])]
    assert curve.summary == "Half of the images reach a mean IoU of 0.50, and nine in ten of them 0.10."


@pytest.mark.parametrize("name", REFERENCES)
def test_whole_weights_give_exact_scores_however_many_are_asked_at_once(name: str) -> None:
    told = sample()
    rows = next(draws(alone(6), 40, seed=3))
    assert score(name, told, *rows) == [score(name, told, row)[0] for row in rows]
    assert score(name, told.at([5, 4, 3, 2, 1, 0]), *rows[:, ::-1]) == score(name, told, *rows)
