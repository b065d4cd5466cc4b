"""Whom a challenger is compared with: the champion as it answers now, or the best baseline where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.answering import Answers
from pipeline.asking import Killed, Told
from pipeline.bundle import Bundle, BundleInfo
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.plugin import metric_named
from pipeline.registry import baselines
from pipeline.registry.champion import Champion
from pipeline.registry.tracking import Away
from pipeline.registry.trial import Trial
from pipeline.registry.verdict import Verdict

EASY = (
    "A network that does no better is not needed, or training pictures leaked into the test split. If the task is "
    "known to be easy, set gate.baseline to largest_class in params.yaml."
)


@dataclass(frozen=True)
class Rival:
    """What the challenger is compared with."""

    name: str
    """For the words."""
    told: Answers
    """Its answers to the test split."""
    advice: str = ""
    """What to think of a challenger that is no better."""


def baseline(params: Params, dataset: Dataset, bundle: BundleInfo, test: Trial) -> Rival:
    """The baseline that scores best.

    Args:
        params: which baselines.
        dataset: that they learn from and are asked about.
        bundle: of the challenger, whose pictures are packed already.
        test: the score.
    """
    metric = metric_named(test.score)
    means = params.gate.baseline == "class_means"
    told = baselines.answers(params.task, dataset, bundle, means=means)

    def worth(name: str) -> float:
        score = float(metric.score(told[name], np.ones((1, len(told[name]))))[0])
        return -np.inf if np.isnan(score) else metric.turned(score)

    best = max(told, key=worth)
    return Rival(best, told[best], EASY if best == baselines.CLASS_MEANS else "")


def reigning(champion: Champion, challenger: str, dataset: Dataset, ask: Callable[[Path], Told]) -> Rival | Verdict:
    """The champion, asked now; or the verdict where there is nothing to compare.

    Args:
        champion: as it stands.
        challenger: digest of the challenger.
        dataset: whose test split is asked about.
        ask: from a bundle's folder to what it says of the test split.

    Raises:
        Killed: the process that was asked was ended from outside.
        Away: its files lie in a store that does not answer.
    """
    version, same = f"version {champion.version.version}", champion.version.digest == challenger
    try:
        folder = champion.bundle()
        info = Bundle.open(folder).info
        known, task = info.classes, info.task["name"]
        if not same and known == dataset.info.classes and task == dataset.info.task:
            return Rival(version, ask(folder).answers)
    except (Away, Killed):
        raise
    except UserError as error:
        if same:
            reason = f"It is the champion, {version}, whose files were gone or changed; these are whole."
            return Verdict(outcome="promote", reasons=[reason])
        way_out = "Put its files back, or choose another `name` in params.yaml: it starts without a champion."
        return Verdict(outcome="hold", reasons=[f"The champion cannot be compared with. {error} {way_out}"])
    if same:
        return Verdict(outcome="hold", reasons=[f"It is the champion already, as {version}: the same files."])
    classes = dataset.info.classes
    gone, new = sorted(set(known) - set(classes)), sorted(set(classes) - set(known))
    if task != dataset.info.task:
        reason = (
            f"The champion, {version}, is of another task, {task!r}, so the two cannot be compared. "
            "Choose another `name` in params.yaml for this model: it starts without a champion."
        )
        return Verdict(outcome="hold", reasons=[reason])
    reason = (
        f"The champion, {version}, knows other classes ({_listed('no longer there', gone)}{_listed('new', new)}"
        f"{len(known)} then, {len(classes)} now), so the two cannot be compared. "
        "Choose another `name` in params.yaml for this model: it starts without a champion."
    )
    return Verdict(outcome="hold", reasons=[reason])


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(repr(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{what}: {shown}; "
