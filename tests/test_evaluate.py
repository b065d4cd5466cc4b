"""The evaluate stage on a real dataset and a real exported network, whose answers are known in advance."""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn import metrics as reference
from torch import nn

from pipeline import bundle as bundles
from pipeline.bundle import Bundle, BundleInfo
from pipeline.contracts import SPLITS
from pipeline.dataset import REJECTED_COLUMNS, SAMPLE_COLUMNS, SHARD_COLUMNS, Dataset, DatasetInfo
from pipeline.errors import UserError
from pipeline.evaluate import charts, pictures, report, stage, tables, wording
from pipeline.evaluate.answers import Answers
from pipeline.files import write_json
from pipeline.images import encode_png
from pipeline.params import ComputeOptions, EvaluateOptions, EvaluateParams
from pipeline.tasks.classification import Config as Classification

CLASSES = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "{{ 7 * 7 }} \u202egnp.exe\n"]
LEVELS = [40, 128, 220]
PARAMS = EvaluateParams(
    task=Classification(),
    compute=ComputeOptions(device="cpu", threads=1),
    evaluate=EvaluateOptions(resamples=200, worst=4),
)
IMAGES = 60
WRONG_LABELS = range(0, IMAGES, 10)


class Brightness(nn.Module):
    """Tells the classes by how bright a picture is."""

    def __init__(self, scale: float = 40.0) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.tensor(LEVELS) / 255)
        self.scale = scale

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return -self.scale * (pictures.mean((1, 2, 3))[:, None] - self.centers) ** 2


def write_dataset(root: Path, tests: int = IMAGES) -> Dataset:
    """Grey test pictures, every tenth with a wrong label; the other splits hold bytes that nobody can decode."""
    random = np.random.default_rng(0)
    rows, blobs = [], []
    for split, count in (("train", 12), ("val", 6), ("test", tests)):
        for place in range(count):
            label = place % 3
            level = LEVELS[label] + int(random.integers(-30, 30))
            blobs.append(encode_png(np.full((10, 14, 1), level, np.uint8)) + bytes([place]))
            if split != "test":
                blobs[-1] = f"no picture {split} {place}".encode()
            elif place in WRONG_LABELS:
                label = (label + 1) % 3
            identity = hashlib.sha256(blobs[-1]).hexdigest()
            rows.append((identity, split, None, 14, 10, f"{split}/{place}.png", 0, len(rows), label))
    columns = dict(zip([*SAMPLE_COLUMNS, "label"], map(list, zip(*rows, strict=True)), strict=True))
    samples = pa.table(columns, pa.schema([*SAMPLE_COLUMNS.items(), ("label", pa.int32())])).sort_by("id")
    (root / "shards").mkdir(parents=True)
    pq.write_table(samples, root / "samples.parquet")
    shard = pa.table({"id": columns["id"], "data": blobs}, pa.schema(list(SHARD_COLUMNS.items())))
    with pa.OSFile(str(root / "shards/00000.arrow"), "wb") as file, pa.ipc.new_file(file, shard.schema) as writer:
        writer.write_table(shard)
    rejected = {"source": ["a", "b", "c"], "reason": ["damaged: <b>cut</b>", "the file is empty", "the file is empty"]}
    pq.write_table(pa.table(rejected, pa.schema(list(REJECTED_COLUMNS.items()))), root / "rejected.parquet")
    found = [(row[1], row[8]) for row in rows]
    counts = {split: {name: found.count((split, k)) for k, name in enumerate(CLASSES)} for split in SPLITS}
    info = DatasetInfo(
        task="classification", format="folder", classes=CLASSES, channels=1, counts=counts, images=len(rows),
        bytes=1, rejected=3, digest="ab" * 32,
    )  # fmt: skip
    write_json(root / "dataset.json", info.model_dump())
    return Dataset.open(root)


