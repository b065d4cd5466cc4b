"""A run as a DVC experiment: one commit on top of the commit it started from, which `dvc exp show` lists.

DVC finds experiments by their refs, `refs/exps/<commit they started from>/<name>`. Ours are made by git alone, through
an index of their own: `dvc exp save` moves refs that all working trees share, and would disturb an experiment that
somebody runs in theirs.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from pipeline.errors import UserError

AUTHOR = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Convoy"), ("EMAIL", "convoy@localhost"))
}
"""A scheduled run is nobody's commit, and must not fail where nobody told git a name."""


def save(model: str, run: str, day: str, root: Path = Path()) -> str:
    """Keep params, `dvc.lock` and code of the tree at `root` as an experiment; twice is once.

    Args:
        model: its name in the registry.
        run: id of the run.
        day: when it began, as 2026-11-22.
        root: the project in that tree.

    Returns:
        The experiment's name.

    Raises:
        UserError: git refuses.
    """
    name = f"{re.sub('[^A-Za-z0-9_-]', '-', model)}-{day}-{run[:8]}"
    base = _git(root, "rev-parse", "HEAD")
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(root, "read-tree", "HEAD", **index)
        _git(root, "add", "--all", "--", ":/", **index)
        _git(root, "add", "--force", "--", "dvc.lock", "params.yaml", **index)
        tree = _git(root, "write-tree", **index)
    message = f"Experiment {name}: run {run} of {model}"
    commit = _git(root, "commit-tree", tree, "-p", base, "-m", message, **AUTHOR)
    _git(root, "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", commit)
    return name


def _git(root: Path, *arguments: str, **environment: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, env={**os.environ, **environment}, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        words = getattr(error, "stderr", b"").decode(errors="replace").strip() or str(error)
        raise UserError(f"The run cannot be kept as a DVC experiment: git {arguments[0]}: {words}") from error
    return done.stdout.decode().strip()
