"""`convoy judge VERSION`: a registered version against today's champion, on the test images of today's data set."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flows.alone import alone
from flows.decisions import judging
from flows.decisions.judging import Asker
from flows.records import finding, outputs
from flows.records.terminal import day
from flows.run import device_of, prepared
from flows.worktrees import LOCK
from pipeline.dataset import Dataset
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.registry.cases import Case
from pipeline.registry.fitness import PREDICTIONS
from pipeline.registry.runs import RunRecord

MOST_REASONS = 3


def judge(root: Path, name: str) -> Case:
    """Open a case about the version that `name` means, and say what came of it.

    Raises:
        UserError: it is unknown, of another model than that of params.yaml, or there is no data set here.
    """
    record = finding.find(name)
    with alone(LOCK, _wait_for):
        params = load(Params)
        _fits(params, record)
        with device_of(prepared()):
            case = judging.judge(params, record.version, Asker(record.id), written=_written(record))
    _say(case)
    return case


def _fits(params: Params, record: RunRecord) -> None:
    if record.model != params.name:
        raise UserError(
            f"Version {record.version.version} is of {record.model!r}, and params.yaml is about {params.name!r}: "
            "the gate and the data set of the one say nothing about the other."
        )
    Dataset.open()


def _written(record: RunRecord) -> pa.Table:
    return pq.read_table(io.BytesIO(outputs.read(record, str(PREDICTIONS))))


def _say(case: Case) -> None:
    version = case.challenger.named
    print(f"{version}: {case.verdict.outcome}. {' '.join(case.verdict.reasons[:MOST_REASONS])}")
    if case.deadline:
        ways = f"convoy promote {version} --why ... or convoy reject {version}."
        print(f"It waits for a decision until {day(case.deadline)}: {ways}")
    elif case.verdict.outcome == "promote":
        print(f"Nobody is asked: convoy promote {version} --why ... makes it the champion.")


def _wait_for(holder: str) -> None:
    print(f"A run is at work here ({holder}); this waits for it. Ctrl-C gives up.", flush=True)
