"""News at a source: what a sample's line says, what counts as new, and whose params say where to look."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from flows.schedule import news
from flows.schedule.request import Request
from pipeline.errors import UserError
from pipeline.formats import digits, folder

PARAMS = (Path(__file__).parents[1] / "params.yaml").read_text()


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Four pictures and what else lies about; what the bytes are is for the decoder to say."""
    root = tmp_path / "pets"
    for name in ("cat/1.jpg", "cat/2.JPG", "dog/1.png", "dog/2.png", "dog/.hidden.png", "notes.txt", "cat/Thumbs.db"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def names(source: Path, inside: str = "") -> list[str]:
    return [line.split("\t")[0] for line in folder.Config(path=str(source), inside=inside).listing()]


def test_a_folder_lists_its_pictures_and_nothing_else(pets: Path) -> None:
    assert names(pets) == ["cat/1.jpg", "cat/2.JPG", "dog/1.png", "dog/2.png"]
    assert names(pets, inside="./dog") == ["dog/1.png", "dog/2.png"]
    (first, *_) = folder.Config(path=str(pets)).listing()
    assert first.split("\t")[1:3] == ["9", str((pets / "cat/1.jpg").stat().st_mtime_ns)]


def test_an_archive_lists_its_members(pets: Path, tmp_path: Path) -> None:
    for suffix, form in (("zip", "zip"), ("tar.gz", "gztar")):
        shutil.make_archive(str(tmp_path / "packed"), form, pets)
        assert sorted(names(tmp_path / f"packed.{suffix}")) == names(pets)
    assert tarfile.is_tarfile(tmp_path / "packed.tar.gz")


def test_a_zip_tells_changed_bytes_of_the_same_size(tmp_path: Path) -> None:
    lines = []
    for content in ("one", "two"):
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            archive.writestr("cat/1.jpg", content)
            archive.writestr("cat/2.jpg", "same")
        lines.append(set(folder.Config(path=str(tmp_path / "set.zip")).listing()))
    assert [line.split("\t")[0] for line in lines[1] - lines[0]] == ["cat/1.jpg"]


def test_the_digits_never_change() -> None:
    assert list(digits.Config().listing()) == list(digits.Config().fingerprint())


def test_new_and_changed_samples_count_and_removed_ones_do_not(pets: Path, tmp_path: Path) -> None:
    form = folder.Config(path=str(pets))
    first = news.look(tmp_path, "nightly", form)
    assert (len(first.lines), first.fresh) == (4, None)
    news.remember(tmp_path, "nightly", first.lines)
    assert news.look(tmp_path, "nightly", form).fresh == 0
    assert news.look(tmp_path, "other", form).fresh is None  # each deployment counts for itself
    (pets / "cat/3.jpg").write_bytes(b"new")
    os.utime(pets / "dog/1.png", ns=(1, 1))
    (pets / "dog/2.png").unlink()
    (pets / "notes.txt").write_text("no picture")
    second = news.look(tmp_path, "nightly", form)
    assert second.fresh == 2
    assert news.digest(second.lines) != news.digest(first.lines)
    with pytest.raises(UserError, match="is no name of a deployment"):
        news.remember(tmp_path, "../../x", [])


def test_the_source_is_what_the_branch_says_with_the_assignments(pets: Path, tmp_path: Path) -> None:
    project = tmp_path / "repository" / "in" / "it"
    project.mkdir(parents=True)
    (project / "params.yaml").write_text(PARAMS)
    git(tmp_path / "repository", "init", "-q", "-b", "main")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "digits")
    (project / "params.yaml").write_text("edited, and not committed")
    assert isinstance(news.source(project, Request.model_validate({"branch": "main"})), digits.Config)
    of_pets = Request.model_validate({"branch": "main", "set": [f"data={{name: folder, path: {pets}}}"]})
    assert news.source(project, of_pets) == folder.Config(path=str(pets))
    for request, words in (
        ({"branch": "none"}, "Branch 'none' has no params.yaml that could be read. git says: "),
        ({"branch": "main", "set": ["data={name: foldr}"]}, "params.yaml of branch main: 1 problem"),
        ({"branch": "main", "set": ["dta.name=folder"]}, "no such section. Did you mean 'data'?"),
    ):
        with pytest.raises(UserError) as error:
            news.source(project, Request.model_validate(request))
        assert words in str(error.value)
