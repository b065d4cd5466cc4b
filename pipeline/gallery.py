"""The gallery: whom a model of faces is to recognise, as pictures of faces by name, in one file on this machine.

It holds what is most personal here, so it is for its owner's eyes alone (0600), lies in the project's state, which is
in no repository and no store, and nothing else is told what is in it: no log, no record of a run. What is deleted is
overwritten, in every copy that the file had of it.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import sqlite3
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import UserError, did_you_mean
from pipeline.files import shared
from pipeline.room import explained_database

NAME = "faces.db"
LONGEST = 100
"""Characters of a name."""
TABLE = """
CREATE TABLE IF NOT EXISTS face (
    id TEXT PRIMARY KEY,
    person TEXT NOT NULL,
    since TEXT NOT NULL,
    crop BLOB NOT NULL,
    model TEXT,
    embedding BLOB
)
"""
"""`id` is the sha256 of the crop, a PNG; `embedding` is that of the model of this digest, as float64."""


class Person(NamedTuple):
    """Somebody in the gallery."""

    name: str
    faces: int
    since: str
    """UTC, ISO 8601: of the first face."""


class Known(NamedTuple):
    """The faces in the gallery, as one model has them."""

    people: Sequence[str]
    """Who each is, n of them."""
    embeddings: np.ndarray
    """float64 [n, E]."""


class Crop(NamedTuple):
    """A face that has to be shown to a model."""

    id: str
    data: bytes
    """PNG."""


def place() -> Path:
    """The file: of the project, whichever of its trees asks."""
    return shared() / NAME


def named(name: str) -> str:
    """A name as it is kept.

    Raises:
        UserError: it is no name.
    """
    clean = unicodedata.normalize("NFC", name).strip()
    if not clean or len(clean) > LONGEST or not clean.isprintable():
        raise UserError(f"{name!r} cannot be a name: 1 to {LONGEST} characters are taken that can be printed.")
    return clean


def add(name: str, crops: Sequence[bytes]) -> int:
    """Put faces of a person into the gallery, all or none.

    Args:
        name: as `named` gives it.
        crops: PNG.

    Returns:
        How many are new.

    Raises:
        UserError: one of them is there under another name.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    with _open(make=True) as base:
        new = 0
        for crop in crops:
            identity = hashlib.sha256(crop).hexdigest()
            row = base.execute("SELECT person FROM face WHERE id = ?", (identity,)).fetchone()
            if row and row[0] != name:
                raise UserError(
                    f"One of these faces is enrolled as {row[0]!r} already. If that was a mistake, delete {row[0]!r} "
                    "and enrol both anew."
                )
            if not row:
                base.execute("INSERT INTO face VALUES (?, ?, ?, ?, NULL, NULL)", (identity, name, now, crop))
                new += 1
        return new


def people() -> list[Person]:
    """Everybody, by name."""
    with _open() as base:
        rows = base.execute("SELECT person, COUNT(*), MIN(since) FROM face GROUP BY person ORDER BY person")
        return [Person(*row) for row in rows]


def delete(name: str) -> int:
    """Take a person out, with all faces and embeddings; how many faces there were.

    Raises:
        UserError: nobody of that name is there.
    """
    with _open() as base:
        removed = base.execute("DELETE FROM face WHERE person = ?", (name,)).rowcount
    if not removed:
        raise unknown(name)
    with _open() as base:
        base.commit()
        base.execute("VACUUM")  # writes the file anew: a page may keep what was moved within it
    return removed


def unknown(name: str) -> UserError:
    """That nobody of that name is in the gallery, and who is called nearly so."""
    near = did_you_mean(name, [person.name for person in people()]) or " `convoy faces list` names everybody."
    return UserError(f"Nobody called {name!r} is enrolled.{near}")


def waiting(model: str) -> list[Crop]:
    """The faces of which there is no embedding by the model of this digest."""
    with _open() as base:
        return [
            Crop(*row) for row in base.execute("SELECT id, crop FROM face WHERE model IS NOT ? ORDER BY id", (model,))
        ]


def embed(model: str, embeddings: dict[str, np.ndarray]) -> None:
    """Keep the embeddings that the model of this digest gives faces, by their ids, in the place of older ones."""
    with _open() as base:
        for identity, embedding in embeddings.items():
            told = np.asarray(embedding, "<f8").tobytes()
            base.execute("UPDATE face SET model = ?, embedding = ? WHERE id = ?", (model, told, identity))


def known(model: str) -> Known:
    """The faces of which there is an embedding by the model of this digest."""
    with _open() as base:
        rows = base.execute("SELECT person, embedding FROM face WHERE model = ? ORDER BY id", (model,)).fetchall()
    told = [np.frombuffer(embedding, "<f8") for _, embedding in rows]
    return Known([person for person, _ in rows], np.stack(told) if told else np.zeros((0, 0)))


@contextlib.contextmanager
def _open(make: bool = False) -> Iterator[sqlite3.Connection]:
    """The gallery, alone; what was changed is kept if the block ends without an exception.

    Without a file there is an empty gallery in memory, so that looking leaves nothing behind.
    """
    path = place()
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    there = path.exists()
    if there and stat.S_IMODE(path.stat().st_mode) != 0o600:  # copied back, perhaps
        path.chmod(0o600)
    base = sqlite3.connect(path if there else ":memory:", timeout=30)
    try:
        base.execute("PRAGMA journal_mode = DELETE")
        base.execute("PRAGMA secure_delete = ON")
        base.execute("PRAGMA synchronous = FULL")
        base.execute("PRAGMA temp_store = MEMORY")  # no copy anywhere else
        with base:
            base.execute(TABLE)
            base.execute("BEGIN IMMEDIATE")
            yield base
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise UserError(f"Another command works on the gallery in {path}. Try again once it has ended.") from error
        if full := explained_database(error, path):
            raise full from error
        raise UserError(
            f"The gallery in {path} cannot be used: {error}. Put it back from a copy, or remove it and enrol anew."
        ) from error
    finally:
        base.close()
