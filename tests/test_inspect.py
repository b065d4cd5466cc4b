"""`convoy inspect` and `convoy export` as a person meets them: what is said, and that nothing is changed."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

from flows.export import export
from flows.inspect import inspect
from pipeline.errors import UserError
from pipeline.inspection import counting, sample
from pipeline.inspection.counting import Classes, Copies, Groups, pattern
from pipeline.inspection.look import look
from pipeline.inspection.sample import Sample

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(inspect)
app.command()(export)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Outside of any project."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "here"


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["inspect", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def picture(seed: int, width: int = 30, height: int = 20, grey: bool = False) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 1 if grey else 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if grey else pixels).save(out, "PNG")
    return out.getvalue()


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def pets(root: Path) -> Path:
    files = {f"train/{kind}/{k}.png": picture(k + 10 * n) for n, kind in enumerate(("ants", "bees")) for k in range(4)}
    files |= {"test/ants/9.png": picture(9, 50, 40, grey=True), "test/bees/copy.png": picture(0)}
    files |= {"train/ants/broken.png": b"no picture", "train/notes.txt": b"x", "train/.hidden.png": b"x"}
    return tree(root, files)


def coco(root: Path) -> Path:
    boxes: list[list[float]] = [[0, 0, 10, 10], [5, 5, 0, 3], [25, 1, 10, 3], [1, 1, 2, 2]]
    annotations: list[dict[str, Any]] = [
        {"id": k, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": int(k == 3)} for k, box in enumerate(boxes)
    ]
    annotations.append({"id": 9, "image_id": 1, "category_id": 7, "bbox": [0, 0, 1, 1]})
    images = [{"id": k, "file_name": f"{k}.png", "width": 30, "height": 20} for k in (1, 2, 3)]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "[red]cell"}, {"id": 2, "name": "none"}],
    }
    return tree(root, {f"{k}.png": picture(k) for k in (1, 2)} | {"a.json": json.dumps(content).encode()})


def test_class_folders(tmp_path: Path):
    seen = look(str(pets(tmp_path / "pets")))
    assert (seen.format, seen.why) == ("folder", "pictures lie in 2 folders: ants, bees")
    assert next(iter(seen.tasks.items())) == ("classification", "LABEL") and "name: classification" in seen.params
    assert seen.splits == {"train": 9, "test": 2} and seen.pictures == 11
    assert {name: one.count for name, one in seen.targets["LABEL"].items()} == {"ants": 6, "bees": 5}
    assert seen.sizes.common == [(30, 20, 9), (50, 40, 1)]
    assert (seen.sizes.sampled, seen.sizes.grey, seen.sizes.shorter, seen.sizes.longer) == (11, 1, 20, 30)
    assert [group.examples for group in seen.sizes.damaged.values()] == [["train/ants/broken.png"]]
    assert seen.copies.count == 1 and set(seen.copies.examples[0]) == {"train/ants/0.png", "test/bees/copy.png"}
    reasons = {kind: group.examples for kind, group in seen.left_out.items()}
    assert reasons == {"hidden": ["train/.hidden.png"], "outside any class folder": ["train/notes.txt"]}


def test_objects_and_what_is_wrong_with_them(tmp_path: Path):
    seen = look(str(coco(tmp_path / "cells")))
    assert seen.format == "coco" and next(iter(seen.tasks.items())) == ("object_detection", "OBJECTS")
    assert {name: (one.count, one.pictures) for name, one in seen.targets["OBJECTS"].items()} == {"[red]cell": (3, 1)}
    counts = {kind: group.count for kind, group in seen.problems.items()}
    assert counts == {"empty_class": 1, "no_picture": 1, "unknown_class": 1, "bad_box": 1, "outside": 1}
    assert seen.problems["bad_box"].examples == ["a.json, annotation 1 ([red]cell): the box 5,5,5,8 has no area"]
    assert seen.problems["outside"].examples[0].endswith("the box 25,1,35,4 reaches beyond the picture")


def test_pixels_of_a_sample_of_masks(tmp_path: Path):
    mask = np.zeros((20, 30), np.uint8)
    mask[:5], mask[5:10] = 1, 255
    out = io.BytesIO()
    Image.fromarray(mask).save(out, "PNG")
    files = {f"images/{k}.png": picture(k) for k in range(3)} | {f"masks/{k}.png": out.getvalue() for k in range(2)}
    seen = look(str(tree(tmp_path, files | {"classes.txt": b"0: road\n1: sky\n2: sea\n"})))
    assert seen.format == "masks" and seen.masks == 2
    assert {name: (one.count, one.pictures) for name, one in seen.targets["MASK"].items()} == {
        "road": (600, 2),
        "sky": (300, 2),
    }
    assert seen.said == {"MASK": 2} and seen.pictures == 3
    assert "frame: pad" in seen.params and seen.tasks == {"semantic_segmentation": "MASK"}


def test_the_sections_that_it_advises_are_read_as_they_stand(tmp_path: Path):
    path = tmp_path / "a: #1 'pets'"
    params = yaml.safe_load(look(str(pets(path))).params)
    assert params == {
        "data": {"name": "folder", "path": str(path)},
        "task": {"name": "classification"},
        "augment": {"name": "standard", "size": 32},
    }
    cells = yaml.safe_load(look(str(coco(tmp_path / "cells")), "coco").params)
    assert cells["augment"] == {"name": "standard", "size": 32, "frame": "pad"}


def test_people_read_tables_and_names_are_no_markup(tmp_path: Path):
    words = said(str(coco(tmp_path / "cells")))
    assert "format coco: a.json holds a list of images" in words
    assert "[red]cell 3 1" in words
    assert "annotations.bad_box 1 a.json, annotation 1 ([red]cell): the box 5,5,5,8 has no area" in words
    assert "For params.yaml: data: name: coco path:" in words
    words = said(str(pets(tmp_path / "pets")))
    assert "pictures 11 (train 9, test 2)" in words
    assert "30 x 20 (9), 50 x 40 (1) of all, 1 of them grey" in words
    assert "pictures that cannot be decoded, of the sample" in words


def test_hostile_names_are_printed_safely(tmp_path: Path):
    root = tree(tmp_path / "pets", {"a\x1b[31m/1.png": picture(1), "b/2.png": picture(2), "c/3.png": picture(3)})
    assert "\x1b" not in said(str(root)) + json.dumps(look(str(root)).plain())
    content = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [],
        "categories": [{"id": 1, "name": "\x1b[31m"}],
    }
    root = tree(tmp_path / "coco", {"1.png": picture(1), "a.json": json.dumps(content).encode()})
    assert "\x1b" not in said(str(root))


@pytest.mark.parametrize(
    ("path", "inside", "words"),
    [
        ("", "", r"The path is empty\. Name a folder, an archive, or an address"),
        ("caf\udce9", "", r"caf\\udce9 holds control characters or bytes that are not UTF-8: .* Rename it\."),
        (".", "a\nb", r"a\\u000ab holds control characters or bytes that are not UTF-8"),
    ],
)
def test_paths_that_no_params_can_name(path: str, inside: str, words: str):
    with pytest.raises(UserError, match=words):
        look(path, inside=inside)


def test_programs_read_json(tmp_path: Path):
    result = CliRunner().invoke(app, ["inspect", str(pets(tmp_path / "pets")), "--json", "--format", "folder"])
    found = json.loads(result.stdout)
    assert found["format"] == "folder" and found["why"] == ""
    assert found["targets"]["LABEL"]["ants"] == {"count": 6, "pictures": 6}
    assert found["left_out"]["hidden"] == {"count": 1, "examples": ["train/.hidden.png"]}
    assert found["copies"]["count"] == 1 and found["sizes"]["common"][0] == [30, 20, 9]


def test_nothing_is_written_here_nor_in_a_project(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch):
    pets(place / "pets")
    before = sorted(tmp_path.rglob("*"))
    said("pets")
    tree(place, {"dvc.yaml": b"stages: {}", "params.yaml": b"{}", "deep/er/x": b""})
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir("deep/er")
    assert "path: pets task:" in said("../../pets")
    assert sorted(tmp_path.rglob("*")) == before


def test_mistakes(tmp_path: Path):
    with pytest.raises(UserError, match="No format is named 'cocoo'. Did you mean 'coco'"):
        said(str(tmp_path), "--format", "cocoo")
    with pytest.raises(UserError, match="'digits' reads no path"):
        said(str(tmp_path), "--format", "digits")
    with pytest.raises(UserError, match="does not exist"):
        said(str(tmp_path / "none"))


def test_a_source_of_several_sets_is_told_folder_by_folder(tmp_path: Path):
    both = {
        "annotations.txt": b"",
        "one/a.json": (coco(tmp_path / "x") / "a.json").read_bytes(),
        "one/1.png": picture(1),
    }
    both |= {
        f"two/{name}": path.read_bytes()
        for path in pets(tmp_path / "y").rglob("*.png")
        for name in [path.relative_to(tmp_path / "y").as_posix()]
    }
    root = tree(tmp_path / "both", both)
    from pipeline.formats import auto

    found = {one.options["inside"]: one.name for one in auto.in_folders(str(root))}
    assert found == {"one": "coco", "two": "folder"}
    assert look(str(root), inside="two").options == {"inside": "two"}


def test_a_sample_does_not_depend_on_the_order_and_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sample, "PICTURES", 10)
    names = [f"{k}.png" for k in range(100)]
    kept = []
    for order in (names, names[::-1]):
        chosen = Sample()
        for name in order:
            chosen.add(name, b"x")
        kept.append([one.name for one in chosen._ordered()])
    assert kept[0] == kept[1] and len(kept[0]) == 10
    monkeypatch.setattr(sample, "BYTES", 25)
    small = Sample()
    for name in names:
        small.add(name, b"x" * 10)
    assert len(small._ordered()) == 2


def test_counts_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(counting, "MOST", 2)
    monkeypatch.setattr(counting, "MOST_PICTURES", 2)
    groups, classes, copies = Groups(), Classes(), Copies()
    for k in range(6):
        groups.add(f"kind {k}", f"example {k}")
        classes.add([f"class {k}"])
        copies.add(f"{k}.png", bytes([k % 3]))
    assert {kind: group.count for kind, group in groups.items()} == {"kind 0": 1, "kind 1": 1, "others": 4}
    assert len(groups["others"].examples) == 3 and groups.total == 6
    assert {name: one.count for name, one in classes.counts.items()} == {"class 0": 1, "class 1": 1, "others": 4}
    assert copies.count == 2


def test_reasons_are_grouped_by_what_they_have_in_common():
    assert pattern("labelled 'ants', but b/2.png, the same bytes, 'bees'") == "labelled …, but … the same bytes, …"
    assert pattern("70,000 bytes; the limit is 60,000") == "… bytes; the limit is …"
    assert pattern("hidden") == "hidden"


def test_an_export_by_command(tmp_path: Path, place: Path):
    from pipeline.door import parse
    from pipeline.ingest import stage
    from pipeline.params import IngestParams

    tree(place, {"dvc.yaml": b"stages: {}", "params.yaml": b"{}"})
    files = {f"{kind}/{k}.png": picture(k + 100 * n) for n, kind in enumerate(("ants", "bees")) for k in range(12)}
    tree(place / "pets", files)
    split = "split: {val: 0.2, test: 0.25}"
    text = f"annotations: {{}}\ndata: {{name: folder, path: pets}}\n{split}\ntask: {{name: classification}}\n"
    digest = stage.run(parse(IngestParams, text), Path("out/dataset")).digest
    result = CliRunner().invoke(app, ["export", str(tmp_path / "dest"), "--as", "folder"])
    assert result.exit_code == 0
    assert result.stdout == (
        f"Wrote 24 pictures to {tmp_path / 'dest'}.\nIt is the same dataset (digest {digest[:12]}) that is read again "
        f'by `data: {{name: folder, path: "{tmp_path / "dest"}"}}`.\n'
    )
    result = CliRunner().invoke(app, ["export", str(tmp_path / "dest"), "--as", "folder"])
    assert isinstance(result.exception, UserError)
    with zipfile.ZipFile(tmp_path / "dest.zip", "w") as archive:
        for path in (tmp_path / "dest").rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path / "dest").as_posix())
    text = text.replace("path: pets", f"path: {tmp_path / 'dest.zip'}")
    assert stage.run(parse(IngestParams, text), Path("out/again")).digest == digest


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(
    ("name", "form", "task", "wrong"),
    [
        ("bccd-voc", "voc", "object_detection", {"bad_box": 2, "foreign_path": 364}),
        ("lunar-craters-coco", "coco", "object_detection", {"empty_class": 1}),
        ("camvid", "lists", "semantic_segmentation", {"foreign_path": 535}),
        ("hymenoptera", "folder", "classification", {}),
    ],
)
def test_real_sets(name: str, form: str, task: str, wrong: dict[str, int]):
    seen = look(str(DATA / name / f"{name}.tar.gz"), form)
    assert next(iter(seen.tasks)) == task
    assert {kind: group.count for kind, group in seen.problems.items()} == wrong
