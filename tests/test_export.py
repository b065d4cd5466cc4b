"""A dataset that is written back and read again is the same dataset, where the format can hold it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.contracts import SPLITS
from pipeline.dataset import Dataset
from pipeline.door import parse
from pipeline.errors import UserError
from pipeline.export.coco import area, extent
from pipeline.export.masks import colour
from pipeline.export.run import Exported, export
from pipeline.export.voc import number
from pipeline.export.writer import suffix
from pipeline.export.yolo import centred, share
from pipeline.ingest import stage
from pipeline.params import IngestParams

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
COUNTS = {"train": 5, "val": 2, "test": 2}
KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def picture(seed: int, width: int = 37, height: int = 23, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def ingest(data: dict[str, Any], task: str) -> Dataset:
    text = f"data: {json.dumps(data)}\nannotations: {{}}\nsplit: {{val: 0.2, test: 0.25}}\ntask: {{name: {task}}}\n"
    out = Path("out") / data["name"] / task
    stage.run(parse(IngestParams, text), out)
    return Dataset.open(out)


def again(dest: Path, dataset: Dataset, form: str) -> tuple[Exported, Dataset]:
    exported = export(dest, form, dataset)
    return exported, ingest(exported.data, dataset.info.task)


def objects(root: Path, plain: bool = False, seed: int = 0) -> dict[str, Any]:
    """A COCO source with boxes at any place, outlines, crowds, and pictures without objects."""
    dice = np.random.default_rng(seed)
    for split, count in COUNTS.items():
        images: list[Any] = []
        annotations: list[Any] = []
        for k in range(count):
            name = f"{split}/{k}.png"
            (root / split).mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(picture(hash_of(split, k)))
            images.append({"id": k, "file_name": f"{k}.png", "width": 37, "height": 23})
            for _ in range(0 if k == 1 else 6):
                x, y = dice.uniform(0, 30), dice.uniform(0, 18)
                box = [x, y, dice.uniform(0.1, 37 - x - 0.01), dice.uniform(0.1, 23 - y - 0.01)]
                one: dict[str, Any] = {
                    "id": len(annotations),
                    "image_id": k,
                    "category_id": int(dice.integers(3)),
                    "bbox": box,
                }
                if not plain and dice.random() < 0.5:
                    one |= {
                        "segmentation": [[x, y, x + box[2], y, x + box[2] / 3, y + box[3]]],
                        "iscrowd": int(dice.integers(2)),
                    }
                annotations.append(one)
        categories = [{"id": k, "name": name} for k, name in enumerate(('red <&> "cell"', "zebra 10", "zebra 9"))]
        said = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"instances_{split}.json").write_text(json.dumps(said))
    return {"name": "coco", "path": str(root)}


def hash_of(split: str, k: int) -> int:
    return 100 * SPLITS.index(split) + k


def painted(root: Path) -> dict[str, Any]:
    """Masks of three classes and void; no picture of the split `val` holds the last class."""
    for split, count in COUNTS.items():
        for k in range(count):
            for folder in ("images", "masks"):
                (root / split / folder).mkdir(parents=True, exist_ok=True)
            (root / split / "images" / f"{k}.jpg").write_bytes(picture(hash_of(split, k), kind="JPEG"))
            mask = (
                np.random.default_rng(k)
                .choice([0, 1, 255] if split == "val" else [0, 1, 2, 255], (23, 37))
                .astype(np.uint8)
            )
            Image.fromarray(mask).save(root / split / "masks" / f"{k}.png")
    (root / "classes.txt").write_text("background\ncell wall\nnucleus 10\n")
    return {"name": "masks", "path": str(root)}


def labelled(root: Path, metadata: bool = False) -> dict[str, Any]:
    lines = ["file,group,camera,size"]
    for split, count in COUNTS.items():
        for name in ("ants", "honey bees", "ü#'"):
            for k in range(count):
                kind = KINDS[k % len(KINDS)]
                place = f"{split}/{name}/{k}.{kind.lower()}"
                (root / split / name).mkdir(parents=True, exist_ok=True)
                (root / place).write_bytes(picture(hash_of(split, k) + 1000 * len(name), kind=kind))
                lines.append(f'{place},{split} {k},"north, ""{k}""",{k / 3 if k else ""}')
    if metadata:
        (root / "facts.csv").write_text("\n".join(lines))
    return {"name": "folder", "path": str(root), **({"metadata": "facts.csv"} if metadata else {})}


def test_coco_is_read_again_exactly(tmp_path: Path):
    dataset = ingest(objects(tmp_path / "source"), "object_detection")
    assert any(one["crowd"] for row in dataset.samples["objects"].to_pylist() for one in row)
    exported, read = again(tmp_path / "coco", dataset, "coco")
    assert read.info.digest == dataset.info.digest
    assert exported.lost == [] and read.info.problems == {}
    assert sorted(path.name for path in (tmp_path / "coco").iterdir()) == ["annotations", "test", "train", "val"]


