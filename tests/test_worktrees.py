"""A worktree of its own for a run: what it shares with the project, what it does not, and when it goes."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest
from configobj import ConfigObj
from small_project import commit, git

from flows import worktrees
from pipeline import files
from pipeline.errors import UserError
from pipeline.registry import code


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in a subfolder of its repository."""
    repository = tmp_path / "repository"
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
