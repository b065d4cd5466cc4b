"""What the ready params come to on real pictures: each recipe from scratch, stage by stage, for several seeds.

    .venv/bin/python benchmarks/learning.py cells streets membranes --seeds 3 --threads 1
    .venv/bin/python benchmarks/learning.py houses --shuffle

A recipe is a file of params/ with a few values changed, on a set of ../shared/data. Its seeds follow one another; the
stages are the commands of dvc.yaml, in a folder of their own that is kept (--keep) or removed. docs/results.md shows
what came of it.

--shuffle gives each training picture what is said of another one, once it is ingested: what is learnt then is what can
be had without seeing, and a recipe that does no better learns nothing.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT))

from flows.edits import edited, merged  # noqa: E402

STAGES = ("ingest", "augment", "train", "evaluate")
SAID = ("label", "labels", "numbers", "points", "objects", "mask", "mask_shard", "mask_row")
"""Columns of samples.parquet that hold what is learnt."""


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


def nuclei(folder: Path) -> None:
    """nuclei-dsb2018 as it is: cells under five microscopes, a mask for each nucleus."""
    unpacked("nuclei-dsb2018", folder)


def houses(folder: Path) -> None:
    """houses as it is: four pictures of each, and a text of numbers without a header."""
    unpacked("houses", folder)


def clothes(folder: Path) -> None:
    """clothing-small as it is: one of its pictures lies in two folders."""
    unpacked("clothing-small", folder)


def contents(folder: Path) -> None:
    """coco128 as it is."""
    unpacked("coco128", folder)


def lights(folder: Path) -> None:
    """cropped-yaleB by how far the light is off the camera's axis: up to 12, 25, 50 or 77 degrees, its four subsets.

    Source: Georghiades, Belhumeur, Kriegman. From Few to Many, 2001, section 5.
    """
    for picture in sorted(unpacked("cropped-yaleB", folder).rglob("*.pgm")):
        if not (said := LIGHT.search(picture.name)):  # under the light of the room
            continue
        along, up = (math.radians(float(degrees)) for degrees in said.groups())
        off = math.degrees(math.acos(math.cos(along) * math.cos(up)))
        subset = folder / "lights" / str(next(most for most in (12, 25, 50, 77) if off < most + 0.5))
        subset.mkdir(parents=True, exist_ok=True)
        picture.rename(subset / picture.name)
    shutil.rmtree(folder / "cropped-yaleB")


FLIPS = "[{name: HorizontalFlip}, {name: VerticalFlip}]"
LIGHT = re.compile(r"_P00A([+-][0-9]+)E([+-][0-9]+)[.]pgm$")
HOUSES = "{row}_*.jpg"


def people(folder: Path) -> None:
    """orl-faces: 40 people, ten pictures of 23 x 28 pixels each."""
    unpacked("orl-faces", folder).joinpath("data", "att_faces").rename(folder / "people")


def people_in_the_dark(folder: Path) -> None:
    """cropped-yaleB: 38 people, each under some 43 lights, some of which show next to nothing."""
    unpacked("cropped-yaleB", folder).joinpath("data", "CroppedYale").rename(folder / "people")


def landmarks(folder: Path) -> None:
    """facial-keypoints as it is: 68 points of each face; its own splits show the same people."""
    unpacked("facial-keypoints", folder)


LANDMARKS = (
    *("name=landmarks", "data.inside=facial-keypoints/small", "task.mirror=ibug68", "task.normalise=[36, 45]"),
    *("split.given=ignore", "split.group=([^/]+)_[0-9]+[.]jpg", "augment.size=64", "train.epochs=12"),
)
"""People are never in two splits, and errors are shares of the distance between the outer corners of the eyes."""
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
    "nuclei": Recipe("instances-masks", nuclei, ("name=nuclei",)),
    "houses": Recipe(
        "regression-table",
        houses,
        (
            *("name=houses", "data.table=houses/data/Houses Dataset/HousesInfo.txt", f'data.image="{HOUSES}"'),
            *("data.header=[bedrooms, bathrooms, area, zip, price]", "augment.size=64", "augment.smallest_crop=0.75"),
            *("train.epochs=25", "optimizer.lr=0.004"),
        ),
    ),
    "people": Recipe(
        "faces-folder",
        people,
        ("name=people", "augment={name: light, size: 28, frame: pad}", "train.epochs=20"),
    ),
    "people_in_the_dark": Recipe(
        "faces-folder",
        people_in_the_dark,
        (
            *("name=people-in-the-dark", "augment={name: light, size: 40, frame: pad}", "train.epochs=12"),
            "model={name: embedding, width: 16}",
        ),
    ),
    "landmarks": Recipe("keypoints-table", landmarks, (*LANDMARKS, "model={name: heatmap, width: 16, features: 32}")),
    "landmarks_by_vector": Recipe(
        "keypoints-vector",
        landmarks,
        (*LANDMARKS, "model={name: convnet, width: 16, pooled: false}", "train.epochs=40"),
    ),
    "clothes": Recipe(
        "multi-label-folder",
        clothes,
        ("augment.size=48", "model={name: convnet, width: 24}", "train.epochs=8"),
    ),
    "contents": Recipe(
        "multi-label-objects",
        contents,
        (
            *("data={name: yolo, inside: coco128/data/object_detection}", "split.given=ignore", "task.score=roc_auc"),
            *("augment.size=64", "model={name: convnet, width: 16}", "train.epochs=20"),
        ),
    ),
    "lights": Recipe(
        "ordinal",
        lights,
        (
            *("name=lights", "data.name=folder", 'split={group: "(yaleB[0-9]+)_"}', "model={name: convnet, width: 16}"),
            *("augment={name: light, size: 32, rotate: 0}", "train.epochs=6"),
        ),
    ),
    "cell_grades": Recipe(
        "ordinal",
        cells,
        (
            *("name=cell-grades", "task.counts=[8, 12, 16]", "task.of=RBC", "model={name: convnet, width: 16}"),
            f"augment={{name: custom, size: 96, frame: stretch, transforms: {FLIPS}}}",  # a crop would lose cells
            *("train.epochs=40", "train.batch_size=16"),
        ),
    ),
    "cell_counts": Recipe(
        "counting",
        cells,
        ("name=cell-counts", "data.name=voc"),
    ),
}


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+", choices=RECIPES)
    parser.add_argument("--seeds", type=int, default=3, help="of each recipe (default 3)")
    parser.add_argument("--threads", type=int, default=0, help="for computing (default: every core)")
    parser.add_argument("--shuffle", action="store_true", help="learn from what is said of other pictures")
    parser.add_argument("--keep", type=Path, help="a folder for all that is made")
    asked = parser.parse_args()
    for name in asked.recipes:
        with tempfile.TemporaryDirectory(prefix=f"convoy-{name}-") as folder:
            home = (asked.keep or Path(folder)) / (f"{name}-shuffled" if asked.shuffle else name)
            runs = [_run(RECIPES[name], seed, asked.threads, home, asked.shuffle) for seed in range(asked.seeds)]
            show(home.name, runs)


def _run(recipe: Recipe, seed: int, threads: int, home: Path, wrong: bool = False) -> Run:
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
        if stage == "ingest" and wrong:
            shuffle(work / "out" / "dataset", seed)
        print(f"  seed {seed} {said.strip().splitlines()[-1]}", flush=True)
    minutes = (_processor_seconds() - start) / 60
    found: dict[str, Any] = json.loads((work / "out/evaluation/metrics.json").read_text())
    scores = {name: score["value"] for name, score in found.items() if isinstance(score, dict)}
    with (work / "out/evaluation/classes.csv").open(newline="") as file:
        classes = {row["class"]: row for row in csv.DictReader(file)}
    blind = re.search(r"a blind answer (-?[0-9.,]+)", said)
    return Run(scores, float(blind[1].replace(",", "")) if blind else float("nan"), classes, minutes)


def shuffle(dataset: Path, seed: int) -> None:
    """Deal what is said of the training pictures of a dataset out among them anew."""
    table = pq.read_table(dataset / "samples.parquet")
    train = np.flatnonzero(np.array(table.column("split").to_pylist()) == "train")
    order = np.arange(table.num_rows)
    order[train] = np.random.default_rng(seed).permutation(train)
    for name in set(SAID) & set(table.column_names):
        table = table.set_column(table.column_names.index(name), name, table.column(name).take(pa.array(order)))
    pq.write_table(table, dataset / "samples.parquet")
    info = json.loads((dataset / "dataset.json").read_text())
    info["digest"] = hashlib.sha256(
        f"{info['digest']} {seed}".encode()
    ).hexdigest()  # nothing kept of the other is used
    (dataset / "dataset.json").write_text(json.dumps(info))


def _processor_seconds() -> float:
    """Of the stages that have ended: it does not grow because something else runs on the machine."""
    times = os.times()
    return times.children_user + times.children_system


def show(name: str, runs: list[Run]) -> None:
    """Each score with its mean and its range over the seeds; then the classes."""
    print(f"\n{name}: {len(runs)} seeds, {statistics.mean(run.minutes for run in runs):.1f} processor minutes each")
    print(f"  never looking: {runs[0].blind:.4f}")
    for score in runs[0].scores:
        print(f"  {score:<23}{_spread([run.scores[score] for run in runs if score in run.scores])}")
    last = list(next(iter(runs[0].classes.values())))[1:]
    for label, row in runs[0].classes.items():
        if row.get("images") == "0":  # a person of another split
            continue
        told = "  ".join(
            f"{column} {_spread([float(run.classes[label][column] or 'nan') for run in runs])}" for column in last
        )
        print(f"  {label:<22}{told}")
    print(flush=True)


def _spread(values: list[float]) -> str:
    if max(values) > 1 and all(value.is_integer() for value in values):
        return f"{statistics.mean(values):.0f}"
    if max(map(abs, values)) >= 100:
        return f"{statistics.mean(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
