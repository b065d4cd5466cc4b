"""The gate: whether a new model takes the champion's place. Both answer the same test images now; the test is paired.

Two stored numbers are never compared: "promote if the number is higher" promotes an equal model 48 times in 100
(simulated, 500 test images), the paired test at 95 % confidence 5 times.

Beside being better, a challenger keeps to the floor of every slice, and its registered files are whole, answer as the
trained model did, and fit the limits of time and size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.answering import Answers
from pipeline.asking import Told
from pipeline.dataset import Dataset, Split
from pipeline.params import Params
from pipeline.registry import fitness, rivals, slices, trial
from pipeline.registry.champion import Champion, Version
from pipeline.registry.fitness import Fitness
from pipeline.registry.rivals import Rival
from pipeline.registry.said import said
from pipeline.registry.slices import Cut
from pipeline.registry.trial import Trial
from pipeline.registry.verdict import Verdict

CHANGES = ("both wrong", "broken", "fixed", "both right")
"""What became of an image; `fixed`: the challenger answers it better, or alone rightly, `broken`: the champion does.
Of images that both answer alike, `both right` are those that they answer perfectly."""
SLICE = "slice:"
"""Before the names of the columns that say in which slice an image is."""
IMAGE_COLUMNS = {
    "id": pa.string(),
    "source": pa.string(),
    "label": pa.string(),
    "challenger": pa.string(),
    "challenger_confidence": pa.float64(),
    "champion": pa.string(),
    "champion_confidence": pa.float64(),
    "change": pa.string(),
    "challenger_marks": pa.large_string(),
    "challenger_mask": pa.large_binary(),
    "champion_marks": pa.large_string(),
    "champion_mask": pa.large_binary(),
}
"""Label and answers in words, such as the name of a class; `change` is one of `CHANGES`; marks and masks are what is to
be drawn: see `said.Said`."""
DRAWN = ("broken", "fixed", "both wrong")
"""Of these images answers are kept to be drawn, in this order."""


@dataclass(frozen=True)
class Judgement:
    """What the gate says, and what both answered."""

    verdict: Verdict
    images: pa.Table
    """`IMAGE_COLUMNS` and `slice:NAME` for each slice of the params: one row per test image in the order of their ids,
    none where nothing was compared."""


def decide(
    params: Params,
    challenger: Version,
    champion: Champion | None,
    ask: Callable[[Path], Told],
    written: pa.Table | None = None,
) -> Judgement:
    """Judge a registered model.

    Args:
        params: of the run; `out/` holds what it computed.
        challenger: as registered.
        champion: as it stands; None if there is none, then the best of the baselines takes its place.
        ask: from a bundle's folder to what it says of the test split in the order of its ids, in a fresh process, so
            that files are judged and not what is in memory: `pipeline.asking.ask`.
        written: `predictions.parquet` of the run that made it, of which the images that are still in the test split
            are compared; by default `out/evaluation` is about it and about this test split.

    Raises:
        Killed: a process that was asked was ended from outside.
        UserError: `gate.slices` names what the dataset does not have, or the challenger cannot be asked.
    """
    dataset = Dataset.open()
    slices.check(params.gate.slices, slices.columns(dataset))
    split = dataset.split("test")
    fit = fitness.examine(challenger, split.ids, params.gate, ask, written)
    if fit.bundle is None or not fit.comparable:
        found = Judgement(Verdict(outcome="reject", reasons=fit.problems), _empty(params))
    else:
        test = _trial(params, split)
        if champion:
            rival = rivals.reigning(champion, challenger.digest, dataset, ask)
        else:
            rival = rivals.baseline(params, dataset, fit.bundle.info, test)
        found = _compared(params, split, fit, rival, test)
    about = {
        "checks": tuple(fit.checks),
        "challenger": challenger.digest,
        "champion": champion.version.digest if champion else "",
        "dataset": dataset.info.digest,
        "epoch": champion.epoch if champion else 0,
    }
    return Judgement(found.verdict.model_copy(update=about), found.images)


def _compared(params: Params, split: Split, fit: Fitness, rival: Rival | Verdict, test: Trial) -> Judgement:
    """What comparison, floors and limits come to."""
    if isinstance(rival, Verdict):
        return Judgement(_unless(fit.problems, rival), _empty(params))
    assert fit.told is not None
    told = fit.told.answers
    verdict = trial.judge(told, rival.told, rival.name, test)
    if rival.advice and verdict.outcome != "promote":
        verdict = verdict.model_copy(update={"reasons": [*verdict.reasons, rival.advice]})
    cuts = [slices.by_column(name, split.samples.column(name)) for name in params.gate.slices]
    sides = told, rival.told
    of_columns = [row for cut in cuts for row in slices.by_value(cut, *sides, params.gate, split.units)]
    rows = (*slices.by_class(*sides, params.gate, split.units), *of_columns)
    verdict = _unless([*fit.problems, *slices.under(rows)], verdict.model_copy(update={"slices": rows}))
    return Judgement(verdict, _images(split, sides, cuts))


def _unless(problems: list[str], verdict: Verdict) -> Verdict:
    """The verdict, or a rejection if anything stands against the challenger whatever it scores."""
    outcome = "reject" if problems else verdict.outcome
    return verdict.model_copy(update={"outcome": outcome, "reasons": [*problems, *verdict.reasons]})


def _trial(params: Params, split: Split) -> Trial:
    return Trial(
        score=params.task.score,
        confidence=params.gate.confidence,
        resamples=params.evaluate.resamples,
        seed=params.seed,
        units=split.units,
    )


def _images(split: Split, told: tuple[Answers, Answers], cuts: Sequence[Cut]) -> pa.Table:
    """Row by row what was asked, what both answered, and what became of it."""
    challenger, champion = told
    places = range(len(challenger))
    ours, theirs = challenger.quality, champion.quality
    change = np.where(ours > theirs, 2, np.where(theirs > ours, 1, np.where(ours == 1, 3, 0)))
    first = [place for name in DRAWN for place in np.flatnonzero(change == CHANGES.index(name)).tolist()]
    new, old = said(challenger, first), said(champion, first)
    columns = {
        "id": split.samples.column("id"),
        "source": split.samples.column("source"),
        "label": [challenger.true(place).words for place in places],
        "challenger": new.words,
        "challenger_confidence": challenger.confidence,
        "champion": old.words,
        "champion_confidence": champion.confidence,
        "change": pa.array(CHANGES).take(pa.array(change)),
        "challenger_marks": new.marks,
        "challenger_mask": new.masks,
        "champion_marks": old.marks,
        "champion_mask": old.masks,
        **{SLICE + cut.column: cut.texts() for cut in cuts},
    }
    return pa.table(columns, schema=_schema([cut.column for cut in cuts]))


def _empty(params: Params) -> pa.Table:
    return _schema(params.gate.slices).empty_table()


def _schema(names: Sequence[str]) -> pa.Schema:
    return pa.schema({**IMAGE_COLUMNS, **{SLICE + name: pa.string() for name in names}})
