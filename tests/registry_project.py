"""A project whose stages have run, made in a moment: what the tests of the registry record, register and judge."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import databases
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline import bundle
from pipeline.answering import Answers
from pipeline.asking import Told
from pipeline.bundle import Bundle, BundleInfo
from pipeline.contracts import Frame
from pipeline.dataset import Dataset, DatasetInfo, Split
from pipeline.door import parse
from pipeline.evaluate import schema
from pipeline.files import write_json, write_text
from pipeline.params import Params
from pipeline.plugin import metric_named
from pipeline.registry import tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

HOME = Path(__file__).parents[1]
CLASSES = ["dark", "light"]
SIDE = 8
STEPS, EPOCHS = 20, 2


def make_project(root: Path, bias: float = 0.0) -> Params:
    """Fill `root` with params, lock and outputs: the task is to tell dark pictures from light ones."""
    text = (HOME / "params.yaml").read_text()
    write_text(root / "params.yaml", text)
    pictures, labels = make_pictures(40)
    dataset = make_dataset(root / "out/dataset", pictures, labels)
    model = root / "out/model"
    model.mkdir(parents=True)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(SIDE * SIDE, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.stack([-torch.ones(SIDE * SIDE), torch.ones(SIDE * SIDE)]) / 50)
        network[1].bias.copy_(torch.tensor([0.0, bias]))
    info = BundleInfo(
        task={"name": "classification"},
        classes=CLASSES,
        channels=1,
        frame=Frame(),
        packed=SIDE,
        size=SIDE,
        mean=[0.5],
        deviation=[0.25],
        model={"name": "convnet"},
        parameters=130,
        dataset=dataset.digest,
    )
    bundle.write(model, info, network)
    make_notes(root / "out")
    make_evaluation(root / "out/evaluation", model, root / "out/dataset")
    stage = {"cmd": "python -m pipeline x", "outs": [{"path": "out", "md5": str(bias)}]}
    write_text(
        root / "dvc.lock", json.dumps({"schema": "2.0", "stages": {"ingest": stage, "train": {**stage, "b": 1}}})
    )
    return parse(Params, text)


def make_pictures(count: int) -> tuple[list[bytes], np.ndarray]:
    """PNG files, dark ones labelled 0 and light ones 1, with a few that look like the other."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 2
    seen = np.where(np.arange(count) % 10 == 3, 1 - labels, labels)
    pictures = []
    for light in seen:
        out = io.BytesIO()
        pixels = random.integers(0, 110, (SIDE, SIDE)) + 140 * light
        Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
        pictures.append(out.getvalue())
    return pictures, labels


def make_dataset(root: Path, pictures: list[bytes], labels: np.ndarray) -> DatasetInfo:
    """The pictures as the test split, and the same number of rows as the train split."""
    ids = [f"{index:064x}" for index in range(len(pictures))]
    make_shard(root / "shards", ids, pictures)
    columns: dict[str, Any] = {
        "id": ids + [f"f{identity[1:]}" for identity in ids],
        "split": ["test"] * len(ids) + ["train"] * len(ids),
        "together": pa.nulls(2 * len(ids), pa.string()),
        "width": pa.array([SIDE] * 2 * len(ids), pa.int32()),
        "height": pa.array([SIDE] * 2 * len(ids), pa.int32()),
        "label": [*labels, *labels],
        "shard": pa.array([0] * 2 * len(ids), pa.int32()),
        "row": pa.array([*range(len(ids))] * 2, pa.int32()),
        "source": ["x.png"] * 2 * len(ids),
    }
    pq.write_table(pa.table(columns), root / "samples.parquet")
    half = {name: int((labels == index).sum()) for index, name in enumerate(CLASSES)}
    info = DatasetInfo(
        task="classification",
        format="digits",
        classes=CLASSES,
        channels=1,
        counts={"train": half, "val": dict.fromkeys(CLASSES, 0), "test": half},
        splits={"train": len(ids), "val": 0, "test": len(ids)},
        images=2 * len(ids),
        bytes=sum(map(len, pictures)),
        rejected=0,
        digest="d" * 64,
    )
    write_json(root / "dataset.json", info.model_dump())
    return info


def make_shard(folder: Path, ids: list[str], data: list[bytes]) -> None:
    """Encoded pictures or masks, as a dataset keeps them."""
    folder.mkdir(parents=True)
    shard = pa.table({"id": ids, "data": pa.array(data, pa.large_binary())})
    with pa.ipc.new_file(folder / "0.arrow", shard.schema) as writer:
        writer.write_table(shard)


def make_notes(out: Path) -> None:
    """What `augment` and `train` leave beside the model."""
    write_json(out / "policy/policy.json", {"size": SIDE})
    steps = [f"{step},{step_loss(step)},0.001" for step in range(STEPS)]
    write_text(out / "training/steps.csv", "\n".join(["step,loss,learning_rate", *steps]) + "\n")
    epochs = [f"{epoch},0.5,0.4,{0.8 + epoch / 10}" for epoch in range(EPOCHS)]
    write_text(out / "training/epochs.csv", "\n".join(["epoch,train_loss,val_loss,val_accuracy", *epochs]) + "\n")
    write_json(out / "training/training.json", {"device": "cpu", "threads": 1, "precision": "float32", "best_epoch": 1})


def make_evaluation(root: Path, model: Path, dataset: Path) -> None:
    """What `evaluate` leaves, from the model's real answers to the test split."""
    test, bundle = Dataset.open(dataset).split("test"), Bundle.open(model)
    told = asked(bundle, test)
    answers = bundle.task.answers(test, told)
    places = range(len(test))
    table = {
        "id": list(test.ids),
        "source": test.samples.column("source"),
        "unit": test.units,
        "actual": [answers.true(place).words for place in places],
        "answer": [answers.said(place).words for place in places],
        "quality": answers.quality,
        "confidence": answers.confidence,
        "loss": answers.losses,
        **answers.columns(),
    }
    root.mkdir(parents=True)
    pq.write_table(pa.table(table), root / "predictions.parquet")
    plain = (bundle.task.plain(one, bundle.info.classes) for one in told)
    write_json(root / "answer.json", schema.columns(plain))
    score = bundle.task.score
    value = float(metric_named(score).score(answers, np.ones((1, len(test))))[0])
    write_json(root / "metrics.json", {score: {"value": value, "low": 0.8, "high": 0.97}, "images": len(test)})
    write_text(root / "report.html", "<!doctype html><title>Report</title><h1>Report</h1>")


def answered(model: Bundle, test: Split) -> Answers:
    """What a bundle says of the images of a split as they are served, without a process of its own."""
    return model.task.answers(test, asked(model, test))


def asked(model: Bundle, test: Split) -> list[Any]:
    """The same as the task reads it."""
    return model.answer([model.prepare(test.read(place)) for place in range(len(test))])


def told(folder: Path) -> Told:
    """What `pipeline.asking.ask` would find in the bundle in `folder`, without a process of its own."""
    answers = answered(Bundle.open(folder), Dataset.open().split("test"))
    return Told(answers, answers.at(range(16)), milliseconds=2.5, timed=20, device="cpu")


def step_loss(step: int) -> float:
    """The loss that the made-up training had."""
    return 1 / (step + 3)


def enter_project(made: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Copy a project with an empty store beside it, go there, and connect."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(made, target)
    databases.give(target, tracking.DATABASE)
    monkeypatch.chdir(target)
    return tracking.connect()
