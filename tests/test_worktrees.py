"""A worktree of its own for a run: what it shares with the project, what it does not, and when it goes."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest
from configobj import ConfigObj
from small_project import commit, git

from flows import settings, worktrees
from flows.schedule.request import Request
from flows.worker import due
from pipeline import files
from pipeline.errors import UserError
from pipeline.registry import code


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in a subfolder of its repository, in a folder as people call theirs."""
    repository = tmp_path / "Jürgen's `pets`"
    project = repository / "vision"
    (project / ".dvc").mkdir(parents=True)
    (project / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (project / ".dvc/config").write_text(
        "[core]\n    remote = near\n['remote \"near\"']\n    url = ../../storage\n['remote \"far\"']\n    url = s3://bucket/x\n"
    )
    (project / ".gitignore").write_text(".convoy/\n")
    (project / "dvc.yaml").write_text("stages: {}\n")
    (project / "params.yaml").write_text("seed: 0\n")
    git(repository, "init", "-q", "-b", "main")
    commit(repository, "one")
    return project


def test_a_tree_holds_the_commit_and_shares_cache_remotes_and_state(project: Path, monkeypatch) -> None:
    (project / ".dvc/config.local").write_text("['remote \"far\"']\n    secret_access_key = hidden\n")
    root = worktrees.open_for(project, "a", "main")
    assert root == project / ".convoy/worktrees/a/vision"
    config = ConfigObj(str(root / ".dvc/config.local"))
    assert config["cache"]["dir"] == str(project / ".dvc/cache")
    assert config['remote "near"']["url"] == str(project.parent / "storage")
    assert config['remote "far"'] == {"secret_access_key": "hidden"}
    assert (root / ".dvc/config.local").stat().st_mode & 0o777 == 0o600
    assert git(root, "status", "--porcelain").splitlines() == []
    monkeypatch.chdir(root)
    assert files.in_worktree()
    assert files.project() == project
    assert files.shared() == project / ".convoy"
    monkeypatch.chdir(project)
    assert not files.in_worktree()
    assert files.shared() == Path(".convoy")


def test_a_tree_that_is_there_keeps_its_commit_and_files(project: Path) -> None:
    root = worktrees.open_for(project, "a", "main")
    (root / "kept").touch()
    (project / "new").touch()
    commit(project, "two")
    assert worktrees.open_for(project, "a", "main") == root
    assert (root / "kept").exists()
    assert not (root / "new").exists()
    assert (worktrees.open_for(project, "b", "main") / "new").exists()


def test_a_tree_that_was_half_made_is_made_anew(project: Path) -> None:
    root = worktrees.open_for(project, "a", "main")
    (root / ".convoy/shared").unlink()
    (root / "params.yaml").unlink()
    assert (worktrees.open_for(project, "a", "main") / "params.yaml").exists()


def test_what_is_not_committed_comes_along_as_a_patch(project: Path) -> None:
    (project / "params.yaml").write_text("seed: 1\n")
    (project / "new.py").write_text("new = True\n")
    (project / "dvc.yaml").chmod(0o755)
    root = worktrees.open_for(project, "a", "HEAD", code.read(project).patch)
    assert (root / "params.yaml").read_text() == "seed: 1\n"
    assert (root / "new.py").read_text() == "new = True\n"
    assert (root / "dvc.yaml").stat().st_mode & 0o111


def test_what_is_no_utf8_comes_along_byte_for_byte_whatever_git_is_told_to_show(project: Path) -> None:
    (project / "notes.txt").write_bytes("café\nthé\n".encode("latin-1"))
    commit(project, "two")
    (project / "notes.txt").write_bytes("café\nthé à la menthe\n".encode("latin-1"))
    (project / "new.txt").write_bytes(b"\xff\n")
    for key, value in {"diff.noprefix": "true", "color.diff": "always", "diff.context": "0"}.items():
        git(project, "config", key, value)
    odd = os.fsdecode(b"caf\xe9.txt")
    for name in ("né.txt", ":(top)x.txt", "a[1]*.txt", odd):
        (project / name).write_text("né\n")
    patch = code.read(project).patch
    patch.encode("ascii")
    root = worktrees.open_for(project, "a", "main", patch)
    for name in ("notes.txt", "new.txt", "né.txt", ":(top)x.txt", "a[1]*.txt", odd):
        assert (root / name).read_bytes() == (project / name).read_bytes()


def test_a_hook_of_the_repository_does_not_run_in_it(project: Path) -> None:
    hook = project.parent / ".git/hooks/post-checkout"
    hook.write_text("#!/bin/sh\ntouch $PWD/hooked\n")
    hook.chmod(0o755)
    worktrees.open_for(project, "a", "main")
    assert list(project.parent.rglob("hooked")) == []


def test_a_tree_for_a_proof_takes_over_no_state(project: Path, monkeypatch) -> None:
    root = worktrees.make(project, "a", "main")
    monkeypatch.chdir(root)
    assert files.shared() == Path(".convoy")
    assert files.project() == project  # a relative path of the data leads there


def test_closing_leaves_nothing_and_twice_is_once(project: Path) -> None:
    worktrees.open_for(project, "a", "main")
    worktrees.close(project, "a")
    worktrees.close(project, "a")
    assert list((project / ".convoy/worktrees").iterdir()) == []
    assert len(git(project, "worktree", "list").splitlines()) == 1


def test_old_trees_are_swept_unless_a_run_works_in_them(project: Path) -> None:
    week = 7 * 86400 + 60
    for name in ("old", "new", "busy"):
        root = worktrees.open_for(project, name, "main")
        if name != "new":
            os.utime(worktrees.folder(project, name), (time.time() - week,) * 2)
    with (root / ".convoy/run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert worktrees.idle(project) == ["new", "old"]
        assert worktrees.sweep(project) == ["old"]
    assert sorted(path.name for path in (project / ".convoy/worktrees").iterdir()) == ["busy", "new"]


def test_a_tree_whose_process_was_killed_is_swept_at_once(project: Path) -> None:
    for name in (worktrees.named_here("by-hand"), "verify-1-pid4194305"):  # above the kernel's largest number
        worktrees.open_for(project, name, "main")
    assert worktrees.sweep(project) == ["verify-1-pid4194305"]


def test_a_tree_that_cannot_be_removed_is_told_and_is_in_nobodys_way(project: Path) -> None:
    worktrees.open_for(project, "verify-1-pid4194305", "main")
    link = project / ".convoy/worktrees/verify-2-pid4194305"
    link.symlink_to(project)  # which rmtree refuses
    assert worktrees.sweep(project) == ["verify-1-pid4194305"]
    with pytest.raises(UserError, match=rf"{link} cannot be removed \(.*link.*\)\. Give yourself the right to, or"):
        worktrees.close(project, link.name)
    assert (project / "dvc.yaml").exists()


def test_a_branch_goes_before_a_tag_of_its_name(project: Path) -> None:
    git(project, "tag", "main")
    (project / "dvc.yaml").write_text("stages: {a: {cmd: a}}\n")
    commit(project, "two")
    assert worktrees.resolve(project, "main") == git(project, "rev-parse", "HEAD~").strip()  # git's own rule
    assert worktrees.resolve(project, due.ref_of(Request(branch="main"))) == git(project, "rev-parse", "HEAD").strip()
    assert due.ref_of(Request()) == "HEAD"


def test_a_hook_may_ask_for_a_tree(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"GIT_DIR": ".git", "GIT_INDEX_FILE": ".git/index"}.items():  # as git tells a hook
        monkeypatch.setenv(name, value)
    for name, value in settings.environment(project).items():
        monkeypatch.setenv(name, value)
    settings.apply(project)
    assert (worktrees.open_for(project, "a", "main") / "dvc.yaml").exists()


def test_a_commit_without_dvcs_folder_is_given_one(project: Path) -> None:
    git(project, "rm", "-q", "-r", "--cached", ".dvc")
    commit_all = ("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "-m", "two")
    git(project, *commit_all)
    root = worktrees.open_for(project, "a", "main")
    assert ConfigObj(str(root / ".dvc/config.local"))["cache"]["dir"] == str(project / ".dvc/cache")


@pytest.mark.parametrize("ref", ["nowhere", "--help", "main:vision", "a" * 40, ""])
def test_what_is_no_commit_is_refused(project: Path, ref: str) -> None:
    with pytest.raises(UserError, match="git knows no commit"):
        worktrees.open_for(project, "a", ref)
    assert not (project / ".convoy/worktrees/a").exists()


def test_a_commit_without_the_project_is_refused(project: Path) -> None:
    git(project, "rm", "-q", "dvc.yaml")
    commit(project, "no project")
    with pytest.raises(UserError, match=r"'main' \([0-9a-f]{12}\) holds no project: it has no vision/dvc.yaml"):
        worktrees.open_for(project, "a", "main")
    assert not (project / ".convoy/worktrees/a").exists()


def test_outside_git_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs git: `git init`, then commit the project"):
        worktrees.open_for(tmp_path, "a", "HEAD")


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".", "-a"])
def test_a_name_is_a_file_name(project: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a worktree"):
        worktrees.folder(project, name)
