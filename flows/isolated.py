"""A run works in a git worktree of its own, and comes home as a DVC experiment: `run --isolated`, `rerun`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows import worktrees
from flows.run import change_params
from pipeline.errors import UserError
from pipeline.interrupts import EXIT_CODE
from pipeline.registry import code


@dataclass(frozen=True)
class Wish:
    """What to run in a tree of its own."""

    ref: str
    """Branch, tag or commit; empty is the working tree as it stands, uncommitted changes included."""
    params: Path | None
    """A file whose text takes the place of params.yaml."""
    push: bool
    resume: str = ""
    """Of a training that was begun elsewhere, see `flows.schedule.request.Request`."""

    @property
    def options(self) -> list[str]:
        """As `convoy run` takes them."""
        return [*["--push"] * self.push, *(["--resume", self.resume] if self.resume else [])]


def run_isolated(project: Path, wish: Wish, assignments: Sequence[str]) -> int:
    """Run in a tree of its own; the exit status.

    Args:
        project: root of the project, which is the current folder; nothing in it is touched.
        wish: what to run.
        assignments: changes to its params.yaml.

    Raises:
        UserError: no such commit, or a file that cannot come along.
    """
    patch = "" if wish.ref else _changes(project)
    return run_in_tree(
        project, wish.ref or "HEAD", patch, lambda: change_params(assignments, wish.params), wish.options
    )


def run_in_tree(project: Path, ref: str, patch: str, prepare: Callable[[], object], options: Sequence[str] = ()) -> int:
    """Run a commit in a tree that is made for it and removed after it; the exit status.

    Args:
        project: root of the project, which is the current folder.
        ref: branch, tag or commit.
        patch: changes to make to it, from `pipeline.registry.code`.
        prepare: called in the tree before the run begins; the tree is the current folder meanwhile.
        options: of `convoy run`.

    Raises:
        UserError: no git, no such commit, or what `prepare` says.
    """
    name = worktrees.named_here("by-hand")
    worktrees.root_of(project, name)  # says so where there is no git
    worktrees.sweep(project)
    root = worktrees.open_for(project, name, ref, patch)
    try:
        os.chdir(root)
        prepare()
        return _waited_for([sys.executable, "-m", "flows.cli", "run", *options], root)
    finally:
        os.chdir(project)
        worktrees.close(project, name)


def run_queue(project: Path, wish: Wish, queue: Sequence[Sequence[str]]) -> int:
    """Run several experiments, one after the other; one that fails does not keep the rest from being run.

    Args:
        project: root of the project, which is the current folder.
        wish: what to run.
        queue: the assignments of each.

    Returns:
        The exit status: of the first that failed, if one did.
    """
    print(f"{len(queue)} experiments, one after the other, each in a tree of its own.", flush=True)
    ends: list[int] = []
    for number, assignments in enumerate(queue, start=1):
        print(f"\nExperiment {number} of {len(queue)}: {' '.join(assignments)}", flush=True)
        try:
            ends.append(run_isolated(project, wish, assignments))
        except UserError as error:
            print(error, file=sys.stderr)
            ends.append(error.status)
        if ends[-1] == EXIT_CODE:
            print(f"\n{len(queue) - number} experiments are left; the same command goes on with this one.")
            return EXIT_CODE
    print()
    for assignments, end in zip(queue, ends, strict=True):
        print(f"{' '.join(assignments)}: {'done' if end == 0 else 'failed; its words are above'}")
    print("`convoy runs` and `dvc exp show` compare them.")
    return next((end for end in ends if end), 0)


def _waited_for(command: Sequence[str], root: Path) -> int:
    process = subprocess.Popen(command, cwd=root)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # of it nobody but us tells the run
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the terminal has told the run as well, and it keeps what is done
                continue
    finally:
        signal.signal(signal.SIGTERM, before)


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
