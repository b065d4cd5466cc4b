"""The ledger: chained, append-only, one winner per epoch and per case; in SQLite and in PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import postgres
import pytest
from ports import lasting_port

from pipeline.errors import UserError
from pipeline.failpoints import Point
from pipeline.registry import ledger
from pipeline.registry.ledger import Act, Late

PROCESSES, ROUNDS = 5, 12
CASE = "c" * 16


def act(to: str, model: str = "pets", why: str = "better", action: ledger.Action = "promote", case: str = "") -> Act:
    return Act(
        action=action,
        model=model,
        who="ada",
        via="command",
        why=why,
        case=case,
        to_version=to,
        model_digest=to * 3,
        dataset_digest="d",
        location="x",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with three moves, two of them about `pets`, and a verdict between."""
    path = tmp_path / "state" / "ledger.db"
    ledger.append(act("1"), after=0, path=path)
    ledger.append(act("7", model="cars"), after=0, path=path)
    ledger.append(act("2", action="judge", case=CASE), path=path)
    ledger.append(act("2", case=CASE), after=1, path=path)
    return path


def test_there_is_no_champion_without_a_ledger(tmp_path: Path) -> None:
    assert ledger.champion("pets", tmp_path / "none.db") is None
    assert ledger.verify(tmp_path / "none.db") is None
    assert ledger.of_case(CASE, tmp_path / "none.db") == (None, None)
    assert not (tmp_path / "none.db").exists()  # asking leaves nothing behind


def test_the_newest_move_of_a_model_is_its_champion(path: Path) -> None:
    newest = ledger.champion("pets", path)
    assert newest
    assert (newest.to_version, newest.epoch, newest.number) == ("2", 2, 4)
    assert [entry.to_version for entry in ledger.history("pets", path=path)] == ["1", "2"]
    assert [entry.action for entry in ledger.history(None, ("judge", "promote"), path)] == [
        "promote",
        "promote",
        "judge",
        "promote",
    ]
    assert ledger.champion("planes", path) is None


def test_what_is_no_move_leaves_champion_and_epoch(path: Path) -> None:
    ledger.append(act("3", action="refuse"), path=path)
    entry = ledger.append(act("3", action="reject", case="e" * 16), path=path)
    assert (entry.epoch, entry.number) == (2, 6)
    newest = ledger.champion("pets", path)
    assert newest and newest.to_version == "2"
    assert ledger.verify(path) is None


def test_the_newest_of_many_entries_are_given_oldest_first(path: Path) -> None:
    for number in range(5):
        ledger.append(act(str(number), action="refuse", why=f"no {number}"), path=path)
    assert [entry.why for entry in ledger.history(None, ("refuse",), path, most=2)] == ["no 3", "no 4"]
    assert [entry.number for entry in ledger.history("cars", ("promote", "refuse"), path, most=9)] == [2]


def test_a_case_is_decided_once(path: Path) -> None:
    opened, decision = ledger.of_case(CASE, path)
    assert opened and decision
    assert (opened.number, decision.number) == (3, 4)
    with pytest.raises(
        Late, match=r"ada has decided this case before: version 2 of 'pets' was promoted at 20.*Nothing"
    ):
        ledger.append(act("2", action="reject", case=CASE), path=path)
    assert len(ledger.history("pets", ("reject",), path)) == 0


def test_the_chain_by_hand(path: Path) -> None:
    rows = sqlite3.connect(path).execute("SELECT body, previous, hash FROM convoy_ledger ORDER BY number").fetchall()
    previous = "0" * 64
    for body, follows, digest in rows:
        assert body == json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
        assert follows == previous
        previous = hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()
        assert digest == previous
    assert json.loads((path.parent / "ledger.head").read_bytes()) == {"number": 4, "hash": previous}
    assert ledger.verify(path) is None


def test_a_stale_decision_is_refused_and_leaves_no_entry(path: Path) -> None:
    with pytest.raises(Late, match=r"champion of 'pets' was moved meanwhile: ada put version 2 there at 20.*Nothing"):
        ledger.append(act("3"), after=1, path=path)
    assert len(ledger.history("pets", path=path)) == 2


def test_a_decision_against_a_ledger_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no entry 4 for 'pets': it was removed or replaced"):
        ledger.append(act("3"), after=4, path=tmp_path / "new.db")


