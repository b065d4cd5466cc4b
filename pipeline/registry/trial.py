"""Two models' answers to the same images, compared: the numbers, the decision, and the words.

The exact McNemar test decides where the score is accuracy, the paired bootstrap elsewhere. Either says what it could
have shown: a difference that this many images cannot show is no finding that there is none.

Images that belong together, such as those of one patient, are one unit. The bootstrap draws units; McNemar's test
counts those that either model wins, which is exact while no unit is won by more than one image: else the bootstrap
decides, and of units only those that tell the two apart are trials. (Simulated, `benchmarks/gate.py`: of equal models
on ten images of each of 50 patients 24.4 in 100 are promoted where images are trials, and 3.5 so.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from pipeline import bootstrap, mcnemar
from pipeline.answering import Answers
from pipeline.bootstrap import Units
from pipeline.plugin import metric_named
from pipeline.registry.verdict import Comparison, Outcome, Verdict
from pipeline.wording import chance_said, difference_said, written

COUNTED = "accuracy"
"""The score that is a count of right answers, which McNemar's test is about."""
DIFFERENCES = (0.01, 0.02, 0.04)
"""True differences of a share of which is said how often the test shows them."""
NAMES = {"McNemar": "exact McNemar test", "bootstrap": "paired bootstrap"}


@dataclass(frozen=True)
class Trial:
    """How the answers of two models are compared."""

    score: str
    """Name of the metric."""
    confidence: float
    resamples: int
    seed: int
    units: Units | None = None
    """Of the images, which `dataset.Split.units` knows; None: each is by itself."""

    def of(self, images: int) -> Units:
        """The unit of each of so many images."""
        return bootstrap.alone(images) if self.units is None else self.units


def judge(challenger: Answers, champion: Answers, champion_name: str, test: Trial) -> Verdict:
    """Compare two models' answers: promote if the challenger is better, reject if it is worse, hold if neither shows.

    Args:
        challenger: its answers to N images.
        champion: answers to the same.
        champion_name: for the words.
        test: the rest.
    """
    found = _Found.of(challenger, champion, test)
    comparison = _comparison(challenger, champion, champion_name, test, found)
    # Equal models are called worse as rarely as they are called better.
    outcome: Outcome = "promote" if found.lower > 0 else "reject" if found.upper < 0 else "hold"
    finding = {
        "promote": f"Better than {champion_name}",
        "reject": f"Worse than {champion_name}",
        "hold": f"No difference to {champion_name} that this test can show",
    }[outcome]
    return Verdict(outcome=outcome, reasons=_words(finding, comparison), comparison=comparison)


class _Sides(NamedTuple):
    """How well both models answer each of n images that count."""

    challenger: np.ndarray
    """float64 [n]."""
    champion: np.ndarray
    units: Units

    @classmethod
    def of(cls, challenger: Answers, champion: Answers, test: Trial) -> _Sides:
        counted = challenger.counted  # four pictures with one answer are no four trials
        _, units = np.unique(test.of(len(challenger))[counted], return_inverse=True)
        return cls(challenger.quality[counted], champion.quality[counted], units)

    @property
    def images(self) -> int:
        return len(self.units)

    @property
    def trials(self) -> int:
        return bootstrap.how_many(self.units)

    @property
    def grouped(self) -> bool:
        """Whether some images belong together."""
        return self.trials < self.images

    @property
    def by_one(self) -> bool:
        """Whether no unit is won by more than one image."""
        return bool((np.abs(self.won) <= 1).all())

    @property
    def parted(self) -> int:
        """How many units tell the two apart, by how well their images are answered on average."""
        return int(np.count_nonzero(np.bincount(self.units, self.challenger - self.champion)))

    @property
    def better(self) -> np.ndarray:
        """1 where the challenger answers an image better, -1 where the champion does, else 0; int64 [n]."""
        better: np.ndarray = np.sign(self.challenger - self.champion).astype(np.int64)
        return better

    @property
    def won(self) -> np.ndarray:
        """By how many images the challenger wins each unit, int64 [U]."""
        return mcnemar.won(self.better, self.units)

    @property
    def graded(self) -> bool:
        """Whether an image can be answered in part."""
        return bool(((self.challenger % 1) != 0).any() or ((self.champion % 1) != 0).any())