@pytest.mark.slow
def test_voc_is_read_again_exactly_but_for_outlines(tmp_path: Path):
    dataset = ingest(objects(tmp_path / "source"), "object_detection")
    exported, read = again(tmp_path / "voc", dataset, "voc")
    columns = ["id", "split", "width", "height"]
    assert read.samples.select(columns).equals(dataset.samples.select(columns))
    for split in SPLITS:
        one, other = read.split(split), dataset.split(split)
        assert all((one.objects(k) == other.objects(k)).all() for k in range(len(one)))
    drawn = sum(one["outline"] is not None for row in dataset.samples["objects"].to_pylist() for one in row)
    assert exported.lost == [f"{drawn} outlines are left out: this format has no place for them"]
    plain = ingest(objects(tmp_path / "plain", plain=True), "object_detection")
    exported, read = again(tmp_path / "voc plain", plain, "voc")
    assert read.info.digest == plain.info.digest and exported.lost == []


def test_yolo_is_read_again_to_a_billionth_of_a_pixel(tmp_path: Path):
    dataset = ingest(objects(tmp_path / "source"), "object_detection")
    exported, read = again(tmp_path / "yolo", dataset, "yolo")
    assert read.info.classes == dataset.info.classes
    for split in SPLITS:
        one, other = read.split(split), dataset.split(split)
        assert one.ids == other.ids
        for k in range(len(one)):
            known = other.objects(k)
            known = known[known[:, 5] == 0]
            assert np.allclose(one.objects(k), known, rtol=0, atol=1e-9)
    texts = [text.partition(" ")[2] for text in exported.lost]
    assert any(text.startswith("boxes are read again not to the last bit") for text in texts)
    assert any(text.startswith("crowds are left out") for text in texts)


def test_yolo_of_boxes_that_it_can_hold_is_read_again_exactly(tmp_path: Path):
    source = objects(tmp_path / "source", plain=True)
    for split, count in COUNTS.items():  # sides that are powers of two divide exactly
        said = json.loads((tmp_path / f"source/instances_{split}.json").read_text())
        for image in said["images"]:
            image |= {"width": 64, "height": 32}
        for one in said["annotations"]:
            one["bbox"] = [round(value) for value in one["bbox"][:2]] + [5 + one["id"], 3]
        for k in range(count):
            (tmp_path / f"source/{split}/{k}.png").write_bytes(picture(hash_of(split, k), 64, 32))
        (tmp_path / f"source/instances_{split}.json").write_text(json.dumps(said))
    dataset = ingest(source, "object_detection")
    exported, read = again(tmp_path / "yolo", dataset, "yolo")
    assert exported.lost == []
    assert read.info.digest == dataset.info.digest


def test_masks_are_read_again_exactly(tmp_path: Path):
    dataset = ingest(painted(tmp_path / "source"), "semantic_segmentation")
    exported, read = again(tmp_path / "masks", dataset, "masks")
    assert read.info.digest == dataset.info.digest
    assert read.info.classes == ["background", "cell wall", "nucleus 10"]
    assert exported.lost == [] and read.info.problems == {}
    mask = Image.open(next((tmp_path / "masks/train/masks").glob("*.png")))
    assert mask.mode == "P" and mask.getpalette()[3:6] == [128, 0, 0]


def test_masks_of_two_classes_and_black_and_white_are_read_again_exactly(tmp_path: Path):
    root = tmp_path / "source"
    painted(root)
    for path in root.glob("*/masks/*.png"):
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where(mask == 1, 255, 0).astype(np.uint8)).save(path)
    (root / "classes.txt").unlink()
    dataset = ingest({"name": "masks", "path": str(root)}, "semantic_segmentation")
    assert dataset.info.classes == ["background", "object"]
    assert again(tmp_path / "masks", dataset, "masks")[1].info.digest == dataset.info.digest


def test_class_folders_are_read_again_exactly(tmp_path: Path):
    dataset = ingest(labelled(tmp_path / "source"), "classification")
    exported, read = again(tmp_path / "folder", dataset, "folder")
    assert read.info.digest == dataset.info.digest
    assert exported == Exported(27, {"name": "folder", "path": str(tmp_path / "folder")}, [])
    names = {path.suffix for path in (tmp_path / "folder").rglob("*.*")}
    assert names == {".png", ".jpg", ".webp", ".bmp", ".gif"}


def test_groups_and_metadata_go_along(tmp_path: Path):
    dataset = ingest(labelled(tmp_path / "source", metadata=True), "classification")
    assert dataset.info.metadata == ["camera", "size"]
    exported, read = again(tmp_path / "folder", dataset, "folder")
    assert exported.data["metadata"] == "metadata.csv"
    assert read.info.digest == dataset.info.digest


