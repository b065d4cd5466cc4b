"""Two models' answers to the same images, compared: the numbers, the decision, and the words.

The exact McNemar test decides where the score is accuracy, the paired bootstrap elsewhere. Either says what it could
have shown: a difference that this many images cannot show is no finding that there is none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from pipeline import bootstrap, mcnemar
from pipeline.answering import Answers
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
        counted = challenger.counted
        if test.score == COUNTED:
            qualities = challenger.quality[counted], champion.quality[counted]
            return cls.counted(*parted(*qualities), int(counted.sum()), test.confidence)
        metric = metric_named(test.score)
        sign = 1 if metric.higher_is_better else -1
        return cls.drawn(
            lambda weights: sign * metric.score(challenger, weights),
            lambda weights: sign * metric.score(champion, weights),
            counted,
            test,
        )

    @classmethod
    def drawn(cls, challenger: bootstrap.Score, champion: bootstrap.Score, counted: np.ndarray, test: Trial) -> _Found:
        """Of scores of which higher is better; see `bootstrap.paired`."""
        confidence = test.confidence
        found = bootstrap.paired(
            challenger, champion, counted, resamples=test.resamples, confidence=confidence, seed=test.seed
        )
        trials = int(counted.sum())
        power = {points: bootstrap.power(found.spread, points, trials, confidence) for points in DIFFERENCES}
        known = power if found.detectable > 0 and not metric_named(test.score).measured else {}
        return cls("bootstrap", *found.difference, found.lower, found.upper, found.detectable, known)

    @classmethod
    def counted(cls, fixed: int, broken: int, images: int, confidence: float) -> _Found:
        """Of right and wrong answers."""
        apart = (fixed + broken) / images
        return cls(
            "McNemar",
            (fixed - broken) / images,
            *mcnemar.interval(images, fixed, broken, confidence),
            lower=mcnemar.lower(images, fixed, broken, confidence),
            upper=-mcnemar.lower(images, broken, fixed, confidence),
            detectable=mcnemar.detectable(images, fixed, broken, confidence),
            power={points: mcnemar.power(images, apart, points, confidence) for points in DIFFERENCES},
        )


def parted(challenger: np.ndarray, champion: np.ndarray) -> tuple[int, int]:
    """On how many images the challenger is better, and on how many the champion, from the qualities float64 [N]."""
    return int((challenger > champion).sum()), int((champion > challenger).sum())


def of_qualities(challenger: np.ndarray, champion: np.ndarray, champion_name: str, test: Trial) -> Comparison:
    """The numbers on how well two models answer the same images on average; `test.score` does not matter.

    Args:
        challenger: its qualities, float64 [N].
        champion: likewise.
        champion_name: for the words.
        test: the rest.
    """
    images, qualities = len(challenger), (challenger, champion)
    if _graded(*qualities):
        found = _Found.drawn(_mean_of(challenger), _mean_of(champion), np.ones(images, bool), test)
    else:
        found = _Found.counted(*parted(*qualities), images, test.confidence)
    title = "Quality of the answers" if _graded(*qualities) else "Accuracy"
    scores = float(challenger.mean()), float(champion.mean())
    return _numbers(title, scores, qualities, found, _Said(champion_name, test.confidence))


def _comparison(challenger: Answers, champion: Answers, champion_name: str, test: Trial, found: _Found) -> Comparison:
    metric = metric_named(test.score)
    once = np.ones((1, len(challenger)))
    scores = float(metric.score(challenger, once)[0]), float(metric.score(champion, once)[0])
    counted = challenger.counted  # four pictures with one answer are no four trials
    qualities = challenger.quality[counted], champion.quality[counted]
    numbers = _numbers(metric.title, scores, qualities, found, _Said(champion_name, test.confidence))
    return numbers.model_copy(update={"images": len(challenger)})


class _Said(NamedTuple):
    champion_name: str
    confidence: float


def _numbers(
    title: str, scores: tuple[float, float], qualities: tuple[np.ndarray, np.ndarray], found: _Found, said: _Said
) -> Comparison:
    fixed, broken = parted(*qualities)
    return Comparison(
        score=title,
        champion_name=said.champion_name,
        images=len(qualities[0]),
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
        p=float(mcnemar.two_sided(fixed, broken)),
        decided_by=found.decided_by,
        graded=_graded(*qualities),
        power=found.power,
    )


def _graded(challenger: np.ndarray, champion: np.ndarray) -> bool:
    return bool(((challenger % 1) != 0).any() or ((champion % 1) != 0).any())


def _mean_of(qualities: np.ndarray) -> bootstrap.Score:
    return lambda weights: np.einsum("rn,n->r", weights, qualities) / weights.sum(axis=1)


def _words(finding: str, found: Comparison) -> list[str]:
    against = " against ".join(map(_score_said, (found.challenger, found.champion)))
    return [
        f"{finding}: {found.score} {against} on the same {found.images} test images.",
        _bound(found),
        _image_by_image(found),
        _sharpness(found),
    ]


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
            f"It answers {images} better than {found.champion_name}, and {found.broken} worse (exact sign test: "
            f"{chance_said(found.p)})."
        )
    return (
        f"It answers {images} rightly that {found.champion_name} does not, and {found.broken} the other way round "
        f"(exact McNemar test: {chance_said(found.p)})."
    )


def _sharpness(found: Comparison) -> str:
    """What the test could have shown."""
    if math.isnan(found.difference):
        return f"{found.score} is undefined on these test images."
    if math.isnan(found.detectable):
        return f"{found.images} test images are too few to show any difference, however large."
    if not found.detectable:
        alike = "Every resample gives the same difference" if found.difference else "The two never differ"
        return f"{alike}, so how small a difference this test set shows cannot be said."
    often = "".join(
        f"{',' if place else ';'} one of {points:g} in {chance * 100:.0f}"
        for place, (points, chance) in enumerate(found.power.items())
    )
    return f"This test set shows a difference of {written(found.detectable)} or more in 80 of 100 such tests{often}."
