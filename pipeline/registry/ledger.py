"""The ledger: what was judged, who decided, who became champion, when and why. Entries are only ever added.

An entry's hash covers the one before it, so that a changed, removed or inserted entry breaks the chain; the last hash
is kept beside the ledger as well, so that entries cut off its end are missed, also once others follow. Each model
counts the moves of its champion, its epoch, and a move says which epoch it builds on: of several that build on the same
one, the first is taken and the others are refused (200 of 200 races had one winner, where MLflow's alias let every one
win). A case is decided once. What was refused leaves an entry too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.failpoints import Point, passing
from pipeline.files import shared, write_json
from pipeline.registry.ledger_store import Ask, postgres, reading, writing

LEDGER = "ledger.db"
HEAD, POSTGRES_HEAD = "ledger.head", "ledger.postgres.head"
"""Their names in the state that all trees of a project share; the last one is of a ledger in PostgreSQL."""
GENESIS = "0" * 64
"""What the first entry follows."""

Action = Literal["judge", "promote", "reject", "rollback", "refuse"]
MOVES: tuple[Action, ...] = ("promote", "rollback")
"""Actions that move the champion."""
DECISIONS: tuple[Action, ...] = ("promote", "reject")
"""Actions that close the case that they name."""


class Act(Options):
    """What is to be noted."""

    action: Action
    model: str
    """Name in the registry; empty for a request that was refused before anybody knew what it was about."""
    who: str
    via: str
    """The way in: `gate`, `command`, `page`, `api`, `prefect`, `silence`."""
    why: str
    case: str = ""
    """Id of the case that is opened (`judge`) or decided."""
    case_digest: str = ""
    """Of its file: a case that was changed afterwards cannot be decided."""
    from_version: str | None = None
    """The champion at that moment; None: there was none."""
    to_version: str = ""
    """The version that this is about."""
    model_digest: str = ""
    """Of its files; see `pipeline.bundle.digest_of`."""
    dataset_digest: str = ""
    """Of the dataset that it learnt from."""
    report_digest: str = ""
    """sha256 of the report on it."""
    location: str = ""
    """Where its files lie: a path relative to the project's root, or an MLflow URI."""


class Entry(Act):
    """An act, as it stands in the ledger."""

    number: int
    """1, 2, 3, ... over all models."""
    epoch: int
    """Of this model after the entry: how often its champion has moved."""
    when: str
    """UTC, ISO 8601."""


_turns = threading.Lock()
"""Threads of one process would wait in line at the database for a second each, and share a temporary file's name."""


class Late(UserError):
    """Somebody else was first: another champion reigns, or the case is decided."""


def append(act: Act, after: int | None = None, path: Path | None = None) -> Entry:
    """Add an entry.

    Args:
        act: what to note.
        after: of a move, the epoch that it was decided on; 0 if there was no entry.
        path: of another ledger than the project's.

    Raises:
        Late: somebody else moved this champion in between, or has decided this case; nothing is written.
        UserError: the ledger cannot be used, or the act holds what is no text.
    """
    _is_text(act)
    with _turns, writing(_file(path)) as ask:
        newest = _newest(ask, act.model)
        epoch = newest.epoch if newest else 0
        if act.action in MOVES:
            _same_epoch(act, newest, after)
            epoch += 1
        if act.action in DECISIONS and act.case and (earlier := _decision(ask, act.case)):
            raise Late(f"{earlier.who} has decided this case before: {decided(earlier)}. Nothing was changed.")
        number, previous = _end(ask)
        entry = Entry(**act.model_dump(), number=number + 1, epoch=epoch, when=_now())
        body = _canonical(entry)
        digest = _hash(previous, body)
        ask(
            "INSERT INTO convoy_ledger (number, model, action, moves_to, decides, body, previous, hash) "
            "VALUES (:number, :model, :action, :moves_to, :decides, :body, :previous, :hash)",
            number=entry.number,
            model=entry.model,
            action=entry.action,
            moves_to=entry.epoch if act.action in MOVES else None,
            decides=_decides(act),
            body=body,
            previous=previous,
            hash=digest,
        )
        passing(Point.ENTRY_WRITTEN)
    passing(Point.ENTRY_COMMITTED)
    with _turns, contextlib.suppress(OSError, UserError):  # a full disk must not deny what is committed
        _mark(path)
    passing(Point.LEDGER_MARKED)
    return entry


def champion(model: str, path: Path | None = None) -> Entry | None:
    """The newest move of a model: its `to_version` is the champion."""
    with reading(_file(path)) as ask:
        return _newest(ask, model) if ask else None


def history(
    model: str | None = None, actions: Sequence[Action] = MOVES, path: Path | None = None, most: int = 0
) -> list[Entry]:
    """Entries, oldest first; by default all moves of a champion.

    Args:
        model: whose; None: of all.
        actions: which.
        path: of another ledger than the project's.
        most: no more than so many, the newest; 0 is all.
    """
    values: dict[str, str] = {f"action_{number}": action for number, action in enumerate(actions)}
    about = f"action IN ({', '.join(f':{name}' for name in values)})"
    if model is not None:
        about, values = f"{about} AND model = :model", {**values, "model": model}
    sql = f"SELECT body FROM convoy_ledger WHERE {about} ORDER BY number DESC LIMIT :most"  # noqa: S608 -- no values
    with reading(_file(path)) as ask:
        rows = ask(sql, **values, most=most or sys.maxsize) if ask else []
    return [_entry(body) for (body,) in reversed(rows)]


