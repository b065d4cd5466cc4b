"""The git repository that a project may lie in, and whether git can read it."""

from __future__ import annotations

import subprocess
from pathlib import Path

UNBORN = "Needed a single revision"
"""What git says where nothing is committed yet."""


def in_git(root: Path) -> bool:
    """Whether `root` lies in a git repository."""
    return any((folder / ".git").exists() for folder in [root, *root.parents])


def unreadable(root: Path) -> str:
    """Why git cannot name the commit that its repository at `root` is at, in its words; nothing where it can."""
    command = ["git", "rev-parse", "--verify", "HEAD^{commit}"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, errors="replace")
    except FileNotFoundError:
        return "git is not installed"
    if not done.returncode:
        return ""
    words = (done.stderr.strip().splitlines() or [f"git ends with status {done.returncode}"])[0]
    return "nothing is committed yet" if UNBORN in words else words.removeprefix("fatal: ")
