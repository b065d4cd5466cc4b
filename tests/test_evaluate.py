"""The evaluate stage on real datasets and real exported networks, whose answers are known in advance."""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import io
import json
import re
import shutil
import tracemalloc
from collections import Counter
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
from pipeline.answering import Confusion, Curve, Table
from pipeline.answers.labels import LabelAnswers
from pipeline.bundle import Bundle, BundleInfo
from pipeline.contracts import SPLITS, Frame
from pipeline.dataset import REJECTED_COLUMNS, SAMPLE_COLUMNS, SHARD_COLUMNS, Dataset, DatasetInfo
from pipeline.errors import UserError
from pipeline.evaluate import charts, pictures, report, sections, sheet, stage, tables, wording
from pipeline.files import write_json
from pipeline.images import encode_png
from pipeline.params import EvaluateOptions, EvaluateParams
from pipeline.tasks.classification import Config as Classification
from pipeline.train_options import ComputeOptions
from pipeline.wording import stepped

CLASSES = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "{{ 7 * 7 }} \u202egnp.exe\n"]
LEVELS = [40, 128, 220]
PARAMS = EvaluateParams(
    task=Classification(),
    compute=ComputeOptions(device="cpu", threads=1),
    evaluate=EvaluateOptions(resamples=200, worst=4),
)
IMAGES = 60
WRONG_LABELS = range(0, IMAGES, 10)
USUAL = stage.Interval(0.9, 0.8, 0.95)


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
            rows.append((identity, split, None, None, 14, 10, f"{split}/{place}.png", 0, len(rows), label))
    columns = dict(zip([*SAMPLE_COLUMNS, "label"], map(list, zip(*rows, strict=True)), strict=True))
    samples = pa.table(columns, pa.schema([*SAMPLE_COLUMNS.items(), ("label", pa.int32())])).sort_by("id")
    (root / "shards").mkdir(parents=True)
    pq.write_table(samples, root / "samples.parquet")
    shard = pa.table({"id": columns["id"], "data": blobs}, pa.schema(list(SHARD_COLUMNS.items())))
    with pa.OSFile(str(root / "shards/00000.arrow"), "wb") as file, pa.ipc.new_file(file, shard.schema) as writer:
        writer.write_table(shard)
    rejected = {"source": ["a", "b", "c"], "reason": ["damaged: <b>cut</b>", "the file is empty", "the file is empty"]}
    pq.write_table(pa.table(rejected, pa.schema(list(REJECTED_COLUMNS.items()))), root / "rejected.parquet")
    found = [(row[1], row[9]) for row in rows]
    counts = {split: {name: found.count((split, k)) for k, name in enumerate(CLASSES)} for split in SPLITS}
    info = DatasetInfo(
        task="classification", format="folder", classes=CLASSES, channels=1, counts=counts, images=len(rows),
        splits={"train": 12, "val": 6, "test": tests}, bytes=1, rejected=3, digest="ab" * 32,
    )  # fmt: skip
    write_json(root / "dataset.json", info.model_dump())
    return Dataset.open(root)


