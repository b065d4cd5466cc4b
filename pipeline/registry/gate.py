"""The gate: whether a new model takes the champion's place. Both answer the same test images now; the test is paired.

Two stored numbers are never compared: "promote if the number is higher" promotes an equal model 48 times in 100
(simulated, 500 test images), the paired test at 95 % confidence 5 times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq

from pipeline.bootstrap import paired
from pipeline.bundle import Bundle
from pipeline.contracts import Options
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.files import DATASET
from pipeline.params import Params
from pipeline.plugin import metric_named
from pipeline.registry.champion import Champion, Version, bundle_of

PREDICTIONS = Path("out/evaluation/predictions.parquet")
TOLERANCE = 1e-5
"""Probabilities that differ by more are other answers; float32 on another device differs by less."""


class Comparison(Options):
    """Challenger and champion on the same test images."""

    score: str
    """Title of the metric."""
    champion_name: str
    """`version 3`, or `the baseline`."""
    images: int
    challenger: float
    champion: float
    difference: float
    """How much better the challenger is."""
    low: float
    high: float
    """Two-sided interval of the difference."""
    lower: float
    """One-sided bound: above 0 the challenger is better."""
    detectable: float
    """Smallest true difference that these images show in 80 of 100 such tests."""
    confidence: float
    fixed: int
    """Images that only the challenger answers rightly."""
    broken: int
    """Images that only the champion answers rightly."""
    p: float
    """Of the exact McNemar test, two-sided: how often equal models part so far on right answers."""


class Verdict(Options):
    """What the gate says, and why."""

    outcome: Literal["promote", "hold", "reject"]
    reasons: list[str]
    comparison: Comparison | None = None
    challenger: str = ""
    """Digest of the model that this is about."""
    epoch: int = 0
    """Of the ledger, when this was decided."""


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


def decide(
    params: Params,
    challenger: Version,
    champion: Champion | None,
    answers: Callable[[Path], np.ndarray],
    kept: Verdict | None = None,
) -> Verdict:
    """The verdict on the model that has just been registered.

    Args:
        params: of the run; `out/` holds what it computed.
        challenger: as registered.
        champion: as it stands; None if there is none, then the task's baseline takes its place.
        answers: from a bundle's folder to its probabilities, float64 [N, K], for the test split in the order of its
            ids; in a fresh process, so that files are judged and not what is in memory.
        kept: what an earlier attempt of the same run was told.
    """
    promoted = kept and champion and champion.version.digest == challenger.digest == kept.challenger
    if promoted and kept and champion and kept.epoch + 1 == champion.epoch:
        return kept  # on this verdict it was promoted, by a process that was then killed
    verdict = _decide(params, challenger, champion, answers)
    return verdict.model_copy(update={"challenger": challenger.digest, "epoch": champion.epoch if champion else 0})


def judge(challenger: np.ndarray, champion: np.ndarray, champion_name: str, test: Trial) -> Verdict:
    """Compare two models' answers: promote if the challenger is better, reject if it is worse, hold if neither shows.

    Args:
        challenger: probabilities, float64 [N, K].
        champion: likewise.
        champion_name: for the words.
        test: the rest.
    """
    comparison = compare(challenger, champion, champion_name, test)
    outcome: Literal["promote", "hold", "reject"] = "promote" if comparison.lower > 0 else "hold"
    # Equal models are called worse as rarely as they are called better.
    if comparison.difference < 0 and compare(champion, challenger, "the challenger", test).lower > 0:
        outcome = "reject"
    finding = {
        "promote": f"Better than {champion_name}",
        "reject": f"Worse than {champion_name}",
        "hold": f"No difference to {champion_name} that this test can show",
    }[outcome]
    return Verdict(outcome=outcome, reasons=_words(finding, comparison), comparison=comparison)


def compare(challenger: np.ndarray, champion: np.ndarray, champion_name: str, test: Trial) -> Comparison:
    """The numbers behind a verdict; differences are positive where the challenger is better."""
    metric = metric_named(test.score)
    sign = 1 if metric.higher_is_better else -1

    def worth(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return sign * metric.score(probabilities, labels, weights)

    from scipy.stats import binomtest  # its import takes a second, which those who only read verdicts need not wait

    found = paired(
        worth,
        challenger,
        champion,
        test.labels,
        resamples=test.resamples,
        confidence=test.confidence,
        seed=test.seed,
    )
    once = np.ones((1, len(test.labels)))
    right, champion_right = (side.argmax(axis=1) == test.labels for side in (challenger, champion))
    fixed, broken = int((right & ~champion_right).sum()), int((champion_right & ~right).sum())
    return Comparison(
        score=metric.title,
        champion_name=champion_name,
        images=len(test.labels),
        challenger=float(metric.score(challenger, test.labels, once)[0]),
        champion=float(metric.score(champion, test.labels, once)[0]),
        difference=found.difference.value,
        low=found.difference.low,
        high=found.difference.high,
        lower=found.lower,
        detectable=found.detectable,
        confidence=test.confidence,
        fixed=fixed,
        broken=broken,
        p=float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0,
    )


def unfaithful(told: np.ndarray, ids: Sequence[str]) -> str | None:
    """What is wrong if the registered files do not give the answers that `evaluate` wrote.

    Args:
        told: their probabilities, float64 [N, K].
        ids: of the N images.
    """
    table = pq.read_table(PREDICTIONS, columns=["id", "probabilities"])
    written = np.stack(table.column("probabilities").to_numpy(zero_copy_only=False)) if table.num_rows else None
    if written is None or table.column("id").to_pylist() != list(ids) or written.shape != told.shape:
        return f"{PREDICTIONS} is about other test images than {DATASET}: run `convoy run` again."
    farthest = float(np.abs(written - told).max())
    if not farthest <= TOLERANCE:  # so written, nan is caught too
        return (
            "The registered files give other answers than the trained model: a probability differs by "
            f"{farthest:.2g}, and {TOLERANCE:g} is the limit. Remove this version in MLflow and run again."
        )
    return None


def _decide(
    params: Params, challenger: Version, champion: Champion | None, answers: Callable[[Path], np.ndarray]
) -> Verdict:
    dataset = Dataset.open()
    if champion and (early := _settled_early(champion, challenger, dataset.info.classes)):
        return early
    test_split = dataset.split("test")
    told = answers(bundle_of(challenger))
    if problem := unfaithful(told, test_split.ids):
        return Verdict(outcome="reject", reasons=[problem])
    if champion:
        other, name = answers(champion.bundle()), f"version {champion.version.version}"
    else:
        seen = params.task.targets(dataset.split("train").samples)
        other, name = params.task.baseline(seen, len(dataset.info.classes), len(test_split)), "the baseline"
    test = Trial(
        labels=params.task.targets(test_split.samples),
        score=params.task.score,
        confidence=params.gate.confidence,
        resamples=params.evaluate.resamples,
        seed=params.seed,
    )
    return judge(told, other, name, test)


def _settled_early(champion: Champion, challenger: Version, classes: list[str]) -> Verdict | None:
    """The verdict where there is nothing to compare."""
    version = f"version {champion.version.version}"
    try:
        known = Bundle.open(champion.bundle()).info.classes
    except UserError as error:
        if champion.version.digest == challenger.digest:
            reason = f"It is the champion, {version}, whose files were gone or changed; these are whole."
            return Verdict(outcome="promote", reasons=[reason])
        way_out = "Put its files back, or choose another `name` in params.yaml: it starts without a champion."
        return Verdict(outcome="hold", reasons=[f"The champion cannot be compared with. {error} {way_out}"])
    if champion.version.digest == challenger.digest:
        return Verdict(outcome="hold", reasons=[f"It is the champion already, as {version}: the same files."])
    if known != classes:
        gone, new = sorted(set(known) - set(classes)), sorted(set(classes) - set(known))
        reason = (
            f"The champion, {version}, knows other classes ({_listed('no longer there', gone)}{_listed('new', new)}"
            f"{len(known)} then, {len(classes)} now), so the two cannot be compared. "
            "Choose another `name` in params.yaml for this model: it starts without a champion."
        )
        return Verdict(outcome="hold", reasons=[reason])
    return None


def _words(finding: str, found: Comparison) -> list[str]:
    share = f"{found.confidence:.0%}"
    against = (
        f"{found.score} {found.challenger:.4f} against {found.champion:.4f} on the same {found.images} test images"
    )
    return [
        f"{finding}: {against}.",
        (
            f"Difference {found.difference:+.4f} ({share} interval {found.low:+.4f} to {found.high:+.4f}); with "
            f"{share} confidence it is at least {found.lower:+.4f}, and more than 0 is needed."
        ),
        (
            f"It answers {found.fixed} images rightly that {found.champion_name} does not, and {found.broken} the "
            f"other way round (exact McNemar test: p = {found.p:.2g})."
        ),
        f"This test set shows a difference of {found.detectable:.4f} or more in 80 of 100 such tests.",
    ]


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(repr(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{what}: {shown}; "
