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
from pipeline.plugin import metric_named
from pipeline.registry.verdict import Comparison, Outcome, Verdict

COUNTED = "accuracy"
"""The score that is a count of right answers, which McNemar's test is about."""
DIFFERENCES = (0.01, 0.02, 0.04)
"""True differences of which is said how often the test shows them."""
NAMES = {"McNemar": "exact McNemar test", "bootstrap": "paired bootstrap"}


@dataclass(frozen=True)
class Trial:
    """What both are asked, and how the answers are compared."""

    labels: np.ndarray
    """int64 [N]."""
    score: str
    """Name of the metric."""
    confidence: float
    resamples: int
    seed: int


def judge(challenger: np.ndarray, champion: np.ndarray, champion_name: str, test: Trial) -> Verdict:
    """Compare two models' answers: promote if the challenger is better, reject if it is worse, hold if neither shows.

    Args:
        challenger: probabilities, float64 [N, K].
        champion: likewise.
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


def compare(challenger: np.ndarray, champion: np.ndarray, champion_name: str, test: Trial) -> Comparison:
    """The numbers behind a verdict; differences are positive where the challenger is better."""
    return _comparison(challenger, champion, champion_name, test, _Found.of(challenger, champion, test))


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
    def of(cls, challenger: np.ndarray, champion: np.ndarray, test: Trial) -> _Found:
        if test.score == COUNTED:
            return cls._counted(*_parted(challenger, champion, test.labels), test)
        metric = metric_named(test.score)
        sign = 1 if metric.higher_is_better else -1

        def worth(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
            return sign * metric.score(probabilities, labels, weights)

        found = bootstrap.paired(
            worth,
            challenger,
            champion,
            test.labels,
            resamples=test.resamples,
            confidence=test.confidence,
            seed=test.seed,
        )
        power = {points: bootstrap.power(found.spread, points, test.confidence) for points in DIFFERENCES}
        known = power if found.spread > 0 else {}
        return cls("bootstrap", *found.difference, found.lower, found.upper, found.detectable, known)

    @classmethod
    def _counted(cls, fixed: int, broken: int, test: Trial) -> _Found:
        images, confidence = len(test.labels), test.confidence
        parted = (fixed + broken) / images
        return cls(
            "McNemar",
            (fixed - broken) / images,
            *mcnemar.interval(images, fixed, broken, confidence),
            lower=mcnemar.lower(images, fixed, broken, confidence),
            upper=-mcnemar.lower(images, broken, fixed, confidence),
            detectable=mcnemar.detectable(images, fixed, broken, confidence),
            power={points: mcnemar.power(images, parted, points, confidence) for points in DIFFERENCES},
        )


def _parted(challenger: np.ndarray, champion: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """On how many images only the challenger is right, and on how many only the champion."""
    right, champion_right = (side.argmax(axis=1) == labels for side in (challenger, champion))
    return int((right & ~champion_right).sum()), int((champion_right & ~right).sum())


def _comparison(
    challenger: np.ndarray, champion: np.ndarray, champion_name: str, test: Trial, found: _Found
) -> Comparison:
    metric = metric_named(test.score)
    once = np.ones((1, len(test.labels)))
    fixed, broken = _parted(challenger, champion, test.labels)
    return Comparison(
        score=metric.title,
        champion_name=champion_name,
        images=len(test.labels),
        challenger=float(metric.score(challenger, test.labels, once)[0]),
        champion=float(metric.score(champion, test.labels, once)[0]),
        difference=found.difference,
        low=found.low,
        high=found.high,
        lower=found.lower,
        detectable=found.detectable,
        confidence=test.confidence,
        fixed=fixed,
        broken=broken,
        p=float(mcnemar.two_sided(fixed, broken)),
        decided_by=found.decided_by,
        power=found.power,
    )


def _words(finding: str, found: Comparison) -> list[str]:
    share = f"{found.confidence:.0%}"
    against = (
        f"{found.score} {found.challenger:.4f} against {found.champion:.4f} on the same {found.images} test images"
    )
    return [
        f"{finding}: {against}.",
        (
            f"Difference {found.difference:+.4f} ({share} interval {found.low:+.4f} to {found.high:+.4f}); by the "
            f"{NAMES[found.decided_by]} it is at least {found.lower:+.4f} with {share} confidence, and more than 0 is "
            "needed."
        ),
        (
            f"It answers {found.fixed} images rightly that {found.champion_name} does not, and {found.broken} the "
            f"other way round (exact McNemar test: p = {found.p:.2g})."
        ),
        _sharpness(found),
    ]


def _sharpness(found: Comparison) -> str:
    """What the test could have shown."""
    if math.isnan(found.detectable):
        too_few = f"{found.images} test images are too few to show any difference, however large."
        return too_few if found.decided_by == "McNemar" else f"{found.score} is undefined on these test images."
    if not found.power:
        return "The two never differ, so how small a difference this test set shows cannot be said."
    often = ", ".join(f"one of {points:g} in {chance * 100:.0f}" for points, chance in found.power.items())
    return f"This test set shows a difference of {found.detectable:.4f} or more in 80 of 100 such tests; {often}."