def of_case(case: str, path: Path | None = None) -> tuple[Entry | None, Entry | None]:
    """The entry that opened a case, and the one that decided it."""
    with reading(_file(path)) as ask:
        if ask is None:
            return None, None
        opened = ask("SELECT body FROM convoy_ledger WHERE decides = :case", case=f"judge {case}")
        return (_entry(opened[0][0]) if opened else None), _decision(ask, case)


def decided(entry: Entry) -> str:
    """What an entry did, in a few words."""
    done = {"promote": "promoted", "rollback": "put back", "reject": "rejected", "judge": "judged", "refuse": "refused"}
    return f"version {entry.to_version} of {entry.model!r} was {done[entry.action]} at {entry.when}"


def moved(newest: Entry) -> str:
    """What whoever decided on an older champion is told."""
    return (
        f"The champion of {newest.model!r} was moved meanwhile: {newest.who} put version {newest.to_version} there "
        f"at {newest.when}. Nothing was changed."
    )


def verify(path: Path | None = None) -> str | None:
    """Walk the chain from the first entry; what is wrong with the first broken one, or None."""
    where = str(_file(path) or "the ledger in PostgreSQL")
    with reading(_file(path)) as ask:
        rows = ask("SELECT number, model, body, previous, hash FROM convoy_ledger ORDER BY number") if ask else []
    previous, epochs, marked = GENESIS, dict[str, int](), _marked(path)
    for expected, (number, model, body, follows, digest) in enumerate(rows, start=1):
        try:
            entry = _entry(body)
        except UserError:
            return f"{where}: entry {number} cannot be read."
        if number != expected or follows != previous:
            return f"{where}: entry {number} does not follow the one before it; one was removed or put in."
        if digest != _hash(previous, body) or (entry.number, entry.model) != (number, model):
            return f"{where}: entry {number} ({model}, {entry.action}) was changed after it was written."
        epochs[model] = epochs.get(model, 0) + (entry.action in MOVES)
        if entry.epoch != epochs[model]:
            return f"{where}: entry {number} ({model}) says epoch {entry.epoch}; {epochs[model]} comes next."
        if number == marked[0] and digest != marked[1]:
            return f"{where}: entry {number} is not the one that {_head(path)} names; all was written anew."
        previous = digest
    if marked[0] > len(rows):
        return (
            f"{where}: its end is gone; {_head(path)} names entry {marked[0]}, and the last one is {len(rows)}. If no "
            "copy has the rest, remove that file to go on without."
        )
    return None


def _is_text(act: Act) -> None:
    """See that every word can be written as UTF-8: an entry that nobody can read would hide all champions."""
    for field, value in act:
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                words = f"The ledger holds text, and {field!r} has bytes that are no UTF-8: {value!r}."
                raise UserError(words) from None


def _mark(path: Path | None) -> None:
    """Keep the end of the chain beside it. A mark that the chain contradicts stays: it alone tells of the loss."""
    with writing(_file(path)) as ask:  # alone, or an older end could be kept after a newer one
        number, digest = _marked(path)
        known = ask("SELECT hash FROM convoy_ledger WHERE number = :number", number=number)
        if number and known != [(digest,)]:
            return
        number, digest = _end(ask)
        write_json(_head(path), {"number": number, "hash": digest})


def _same_epoch(act: Act, newest: Entry | None, after: int | None) -> None:
    epoch = newest.epoch if newest else 0
    if after is None:
        raise ValueError("a move says which epoch it builds on")
    if newest and epoch != after:
        raise Late(f"{moved(newest)} Have it judged again to be compared with that one.")
    if epoch != after:
        raise UserError(f"The ledger has no entry {after} for {act.model!r}: it was removed or replaced.")


def _decides(act: Act) -> str | None:
    if not act.case or act.action not in ("judge", *DECISIONS):
        return None
    return f"judge {act.case}" if act.action == "judge" else act.case


def _decision(ask: Ask, case: str) -> Entry | None:
    rows = ask("SELECT body FROM convoy_ledger WHERE decides = :case", case=case)
    return _entry(rows[0][0]) if rows else None


def _newest(ask: Ask, model: str) -> Entry | None:
    rows = ask(
        "SELECT body FROM convoy_ledger WHERE model = :model AND moves_to IS NOT NULL ORDER BY moves_to DESC LIMIT 1",
        model=model,
    )
    return _entry(rows[0][0]) if rows else None


def _end(ask: Ask) -> tuple[int, str]:
    rows = ask("SELECT number, hash FROM convoy_ledger ORDER BY number DESC LIMIT 1")
    return (int(rows[0][0]), str(rows[0][1])) if rows else (0, GENESIS)


def _entry(body: Any) -> Entry:
    try:
        return Entry.model_validate_json(body)
    except ValidationError:
        raise UserError(
            "An entry of the ledger cannot be read, so nobody knows who is champion. `convoy doctor` names it; put "
            "back a copy of the ledger."
        ) from None


def _file(path: Path | None) -> Path | None:
    return path or (None if postgres() else shared() / LEDGER)


def _head(path: Path | None) -> Path:
    file = _file(path)
    return file.with_name(HEAD) if file else shared() / POSTGRES_HEAD


def _marked(path: Path | None) -> tuple[int, str]:
    """Number and hash of an entry that was the last one once; a kill may have kept the newest from being marked."""
    try:
        mark = json.loads(_head(path).read_bytes())
        return int(mark["number"]), str(mark["hash"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0, GENESIS


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _canonical(entry: Entry) -> str:
    return json.dumps(entry.model_dump(), sort_keys=True, separators=(",", ":"))


def _hash(previous: str, body: str) -> str:
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()
