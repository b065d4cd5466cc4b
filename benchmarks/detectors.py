"""Which detector learns most in a given time: each trains from scratch, on one thread, for as many epochs as fit in.

    .venv/bin/python benchmarks/detectors.py yolo ssdlite retinanet --sets cells craters --seeds 3 --minutes 4

A model may have options, as in `yolo:size=s,finest=4`. All learn by the same policy, optimizer and schedule, and see
pictures of the same size; the loss of each is its own. An epoch's time is measured first: the processor time of the
stage `train` with two epochs, less that with one. The stages are the commands of dvc.yaml.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT))

from flows.edits import edited, merged  # noqa: E402

SCORES = ("map", "map50", "map75", "map_small")


class Set(NamedTuple):
    """What to learn."""

    ready: str
    """A file of params/."""
    archive: str
    """Of the shared data."""
    changes: tuple[str, ...]
    """Of the params, beside the path."""


SETS = {
    "cells": Set("detection-voc", "bccd-voc", ("name=cells", "augment.frame=stretch")),
    "craters": Set(
        "detection-coco", "lunar-craters-coco", ("name=craters", "augment.frame=stretch", "split.train=val")
    ),
}


class Ended(NamedTuple):
    """What a training came to."""

    epochs: int
    minutes: float
    """Of processor time, of the stage `train` alone."""
    rate: float
    """Training pictures a second of processor time, validation and start included."""
    scores: dict[str, float]


class Place(NamedTuple):
    """Where a model learns a set, and how."""

    folder: Path
    params: str
    """`params.yaml` but for seed and epochs."""
    pictures: int
    """To learn from."""


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="names of pipeline/models/, each perhaps with `:option=value,...`")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="(default: all)")
    parser.add_argument("--seeds", type=int, default=1, help="of each model and set (default 1)")
    parser.add_argument("--minutes", type=float, default=4.0, help="of processor time for a training (default 4)")
    parser.add_argument("--size", type=int, default=320, help="side of the pictures (default 320)")
    parser.add_argument("--policy", default="{name: mosaic}", help="of all models (default {name: mosaic})")
    parser.add_argument("--set", nargs="*", default=[], dest="changes", help="more changes of params, for all models")
    parser.add_argument("--keep", type=Path, help="a folder for all that is made")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="convoy-detectors-") as temporary:
        home = asked.keep or Path(temporary)
        for name in asked.sets:
            print(f"\n{name}: {asked.minutes:g} minutes on one thread, {asked.size} px, {asked.policy}", flush=True)
            source = unpacked(SETS[name].archive, home)
            told = {model: _trained(asked, name, model, source, home / name) for model in asked.models}
            show(told)


def unpacked(name: str, folder: Path) -> Path:
    """A set of the shared data."""
    if not (folder / name).exists():
        with tarfile.open(DATA / name / f"{name}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return folder / name


def _trained(asked: argparse.Namespace, name: str, model: str, source: Path, home: Path) -> list[Ended]:
    recipe, (part, _, options) = SETS[name], model.partition(":")
    ready = ROOT / "params" / f"{recipe.ready}.yaml"
    text = merged(ready.read_text(), (ROOT / "params.yaml").read_text(), str(ready))
    listed = ", ".join([f"name: {part}", *(option.replace("=", ": ") for option in options.split(",") if option)])
    augment = asked.policy.rstrip("}") + f", size: {asked.size}}}"
    changes = (
        *(f"augment={augment}", *recipe.changes, f"data.path={source}", f"model={{{listed}}}", "task.score=map"),
        *("compute.threads=1", "compute.loader_threads=1", "compute.precision=float32"),
        *("compute.memory_format=contiguous", "evaluate.resamples=100", "evaluate.worst=0", *asked.changes),
    )
    folder = home / "".join(sign if sign.isalnum() else "-" for sign in model)
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder, edited(text, changes), 0)
    for stage in ("ingest", "augment"):
        _stage(place, stage, seed=0, epochs=1)
    pictures = json.loads((folder / "out/dataset/dataset.json").read_text())["splits"]["train"]
    place = place._replace(pictures=pictures)
    one, two = (_stage(place, "train", seed=9999, epochs=epochs) for epochs in (1, 2))
    epochs = max(1, 1 + int((60 * asked.minutes - one) / max(two - one, 0.01)))
    return [_run(place, seed, epochs, model) for seed in range(asked.seeds)]


def _run(place: Place, seed: int, epochs: int, model: str) -> Ended:
    seconds = _stage(place, "train", seed, epochs)
    _stage(place, "evaluate", seed, epochs)
    found = json.loads((place.folder / "out/evaluation/metrics.json").read_text())
    scores = {score: found[score]["value"] for score in SCORES if score in found}
    ended = Ended(epochs, seconds / 60, place.pictures * epochs / seconds, scores)
    print(f"  {model} seed {seed}: {_line([ended])}", flush=True)
    return ended


def _stage(place: Place, stage: str, seed: int, epochs: int) -> float:
    """Run one stage; its processor time in seconds, which does not grow because something else runs on the machine."""
    (place.folder / "params.yaml").write_text(edited(place.params, [f"seed={seed}", f"train.epochs={epochs}"]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before = os.times()
    command = [sys.executable, "-m", "pipeline", stage]
    done = subprocess.run(command, cwd=place.folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{stage} in {place.folder} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def show(told: dict[str, list[Ended]]) -> None:
    """A row for each model."""
    print(f"\n| model | epochs | minutes | pictures/s | {' | '.join(SCORES)} |")
    print("|---" * (4 + len(SCORES)) + "|")
    for model, runs in told.items():
        cells = [_spread([run.scores[score] for run in runs if score in run.scores]) for score in SCORES]
        minutes, rate = (statistics.mean(getattr(run, name) for run in runs) for name in ("minutes", "rate"))
        print(f"| `{model}` | {runs[0].epochs} | {minutes:.1f} | {rate:.1f} | {' | '.join(cells)} |", flush=True)


def _line(runs: list[Ended]) -> str:
    (run,) = runs
    scores = "  ".join(f"{name} {value:.3f}" for name, value in run.scores.items())
    return f"{run.epochs} epochs, {run.minutes:.1f} min, {run.rate:.1f} pictures/s  {scores}"


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