def write_bundle(root: Path, network: nn.Module, classes: list[str] = CLASSES) -> Bundle:
    info = BundleInfo(
        task={"name": "classification"}, classes=classes, channels=1, frame=Frame(), packed=10, size=8,
        mean=[0.0], deviation=[1.0], model={"name": "brightness", "width": 3}, parameters=3, dataset="ab" * 32,
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
    assert (metrics.pop("images"), metrics.pop("units")) == (IMAGES, IMAGES) == (len(rows["id"]), len({*rows["unit"]}))
    assert metrics["accuracy"]["value"] == pytest.approx(54 / 60, abs=1e-6)
    macro = {"average": "macro", "zero_division": 0}
    assert metrics["f1"]["value"] == pytest.approx(
        reference.f1_score(rows["actual"], rows["answer"], **macro), abs=1e-6
    )
    labels = [CLASSES.index(name) for name in rows["actual"]]
    assert metrics["roc_auc"]["value"] == pytest.approx(
        reference.roc_auc_score(labels, rows["probabilities"], multi_class="ovr"), abs=1e-6
    )
    for name, found in metrics.items():
        assert set(found) == {"value", "low", "high"}, name
        assert found["low"] <= found["high"]
    assert metrics["accuracy"]["low"] < 0.9 < metrics["accuracy"]["high"]


def test_images_that_belong_together_are_drawn_together(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "dataset", "dataset")
    samples = pq.read_table("dataset/samples.parquet")
    names = [Path(source).stem[-1] for source in samples.column("source").to_pylist()]  # all that are wrong are of one
    at = samples.column_names.index("together")
    pq.write_table(samples.set_column(at, "together", pa.array(names)), "dataset/samples.parquet")
    stage.run(
        PARAMS, Dataset.open(Path("dataset")), Bundle.open(place / "model"), tmp_path / "out", place / "epochs.csv"
    )
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert (metrics["images"], metrics["units"]) == (60, 10)
    # one of ten units is wrong, and is drawn never, or three times and more, in more than 2.5 of 100 resamples
    accuracy = metrics["accuracy"]
    assert (accuracy["value"], accuracy["high"]) == (pytest.approx(0.9), 1)
    assert accuracy["low"] <= 0.7 + 1e-6
    rows = pq.read_table("out/predictions.parquet").to_pylist()
    assert len({(row["unit"], Path(row["source"]).stem[-1]) for row in rows}) == 10
    text = " ".join(Elements(Path("out/report.html").read_text()).text.split())
    assert "resampled test images, which make 10 units: images that belong together are drawn together." in text


def test_what_an_answer_holds_is_told(place: Path):
    assert json.loads((place / "evaluation/answer.json").read_text()) == [
        {"name": "label", "required": True, "type": "string"},
        {"name": "probability", "required": True, "type": "double"},
        {"name": "probabilities", "required": True, "type": "map", "values": {"type": "double"}},
    ]


def test_predictions_are_the_networks(place: Path):
    test = Dataset.open(place / "dataset").split("test")
    rows = pq.read_table(place / "evaluation/predictions.parquet").to_pylist()
    known = ["id", "source", "unit", "actual", "answer", "quality", "confidence", "loss", "marks", "probabilities"]
    assert list(rows[0]) == known
    assert [row["id"] for row in rows] == test.ids
    for row, position in zip(rows, range(len(test)), strict=True):
        level = np.asarray(Image.open(io.BytesIO(test.read(position))))[0, 0]
        expected = np.exp(-40 * (level / 255 - np.array(LEVELS) / 255) ** 2)
        expected /= expected.sum()
        label = test.labels[position]
        assert row["probabilities"] == pytest.approx(expected, abs=1e-5)
        assert row["answer"] == CLASSES[expected.argmax()]
        assert row["actual"] == CLASSES[label]
        assert row["confidence"] == pytest.approx(expected.max(), abs=1e-5)
        assert row["quality"] == (row["answer"] == row["actual"])
        assert row["loss"] == pytest.approx(-np.log(expected[label]), abs=1e-3)


def test_tables_for_dvc(place: Path):
    rows = pq.read_table(place / "evaluation/predictions.parquet").to_pylist()
    names = [
        "\u2039script>alert(1)\u2039/script>",
        '">\u2039img src=x onerror=alert(2)>',
        "{{ 7 * 7 }} \ufffdgnp.exe\ufffd",
    ]
    plain = dict(zip(CLASSES, names, strict=True))
    named = Counter((plain[row["actual"]], plain[row["answer"]]) for row in rows)
    found = [(row["actual"], row["predicted"]) for row in read_csv(place / "evaluation/confusion.csv")]
    assert Counter(found) == named  # no "<": the page of `dvc plots` would run it
    classes = read_csv(place / "evaluation/classes.csv")
    assert [row["class"] for row in classes] == CLASSES
    assert sum(int(row["images"]) for row in classes) == IMAGES
    points = read_csv(place / "evaluation/curves.csv")
    assert list(points[0]) == ["curve", "series", "x", "y"]
    assert list(dict.fromkeys(point["curve"] for point in points)) == [
        "Confidence and truth",
        "One class against the rest",
    ]
    assert (points[-1]["x"], points[-1]["y"]) == ("1.0", "1.0")


def test_same_input_same_bytes_wherever_it_lies(place: Path, tmp_path: Path):
    dataset, bundle = Dataset.open(place / "dataset"), Bundle.open(place / "model")
    stage.run(PARAMS, dataset, bundle, tmp_path / "elsewhere/evaluation", place / "epochs.csv")
    first = {path.name: path.read_bytes() for path in (place / "evaluation").iterdir()}
    second = {path.name: path.read_bytes() for path in (tmp_path / "elsewhere/evaluation").iterdir()}
    assert first == second
    assert set(first) == {
        "metrics.json", "predictions.parquet", "answer.json", "classes.csv", "confusion.csv", "curves.csv",
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
        assert re.match("data:image/(png|jpeg);base64,", attributes.get("src") or "data:image/png;base64,")
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
    assert re.search(r"expect 8\d\.\d to 9\d\.\d% \(95 % interval\)", text)
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
    worst = max((row for row in rows if not row["quality"]), key=lambda row: row["loss"])
    test = Dataset.open(place / "dataset").split("test")
    level = np.asarray(Image.open(io.BytesIO(test.read(test.ids.index(worst["id"])))))[0, 0]
    assert sheet.getpixel((16 + 64, 40 + 16 + 64)) == (level, level, level)


def mistake(name: str) -> pictures.Mistake:
    return pictures.Mistake(np.full((5, 5, 3), 90, np.uint8), None, "a.png", name, name, 0, 0.5)


def test_sheet_takes_any_name_and_none_at_all():
    names = ["", "x" * 5000, "猫 \u202e\0\n", "🐈", *CLASSES, *"abcdef"]
    drawn = sheet.sheet([mistake(name) for name in names], 13, 20)
    assert drawn.shape == (40 + 3 * (128 + 40 + 16) + 16, 880, 3)
    assert (sheet.sheet([], 0, 20) < 128).any()  # says so in words
    assert (sheet.sheet([], 3, 20) != sheet.sheet([], 0, 20)).any()


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
        f"The model in {tmp_path / 'model'} answers 60 of 60 pictures with values that are not finite: its training "
        "diverged. Lower `optimizer.lr` in params.yaml."
    )
    assert not (tmp_path / "out").exists()


def test_round_numbers_on_an_axis():
    values, texts = zip(*stepped(0, 1), strict=True)
    assert values == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1)) and texts == ("0.0", "0.2", "0.4", "0.6", "0.8", "1.0")
    assert [text for _, text in stepped(1, 30)] == ["10", "20", "30"]
    assert [text for _, text in stepped(0.9971, 0.9988)] == ["0.9975", "0.9980", "0.9985"]