class _Found(NamedTuple):
    """What the test that decides has found."""

    decided_by: Literal["McNemar", "bootstrap"]
    difference: float
    low: float
    high: float
    lower: float
    upper: float
    """One-sided bound: below 0 the challenger is worse."""
    detectable: float
    power: dict[float, float]

    @classmethod
    def of(cls, challenger: Answers, champion: Answers, test: Trial) -> _Found:
        sides, units = _Sides.of(challenger, champion, test), test.of(len(challenger))
        if test.score == COUNTED and not sides.graded:
            return cls.averaged(sides, test)
        metric = metric_named(test.score)
        sign = 1 if metric.higher_is_better else -1
        scores = (
            lambda weights: sign * metric.score(challenger, weights),
            lambda weights: sign * metric.score(champion, weights),
        )
        trials = sides.trials
        if sides.grouped and trials <= test.resamples:  # it costs as much as so many resamples
            # Rank 1 of people, among others, says nothing of one unit by itself: how well it is answered does.
            trials = max(sides.parted, bootstrap.parted(*scores, units))
        return cls.drawn(*scores, units, trials, test)

    @classmethod
    def averaged(cls, sides: _Sides, test: Trial) -> _Found:
        """Of how well images are answered on average."""
        if sides.by_one and not sides.graded:
            return cls.counted(sides, test.confidence)
        means = _mean_of(sides.challenger), _mean_of(sides.champion)
        return cls.drawn(*means, sides.units, sides.parted if sides.grouped else sides.trials, test)

    @classmethod
    def drawn(
        cls, challenger: bootstrap.Score, champion: bootstrap.Score, units: Units, trials: int, test: Trial
    ) -> _Found:
        """Of scores of which higher is better; see `bootstrap.paired`.

        Args:
            challenger: its score.
            champion: likewise.
            units: of all images.
            trials: how many of them tell of a model by themselves.
            test: the rest.
        """
        confidence = test.confidence
        found = bootstrap.paired(
            challenger, champion, units, trials, resamples=test.resamples, confidence=confidence, seed=test.seed
        )
        power = {points: bootstrap.power(found.spread, points, trials, confidence) for points in DIFFERENCES}
        known = power if found.detectable > 0 and not metric_named(test.score).measured else {}
        return cls("bootstrap", *found.difference, found.lower, found.upper, found.detectable, known)

    @classmethod
    def counted(cls, sides: _Sides, confidence: float) -> _Found:
        """Of right and wrong answers, where no unit is won by more than one image.

        The test is one of units; an image of a unit is so much less of all images than the unit is of all units.
        """
        units, each = sides.trials, sides.trials / sides.images
        fixed, broken = _wins(sides.won)
        apart = (fixed + broken) / units
        low, high = mcnemar.interval(units, fixed, broken, confidence)
        return cls(
            "McNemar",
            each * (fixed - broken) / units,
            each * low,
            each * high,
            lower=each * mcnemar.lower(units, fixed, broken, confidence),
            upper=-each * mcnemar.lower(units, broken, fixed, confidence),
            detectable=each * mcnemar.detectable(units, fixed, broken, confidence),
            power={points: mcnemar.power(units, apart, min(1.0, points / each), confidence) for points in DIFFERENCES},
        )


def _wins(won: np.ndarray) -> tuple[int, int]:
    """How many the challenger wins, and how many the champion."""
    return int((won > 0).sum()), int((won < 0).sum())


def of_qualities(challenger: np.ndarray, champion: np.ndarray, champion_name: str, test: Trial) -> Comparison:
    """The numbers on how well two models answer the same images on average; `test.score` does not matter.

    Args:
        challenger: its qualities, float64 [N].
        champion: likewise.
        champion_name: for the words.
        test: the rest.
    """
    sides = _Sides(challenger, champion, test.of(len(challenger)))
    found = _Found.averaged(sides, test)
    title = "Quality of the answers" if sides.graded else "Accuracy"
    scores = float(challenger.mean()), float(champion.mean())
    return _numbers(title, scores, sides, found, _Said(champion_name, test.confidence))


