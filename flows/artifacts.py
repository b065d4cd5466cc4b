"""What Prefect's page shows of a run: the scores, the pictures, and the gate's verdict."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

from prefect import get_run_logger

from flows.stage import StageRun
from flows.worker.untold import Shown
from pipeline.params import Params
from pipeline.plugin import metrics_for
from pipeline.registry.champion import Version
from pipeline.registry.verdict import Verdict
from pipeline.wording import between, written

SCORES = Path("out/evaluation/metrics.json")
PICTURES = {
    "worst-errors": ("Worst errors on the test images", Path("out/evaluation/errors.png")),
    "augmented": ("Training pictures as augmentation varies them", Path("out/policy/preview.png")),
}
LARGEST = 2_000_000
"""Bytes of a picture that goes into the page itself; a larger one is named by its path."""


def stage_done(done: StageRun) -> None:
    """Log how a stage ended."""
    get_run_logger().info("%s: %s in %.1f s", done.name, done.outcome, done.seconds)


def of_run(params: Params, version: Version, verdict: Verdict, reigns: bool) -> list[Shown]:
    """Scores, verdict and pictures, for the page of the flow run."""
    found = json.loads(SCORES.read_text())
    rows = [
        {
            "score": metric.title,
            "test": _number(found[name]["value"]),
            "95 % interval": between(found[name]["low"], found[name]["high"]),
        }
        for name, metric in metrics_for(params.task).items()
        if name in found  # what these images leave undefined is not among them, such as the mAP of large objects
    ]
    model = re.sub(r"[^a-z0-9]+", "-", params.name.lower()).strip("-")  # all that Prefect takes in a key
    title = f"{params.name} version {version.version} on the test images"
    scores = Shown(type="table", key=f"{model}-scores", description=title, data=json.dumps(rows))
    place = "is the champion now" if reigns else "is not the champion"
    reasons = "\n".join(f"- {reason}" for reason in verdict.reasons)
    text = f"## {verdict.outcome}: version {version.version} {place}\n\n{reasons}\n"
    title = f"The gate's verdict on {params.name} version {version.version}"
    gate = Shown(type="markdown", key=f"{model}-gate", description=title, data=text)
    return [scores, gate, *(_picture(f"{model}-{key}", title, path) for key, (title, path) in PICTURES.items())]


def _picture(key: str, title: str, path: Path) -> Shown:
    data = path.read_bytes()
    inside = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    picture = f"![{title}]({inside})" if len(data) <= LARGEST else f"`{path}`"
    return Shown(type="markdown", key=key, description=title, data=f"## {title}\n\n{picture}\n")


def _number(value: float | None) -> str:
    return "-" if value is None else written(value)
