"""`convoy verify` for real: it rebuilds a run, calls it identical, and names what was planted in between."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import databases
import pytest
from PIL import Image
from small_project import commit, convoy, git, make, make_pictures

pytestmark = pytest.mark.slow

NETWORK = Path("pipeline/models/lenet5.py")
LINE = "    return 1.7159 * torch.tanh(sums * (2 / 3))"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pushed run of a dirty tree, many commits ago."""
    home = tmp_path_factory.mktemp("verify")
    project = make(home / "project", make_pictures(home / "pictures"))
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("  threads: 1", "  threads: 0"))
    config = project / ".dvc/config"
    remote = "    remote = storage\n['remote \"storage\"']\n    url = ../../storage\n"
    config.write_text(config.read_text() + remote)  # its last section is `core`
    commit(project, "a remote")
    network = project / NETWORK
    committed = network.read_text()
    assert LINE in committed
    network.write_text(committed.replace(LINE, LINE.replace("1.7159", "1.5")))
    assert "Pushed" in convoy(project, "run", "--push")
    network.write_text(committed.replace(LINE, LINE.replace("1.7159", "0.5")))
    commit(project, "another network")
    (project / "pipeline/train/stage.py").write_text("raise SystemExit('this code is not that of the run')\n")
    commit(project, "a broken stage")
    return project


def verified(project: Path, identical: bool, **environment: str) -> str:
    words = convoy(project, "verify", "latest", status=0 if identical else 1, **environment)
    assert ("identical." in words) == identical
    assert list((project / ".convoy/worktrees").iterdir()) == []
    assert git(project, "status", "--porcelain") == ""
    return words


@contextmanager
def changed(path: Path, text: str) -> Iterator[None]:
    before = path.read_bytes()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def record_of(project: Path) -> Iterator[dict]:
    """The record of the run, to be tampered with."""
    [path] = (project / ".convoy/runs").glob("*/record.json")
    record = json.loads(path.read_text())
    before = path.read_bytes()
    try:
        yield record
    finally:
        path.write_bytes(before)


def tampered(project: Path, record: dict) -> None:
    (project / ".convoy/runs" / record["id"] / "record.json").write_text(json.dumps(record))


def test_a_run_whose_code_is_commits_old_and_was_dirty_is_identical(project: Path) -> None:
    words = verified(project, identical=True)
    assert "train: epoch   1/2" in words  # it trains anew, though the cache and a checkpoint hold what it comes to
    assert [line.split()[0] for line in words.splitlines() if line.endswith("  identical")] == [
        "dataset",
        "policy",
        "weights",
        "scores",
    ]


def test_one_changed_pixel_is_found_in_ingest(project: Path) -> None:
    path = project.parent / "pictures/dark/00.png"
    kept = path.read_bytes()
    image = Image.open(path)
    image.putpixel((3, 3), image.getpixel((3, 3)) ^ 1)
    image.save(path)
    words = verified(project, identical=False)
    path.write_bytes(kept)
    assert "different, from the stage `ingest` on." in words
    assert "  content of dark/00.png: " in words
    assert "The source of the data is not what it was; code and params are." in words


def test_one_changed_label_is_found_in_ingest(project: Path) -> None:
    right, wrong = (project.parent / "pictures" / label / "02.png" for label in ("dark", "light"))
    right.rename(wrong)
    words = verified(project, identical=False)
    wrong.rename(right)
    assert "different, from the stage `ingest` on." in words
    assert "  label of light/02.png: dark -> light" in words


def test_one_changed_param_is_found_in_the_stage_that_reads_it(project: Path) -> None:
    with record_of(project) as record:
        text = record["params_text"]
        assert "\nseed: 0" in text
        tampered(project, record | {"params_text": text.replace("\nseed: 0", "\nseed: 1")})
        words = verified(project, identical=False)
    assert "different, from the stage `train` on." in words
    assert "  seed: 0 -> 1" in words


def test_one_changed_line_of_code_is_found_in_the_stage_that_runs_it(project: Path) -> None:
    with record_of(project) as record:
        assert "+" + LINE.replace("1.7159", "1.5") in record["code"]["patch"]
        patch = record["code"]["patch"].replace(LINE.replace("1.7159", "1.5"), LINE.replace("1.7159", "1.6"))
        tampered(project, record | {"code": record["code"] | {"patch": patch}})
        words = verified(project, identical=False)
    assert "different, from the stage `train` on." in words
    assert f"  {NETWORK}: " in words
    assert "Code or params of this stage are not those that the run had: its record was changed." in words


def test_another_version_of_a_package_is_found_in_the_stage_that_imports_it(project: Path, tmp_path: Path) -> None:
    found = importlib.metadata.distribution("albumentations")
    site = Path(str(found.locate_file("")))
    shutil.copytree(site / "albumentations", tmp_path / "albumentations", ignore=shutil.ignore_patterns("__pycache__"))
    other = (
        "\n_call = Compose.__call__\n\n\ndef _otherwise(self, *given, **named):\n"
        "    made = _call(self, *given, **named)\n    made['image'] = 255 - made['image']\n    return made\n\n\n"
        "Compose.__call__ = _otherwise\n"
    )
    with (tmp_path / "albumentations/core/composition.py").open("a") as module:
        module.write(other)
    info = tmp_path / "albumentations-2.0.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: albumentations\nVersion: 2.0.9\n")
    words = verified(project, identical=False, PYTHONPATH=str(tmp_path))
    assert "different, from the stage `augment` on." in words
    assert f"  package albumentations: {found.version} -> 2.0.9" in words
    assert "the cause is among the above." in words


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core only")
def test_another_number_of_threads_is_found_in_train(project: Path) -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        words = verified(project, identical=False)
    finally:
        os.sched_setaffinity(0, cores)
    assert "different, from the stage `train` on." in words
    assert f"  training threads: {len(cores)} -> 1" in words


def test_a_source_that_is_gone_is_replaced_by_the_recorded_data(project: Path) -> None:
    pictures = project.parent / "pictures"
    pictures.rename(project.parent / "away")
    words = verified(project, identical=True)
    (project.parent / "away").rename(pictures)
    assert "ingest was not rebuilt: data.path: " in words
    assert words.splitlines().count("dataset  " + words.partition("dataset  ")[2].splitlines()[0]) == 1
    assert "as recorded" in words


def test_a_fresh_clone_with_the_remote_verifies_the_champion(project: Path, tmp_path: Path) -> None:
    clone = project.parent / "clone"
    git(project, "clone", "-q", str(project), str(clone))
    databases.give(clone)
    pictures = project.parent / "pictures"
    pictures.rename(project.parent / "away")
    words = convoy(clone, "verify", "champion")
    (project.parent / "away").rename(pictures)
    assert "Fetched" in words
    assert "identical." in words


def test_a_run_that_cannot_be_rebuilt_says_why(project: Path) -> None:
    with record_of(project) as record:
        tampered(project, record | {"code": record["code"] | {"left_out": ["weights.bin"]}})
        words = convoy(project, "verify", "latest", status=1)
        assert "cannot be rebuilt: weights.bin was new, not known to git, and too large to be recorded" in words
        tampered(project, record | {"code": record["code"] | {"commit": "0" * 40}})
        assert "git knows no commit '0000" in convoy(project, "verify", "latest", status=1)
        tampered(project, record | {"code": record["code"] | {"commit": ""}})
        assert "it ran outside a git repository" in convoy(project, "verify", "latest", status=1)