def write_bundle(root: Path, network: nn.Module, classes: list[str] = CLASSES) -> Bundle:
    info = BundleInfo(
        task={"name": "classification"}, classes=classes, channels=1, packed=10, size=8, mean=[0.0], deviation=[1.0],
        model={"name": "brightness", "width": 3}, parameters=3, dataset="ab" * 32,
    )  # fmt: skip
    root.mkdir(parents=True)
    bundles.write(root, info, network)
    return Bundle.open(root)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a dataset, a model and the course of its training, evaluated into `evaluation`."""
    root = tmp_path_factory.mktemp("evaluate")
    with contextlib.chdir(root):  # the packed cache lies there
        dataset, bundle = write_dataset(root / "dataset"), write_bundle(root / "model", Brightness())
        (root / "epochs.csv").write_text(
            "epoch,train_loss,val_loss,val_accuracy,learning_rate\n0,1.5,1.4,0.5,0.1\n1,0.9,0.8,0.9,0.1\n2,0.7,nan,0.9,0\n"
        )
        stage.run(PARAMS, dataset, bundle, root / "evaluation", root / "epochs.csv")
        yield root


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_metrics_are_those_of_the_predictions(place: Path):
    metrics = json.loads((place / "evaluation/metrics.json").read_text())
    rows = pq.read_table(place / "evaluation/predictions.parquet").to_pydict()
    assert metrics.pop("images") == IMAGES == len(rows["id"])
    assert metrics["accuracy"]["value"] == pytest.approx(54 / 60, abs=1e-6)
    macro = {"average": "macro", "zero_division": 0}
    assert metrics["f1"]["value"] == pytest.approx(
        reference.f1_score(rows["label"], rows["predicted"], **macro), abs=1e-6
    )
    assert metrics["roc_auc"]["value"] == pytest.approx(
        reference.roc_auc_score(rows["label"], rows["probabilities"], multi_class="ovr"), abs=1e-6
    )
    for name, found in metrics.items():
        assert set(found) == {"value", "low", "high"}, name
        assert found["low"] <= found["high"]
    assert metrics["accuracy"]["low"] < 0.9 < metrics["accuracy"]["high"]


def test_predictions_are_the_networks(place: Path):
    test = Dataset.open(place / "dataset").split("test")
    rows = pq.read_table(place / "evaluation/predictions.parquet").to_pylist()
    assert [row["id"] for row in rows] == test.ids
    for row, position in zip(rows, range(len(test)), strict=True):
        level = np.asarray(Image.open(io.BytesIO(test.read(position))))[0, 0]
        expected = np.exp(-40 * (level / 255 - np.array(LEVELS) / 255) ** 2)
        expected /= expected.sum()
        assert row["probabilities"] == pytest.approx(expected, abs=1e-5)
        assert row["predicted"] == expected.argmax() and row["confidence"] == pytest.approx(expected.max(), abs=1e-5)
        assert row["correct"] == (row["predicted"] == row["label"])
        assert row["loss"] == pytest.approx(-np.log(expected[row["label"]]), abs=1e-3)


def test_tables_for_dvc(place: Path):
    rows = pq.read_table(place / "evaluation/predictions.parquet").to_pylist()
    names = [
        "\u2039script>alert(1)\u2039/script>",
        '">\u2039img src=x onerror=alert(2)>',
        "{{ 7 * 7 }} \ufffdgnp.exe\ufffd",
    ]
    named = [{"actual": names[r["label"]], "predicted": names[r["predicted"]]} for r in rows]
    assert read_csv(place / "evaluation/confusion.csv") == named  # no "<": the page of `dvc plots` would run it
    classes = read_csv(place / "evaluation/classes.csv")
    assert [row["class"] for row in classes] == CLASSES
    assert sum(int(row["images"]) for row in classes) == IMAGES
    bins = read_csv(place / "evaluation/calibration.csv")
    assert list(bins[0]) == ["low", "high", "images", "confidence", "accuracy"]
    assert sum(int(row["images"]) for row in bins) == IMAGES
    curve = read_csv(place / "evaluation/roc.csv")
    assert list(curve[0].values()) == ["0.0", "0.0"] and list(curve[-1].values()) == ["1.0", "1.0"]


def test_same_input_same_bytes_wherever_it_lies(place: Path, tmp_path: Path):
    dataset, bundle = Dataset.open(place / "dataset"), Bundle.open(place / "model")
    stage.run(PARAMS, dataset, bundle, tmp_path / "elsewhere/evaluation", place / "epochs.csv")
    first = {path.name: path.read_bytes() for path in (place / "evaluation").iterdir()}
    second = {path.name: path.read_bytes() for path in (tmp_path / "elsewhere/evaluation").iterdir()}
    assert first == second
    assert set(first) == {
        "metrics.json", "predictions.parquet", "classes.csv", "confusion.csv", "calibration.csv", "roc.csv",
        "errors.png", "report.html",
    }  # fmt: skip
    assert not any(str(place).encode() in data for data in first.values())


class Elements(HTMLParser):
    """Every element of a page with its attributes, the text, and the elements left open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "!doctype"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th", "p", "li", "dt", "dd") else ""

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(place: Path) -> str:
    return (place / "evaluation/report.html").read_text(encoding="utf-8")


