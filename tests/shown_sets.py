"""A small dataset of every kind of target, and what a model says of its test images: for looking at what is shown.

    made = shown_sets.make(root, "points")     made.dataset, made.task, made.told
    shown_sets.tell(made, root / "out")        report.html and all that goes with it

The answers are wrong by known amounts. Half of the names are hostile: whatever is shown of them must be text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from pipeline.bundle import Bundle, BundleInfo
from pipeline.contracts import SPLITS, Frame, TaskConfig
from pipeline.dataset import (
    FIELDS,
    PROBLEM_COLUMNS,
    REJECTED_COLUMNS,
    SAMPLE_COLUMNS,
    SHARD_COLUMNS,
    Dataset,
    DatasetInfo,
)
from pipeline.evaluate import stage
from pipeline.files import write_json
from pipeline.images import encode_png
from pipeline.masks import box_of, runs_of
from pipeline.numbers import of_numbers
from pipeline.params import EvaluateOptions, EvaluateParams
from pipeline.plugin import config_class
from pipeline.tasks._instances import Told
from pipeline.train_options import ComputeOptions

EVIL = "<script>document.title='owned'</script>"
WIDE, HIGH = 96, 72
SIZES = {"train": 8, "val": 4, "test": 12}
EYES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right", EVIL)
FACE = np.array([[34, 26], [62, 26], [48, 38], [38, 52], [58, 52], [48, 66]], float)
PEOPLE = ("Ada Lovelace", "Alan Turing", EVIL, "Grace Hopper")
PRICES = np.array([152_000, 389_500, 1_250_000, 275_000], float)
SCENES = ("beach", "city, at night", EVIL, "forest", "snow")


class Made(NamedTuple):
    """A dataset and the answers to its test images."""

    dataset: Dataset
    task: TaskConfig
    told: list[Any]


class _Kind(NamedTuple):
    task: str
    options: dict[str, Any]
    classes: tuple[str, ...]
    picture: Callable[[int], np.ndarray]
    column: Callable[[int], Any]
    """The value of the only field of one image."""
    told: Callable[[int], Any]
    more: Callable[[list[Any]], dict[str, Any]] = lambda columns: {}  # noqa: ARG005
    """Fields of `DatasetInfo`, from the columns of the training images."""


def make(root: Path, kind: str) -> Made:
    """The dataset in the empty folder `root`."""
    about = KINDS[kind]
    task = config_class("tasks", about.task).model_validate(about.options)
    assert isinstance(task, TaskConfig)
    dataset = _write(root, about, task)
    # Images are sorted by id; each says its number in its source.
    numbers = [
        int(source.split("/")[1].split(".")[0]) for source in dataset.split("test").samples["source"].to_pylist()
    ]
    return Made(dataset, task, [about.told(number) for number in numbers])


def bundle_info(made: Made) -> BundleInfo:
    """What a model that answers so says of itself."""
    info = made.dataset.info
    return BundleInfo(
        task={"name": info.task, **made.task.model_dump()}, classes=info.classes, channels=3, frame=Frame(name="pad"),
        packed=64, size=64, mean=[0.0] * 3, deviation=[1.0] * 3, model={"name": "stub"}, parameters=1,
        dataset=info.digest,
    )  # fmt: skip


def tell(made: Made, out: Path, worst: int = 6) -> list[Any]:
    """What the evaluate stage writes of the answers; the scores."""
    params = EvaluateParams(
        task=made.task,
        compute=ComputeOptions(device="cpu", threads=1),
        evaluate=EvaluateOptions(resamples=100, worst=worst),
    )
    score = f"val_{made.task.score}"
    epochs = {"epoch": [0.0, 1.0], "train_loss": [2.0, 1.0], "val_loss": [2.1, 1.4], score: [0.3, 0.5]}
    bundle = Bundle(out, bundle_info(made))
    bundle.task = made.task
    return stage.tell(params, made.dataset, bundle, made.told, out, epochs)


def _dice(number: int) -> np.random.Generator:
    return np.random.default_rng(number)


def _ground(number: int, shade: int = 150) -> Image.Image:
    noise = _dice(number).integers(-12, 12, (HIGH, WIDE, 3)) + np.array([shade, shade + 20, shade + 40])
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))


# objects, pixel by pixel


def blobs(number: int) -> list[tuple[np.ndarray, int, bool]]:
    """Discs that touch each other: their pixels, class, and whether they are a crowd."""
    y, x = np.mgrid[:HIGH, :WIDE]
    places = [(20, 24, 13), (44, 24, 13), (68, 30, 14), (34, 54, 12), (78, 58, 9)]
    return [
        ((x - a - number % 3) ** 2 + (y - b) ** 2 < r * r, place % 3 == 2, place == 4)
        for place, (a, b, r) in enumerate(places)
    ]


def _picture_of_blobs(number: int) -> np.ndarray:
    pixels = np.array(_ground(number, 90))
    for inside, label, _ in blobs(number):
        pixels[inside] = (200, 120, 90) if label else (110, 160, 200)
    return pixels


def _instances(number: int) -> list[dict[str, Any]]:
    rows = []
    for inside, label, crowd in blobs(number):
        x1, y1, x2, y2 = box_of(inside) or (0, 0, 0, 0)
        box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
        rows.append({"label": int(label), **box, "crowd": crowd, "runs": runs_of(inside)})
    return rows


def _told_instances(number: int) -> Told:
    """The discs shifted, and of some images not all."""
    rows, runs = [], []
    for place, (inside, label, _) in enumerate(blobs(number)[: 2 + number % 4]):
        moved = np.roll(inside, number % 3, axis=1)
        rows.append([*(box_of(moved) or (0, 0, 1, 1)), 0.9 - 0.1 * place, int(label)])
        runs.append(np.array(runs_of(moved), np.int32))
    return Told(np.array(rows, float).reshape(-1, 6), runs, (WIDE, HIGH))


# points and faces


def _face(number: int, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    image = _ground(number)
    draw = ImageDraw.Draw(image)
    x, y = shift
    draw.ellipse([24 + x, 6 + y, 72 + x, 70 + y], fill=(224 - 12 * (number % 4), 180, 150))
    for a, b in FACE[:2]:
        draw.ellipse([a + x - 4, b + y - 3, a + x + 4, b + y + 3], fill=(60, 40 + 30 * (number % 4), 40))
    draw.line([48 + x, 30 + y, 48 + x, 40 + y], fill=(160, 110, 90), width=2)
    draw.arc([38 + x, 44 + y, 58 + x, 58 + y], 10, 170, fill=(170, 60, 60), width=3)
    return np.array(image)


def _shift(number: int) -> tuple[float, float]:
    return float(number % 5 - 2) * 3, float(number % 3 - 1) * 2


def _points(number: int) -> list[dict[str, float] | None]:
    places = (FACE + _shift(number)).tolist()
    return [None if place == 5 and number % 2 else {"x": x, "y": y} for place, (x, y) in enumerate(places)]


def _told_points(number: int) -> np.ndarray:
    """Each point `number` half pixels away, downwards to the right."""
    places = FACE + _shift(number) + np.array([0.3, 0.4]) * number
    return np.concatenate([places, np.full((len(places), 1), 0.8)], axis=1)


def _embedding(number: int) -> np.ndarray:
    """Near to that of the person; every fifth image nearer to the next one."""
    person = (number + (number % 5 == 4)) % len(PEOPLE)
    found = np.eye(4)[person] + _dice(number).normal(0, 0.15, 4)
    return np.asarray(found / np.linalg.norm(found))


# whole pictures


def _scene(number: int) -> np.ndarray:
    image = _ground(number, 60 + 20 * (number % 5))
    draw = ImageDraw.Draw(image)
    for place in _scene_labels(number):
        draw.rectangle([8 + 17 * place, 20, 20 + 17 * place, 60], fill=(230 - 40 * place, 60 * place % 255, 120))
    return np.array(image)


def _scene_labels(number: int) -> list[int]:
    return sorted({number % 5, (number * 2) % 5} if number % 4 else set())


def _told_scene(number: int) -> np.ndarray:
    shares = np.full(5, 0.04) + 0.02 * np.arange(5)
    shares[_scene_labels(number)] = 0.9 - 0.1 * (number % 4)
    shares[(number + 1) % 5] = 0.6
    return shares


def _told_grade(number: int) -> np.ndarray:
    shares = np.array([0.1, 0.1, 0.1, 0.1, 0.1])
    shares[min(4, number % 5 + number % 3)] = 0.6
    return shares


def _prices(number: int) -> list[float | None]:
    return [float(PRICES[number % 4] + 1000 * number), None if number % 3 == 1 else float(2 + number % 4)]


def _told_prices(number: int) -> np.ndarray:
    price, rooms = _prices(number)
    return np.array([[(price or 0) * (1 + 0.02 * (number % 5)), (rooms or 3) + 0.4]])


def _scales(columns: list[Any]) -> dict[str, Any]:
    table = np.array([[np.nan if value is None else value for value in row] for row in columns], float)
    return {"scales": [of_numbers(column[np.isfinite(column)]) for column in table.T]}


KINDS = {
    "instances": _Kind(
        "instance_segmentation", {}, ("cell", EVIL), _picture_of_blobs, _instances, _told_instances
    ),
    "points": _Kind(
        "keypoints", {"mirror": "none"}, EYES, lambda n: _face(n, _shift(n)), _points, _told_points,
        lambda columns: {"mirrored": list(range(len(EYES)))},  # noqa: ARG005
    ),
    "faces": _Kind(
        "face_recognition", {"embedding": 4, "threshold": 0.4}, PEOPLE, _face, lambda n: n % len(PEOPLE), _embedding
    ),
    "labels": _Kind("multi_label", {}, SCENES, _scene, _scene_labels, _told_scene),
    "grades": _Kind("ordinal", {}, ("0", "1", "2", "3", EVIL), _scene, lambda n: n % 5, _told_grade),
    "numbers": _Kind(
        "regression", {}, ("price", EVIL), _scene, _prices, _told_prices, _scales
    ),
    "counts": _Kind(
        "counting", {}, ("cell", EVIL), _picture_of_blobs, lambda n: [2.0 + n % 3, 1.0],
        lambda n: np.array([2.4 + n % 3, 0.7 * (n % 2)]), _scales,
    ),
}  # fmt: skip


def _write(root: Path, about: _Kind, task: TaskConfig) -> Dataset:
    numbers = [(split, number) for split in SPLITS for number in range(SIZES[split])]
    pictures = [about.picture(number + 20 * SPLITS.index(split)) for split, number in numbers]
    blobs = [encode_png(picture) for picture in [about.picture(number) for _, number in numbers]]
    blobs = [blob + f"{split} {number}".encode() for blob, (split, number) in zip(blobs, numbers, strict=True)]
    ids = [hashlib.sha256(blob).hexdigest() for blob in blobs]
    count, ((field, kind),) = len(ids), task.fields.items()
    values = {
        "id": ids,
        "split": [split for split, _ in numbers],
        "group": [None] * count,
        "together": [None] * count,
        "width": [picture.shape[1] for picture in pictures],
        "height": [picture.shape[0] for picture in pictures],
        "source": [f"{split}/{number}.png" for split, number in numbers],
        "shard": [0] * count,
        "row": list(range(count)),
    }
    root.mkdir(parents=True, exist_ok=True)
    _shard(root / "shards", ids, blobs)
    columns = [about.column(number) for _, number in numbers]
    fixed = {name: pa.array(values[name], kind) for name, kind in SAMPLE_COLUMNS.items()}
    table = pa.table({**fixed, field: pa.array(columns, FIELDS[kind])})
    pq.write_table(table.sort_by("id"), root / "samples.parquet")
    pq.write_table(pa.schema(REJECTED_COLUMNS).empty_table(), root / "rejected.parquet")
    pq.write_table(pa.schema(PROBLEM_COLUMNS).empty_table(), root / "problems.parquet")
    info = DatasetInfo(
        task=about.task, format="table", classes=list(about.classes), channels=3, unit=task.unit,
        counts={split: dict.fromkeys(about.classes, SIZES[split]) for split in SPLITS}, splits=SIZES,
        learns=task.learns.name, images=count, bytes=sum(map(len, blobs)), rejected=0,
        digest=hashlib.sha256(about.task.encode()).hexdigest(),
        **about.more([column for column, (split, _) in zip(columns, numbers, strict=True) if split == "train"]),
    )  # fmt: skip
    write_json(root / "dataset.json", info.model_dump(mode="json"))
    return Dataset.open(root)


def _shard(folder: Path, ids: list[str], blobs: list[bytes]) -> None:
    folder.mkdir(parents=True)
    table = pa.table({"id": ids, "data": blobs}, pa.schema(list(SHARD_COLUMNS.items())))
    with pa.OSFile(str(folder / "00000.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
