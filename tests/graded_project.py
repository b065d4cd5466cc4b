"""Projects of objects and of pixels whose stages have run, made in a moment: answers that are right in part.

Each picture shows one square, whose class its brightness tells. What the networks here say of it is exact, so that
everything can be counted by hand: in two pictures of five more is true than can be seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from registry_project import HOME, make_evaluation, make_notes, make_shard
from torch import Tensor, nn

from pipeline import bundle, masks
from pipeline.bundle import BundleInfo
from pipeline.contracts import Frame
from pipeline.dataset import FIELDS, DatasetInfo
from pipeline.door import parse
from pipeline.files import write_json, write_text
from pipeline.images import encode_png
from pipeline.params import Params

OBJECTS, PIXELS = "object_detection", "semantic_segmentation"
CLASSES = {OBJECTS: ["cell", "dust"], PIXELS: ["background", "cell", "dust"]}
SCORES = {OBJECTS: "map50", PIXELS: "mean_iou"}
COUNT = 20
SIDE, SHORT, SQUARE = 16, 12, 6
"""Pictures are 16 x 12 and 12 x 16 pixels, squares 6 x 6."""
PARTS = {
    OBJECTS: {"model": "fcos", "loss": "detection"},
    PIXELS: {"model": "unet", "loss": "cross_entropy"},
}


class Shown(NamedTuple):
    """One picture and what is true of it."""

    pixels: np.ndarray
    """uint8 [H, W, 1]."""
    objects: list[tuple[int, int, int, bool]]
    """x, y, class id and crowd of each square, the first of which can be seen."""


def make_project(root: Path, task: str) -> Params:
    """Fill `root` with params and outputs of a task that is `OBJECTS` or `PIXELS`."""
    text = params_of(task)
    write_text(root / "params.yaml", text)
    shown = [show(number) for number in range(COUNT)]
    digest = make_dataset(root / "out/dataset", task, shown)
    model = root / "out/model"
    model.mkdir(parents=True)
    info = BundleInfo(
        task={"name": task, "score": SCORES[task]},
        classes=CLASSES[task],
        channels=1,
        frame=Frame(name="pad"),
        packed=SIDE,
        size=SIDE,
        mean=[0.5],
        deviation=[0.25],
        model={"name": PARTS[task]["model"]},
        parameters=0,
        dataset=digest,
    )
    bundle.write(model, info, Squares() if task == OBJECTS else Shades())
    make_notes(root / "out")
    make_evaluation(root / "out/evaluation", model, root / "out/dataset")
    return parse(Params, text)


def params_of(task: str) -> str:
    """`params.yaml` with the parts of the task."""
    text = (HOME / "params.yaml").read_text()
    for old, new in (
        ("  name: digits             # 1,797", "  path: pictures\n  name: coco  # 1,797"),
        ("  name: classification\n  score: accuracy ", f"  name: {task}\n  score: {SCORES[task]} "),
        ("  name: light ", "  frame: pad\n  name: light "),
        ("  name: convnet ", f"  name: {PARTS[task]['model']} "),
        ("  name: cross_entropy ", f"  name: {PARTS[task]['loss']} "),
        ("  label_smoothing: 0.05\n", ""),
    ):
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def show(number: int) -> Shown:
    """A light or a less light square at one of the sides, and in two pictures of five what nobody can see."""
    width, height = (SIDE, SHORT) if number % 4 < 2 else (SHORT, SIDE)
    left, right, y, kind = 0, width - SQUARE, (number * 5) % (height - SQUARE), number % 2
    x, other = (left, right) if number % 3 else (right, left)
    pixels = np.zeros((height, width, 1), np.uint8)
    pixels[y : y + SQUARE, x : x + SQUARE] = 200 if kind else 250
    objects = [(x, y, kind, False)]
    if number % 5 == 3:  # a second one of its class at the other side
        objects.append((other, y, kind, False))
    if number % 5 == 4:
        objects.append((x, y, 1 - kind, True))
    return Shown(pixels, objects)


def make_dataset(root: Path, task: str, shown: list[Shown]) -> str:
    """The pictures as the test split, and again as the train split; the digest."""
    ids = [f"{index:064x}" for index in range(len(shown))]
    make_shard(root / "shards", ids, [encode_png(one.pixels) for one in shown])
    annotation, counts = (_objects if task == OBJECTS else _pixels)(root, shown)
    sizes = {"width": [one.pixels.shape[1] for one in shown], "height": [one.pixels.shape[0] for one in shown]}
    columns: dict[str, Any] = {
        "id": [*ids, *(f"f{identity[1:]}" for identity in ids)],
        "split": ["test"] * len(ids) + ["train"] * len(ids),
        "together": pa.nulls(2 * len(ids), pa.string()),
        "source": [f"{index:02}.png" for index in range(len(ids))] * 2,
        "shard": pa.array([0] * 2 * len(ids), pa.int32()),
        "row": pa.array([*range(len(ids))] * 2, pa.int32()),
        **{name: pa.array(values * 2, pa.int32()) for name, values in sizes.items()},
        **{name: pa.concat_arrays([values, values]) for name, values in annotation.items()},
    }
    pq.write_table(pa.table(columns), root / "samples.parquet")
    info = DatasetInfo(
        task=task,
        format="coco",
        classes=CLASSES[task],
        channels=1,
        counts={"train": counts, "val": dict.fromkeys(counts, 0), "test": counts},
        unit="objects" if task == OBJECTS else "pixels",
        splits={"train": len(ids), "val": 0, "test": len(ids)},
        learns="OBJECTS" if task == OBJECTS else "MASK",
        images=2 * len(ids),
        bytes=0,
        rejected=0,
        digest="e" * 64,
    )
    write_json(root / "dataset.json", info.model_dump())
    return info.digest


def _objects(root: Path, shown: list[Shown]) -> tuple[dict[str, pa.Array], dict[str, int]]:  # noqa: ARG001
    rows = [
        [
            {"label": k, "x1": x, "y1": y, "x2": x + SQUARE, "y2": y + SQUARE, "crowd": crowd, "outline": None}
            for x, y, k, crowd in one.objects
        ]
        for one in shown
    ]
    labels = [row["label"] for of_one in rows for row in of_one if not row["crowd"]]
    return {"objects": pa.array(rows, FIELDS["objects"])}, {
        name: labels.count(place) for place, name in enumerate(CLASSES[OBJECTS])
    }


def _pixels(root: Path, shown: list[Shown]) -> tuple[dict[str, pa.Array], dict[str, int]]:
    painted = [_painted(one) for one in shown]
    encoded = [masks.encode(mask) for mask in painted]
    ids = [f"{index:064x}" for index in range(100, 100 + len(shown))]
    make_shard(root / "masks", ids, encoded)
    values = np.bincount(np.concatenate([mask.ravel() for mask in painted]), minlength=256)
    columns = {
        "mask": pa.array(ids),
        "mask_shard": pa.array([0] * len(ids), pa.int32()),
        "mask_row": pa.array(range(len(ids)), pa.int32()),
    }
    return columns, {name: int(values[place]) for place, name in enumerate(CLASSES[PIXELS])}


def _painted(one: Shown) -> np.ndarray:
    """Squares on the background; what is a crowd among objects is the void last row of a mask."""
    mask = np.zeros(one.pixels.shape[:2], np.uint8)
    for x, y, kind, crowd in one.objects:
        if crowd:
            mask[-1] = masks.VOID
        else:
            mask[y : y + SQUARE, x : x + SQUARE] = 1 + kind
    return mask


class Squares(nn.Module):
    """The box around what is light, and two rows of padding."""

    def forward(self, pictures: Tensor) -> Tensor:
        """From normalised float32 [B, 1, S, S] to boxes float32 [B, 3, 6]."""
        light = pictures[:, 0] > 0.5
        across, down = light.any(dim=1).float(), light.any(dim=2).float()
        ends = [line.argmax(dim=1).float() for line in (across, down)]
        ends += [SIDE - line.flip(1).argmax(dim=1).float() for line in (across, down)]
        dust = (pictures.amax(dim=(1, 2, 3)) < 1.5).float()
        box = torch.stack([*ends, 0.75 + 0.125 * dust, dust], dim=1)
        return torch.stack([box, torch.zeros_like(box), torch.zeros_like(box)], dim=1)


class Shades(nn.Module):
    """Background, dust and cell by how light a pixel is: below 0.5, below 1.5, and above."""

    def forward(self, pictures: Tensor) -> Tensor:
        """From normalised float32 [B, 1, S, S] to maps of three classes, float32 [B, 3, S, S]."""
        x = pictures[:, 0]
        return torch.stack([torch.zeros_like(x), 8 * (2 * x - 2), 8 * (x - 0.5)], dim=1)