def test_report_needs_nothing_and_runs_nothing(page: str):
    elements = Elements(page)
    assert elements.open == []
    assert not {tag for tag, _ in elements.found} & {"script", "link", "iframe", "object", "form", "base"}
    for tag, attributes in elements.found:
        assert not any(name.startswith("on") or name in ("style", "href", "srcset") for name in attributes), tag
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
    assert not re.search(r"url\(|@import|https?:", page)
    policy = next(a["content"] for _, a in elements.found if a.get("http-equiv") == "Content-Security-Policy")
    style = page.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert (
        policy == f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_hostile_names_are_shown_and_do_nothing(page: str):
    assert "<script" not in page and "<img src=x" not in page and "\u202e" not in page
    text = Elements(page).text
    assert "<script>alert(1)</script>" in text and '"><img src=x onerror=alert(2)>' in text
    assert "{{ 7 * 7 }} \ufffdgnp.exe\ufffd" in text and "49 " not in text
    assert "damaged: <b>cut</b>" in text


def test_report_tells_what_there_is_to_tell(page: str):
    text = " ".join(Elements(page).text.split())
    assert "90.0% accuracy on 60 test images" in text
    assert re.search(r"expect between 8\d\.\d% and 9\d\.\d% \(95% interval\)", text)
    assert "A model that never looks at a picture would score 33.3%" in text
    assert "The 4 of 6 errors that surprised the model most" in text
    assert "78 images, read by the format folder; 3 files left out." in text
    assert "the file is empty 2" in text
    assert "Validation accuracy" in text and "Best epoch, kept" in text
    assert "abab" in text and "another version of this dataset" not in text


def test_report_is_accessible(page: str):
    elements = Elements(page).found
    assert ("html", {"lang": "en"}) in elements
    identities = [a["id"] for _, a in elements if "id" in a]
    assert len(identities) == len(set(identities))
    for tag, attributes in elements:
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes["role"] == "img"
        if tag == "img":
            assert attributes["alt"]
        for identity in (attributes.get("aria-labelledby") or "").split():
            assert identity in identities
    assert page.count("<caption") == page.count("<table")
    assert [tag for tag, _ in elements if tag in ("h1", "h2", "h3")][:2] == ["h1", "h2"]


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_can_be_read_in_light_and_dark(scheme: int):
    style = (Path(report.__file__).parent / "report.css").read_text()
    colours = dict(re.findall(r"--(\w+): (#\w{6})", style.split(":root {")[1 + scheme].split("}")[0]))
    pairs = [(ink, ground) for ink in ("ink", "faint", "accent", "warm") for ground in ("paper", "card")]
    for ink, ground in [*pairs, ("ink", "hit"), ("ink", "miss")]:
        light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_sheet_shows_the_worst_errors(place: Path):
    sheet = Image.open(place / "evaluation/errors.png")
    assert sheet.mode == "RGB" and sheet.width == 16 + 6 * (128 + 16)
    rows = pq.read_table(place / "evaluation/predictions.parquet").to_pylist()
    worst = max((row for row in rows if not row["correct"]), key=lambda row: row["loss"])
    test = Dataset.open(place / "dataset").split("test")
    level = np.asarray(Image.open(io.BytesIO(test.read(test.ids.index(worst["id"])))))[0, 0]
    assert sheet.getpixel((16 + 64, 40 + 16 + 64)) == (level, level, level)


def mistake(name: str) -> pictures.Mistake:
    return pictures.Mistake(np.full((5, 5, 3), 90, np.uint8), "a.png", name, name, 0.5)


def test_sheet_takes_any_name_and_none_at_all():
    names = ["", "x" * 5000, "猫 \u202e\0\n", "🐈", *CLASSES, *"abcdef"]
    sheet = pictures.sheet([mistake(name) for name in names], 13, 20)
    assert sheet.shape == (40 + 3 * (128 + 40 + 16) + 16, 880, 3)
    assert (pictures.sheet([], 0, 20) < 128).any()  # says so in words
    assert (pictures.sheet([], 3, 20) != pictures.sheet([], 0, 20)).any()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat", "cat"),
        ("", "(blank)"),
        (" \u200d", "(blank)"),
        ("a\u202eb\nc\0", "a\ufffdb\ufffdc\ufffd"),
        ("می\u200cخواهم 👩\u200d🔬 猫", "می\u200cخواهم 👩\u200d🔬 猫"),
    ],
)
def test_names_for_people_to_read(name: str, shown: str):
    assert wording.shown(name) == shown