def _comparison(challenger: Answers, champion: Answers, champion_name: str, test: Trial, found: _Found) -> Comparison:
    metric = metric_named(test.score)
    once = np.ones((1, len(challenger)))
    scores = float(metric.score(challenger, once)[0]), float(metric.score(champion, once)[0])
    sides = _Sides.of(challenger, champion, test)
    numbers = _numbers(metric.title, scores, sides, found, _Said(champion_name, test.confidence))
    return numbers.model_copy(update={"images": len(challenger)})


class _Said(NamedTuple):
    champion_name: str
    confidence: float


def _numbers(title: str, scores: tuple[float, float], sides: _Sides, found: _Found, said: _Said) -> Comparison:
    fixed, broken = _wins(sides.better)
    return Comparison(
        score=title,
        champion_name=said.champion_name,
        images=sides.images,
        units=sides.trials,
        challenger=scores[0],
        champion=scores[1],
        difference=found.difference,
        low=found.low,
        high=found.high,
        lower=found.lower,
        detectable=found.detectable,
        confidence=said.confidence,
        fixed=fixed,
        broken=broken,
        p=float(mcnemar.two_sided(*_wins(sides.won))),
        decided_by=found.decided_by,
        graded=sides.graded,
        power=found.power,
    )


def _mean_of(qualities: np.ndarray) -> bootstrap.Score:
    return lambda weights: np.einsum("rn,n->r", weights, qualities) / weights.sum(axis=1)


def _words(finding: str, found: Comparison) -> list[str]:
    against = " against ".join(map(_score_said, (found.challenger, found.champion)))
    units = f" They make {_units(found)}: images that belong together are one." if found.grouped else ""
    return [
        f"{finding}: {found.score} {against} on the same {found.images} test images.{units}",
        _bound(found),
        _image_by_image(found),
        _sharpness(found),
    ]


def _units(found: Comparison) -> str:
    return f"{found.units} unit{'' if found.units == 1 else 's'}"


def _score_said(score: float) -> str:
    return "undefined" if math.isnan(score) else written(score)


def _bound(found: Comparison) -> str:
    """What decides."""
    share, test = f"{100 * found.confidence:g} %", NAMES[found.decided_by]
    if math.isnan(found.difference):
        return "So their difference is undefined too."
    if math.isnan(found.lower):
        difference = written(found.difference, sign="+")
        return f"Difference {difference}; the {test} has no bound for it with {share} confidence."
    difference = difference_said(found.difference, found.low, found.high, found.confidence)
    return (
        f"Difference {difference}; by the {test} it is at least {written(found.lower, sign='+')} with {share} "
        "confidence, and more than 0 is needed."
    )


def _image_by_image(found: Comparison) -> str:
    images = f"{found.fixed} image{'' if found.fixed == 1 else 's'}"
    if found.graded:
        return (
            f"It answers {images} better than {found.champion_name}, and {found.broken} worse ({found.exact_test}: "
            f"{chance_said(found.p)})."
        )
    return (
        f"It answers {images} rightly that {found.champion_name} does not, and {found.broken} the other way round "
        f"({found.exact_test}: {chance_said(found.p)})."
    )


def _sharpness(found: Comparison) -> str:
    """What the test could have shown."""
    if math.isnan(found.difference):
        return f"{found.score} is undefined on these test images."
    if math.isnan(found.detectable):
        if found.grouped:
            return f"The two part on too few of {_units(found)} to show any difference, however large."
        return f"{found.images} test images are too few to show any difference, however large."
    if not found.detectable:
        alike = "Every resample gives the same difference" if found.difference else "The two never differ"
        return f"{alike}, so how small a difference this test set shows cannot be said."
    often = "".join(
        f"{',' if place else ';'} one of {points:g} in {chance * 100:.0f}"
        for place, (points, chance) in enumerate(found.power.items())
    )
    return f"This test set shows a difference of {written(found.detectable)} or more in 80 of 100 such tests{often}."
