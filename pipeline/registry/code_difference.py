"""What two runs' code differs in, patches included: each state becomes a tree of git's, in a store of its own."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.registry.runs import CodeOf

COMPARED_APART = ("params.yaml", "dvc.lock")
WIDTH = 64
"""Of the table of files: an 80-column terminal, less what stands before it."""
COMMIT = re.compile("[0-9a-f]{40,64}")


class CodeDifference(Options):
    """Between the code of two runs, but for params.yaml and dvc.lock, which are compared on their own."""

    before: str
    """Commit; empty outside a git repository."""
    after: str
    same: bool
    stat: str
    """As `git diff --stat` says it; empty where it is the same or cannot be told."""
    note: str
    """Why the states cannot be compared file by file, if so."""


def compare(before: CodeOf, after: CodeOf, root: Path = Path()) -> CodeDifference:
    """Compare the states of two runs, as far as their commits are here."""
    if before == after and before.commit and not before.left_out:
        return CodeDifference(before=before.commit, after=after.commit, same=True, stat="", note="")
    notes = [_unknown(which, code, root) for which, code in (("first", before), ("second", after))]
    notes += [
        f"New files were too large for the {which} patch: {', '.join(code.left_out)}."
        for which, code in (("first", before), ("second", after))
        if code.left_out
    ]
    if not any(notes[:2]):
        try:
            stat, note = _stat(before, after, root), " ".join(filter(None, notes))
            same = not stat and not note
            return CodeDifference(before=before.commit, after=after.commit, same=same, stat=stat, note=note)
        except UserError as error:
            notes.append(str(error))
    same = before.digest == after.digest
    notes.append(f"The package `pipeline` {'is the same' if same else 'differs'}, by its digest.")
    note = " ".join(filter(None, notes))
    return CodeDifference(before=before.commit, after=after.commit, same=same, stat="", note=note)


def _unknown(which: str, code: CodeOf, root: Path) -> str:
    """Why the commit cannot be looked at; empty if it can."""
    if not code.commit:
        return f"The {which} run was made outside a git repository."
    if not COMMIT.fullmatch(code.commit):  # a record may come from elsewhere, and git would read an option
        return f"The {which} record names {code.commit!r}, which is no commit."
    try:
        _git(root, "cat-file", "-e", f"{code.commit}^{{commit}}")
    except UserError:
        return f"Commit {code.commit[:12]} of the {which} run is not here: `git fetch --all` may bring it."
    return ""


def _stat(before: CodeOf, after: CodeOf, root: Path) -> str:
    top = Path(_git(root, "rev-parse", "--show-toplevel").decode("utf-8", "surrogateescape").rstrip("\n"))
    prefix = _git(root, "rev-parse", "--show-prefix").decode("utf-8", "surrogateescape").rstrip("\n")
    apart = [f":(exclude,top,literal){prefix}{name}" for name in COMPARED_APART]
    with tempfile.TemporaryDirectory() as folder:
        objects = Path(folder) / "objects"
        objects.mkdir()
        ours = _git(root, "rev-parse", "--path-format=absolute", "--git-path", "objects").decode().rstrip("\n")
        # What the patches add is written beside the repository, not into it.
        store = {"GIT_OBJECT_DIRECTORY": str(objects), "GIT_ALTERNATE_OBJECT_DIRECTORIES": ours}
        trees = [
            _tree(code, top, store | {"GIT_INDEX_FILE": f"{folder}/index-{n}"})
            for n, code in enumerate((before, after))
        ]
        options = ["--no-ext-diff", "--no-textconv", f"--stat={WIDTH}"]
        shown = _git(top, "-c", "core.quotePath=true", "diff", *options, *trees, "--", ":/", *apart, **store)
    return shown.decode("utf-8", "replace").rstrip("\n")


def _tree(code: CodeOf, top: Path, environment: dict[str, str]) -> str:
    _git(top, "read-tree", code.commit, **environment)
    if code.patch:
        _git(top, "apply", "--cached", "--binary", "--whitespace=nowarn", "-", given=code.patch, **environment)
    return _git(top, "write-tree", **environment).decode().strip()


def _git(root: Path, *arguments: str, given: str = "", **environment: str) -> bytes:
    try:
        return subprocess.run(
            ["git", "-c", "core.hooksPath=/dev/null", *arguments],
            cwd=root,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", **environment},
            input=given.encode("utf-8", "surrogateescape"),
            capture_output=True,
            check=True,
        ).stdout
    except FileNotFoundError:
        raise UserError("git is not installed, so the two states cannot be compared.") from None
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(
            f"The two states cannot be compared: git {arguments[0]}: {words[-1] if words else ''}"
        ) from error