def test_a_chart_of_one_epoch_and_of_nothing():
    chart = charts.curves("Loss", "Loss", {"Training": [(1, 0.5)], "Validation": [(1, float("nan"))]})
    assert chart is not None and [line.name for line in chart.lines] == ["Training"]
    assert charts.curves("Loss", "Loss", {"Training": [(1, float("inf"))]}) is None


def test_curves_become_lines_or_bars_and_what_is_not_finite_is_left_out():
    line = charts.of_curve(Curve("A", "x", "y", [("one", [(0, 0), (1, 1)]), ("two", [(0.5, np.nan)])], "Sums up."))
    assert line is not None
    assert [(one.name, one.style, one.path) for one in line.lines] == [("one", "line-0", "52,236 426,12")]
    bars = charts.of_curve(
        Curve("B", "x", "y", [("Share", [(0.1, 0.5), (0.2, 1.0)])], "", ((0, 0), (1, 1)), "Ideal", (4, 1))
    )
    assert bars is not None
    assert [one.name for one in bars.lines] == ["Ideal"]
    first, second = bars.bars
    assert (first.width, second.width) == (pytest.approx(37.4 - 2), pytest.approx((37.4 - 2) / 2))
    assert (first.x, first.y, first.height) == (pytest.approx(52 + 37.4 - 35.4 / 2), 124, 112)
    assert first.text == "4 images, share 50.0%"
    assert charts.of_curve(Curve("C", "x", "y", [("one", [])], "")) is None


