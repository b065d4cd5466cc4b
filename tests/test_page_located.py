"""The pages about objects and masks: drawn on pictures of real datasets, beside what real models said of them."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import located_sets
import numpy as np
import page_outputs
import page_project
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from located_sets import BOX, CLASSES, EVIL, PROBLEMS, SIDE
from PIL import Image

from dashboard import answered, datasets, mistaken, opened, pictures, samples, versions
from dashboard.opened import Away
from dashboard.pictures import Missing
from flows.records import outputs
from pipeline import frames, masks
from pipeline.contracts import Frame, TaskConfig
from pipeline.evaluate import tables
from pipeline.registry import runs
from pipeline.strokes.colours import PALETTE
from pipeline.tasks.object_detection import Config as Detection
from pipeline.tasks.semantic_segmentation import Config as Segmentation

OUT = Path("out/dataset")
SCALE = 10
"""From pictures of 32 pixels to drawings of 320."""


@dataclass
class Made:
    """A project, and of objects and masks the digest of the data and the run that learnt from them."""

    root: Path
    objects: tuple[str, str]
    masks: tuple[str, str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Objects in `out/dataset`, masks in DVC's cache alone."""
    root = tmp_path_factory.mktemp("located") / "project"
    project = page_project.make(root, runs=2)
    with contextlib.chdir(root):
        shutil.rmtree(OUT)
        first, second = project.finished
        objects = _learnt(first, OUT, located_sets.objects, Detection(), located_sets.SAID_BOXES)
        of_masks = _learnt(second, Path("made"), located_sets.masks, Segmentation(), located_sets.SAID_MAPS)
        shutil.rmtree("made")
    return Made(root, (objects, first), (of_masks, second))


def _learnt(run: str, home: Path, kind: Any, task: TaskConfig, said: np.ndarray) -> str:
    """Let a run have learnt from a dataset, and its model say the same of every picture; the digest of the dataset."""
    dataset, predictions = kind(home), home.with_suffix(".parquet")
    test = dataset.split("test")
    told = task.told(np.stack([said] * len(test)), frames.views(Frame(name="pad"), test.sizes, SIDE))
    tables.write_predictions(predictions, test, task.answers(test, told))
    files = {path.relative_to(home).as_posix(): path for path in home.rglob("*") if path.is_file()}
    folder = page_outputs._cached_folder(Path(), {name: path.read_bytes() for name, path in files.items()})
    stages = {
        "ingest": {"cmd": "x", "outs": [{"path": OUT.as_posix(), "md5": folder}]},
        "evaluate": {
            "cmd": "x",
            "outs": [{"path": answered.PREDICTIONS, "md5": page_outputs._cached(Path(), predictions.read_bytes())}],
        },
    }
    path, info = Path(f".convoy/runs/{run}/record.json"), dataset.info
    record = json.loads(path.read_text())
    record["lock_text"] = yaml.safe_dump({"schema": "2.0", "stages": stages})
    record["params"]["task"] = {"name": info.task, "score": task.score}
    record["data"] |= {"digest": info.digest, "images": info.images, "classes": info.classes, "splits": info.splits}
    record["scores"] = {"images": len(test), "units": len(test)}
    path.write_text(json.dumps(record))
    return info.digest


@pytest.fixture(scope="module")
def page(made: Made) -> Iterator[httpx.Client]:
    with page_project.serve(made.root) as url, httpx.Client(base_url=url, timeout=120) as client:
        yield client


