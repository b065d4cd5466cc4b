"""A disk that is full, at every file that is written: the old ones stay, words say which and how large, and it goes on.

The limit is the kernel's, on the size of files: one byte less than the file will have. Of the files that the flow
writes beside its stages, see `test_failpoints`.
"""

from __future__ import annotations

import functools
import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forked import Forked, stage
from narrow import limited, nameless, no_room, noting
from small_project import make_pictures
from trained import change, die

from pipeline import gallery, journal
from pipeline.dataset import Dataset
from pipeline.errors import TemporaryFailure, UserError
from pipeline.export.run import export
from pipeline.export.writer import rows
from pipeline.failpoints import TrainingPoint
from pipeline.files import sha256_of
from pipeline.registry import ledger
from pipeline.registry.ledger import Act
from pipeline.train import seen

ROOT = Path(__file__).parents[1]
STAGES = ("ingest", "augment", "train", "evaluate")
APART = ("stage.lock", "journal.jsonl", seen.SEEN)
"""The first holds a few bytes that nothing depends on; the others grow beside larger files, and are tested below."""


def tree(folder: Path) -> dict[str, str]:
    """Digests of all files."""
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def unfinished(project: Path) -> list[Path]:
    """What is written and not whole."""
    return [path for path in project.rglob(".*") if path.suffix in (".tmp", ".old") or ".tmp." in path.name]


def do(project: Path, name: str) -> None:
    ended = Forked(project, functools.partial(stage, name)).ended()
    assert ended.status == 0, ended.words


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """For each stage, a project where it is due again, its old outputs there, and one where it has run.

    Beside the latter lies what it wrote: a file for each stage with names and sizes.
    """
    root = tmp_path_factory.mktemp("places")
    project = root / "project"
    project.mkdir()
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    change(
        project,
        data={"name": "folder", "path": str(make_pictures(root / "pictures"))},
        model={"name": "lenet5"},
        train={"epochs": 1, "batch_size": 16, "checkpoint_seconds": 1000},
        compute={"precision": "float32", "memory_format": "contiguous", "compile": "never", "threads": 1},
        evaluate={"resamples": 100},
    )
    for name in STAGES:
        do(project, name)
    change(project, split={"seed": 1}, augment={"name": "standard", "size": 32})
    made = {}
    for name in STAGES:
        due, done = root / f"{name}-due", root / f"{name}-done"
        shutil.copytree(project, due)
        work = functools.partial(noting, functools.partial(stage, name), root / f"{name}.json")
        ended = Forked(project, work).ended()
        assert ended.status == 0, ended.words
        shutil.copytree(project, done)
        made[name] = due, done
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_every_file_of_a_stage(places: dict[str, tuple[Path, Path]], name: str) -> None:
    """No room for the first file that it writes, then for the second; and in the end for all."""
    project, done = places[name]
    before, after = tree(project / "out"), tree(done / "out")
    written = json.loads((project.parent / f"{name}.json").read_text())
    assert len(written) >= {"ingest": 9, "augment": 4, "train": 10, "evaluate": 8}[name]
    for file, size in written.items():
        if Path(file).name in APART:
            continue
        work = functools.partial(limited, functools.partial(stage, name), file, size - 1)
        ended = Forked(project, work).ended()
        assert ended.status == TemporaryFailure.status, (file, ended.words)
        words = nameless(ended.words.splitlines()[-1])
        assert words.startswith(f"No room to write {file}"), (file, words)
        assert file.endswith(".parquet") or "it needs " in words  # how long one of these gets is not known before
        assert f"no file may have more than {size - 1:,} bytes here" in words
        assert not unfinished(project)
        now = tree(project / "out")
        assert now.keys() <= {*before, *after}
        assert all(digest in (before.get(path), after.get(path)) for path, digest in now.items())
    do(project, name)
    assert tree(project / "out") == after


