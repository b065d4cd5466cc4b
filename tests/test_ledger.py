"""The ledger: chained, append-only, one winner per epoch."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import sqlite3
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.registry import ledger
from pipeline.registry.ledger import Move

PROCESSES, ROUNDS = 5, 12


def move(to: str, model: str = "pets", why: str = "better") -> Move:
    return Move(
        model=model,
        action="promote",
        from_version=None,
        to_version=to,
        model_digest=to * 3,
        dataset_digest="d",
        location="x",
        why=why,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with three entries, two of them about `pets`."""
    path = tmp_path / "state" / "ledger.db"
    ledger.append(move("1"), after=0, path=path)
    ledger.append(move("7", model="cars"), after=0, path=path)
    ledger.append(move("2"), after=1, path=path)
    return path


def test_there_is_no_champion_without_a_ledger(tmp_path: Path) -> None:
    assert ledger.champion("pets", tmp_path / "none.db") is None
    assert ledger.verify(tmp_path / "none.db") is None
    assert not (tmp_path / "none.db").exists()  # asking leaves nothing behind


def test_the_newest_entry_of_a_model_is_its_champion(path: Path) -> None:
    newest = ledger.champion("pets", path)
    assert newest
    assert (newest.to_version, newest.epoch) == ("2", 2)
    assert [entry.to_version for entry in ledger.history("pets", path)] == ["1", "2"]
    assert ledger.champion("planes", path) is None


def test_the_chain_by_hand(path: Path) -> None:
    rows = sqlite3.connect(path).execute("SELECT body, previous, hash FROM entries ORDER BY number").fetchall()
    previous = "0" * 64
    for body, follows, digest in rows:
        assert body == json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
        assert follows == previous
        previous = hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()
        assert digest == previous
    assert ledger.verify(path) is None


def test_a_stale_decision_is_refused_and_leaves_no_entry(path: Path) -> None:
    with pytest.raises(
        UserError, match=r"champion of 'pets' was moved meanwhile: .* put version 2 there at 20.*Nothing"
    ):
        ledger.append(move("3"), after=1, path=path)
    assert len(ledger.history("pets", path)) == 2


def test_a_decision_against_a_ledger_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no entry 4 for 'pets': the ledger was removed or replaced"):
        ledger.append(move("3"), after=4, path=tmp_path / "new.db")


def test_entries_can_be_neither_changed_nor_removed(path: Path) -> None:
    database = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="entries never change"):
        database.execute("UPDATE entries SET body = 'x'")
    with pytest.raises(sqlite3.IntegrityError, match="entries stay"):
        database.execute("DELETE FROM entries")


def rewrite(database: sqlite3.Connection) -> None:
    """Another reason, with a hash that fits it: the next entry gives it away."""
    body, previous = database.execute("SELECT body, previous FROM entries WHERE number = 2").fetchone()
    body = body.replace("better", "bribed")
    digest = hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()
    database.execute("UPDATE entries SET body = ?, hash = ? WHERE number = 2", (body, digest))


def change(database: sqlite3.Connection) -> None:
    database.execute("UPDATE entries SET body = replace(body, 'better', 'bribed') WHERE number = 2")


def garble(database: sqlite3.Connection) -> None:
    database.execute("UPDATE entries SET body = 'nonsense' WHERE number = 1")


def remove(database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM entries WHERE number = 2")


def rename(database: sqlite3.Connection) -> None:
    database.execute("UPDATE entries SET model = 'planes' WHERE number = 2")


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (change, r"entry 2 \(cars, version 7\) was changed after it was written"),
        (rewrite, "entry 3 does not follow the one before it; one was removed or put in"),
        (garble, "entry 1 cannot be read"),
        (remove, "entry 3 does not follow"),
        (rename, "entry 2 .* was changed after it was written"),
    ],
)
def test_a_tampered_entry_is_named(path: Path, tamper: Callable[[sqlite3.Connection], None], words: str) -> None:
    database = sqlite3.connect(path)
    database.executescript("DROP TRIGGER no_change; DROP TRIGGER no_removal")
    tamper(database)
    database.commit()
    database.close()
    assert re.search(words, ledger.verify(path) or "")


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"cannot be used: .*Put back a copy of it, or move it away"):
        ledger.champion("pets", tmp_path / "ledger.db")


def race(path: Path, together: Barrier, name: str) -> None:
    for after in range(ROUNDS):
        together.wait()
        try:
            ledger.append(move(name, why=f"round {after}"), after=after, path=path)
        except UserError:
            continue


def test_of_many_processes_one_wins_each_epoch(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(PROCESSES)
    racers = [context.Process(target=race, args=(path, together, str(number))) for number in range(PROCESSES)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(timeout=60)
        assert racer.exitcode == 0
    assert [entry.why for entry in ledger.history("pets", path)] == [f"round {after}" for after in range(ROUNDS)]
    assert ledger.verify(path) is None
