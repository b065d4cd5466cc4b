"""How scores, their intervals and the values on an axis are written, of whatever size."""

from __future__ import annotations

import math

import pytest

from pipeline.wording import (
    ALIKE,
    LONGEST_TICK,
    between,
    by_power,
    chance_said,
    counted,
    difference_said,
    images_said,
    interval_said,
    scored,
    short,
    spread_said,
    stepped,
    written,
)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.9651, 0.9812, "0.9651 to 0.9812"),
        (0.9991, 1.0, "0.99910 to 1"),
        (0.0, 0.013, "0 to 0.0130"),
        (0.99961, 0.99964, "0.999610 to 0.999640"),
        (0.99999, 1.0, "0.9999900 to 1"),
        (-0.00001, 0.002, "-1e-5 to 0.0020"),
        (45_000.0, 60_000.0, "45,000 to 60,000"),
        (52_310.2, 52_310.4, "52,310.20 to 52,310.40"),
        (1e-9, 3e-9, "1e-9 to 3e-9"),
        (1.00001e30, 1.00002e30, "1.00001e30 to 1.00002e30"),
        (1.0, 1.0, ""),
        (None, None, ""),
        (math.nan, math.nan, ""),
    ],
)
def test_the_ends_of_an_interval_can_be_told_apart(low: float | None, high: float | None, words: str) -> None:
    assert between(low, high) == words


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [
        (0.01, 4, "0.01"),
        (0.034549150, 4, "0.03455"),
        (0.0001, 4, "0.0001"),
        (0.00002, 4, "2e-5"),
        (1e-7, 4, "1e-7"),
        (9999.7, 4, "10,000"),
        (3000.0, 3, "3,000"),
        (-52_310.4, 4, "-52,310"),
        (1.052631e29, 4, "1.053e29"),
        (1e30, 6, "1e30"),
        (math.nan, 4, "nan"),
        (-math.inf, 4, "-inf"),
    ],
)
def test_few_digits_of_a_number_of_any_size(value: float, digits: int, words: str) -> None:
    assert short(value, digits) == words


def test_a_score_has_its_interval_and_no_interval_that_is_a_point() -> None:
    assert scored(0.9731, 0.9651, 0.9812) == "0.9731 (0.965 to 0.981)"
    assert scored(0.99967, 0.9991, 1.0, 5) == "0.99967 (0.99910 to 1)"
    assert scored(1.0, 1.0, 1.0) == "1.0000"
    assert scored(0.5, None, None) == "0.5000"
    assert scored(None, None, None) == "-"


def test_a_point_says_what_so_many_images_are_worth() -> None:
    point, wide = ({"value": value, "low": low, "high": 1.0} for value, low in ((1.0, 1.0), (0.99, 0.98)))
    scores = {"images": 299, "units": 299, "accuracy": point, "f1": point}
    # 0.99 of all images answered rightly: 299 of them are so with a probability of 0.99**299 = 0.0495
    worth = "perfect; of other images like these, expect fewer than 1.0 % to be answered wrongly"
    assert spread_said(scores, "accuracy") == spread_said(scores, "f1") == worth
    assert spread_said(scores | {"accuracy": wide}, "accuracy", 3) == "95 % interval 0.980 to 1"
    none = {"value": 0.0, "low": 0.0, "high": 0.0}
    assert spread_said({"images": 9, "units": 9, "accuracy": none}, "accuracy") == ALIKE


def test_images_that_belong_together_are_said_to() -> None:
    assert images_said({"images": 1342, "units": 1342}) == images_said({"images": 1342}) == "1,342 test images"
    assert images_said({"images": 108, "units": 18}) == "108 test images in 18 units"
    assert images_said({"images": 5, "units": 1}) == "5 test images in 1 unit"
    point = {"value": 1.0, "low": 1.0, "high": 1.0}
    # of ten patients whose images are all answered rightly: 0.741**10 = 0.05
    assert "fewer than 25.9 %" in spread_said({"images": 100, "units": 10, "accuracy": point}, "accuracy")
    assert "fewer than 3.0 %" in spread_said({"images": 100, "accuracy": point}, "accuracy")


