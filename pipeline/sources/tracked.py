"""Data that DVC tracks or imports, and that is not checked out here: read from its cache, or from where it came from.

`data/pets.dvc` lies in git and says what `data/pets` is; the files themselves may be in DVC's cache or remote alone, as
in a fresh clone or in the worktree of a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import UserError
from pipeline.sources.store import Blob, Store, Stored

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem

PIECE = 8 << 20
DIGESTS = ("md5", "md5-dos2unix")
T = TypeVar("T")


def note_of(path: Path) -> Path | None:
    """The `.dvc` file that says what is at `path`, or at a folder around it; None if there is none."""
    for place in (path, *path.parents):
        if place.name and place.name != "..":
            note = place.with_name(place.name + ".dvc")
            if note.is_file():
                return note
    return None


def opened(path: Path, note: Path) -> TrackedFolder | TrackedFile:
    """What DVC has for `path`, by the note that lies beside it.

    Raises:
        UserError: it has nothing, neither in the cache nor where that is filled from.
    """
    tracked = _Tracked(path, note)
    facts = tracked.asked(lambda: tracked.files.info(tracked.name))
    if facts["type"] == "directory":
        return TrackedFolder(tracked)
    return TrackedFile(tracked, facts)


class _Tracked:
    """A path in a repository of DVC."""

    def __init__(self, path: Path, note: Path) -> None:
        from dvc.exceptions import DvcException

        root = next((folder for folder in note.absolute().parents if (folder / ".dvc").is_dir()), None)
        if root is None:
            raise UserError(
                f"data.path: {note} lies in no repository of DVC: no folder above it holds .dvc/. `dvc init`?"
            )
        self.shown = str(path)
        self.name = "/" + Path(os.path.relpath(path.absolute(), root)).as_posix()  # / is the root of the repository
        self.remedy = f"`dvc pull {note}` brings it"
        try:
            from dvc.api import DVCFileSystem

            self.files: DVCFileSystem = DVCFileSystem(str(root))
            self.repository = self.files.repo
        except DvcException as error:
            raise UserError(f"data.path: DVC cannot read the repository in {root}: {error}.") from error

    def asked(self, work: Callable[[], T]) -> T:
        """What `work` gives of DVC.

        Raises:
            UserError: there is nothing, or it cannot be reached.
        """
        try:
            return work()
        except UserError:
            raise
        except Exception as error:  # of DVC, or of any of the file systems behind it
            gone = any(isinstance(cause, FileNotFoundError) for cause in _chain(error))
            said = "it is neither there nor in DVC's cache" if gone else f"DVC says: {' '.join(str(error).split())}"
            raise UserError(f"data.path: {self.shown!r} cannot be read: {said}. {self.remedy}.") from error

    def cached(self, digest: str) -> Path | None:
        """Where DVC's cache holds these contents, if it does."""
        place = Path(self.repository.cache.local.oid_to_path(digest)) if digest else None
        return place if place and place.is_file() else None

    def read(self, name: str, start: int, size: int) -> bytes:
        """Some bytes of a file."""

        def work() -> bytes:
            with self.files.open(name, "rb") as file:
                if start:
                    file.seek(start)
                data: bytes = file.read(size)
                return data

        return self.asked(work)


class TrackedFolder(Store):
    """The files of a folder that DVC tracks."""

    def __init__(self, tracked: _Tracked) -> None:
        self.shown = tracked.shown
        self._tracked = tracked

    def files(self) -> Iterator[Stored]:
        """See `Store.files`."""
        tracked = self._tracked
        found = tracked.asked(lambda: tracked.files.find(tracked.name, detail=True, dvc_only=True))
        for name, facts in sorted(found.items()):
            yield self._stored(name, facts)

    def find(self, name: str) -> Stored | None:
        """See `Store.find`."""
        key = f"{self._tracked.name}/{name}"

        def work() -> dict[str, Any]:
            try:
                facts: dict[str, Any] = self._tracked.files.info(key)
            except FileNotFoundError:
                return {}
            return facts

        facts = self._tracked.asked(work)
        return self._stored(key, facts) if facts.get("type") == "file" else None

    def read(self, stored: Stored, size: int) -> bytes:
        """See `Store.read`."""
        if cached := self._tracked.cached(stored.version):
            with cached.open("rb") as file:
                return file.read(size)
        return self._tracked.read(stored.key, 0, size)

    def _stored(self, key: str, facts: dict[str, Any]) -> Stored:
        name = key.removeprefix(self._tracked.name).lstrip("/")
        cached, size = self._tracked.cached(_digest(facts)), facts["size"]
        # A listing of DVC's tells no sizes.
        return Stored(key, name, cached.stat().st_size if cached and size is None else size, _digest(facts))


class TrackedFile(Blob):
    """One file that DVC tracks."""

    def __init__(self, tracked: _Tracked, facts: dict[str, Any]) -> None:
        self.shown = self.address = tracked.shown
        self.version = _digest(facts)
        self._tracked = tracked
        self._size: int | None = facts["size"]

    def copy(self) -> Path | None:
        """See `Blob.copy`: the file in DVC's cache."""
        return self._tracked.cached(self.version)

    def chunks(self, start: int) -> Iterator[tuple[int, int | None, bytes]]:
        """See `Blob.chunks`."""
        while data := self._tracked.read(self._tracked.name, start, PIECE):
            yield start, self._size, data
            start += len(data)


def _digest(facts: dict[str, Any]) -> str:
    return next((str(facts[name]) for name in DIGESTS if facts.get(name)), "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause:
        yield cause
        cause = cause.__cause__
