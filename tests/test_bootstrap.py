"""The bootstrap covers the truth as often as it says, agrees with SciPy's, and is a function of its seed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy import stats

from pipeline import bootstrap, masks
from pipeline.answers.labels import LabelAnswers
from pipeline.answers.masks import MaskAnswers
from pipeline.answers.objects import ObjectAnswers
from pipeline.bootstrap import Score, alone, draws, interval, paired, parted, power
from pipeline.metrics.accuracy import Config as Accuracy
from pipeline.metrics.map50 import Config as Map50
from pipeline.metrics.mean_iou import Config as MeanIoU
from pipeline.metrics.roc_auc import Config as RocAuc


def told(right: np.ndarray) -> LabelAnswers:
    """Answers of two classes that are right where `right` says so; all images are of class 0."""
    shares = np.where(right[:, None], [0.9, 0.1], [0.2, 0.8])
    return LabelAnswers(("cat", "dog"), np.zeros(len(right), np.int64), shares)


def accuracy(right: np.ndarray) -> Score:
    """The accuracy of such answers under weightings."""
    return partial(Accuracy().score, told(right))


def test_a_resample_draws_as_many_images_as_there_are_and_each_equally_often():
    counts = np.concatenate(list(draws(alone(50), 4000, seed=3)))
    assert counts.shape == (4000, 50) and (counts.sum(axis=1) == 50).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(50), abs=0.08)  # five standard errors of 1 / sqrt(4000)
    assert counts.var() == pytest.approx(1 - 1 / 50, rel=0.03)


def test_resamples_depend_on_seed_and_number_alone(monkeypatch: pytest.MonkeyPatch):
    whole = np.concatenate(list(draws(alone(30), 100, seed=1)))
    monkeypatch.setattr(bootstrap, "CHUNK", 70)  # two resamples at a time
    assert (np.concatenate(list(draws(alone(30), 100, seed=1))) == whole).all()
    assert (np.concatenate(list(draws(alone(30), 10, seed=1))) == whole[:10]).all()
    assert (np.concatenate(list(draws(alone(30), 100, seed=2))) != whole).any()


def test_units_are_drawn_whole_and_like_images():
    units = np.array([0, 1, 1, 0, 2, 1])
    rows = np.concatenate(list(draws(units, 500, seed=3)))
    of_units = np.concatenate(list(draws(alone(3), 500, seed=3)))
    assert (rows == of_units[:, units]).all() and (of_units.sum(axis=1) == 3).all()


def test_ten_images_of_a_patient_say_as_much_as_one_where_all_are_alike():
    right = np.random.default_rng(0).random(100) < 0.8
    of_images = interval(accuracy(right), alone(100), resamples=500, confidence=0.95, seed=0)
    ten_of_each = np.repeat(np.arange(100), 10)
    of_patients = interval(accuracy(np.repeat(right, 10)), ten_of_each, resamples=500, confidence=0.95, seed=0)
    assert of_patients == pytest.approx(of_images)


def test_units_that_part_two_models_by_hand(monkeypatch: pytest.MonkeyPatch):
    # better on both images of the first; on one each of the second; the same on the third, and undefined on the fourth
    units = np.array([0, 0, 1, 1, 2, 2, 3])
    one, other = np.array([1.0, 1, 1, 0, 1, 0, np.nan]), np.array([0.0, 0, 0, 1, 1, 0, np.nan])

    def of(values: np.ndarray) -> Score:
        return lambda weights: np.array([np.mean(np.repeat(values, row.astype(int))) for row in weights])

    for chunk in (1, 15, 2_000_000):  # one unit at a time, two, all
        monkeypatch.setattr(bootstrap, "CHUNK", chunk)
        assert parted(of(one), of(other), units) == 2
    assert parted(of(one), of(other), alone(7)) == 5


def test_interval_agrees_with_scipy():
    right = np.random.default_rng(0).random(300) < 0.8
    ours = interval(accuracy(right), alone(300), resamples=4000, confidence=0.95, seed=0)
    theirs = stats.bootstrap((right.astype(float),), np.mean, method="percentile", n_resamples=4000, rng=0)
    assert ours.value == right.mean()
    assert ours[1:] == pytest.approx(theirs.confidence_interval, abs=0.005)


def test_interval_holds_the_truth_as_often_as_it_says():
    random, truth, rounds = np.random.default_rng(1), 0.8, 300
    held = 0
    for _ in range(rounds):
        found = interval(accuracy(random.random(200) < truth), alone(200), resamples=200, confidence=0.9, seed=0)
        held += found.low <= truth <= found.high
    # 0.9 less what the percentile interval is known to lack at 200 images, give or take three standard errors
    assert held / rounds == pytest.approx(0.89, abs=3 * np.sqrt(0.9 * 0.1 / rounds))


def test_one_sided_bound_lets_an_equal_model_pass_as_seldom_as_it_says():
    random, rounds = np.random.default_rng(2), 300
    passed = 0
    for _ in range(rounds):
        a, b = random.random((2, 250)) < 0.85
        test = paired(accuracy(a), accuracy(b), alone(250), 250, resamples=200, confidence=0.95, seed=0)
        passed += test.lower > 0
    assert passed / rounds == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / rounds))


def test_paired_is_the_bootstrap_of_the_differences():
    random = np.random.default_rng(4)
    champion, challenger = random.random(400) < 0.80, random.random(400) < 0.86
    test = paired(accuracy(challenger), accuracy(champion), alone(400), 400, resamples=4000, confidence=0.95, seed=0)
    gaps = challenger.astype(float) - champion
    theirs = stats.bootstrap((gaps,), np.mean, method="percentile", n_resamples=4000, rng=0)
    assert test.difference.value == pytest.approx(gaps.mean())
    assert test.difference[1:] == pytest.approx(theirs.confidence_interval, abs=0.005)
    error = gaps.std() / 20
    assert test.lower == pytest.approx(gaps.mean() - 1.645 * error, abs=0.005)
    assert test.upper == pytest.approx(gaps.mean() + 1.645 * error, abs=0.005)
    assert test.spread == pytest.approx(error, rel=0.05)
    assert test.detectable == pytest.approx((1.645 + 0.842) * error, rel=0.05)


def test_what_is_called_detectable_is_found_four_times_in_five():
    random, images, rounds = np.random.default_rng(5), 400, 250
    base = 0.7
    error = np.sqrt(2 * base * (1 - base) / images)
    gain = 2.487 * error
    found, named = 0, []
    for _ in range(rounds):
        champion, challenger = random.random(images) < base, random.random(images) < base + gain
        sides = accuracy(challenger), accuracy(champion)
        test = paired(*sides, alone(images), images, resamples=150, confidence=0.95, seed=0)
        found += test.lower > 0
        named.append(test.detectable)
    assert np.mean(named) == pytest.approx(gain, rel=0.1)
    assert found / rounds == pytest.approx(0.8, abs=3 * np.sqrt(0.8 * 0.2 / rounds))


def test_power_by_hand():
    assert power(0.01, 0, 10**9, 0.95) == pytest.approx(0.05)
    assert power(0.01, 0.01645, 10**9, 0.95) == pytest.approx(0.5, abs=1e-3)
    assert power(0.01, (1.6449 + 0.8416) * 0.01, 10**9, 0.95) == pytest.approx(0.8, abs=1e-4)
    assert power(0.01, 0.02132, 5, 0.95) == pytest.approx(0.5, abs=1e-3)  # t of four degrees of freedom is 2.132


def test_a_model_against_itself_is_not_better():
    score = accuracy(np.arange(100) % 4 > 0)
    test = paired(score, score, alone(100), 100, resamples=200, confidence=0.95, seed=0)
    assert test == ((0, 0, 0), 0, 0, 0, 0)
    assert np.isnan(power(test.spread, 0.1, 100, 0.95))


def mean(values: np.ndarray) -> Score:
    """The mean of a value of each image."""
    return lambda weights: (weights * values).sum(axis=1) / weights.sum(axis=1)


def zero(weights: np.ndarray) -> np.ndarray:
    """The score of a model that never gains."""
    return np.zeros(len(weights))


def test_of_few_images_bounds_lie_as_far_out_as_students_t():
    values = np.array([0.0, 1, 2, 3, 9])
    means = np.concatenate(list(draws(alone(5), 4000, seed=0))) @ values / 5
    found = paired(mean(values), zero, alone(5), 5, resamples=4000, confidence=0.95, seed=0)
    tail = stats.norm.cdf(-np.sqrt(5 / 4) * stats.t.ppf(0.95, 4))
    assert tail == pytest.approx(0.0086, abs=1e-4)
    assert [found.lower, found.upper] == pytest.approx(np.quantile(means, [tail, 1 - tail]))
    assert found.spread == pytest.approx(means.std(ddof=1) * np.sqrt(5 / 4))
    assert found.detectable == pytest.approx((2.1318 + 0.8416) * found.spread, rel=1e-4)


def test_images_that_equal_models_win_by_chance_too_often_have_no_bound():
    won = mean(np.arange(1.0, 9.0))
    for confidence, enough in ((0.95, 5), (0.9, 4), (0.99, 7)):  # of all images, by tosses: 1 in 32, 16, 128
        for trials in range(enough - 1, enough + 1):
            found = paired(won, zero, alone(8), trials, resamples=100, confidence=confidence, seed=0)
            assert (found.lower > 0) == (trials == enough)
            bounds = found.lower, found.upper, found.difference.low, found.detectable
            assert np.isnan(bounds).all() == (trials < enough)
            assert found.difference.value == 4.5


def test_a_resample_without_a_score_shows_nothing():
    gains = np.linspace(1, 2, 40)

    def where_drawn(most: int) -> Score:
        return lambda weights: np.where(weights[:, :most].sum(axis=1) > 0, mean(gains)(weights), np.nan)

    whole = paired(mean(gains), zero, alone(40), 40, resamples=1000, confidence=0.95, seed=0)
    rare = paired(where_drawn(1), zero, alone(40), 40, resamples=1000, confidence=0.95, seed=0)
    assert np.isnan([rare.lower, rare.upper, rare.detectable]).all()  # 36 in 100 of the resamples miss one image
    known = paired(where_drawn(4), zero, alone(40), 40, resamples=1000, confidence=0.95, seed=0)
    assert 1 < known.lower < whole.lower  # 1.5 in 100 miss all of four, and count against the challenger


def test_undefined_scores_stay_undefined_and_undefined_resamples_are_passed_over():
    answers = told(np.arange(10) % 2 > 0)
    score = partial(RocAuc().score, answers)  # undefined where one class is all there is
    assert np.isnan(interval(score, alone(10), resamples=100, confidence=0.95, seed=0)).all()
    assert np.isnan(paired(score, score, alone(10), 10, resamples=100, confidence=0.95, seed=0).lower)
    others = told(np.arange(10) % 2 > 0)  # what an answer is asked for is kept in it
    others.labels[0] = 1  # a third of the resamples miss this image
    found = interval(partial(RocAuc().score, others), alone(10), resamples=300, confidence=0.95, seed=0)
    assert np.isfinite(found).all() and found.low <= found.value <= found.high


def test_resamples_come_in_portions_that_fit_in_memory():
    random = np.random.default_rng(6)
    labels = random.integers(10, size=10_000)
    answers = LabelAnswers([str(k) for k in range(10)], labels, random.dirichlet(np.ones(10), size=10_000))
    assert max(weights.nbytes for weights in draws(alone(10_000), 1000, seed=0)) <= 16e6
    found = interval(partial(RocAuc().score, answers), alone(10_000), resamples=40, confidence=0.95, seed=0)
    assert found.low < 0.5 < found.high


def repeated(weights: np.ndarray) -> np.ndarray:
    """The positions of the images of one resample, each as often as it was drawn."""
    return np.repeat(np.arange(len(weights)), weights.astype(int))


def test_of_objects_and_masks_a_resample_is_the_score_of_the_images_drawn():
    random, box = np.random.default_rng(7), np.array([2.0, 2.0, 8.0, 8.0])
    truth = [np.array([[*box, place % 2, 0]]) for place in range(12)]
    found = [np.array([[*(box + random.uniform(-2, 2, 4)), random.random(), place % 2]]) for place in range(12)]
    objects = ObjectAnswers(["cat", "dog"], truth, found, [(10, 10)] * 12)
    painted = random.integers(0, 2, (12, 2, 6, 6)).astype(np.uint8)
    true, said = ([masks.encode(mask) for mask in side] for side in (painted[:, 0], painted[:, 0] & painted[:, 1]))
    pixels = MaskAnswers(["cat", "dog"], true, said, np.ones(12))
    for metric, answers in ((Map50(), objects), (MeanIoU(), pixels)):
        scores = []
        for weights in np.concatenate(list(draws(alone(12), 40, seed=2))):
            drawn = answers.at(repeated(weights))  # the images themselves, again and again
            scores.append(metric.score(drawn, np.ones((1, 12)))[0])
        of_all = interval(partial(metric.score, answers), alone(12), resamples=40, confidence=0.95, seed=2)
        assert of_all.value == pytest.approx(metric.score(answers, np.ones((1, 12)))[0])
        assert of_all[1:] == pytest.approx(np.quantile(scores, [0.025, 0.975]))
        assert of_all.low < of_all.value < of_all.high
