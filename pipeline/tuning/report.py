"""What the commands leave in out/tuning: tables, pictures and facts."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from torch.profiler import profile

from pipeline.answering import Curve, Span
from pipeline.files import replacing, write_json, write_rows, write_text
from pipeline.tuning.batch import Found
from pipeline.tuning.picture import svg
from pipeline.tuning.rates import Doubt, Point, Proposal
from pipeline.tuning.verdict import Facts

TUNING = Path("out/tuning")
LOG = " (log scale)"
"""Said of an axis."""
ROOM = 1.05
"""Times the highest value, up to which a picture of batches reaches."""
LOSSES = 1.3
"""Times the first loss, up to which a picture reaches: where the loss diverges it is of any height."""


def write_rates(points: Sequence[Point], found: Proposal | Doubt, root: Path = TUNING) -> None:
    """`lr.csv` and `lr.svg`."""
    smoothed: list[float | str] = [*found.smoothed]
    smoothed += [""] * (len(points) - len(smoothed))
    rows = [(point.rate, point.loss, smooth) for point, smooth in zip(points, smoothed, strict=True)]
    write_rows(root / "lr.csv", ["learning_rate", "loss", "smoothed"], rows)
    write_text(root / "lr.svg", svg([_of_rates(points, found)]))


def write_batches(found: Found, root: Path = TUNING) -> None:
    """`batch.csv` and `batch.svg`."""
    rows = [(trial.size, trial.peak, round(trial.images_per_second, 1)) for trial in found.trials]
    write_rows(root / "batch.csv", ["batch_size", "peak_bytes", "images_per_second"], rows)
    write_text(root / "batch.svg", svg(_of_batches(found), "Only one size was tried."))


def write_profile(facts: Facts, root: Path = TUNING) -> None:
    """`profile.json`."""
    write_json(root / "profile.json", facts.plain())


def write_timeline(watch: profile, path: Path) -> None:
    """What torch's profiler has seen, as Chrome and Perfetto show it; packed where the name ends in `.gz`.

    Torch writes where it is told to, and only logs that it could not: so it writes elsewhere in that folder.
    """
    with TemporaryDirectory(dir=path.parent, prefix=".timeline.") as folder:
        made = Path(folder) / f"timeline{path.suffix}"
        watch.export_chrome_trace(str(made))
        with made.open("rb") as whole, replacing(path, made.stat().st_size) as file:
            shutil.copyfileobj(whole, file)


def _of_rates(points: Sequence[Point], found: Proposal | Doubt) -> Curve:
    x = Span(points[0].rate, points[-1].rate, log=True)
    first = next((point.loss for point in points if math.isfinite(point.loss)), 1.0)
    top = float(f"{LOSSES * first:.1e}") if first > 0 else 1.0
    y = Span(0, top)
    cut = f", those above {top:g} drawn there" if any(point.loss > top for point in points) else ""
    lines = {f"loss of each step{cut}": [(point.rate, point.loss) for point in points]}
    if found.smoothed:
        lines["smoothed"] = [(point.rate, loss) for point, loss in zip(points, found.smoothed, strict=False)]
    if isinstance(found, Proposal):
        marks = {"falls fastest": found.steepest, "lowest": found.lowest, "proposed": found.rate}
        lines |= {f"{name}: {rate:.2g}": [(rate, 0), (rate, top)] for name, rate in marks.items()}
        told = f"Proposed is {found.rate:g}."
    else:
        told = f"Nothing is proposed: {found.why}."
    series = [(name, [(x.share(a), min(1.0, y.share(b))) for a, b in line]) for name, line in lines.items()]
    summary = f"The loss at growing learning rates. {told}"
    return Curve("Learning rate range test", f"learning rate{LOG}", "loss", series, summary, x_span=x, y_span=y)


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
        y = Span(0, ROOM * max(b for points in lines.values() for _, b in points))
        series = [(name, [(x.share(a), y.share(b)) for a, b in points]) for name, points in lines.items()]
        summary = f"{title} at batches of {sizes[0]} to {sizes[-1]}."
        curves.append(Curve(title, f"batch size{LOG}", unit, series, summary, x_span=x, y_span=y))
    return curves
