"""The doctor's look at the ledger: its chain, and the files of each champion that it names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from flows.health.checks import FAILED, OK, Check
from pipeline.errors import UserError
from pipeline.registry import champion, ledger


def check_ledger(root: Path) -> Iterable[Check]:
    """Whether the chain of decisions is whole, and the champion's files are those that were promoted."""
    try:
        problem = ledger.verify()  # what a broken chain names is neither read nor called whole
        entries = [] if problem else ledger.history(None, get_args(ledger.Action))
        models = dict.fromkeys(entry.model for entry in entries if entry.action in ledger.MOVES)
    except UserError as error:
        yield Check("ledger", FAILED, str(error))
        return
    if problem:
        advice = "who wrote there? Put back a copy of the ledger; until then, trust no champion that it names"
        yield Check("ledger", FAILED, problem, advice)
    elif entries:
        count = "1 entry" if len(entries) == 1 else f"{len(entries):,} entries"
        yield Check("ledger", OK, f"{count}, and the chain is whole")
    else:
        yield Check("ledger", OK, "nothing was decided yet")
    for model in models:
        reigning = champion.current(model)
        try:
            if reigning:
                reigning.bundle()
                yield Check("champion", OK, f"{model} version {reigning.version.version}, its files are whole")
        except UserError as error:
            yield Check("champion", FAILED, str(error), f"convoy rollback --model {model} puts back the one before")