def test_a_difference_has_signs_and_the_confidence_that_was_asked_for() -> None:
    assert difference_said(0.012, -0.004, 0.02806, 0.95) == "+0.0120 (95 % interval -0.0040 to +0.0281)"
    assert difference_said(0.0, 0.0, 0.0, 0.9) == f"+0.0000 ({ALIKE})"
    assert interval_said(0.1, 0.2, confidence=0.975, digits=2) == "97.5 % interval 0.10 to 0.20"


def test_a_chance_too_small_to_matter_is_not_written_out() -> None:
    assert [chance_said(p) for p in (1, 0.0312, 0.0005, 4.9e-4, 1e-49, 0)] == [
        "p = 1.000", "p = 0.031", "p = 0.001", "p < 0.001", "p < 0.001", "p < 0.001",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "words"),
    [(1e30, "1e30"), (3.2e-7, "3.2e-7"), (-2.5e-7, "-2.5e-7"), (1.2345e15, "1.23e15"), (0.0001, "1e-4")],
)
def test_powers_of_ten_are_written_as_people_write_them(value: float, words: str) -> None:
    assert by_power(value) == words
    assert by_power(math.inf) == "inf" and by_power(math.nan) == "nan"


@pytest.mark.parametrize("value", [1 - 1e-4, 1 - 1e-6, 4e-4, 1e-9, 4.9e-5, 5e-324])
@pytest.mark.parametrize("digits", [1, 3, 4])
def test_nothing_reads_as_perfect_or_as_nothing_that_is_neither(value: float, digits: int) -> None:
    assert float(written(value, digits)) not in (0, 1)


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0, 1e30, ["0", "2e29", "4e29", "6e29", "8e29", "1e30"]),
        (0, 3.2e-7, ["0", "1e-7", "2e-7", "3e-7"]),
        (-2e-9, 1e-9, ["-2e-9", "-1e-9", "0", "1e-9"]),
        (0, 3.4e38, ["0", "1e38", "2e38", "3e38"]),
        (0, 1e13, ["0", "2e12", "4e12", "6e12", "8e12", "1e13"]),
        (0, 1e-4, ["0", "2e-5", "4e-5", "6e-5", "8e-5", "1e-4"]),
        (12_345.1, 12_345.6, ["12345.1", "12345.2", "12345.3", "12345.4", "12345.5", "12345.6"]),
        (2e12, 2.1e12, ["2e12", "2.02e12", "2.04e12", "2.06e12", "2.08e12", "2.1e12"]),
        (5, 5, ["5"]),
        (0, 0, ["0"]),
    ],
)
def test_values_on_an_axis_are_round_and_short(low: float, high: float, marks: list[str]) -> None:
    values, texts = zip(*stepped(low, high), strict=True)
    assert list(texts) == marks
    assert max(map(len, texts)) <= LONGEST_TICK
    assert [float(text) for text in texts] == pytest.approx(values, rel=1e-9)


@pytest.mark.parametrize("power", range(-30, 39))
def test_values_on_an_axis_of_any_size_differ_and_lie_on_it(power: int) -> None:
    for low, high in ((0.0, 3.3), (1.2, 9.9), (-4.0, 4.0)):
        found = stepped(low * 10.0**power, high * 10.0**power)
        texts = [text for _, text in found]
        assert 3 <= len(set(texts)) == len(texts) <= 11
        assert max(map(len, texts)) <= LONGEST_TICK


def test_counts_on_an_axis_are_whole() -> None:
    assert [text for _, text in counted(1, 4)] == ["1", "2", "3", "4"]
    assert [text for _, text in counted(1, 400_000)] == ["100k", "200k", "300k", "400k"]