def test_a_table_of_classes_shows_the_score_first_and_the_undefined_last():
    rows = [("a", 3, 0.5, 0.9), ("b", 2000, 1.0, float("nan")), ("c", 4, 0.25, 0.1)]
    heads, found = sections.class_rows(Table(("class", "objects", "boundary_f1", "ap50"), rows), 2)
    assert heads == ["AP50", "Objects", "Boundary F1"]
    assert found == [("c", 0.1, 10.0, (4, 0.25)), ("a", 0.9, 90.0, (3, 0.5))]
    assert [wording.cell(value) for value in (2000, 0.25, float("nan"), "a\0")] == [
        "2,000",
        "0.250",
        "\u2013",
        "a\ufffd",
    ]
    _, found = sections.class_rows(Table(("class", "iou"), [("x", float("nan"))]), 9)
    assert found[0][2] == 0


def test_a_matrix_of_many_is_in_percent():
    few = sections.matrix(Confusion(["a", "b"], np.array([[3, 1], [0, 0]]), "images"))
    assert [[square.text for square in row] for row in few] == [["3", "1"], ["", ""]]
    assert few[0][1].shade == 3  # the root of a quarter, of six
    many = sections.matrix(Confusion(["a", "b"], np.array([[9_999, 1], [20_000, 0]]), "pixels"))
    assert [[square.text for square in row] for row in many] == [["100", "<1"], ["100", ""]]


def test_rows_for_a_plot_are_few_and_in_proportion():
    counts = np.array([[5_000_000, 2_500_000], [2_499_999, 1]])
    assert tables.shrunk(counts, 10).tolist() == [[5, 3], [2, 0]]
    assert tables.shrunk(counts, 10**8) is counts
    large = np.full((3, 3), 2**59)
    assert tables.shrunk(large, 10_000).sum() == 10_000


def test_the_pairs_confused_most_often_are_found_without_another_matrix():
    counts = np.zeros((2000, 2000), np.int64)
    counts[5, 5], counts[5, 7], counts[3, 1900], counts[9, 2] = 6, 2, 2, 8
    tracemalloc.start()
    found = sections.confused(Confusion([f"c{place}" for place in range(2000)], counts, "images"))
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [("c9", "c2", 8, 1.0), ("c3", "c1900", 2, 1.0), ("c5", "c7", 2, 0.25)]
    assert highest < counts.nbytes / 2
    assert sections.confused(Confusion(["a", "b"], np.diag([3, 0]), "images")) == []


def test_many_classes_show_pairs_and_the_hardest():
    classes = 70
    labels = np.arange(700) % classes
    shares = np.eye(classes)[(labels + (labels == 5)) % classes]
    text = " ".join(Elements(rendered(LabelAnswers([f"c{k}" for k in range(classes)], labels, shares))).text.split())
    assert "c5 c6 10 100.0%" in text
    assert "These are the 60 hardest of 70" in text
    assert "by true class (row)" not in text


def test_a_model_without_errors_is_not_called_infallible():
    labels = np.arange(30) % 3
    told = LabelAnswers(["a", "b", "c"], labels, np.eye(3)[labels])
    text = " ".join(Elements(rendered(told, stage.Interval(1.0, 1.0, 1.0))).text.split())
    assert (
        "Perfect on all 30 test images; of other images like these, expect fewer than 9.5% to be answered less well "
        "(with 95 % confidence)."
    ) in text
    assert "Nothing: all 30 images are answered rightly." in text
    assert "Worst errors" not in text
    assert "expect fewer than <strong>25.9%</strong>" in " ".join(
        rendered(told, stage.Interval(1.0, 1.0, 1.0), units=10).split()  # 0.741**10 = 0.05
    )
    loose = " ".join(Elements(rendered(told, USUAL)).text.split())
    assert "expect 80.0 to 95.0% (95 % interval)" in loose  # right boxes, say, that lie not quite where they should
    wrong = LabelAnswers(["a", "b", "c"], labels, np.eye(3)[(labels + 1) % 3])
    nothing = " ".join(Elements(rendered(wrong, stage.Interval(0.0, 0.0, 0.0))).text.split())
    assert "Every resample of these images gives the same, so there is no interval." in nothing


