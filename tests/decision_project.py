"""Registered versions and judged cases, made in a moment: what the tests of deciding decide on. No network answers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.answers.labels import LabelAnswers
from pipeline.bootstrap import alone
from pipeline.bundle import FILES, digest_of
from pipeline.params import GateOptions
from pipeline.registry import cases, champion, slices, trial
from pipeline.registry.cases import Case
from pipeline.registry.champion import Version
from pipeline.registry.trial import Trial
from pipeline.registry.verdict import Check, Verdict

MODEL = "pets"
EVIL = "<script>document.title='owned'</script>"
SOUND = (Check(name="files", passed=True, found="the files are those of the digest"),)
UNSOUND = (Check(name="latency", passed=False, found="40 ms a picture, and 20 ms are allowed."),)
IMAGES = pa.table({"id": ["a" * 64], "source": ["cat/1.png"], "label": ["cat"], "change": ["fixed"]})


def make_version(number: str, root: Path = Path(), model: str = MODEL) -> Version:
    """A version whose files are there, each with contents of its own."""
    folder = root / "models" / model / number
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).write_text(f"{model} {number} {name}")
    return Version(
        name=model, version=number, digest=digest_of(folder), dataset="d" * 64, location=f"models/{model}/{number}"
    )


def make_case(version: Version, **changes: Any) -> Case:
    """A case about it against the champion of the moment, that waits for a day."""
    reigning = champion.current(version.name)
    images = changes.pop("images", IMAGES)
    plain = Verdict(outcome=changes.pop("outcome", "promote"), reasons=["Better than before."])
    about = {
        "checks": changes.pop("checks", SOUND),
        "challenger": version.digest,
        "champion": reigning.version.digest if reigning else "",
        "dataset": changes.pop("dataset", version.dataset),
        "epoch": reigning.epoch if reigning else 0,
    }
    verdict = changes.pop("verdict", plain).model_copy(update=about)
    run = changes.pop("run", "0" * 32)
    now = time.time_ns() // 1_000_000
    fields = {
        "id": cases.identify(run, version.digest, verdict, ""),
        "run": run,
        "flow_run": "",
        "challenger": version,
        "champion": reigning.version if reigning else None,
        "verdict": verdict,
        "report_digest": "e" * 64,
        "made": now,
        "deadline": now + 86_400_000,
        "push": False,
    }
    return cases.open_case(Case.model_validate(fields | changes), images, "ada")


def make_full_case(root: Path, dataset: str, version: Version, **changes: Any) -> Case:
    """A case about pictures of a page's project (tests/page_project.py), compared as the gate does it."""
    samples = pq.read_table(root / "out/dataset/samples.parquet")
    samples = samples.filter(pc.equal(samples.column("split"), "test"))
    classes = json.loads((root / "out/dataset/dataset.json").read_bytes())["classes"]
    labels = samples.column("label").to_numpy().astype(np.int64)
    told, rival = _answering(labels, classes, 0.94, 1), _answering(labels, classes, 0.80, 2)
    verdict = trial.judge(told, rival, "version 3", Trial("accuracy", 0.95, 200, 0))
    rows = slices.by_class(told, rival, GateOptions(class_floor=0.9), alone(len(labels)))
    names = np.array(classes, dtype=object)
    changed = np.array(["both wrong", "broken", "fixed", "both right"], dtype=object)
    images = pa.table(
        {
            "id": samples.column("id"),
            "source": samples.column("source"),
            "label": names[labels],
            "challenger": names[told.predicted],
            "challenger_confidence": told.confidence,
            "champion": names[rival.predicted],
            "champion_confidence": rival.confidence,
            "change": changed[2 * told.right + rival.right],
            "slice:site": np.array(["north", "south"], dtype=object)[labels % 2],
        }
    )
    verdict = verdict.model_copy(update={"slices": tuple(rows), "reasons": [*verdict.reasons, f"Names may be {EVIL}."]})
    return make_case(version, images=images, verdict=verdict, dataset=dataset, **changes)


def _answering(labels: np.ndarray, classes: list[str], skill: float, seed: int) -> LabelAnswers:
    """Of a model that is right so often."""
    dice = np.random.default_rng(seed)
    said = np.where(dice.random(len(labels)) < skill, labels, (labels + 1) % len(classes))
    shares = dice.dirichlet(np.full(len(classes), 0.3), len(labels)) * 0.4
    shares[np.arange(len(labels)), said] += 0.6
    return LabelAnswers(classes, labels, shares)
