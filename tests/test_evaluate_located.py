"""The evaluate stage on objects and on masks: numbers by hand, pictures, report; no stage asks which it is."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import located_sets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from located_sets import BOX, CLASSES, EVIL, SCORE, SIDE
from PIL import Image
from torch import nn

from pipeline import bundle as bundles
from pipeline import masks
from pipeline.answering import MarkedBox
from pipeline.bundle import Bundle, BundleInfo
from pipeline.contracts import Frame, TaskConfig
from pipeline.dataset import Dataset
from pipeline.evaluate import stage
from pipeline.marking import from_text
from pipeline.params import EvaluateOptions, EvaluateParams
from pipeline.tasks.object_detection import Config as Detection
from pipeline.tasks.semantic_segmentation import Config as Segmentation
from pipeline.train_options import ComputeOptions

FILES = {
    "metrics.json", "predictions.parquet", "answer.json", "classes.csv", "confusion.csv", "curves.csv", "errors.png",
    "report.html",
}  # fmt: skip
PLOTTED = EVIL.replace("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}")


class Stubborn(nn.Module):
    """Says that there is a cell in the middle of every picture."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.tensor([[*BOX, SCORE, 0.0], [0.0] * 6]))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.rows.expand(pictures.shape[0], -1, -1)


class Bright(nn.Module):
    """Tells bright pixels from dark ones."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.tensor(0.5))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        bright = 10 * (pictures - self.middle)
        return torch.cat([-bright, bright], dim=1)


def _bundle(root: Path, task: str, network: nn.Module) -> Bundle:
    root.mkdir(parents=True)
    info = BundleInfo(
        task={"name": task}, classes=CLASSES, channels=1, frame=Frame(name="pad"), packed=SIDE, size=SIDE, mean=[0.0],
        deviation=[1.0], model={"name": "stub"}, parameters=1, dataset="ab" * 32,
    )  # fmt: skip
    bundles.write(root, info, network)
    return Bundle.open(root)


def evaluated(root: Path, kind: Any, task: TaskConfig, network: nn.Module) -> Path:
    torch.set_num_threads(1)
    params = EvaluateParams(
        task=task,
        compute=ComputeOptions(device="cpu", threads=1),
        evaluate=EvaluateOptions(resamples=100, worst=3),
    )
    with contextlib.chdir(root):  # the packed cache lies there
        dataset = kind(root / "dataset")
        bundle = _bundle(root / "model", dataset.info.task, network)
        stage.run(params, dataset, bundle, root / "evaluation")
    assert {path.name for path in (root / "evaluation").iterdir()} == FILES
    return root


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated(tmp_path_factory.mktemp("objects"), located_sets.objects, Detection(), Stubborn())


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated(tmp_path_factory.mktemp("pixels"), located_sets.masks, Segmentation(), Bright())


def rows(root: Path, name: str) -> list[dict[str, Any]]:
    path = root / "evaluation" / name
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return found
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scores(root: Path) -> dict[str, float]:
    found = json.loads((root / "evaluation/metrics.json").read_text())
    return {name: one["value"] if isinstance(one, dict) else one for name, one in found.items()}


def report(root: Path) -> str:
    text = (root / "evaluation/report.html").read_text()
    assert "<script" not in text
    assert not re.search(r" (style|href|on\w+)=", text)
    return text


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page.split("<body>")[1]).split())


def test_scores_of_objects(objects: Path):
    found = scores(objects)
    # Of 8 boxes of equal score 4 find one of 6 cells: at most 4/6 of the 101 recalls, 67 of them, are reached. The
    # other class is never found.
    assert found["images"] == 8
    assert found["average_recall"] == pytest.approx((4 / 6 + 0) / 2, abs=1e-6)
    assert found["map50"] == pytest.approx(found["map"])
    assert 0 < found["map"] <= 67 / 101 / 2 + 1e-6


def test_predictions_of_objects(objects: Path):
    found = {row["source"]: row for row in rows(objects, "predictions.parquet")}
    assert list(found["test/0.png"]) == [
        "id", "source", "unit", "actual", "answer", "quality", "confidence", "loss", "marks", "objects",
    ]  # fmt: skip
    assert [row["id"] for row in rows(objects, "predictions.parquet")] == Dataset.open(objects / "dataset").split(
        "test"
    ).ids
    true = {0: "1 cell", 1: f"1 {EVIL}", 2: "nothing", 3: "2 cell"}
    quality = {0: 1.0, 1: 0.0, 2: 0.0, 3: 2 / 3}
    loss = {0: 0.0, 1: 1 + SCORE, 2: SCORE, 3: 1.0}
    for place in range(8):
        row = found[f"test/{place}.png"]
        assert (row["actual"], row["answer"]) == (true[place % 4], "1 cell")
        assert row["quality"] == pytest.approx(quality[place % 4])
        assert row["loss"] == pytest.approx(loss[place % 4])
        assert row["confidence"] == SCORE
        assert from_text(row["marks"], CLASSES).boxes == [MarkedBox(BOX, "cell", SCORE)]


def test_tables_of_objects(objects: Path):
    pairs = Counter((row["actual"], row["predicted"]) for row in rows(objects, "confusion.csv"))
    assert pairs == {("cell", "cell"): 4, ("cell", "background"): 2, (PLOTTED, "cell"): 2, ("background", "cell"): 2}
    first, second = rows(objects, "classes.csv")
    assert (first["class"], first["objects"], first["precision"]) == ("cell", "6", "0.5")
    assert float(first["recall"]) == pytest.approx(4 / 6, abs=1e-6)
    assert (second["class"], second["objects"], second["precision"], second["recall"]) == (EVIL, "2", "", "0.0")
    assert {row["curve"] for row in rows(objects, "curves.csv")} == {"Precision over recall"}


def test_the_report_of_objects_shows_truth_beside_answer(objects: Path):
    page = report(objects)
    text = words(page)
    assert "The 3 worst of 6 test images that are not answered perfectly" in text
    assert "Perfect answers 2 of 8" in text
    assert page.count('src="data:image/jpeg;base64,') == 6
    assert "Truth 1 &lt;script&gt;" in text
    assert "Quality 0.000 75% sure" in text
    assert "What there is and is not found is in the last column" in text
    assert "Objects of each class" in text
    assert "All objects 4 4 8" in text
    assert "All images 4 4 8" in text
    assert "outside 2 bad_box 1" in text
    assert "Precision at IoU 0.5" in text
    assert 'fill="#e69f00"' in page


def test_the_sheet_shows_truth_beside_answer(objects: Path):
    sheet = np.asarray(Image.open(objects / "evaluation/errors.png"))
    assert sheet.shape == (40 + 2 * (240 + 40 + 16) + 16, 16 + 2 * (484 + 16), 3)
    truth, answer = sheet[56:296, 16:256], sheet[56:296, 260:500]
    assert (truth != answer).any()
    assert (sheet[200, 257] == 255).all()


def test_scores_of_masks(pixels: Path):
    found = scores(pixels)
    assert found["mean_iou"] == pytest.approx((7 / 9 + 5 / 7) / 2, abs=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(6 / 7, abs=1e-6)
    assert found["mean_dice"] == pytest.approx((7 / 8 + 5 / 6) / 2, abs=1e-6)


def test_predictions_of_masks(pixels: Path):
    found = {row["source"]: row for row in rows(pixels, "predictions.parquet")}
    assert list(found["test/0.png"]) == [
        "id", "source", "unit", "actual", "answer", "quality", "confidence", "loss", "marks", "mask",
    ]  # fmt: skip
    for place, quality in enumerate((1.0, 1.0, 0.25, 1.0)):  # half of the third is right, and the other class not there
        row = found[f"test/{place}.png"]
        assert row["quality"] == pytest.approx(quality)
        assert row["loss"] == pytest.approx(1 - quality)
        assert row["answer"] == f"cell 50%, {EVIL} 50%"
        assert row["marks"] == ""  # the mask is in a column of its own
        assert 0.99 < row["confidence"] <= 1
        mask = masks.decode(row["mask"])
        assert (mask[:, :16] == 0).all()
        assert (mask[:, 16:] == 1).all()
    assert found["test/2.png"]["actual"] == "cell 100%"


def test_tables_of_masks(pixels: Path):
    pairs = Counter((row["actual"], row["predicted"]) for row in rows(pixels, "confusion.csv"))
    assert pairs == {("cell", "cell"): 1792, ("cell", PLOTTED): 512, (PLOTTED, PLOTTED): 1280}
    first, second = rows(pixels, "classes.csv")
    assert (first["class"], first["images"], first["pixels"]) == ("cell", "4", "2304")
    assert (float(first["iou"]), float(second["iou"])) == pytest.approx((7 / 9, 5 / 7), abs=1e-6)


def test_the_report_of_masks_shows_the_only_error(pixels: Path):
    page = report(pixels)
    text = words(page)
    assert "Every test image that is not answered perfectly, the worst first" in text
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert "Truth cell 100%" in text
    assert "Quality 0.250" in text
    assert "Pixels by true class (row) and answer (column), shaded by their share of the row." in text
    assert "Pixels of each class" in text
    assert "All images 4 4 4" in text
    assert "mean IoU on 4 test images" in text


def test_the_same_input_gives_the_same_bytes(objects: Path, tmp_path: Path):
    again = evaluated(tmp_path, located_sets.objects, Detection(), Stubborn())
    for name in FILES:
        assert (again / "evaluation" / name).read_bytes() == (objects / "evaluation" / name).read_bytes(), name