def rendered(
    told: LabelAnswers, found: stage.Interval = USUAL, epochs: dict | None = None, units: int = 0, **model
) -> str:
    """A report with little else in it than these answers; by default each image is by itself."""
    counts = {split: dict.fromkeys(told.classes, 1) for split in SPLITS}
    info = DatasetInfo(
        task="classification", format="folder", classes=list(told.classes), channels=1, counts=counts, images=3,
        splits=dict.fromkeys(SPLITS, 1), bytes=1, rejected=0, digest="ab" * 32,
    )  # fmt: skip
    model = {"model": {"name": "timm", "architecture": "resnet18"}, "parameters": 1, "dataset": "cd" * 32} | model
    figure = report.Figure("accuracy", "Accuracy", True, found, 0.1)
    undefined = report.Figure("roc_auc", "ROC AUC", True, stage.Interval(np.nan, np.nan, np.nan), np.nan)
    page = report.page(
        report.Material(
            figure, [figure, undefined], told, units or len(told), [], False, False, epochs or {}, info, [], model
        )
    )
    assert "timm resnet18" in page
    assert "undefined" in page
    assert "The model learnt from another version of this dataset" in page
    return page


def test_a_headline_that_the_images_leave_undefined_is_said_to_be():
    told = LabelAnswers(["a", "b"], np.zeros(3, np.int64), np.eye(2)[[0, 0, 1]])
    text = " ".join(Elements(rendered(told, stage.Interval(np.nan, np.nan, np.nan))).text.split())
    assert "These images do not define it: there are too few of them, or of one kind alone." in text
    assert "Every resample of these images gives the same" not in text
    assert "Every resample of these images gives the same" in rendered(told, stage.Interval(0.5, 0.5, 0.5))


def test_members_of_an_ensemble_have_a_line_each_and_what_each_kept():
    told = LabelAnswers(["a", "b", "c"], labels := np.arange(30) % 3, np.eye(3)[labels])
    epochs = {
        "epoch": [0.0, 1, 2, 3, 4, 6, 7, 8],  # the second stopped early
        "member": [1.0, 1, 1, 2, 2, 3, 3, 3],
        "train_loss": [1.0] * 8,
        "val_loss": [0.5, 0.4, 0.3, 0.5, 0.4, 0.5, 0.4, 0.3],
        "val_accuracy": [0.5, 0.75, 0.25, 0.5, 0.625, 0.875, 0.5, np.nan],
    }
    figure = report.Figure("accuracy", "Accuracy", True, USUAL, 0.1)
    members = sections.courses(epochs, figure)
    losses, validation, scores = sections.learning(members, figure)
    assert (losses.title, validation.title, scores.title) == ("Training loss", "Validation loss", "Validation accuracy")
    for chart in (losses, validation, scores):
        assert [line.name for line in chart.lines] == ["Member 1", "Member 2", "Member 3"]
        assert [tick.text for tick in chart.x_ticks] == ["1", "2", "3"]
    corners = [[tuple(map(float, corner.split(","))) for corner in line.path.split()] for line in scores.lines]
    assert list(map(len, corners)) == [3, 2, 2]
    assert scores.marks == [corners[0][1], corners[1][1], corners[2][0]]
    assert sections.kept(members, figure) == [
        ("1", "2 of 3", "0.400", "0.750"), ("2", "2 of 2", "0.400", "0.625"), ("3", "1 of 3", "0.500", "0.875"),
    ]  # fmt: skip
    page = rendered(told, epochs=epochs, ensemble={"members": 3, "by": "folds", "join": "average"})
    text = " ".join(Elements(page).text.split())
    assert "Ensemble 3 members, by folds, answers averaged" in text
    assert "3 trainings, one after the other; each line is one of them." in text
    assert "1 2 of 3 0.400 0.750" in text
    assert page.count('class="mark"') == 3