def test_an_empty_test_split_is_refused(place: Path, tmp_path: Path):
    dataset = write_dataset(tmp_path / "dataset", tests=0)
    with pytest.raises(UserError) as error:
        stage.run(PARAMS, dataset, Bundle.open(place / "model"), tmp_path / "out")
    assert str(error.value) == (
        "The test split has no images, so the model cannot be scored. Raise `split.test` in params.yaml, "
        "or add images to the source's own test split."
    )


def test_a_model_for_other_classes_is_refused(place: Path, tmp_path: Path):
    info = Bundle.open(place / "model").info.model_copy(update={"classes": list("abcdefg")})
    with pytest.raises(UserError) as error:
        stage.run(PARAMS, Dataset.open(place / "dataset"), Bundle(Path("out/model"), info), tmp_path / "out")
    assert "The model in out/model is for 7 classes ('a', 'b', 'c', 'd', 'e', ...) in grey, but the" in str(error.value)
    assert "`convoy run` trains one for it." in str(error.value)


def test_answers_that_are_no_numbers_are_refused(place: Path, tmp_path: Path):
    bundle = write_bundle(tmp_path / "model", Brightness(scale=float("nan")))
    with pytest.raises(UserError) as error:
        stage.run(PARAMS, Dataset.open(place / "dataset"), bundle, tmp_path / "out")
    assert str(error.value) == (
        "The model answers 60 of 60 test images with values that are not finite: its training diverged. "
        "Lower `optimizer.lr` in params.yaml."
    )
    assert not (tmp_path / "out").exists()


def answers(probabilities: list[list[float]], labels: list[int]) -> Answers:
    table = np.array(probabilities)
    return Answers([f"c{k}" for k in range(table.shape[1])], np.array(labels), table)


# Five images of three classes; the fourth and fifth are wrong, the fifth with no probability for the truth.
FIVE = answers(
    [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.9, 0.0], [0.2, 0.6, 0.2], [1.0, 0.0, 0.0]],
    [0, 0, 1, 0, 1],
)


def test_confusion_and_classes_by_hand():
    matrix = tables.confusion(FIVE)
    assert matrix.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert tables.per_class(matrix, FIVE.classes) == [
        ("c0", 3, 2 / 3, 2 / 3, 4 / 6),
        ("c1", 2, 1 / 2, 1 / 2, 2 / 4),
        ("c2", 0, 0, 0, 0),
    ]


def test_worst_errors_come_first_and_losses_are_finite():
    assert FIVE.worst(9) == [4, 3] and FIVE.worst(1) == [4] and FIVE.worst(0) == []
    assert np.isfinite(FIVE.losses).all() and FIVE.losses[0] == pytest.approx(-np.log(0.7))


def test_calibration_by_hand():
    found = tables.calibration(FIVE)
    assert [b.images for b in found] == [1, 1, 1, 1, 1]
    assert found[0] == (7 / 15, 8 / 15, 1, 0.5, 1.0)
    assert found[-1] == (14 / 15, 1.0, 1, 1.0, 0.0)


