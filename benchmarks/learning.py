"""What the ready params come to on real pictures: each recipe from scratch, stage by stage, for several seeds.

    .venv/bin/python benchmarks/learning.py cells streets membranes --seeds 3 --threads 1

A recipe is a file of params/ with a few values changed, on a set of ../shared/data. Its seeds follow one another; the
stages are the commands of dvc.yaml, in a folder of their own that is kept (--keep) or removed. docs/results.md shows
what came of it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT))

from flows.edits import edited, merged  # noqa: E402

STAGES = ("ingest", "augment", "train", "evaluate")


class Recipe(NamedTuple):
    """What to learn, and how."""

    ready: str
    """A file of params/."""
    prepare: Callable[[Path], None]
    """Put the source into a folder."""
    changes: tuple[str, ...]
    """Of the params, beside the path."""


class Run(NamedTuple):
    """What one seed came to."""

    scores: dict[str, float]
    blind: float
    """The deciding score of a model that never looks."""
    classes: dict[str, dict[str, str]]
    minutes: float
    """Of processor time, all stages."""


def unpacked(name: str, folder: Path) -> Path:
    """A set of the shared data."""
    with tarfile.open(DATA / name / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


def cells(folder: Path) -> None:
    """bccd-voc as it is."""
    unpacked("bccd-voc", folder)


def streets(folder: Path) -> None:
    """camvid as it is."""
    unpacked("camvid", folder)


def membranes(folder: Path) -> None:
    """isbi2012 with list files: slices follow one another, so that drawn splits would tell of their neighbours."""
    home = unpacked("isbi2012-membrane", folder) / "data" / "data" / "membrane" / "train"
    home = home if home.exists() else next(path.parent for path in folder.rglob("label") if path.is_dir())
    splits = {"train": range(20), "val": range(20, 24), "test": range(24, 30)}
    for split, slices in splits.items():
        lines = [f"image/{number}.png label/{number}.png\n" for number in slices]
        (home / f"{split}.txt").write_text("".join(lines))


RECIPES = {
    "cells": Recipe(
        "detection-voc",
        cells,
        ("name=cells", "task.score=map50", "train.epochs=15"),
    ),
    "streets": Recipe(
        "segmentation-lists",
        streets,
        (
            *("name=streets", "augment.size=128", "augment.frame=stretch", "model={name: unet, width: 16}"),
            "train.epochs=20",
        ),
    ),
    "membranes": Recipe(
        "segmentation-lists",
        membranes,
        (
            *("name=membranes", "data.classes={0: membrane, 255: inside}", "data.void=[]", "augment.size=256"),
            *("augment.frame=stretch", "model={name: unet, width: 16}", "loss={name: cross_entropy}"),
            "train.epochs=40",
        ),
    ),
}


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+", choices=RECIPES)
    parser.add_argument("--seeds", type=int, default=3, help="of each recipe (default 3)")
    parser.add_argument("--threads", type=int, default=0, help="for computing (default: every core)")
    parser.add_argument("--keep", type=Path, help="a folder for all that is made")
    asked = parser.parse_args()
    for name in asked.recipes:
        with tempfile.TemporaryDirectory(prefix=f"convoy-{name}-") as folder:
            home = (asked.keep or Path(folder)) / name
            runs = [_run(RECIPES[name], seed, asked.threads, home) for seed in range(asked.seeds)]
            show(name, runs)


def _run(recipe: Recipe, seed: int, threads: int, home: Path) -> Run:
    source, work = home / "source", home / f"seed-{seed}"
    work.mkdir(parents=True)
    if not source.exists():
        source.mkdir(parents=True)
        recipe.prepare(source)
    ready = ROOT / "params" / f"{recipe.ready}.yaml"
    text = merged(ready.read_text(), (ROOT / "params.yaml").read_text(), str(ready))
    fixed = (f"data.path={source}", f"seed={seed}", f"compute.threads={threads}", "compute.precision=float32")
    (work / "params.yaml").write_text(edited(text, [*recipe.changes, *fixed, "compute.memory_format=contiguous"]))
    start, said = _processor_seconds(), ""
    for stage in STAGES:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "pipeline", stage]
        done = subprocess.run(command, cwd=work, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        said = done.stdout
        print(f"  seed {seed} {said.strip().splitlines()[-1]}", flush=True)
    minutes = (_processor_seconds() - start) / 60
    found: dict[str, Any] = json.loads((work / "out/evaluation/metrics.json").read_text())
    scores = {name: score["value"] for name, score in found.items() if isinstance(score, dict)}
    with (work / "out/evaluation/classes.csv").open(newline="") as file:
        classes = {row["class"]: row for row in csv.DictReader(file)}
    blind = re.search(r"a blind answer ([0-9.]+)", said)
    return Run(scores, float(blind[1]) if blind else float("nan"), classes, minutes)


def _processor_seconds() -> float:
    """Of the stages that have ended: it does not grow because something else runs on the machine."""
    times = os.times()
    return times.children_user + times.children_system


def show(name: str, runs: list[Run]) -> None:
    """Each score with its mean and its range over the seeds; then the classes."""
    print(f"\n{name}: {len(runs)} seeds, {statistics.mean(run.minutes for run in runs):.1f} processor minutes each")
    print(f"  never looking: {runs[0].blind:.4f}")
    for score in runs[0].scores:
        print(f"  {score:<22}{_spread([run.scores[score] for run in runs if score in run.scores])}")
    last = list(next(iter(runs[0].classes.values())))[1:]
    for label in runs[0].classes:
        told = "  ".join(f"{column} {_spread([float(run.classes[label][column]) for run in runs])}" for column in last)
        print(f"  {label:<22}{told}")
    print(flush=True)


def _spread(values: list[float]) -> str:
    if max(values) > 1:
        return f"{statistics.mean(values):.0f}"
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
