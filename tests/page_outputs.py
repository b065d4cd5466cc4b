"""What the stages of the page's project left: pictures in `out/dataset`, and each model's answers in DVC's cache."""

from __future__ import annotations

import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image, ImageDraw

from pipeline.files import write_json

EVIL = "<script>document.title='owned'</script>"
CLASSES = ["bolt", "gasket", "hinge & pin", EVIL, "nut", "rivet", "screw", "washer"]
TEST, TRAIN, SIDE = 160, 320, 64


def interval(value: float) -> dict[str, float]:
    room = 1.96 * math.sqrt(max(value * (1 - value), 1e-4) / TEST)
    return {"value": round(value, 6), "low": round(value - room, 6), "high": round(min(1, value + room), 6)}


def dataset(root: Path) -> tuple[str, str]:
    """Pictures of parts in `out/dataset` and in DVC's cache; its digest, and the md5 of the folder."""
    home, dice = root / "out/dataset", np.random.default_rng(0)
    (home / "shards").mkdir(parents=True)
    pictures = [_picture(number % len(CLASSES), dice) for number in range(TEST + TRAIN)]
    ids = [hashlib.sha256(picture).hexdigest() for picture in pictures]
    shard = pa.table({"id": ids, "data": pa.array(pictures, pa.large_binary())})
    with pa.ipc.new_file(home / "shards/0.arrow", shard.schema) as writer:
        writer.write_table(shard)
    count = len(ids)
    rows = {
        "id": ids,
        "split": ["test"] * TEST + ["train"] * TRAIN,
        "group": pa.nulls(count, pa.string()),
        "together": pa.nulls(count, pa.string()),
        "width": pa.array([SIDE] * count, pa.int32()),
        "height": pa.array([SIDE] * count, pa.int32()),
        "source": [f"{CLASSES[number % len(CLASSES)]}/IMG_{number:04d}.png" for number in range(count)],
        "shard": pa.array([0] * count, pa.int32()),
        "row": pa.array(range(count), pa.int32()),
        "label": pa.array([number % len(CLASSES) for number in range(count)], pa.int64()),
    }
    pq.write_table(pa.table(rows), home / "samples.parquet")
    rejected = {"source": ["a.png", "b.png", EVIL], "reason": ["truncated", "truncated", EVIL]}
    pq.write_table(pa.table(rejected), home / "rejected.parquet")
    each = {name: TEST // len(CLASSES) for name in CLASSES}
    trained = {name: TRAIN // len(CLASSES) for name in CLASSES}
    info = {
        "task": "classification",
        "format": "folder",
        "classes": CLASSES,
        "channels": 3,
        "counts": {"train": trained, "val": dict.fromkeys(CLASSES, 0), "test": each},
        "images": count,
        "bytes": sum(map(len, pictures)),
        "rejected": 3,
        "digest": hashlib.sha256(b"dataset").hexdigest(),
    }
    write_json(home / "dataset.json", info)
    files = {path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    return str(info["digest"]), _cached_folder(root, files)


def _picture(kind: int, dice: np.random.Generator) -> bytes:
    """A washer, a nut, a bolt, ... on a bench."""
    image = Image.fromarray(dice.integers(180, 215, (SIDE, SIDE, 3)).astype(np.uint8))
    draw, shift = ImageDraw.Draw(image), dice.integers(-6, 7, 2)
    metal = tuple(int(60 + 12 * kind + dice.integers(0, 25)) for _ in range(3))
    centre, size = (32 + int(shift[0]), 32 + int(shift[1])), int(dice.integers(15, 22))
    if kind % 4 == 0:
        draw.ellipse([centre[0] - size, centre[1] - size, centre[0] + size, centre[1] + size], outline=metal, width=7)
    elif kind % 4 == 1:
        draw.regular_polygon((*centre, size), 6, rotation=int(dice.integers(0, 60)), fill=metal)
    elif kind % 4 == 2:
        draw.rounded_rectangle([centre[0] - 6, centre[1] - size, centre[0] + 6, centre[1] + size], 4, fill=metal)
    else:
        draw.regular_polygon((*centre, size), 4, rotation=int(dice.integers(0, 90)), outline=metal, width=5)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _truth() -> np.ndarray:
    return np.arange(TEST) % len(CLASSES)


def answers(root: Path, skill: float, data: str) -> dict[str, Any]:
    """What a model of that skill leaves in DVC's cache: `lock`, a `dvc.lock`, and `scores`."""
    dice, labels = np.random.default_rng(int(skill * 100)), _truth()
    logits = dice.normal(0, 1, (TEST, len(CLASSES)))
    right = dice.random(TEST) < skill
    logits[np.arange(TEST), np.where(right, labels, (labels + 1 + dice.integers(0, 3, TEST)) % len(CLASSES))] += 4
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    samples = pq.read_table(root / "out/dataset/samples.parquet").slice(0, TEST)
    predicted = shares.argmax(axis=1)
    table = {
        "id": samples.column("id"),
        "source": samples.column("source"),
        "unit": pa.array(range(TEST), pa.int64()),
        "actual": [CLASSES[label] for label in labels],
        "answer": [CLASSES[label] for label in predicted],
        "quality": pa.array((predicted == labels).astype(np.float64)),
        "confidence": pa.array(shares.max(axis=1)),
        "loss": pa.array(-np.log(shares[np.arange(TEST), labels])),
        "probabilities": shares.tolist(),
    }
    out = io.BytesIO()
    pq.write_table(pa.table(table), out)
    epochs = [
        f"{n},{2 * math.exp(-n / 3):.5f},{2 * math.exp(-n / 3) + 0.1:.5f},{skill - 0.5 * math.exp(-n):.5f}"
        for n in range(10)
    ]
    steps = [f"{n},{2.3 * math.exp(-n / 60) + 0.1:.5f},{0.003 * (1 - n / 200):.6f}" for n in range(200)]
    norms = [f"{n},{3 - n / 100:.3f},{1 + n / 100:.3f}" for n in range(0, 200, 20)]
    report = (
        f"<!doctype html><title>Report</title><style>h1{{color:teal}}</style><h1>Report</h1><script>1</script>{EVIL}"
    )
    files = {
        "out/training/epochs.csv": "\n".join(["epoch,train_loss,val_loss,val_accuracy", *epochs, ""]).encode(),
        "out/training/gradients.csv": "\n".join(["step,all,head", *norms, ""]).encode(),
        "out/training/steps.csv": "\n".join(["step,loss,learning_rate", *steps, ""]).encode(),
        "out/evaluation/predictions.parquet": out.getvalue(),
        "out/evaluation/report.html": report.encode(),
    }
    outs = [{"path": path, "hash": "md5", "md5": _cached(root, data)} for path, data in files.items()]
    stages = {
        "ingest": {"cmd": "x", "outs": [{"path": "out/dataset", "hash": "md5", "md5": data}]},
        "train": {"cmd": "x", "outs": [one for one in outs if "training" in one["path"]]},
        "evaluate": {"cmd": "x", "outs": [one for one in outs if "evaluation" in one["path"]]},
    }
    accuracy = float((predicted == labels).mean())
    others = {"average_precision": 0.03, "brier": -0.5, "f1": -0.01, "roc_auc": 0.05}
    scores = {"images": TEST, "units": TEST, "accuracy": interval(accuracy)} | {
        name: interval(min(0.999, abs(accuracy + shift))) for name, shift in others.items()
    }
    return {"lock": yaml.safe_dump({"schema": "2.0", "stages": stages}), "scores": scores}


def _cached(root: Path, data: bytes, kind: str = "") -> str:
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest() + kind
    path = root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return md5


def _cached_folder(root: Path, files: dict[str, bytes]) -> str:
    listed = [{"md5": _cached(root, data), "relpath": path} for path, data in sorted(files.items())]
    return _cached(root, json.dumps(listed).encode(), ".dir")
