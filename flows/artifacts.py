"""What Prefect's page shows of a run: the scores, the pictures, and the gate's verdict."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.stage import StageRun
from pipeline.params import Params
from pipeline.plugin import metrics_for
from pipeline.registry.champion import Version
from pipeline.registry.gate import Verdict

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


def publish(params: Params, version: Version, verdict: Verdict, reigns: bool) -> None:
    """Put scores, verdict and pictures on the page of the flow run."""
    found = json.loads(SCORES.read_text())
    rows = [
        {
            "score": metric.title,
            "test": _number(found[name]["value"]),
            "95 % interval": f"{_number(found[name]['low'])} to {_number(found[name]['high'])}",
        }
        for name, metric in metrics_for(params.task).items()
    ]
    model = re.sub(r"[^a-z0-9]+", "-", params.name.lower()).strip("-")  # all that Prefect takes in a key
    create_table_artifact(
        rows, key=f"{model}-scores", description=f"{params.name} version {version.version} on the test images"
    )
    place = "is the champion now" if reigns else "is not the champion"
    reasons = "\n".join(f"- {reason}" for reason in verdict.reasons)
    create_markdown_artifact(
        f"## {verdict.outcome}: version {version.version} {place}\n\n{reasons}\n",
        key=f"{model}-gate",
        description=f"The gate's verdict on {params.name} version {version.version}",
    )
    for key, (title, path) in PICTURES.items():
        data = path.read_bytes()
        inside = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        picture = f"![{title}]({inside})" if len(data) <= LARGEST else f"`{path}`"
        create_markdown_artifact(f"## {title}\n\n{picture}\n", key=f"{model}-{key}", description=title)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
