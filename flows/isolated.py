"""`convoy run --isolated`: the run works in a git worktree of its own, and comes home as a DVC experiment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from flows import worktrees
from flows.run import change_params
from pipeline.errors import UserError
from pipeline.registry import code


def run_isolated(project: Path, ref: str, arguments: Sequence[str], params_file: Path | None) -> int:
    """Run in a tree of its own; the exit status.

    Args:
        project: root of the project, which is the current folder; nothing in it is touched.
        ref: branch, tag or commit to run; empty is the working tree as it stands, uncommitted changes included.
        arguments: of `convoy run` in that tree.
        params_file: whose text takes the place of its params.yaml.

    Raises:
        UserError: no such commit, or a file that cannot come along.
    """
    worktrees.sweep(project)
    patch = "" if ref else _changes(project)
    name = f"by-hand-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    root = worktrees.open_for(project, name, ref or "HEAD", patch)
    try:
        os.chdir(root)
        change_params([], params_file)
        process = subprocess.Popen([sys.executable, "-m", "flows.cli", "run", *arguments], cwd=root)
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the terminal has told the run as well, and it keeps what is done
                continue
    finally:
        os.chdir(project)
        worktrees.close(project, name)


def _changes(project: Path) -> str:
    """What is not committed, as a patch."""
    found = code.read(project)
    if found.left_out:
        listed = ", ".join(found.left_out[:3])
        raise UserError(
            f"{listed}: new, not known to git, and too large to come along. Commit it or add it to .gitignore; "
            "or run a commit as it is: --isolated --ref HEAD."
        )
    return found.patch
