"""The branches of the project's repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

from flows.repository import in_git
from pipeline.errors import UserError


def current(project: Path) -> str:
    """The branch that is checked out.

    Raises:
        UserError: there is none.
    """
    found = _git(project, "symbolic-ref", "--quiet", "--short", "HEAD")
    if found.returncode:
        raise UserError("No branch is checked out here. Say which one is to be trained: --branch main.")
    return found.stdout.strip()


def existing(project: Path, branch: str) -> None:
    """Make sure that a branch has a commit.

    Raises:
        UserError: it has none; with the nearest name.
    """
    if _git(project, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}").returncode:
        raise UserError(f"--branch: there is no branch {branch!r} with a commit here; `git branch` lists yours.")


def _git(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if not in_git(project.absolute()):
        raise UserError("A deployment trains commits of a branch: `git init`, then commit the project.")
    try:
        return subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError("git is not installed; a deployment trains commits of a branch.") from None