def test_what_is_there_stays(tmp_path: Path):
    dataset = ingest(labelled(tmp_path / "source"), "classification")
    dest = tmp_path / "dest"
    dest.mkdir()
    export(dest, "folder", dataset)
    before = sorted(dest.rglob("*"))
    with pytest.raises(UserError, match="dest holds something already. Name a folder that is new or empty"):
        export(dest, "folder", dataset)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file holds something already"):
        export(tmp_path / "file", "folder", dataset)
    assert sorted(dest.rglob("*")) == before
    with pytest.raises(UserError, match="file/deeper cannot be written: File exists. Name a folder that can"):
        export(tmp_path / "file" / "deeper", "folder", dataset)
    with pytest.raises(UserError, match="holds control characters or bytes that are not UTF-8"):
        export(tmp_path / "caf\udce9", "folder", dataset)


def test_an_export_that_is_stopped_leaves_nothing(tmp_path: Path):
    dataset = ingest(labelled(tmp_path / "source"), "classification")

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / "dest", "folder", dataset, stop)
    assert not [path for path in tmp_path.iterdir() if "dest" in path.name]


def test_a_format_that_cannot_hold_the_annotations(tmp_path: Path):
    dataset = ingest(labelled(tmp_path / "source"), "classification")
    with pytest.raises(
        UserError,
        match="'coco' holds boxes with classes per image, or the object that each pixel is of, and the dataset has one "
        "class per image. It fits: folder",
    ):
        export(tmp_path / "dest", "coco", dataset)
    assert not (tmp_path / "dest").exists()


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "Thumbs.db", "x" * 300])
def test_names_of_classes_that_are_no_folders(tmp_path: Path, name: str):
    from pipeline.export.folder import Folder

    with pytest.raises(UserError, match="cannot be the name of a folder"):
        Folder(tmp_path, ["ok", name])


@pytest.mark.parametrize("name", ["void", "Ignore", "two  blanks", "'quoted'", "colon:"])
def test_names_of_classes_that_are_lost_in_a_list(tmp_path: Path, name: str):
    from pipeline.export.masks import Masks

    with pytest.raises(UserError, match="would not be read again from a list of classes"):
        Masks(tmp_path, ["ok", name])


def test_numbers_that_are_found_again():
    dice = np.random.default_rng(0)
    for start, end in np.sort(dice.uniform(0, 500, (2000, 2))).tolist():
        length, exact = extent(start, end)
        assert (start + length == end) is exact and abs(start + length - end) < 1e-13
        assert extent(start, start + length) == (length, True)  # what came as a width can be said as one
        assert float(number(start)) == start
        assert abs(share(start, 640)[0] * 640 - start) < 1e-12
        centre, size, exact = centred(start, end, 640)
        ends = ((centre - size / 2) * 640, (centre + size / 2) * 640)
        assert (ends == (start, end)) is exact
        assert max(abs(ends[0] - start), abs(ends[1] - end)) < 1e-12
    assert number(3.0) == "3"


def test_colours_by_hand():
    assert [colour(value) for value in (0, 1, 2, 3, 8, 255)] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (128, 128, 0),
        (64, 0, 0),
        (224, 224, 192),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_suffixes_say_what_a_file_is(kind: str):
    expected = {"JPEG": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
    assert suffix(picture(0, kind=kind)) == expected


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(
    ("name", "form", "task"),
    [("bccd-voc", "voc", "object_detection"), ("isbi2012-membrane", "masks", "semantic_segmentation")],
)
def test_real_sets_are_read_again_exactly(tmp_path: Path, name: str, form: str, task: str):
    dataset = ingest({"name": form, "path": str(DATA / name / f"{name}.tar.gz")}, task)
    exported, read = again(tmp_path / "dest", dataset, form)
    assert read.info.digest == dataset.info.digest
    assert exported.lost == []


def test_areas_are_those_of_the_outlines(tmp_path: Path):
    from pycocotools import mask

    polygon = [1.5, 1, 30, 2, 28, 20, 3, 18.5]
    runs = mask.merge(mask.frPyObjects([[10 * value for value in polygon]], 230, 370))
    assert area(polygon) == pytest.approx(mask.area(runs) / 100, rel=0.01)
    assert area(polygon[::-1]) == area(polygon) and area([0, 0, 4, 0, 0, 3]) == 6
    dataset = ingest(objects(tmp_path / "source"), "object_detection")
    export(tmp_path / "coco", "coco", dataset)
    said = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())["annotations"]
    triangles = [one for one in said if "segmentation" in one]
    assert triangles and all(one["area"] == pytest.approx(one["bbox"][2] * one["bbox"][3] / 2) for one in triangles)


def test_yolo_names_of_any_letters_are_read_again(tmp_path: Path):
    source = objects(tmp_path / "source", plain=True)
    names = ["\U0001f600 smile", 'no: "x" \\', "\u0645\u06cc\u200c\u0631\u0648"]
    for split in COUNTS:
        path = tmp_path / f"source/instances_{split}.json"
        said = json.loads(path.read_text()) | {"categories": [{"id": k, "name": name} for k, name in enumerate(names)]}
        path.write_text(json.dumps(said))
    dataset = ingest(source, "object_detection")
    _, read = again(tmp_path / "yolo", dataset, "yolo")
    assert read.info.classes == dataset.info.classes == sorted(names)
