"""Which code is at work: the commit, and a patch of what is not committed.

A patch is taken through an index of its own, so that neither the user's index nor the object store changes.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

MAX_NEW_FILE = 1_000_000
"""Bytes; a larger file that git does not know is named beside the patch instead of going into it."""
RECORDED_APART = ":(exclude)dvc.lock"  # a run writes it itself, so it does not make the tree dirty


@dataclass(frozen=True)
class Code:
    """The state of the working tree; all empty outside a git repository."""

    commit: str = ""
    branch: str = ""
    patch: str = field(default="", repr=False)
    """From `commit` to the files as they lie there, new files included; empty if the tree is clean."""
    left_out: tuple[str, ...] = ()
    """New files too large for the patch."""

    @property
    def dirty(self) -> bool:
        """Whether the commit alone does not say what ran."""
        return bool(self.patch or self.left_out)


def read(root: Path = Path()) -> Code:
    """The code in `root`."""
    commit = _git(root, "rev-parse", "HEAD").strip()
    if not commit:
        return Code()
    branch = _git(root, "rev-parse", "--abbrev-ref", "HEAD").strip()
    new = [name for name in _git(root, "ls-files", "-z", "--others", "--exclude-standard", ".").split("\0") if name]
    large = tuple(sorted(name for name in new if _size(root / name) > MAX_NEW_FILE))
    small = [name for name in new if name not in large and name != "dvc.lock"]
    with tempfile.TemporaryDirectory() as folder:
        # A new index: the commit's files, and the new ones marked as "to be added", which stores no content.
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(root, "read-tree", "HEAD", **index)
        if small:
            listed = Path(folder) / "new"
            listed.write_text("\0".join(small))
            _git(root, "add", "--intent-to-add", f"--pathspec-from-file={listed}", "--pathspec-file-nul", **index)
        patch = _git(root, "diff", "--binary", "--no-ext-diff", "HEAD", "--", ":/", f"{RECORDED_APART}", **index)
    return Code(commit, "" if branch == "HEAD" else branch, patch, large)


def _git(root: Path, *arguments: str, **environment: str) -> str:
    """What git prints, or nothing where it fails: no git, no repository, no commit yet."""
    try:
        done = subprocess.run(
            ["git", "-c", "core.quotePath=false", *arguments],
            cwd=root,
            env={**os.environ, "GIT_LITERAL_PATHSPECS": "0", "GIT_OPTIONAL_LOCKS": "0", **environment},
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
