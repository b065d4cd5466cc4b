"""Numbers of each image: errors, qualities and tables by hand, metrics against scikit-learn."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from sklearn import metrics as reference

from pipeline.answers.numbers import NumberAnswers
from pipeline.bootstrap import alone, interval
from pipeline.contracts import MetricConfig, Target
from pipeline.evaluate import charts
from pipeline.numbers import Scale, worded
from pipeline.params import GateOptions
from pipeline.plugin import config_class, names
from pipeline.registry.slices import by_class
from pipeline.registry.trial import Trial, judge

METRICS = [name for name in names("metrics") if Target.NUMBERS in config_class("metrics", name).takes]
PRICE = Scale(kind="log", mean=2.0, deviation=0.5)
LENGTH = Scale(mean=10, deviation=4)
ANGLE = Scale(kind="circular", period=360)


def answers(truth: Any, told: Any, *scales: Scale, **more: Any) -> NumberAnswers:
    wide = [side.reshape(-1, 1) if side.ndim == 1 else side for side in map(np.float64, (truth, told))]
    scales = scales or tuple(LENGTH for _ in range(wide[0].shape[1]))
    return NumberAnswers([f"n{at}" for at in range(len(scales))], *wide, scales, **more)


def metric(name: str) -> MetricConfig:
    return config_class("metrics", name)()


def plain(name: str, of: NumberAnswers) -> float:
    return float(metric(name).score(of, np.ones((1, len(of))))[0])


def sample(images: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.gamma(2.0, 5.0, images).round(1) + 0.1
    return truth, truth + random.normal(0, 3, images).round(1)


# Errors and qualities


def test_errors_and_qualities_by_hand():
    # deviations: 4 of a length, 0.5 of a logarithm, 360 / sqrt(12) of an angle
    one = answers([[10, np.e, 350.0]], [[14, np.e**2, 20.0]], LENGTH, PRICE, ANGLE)
    assert one.errors[0] == pytest.approx([4, np.e**2 - np.e, 30])
    assert one.relative[0] == pytest.approx([1, 2, 30 * 12**0.5 / 360])
    assert one.qualities[0] == pytest.approx([1 / 2, 1 / 3, 1 / (1 + 12**0.5 / 12)])
    assert one.quality == pytest.approx([one.qualities[0].mean()])
    assert one.losses == pytest.approx([(1 + 4 + 12 / 144) / 3])
    assert answers([[10, np.e, 20.0]], [[14, np.e**2, 350.0]], LENGTH, PRICE, ANGLE).errors[0, 2] == pytest.approx(-30)


def test_an_unknown_number_counts_for_nothing():
    some = answers([[10, np.nan], [np.nan, 2]], [[14, 5], [1, 2]])
    assert some.by_class[0].tolist() == [[True, False], [False, True]]
    assert some.quality.tolist() == [0.5, 1.0]
    assert some.losses.tolist() == [1.0, 0.0]
    assert some.class_table().rows[0] == ("n0", 1, 4.0, 4.0, pytest.approx(np.nan, nan_ok=True))
    assert [some.true(0).words, some.said(1).words] == ["n0 10", "n0 1, n1 2"]
    assert plain("mean_absolute_error", some) == pytest.approx((1 + 0) / 2)


def test_images_that_belong_together_share_one_answer_and_count_once():
    # the geometric mean of 1 and e^2 is e; the images of the first group are 0 and 2
    some = answers([np.e, 4, np.e], [1, 5, np.e**2], PRICE, groups=np.array([7, 8, 7]))
    assert some.answer[:, 0] == pytest.approx([np.e, 5, np.e])
    assert some.counted.tolist() == [True, True, False]
    assert plain("mean_absolute_error", some) == pytest.approx(0.5)
    assert plain("median_absolute_error", some) == pytest.approx(0.5)
    assert some.class_table().rows[0][1] == 2
    weights = np.array([[1.0, 0, 5], [0, 1, 0], [0, 0, 1]])  # of a group the weight of its first image counts
    assert metric("mean_absolute_error").score(some, weights) == pytest.approx([0, 1, np.nan], nan_ok=True, abs=1e-12)
    apart = some.at([0, 1])
    assert apart.answer[:, 0] == pytest.approx([1, 5])
    again = some.again(pa.table(some.columns()))
    assert (again.told == some.told).all() and (again.answer == some.answer).all()


def test_angles_that_belong_together_have_a_mean_direction():
    some = answers([0.0, 0.0], [350, 20], ANGLE, groups=np.array([0, 0]))
    assert some.answer[:, 0] == pytest.approx([5, 5])


def test_columns_bring_them_back_and_others_are_refused():
    truth, told = sample(4)
    some = answers(truth, told)
    again = some.again(pa.table(some.columns()))
    assert (again.told == some.told).all()
    assert some.difference(again).tolist() == [0] * 4
    with pytest.raises(ValueError, match="expected 1 numbers for each of 3 images"):
        some.at([0, 1, 2]).again(pa.table(some.columns()))
    with pytest.raises(ValueError, match="expected 1 numbers"):
        some.again(pa.table({"probabilities": [[0.5]] * 4}))


def test_a_difference_is_a_share_of_the_number_or_of_its_deviation():
    one, other = answers([0.0], [1000.0]), answers([0.0], [1001.0])
    assert one.difference(other) == pytest.approx([1 / 1001])
    assert answers([0.0], [0.1]).difference(answers([0.0], [0.3])) == pytest.approx([0.2 / 4])
    assert answers([0.0], [359.0], ANGLE).difference(answers([0.0], [1.0], ANGLE)) == pytest.approx([2 / 360])


def test_confusion_goes_by_the_thirds_of_what_is_true():
    some = answers(np.arange(1.0, 10), [1, 2, 5, 5, 5, 5, 2, 9, 9])
    confusion = some.confusion()
    assert confusion.names == ("below 3.667", "3.667 to 6.333", "6.333 or more")
    assert confusion.counts.tolist() == [[2, 1, 0], [0, 3, 0], [1, 0, 2]]
    several = answers(np.ones((2, 2)), np.ones((2, 2))).confusion()
    assert (several.names, several.unit, several.counts.sum()) == (("low", "middle", "high"), "numbers", 4)
    circle = answers([10.0, 130, 250], [350.0, 130, 119], ANGLE).confusion()
    assert circle.counts.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_curves_lie_between_0_and_1_and_say_what_that_is():
    truth, told = sample()
    for scale in (LENGTH, PRICE, ANGLE):
        said, errors = answers(truth, np.abs(told) + 1, scale).curves()
        points = [point for curve in (said, errors) for _, series in curve.series for point in series]
        assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in points)
        assert "n0" in said.title and said.x_span == said.y_span and errors.x_span.low == -errors.x_span.high
        ends = (0, scale.period) if scale is ANGLE else (np.nanmin(truth), np.nanmax(truth))
        assert (*said.x_span,) == (*ends, scale is PRICE)
        assert sum(errors.sizes) == len(truth)
    assert answers([1.0], [1.0]).curves() == []


@pytest.mark.parametrize("scale", [LENGTH, PRICE])
@pytest.mark.parametrize("value", [5.0, 1e100, 1e-300])
def test_numbers_that_are_the_same_but_for_rounding_are_drawn(value: float, scale: Scale):
    truth = np.full(9, value)
    truth[3] = np.nextafter(value, np.inf)
    for same in (truth, np.full(9, value)):
        said, _ = answers(same, same, scale).curves()
        assert said.x_span == (value, 2 * value, False)
        assert charts.of_curve(said) is not None


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (869500.0, 6, "869,500"),
        (531240.4, 4, "531,200"),
        (0.01319, 3, "0.0132"),
        (0.0, 4, "0"),
        (-12.5, 4, "-12.5"),
        (9.9999, 4, "10"),
        (1e-7, 4, "1e-07"),
        (3e20, 4, "3e+20"),
        (float("nan"), 4, "unknown"),
    ],
)
def test_a_number_in_words(value: float, digits: int, text: str):
    assert worded(value, digits) == text


def test_words_name_a_few_numbers():
    many = answers(np.ones((1, 10)), np.ones((1, 10)))
    assert many.said(0).words.endswith("n7 1 and 2 more")


# Metrics

REFERENCES = {
    "mean_absolute_error": reference.mean_absolute_error,
    "median_absolute_error": reference.median_absolute_error,
    "root_mean_squared_error": reference.root_mean_squared_error,
    "mean_absolute_percentage_error": reference.mean_absolute_percentage_error,
    "r2": reference.r2_score,
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("scale", [LENGTH, PRICE], ids=["linear", "log"])
def test_equals_the_reference_plain_and_weighted(name: str, scale: Scale):
    truth, told = sample()
    weights = np.random.default_rng(1).gamma(1.0, size=(5, len(truth)))
    found = metric(name).score(answers(truth, np.maximum(told, 0.1), scale), weights)
    told = np.maximum(told, 0.1)
    assert found == pytest.approx([REFERENCES[name](truth, told, sample_weight=row) for row in weights], rel=1e-9)
    assert plain(name, answers(truth, told, scale)) == pytest.approx(REFERENCES[name](truth, told), rel=1e-12)


@pytest.mark.parametrize("name", ["r2", "mean_absolute_percentage_error"])
def test_of_several_numbers_it_is_the_mean_of_theirs(name: str):
    truth, told = (np.stack([side, 3 * side[::-1] + 5], axis=1) for side in sample())
    assert plain(name, answers(truth, told)) == pytest.approx(REFERENCES[name](truth, told))


def test_several_numbers_count_in_deviations_and_counts_in_objects():
    truth, told = np.array([[0.0, 0], [0, 0]]), np.array([[4.0, 0], [0, 8]])
    assert plain("mean_absolute_error", answers(truth, told)) == pytest.approx((0.5 + 1) / 2)
    assert plain("mean_absolute_error", answers(truth, told, alike=True)) == pytest.approx((2 + 4) / 2)
    assert plain("root_mean_squared_error", answers(truth, told, alike=True)) == pytest.approx((8**0.5 + 32**0.5) / 2)


def test_circular_scores_go_the_shorter_way():
    some = answers([350.0, 10, 30], [10, 350, 30], ANGLE)
    assert plain("mean_absolute_error", some) == pytest.approx(40 / 3)
    # around the mean direction of 10: -20, 0, 20
    middle = np.rad2deg(stats.circmean(np.deg2rad([350, 10, 30])))
    assert middle == pytest.approx(10)
    assert plain("r2", some) == pytest.approx(1 - (400 + 400) / (400 + 400))
    assert np.isnan(plain("mean_absolute_percentage_error", some))


@pytest.mark.parametrize("name", METRICS)
def test_whole_numbers_weigh_like_repeated_images(name: str):
    truth, told = sample(30, seed=2)
    counts = np.random.default_rng(3).integers(4, size=(6, len(truth)))
    repeated = [plain(name, answers(np.repeat(truth, row), np.repeat(told, row))) for row in counts]
    assert metric(name).score(answers(truth, told), counts.astype(float)) == pytest.approx(repeated, rel=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_neither_order_nor_scale_of_the_weights_matters(name: str):
    truth, told = sample(40, seed=4)
    weights = np.random.default_rng(5).gamma(1.0, size=(3, len(truth)))
    order = np.random.default_rng(6).permutation(len(truth))
    found = metric(name).score(answers(truth, told), weights)
    assert metric(name).score(answers(truth[order], told[order]), weights[:, order]) == pytest.approx(found)
    assert metric(name).score(answers(truth, told), weights / 7) == pytest.approx(found)


@pytest.mark.parametrize("name", METRICS)
def test_the_best_is_the_best_and_the_undefined_is_nan(name: str):
    truth, told = sample(20)
    best = plain(name, answers(truth, truth))
    assert best == (1 if metric(name).higher_is_better else 0)
    worse = plain(name, answers(truth, told))
    assert worse < best if metric(name).higher_is_better else worse > best
    assert np.isnan(metric(name).score(answers(truth, told), np.zeros((2, 20)))).all()
    assert np.isnan(metric(name).score(answers(np.zeros((0, 1)), np.zeros((0, 1)), LENGTH), np.ones((2, 0)))).all()
    lone = plain(name, answers([3.0], [4.0]))
    assert np.isnan(lone) if name == "r2" else np.isfinite(lone)
    assert metric(name).title and config_class("metrics", name).__doc__


def test_what_does_not_vary_has_no_r2():
    assert np.isnan(plain("r2", answers([0.1] * 7, np.arange(7.0))))
    both = answers(np.stack([np.full(5, 0.1), np.arange(5.0)], axis=1), np.zeros((5, 2)))
    assert plain("r2", both) == pytest.approx(reference.r2_score(np.arange(5.0), np.zeros(5)))


def test_what_is_truly_0_has_no_share():
    assert plain("mean_absolute_percentage_error", answers([0.0, 2], [5, 3])) == pytest.approx(0.5)


def test_a_trial_counts_images_that_share_an_answer_once():
    truth = np.repeat(np.arange(1.0, 13), 4)
    groups = np.repeat(np.arange(12), 4)
    near, far = (answers(truth, truth + away, groups=groups) for away in (1.0, 2.0))
    test = Trial("mean_absolute_error", confidence=0.95, resamples=200, seed=0, units=groups)
    verdict = judge(near, far, "version 1", test)
    assert verdict.outcome == "promote" and verdict.comparison is not None
    assert (verdict.comparison.images, verdict.comparison.fixed, verdict.comparison.broken) == (48, 12, 0)
    assert verdict.comparison.units == 12
    assert verdict.comparison.p == pytest.approx(2 / 2**12)
    (row,) = by_class(near, far, GateOptions(), groups)
    assert (row.images, row.fixed, row.challenger) == (12, 12, pytest.approx(1 / (1 + 1 / 4)))
    assert near.worst(3) == [0, 4, 8]


def test_the_interval_of_answers_that_are_shared_is_as_wide_as_that_of_the_groups():
    random = np.random.default_rng(0)
    truth = np.zeros(100)
    told = random.normal(0, 3, 100)
    groups = np.repeat(np.arange(100), 4)
    each, shared = answers(truth, told), answers(np.repeat(truth, 4), np.repeat(told, 4), groups=groups)
    score = metric("mean_absolute_error").score
    found = [
        interval(partial(score, one), units, resamples=1000, confidence=0.95, seed=1)
        for one, units in ((each, alone(100)), (shared, groups))
    ]
    assert found[0] == pytest.approx(found[1])
