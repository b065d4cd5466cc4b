"""The exact McNemar test agrees with SciPy's, its bound with itself, and its power with every case counted out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pipeline.mcnemar import detectable, interval, lower, one_sided, power, two_sided, won

COUNTS = [(fixed, parted - fixed) for parted in range(1, 41) for fixed in range(parted + 1)]


def test_p_agrees_with_scipy():
    for fixed, broken in COUNTS:
        assert two_sided(fixed, broken) == pytest.approx(stats.binomtest(fixed, fixed + broken).pvalue)
        above = stats.binomtest(fixed, fixed + broken, alternative="greater").pvalue
        assert one_sided(fixed, broken) == pytest.approx(above)
    assert one_sided(0, 0) == two_sided(0, 0) == 1


def test_p_by_hand_and_of_many_at_once():
    # 8 of 9 or more, either way round: 2 * (9 + 1) / 2^9
    assert two_sided([8, 1, 3], [1, 8, 3]).tolist() == pytest.approx([20 / 512, 20 / 512, 1])
    assert one_sided([8, 1], [1, 8]).tolist() == pytest.approx([10 / 512, 511 / 512])


@pytest.mark.parametrize("confidence", [0.6, 0.75, 0.9, 0.95, 0.99, 0.999])
def test_the_bound_is_above_0_exactly_where_the_test_passes(confidence: float):
    for fixed, broken in COUNTS:
        p = stats.binomtest(fixed, fixed + broken, alternative="greater").pvalue
        passes = p < 1 - confidence and not math.isclose(p, 1 - confidence)  # 2 to 0 at 75 %: p is the limit itself
        assert (lower(100, fixed, broken, confidence) > 0) == passes
        both = two_sided(fixed, broken)
        low, high = interval(100, fixed, broken, confidence)
        parted = both < 1 - confidence and not math.isclose(both, 1 - confidence)
        assert (low > 0 or high < 0) == parted
        assert low <= (fixed - broken) / 100 <= high


def test_the_bound_is_made_of_two_of_clopper_and_pearson():
    # 18 images of 200, all won: the bounds at 95 % of 18 of 18 and of 18 of 200, one-sided, as SciPy has them
    def least(hits: int, trials: int) -> float:
        return float(stats.binomtest(hits, trials, alternative="greater").proportion_ci(0.95, "exact").low)

    won, share = 2 * least(18, 18) - 1, least(18, 200)
    by_hand = 0.09 - np.hypot(0.09 * (1 - won), won * (0.09 - share))
    assert lower(200, 18, 0, 0.95) == pytest.approx(by_hand, abs=1e-8)
    assert by_hand == pytest.approx(0.0550, abs=1e-4)


def test_models_that_never_part_may_still_differ():
    # a difference of 1 - 0.05^(1/300) leaves no trace in 300 images once in 20: the rule of three, 0.00994
    assert lower(300, 0, 0, 0.95) == pytest.approx(-(1 - 0.05 ** (1 / 300)), rel=1e-6)
    low, high = interval(300, 0, 0, 0.95)
    assert low == -high == pytest.approx(-(1 - 0.025 ** (1 / 300)), rel=1e-6)


def test_a_unit_is_won_by_who_answers_more_of_its_images_better():
    better, units = np.array([1, -1, 1, 0, -1, 1]), np.array([2, 0, 2, 1, 0, 0])
    assert won(better, units).tolist() == [-1, 0, 2]
    assert won(np.stack([better, -better], axis=1), units).tolist() == [[-1, 1], [0, 0], [2, -2]]
    assert won(better[:0], units[:0]).tolist() == []


@pytest.mark.parametrize("discordant", [0.03, 0.15, 0.5, 0.9])
@pytest.mark.parametrize("won", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_the_bound_holds_as_often_as_it_says(discordant: float, won: float):
    """Counted out: every outcome of 60 images, with its probability."""
    images, truth = 60, discordant * (2 * won - 1)
    held = 0.0
    for parted in range(images + 1):
        for fixed in range(parted + 1):
            chance = stats.binom.pmf(parted, images, discordant) * stats.binom.pmf(fixed, parted, won)
            if chance > 1e-9:
                held += chance * (lower(images, fixed, parted - fixed, 0.9) <= truth + 1e-12)
    assert held >= 0.9


@pytest.mark.parametrize(
    ("images", "discordant", "difference", "confidence"),
    [(60, 0.2, 0.1, 0.95), (40, 0.1, 0.3, 0.9), (30, 0.5, -0.1, 0.95), (25, 1, 0.2, 0.75), (20, 0.3, 0, 0.95)],
)
def test_power_counted_out(images: int, discordant: float, difference: float, confidence: float):
    share = max(discordant, difference)  # 0.1 cannot part as far as 0.3: raised to it
    won, found = (1 + difference / share) / 2, 0.0
    for parted in range(images + 1):
        passing = [
            fixed
            for fixed in range(parted + 1)
            if stats.binom.sf(fixed - 1, parted, 0.5) < (1 - confidence) * (1 - 1e-9)
        ]
        found += stats.binom.pmf(parted, images, share) * stats.binom.pmf(passing, parted, won).sum()
    assert power(images, discordant, difference, confidence) == pytest.approx(found, abs=1e-12)


def test_power_is_that_of_a_simulation_and_of_equal_models_at_most_the_error():
    random = np.random.default_rng(0)
    for difference in (0.0, 0.02, 0.05):
        parted = random.binomial(500, 0.12, 20_000)
        fixed = random.binomial(parted, (1 + difference / 0.12) / 2)
        passed = (one_sided(fixed, parted - fixed) < 0.05).mean()
        claimed = power(500, 0.12, difference, 0.95)
        assert passed == pytest.approx(claimed, abs=4 * np.sqrt(claimed * (1 - claimed) / 20_000))
    assert all(power(images, share, 0, 0.95) <= 0.05 for images in (10, 100, 1000) for share in (0.05, 0.3, 1))


def test_power_of_a_million_images_is_that_of_the_normal_approximation():
    error = np.sqrt((0.06 - 0.0005**2) / 1e6)
    expected = stats.norm.cdf(0.0005 / error - stats.norm.ppf(0.95))
    assert power(1_000_000, 0.06, 0.0005, 0.95) == pytest.approx(expected, abs=0.003)


def test_what_is_detectable_is_shown_four_times_in_five():
    for images, fixed, broken in ((200, 8, 1), (500, 30, 10), (500, 0, 0), (5000, 400, 400)):
        found = detectable(images, fixed, broken, 0.95)
        parted = (fixed + broken) / images
        assert power(images, parted, found, 0.95) >= 0.8 > power(images, parted, found - 2e-6, 0.95)
    assert detectable(500, 0, 0, 0.95) == pytest.approx(0.0134, abs=1e-4)  # five images won of five, 80 times in 100
    assert math.isnan(detectable(4, 2, 1, 0.95))  # four of four are won once in 16 by an equal model
    assert power(4, 0.5, 1, 0.95) == 0
    assert power(100, 0, 0, 0.95) == 0