def test_entries_can_be_neither_changed_nor_removed(path: Path) -> None:
    database = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="entries never change"):
        database.execute("UPDATE convoy_ledger SET body = 'x'")
    with pytest.raises(sqlite3.IntegrityError, match="entries stay"):
        database.execute("DELETE FROM convoy_ledger")


def rewrite(database: sqlite3.Connection) -> None:
    """Another reason, with a hash that fits it: the next entry gives it away."""
    body, previous = database.execute("SELECT body, previous FROM convoy_ledger WHERE number = 2").fetchone()
    body = body.replace("better", "bribed")
    digest = hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()
    database.execute("UPDATE convoy_ledger SET body = ?, hash = ? WHERE number = 2", (body, digest))


def change(database: sqlite3.Connection) -> None:
    database.execute("UPDATE convoy_ledger SET body = replace(body, 'better', 'bribed') WHERE number = 2")


def garble(database: sqlite3.Connection) -> None:
    database.execute("UPDATE convoy_ledger SET body = 'nonsense' WHERE number = 1")


def remove(database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM convoy_ledger WHERE number = 2")


def rename(database: sqlite3.Connection) -> None:
    database.execute("UPDATE convoy_ledger SET model = 'planes' WHERE number = 2")


def cut(database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM convoy_ledger WHERE number > 2")


def write_anew(database: sqlite3.Connection) -> None:
    """The whole chain, with hashes that fit: the mark of the end gives it away."""
    previous = "0" * 64
    for number, body in database.execute("SELECT number, body FROM convoy_ledger ORDER BY number").fetchall():
        body = body.replace("ada", "eve")
        digest = hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()
        values = (body, previous, digest, number)
        database.execute("UPDATE convoy_ledger SET body = ?, previous = ?, hash = ? WHERE number = ?", values)
        previous = digest


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (change, r"entry 2 \(cars, promote\) was changed after it was written"),
        (rewrite, "entry 3 does not follow the one before it; one was removed or put in"),
        (garble, "entry 1 cannot be read"),
        (remove, "entry 3 does not follow"),
        (rename, "entry 2 .* was changed after it was written"),
        (cut, "its end is gone; .*ledger.head names entry 4, and the last one is 2"),
        (write_anew, "entry 4 is not the one that .*ledger.head names; all was written anew"),
    ],
)
def test_a_tampered_entry_is_named(path: Path, tamper: Callable[[sqlite3.Connection], None], words: str) -> None:
    database = sqlite3.connect(path)
    database.executescript("DROP TRIGGER no_change; DROP TRIGGER no_removal")
    tamper(database)
    database.commit()
    database.close()
    assert re.search(words, ledger.verify(path) or "")


def test_what_was_cut_off_is_missed_though_others_follow(path: Path) -> None:
    database = sqlite3.connect(path)
    database.executescript("DROP TRIGGER no_removal; DELETE FROM convoy_ledger WHERE number > 2")
    database.close()
    mark = path.with_name("ledger.head")
    for number in range(3, 6):
        assert ledger.append(act(str(number), action="refuse"), path=path).number == number
        assert json.loads(mark.read_bytes())["number"] == 4
        words = "its end is gone.*If no copy has the rest, remove that file" if number < 4 else "is not the one that"
        assert re.search(words, ledger.verify(path) or "")
    mark.unlink()
    ledger.append(act("6", action="refuse"), path=path)
    assert ledger.verify(path) is None
    assert json.loads(mark.read_bytes())["number"] == 6


