"""Every file in pipeline/formats keeps one contract; then what `folder` and `digits` find, by hand."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_sources import SOURCES

from pipeline.annotations import Flaw
from pipeline.contracts import SPLITS, FormatConfig, Found, LeftOut, Target
from pipeline.errors import UserError
from pipeline.formats.folder import lay_out
from pipeline.images import decode, encode_png
from pipeline.plugin import config_class, names

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")


def picture(level: int) -> bytes:
    return encode_png(np.full((4, 5, 3), level, np.uint8))


def tree(path: Path, names: list[str]) -> Path:
    for level, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(picture(level % 256))
    return path


def read(form: str, **options: Any) -> tuple[dict[str, tuple[str, str | None]], dict[str, str]]:
    """Class and split of each sample, and the reason of each file left out."""
    items = list(made(form, options).read())
    found = {i.name: (i.annotation[Target.LABEL], i.split) for i in items if isinstance(i, Found)}
    return found, {item.name: item.reason for item in items if isinstance(item, LeftOut)}


def made(form: str, options: dict[str, Any]) -> FormatConfig:
    config = config_class("formats", form)(**options)
    assert isinstance(config, FormatConfig)
    return config


# The contract of every format: its options for a small source, made in a folder of its own.


@pytest.fixture
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if "path" not in config_class("formats", request.param).model_fields:
        return {}
    writers = {ready.partition("-")[2]: writer for ready, writer in SOURCES.items()} | {
        "auto": SOURCES["detection-coco"]
    }
    # A format that is new gets its writer in tests/tiny_sources.py.
    writers.get(request.param, SOURCES["classification-folder"])(tmp_path / "source")
    return {"path": str(tmp_path / "source")}


every_format = pytest.mark.parametrize(("form", "options"), [(n, n) for n in names("formats")], indirect=["options"])


@every_format
def test_a_format_keeps_its_contract(form: str, options: dict[str, Any]):
    config = made(form, options)
    assert config.gives
    items = list(config.read())
    assert any(isinstance(item, Found) for item in items)
    files = [item for item in items if not isinstance(item, Flaw)]
    assert len({item.name for item in files}) == len(files), "a file comes once"
    for item in files:
        assert not item.name.startswith("/")
        assert ".." not in item.name.split("/")
        if isinstance(item, Found):
            assert isinstance(item.data, bytes)
            assert item.annotation and item.annotation.keys() <= config.gives
            assert item.split in (None, *SPLITS)
            assert all(isinstance(text, str) for pair in item.metadata.items() for text in pair)
        else:
            assert item.reason


@every_format
def test_a_format_says_the_same_twice(form: str, options: dict[str, Any]):
    first, second = made(form, options), made(form, options)
    assert list(first.fingerprint()) == list(second.fingerprint())
    assert sorted(map(repr, first.read())) == sorted(map(repr, second.read()))


@every_format
def test_a_fingerprint_is_short_lines_without_the_place(form: str, options: dict[str, Any]):
    lines = list(made(form, options).fingerprint())
    assert lines
    assert not any("\n" in line or options.get("path", "\n") in line for line in lines)


@pytest.mark.parametrize("form", [n for n in names("formats") if "path" in config_class("formats", n).model_fields])
def test_a_format_says_that_its_source_is_missing(form: str, tmp_path: Path):
    config = made(form, {"path": str(tmp_path / "gone")})
    for walk in (config.fingerprint, config.read):
        with pytest.raises(UserError, match="gone"):
            list(walk())


# folder


def test_class_folders(tmp_path: Path):
    found, left_out = read("folder", path=str(tree(tmp_path, ["ants/1.png", "ants/2.JPG", "bees/1.png"])))
    assert found == {"ants/1.png": ("ants", None), "ants/2.JPG": ("ants", None), "bees/1.png": ("bees", None)}
    assert left_out == {}


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("Training", "Validation", "TESTING"), ("TRAIN", "dev", "test")],
)
@pytest.mark.parametrize("root", ["", "a/b/"])
def test_split_folders_by_any_of_their_names(tmp_path: Path, train: str, val: str, test: str, root: str):
    paths = [f"{root}{split}/{name}/1.png" for split in (train, val, test) for name in ("ants", "bees")]
    found, _ = read("folder", path=str(tree(tmp_path, paths)))
    splits = {train: "train", val: "val", test: "test"}
    assert found == {path: (path.split("/")[-2], splits[path.split("/")[-3]]) for path in paths}


def test_a_lone_train_folder_is_a_folder_around_the_classes():
    layout = lay_out(["train/ants/1.png", "train/bees/1.png"], "", "pets")
    assert layout.folders == {"train/ants": ("ants", None), "train/bees": ("bees", None)}


def test_classes_named_like_splits():
    layout = lay_out(["cats/1.png", "test/1.png"], "", "pets")
    assert layout.folders == {"cats": ("cats", None), "test": ("test", None)}


def test_every_other_file_is_left_out_with_its_reason(tmp_path: Path):
    paths = ["d/ants/1.png", "d/bees/1.png", "d/bees/notes.txt", "d/bees/deep/notes.txt", "d/logo.png", "README.md"]
    paths += [
        "d/ants/.DS_Store",
        ".git/config",
        "d/ants/3.pgm.bad",
        "__MACOSX/d/ants/1.png",
        "d/bees/Thumbs.db",
        "d/lists/all.csv",
    ]
    found, left_out = read("folder", path=str(tree(tmp_path, paths)))
    assert sorted(found) == ["d/ants/1.png", "d/bees/1.png", "d/bees/notes.txt"]  # the decoder will say that it is none
    assert left_out == {
        "README.md": "outside any class folder",
        "d/logo.png": "outside any class folder",
        "d/bees/deep/notes.txt": "outside any class folder",
        "d/lists/all.csv": "outside any class folder",
        "d/ants/.DS_Store": "hidden",
        ".git/config": "hidden",
        "d/ants/3.pgm.bad": "set aside: .bad after the suffix of a picture",
        "__MACOSX/d/ants/1.png": "macOS puts it into archives; no picture of the data",
        "d/bees/Thumbs.db": "a thumbnail cache of Windows",
    }


def test_pictures_without_suffix_count_where_none_has_one():
    assert lay_out(["a/1", "b/2"], "", "pets").folders == {"a": ("a", None), "b": ("b", None)}


def test_pictures_beside_split_folders_are_in_no_class():
    names = ["train/a/1.png", "train/b/1.png", "test/a/1.png", "unlabelled/1.png", "train/x.png"]
    layout = lay_out(names, "", "pets")
    assert sorted(layout.folders) == ["test/a", "train/a", "train/b"]
    assert layout.reason("unlabelled/1.png") == "outside any class folder"


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["small/a/1.png", "small/b/1.png", "orig/a/1.png", "orig/b/1.png"], r"orig \(2: a, b\); small \(2: a, b\)"),
        (["cats/1.png", "dogs/1.png", "dogs/more/1.png"], r"\. \(2: cats, dogs\); dogs \(1: more\)"),
        (["train/a/1.png", "test/a/1.png", "old/train/a/1.png"], r"\. \(1: a\); old \(1: a\)"),
    ],
)
def test_classes_in_two_places_are_not_guessed(paths: list[str], words: str):
    with pytest.raises(UserError, match=rf"pets: .* 2 places: {words}\. Set data\.inside to the one"):
        lay_out(paths, "", "pets")


def test_inside_chooses_one_place():
    names = ["x/small/a/1.png", "x/small/b/1.png", "x/orig/a/1.png", "x/orig/b/1.png"]
    for inside in ("x/small", "/x/small/", "./x//small"):
        layout = lay_out(names, inside, "pets")
        assert layout.folders == {"x/small/a": ("a", None), "x/small/b": ("b", None)}
        assert layout.reason("x/orig/a/1.png") == "outside data.inside (x/small)"


@pytest.mark.parametrize(
    ("paths", "inside", "words"),
    [
        ([], "", r"pets: it holds no pictures\. Expected one folder per class"),
        (["1.png", "2.png"], "", r"pets: its 2 files lie in no class folder\. Expected one folder per class"),
        (
            ["train/1.png", "val/2.png"],
            "",
            r"the pictures lie directly in 'train', 'val'\. Expected a folder per class",
        ),
        (["small/a/1.png"], "smal", r"pets has no folder 'smal'\. Did you mean 'small'\?"),
        (
            ["small/a/1.png", "orig/a/1.png"],
            "qqq",
            r"has no folder 'qqq'\. Its folders: orig, small, orig/a, small/a\.",
        ),
    ],
)
def test_what_is_no_folder_of_classes(paths: list[str], inside: str, words: str):
    with pytest.raises(UserError, match=words):
        lay_out(paths, inside, "pets")


def test_an_empty_folder(tmp_path: Path):
    with pytest.raises(UserError, match="it holds no pictures"):
        list(made("folder", {"path": str(tmp_path)}).read())


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_and_the_folder_in_it_give_the_same_samples(tmp_path: Path, kind: str):
    folder = tree(tmp_path / "pets", ["d/train/a/1.png", "d/train/b/1.png", "d/val/a/2.png", "README"])
    archive = tmp_path / f"pets.{kind}"
    files = [file for file in folder.rglob("*") if file.is_file()]
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for file in files:
                packed.write(file, file.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz") as packed_tar:
            packed_tar.add(folder, ".")
    assert read("folder", path=str(archive)) == read("folder", path=str(folder))


@needs_data
def test_hymenoptera_is_found_below_three_folders():
    found, left_out = read("folder", path=str(DATA / "hymenoptera/hymenoptera.tar.gz"))
    counts = Counter(found.values())
    assert counts == {("ants", "train"): 124, ("bees", "train"): 121, ("ants", "val"): 70, ("bees", "val"): 83}
    assert left_out == {}


@needs_data
def test_the_x_ray_archive_asks_which_of_two_and_then_reads_it():
    path = str(DATA / "covid19-xray/covid19-xray.tar.gz")
    place = "covid19-xray/small/X-Ray Image DataSet"
    with pytest.raises(UserError, match=rf"{place} \(3: Covid-19, No_findings, Pneumonia\)"):
        read("folder", path=path)
    for inside in (place, "covid19-xray/small"):
        found, left_out = read("folder", path=path, inside=inside)
        assert Counter(label for label, _ in found.values()) == {"Covid-19": 124, "No_findings": 500, "Pneumonia": 500}
        assert len(left_out) == 12


# folder: metadata


def with_metadata(
    path: Path, text: str | bytes, names: Sequence[str] = ("ants/1.png", "ants/2.png", "bees/1.png")
) -> Path:
    tree(path, [*names])
    (path / "facts.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def told(path: Path, **options: Any) -> dict[str, tuple[dict[str, str], str | None, str | None]]:
    """Metadata, group and split of each sample."""
    items = made("folder", {"path": str(path), "metadata": "facts.csv", **options}).read()
    return {i.name: (dict(i.metadata), i.group, i.split) for i in items if isinstance(i, Found)}


def test_metadata_comes_with_its_picture(tmp_path: Path):
    text = '\ufefffile,camera, age ,group,split\r\nants/1.png, north ,3,g1,TRAIN\r\n\r\nbees/1.png,,"1,5",,dev\r\n'
    source = with_metadata(tmp_path, text)
    assert told(source) == {
        "ants/1.png": ({"camera": "north", "age": "3"}, "g1", "train"),
        "ants/2.png": ({"camera": "", "age": ""}, None, None),  # it has no row
        "bees/1.png": ({"camera": "", "age": "1,5"}, None, "val"),
    }
    _, left_out = read("folder", path=str(source), metadata="./facts.csv")
    assert left_out == {"facts.csv": "the metadata of the others (data.metadata)"}


def test_metadata_may_speak_of_what_is_left_out_and_lie_among_the_pictures(tmp_path: Path):
    names = ["d/ants/1.png", "d/bees/1.png", "README", "d/ants/.hidden.png"]
    tree(tmp_path, names)
    (tmp_path / "d/ants/facts.csv").write_text("file,camera\n" + "".join(f"{name},x\n" for name in names))
    assert sorted(told(tmp_path, metadata="d/ants/facts.csv")) == ["d/ants/1.png", "d/bees/1.png"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_metadata_in_an_archive(tmp_path: Path, kind: str):
    folder = with_metadata(tmp_path / "pets", "file,camera\nants/1.png,north\n")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    archive = tmp_path / f"pets.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for file in files:
                packed.write(file, file.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz") as packed_tar:
            packed_tar.add(folder, ".")
    assert told(archive) == told(folder)
    assert list(made("folder", {"path": str(archive), "metadata": "facts.csv"}).listing())


def test_metadata_and_folders_agree_on_the_split(tmp_path: Path):
    names = ["train/ants/1.png", "train/bees/1.png", "test/ants/1.png", "test/bees/1.png"]
    source = with_metadata(tmp_path, "file,split\ntest/ants/1.png,test\ntrain/ants/1.png,\n", names)
    assert {split for _, _, split in told(source).values()} == {"train", "test"}
    (source / "facts.csv").write_text("file,split\ntest/ants/1.png,train\n")
    words = r"test/ants/1\.png lies in 'test', but the metadata puts it in 'train'\. Move the picture"
    with pytest.raises(UserError, match=words):
        told(source)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", r"facts\.csv in .* is empty\. Expected a first line such as 'file,camera'\."),
        (b"file,camera\nants/1.png,\xff\n", r"is not UTF-8 \(byte 23\)\. Save it as UTF-8\."),
        ("name,camera\n", r"its first column is 'name'; expected 'file', and commas between the columns\."),
        ("file;camera\n", r"its first column is 'file;camera'; expected 'file', and commas"),
        ("\n", r"its first column is ''; expected 'file'"),
        ("file\nants/1.png\n", r"it has no column beside 'file'\."),
        ("file," + ",".join(f"c{k}" for k in range(51)), r"51 columns beside 'file'; the limit is 50\."),
        ("file,,b\n", r"a column is named ''; expected 1 to 64 characters"),
        ("file," + "n" * 65, r"a column is named 'n+'; expected 1 to 64"),
        ("file,a\x1bb\n", r"a column is named 'a\\x1bb'; expected .*, and no control characters"),
        ("file,a,b,a\n", r"two columns are named 'a'; keep one"),
        ("file,a,file\n", r"two columns are named 'file'; keep one"),
        ('file,a\nants/1.png,"north\n', r"is no CSV: line 2: unexpected end of data\. Mend it"),
        (f"file,a\n{'x' * 200_000},north\n", r"is no CSV: line 2: field larger than field limit"),
        ("file,a\nants/1.png,north,1\n", r"1 problem\. Line 2: 3 values; the first line has 2\. Mend these rows"),
        ("file,a\nants/1.png\n", r"1 problem\. Line 2: 1 values; the first line has 2\."),
        ("file,a\nants/1.png,x\nants/1.png,x\n", r"1 problem\. Line 3: a second row for 'ants/1\.png'\."),
        (f"file,a\nants/1.png,{'x' * 201}\n", r"Line 2: 201 characters under 'a'; the limit is 200\."),
        ('file,a\nants/1.png,"north\nsouth"\n', r"Line 3: line ends or control characters under 'a'\."),
        ("file,split\nants/1.png,tets\n", r"Line 2: no split is named 'tets'\. Did you mean 'test'\? Mend"),
        ("file,split\nants/1.png,3\n", r"no split is named '3'\. Expected train, val or test, or nothing\."),
        (
            "file,a\n" + "".join(f"ants/{k}.png,x\n" for k in range(9)),
            r"7 problems\. Line 2: the source has no file 'ants/0\.png'\. Line 5: .* 'ants/3\.png'\. "
            r"Line 6: .* 'ants/4\.png'\. And 4 more\. Mend these rows or take them out; a file is named as it lies",
        ),
        ("file,a\n/ants/1.png,x\n", "the source has no file '/ants/1.png'"),
        ("file,a\n../pets/ants/1.png,x\n", "the source has no file '../pets/ants/1.png'"),
    ],
)  # fmt: skip
def test_metadata_that_is_wrong_says_where(tmp_path: Path, text: str | bytes, words: str):
    with pytest.raises(UserError, match=words):
        told(with_metadata(tmp_path, text))


def test_metadata_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.formats._metadata.MAX_BYTES", 20)
    with pytest.raises(UserError, match=r"28 bytes in facts\.csv; the limit is 20"):
        told(with_metadata(tmp_path, "file,camera\nants/1.png,north"))


def test_metadata_that_is_not_there(tmp_path: Path):
    source = with_metadata(tmp_path / "pets", "file,camera\n")
    with pytest.raises(
        UserError, match=r"data\.metadata: .*pets has no file 'fact\.csv'\. Did you mean 'facts\.csv'\?"
    ):
        told(source, metadata="fact.csv")
    with pytest.raises(UserError, match=r"has no file '\.\./\.\./etc/passwd'\. Its CSV files: facts\.csv\."):
        told(source, metadata="../../etc/passwd")
    (source / "out.csv").symlink_to("/etc/hostname")
    with pytest.raises(UserError, match=r"out\.csv in .*pets cannot be read: a link that leads out of the source"):
        told(source, metadata="out.csv")


# digits


def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    reference = datasets.load_digits()
    items = sorted(made("digits", {}).read(), key=lambda item: item.name)
    assert len(items) == 1797
    assert items[7].name == "digits/0007.png"
    for item, image, label in zip(items, reference.images, reference.target, strict=True):
        assert isinstance(item, Found)
        assert item.annotation == {Target.LABEL: str(label)}
        np.testing.assert_array_equal(decode(item.data, 1)[:, :, 0], np.rint(image / 16 * 255))
    assert io.BytesIO(items[0].data).read(8) == b"\x89PNG\r\n\x1a\n"
