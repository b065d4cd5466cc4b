"""`convoy rerun`: the code and params of a recorded run once more, in a worktree of its own, on the data of today."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from flows import worktrees
from flows.isolated import run_in_tree
from flows.records.finding import look_up
from flows.repository import in_git
from pipeline.door import PARAMS
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.registry import attempts
from pipeline.registry.code import Code
from pipeline.registry.glances import SHOWN, Glance


@dataclass(frozen=True)
class Recipe:
    """What a run was made of, but for its data."""

    run: str
    """Its id, as people see it."""
    code: Code
    params_text: str


def rerun(project: Path, name: str) -> int:
    """Run again what `name` means; the exit status.

    Args:
        project: root of the project, which is the current folder; nothing in it is touched.
        name: of a run, see `flows.records.finding.find`.

    Raises:
        UserError: there is no such run, it is at work, or what it was made of is not known here.
    """
    recipe = recipe_of(name)
    _refuse_incomplete(project, recipe)
    code = recipe.code
    changes = " with its changes" * bool(code.patch)
    print(
        f"Run {recipe.run} again: commit {code.commit[:12]}{changes}, its params, and the data as they are now.",
        flush=True,
    )
    return run_in_tree(project, code.commit, code.patch, lambda: write_text(PARAMS, recipe.params_text))


def recipe_of(name: str) -> Recipe:
    """Of a finished run from its record, of one that stopped short from what it noted when it began."""
    found = look_up(name)
    if not isinstance(found, Glance):
        of = found.code
        return Recipe(found.id[:SHOWN], Code(of.commit, of.branch, of.patch, tuple(of.left_out)), found.params_text)
    run = found.id[:SHOWN]
    if found.state == "working":
        raise UserError(f"Run {run} is at work; it can be run again once it has ended.")
    attempt = attempts.read(found.id)
    try:
        code = Code(**json.loads((attempts.folder(found.id) / attempts.CODE).read_bytes()))
    except (OSError, ValueError, TypeError):
        code = None
    if attempt is None or code is None or not attempt.params:
        raise UserError(
            f"Run {run} stopped short, and what it was made of was not noted: an earlier version of Convoy began it. "
            "`convoy run` goes on with it if params, code and data are the same."
        )
    return Recipe(run, code, yaml.safe_dump(attempt.params, sort_keys=False, allow_unicode=True))


def _refuse_incomplete(project: Path, recipe: Recipe) -> None:
    what = f"Run {recipe.run} cannot be run again:"
    commit, left_out = recipe.code.commit, recipe.code.left_out
    if not commit:
        raise UserError(f"{what} it ran outside a git repository, so its code is not known.")
    if left_out:
        names = ", ".join(left_out[:3])
        raise UserError(f"{what} {names} was new, not known to git, and too large to be recorded with it.")
    if not in_git(project.absolute()):
        return  # the worktree's own words say so
    try:
        worktrees.resolve(project, commit)
    except UserError:
        raise UserError(
            f"{what} its commit {commit[:12]} is not in this repository. `git fetch --all` brings it, if it was pushed."
        ) from None
