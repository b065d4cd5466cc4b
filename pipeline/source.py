"""A folder or an archive as one thing: the names in it, and the contents of its files in a single pass.

It may lie on disk, on S3, behind https, or in DVC's cache; what reads it does not see where. An archive and a store
are hostile until read: a name is a label and never a path; sizes, counts and the ratio of compression have limits.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import project
from pipeline.sources.archive import KINDS, ArchiveSource
from pipeline.sources.base import (
    UNPRINTABLE,
    Entry,
    Limits,
    Source,
    check_writable,
    member_name,
    printable,
    quoted,
)
from pipeline.sources.folder import FolderSource

__all__ = [
    "KINDS",
    "UNPRINTABLE",
    "Entry",
    "Limits",
    "Source",
    "check_writable",
    "is_address",
    "member_name",
    "open_source",
    "placed",
    "printable",
    "quoted",
]

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
PLACES = "a path on this machine, s3://bucket/folder, s3://bucket/set.zip, or https://host/set.zip#sha256=..."


def open_source(path: str, limits: Limits | None = None) -> Source:
    """The source at `path`, by what is there and not by its suffix.

    Args:
        path: `~` is your home, a relative path the project's; or an address on S3 or, for archives, of https.
        limits: what the source may cost.

    Raises:
        UserError: nothing is there, it may not be read, or it is neither a folder nor an archive.
    """
    limits = limits or Limits()
    if scheme := ADDRESS.match(path):
        return _at_address(path, scheme[1].lower(), limits)
    try:
        here = Path(path).expanduser()
        if not here.exists() and (tracked := _tracked(here, path, limits)):
            return tracked
        place = placed(here)
        if place.is_dir():
            return FolderSource(str(place), limits, place)
        if place.exists() and not place.is_file():
            raise ValueError("it is a device or a pipe")
        if place.suffix == ".dvc" and place.is_file():
            raise UserError(f"data.path: {path!r} is DVC's note on the data; write {path.removesuffix('.dvc')!r}.")
        return ArchiveSource.of(place, path, limits)
    except (OSError, RuntimeError, ValueError) as error:  # no such user in `~user`; a NUL in the path
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else str(error)
        raise UserError(f"data.path: {path!r} cannot be read: {reason}. Expected {KINDS}.") from None


def is_address(path: str) -> bool:
    """Whether `path` leads elsewhere, and not to a place on this machine."""
    return ADDRESS.match(path) is not None


def placed(path: Path) -> Path:
    """Where a relative path leads: in this tree, or where git does not bring it along, in the project it is of."""
    return path if path.exists() else project() / path


def _at_address(path: str, scheme: str, limits: Limits) -> Source:
    from pipeline.sources.remote import FetchedArchive, StoreSource, insisting

    if scheme == "s3":
        from pipeline.sources import s3

        with insisting(path):
            found = s3.opened(path)
        if isinstance(found, s3.S3Folder):
            return StoreSource(found.shown, limits, found)
        return FetchedArchive(found.shown, limits, found)
    if scheme in ("http", "https"):
        from pipeline.sources.web import WebFile

        file = WebFile(path)
        return FetchedArchive(file.shown, limits, file)
    raise UserError(f"data.path: {scheme}:// cannot be read. Expected {PLACES}.")


def _tracked(here: Path, path: str, limits: Limits) -> Source | None:
    """What DVC has for a path at which nothing lies; None if it does not track it."""
    from pipeline.sources.tracked import note_of

    if not (note := note_of(here)):
        return None
    from pipeline.sources.remote import FetchedArchive, StoreSource
    from pipeline.sources.tracked import TrackedFolder, opened

    found = opened(here, note)
    if isinstance(found, TrackedFolder):
        return StoreSource(path, limits, found)
    return FetchedArchive(path, limits, found)
