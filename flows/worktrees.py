"""A git worktree of its own for a run: nobody's working files are touched, and nobody's touch the run.

    .convoy/worktrees/NAME/          the whole repository at one commit; DVC's cache is the project's
    .convoy/worktrees/NAME/.convoy/  the tree's own state, with a link `project` to the project

A worktree is removed when its run has ended. One whose scheduled run was killed is kept, for the flow run to go on at
the same commit, and removed when it has been left alone for `KEPT_DAYS`. One that a person asked for ends with that
process: what was done lies in the state that all trees share, and another tree goes on with it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from flows.alone import holder
from flows.repository import in_git
from pipeline.errors import UserError, shortened
from pipeline.files import PROJECT, SHARED, STATE

HOME = STATE / "worktrees"
KEPT_DAYS = 7
LONGEST = 400
"""Characters of what git says in an error."""
LOCK = STATE / "run.lock"
"""Held by the run that works in a tree."""


def open_for(project: Path, name: str, ref: str, patch: str = "") -> Path:
    """The project's root in the worktree `name` of a run: found again as it is, or made.

    Args:
        project: root of the project, in the user's working tree.
        name: of the worktree, a file name.
        ref: branch, tag or commit to check out; a worktree that is there keeps its commit.
        patch: changes to make to it, from `pipeline.registry.code`.

    Raises:
        UserError: no git repository, no such commit, or a patch that does not fit.
    """
    root = root_of(project, name)
    if not (root / SHARED).is_symlink():
        root = make(project, name, ref, patch)
        (root / SHARED).symlink_to((project / STATE).resolve())  # last: it says that the worktree is whole
    return root


def make(project: Path, name: str, ref: str, patch: str = "") -> Path:
    """A new worktree that shares DVC's cache with the project and no state: as a fresh clone. See `open_for`."""
    place, root = folder(project, name), root_of(project, name)
    close(project, name)
    commit = resolve(project, ref)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        # A hook of the repository is meant for the user's tree: DVC's own would check out every output here.
        _git(project, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", "--", str(place), commit)
        if not (root / "dvc.yaml").is_file():
            raise UserError(
                f"{ref!r} ({commit[:12]}) holds no project: it has no {root.relative_to(place) / 'dvc.yaml'}."
            )
        if patch:
            _git(place, "apply", "--binary", "--whitespace=nowarn", "-", given=patch)
        share_dvc(project, root)
        (root / STATE).mkdir(exist_ok=True)
        (root / PROJECT).symlink_to(project.resolve())
    except BaseException:
        close(project, name)
        raise
    return root


def close(project: Path, name: str) -> None:
    """Remove the worktree `name`, whatever state it is in.

    Raises:
        UserError: it cannot be removed.
    """
    place = folder(project, name)
    try:
        while place.exists():
            with suppress(FileNotFoundError):  # of what another process removes meanwhile
                shutil.rmtree(place)
    except OSError as error:
        raise UserError(
            f"{error.filename or place} cannot be removed ({error.strerror or error}). Give yourself the right to, or "
            f"remove {place} by hand."
        ) from error
    _git(project, "worktree", "prune")


def sweep(project: Path) -> list[str]:
    """Remove the worktrees that nobody works in and that were left alone for `KEPT_DAYS`; their names.

    One that cannot be removed is in nobody's way: `convoy gc` says what keeps it.
    """
    removed = []
    for name in left(project):
        with suppress(UserError):
            close(project, name)
            removed.append(name)
    return removed


def left(project: Path) -> list[str]:
    """The worktrees that nobody works in, and whose process has ended or that were left alone for `KEPT_DAYS`."""
    oldest = time.time() - KEPT_DAYS * 86400
    return [name for name in idle(project) if _is_orphan(name) or _made(folder(project, name)) < oldest]


def named_here(what: str) -> str:
    """A name for a worktree that ends with this process."""
    return f"{what}-{time.strftime('%Y%m%d-%H%M%S')}-pid{os.getpid()}"


def _made(place: Path) -> float:
    try:
        return place.stat().st_mtime
    except FileNotFoundError:  # removed by another process meanwhile
        return time.time()


def _is_orphan(name: str) -> bool:
    _, marked, process = name.rpartition("-pid")
    return bool(marked) and process.isdecimal() and not psutil.pid_exists(int(process))


def idle(project: Path) -> list[str]:
    """The worktrees that no run works in."""
    prefix = _git(project, "rev-parse", "--show-prefix").strip()
    places = sorted((project / HOME).glob("*"))
    return [place.name for place in places if holder(place / prefix / LOCK) is None]


def root_of(project: Path, name: str) -> Path:
    """The project's root in the worktree `name`: the project may lie in a subfolder of its repository.

    Raises:
        UserError: it lies in none.
    """
    if not in_git(project.absolute()):
        raise UserError("A run in a tree of its own needs git: `git init`, then commit the project.")
    return folder(project, name) / _git(project, "rev-parse", "--show-prefix").strip()


def folder(project: Path, name: str) -> Path:
    """Where the worktree `name` lies."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ValueError(f"{name!r} is no name of a worktree")
    return project.absolute() / HOME / name


def resolve(project: Path, ref: str) -> str:
    """The commit that a branch, a tag or a shortened id names.

    Raises:
        UserError: there is none.
    """
    try:
        return _git(project, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").strip()
    except UserError:
        raise UserError(
            f"git knows no commit {ref.removeprefix('refs/heads/')!r} here. Commit the project first, or fetch it: "
            "`git fetch --all`."
        ) from None


def share_dvc(project: Path, root: Path) -> None:
    """Give the tree at `root` the project's DVC cache and remotes, also those of its private configuration."""
    from configobj import ConfigObj
    from dvc.config import Config

    (root / ".dvc").mkdir(exist_ok=True)  # a commit need not hold it
    private = project / ".dvc" / "config.local"
    shared = ConfigObj(str(private) if private.exists() else None, encoding="utf-8")
    shared.filename = str(root / ".dvc" / "config.local")
    known = Config(str((project / ".dvc").absolute()), validate=False)
    shared.setdefault("cache", {}).setdefault("dir", "")
    shared["cache"]["dir"] = known.get("cache", {}).get("dir") or str((project / ".dvc" / "cache").absolute())
    for remote, options in known.get("remote", {}).items():
        if Path(options.get("url", "")).is_absolute():  # a path relative to the project's configuration is resolved
            shared.setdefault(f'remote "{remote}"', {})["url"] = options["url"]
    Path(shared.filename).touch(0o600)  # it may hold credentials
    shared.write()


def _git(folder: Path, *arguments: str, given: str | None = None) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            input=None if given is None else given.encode("utf-8", "surrogateescape"),
            capture_output=True,
            check=True,
        )
    except FileNotFoundError:
        raise UserError("git is not installed; a run in a tree of its own needs it.") from None
    except subprocess.CalledProcessError as error:
        words = " ".join(error.stderr.decode(errors="replace").split())
        raise UserError(f"git {arguments[0]}: {shortened(words, LONGEST) or f'status {error.returncode}'}") from error
    return done.stdout.decode("utf-8", "surrogateescape")