@pytest.mark.slow
def test_a_journal_that_cannot_grow_stops_a_training(places: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(places["train"][1], project)
    change(project, seed=1)
    die(project, TrainingPoint.CHECKPOINT_NAMED)
    log = max(project.glob(".convoy/train/*/journal.jsonl"), key=lambda path: path.stat().st_mtime)
    name = ".convoy/train/ID/journal.jsonl"
    ended = Forked(project, functools.partial(limited, functools.partial(stage, "train"), name, 99)).ended()
    assert ended.status == TemporaryFailure.status
    assert f"No room to write {log.relative_to(project)}: it needs " in ended.words
    assert log.read_bytes() == b""
    ended = Forked(project, functools.partial(stage, "train")).ended()
    assert (ended.status, "goes on from epoch 1, step 0 of 2" in ended.words) == (0, True)


def lines_of_logs() -> int:
    """What `test_logs_keep_whole_records` looks at, in a process of its own."""
    log = journal.Journal(Path("training"))
    views = seen.SeenLog(Path("training/seen.bin"), 0)
    for step in range(2):
        log.append("step", step, {"loss": 0.5})
        views.append(step, np.arange(100))
        log.flush()
        views.flush()
    sizes = [path.stat().st_size for path in (Path("training/journal.jsonl"), Path("training/seen.bin"))]
    for writer, size in zip((log, views), sizes, strict=True):
        log.append("step", 2, {"loss": 0.25})
        views.append(2, np.arange(100))
        with no_room("x", 0):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))
            try:
                writer.flush()
            except UserError as error:
                print(error)
    assert [path.stat().st_size for path in (Path("training/journal.jsonl"), Path("training/seen.bin"))] == sizes
    log.close()  # there is room again
    views.flush()
    return 0


def test_logs_keep_whole_records(tmp_path: Path) -> None:
    ended = Forked(tmp_path, lines_of_logs).ended()
    assert ended.status == 0, ended.words
    assert "No room to write training/journal.jsonl: it needs " in ended.words
    assert f"No room to write training/seen.bin: it needs {4 * (3 + 1) * 102:,} bytes, " in ended.words
    assert [row.step for row in journal.read(tmp_path / "training/journal.jsonl", 0)[0]] == [0, 1, 2]
    assert [record.step for record in seen.read(tmp_path / "training/seen.bin")] == [0, 1, 2, 2]


def refused(work: Callable[[], object], name: str, limit: int) -> None:
    """Do work for which there is no room, and say what it says."""
    with no_room(name, limit):
        try:
            work()
        except UserError as error:
            print(error)
        else:
            raise AssertionError(f"there was room for {name}")


def enrolled() -> int:
    """What `test_a_gallery_and_a_ledger` looks at, in a process of its own."""
    picture = bytes(100_000)
    gallery.add("Ada", [picture])
    refused(lambda: gallery.add("Grace", [picture + b"1"]), ".convoy/faces.db", Path(".convoy/faces.db").stat().st_size)
    assert [person.name for person in gallery.people()] == ["Ada"]
    gallery.add("Grace", [picture + b"1"])
    assert [person.name for person in gallery.people()] == ["Ada", "Grace"]
    act = Act(action="refuse", model="digits", who="ada", via="command", why="x" * 10_000)
    ledger.append(act)
    database = Path(".convoy/ledger.db")
    refused(lambda: ledger.append(act), str(database), database.stat().st_size)
    assert ledger.verify() is None and len(ledger.history("digits", ("refuse",))) == 1
    with no_room(".convoy/ledger.head", 10):  # what is entered stands; its mark is one behind
        ledger.append(act)
    assert ledger.verify() is None
    ledger.append(act)
    assert ledger.verify() is None and len(ledger.history("digits", ("refuse",))) == 3
    return 0


def test_a_gallery_and_a_ledger(tmp_path: Path) -> None:
    (tmp_path / ".convoy").mkdir()
    ended = Forked(tmp_path, enrolled).ended()
    assert ended.status == 0, ended.words
    lines = ended.words.splitlines()
    names = (".convoy/faces.db", ".convoy/ledger.db")
    assert [line.partition(": ")[0] for line in lines] == [f"No room to write {name}" for name in names]
    assert not unfinished(tmp_path)


@pytest.mark.slow
def test_an_export(places: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    """All of it or nothing."""
    dataset = places["train"][1] / "out/dataset"
    ended = Forked(tmp_path, functools.partial(exported, dataset)).ended()
    assert ended.status == 0, ended.words
    line, again = ended.words.splitlines()
    assert line.startswith("No room to write folder/t") and "it needs " in line
    assert again == "[]"
    assert len(list((tmp_path / "folder").rglob("*.png"))) == 60


def exported(dataset: Path) -> int:
    """What `test_an_export` looks at, in a process of its own."""
    opened = Dataset.open(dataset)
    first = next(iter(rows(opened)))
    assert first.label is not None
    name = f"folder/{first.split}/{opened.info.classes[first.label]}/{first.name}"
    refused(lambda: export(Path("folder"), "folder", opened), nameless(name), len(first.data) - 1)
    print(list(Path().iterdir()))
    export(Path("folder"), "folder", opened)
    return 0
