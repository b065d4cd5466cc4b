"""`data: {name: auto}`: the surest format reads, nobody guesses, and an archive is read few times to find out."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from pipeline.contracts import FormatConfig, Found, Recognised, Target
from pipeline.errors import UserError
from pipeline.formats import _looking, auto
from pipeline.formats._looking import Heads
from pipeline.formats.auto import Config
from pipeline.formats.folder import Config as Folder
from pipeline.images import encode_png
from pipeline.source import open_source
from pipeline.sources.archive import ArchiveSource

DATA = Path(__file__).parents[2] / "shared" / "data"
PICTURE = encode_png(np.zeros((4, 5, 3), np.uint8))
PETS = {f"{kind}/{k}.png": PICTURE for kind in ("ants", "bees") for k in range(3)}


def tree(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
    return path


def formats(monkeypatch: pytest.MonkeyPatch, **certainties: int) -> None:
    """Formats of these names, each as sure as that."""
    made: dict[str, Any] = {}
    for name, certainty in certainties.items():
        known = Recognised(certainty, f"it looks like {name}", {"metadata": "x.csv"} if name == "folder" else {})
        answer = classmethod(lambda cls, names, peek, known=known: known if known.certainty else None)
        made[name] = type(name, (Folder,), {"recognise": answer})
    monkeypatch.setattr(auto, "names", lambda _: tuple(made))
    monkeypatch.setattr(auto, "config_class", lambda _, name: made[name])


def test_class_folders_are_read_as_by_their_own_format(tmp_path: Path):
    path = str(tree(tmp_path / "pets", PETS))
    found = Config(path=path)
    assert found.found() == ("folder", 1, "pictures lie in 2 folders: ants, bees", {"path": path})
    assert list(found.read()) == list(Folder(path=path).read())
    assert list(found.listing()) == list(Folder(path=path).listing())
    assert found.gives == frozenset(Target)


def test_an_archive_gives_the_same(tmp_path: Path):
    found = Config(path=str(pack(tmp_path / "pets.tgz", {f"set/train/{name}": data for name, data in PETS.items()})))
    assert found.found().name == "folder"
    assert {item.annotation[Target.LABEL] for item in found.read() if isinstance(item, Found)} == {"ants", "bees"}


def test_files_of_a_format_are_surer_than_folders(tmp_path: Path):
    said = {"images": [], "annotations": [], "categories": []}
    path = tree(tmp_path, PETS | {"annotations.json": json.dumps(said).encode()})
    assert Config(path=str(path)).found().name == "coco"


def test_inside_is_a_source_of_its_own(tmp_path: Path):
    path = str(
        tree(tmp_path, {f"one/{n}": d for n, d in PETS.items()} | {"two/a.json": b'{"images": [], "annotations": 1}'})
    )
    finding = Config(path=path, inside="./one/").found()
    assert finding.name == "folder" and finding.options == {"path": path, "inside": "one"}
    with pytest.raises(UserError, match=r"has no folder 'onee'\. Did you mean 'one/ants'|Did you mean 'one"):
        Config(path=path, inside="onee").found()


def test_the_surest_format_wins_with_the_options_that_it_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    formats(monkeypatch, coco=2, folder=3, voc=1, yolo=0)
    path = str(tree(tmp_path, PETS))
    finding = Config(path=path).found()
    assert finding == ("folder", 3, "it looks like folder", {"path": path, "metadata": "x.csv"})


def test_two_that_are_equally_sure_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    formats(monkeypatch, coco=2, voc=2, folder=1)
    with pytest.raises(UserError) as error:
        Config(path=str(tree(tmp_path, PETS))).found()
    assert str(error.value) == (
        f"data: {tmp_path} may be of 2 formats: coco (it looks like coco); voc (it looks like voc). Name one, as in "
        f"`data: {{name: coco, path: {tmp_path}}}`, or a folder within it by `inside`."
    )


def test_a_source_that_nobody_knows_is_described(tmp_path: Path):
    tree(tmp_path, {"a.doc": b"1", "b.doc": b"2", "c": b"3", ".hidden": b"4"})
    with pytest.raises(UserError) as error:
        Config(path=str(tmp_path)).found()
    words = str(error.value)
    assert words.startswith(f"data: no format knows what lies in {tmp_path}: 4 files (2 .doc, 1 without suffix)")
    assert f"`data: {{name: folder, path: {tmp_path}}}`; pipeline/formats/ has: auto, " in words


def test_options_that_the_format_does_not_take(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    formats(monkeypatch, folder=3)
    monkeypatch.setattr(auto, "config_class", lambda _, name: Strict)
    with pytest.raises(UserError, match=r"data: .*Name the format: `data: \{name: folder, path: "):
        list(Config(path=str(tree(tmp_path, PETS))).read())


class Strict(FormatConfig):
    gives: ClassVar[frozenset[Target]] = frozenset({Target.LABEL})

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        return Recognised(3, "all of it")

    def fingerprint(self) -> Any: ...

    def read(self) -> Any: ...


def test_fingerprint_asks_no_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = str(tree(tmp_path, PETS))
    monkeypatch.setattr(auto, "recognised", None)
    assert list(Config(path=path).fingerprint()) == list(Folder(path=path).fingerprint())


# Heads


def test_heads_are_the_first_64_kilobytes(tmp_path: Path):
    path = tree(tmp_path, {"long.txt": b"x" * 100_000, "short.txt": b"y"})
    peek = Heads(open_source(str(path)), ["long.txt", "short.txt"])
    assert peek("long.txt") == b"x" * 65_536
    assert peek("short.txt") == b"y"
    assert peek("missing.txt") == peek("../etc/passwd") == b""


def test_an_archive_is_read_once_for_what_is_likely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = {f"labels/{k:04}.txt": f"{k}".encode() for k in range(100)} | {"data.yaml": b"names", "note": b"n"}
    files |= {f"images/{k}.png": PICTURE for k in range(9)}
    source = open_source(str(pack(tmp_path / "a.tgz", files)))
    passes: list[int] = []
    given = ArchiveSource.heads
    monkeypatch.setattr(
        ArchiveSource, "heads", lambda self, names, size: passes.append(len(names)) or given(self, names, size)
    )
    peek = Heads(source, sorted(files))
    assert (peek("data.yaml"), peek("note"), peek("images/1.png")) == (b"names", b"n", PICTURE)
    assert [peek(f"labels/{k:04}.txt") for k in range(16)] == [f"{k}".encode() for k in range(16)]
    assert passes == [16 + 1 + 1 + 2]
    assert [peek(f"labels/{k:04}.txt") for k in range(50, 100)] == [f"{k}".encode() for k in range(50, 100)]
    assert passes[1:] == [50]
    monkeypatch.setattr(_looking, "PASSES", 2)
    assert peek("images/7.png") == b""


def test_heads_of_a_member_that_is_left_out(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("a.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    peek = Heads(open_source(str(tmp_path / "a.tar")), ["a.json"])
    assert peek("a.json") == b""


def test_links_out_of_a_folder_are_not_looked_into(tmp_path: Path):
    tree(tmp_path, {"secret.json": b"hush", "set/b.json": b"b"})
    (tmp_path / "set/a.json").symlink_to(tmp_path / "secret.json")
    peek = Heads(open_source(str(tmp_path / "set")), ["a.json", "b.json"])
    assert (peek("a.json"), peek("b.json")) == (b"", b"b")


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("hymenoptera", "folder"),
        ("orl-faces", "folder"),
        ("bccd-voc", "voc"),
        ("raccoon-voc", "voc"),
        ("lunar-craters-coco", "coco"),
        ("camvid", "lists"),
        ("isbi2012-membrane", "masks"),
        ("nuclei-dsb2018", "masks"),
        ("usps-libsvm", "libsvm"),
        ("mnist-t10k-idx", "idx"),
        ("mnist-test-png-csv", "table"),
        ("labelme-examples", None),
        ("coco128", None),
    ],
)
def test_real_sets(name: str, form: str | None):
    config = Config(path=str(DATA / name / f"{name}.tar.gz"))
    if form and form not in auto.names("formats"):
        pytest.skip(f"there is no format {form}")
    if form:
        assert config.found().name == form
    else:
        with pytest.raises(UserError, match="may be of"):
            config.found()
