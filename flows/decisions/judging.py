"""The gate's verdict as a case: opened by the run that made the model, or by `convoy judge` later."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.asking import ask
from pipeline.files import sha256_of
from pipeline.params import Params
from pipeline.registry import cases, champion, decisions, gate
from pipeline.registry.cases import Case
from pipeline.registry.champion import Version

if TYPE_CHECKING:
    import pyarrow as pa

REPORT = Path("out/evaluation/report.html")
HOUR = 3_600_000


@dataclass(frozen=True)
class Asker:
    """On whose behalf a model is judged."""

    run: str
    """Id of the run."""
    flow_run: str = ""
    """Of Prefect, that waits for the decision; empty if none does."""
    push: bool = False
    """Whether a champion is to be published in the DVC remote."""


def judge(params: Params, version: Version, asker: Asker, before: str = "", written: pa.Table | None = None) -> Case:
    """Let challenger and champion answer the test images of `out/dataset`, and open a case about it.

    Args:
        params: whose gate asks.
        version: the challenger.
        asker: who wants to know.
        before: the case that an earlier attempt of the same run opened; what was decided about it stands.
        written: what it answered when it was evaluated, if `out/evaluation` is not about it.
    """
    if before:
        known = cases.standing(before)
        if known.decision and known.case.challenger == version:
            return known.case
    reigning = champion.current(params.name)
    judgement = gate.decide(params, version, reigning, lambda bundle: ask(bundle, params.compute), written)
    verdict, now = judgement.verdict, time.time_ns() // 1_000_000
    waits = params.gate.promote == "ask" and verdict.outcome == "promote"
    compared = [params.gate.model_dump(mode="json"), params.task.score, params.evaluate.resamples, params.seed]
    case = Case(
        id=cases.identify(asker.run, version.digest, verdict, json.dumps(compared)),
        run=asker.run,
        flow_run=asker.flow_run if waits else "",
        challenger=version,
        champion=reigning.version if reigning else None,
        verdict=verdict,
        report_digest=sha256_of(REPORT) if REPORT.exists() and written is None else "",
        made=now,
        deadline=now + round(params.gate.decide_within_hours * HOUR) if waits else 0,
        push=asker.push,
    )
    return cases.open_case(case, judgement.images, decisions.person())
