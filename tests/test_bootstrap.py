"""The bootstrap covers the truth as often as it says, agrees with SciPy's, and is a function of its seed."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from pipeline import bootstrap
from pipeline.bootstrap import draws, interval, paired, power
from pipeline.metrics.accuracy import Config as Accuracy
from pipeline.metrics.roc_auc import Config as RocAuc

ACCURACY = Accuracy().score


def told(right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Answers of two classes that are right where `right` says so, and their labels: all of class 0."""
    return np.where(right[:, None], [0.9, 0.1], [0.2, 0.8]), np.zeros(len(right), np.int64)


def test_a_resample_draws_as_many_images_as_there_are_and_each_equally_often():
    counts = np.concatenate(list(draws(50, 4000, seed=3)))
    assert counts.shape == (4000, 50) and (counts.sum(axis=1) == 50).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(50), abs=0.08)  # five standard errors of 1 / sqrt(4000)
    assert counts.var() == pytest.approx(1 - 1 / 50, rel=0.03)


def test_resamples_depend_on_seed_and_number_alone(monkeypatch: pytest.MonkeyPatch):
    whole = np.concatenate(list(draws(30, 100, seed=1)))
    monkeypatch.setattr(bootstrap, "CHUNK", 70)  # two resamples at a time
    assert (np.concatenate(list(draws(30, 100, seed=1))) == whole).all()
    assert (np.concatenate(list(draws(30, 10, seed=1))) == whole[:10]).all()
    assert (np.concatenate(list(draws(30, 100, seed=2))) != whole).any()


def test_interval_agrees_with_scipy():
    right = np.random.default_rng(0).random(300) < 0.8
    ours = interval(ACCURACY, *told(right), resamples=4000, confidence=0.95, seed=0)
    theirs = stats.bootstrap((right.astype(float),), np.mean, method="percentile", n_resamples=4000, rng=0)
    assert ours.value == right.mean()
    assert ours[1:] == pytest.approx(theirs.confidence_interval, abs=0.005)


def test_interval_holds_the_truth_as_often_as_it_says():
    random, truth, rounds = np.random.default_rng(1), 0.8, 300
    held = 0
    for _ in range(rounds):
        found = interval(ACCURACY, *told(random.random(200) < truth), resamples=200, confidence=0.9, seed=0)
        held += found.low <= truth <= found.high
    # 0.9 less what the percentile interval is known to lack at 200 images, give or take three standard errors
    assert held / rounds == pytest.approx(0.89, abs=3 * np.sqrt(0.9 * 0.1 / rounds))


def test_one_sided_bound_lets_an_equal_model_pass_as_seldom_as_it_says():
    random, rounds = np.random.default_rng(2), 300
    passed = 0
    for _ in range(rounds):
        a, b = random.random((2, 250)) < 0.85
        test = paired(ACCURACY, told(a)[0], *told(b), resamples=200, confidence=0.95, seed=0)
        passed += test.lower > 0
    assert passed / rounds == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / rounds))


def test_paired_is_the_bootstrap_of_the_differences():
    random = np.random.default_rng(4)
    champion, challenger = random.random(400) < 0.80, random.random(400) < 0.86
    test = paired(ACCURACY, told(challenger)[0], *told(champion), resamples=4000, confidence=0.95, seed=0)
    gaps = challenger.astype(float) - champion
    theirs = stats.bootstrap((gaps,), np.mean, method="percentile", n_resamples=4000, rng=0)
    assert test.difference.value == pytest.approx(gaps.mean())
    assert test.difference[1:] == pytest.approx(theirs.confidence_interval, abs=0.005)
    error = gaps.std() / 20
    assert test.lower == pytest.approx(gaps.mean() - 1.645 * error, abs=0.005)
    assert test.upper == pytest.approx(gaps.mean() + 1.645 * error, abs=0.005)
    assert test.spread == pytest.approx(error, rel=0.05)
    assert test.better == pytest.approx(NormalDist().cdf(gaps.mean() / error), abs=0.02)
    assert test.detectable == pytest.approx((1.645 + 0.842) * error, rel=0.05)


def test_what_is_called_detectable_is_found_four_times_in_five():
    random, images, rounds = np.random.default_rng(5), 400, 250
    base = 0.7
    error = np.sqrt(2 * base * (1 - base) / images)
    gain = 2.487 * error
    found, named = 0, []
    for _ in range(rounds):
        champion, challenger = random.random(images) < base, random.random(images) < base + gain
        test = paired(ACCURACY, told(challenger)[0], *told(champion), resamples=150, confidence=0.95, seed=0)
        found += test.lower > 0
        named.append(test.detectable)
    assert np.mean(named) == pytest.approx(gain, rel=0.1)
    assert found / rounds == pytest.approx(0.8, abs=3 * np.sqrt(0.8 * 0.2 / rounds))


def test_power_by_hand():
    assert power(0.01, 0, 0.95) == pytest.approx(0.05)
    assert power(0.01, 0.01645, 0.95) == pytest.approx(0.5, abs=1e-3)
    assert power(0.01, (1.6449 + 0.8416) * 0.01, 0.95) == pytest.approx(0.8, abs=1e-4)


def test_a_model_against_itself_is_not_better():
    answers, labels = told(np.arange(100) % 4 > 0)
    test = paired(ACCURACY, answers, answers, labels, resamples=200, confidence=0.95, seed=0)
    assert test == ((0, 0, 0), 0, 0, 0, 0, 0)
    assert np.isnan(power(test.spread, 0.1, 0.95))


def test_undefined_scores_stay_undefined_and_undefined_resamples_are_passed_over():
    answers, labels = told(np.arange(10) % 2 > 0)
    score = RocAuc().score  # undefined where one class is all there is
    assert np.isnan(interval(score, answers, labels, resamples=100, confidence=0.95, seed=0)).all()
    assert np.isnan(paired(score, answers, answers, labels, resamples=100, confidence=0.95, seed=0).lower)
    labels[0] = 1  # a third of the resamples miss this image
    found = interval(score, answers, labels, resamples=300, confidence=0.95, seed=0)
    assert np.isfinite(found).all() and found.low <= found.value <= found.high


def test_resamples_come_in_portions_that_fit_in_memory():
    random = np.random.default_rng(6)
    labels = random.integers(10, size=10_000)
    answers = random.dirichlet(np.ones(10), size=10_000)
    assert max(weights.nbytes for weights in draws(10_000, 1000, seed=0)) <= 16e6
    found = interval(RocAuc().score, answers, labels, resamples=40, confidence=0.95, seed=0)
    assert found.low < 0.5 < found.high
