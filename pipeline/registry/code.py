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
PLAIN = (
    *("--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--no-relative", "--submodule=short", "--unified=3"),
    *("--src-prefix=a/", "--dst-prefix=b/"),
)
"""A patch that `git apply` takes, whatever the user's configuration makes of one for the eye."""
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
    commit = os.fsdecode(_git(root, "rev-parse", "HEAD")).strip()
    if not commit:
        return Code()
    branch = os.fsdecode(_git(root, "rev-parse", "--abbrev-ref", "HEAD")).strip()
    listed = os.fsdecode(_git(root, "ls-files", "-z", "--others", "--exclude-standard", "."))
    new = [name for name in listed.split("\0") if name]
    large = sorted(name for name in new if _size(root / name) > MAX_NEW_FILE)
    small = [name for name in new if name not in large and name != "dvc.lock"]
    with tempfile.TemporaryDirectory() as folder:
        # A new index: the commit's files, and the new ones marked as "to be added", which stores no content.
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(root, "read-tree", "HEAD", **index)
        if small:
            names = Path(folder) / "new"
            names.write_bytes(os.fsencode("\0".join(small)))
            add = ("add", "--intent-to-add", f"--pathspec-from-file={names}", "--pathspec-file-nul")
            _git(root, *add, **index, GIT_LITERAL_PATHSPECS="1")  # a name may begin with a colon
        patch = _patch(root, Path(folder) / "attributes", index)
    return Code(_text(commit), "" if branch == "HEAD" else _text(branch), patch, tuple(map(_text, large)))


def _patch(root: Path, attributes: Path, index: dict[str, str]) -> str:
    """From the commit to the files as they lie there; where a line is no UTF-8, as if all files were binary."""
    diff = ("diff", *PLAIN, "HEAD", "--", ":/", RECORDED_APART)
    try:
        return _git(root, *diff, **index).decode()
    except UnicodeDecodeError:  # a record is text, and a patch with a letter replaced would fit nothing
        attributes.write_text("* -diff\n")
    options = ("-c", f"core.attributesFile={attributes}", "-c", "core.quotePath=true")
    return _git(root, *options, *diff, **index).decode(errors="replace")


def _text(name: str) -> str:
    """A name for a record, with a mark for each letter that is no UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def _git(root: Path, *arguments: str, **environment: str) -> bytes:
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
        return b""
    return done.stdout


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