def test_how_many_weights_were_learnt_is_told_where_not_all_were():
    told = LabelAnswers(["a", "b", "c"], labels := np.arange(30) % 3, np.eye(3)[labels])
    text = " ".join(Elements(rendered(told, parameters=463_594, learnt=1290)).text.split())
    assert "Parameters 463,594, 1,290 of them learnt" in text
    for learnt in (463_594, None):  # all of them; and of an older bundle, which does not say
        text = " ".join(Elements(rendered(told, parameters=463_594, learnt=learnt)).text.split())
        assert "Parameters 463,594 " in text and "of them learnt" not in text


def test_a_bundle_says_its_size_first(tmp_path: Path):
    info = write_bundle(tmp_path / "model", Brightness()).info
    assert info.sized == "3 parameters"  # as bundles from before say it
    assert info.model_copy(update={"parameters": 463_594, "learnt": 463_594}).sized == "463,594 parameters"
    few = info.model_copy(update={"parameters": 463_594, "learnt": 1290})
    assert few.sized == "463,594 parameters, 1,290 of them learnt"


def test_pictures_that_grew_are_told():
    told = LabelAnswers(["a", "b", "c"], labels := np.arange(30) % 3, np.eye(3)[labels])
    columns = ("epoch", "train_loss", "val_loss", "val_accuracy")
    epochs = {name: [0.0, 1.0, 2.0, 3.0] for name in columns} | {"side": [16.0, 16.0, 24.0, 32.0]}
    grown = (
        "Pictures had 16 px a side from epoch 1, 24 from epoch 3, 32 from epoch 4; validation shows them at full size."
    )
    assert grown in " ".join(Elements(rendered(told, epochs=epochs)).text.split())
    assert "Pictures had" not in rendered(told, epochs=epochs | {"side": [32.0] * 4})


@pytest.mark.parametrize(
    ("value", "percent", "decimal"),
    [
        (0.9731, "97.3%", "0.973"),
        (1.0, "100.0%", "1.000"),
        (0.99979, "99.98%", "0.9998"),
        (0.000432, "0.04%", "0.00043"),
        (0.0, "0.0%", "0.000"),
        (float("nan"), "undefined", "undefined"),
    ],
)
def test_what_is_not_perfect_never_reads_so(value: float, percent: str, decimal: str):
    assert (wording.percent(value), wording.decimal(value)) == (percent, decimal)


def test_the_line_of_the_stage_has_an_interval_or_says_why_not():
    def line(value: float, low: float, high: float) -> str:
        figure = report.Figure("f1", "F1", True, stage.Interval(value, low, high), 0.08)
        return stage.said(figure, stage.summary([figure], 1200, 1200))

    assert line(0.9, 0.85, 0.95) == (
        "F1 0.9000 on 1,200 test images (95 % interval 0.8500 to 0.9500); without looking 0.0800"
    )
    alike = "no interval: every resample of these images gives the same"
    assert line(0.5, 0.5, 0.5) == f"F1 0.5000 on 1,200 test images ({alike}); without looking 0.0800"
    assert line(float("nan"), 0.5, 0.5) == "F1 undefined on 1,200 test images"
    figure = report.Figure("accuracy", "Accuracy", True, stage.Interval(1.0, 1.0, 1.0), 0.08)
    worth = "perfect; of other images like these, expect fewer than 25.9 % to be answered wrongly"
    assert worth in stage.said(figure, stage.summary([figure], 1200, 10))


def test_reasons_are_counted_and_the_rare_ones_summed_up(tmp_path: Path):
    reasons = ["often"] * 3 + ["b", "a"] + [f"rare {k}" for k in range(30)]
    pq.write_table(pa.table({"source": reasons, "reason": reasons}), tmp_path / "rejected.parquet")
    found = stage.reasons(tmp_path / "rejected.parquet")
    assert found[:3] == [("often", 3), ("a", 1), ("b", 1)]
    assert found[-1] == ("other reasons", 13) and sum(count for _, count in found) == 35
