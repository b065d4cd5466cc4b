"""What came of a run, in Markdown: the description of the MLflow run and of the model version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.bundle import BundleInfo
from pipeline.contracts import SPLITS
from pipeline.dataset import DatasetInfo
from pipeline.files import DATASET
from pipeline.params import Params, described
from pipeline.plugin import metrics_for
from pipeline.registry.champion import Version
from pipeline.registry.code import Code
from pipeline.registry.verdict import Verdict
from pipeline.wording import between, images_said, spread_said, written

SCORES = Path("out/evaluation/metrics.json")
MODEL = Path("out/model/bundle.json")
TITLES = {
    "promote": "better than what it was compared with",
    "hold": "held back",
    "reject": "rejected",
}


def headline(params: Params) -> str:
    """The deciding score with its interval: `Accuracy 0.986 on 359 test images (95 % interval 0.972 to 0.997)`."""
    scores = json.loads(SCORES.read_text())
    score, title = scores.get(params.task.score), next(iter(metrics_for(params.task).values())).title
    if score is None:
        return f"{title} undefined on {images_said(scores)}"
    spread = spread_said(scores, params.task.score, 3)
    return f"{title} {written(score['value'], 3)} on {images_said(scores)} ({spread})"


def of_run(params: Params, code: Code, version: Version, verdict: Verdict, reigns: bool) -> str:
    """The description of a run.

    Args:
        params: all of them.
        code: that was at work.
        version: that the run's model is registered as.
        verdict: of the gate.
        reigns: whether that version is the champion now.
    """
    place = "the champion now" if reigns else TITLES[verdict.outcome]
    reasons = "\n".join(f"- {_plain(reason)}" for reason in verdict.reasons)
    return (
        f"**{headline(params)}**\n\n"
        f"Version {version.version} of `{version.name}` is **{place}**.\n\n{reasons}\n\n"
        f"{_scores(params)}\n\n{_made_of(params)}\n\n"
        "Among the artifacts: the report `evaluation/report.html`, the worst errors `evaluation/errors.png`, augmented "
        f"pictures `policy/preview.png`.\n\n{_again(code)}\n"
    )


def of_version(params: Params, code: Code) -> str:
    """The description of a model version."""
    return (
        f"{headline(params)}.\n\n{_made_of(params)}\n\n"  # lists of versions show the first words as they are
        "In: a column `image` of encoded pictures (JPEG, PNG, ...). Out: what the task says of each, as the signature "
        f"tells.\n\n{_again(code)}\n"
    )


def _scores(params: Params) -> str:
    found: dict[str, Any] = json.loads(SCORES.read_text())
    lines = ["| score | test | 95 % interval |", "|---|---:|---:|"]
    for name, metric in metrics_for(params.task).items():
        if isinstance(score := found.get(name), dict) and score["value"] is not None:
            interval = between(score["low"], score["high"])
            lines.append(f"| {metric.title} | {written(score['value'])} | {interval} |")
    return "\n".join(lines)


def _made_of(params: Params) -> str:
    info = DatasetInfo.model_validate_json((DATASET / "dataset.json").read_bytes())
    model = BundleInfo.model_validate_json(MODEL.read_bytes())
    parts = described(params)
    counts = ", ".join(f"{info.splits[split]:,} {split}" for split in SPLITS if split in info.splits)
    what = " ".join(str(parts["model"][key]) for key in ("name", "architecture") if key in parts["model"])
    return (
        f"Data: {info.images:,} images of {len(info.classes)} classes ({counts}), `{info.digest[:12]}`. "
        f"Network: {what}, {model.sized}, {model.size} x {model.size} pixels."
    )


def _again(code: Code) -> str:
    if not code.commit:
        return "The code was in no git repository: `params.yaml` and `dvc.lock` are among the artifacts."
    patch = ", apply `code/uncommitted.patch` from the artifacts" if code.dirty else ""
    return f"Again: check out `{code.commit[:12]}`{patch}, put back `params.yaml` and `dvc.lock`, then `convoy run`."


def _plain(text: str) -> str:
    """Text as it is: Markdown in a class or file name stays text."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#!" else sign for sign in text)
