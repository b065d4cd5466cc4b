"""Where the ledger's table lies: a SQLite file of the project, or the PostgreSQL that MLflow uses.

SQLite has a rollback journal, `synchronous=FULL` and `BEGIN IMMEDIATE`; PostgreSQL locks the table. Either way one
process at a time writes, and what it has written outlives a power cut.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.room import explained_database

if TYPE_CHECKING:
    from sqlalchemy import Engine

Ask = Callable[..., list[tuple[Any, ...]]]
"""(SQL with `:name` for values, values by name) -> rows."""

TABLE = """
CREATE TABLE IF NOT EXISTS convoy_ledger (
    number INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    action TEXT NOT NULL,
    moves_to INTEGER,
    decides TEXT UNIQUE,
    body TEXT NOT NULL,
    previous TEXT NOT NULL UNIQUE,
    hash TEXT NOT NULL UNIQUE,
    UNIQUE (model, moves_to)
)
"""
"""`moves_to` is the epoch that a move begins, `decides` the case that an entry opens or closes; both else null."""
SQLITE_GUARDS = (
    "CREATE TRIGGER IF NOT EXISTS no_change BEFORE UPDATE ON convoy_ledger "
    "BEGIN SELECT RAISE(ABORT, 'entries never change'); END",
    "CREATE TRIGGER IF NOT EXISTS no_removal BEFORE DELETE ON convoy_ledger "
    "BEGIN SELECT RAISE(ABORT, 'entries stay'); END",
)
POSTGRES_GUARDS = (
    "CREATE OR REPLACE FUNCTION convoy_ledger_stays() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN RAISE EXCEPTION ''entries of the ledger never change and stay''; END'",
    "CREATE OR REPLACE TRIGGER no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON convoy_ledger "
    "FOR EACH STATEMENT EXECUTE FUNCTION convoy_ledger_stays()",
)
MAKING = 0x636F6E766F79
"""Number of the advisory lock under which PostgreSQL makes the table: two at once would both try."""


def postgres() -> str:
    """The address of the PostgreSQL that MLflow uses, or nothing."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    return address if address.startswith(("postgresql:", "postgresql+")) else ""


@contextlib.contextmanager
def reading(path: Path | None) -> Iterator[Ask | None]:
    """Ask the table, or get None where there is no ledger yet; asking leaves nothing behind.

    Args:
        path: of the SQLite file; None is the PostgreSQL of MLflow.

    Raises:
        UserError: it cannot be used.
    """
    if path is None:
        with _in_postgres(write=False) as ask:
            known = ask("SELECT 1 FROM information_schema.tables WHERE table_name = 'convoy_ledger'")
            yield ask if known else None
    elif path.exists():
        with _in_sqlite(path, write=False) as ask:
            yield ask if ask("SELECT 1 FROM sqlite_master WHERE name = 'convoy_ledger'") else None
    else:
        yield None


@contextlib.contextmanager
def writing(path: Path | None) -> Iterator[Ask]:
    """Ask and change the table, alone; what was changed is kept if the block ends without an exception.

    Raises:
        UserError: it cannot be used.
    """
    with _in_postgres(write=True) if path is None else _in_sqlite(path, write=True) as ask:
        yield ask


@contextlib.contextmanager
def _in_sqlite(path: Path, write: bool) -> Iterator[Ask]:
    database = None
    try:
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, timeout=60, isolation_level=None)
        connection = database

        def ask(sql: str, **values: Any) -> list[tuple[Any, ...]]:
            try:
                return connection.execute(sql, values).fetchall()
            except UnicodeEncodeError as error:
                words = f"No name in the ledger has bytes that are no UTF-8, as {error.object!r} does."
                raise UserError(words) from None

        if write:
            ask("PRAGMA journal_mode=DELETE")
            ask("PRAGMA synchronous=FULL")
            ask("BEGIN IMMEDIATE")
            if not ask("SELECT 1 FROM sqlite_master WHERE name = 'no_removal'"):
                for statement in (TABLE, *SQLITE_GUARDS):
                    ask(statement)
        yield ask
        if write:
            ask("COMMIT")
    except sqlite3.DatabaseError as error:
        if full := explained_database(error, path):
            raise full from error
        raise UserError(
            f"The ledger {path} cannot be used: {error}. Put back a copy of it, or move it away, and ledger.head with "
            "it, to start anew."
        ) from error
    finally:
        if database:
            database.close()  # an open transaction is rolled back


@contextlib.contextmanager
def _in_postgres(write: bool) -> Iterator[Ask]:
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    engine = _engine(postgres())
    try:
        with engine.begin() as connection:

            def ask(sql: str, **values: Any) -> list[tuple[Any, ...]]:
                done = connection.execute(text(sql), values)
                return [tuple(row) for row in done] if done.returns_rows else []

            if write:
                if not ask("SELECT 1 FROM pg_trigger WHERE tgname = 'no_change'"):
                    ask("SELECT pg_advisory_xact_lock(:number)", number=MAKING)
                    for statement in (TABLE, *POSTGRES_GUARDS):
                        ask(statement)
                ask("LOCK TABLE convoy_ledger IN EXCLUSIVE MODE")
            yield ask
    except SQLAlchemyError as error:
        words = " ".join(str(error.__cause__ or error).split())[:300]
        raise UserError(
            f"The ledger in {engine.url.render_as_string(hide_password=True)} cannot be used: {words} "
            "See that the database is up and that MLFLOW_TRACKING_URI is right; nothing was changed."
        ) from error


@cache
def _engine(address: str) -> Engine:
    """Without a pool: a connection lives for one question, so that nothing is left open across a fork."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine(address, poolclass=NullPool, isolation_level="READ COMMITTED")