@pytest.fixture
def here(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A copy to spoil, as the current folder of this process."""
    shutil.copytree(made.root, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    for kept in (versions._records, datasets._opened, datasets._away, pictures._kept):
        kept.clear()
    monkeypatch.setattr(pictures, "_size", 0)
    monkeypatch.setattr(answered, "_drawn", answered._Last())
    mistaken._mistakes.cache_clear()
    return made


def cells(text: str) -> str:
    """What a page says, without its tags."""
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", text).split()))


def shown(page: httpx.Client, address: str) -> np.ndarray:
    answer = page.get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg"), answer.text
    assert answer.headers["cache-control"] == "private, max-age=86400"
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Whether they are of a colour, as far as JPEG keeps it."""
    return bool(np.abs(pixels.reshape(-1, 3).mean(axis=0) - colour).max() < 30)


def by_source(root: Path) -> dict[str, dict[str, Any]]:
    return {row["source"]: row for row in pq.read_table(root / OUT / "samples.parquet").to_pylist()}


# The data


def test_objects_are_counted_as_such(page: httpx.Client, made: Made) -> None:
    text = page.get(f"/data/{made.objects[0]}").text
    said = cells(text)
    assert "Objects of each class" in said
    assert "cell 3 3 6 12" in said
    assert f"{EVIL} 1 1 2 4" in said
    assert "All objects 4 4 8 16" in said
    assert "Images 16" in said
    assert "train 4 25.0 %" in said
    assert "3 problems , each named" in said
    assert "<script>document" not in text
    overview = cells(page.get("/data").text)
    assert "train 4 · val 4 · test 8" in overview


@pytest.mark.parametrize(("label", "places"), [("", (0, 1, 2, 3)), ("0", (0, 3)), ("1", (1,)), ("7", ())])
def test_pictures_that_hold_an_object_of_a_class(
    page: httpx.Client, made: Made, label: str, places: tuple[int, ...]
) -> None:
    asked = {"show": "pictures", "split": "train", "label": label}
    text = page.get(f"/data/{made.objects[0]}", params=asked).text
    found = re.findall(r'src="/pictures/[0-9a-f]{64}/([0-9a-f]{64})/known"', text)
    wanted = {row["id"] for source, row in by_source(made.root).items() if source in {f"train/{p}.png" for p in places}}
    assert set(found) == wanted
    assert len(found) == len(places)
    if label == "0":
        assert "2 cell" in text
        assert "1 cell" in text


def test_boxes_are_drawn_where_they_are(page: httpx.Client, made: Made) -> None:
    image = by_source(made.root)["test/3.png"]["id"]
    drawn = shown(page, f"/pictures/{made.objects[0]}/{image}/known")
    assert drawn.shape == (320, 320, 3)
    left, top, right, bottom = (int(SCALE * side) for side in BOX)
    assert near(drawn[top + 40 : bottom - 40, left : left + 2], PALETTE[0])
    assert near(drawn[bottom - 2 : bottom, left + 40 : right - 40], PALETTE[0])
    assert near(drawn[top + 50 : top + 60, left + 20 : left + 60], (40, 40, 40))
    plain = page.get(f"/pictures/{made.objects[0]}/{image}")
    assert plain.headers["content-type"] == "image/png"
    assert np.asarray(Image.open(io.BytesIO(plain.content))).shape == (256, 256)


def test_masks_from_the_cache_are_painted_and_there_is_no_filter_by_class(page: httpx.Client, made: Made) -> None:
    digest = made.masks[0]
    text = page.get(f"/data/{digest}?show=pictures").text
    assert 'name="label"' not in text
    assert "Colours of the classes" in text
    assert 'fill="#e69f00"' in text
    found = re.findall(r'src="(/pictures/[0-9a-f]{64}/[0-9a-f]{64}/known)"', text)
    assert len(found) == 12
    grounds = {tuple((shown(page, one)[100:120, 40:60].mean(axis=(0, 1)) > (60, 60, 60)).tolist()) for one in found}
    assert grounds == {(True, True, False)}  # orange on dark grey, wherever it is left
    overview = page.get(f"/data/{digest}")
    assert "Pixels of each class" in overview.text
    assert "?show=pictures&amp;label" not in overview.text


def test_problems_have_their_place_and_can_be_asked_for_by_kind(page: httpx.Client, made: Made) -> None:
    text = page.get(f"/data/{made.objects[0]}?show=problems").text
    assert "<script>document" not in text
    for source, place, kind, found, done in PROBLEMS:
        assert f"{source} {place or 'the whole'} {found} {kind.replace('_', ' ')} {done}" in cells(text).lower()
    only = cells(page.get(f"/data/{made.objects[0]}?show=problems&kind=bad_box").text)
    assert "has no area" in only
    assert "reaches beyond" not in only
    assert "No problem fits" in page.get(f"/data/{made.objects[0]}?show=problems&kind=<script>").text


def test_a_picture_without_what_is_asked_for(page: httpx.Client, made: Made) -> None:
    for address in (
        f"/pictures/{made.objects[0]}/{'f' * 64}/known",
        f"/pictures/{made.objects[0]}/abc/known",
        f"/runs/{made.objects[1]}/answers/{'f' * 64}",
        f"/runs/{made.objects[1]}/answers/..%2f..",
    ):
        answer = page.get(address)
        assert answer.status_code == 404
    assert page.get(f"/runs/{'f' * 32}/answers/{'f' * 64}").status_code == 404


# What a model says


def test_mistakes_show_truth_beside_answer_the_worst_first(page: httpx.Client, made: Made) -> None:
    digest, run = made.objects
    text = page.get(f"/runs/{run}/mistakes").text
    said = cells(text)
    assert "6 test images are not answered perfectly" in said
    assert "<script>document" not in text
    order = re.findall(rf'src="/pictures/{digest}/([0-9a-f]{{64}})/known"', text)
    names = {row["id"]: int(source[5]) % 4 for source, row in by_source(made.root).items() if source[:4] == "test"}
    assert [names[image] for image in order] == [1, 1, 3, 3, 2, 2]  # 1.75, 1 and 0.75 lost
    assert re.findall(rf'src="/runs/{run}/answers/([0-9a-f]{{64}})"', text) == order
    assert said.count("Quality 0.000 75 % sure") == 4
    assert "Truth 2 cell Answer 1 cell Quality 0.667" in said


def test_an_answer_is_drawn_from_the_predictions(page: httpx.Client, made: Made) -> None:
    image = by_source(made.root)["test/1.png"]["id"]
    left, top, _, bottom = (int(SCALE * side) for side in BOX)
    addresses = {f"/runs/{made.objects[1]}/answers/{image}": 0, f"/pictures/{made.objects[0]}/{image}/known": 1}
    for address, place in addresses.items():
        drawn = shown(page, address)
        assert near(drawn[top + 40 : bottom - 40, left : left + 2], PALETTE[place])


def test_a_mask_that_was_said_is_painted_from_the_predictions(page: httpx.Client, made: Made) -> None:
    digest, run = made.masks
    text = page.get(f"/runs/{run}/mistakes").text
    assert "1 test image is not answered perfectly" in cells(text)
    (image,) = re.findall(rf'src="/runs/{run}/answers/([0-9a-f]{{64}})"', text)
    true, said = (shown(page, one) for one in (f"/pictures/{digest}/{image}/known", f"/runs/{run}/answers/{image}"))
    assert near(said[:, 159], PALETTE[0])
    assert near(said[:, 160], PALETTE[1])
    assert np.abs(true[:, :140] - said[:, :140]).mean() < 3
    assert np.abs(true[:, 180:] - said[:, 180:]).mean() > 20


# In this process


def test_old_datasets_that_counted_images_alone_are_shown(here: Made) -> None:
    info = json.loads((OUT / "dataset.json").read_text())
    for name in ("splits", "unit", "problems"):
        del info[name]
    (OUT / "dataset.json").write_text(json.dumps(info))
    (OUT / "problems.parquet").unlink()
    old = datasets.opened(here.objects[0])
    assert (old.info.unit, old.info.splits, old.info.problems) == ("images", {"train": 4, "val": 4, "test": 8}, {})
    assert samples.problems(old, "", 1, 60) == ([], 0, 1, 1)
    mine = versions.here()
    assert mine is not None
    assert mine.splits == {"train": 4, "val": 4, "test": 8}
    (OUT / "dataset.json").write_text(json.dumps({**info, "task": "telepathy"}))
    datasets._opened.clear()
    other = datasets.opened(here.objects[0])
    assert not other.located
    assert [image.words for image in samples.images(other, "test", None, 1, 9).rows] == [""] * 8
    with pytest.raises(Missing, match="of another kind"):
        pictures.annotated(here.objects[0], other.table("samples.parquet", ["id"]).column("id")[0].as_py())


def test_one_row_is_read_of_one_part_of_the_table(here: Made) -> None:
    table = pq.read_table(OUT / "samples.parquet").sort_by([("source", "descending")])  # by no id
    pq.write_table(table, OUT / "samples.parquet", row_group_size=3)
    version = datasets.opened(here.objects[0])
    for row in table.to_pylist():
        found = version.row(row["id"])
        assert found is not None
        things = [{key: value for key, value in thing.items() if key != "outline"} for thing in row["objects"]]
        assert found == {**row, "objects": things}
    assert version.row("f" * 64) is None


def test_damage_is_said_and_nothing_large_is_unpacked(here: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, run = here.masks
    record = runs.read(run)
    assert record is not None
    said = pq.read_table(io.BytesIO(outputs.read(record, answered.PREDICTIONS)))
    huge = masks.MAGIC + np.array([30_000, 30_000, 1], "<u4").tobytes() + b"\0\xff\xff"
    spoilt = said.set_column(said.column_names.index("mask"), "mask", pa.array([huge] * len(said), pa.large_binary()))
    out = io.BytesIO()
    pq.write_table(spoilt, out)
    monkeypatch.setattr(outputs, "read", lambda *_, **__: out.getvalue())
    monkeypatch.setattr(masks, "decode", lambda _: pytest.fail("unpacked"))
    draw = lambda version, row: answered.marks(record, version, row)  # noqa: E731
    with pytest.raises(Missing, match="a mask of another size"):
        pictures.answered(digest, said.column("id")[0].as_py(), "x", draw)
    version = datasets.opened(digest)
    row = version.row(said.column("id")[0].as_py())
    assert row is not None
    with pytest.raises(Away, match="its bytes are not those of its id"):
        version.mask({**row, "mask": "0" * 64})
    with pytest.raises(Away, match="cannot be read"):
        version.mask({**row, "mask_row": 99})
    version.files[f"{opened.MASKS}00000.arrow"].unlink()


def test_what_is_to_be_drawn_is_kept_of_one_run_and_only_if_it_is_small(
    here: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (runs.read(run) for run in (here.objects[1], here.masks[1]))
    assert first is not None
    assert second is not None
    assert answered._drawn.of(first) is answered._drawn.of(first)
    answered._drawn.of(second)
    assert answered._drawn._key[0] == second.id
    monkeypatch.setattr(answered, "MOST_BYTES", 10)
    assert answered._drawn.of(first) is not answered._drawn.of(first)
    assert answered._drawn._table is None


def test_predictions_of_class_ids_are_read_too(here: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    record = runs.read(here.objects[1])
    assert record is not None
    old = {"id": ["a", "b", "c"], "source": ["x"] * 3, "label": [0, 1, 1], "predicted": [1, 1, 7]}
    out = io.BytesIO()
    pq.write_table(pa.table({**old, "confidence": [0.5, 0.9, 0.7], "loss": [1.0, 0.1, 2.0]}), out)
    monkeypatch.setattr(outputs, "read", lambda *_, **__: out.getvalue())
    found = mistaken.found(record, "", "", 1, 60)
    assert [(one.id, one.actual, one.answer, one.quality) for one in found.rows] == [
        ("c", CLASSES[1], "7", 0.0),
        ("a", CLASSES[0], CLASSES[1], 0.0),
    ]


def test_drawing_imports_nothing_heavy(here: Made) -> None:
    image = next(iter(by_source(Path()).values()))["id"]
    code = f"""
import sys
from dashboard import datasets, pictures, samples
assert pictures.annotated({here.objects[0]!r}, {image!r}).kind == "image/jpeg"
assert samples.images(datasets.opened({here.objects[0]!r}), "train", 0, 1, 9).total == 2
print(sorted({{'prefect', 'mlflow', 'torch', 'scipy', 'dvc', 'matplotlib', 'cv2'}} & set(sys.modules)))
"""
    path = {"PYTHONPATH": str(page_project.ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