def test_roc_is_the_mean_of_scikit_learns_curves():
    random = np.random.default_rng(0)
    labels = random.integers(3, size=400)
    table = random.dirichlet(np.ones(4), size=400).round(2)  # the fourth class has no images
    table[np.arange(400), labels] += random.random(400)
    found = tables.roc(answers((table / table.sum(axis=1, keepdims=True)).tolist(), labels.tolist()))
    x, y = np.array(found).T
    curves = [reference.roc_curve(labels == k, (table / table.sum(1, keepdims=True))[:, k])[:2] for k in range(3)]
    assert y[1:] == pytest.approx(np.mean([np.interp(x, *curve) for curve in curves], axis=0)[1:], abs=1e-9)
    assert y[0] == 0 and (np.diff(y) >= 0).all()


def test_roc_of_a_single_class_is_none():
    assert tables.roc(answers([[0.5, 0.5]], [0])) == []


def test_round_numbers_on_an_axis():
    values, texts = zip(*charts.steps(0, 1), strict=True)
    assert values == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1)) and texts == ("0.0", "0.2", "0.4", "0.6", "0.8", "1.0")
    assert [text for _, text in charts.steps(1, 30)] == ["10", "20", "30"]
    assert [text for _, text in charts.steps(0.9971, 0.9988)] == ["0.9975", "0.9980", "0.9985"]


def test_a_chart_of_one_epoch_and_of_nothing():
    chart = charts.curves("Loss", "Loss", {"Training": [(1, 0.5)], "Validation": [(1, float("nan"))]})
    assert chart is not None and [line.name for line in chart.lines] == ["Training"]
    assert charts.curves("Loss", "Loss", {"Training": [(1, float("inf"))]}) is None


def test_many_classes_show_pairs_and_the_hardest():
    classes = 70
    labels = np.arange(700) % classes
    told = Answers([f"c{k}" for k in range(classes)], labels, np.eye(classes)[(labels + (labels == 5)) % classes])
    text = " ".join(Elements(rendered(told)).text.split())
    assert "c5 c6 10 100.0%" in text and "These are the 60 hardest of 70" in text
    assert "by true class (row)" not in text


def test_a_model_without_errors_is_not_called_infallible():
    told = answers(np.eye(3)[np.arange(30) % 3].tolist(), (np.arange(30) % 3).tolist())
    text = " ".join(Elements(rendered(told)).text.split())
    assert "Not one error; on other images like these, expect fewer than 9.5% (with 95% confidence)." in text
    assert "Nothing: every test image is answered rightly." in text and "Worst errors" not in text


def rendered(told: Answers) -> str:
    """A report with little else in it than these answers."""
    counts = {split: dict.fromkeys(told.classes, 1) for split in SPLITS}
    info = DatasetInfo(
        task="classification", format="folder", classes=list(told.classes), channels=1, counts=counts, images=3,
        bytes=1, rejected=0, digest="ab" * 32,
    )  # fmt: skip
    model = {"model": {"name": "timm", "architecture": "resnet18"}, "parameters": 1, "dataset": "cd" * 32}
    figure = report.Figure("accuracy", "Accuracy", True, stage.Interval(0.9, 0.8, 0.95), 0.1)
    undefined = report.Figure("roc_auc", "ROC AUC", True, stage.Interval(np.nan, np.nan, np.nan), np.nan)
    page = report.page(report.Material(figure, [figure, undefined], told, [], {}, info, [], model))
    assert "timm resnet18" in page and "undefined" in page
    assert "The model learnt from another version of this dataset" in page
    return page


@pytest.mark.parametrize(
    ("value", "percent", "decimal"),
    [
        (0.9731, "97.3%", "0.973"),
        (1.0, "100.0%", "1.000"),
        (0.99979, ">99.9%", ">0.999"),
        (float("nan"), "undefined", "undefined"),
    ],
)
def test_what_is_not_perfect_never_reads_so(value: float, percent: str, decimal: str):
    assert (wording.percent(value), wording.decimal(value)) == (percent, decimal)


def test_reasons_are_counted_and_the_rare_ones_summed_up(tmp_path: Path):
    reasons = ["often"] * 3 + ["b", "a"] + [f"rare {k}" for k in range(30)]
    pq.write_table(pa.table({"source": reasons, "reason": reasons}), tmp_path / "rejected.parquet")
    found = stage.reasons(tmp_path / "rejected.parquet")
    assert found[:3] == [("often", 3), ("a", 1), ("b", 1)]
    assert found[-1] == ("other reasons", 13) and sum(count for _, count in found) == 35
