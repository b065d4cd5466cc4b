"""What the commands leave in out/tuning: tables, pictures and facts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.answering import Curve, Span
from pipeline.evaluate.charts import above
from pipeline.files import write_json, write_text
from pipeline.tuning.batch import Found
from pipeline.tuning.picture import svg
from pipeline.tuning.rates import Point, Proposal
from pipeline.tuning.verdict import Facts

TUNING = Path("out/tuning")
LOSSES = 1.3
"""Times the first loss, up to which a picture reaches: where the loss diverges it is of any height."""


def write_rates(points: Sequence[Point], proposal: Proposal | None, root: Path = TUNING) -> None:
    """`lr.csv` and `lr.svg`."""
    smoothed: list[float | str] = list(proposal.smoothed) if proposal else []
    smoothed += [""] * (len(points) - len(smoothed))
    rows = [(point.rate, point.loss, smooth) for point, smooth in zip(points, smoothed, strict=True)]
    write_text(root / "lr.csv", _csv(["learning_rate", "loss", "smoothed"], rows))
    write_text(root / "lr.svg", svg([_of_rates(points, proposal)]))


def write_batches(found: Found, root: Path = TUNING) -> None:
    """`batch.csv` and `batch.svg`."""
    rows = [(trial.size, trial.peak, round(trial.images_per_second, 1)) for trial in found.trials]
    write_text(root / "batch.csv", _csv(["batch_size", "peak_bytes", "images_per_second"], rows))
    write_text(root / "batch.svg", svg(_of_batches(found)))


def write_profile(facts: Facts, root: Path = TUNING) -> None:
    """`profile.json`."""
    write_json(root / "profile.json", facts.plain())


def _of_rates(points: Sequence[Point], proposal: Proposal | None) -> Curve:
    x = Span(points[0].rate, points[-1].rate, log=True)
    top = above(LOSSES * points[0].loss)
    y = Span(0, top)
    lines = {"loss of each step": [(point.rate, point.loss) for point in points]}
    summary = "The loss at growing learning rates."
    if proposal:
        lines["smoothed"] = [(point.rate, loss) for point, loss in zip(points, proposal.smoothed, strict=False)]
        for name, rate in (
            ("falls fastest", proposal.steepest),
            ("lowest", proposal.lowest),
            ("proposed", proposal.rate),
        ):
            lines[f"{name}: {rate:.2g}"] = [(rate, 0), (rate, top)]
        summary += f" Proposed is {proposal.rate:g}."
    series = [(name, [(x.share(a), min(1.0, y.share(b))) for a, b in line]) for name, line in lines.items()]
    return Curve("Learning rate range test", "learning rate", "loss", series, summary, x_span=x, y_span=y)


def _of_batches(found: Found) -> list[Curve]:
    sizes = [trial.size for trial in found.trials]
    if len(sizes) < 2:
        return []
    x, curves = Span(sizes[0], sizes[-1], log=True), []
    memory = {"measured": [(trial.size, trial.peak / 1e6) for trial in found.trials]}
    if line := found.line:
        memory[f"{line.fixed / 1e6:,.0f} MB and {line.each / 1e6:.3g} MB for each picture"] = [
            (size, line.at(size) / 1e6) for size in sizes
        ]
    speed = {"images/s": [(trial.size, trial.images_per_second) for trial in found.trials]}
    for title, unit, lines in (("Peak memory", "MB", memory), ("Speed", "images/s", speed)):
        y = Span(0, above(max(b for points in lines.values() for _, b in points)))
        series = [(name, [(x.share(a), y.share(b)) for a, b in points]) for name, points in lines.items()]
        summary = f"{title} at batches of {sizes[0]} to {sizes[-1]}."
        curves.append(Curve(title, "batch size", unit, series, summary, x_span=x, y_span=y))
    return curves


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
