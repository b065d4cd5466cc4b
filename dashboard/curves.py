"""The charts of a run: losses, validation score, learning rate, norms of the gradient."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from markupsafe import Markup

from dashboard import charts
from dashboard.charts import Series
from flows.curves import POINTS, Curves
from flows.records import outputs
from pipeline import plugin
from pipeline.errors import UserError
from pipeline.registry.runs import TRAINING, RunRecord
from pipeline.wording import sides_said

ALL = "all"
LAYERS = "The layers whose norm is the largest and the smallest at the end."
LOSSES = {"train_loss": "training", "val_loss": "validation"}


def drawn(members: Sequence[Curves]) -> list[Markup]:
    """The charts of one training, or of members with a line each: by epoch once one is done, by step before that."""
    by_epoch = [name for one in members for name in one.epochs]
    score = next((name for name in by_epoch if name.startswith("val_") and name != "val_loss"), "")
    title = plugin.metric_named(score[4:]).title if score[4:] in plugin.names("metrics") else score
    kept = [best for one in members if (best := _best(one, score))]
    found = [
        *_losses(members),
        charts.line_chart(f"{title} on validation", _lines(members, "epochs", score, title), best=kept),
        _loss_by_step(_lines(members, "steps", "loss", "training")),
        charts.line_chart("Learning rate", _lines(members, "steps", "learning_rate", "learning rate"), "Step"),
        charts.line_chart(
            "Norm of the gradient", _lines(members, "gradients", ALL, "all weights"), "Step", factors=True
        ),
    ]
    if not members[0].member:
        found.append(
            charts.line_chart("Norm of the gradient by layer", _layers(members[0]), "Step", factors=True, note=LAYERS)
        )
    return [chart for chart in found if chart]


def went_back_said(record: RunRecord) -> str:
    """Where training diverged and went back, as it noted itself; empty if it never did, or nobody here knows."""
    try:
        facts = json.loads(outputs.read(record, str(TRAINING), remote=False))
        places = [f"in epoch {one['epoch']}, step {one['step']}" for one in facts.get("diverged", [])]
    except (UserError, ValueError, LookupError, TypeError, AttributeError):
        return ""
    if not places:
        return ""
    again = "it went back, and on" if len(places) == 1 else "each time it went back, and on"
    return f"Training diverged {', and '.join(places)}: {again} with half the learning rate."


def _losses(members: Sequence[Curves]) -> list[Markup]:
    """Of one training in one chart, of several in two."""
    sides = sides_said([side for one in members[:1] for _, side in one.epochs.get("side", [])])
    note = f"Pictures have {sides}." if sides else ""
    lines = {words: _lines(members, "epochs", name, words) for name, words in LOSSES.items()}
    if not members[0].member:
        lines = {"": [line for (line,) in lines.values()]}
    return [
        charts.line_chart(f"{words} loss".strip().capitalize(), several, factors=charts.in_factors(several), note=note)
        for words, several in lines.items()
    ]


def _loss_by_step(lines: Sequence[Series]) -> Markup:
    steps = max((one.points[-1][0] for one in lines if one.points), default=0)
    many = math.ceil(steps / POINTS)
    note = f"Each point is the mean of {many} steps." if many > 1 else ""
    return charts.line_chart("Loss by step", lines, "Step", factors=charts.in_factors(lines), note=note)


def _lines(members: Sequence[Curves], table: str, column: str, words: str) -> list[Series]:
    """One curve by what it shows, several by the member whose they are."""
    return [
        Series(f"member {one.member}" if one.member else words, getattr(one, table).get(column, [])) for one in members
    ]


def _layers(curves: Curves) -> list[Series]:
    """The norms of the layers where they are largest and smallest at last."""
    norms = {layer: points for layer, points in curves.gradients.items() if points and layer != ALL}
    layers = sorted(norms, key=lambda layer: norms[layer][-1][1])
    shown = (
        {f"largest, layer {layers[-1]}": layers[-1], f"smallest, layer {layers[0]}": layers[0]}
        if len(layers) > 1
        else {}
    )
    return [Series(title, norms[layer]) for title, layer in shown.items()]


def _best(curves: Curves, score: str) -> tuple[float, float] | None:
    """Where the validation score is best, as training chooses: of equal ones the lowest loss, then the first."""
    metric = score.removeprefix("val_")
    if metric not in plugin.names("metrics") or not curves.epochs.get(score):
        return None
    sign, loss = (1 if plugin.metric_named(metric).higher_is_better else -1), dict(curves.epochs.get("val_loss", []))
    return max(curves.epochs[score], key=lambda point: (sign * point[1], -loss.get(point[0], math.inf)))
