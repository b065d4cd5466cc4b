"""DVC's local cache: which of its objects, and which entries of its cache of runs, nothing needed names."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from flows.housekeeping.group import Group, of_paths
from flows.repository import in_git
from pipeline.registry.needed import named

if TYPE_CHECKING:
    from dvc.repo import Repo

FOLDER = ".dir"
"""How the md5 of a folder's listing ends."""


def opened(root: Path) -> Repo | None:
    """The project in DVC; None if it is none of DVC's yet."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        return Repo(str(root), config=None if in_git(root) else {"core": {"no_scm": True}})
    except NotDvcRepoError:
        return None


def groups(repo: Repo, needed: Iterable[str], newest: float) -> list[Group]:
    """What of the cache can be freed: the entries that name objects before the objects, listings before files.

    Args:
        repo: the project.
        needed: every md5 that is needed; the files of a folder need not be among them.
        newest: what was put into the cache after this time stays, in seconds since 1970.
    """
    objects = _objects(Path(repo.cache.local.path))
    young = {md5 for md5, path in objects.items() if _changed(path) > newest}
    kept = _with_files(objects, young.union(needed))
    gone = {md5: path for md5, path in objects.items() if md5 not in kept}
    listings = {path for md5, path in gone.items() if md5.endswith(FOLDER)}
    entries = [path for path in _entries(repo) if _changed(path) <= newest and not _outputs(path) <= kept]
    why = "nothing that stays names them"
    return [
        of_paths("entries of DVC's run cache", "their outputs are gone", entries),
        of_paths("folders in DVC's cache", why, listings),
        of_paths("files in DVC's cache", why, set(gone.values()) - listings),
    ]


def outside(repo: Repo, root: Path) -> bool:
    """Whether the cache lies outside the project, where other projects may share it."""
    return not Path(repo.cache.local.path).resolve().is_relative_to(root.resolve())


def _objects(home: Path) -> dict[str, Path]:
    """By md5; a file that DVC has not finished writing has another kind of name."""
    found = {f"{path.parent.name}{path.name}": path for path in home.glob("[0-9a-f][0-9a-f]/*")}
    return {md5: path for md5, path in found.items() if named(md5) == {md5}}


def _with_files(objects: dict[str, Path], needed: set[str]) -> set[str]:
    """And the files of every folder; one whose listing is not here has none that could be told."""
    found = set(needed)
    for md5 in needed:
        if md5.endswith(FOLDER) and md5 in objects:
            found |= named(objects[md5].read_text(encoding="utf-8", errors="replace"))
    return found


def _entries(repo: Repo) -> list[Path]:
    return list(Path(repo.stage_cache.cache_dir).glob("[0-9a-f][0-9a-f]/*/*"))


def _outputs(entry: Path) -> set[str]:
    """The md5 of each output; of an entry that cannot be read, one that nobody has."""
    with suppress(OSError, ValueError, yaml.YAMLError, TypeError, LookupError, AttributeError):
        return {str(out["md5"]) for out in yaml.safe_load(entry.read_text(encoding="utf-8"))["outs"]}
    return {""}


def _changed(path: Path) -> float:
    """When it came here: moving a file into the cache leaves its own time as it was."""
    with suppress(FileNotFoundError):
        facts = path.stat()
        return max(facts.st_mtime, facts.st_ctime)
    return 0.0