def test_the_mark_is_of_the_end_whoever_writes_it_last(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, held = threading.Event(), threading.Event()
    passing = ledger.passing

    def slowed(point: Point) -> None:
        passing(point)
        if point == Point.ENTRY_COMMITTED and threading.current_thread().name == "slow":
            first.set()
            assert held.wait(120)

    monkeypatch.setattr(ledger, "passing", slowed)
    slow = threading.Thread(target=lambda: ledger.append(act("8", action="refuse"), path=path), name="slow")
    slow.start()
    assert first.wait(120)
    ledger.append(act("9", action="refuse"), path=path)
    held.set()
    slow.join()
    assert json.loads(path.with_name("ledger.head").read_bytes())["number"] == 6


def test_an_entry_that_cannot_be_read_says_so_wherever_it_is_met(path: Path) -> None:
    database = sqlite3.connect(path)
    database.executescript("DROP TRIGGER no_change; UPDATE convoy_ledger SET body = 'nonsense' WHERE number = 4;")
    for ask in (
        lambda: ledger.champion("pets", path),
        lambda: ledger.history(path=path),
        lambda: ledger.of_case(CASE, path),
    ):
        with pytest.raises(UserError, match=r"An entry of the ledger cannot be read.*`convoy doctor` names it"):
            ask()
    assert "entry 4 cannot be read" in (ledger.verify(path) or "")


@pytest.mark.parametrize("field", ["who", "why", "location", "model"])
def test_what_is_no_text_is_not_entered(path: Path, field: str) -> None:
    with pytest.raises(UserError, match=rf"holds text, and '{field}' has bytes that are no UTF-8: 'h\\udcff'"):
        ledger.append(act("3", action="refuse").model_copy(update={field: "h\udcff"}), path=path)
    newest = ledger.champion("pets", path)
    assert newest and newest.number == 4  # whoever reads them is not kept from it
    with pytest.raises(UserError, match=r"has bytes that are no UTF-8, as 'h\\udcff' does"):
        ledger.champion("h\udcff", path)


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"cannot be used: .*Put back a copy of it, or move it away"):
        ledger.champion("pets", tmp_path / "ledger.db")


def race(path: Path | None, together: Barrier, name: str) -> None:
    for after in range(ROUNDS):
        together.wait()
        try:
            ledger.append(act(name, why=f"round {after}"), after=after, path=path)
        except Late:
            continue


def run_race(path: Path | None) -> None:
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(PROCESSES)
    racers = [context.Process(target=race, args=(path, together, str(number))) for number in range(PROCESSES)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(timeout=600)
        assert racer.exitcode == 0
    assert [entry.why for entry in ledger.history("pets", path=path)] == [f"round {after}" for after in range(ROUNDS)]
    assert ledger.verify(path) is None


def test_of_many_processes_one_wins_each_epoch(tmp_path: Path) -> None:
    run_race(tmp_path / "ledger.db")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """An empty PostgreSQL database."""
    if not postgres.BINARIES:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgres.server() as address:
        yield address


@pytest.fixture
def in_postgres(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The project's ledger lies in the PostgreSQL that MLflow uses, and is empty."""
    from sqlalchemy import create_engine, text

    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.chdir(tmp_path)
    yield database
    with create_engine(database).begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS convoy_ledger"))
    shutil.rmtree(tmp_path / ".convoy", ignore_errors=True)


def test_postgres_holds_the_same_ledger(in_postgres: str) -> None:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import DatabaseError

    assert ledger.champion("pets") is None
    assert ledger.history() == []
    ledger.append(act("1", why="it's 100 % better: <b>'; DROP TABLE convoy_ledger; --\0"), after=0)
    ledger.append(act("2", action="judge", case=CASE))
    ledger.append(act("2", case=CASE), after=1)
    with pytest.raises(Late, match="was moved meanwhile"):
        ledger.append(act("3"), after=1)
    with pytest.raises(Late, match="has decided this case before"):
        ledger.append(act("2", action="reject", case=CASE))
    reigning = ledger.champion("pets")
    assert reigning and (reigning.to_version, reigning.epoch, reigning.number) == ("2", 2, 3)
    assert ledger.history("pets")[0].why.endswith("--\0")
    assert ledger.verify() is None
    assert not Path(".convoy/ledger.db").exists()
    for change in ("UPDATE convoy_ledger SET body = 'x'", "DELETE FROM convoy_ledger", "TRUNCATE convoy_ledger"):
        with pytest.raises(DatabaseError, match="never change and stay"):
            with create_engine(in_postgres).begin() as connection:
                connection.execute(text(change))


def test_in_postgres_one_wins_each_epoch(in_postgres: str) -> None:
    run_race(None)


def test_a_postgres_that_is_away_says_so_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"postgresql+pg8000://convoy:secret@127.0.0.1:{lasting_port()}/x"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(UserError, match=r"The ledger in postgresql.*cannot be used") as caught:
        ledger.append(act("1"), after=0)
    assert "secret" not in str(caught.value)
