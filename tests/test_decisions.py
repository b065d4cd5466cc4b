"""Deciding: what is taken, what is refused in which words, and that of many at once one wins."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sqlite3
import time
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from decision_project import MODEL, UNSOUND, make_case, make_version
from pydantic import ValidationError

from flows.decisions import deciding
from pipeline.errors import UserError
from pipeline.params import GateOptions
from pipeline.registry import cases, champion, decisions, ledger
from pipeline.registry.decisions import By, Refused

ADA = By("ada", "command")
PROCESSES, ROUNDS = 8, int(os.environ.get("CONVOY_ROUNDS", "50"))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, whose ledger is a file."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reigning() -> str:
    found = champion.current(MODEL)
    return found.version.version if found else ""


def refused() -> list[str]:
    return [entry.why for entry in ledger.history(None, ("refuse",))]


def test_an_approval_moves_the_champion_and_says_who_and_why() -> None:
    case = make_case(make_version("1"))
    entry = decisions.approve(case.id, ADA, "looks right", cases.binding(case.id))
    assert reigning() == "1"
    assert (entry.who, entry.via, entry.why, entry.from_version, entry.to_version) == (
        "ada",
        "command",
        "looks right",
        None,
        "1",
    )
    assert (entry.model_digest, entry.dataset_digest, entry.report_digest) == (
        case.challenger.digest,
        "d" * 64,
        "e" * 64,
    )
    assert cases.standing(case.id).state == "promoted"
    second = make_case(make_version("2"))
    assert decisions.approve(second.id, ADA, "better").from_version == "1"
    assert [entry.action for entry in ledger.history(MODEL, ("judge", "promote"))] == ["judge", "promote"] * 2
    assert ledger.verify() is None


def test_a_rejection_leaves_the_champion() -> None:
    case = make_case(make_version("1"))
    decisions.reject(case.id, ADA, "confuses cats")
    assert reigning() == ""
    assert cases.standing(case.id).state == "rejected"
    with pytest.raises(Refused, match=r"ada was first: version 1 of 'pets' was rejected at 20.*Nothing was changed"):
        decisions.approve(case.id, By("bob", "page"), "I like it")
    assert "ada was first" in refused()[0]


def test_a_model_that_fails_its_infrastructure_check_cannot_be_approved() -> None:
    case = make_case(make_version("1"), checks=UNSOUND)
    with pytest.raises(Refused, match=r"pets/1 fails its infrastructure check.*: 40 ms a picture, and 20 ms are"):
        decisions.approve(case.id, ADA, "please")
    never = make_case(make_version("2"), checks=())
    with pytest.raises(Refused, match="fails its infrastructure check, so nobody can promote it: it was never made"):
        decisions.approve(never.id, ADA, "please")
    assert reigning() == ""
    assert len(refused()) == 2


def test_what_the_gate_rejected_cannot_be_approved_but_what_it_held_can() -> None:
    with pytest.raises(Refused, match="The gate rejected pets/1, so nobody can promote it: Better than before"):
        decisions.approve(make_case(make_version("1"), outcome="reject").id, ADA, "please")
    decisions.approve(make_case(make_version("2"), outcome="hold", deadline=0).id, ADA, "the test set is old")
    assert reigning() == "2"


def test_a_stale_case_cannot_be_approved() -> None:
    first, second = make_case(make_version("1")), make_case(make_version("2"))
    decisions.approve(second.id, ADA, "better")
    assert cases.standing(first.id).state == "stale"
    with pytest.raises(Refused, match="judged against another champion than the present one. `convoy judge pets/1`"):
        decisions.approve(first.id, ADA, "better still")
    assert reigning() == "2"


def test_what_waits_though_another_champion_has_come_is_closed() -> None:
    first, second = make_case(make_version("1")), make_case(make_version("2"))
    held = make_case(make_version("3"), outcome="hold", deadline=0)
    decisions.approve(second.id, ADA, "better")
    (entry,) = decisions.silence()
    assert (entry.case, entry.who, entry.via) == (first.id, "nobody", "silence")
    assert entry.why.startswith(
        "Version 2 became champion meanwhile, and it was compared with another one. `convoy judge"
    )
    assert cases.standing(held.id).state == "stale"  # nobody was asked about it


def test_an_unknown_or_changed_case_cannot_be_approved(project: Path) -> None:
    with pytest.raises(Refused, match="There is no case 'ffffffffffffffff' here"):
        decisions.approve("f" * 16, ADA, "please")
    for name in ("../../etc/passwd", "", "A" * 16):
        with pytest.raises(Refused, match="There is no case"):
            decisions.approve(name, ADA, "please")
    case = make_case(make_version("1"), outcome="reject")
    path = cases.folder(case.id) / "case.json"
    path.write_text(path.read_text().replace('"outcome": "reject"', '"outcome": "promote"'))
    with pytest.raises(Refused, match="is not the one that the gate judged: the ledger knows it under another digest"):
        decisions.approve(case.id, ADA, "please")
    # a whole case of one's own making, of which the ledger knows nothing
    forged = project / ".convoy/cases" / ("9" * 16)
    forged.mkdir()
    (forged / "case.json").write_text(json.dumps(json.loads(path.read_text()) | {"id": "9" * 16}))
    with pytest.raises(Refused, match="or not at all"):
        decisions.approve("9" * 16, ADA, "please")
    assert reigning() == ""


def test_files_that_are_gone_or_changed_are_refused(project: Path) -> None:
    case = make_case(make_version("1"))
    weights = project / case.challenger.location / "weights.safetensors"
    weights.write_text("others")
    with pytest.raises(Refused, match="were changed after it was registered: their digest is"):
        decisions.approve(case.id, ADA, "better")
    weights.unlink()
    with pytest.raises(Refused, match="The files of version 1 of 'pets' are gone"):
        decisions.approve(case.id, ADA, "better")
    assert reigning() == ""


def test_a_decision_binds_to_what_was_shown() -> None:
    first, second = make_case(make_version("1")), make_case(make_version("2"))
    shown = cases.binding(first.id)
    decisions.approve(second.id, ADA, "better")
    with pytest.raises(Refused, match="What you saw has changed since"):
        decisions.reject(first.id, ADA, "worse", shown)
    with pytest.raises(Refused, match="What you saw has changed since"):
        decisions.reject(first.id, ADA, "worse", "0" * 64)
    decisions.reject(first.id, ADA, "worse", cases.binding(first.id))


def test_a_decision_needs_a_reason_of_some_words() -> None:
    case = make_case(make_version("1"))
    with pytest.raises(Refused, match="needs a reason"):
        decisions.approve(case.id, ADA, " \n")
    with pytest.raises(Refused, match="holds characters that cannot be printed"):
        decisions.approve(case.id, ADA, "fine \x1b[2J")
    with pytest.raises(Refused, match="2,001 characters; 2,000 are kept"):
        decisions.approve(case.id, ADA, "x" * 2001)


SAID = ["trop lent\u00a0: 40\u202fms", "می\u200cشود", "👩\u200d🔬 approves", "two\r\nlines"]


@pytest.mark.parametrize("why", SAID)
def test_a_reason_may_be_in_any_language(why: str) -> None:
    assert decisions.approve(make_case(make_version("1")).id, ADA, why).why == why
    assert champion.line(MODEL)[0].why == why


def test_what_the_gate_has_rejected_since_cannot_be_approved_by_an_older_case() -> None:
    version = make_version("1")
    held = make_case(version, outcome="hold", deadline=0)
    again = make_case(version, outcome="reject", deadline=0, dataset="f" * 64)
    assert {one.case.id: one.state for one in cases.standings()} == {held.id: "outdated", again.id: "refused"}
    assert (cases.standing(held.id).state, cases.standing(held.id).since) == ("outdated", again.id)
    with pytest.raises(Refused, match=f"judged pets/1 again, as case {again.id}, and rejected it, so nobody"):
        decisions.approve(held.id, ADA, "it was only held then")
    third = make_case(version, outcome="hold", deadline=0, dataset="a" * 64)
    decisions.approve(third.id, ADA, "on newer pictures")
    assert reigning() == "1"


def test_the_champion_itself_is_nothing_to_decide_on() -> None:
    version = make_version("1")
    decisions.approve(make_case(version).id, ADA, "first")
    again = make_case(version, outcome="hold", deadline=0)
    assert cases.standing(again.id).state == "reigning" and not cases.standing(again.id).answerable
    assert {one.case.id: one.state for one in cases.standings()}[again.id] == "reigning"
    for decide in (decisions.approve, decisions.reject):
        with pytest.raises(
            Refused, match=r"pets/1 is the champion already\. `convoy rollback pets` takes it out of use"
        ):
            decide(again.id, ADA, "once more")
    decisions.approve(make_case(make_version("2")).id, ADA, "better")
    assert cases.standing(again.id).state == "stale"


def test_nobody_is_asked_any_more_about_what_the_gate_has_rejected_since() -> None:
    version = make_version("1")
    asked = make_case(version)
    assert cases.pending() == [asked.id]
    again = make_case(version, outcome="reject", deadline=0, dataset="f" * 64)
    (said,) = decisions.silence()
    assert (said.action, said.who, said.why) == (
        "reject",
        "nobody",
        f"The gate has judged the same files again, as case {again.id}, and rejected them.",
    )
    assert cases.standing(asked.id).state == "rejected"


def test_a_case_that_is_only_half_made_is_not_listed(project: Path) -> None:
    case = make_case(make_version("1"))
    home = project / ".convoy/cases"
    shutil.copytree(home / case.id, home / f".{'b' * 16}.tmp")  # as a kill leaves it
    shutil.copytree(home / case.id, home / ("b" * 16))  # another's file under this name
    assert [one.case.id for one in cases.standings()] == [case.id]


def test_a_command_decides_on_the_newest_case_about_one_version(project: Path) -> None:
    (project / "params.yaml").write_text("name: pets\n")
    first, second = make_version("1"), make_version("2")
    make_case(first, run="ab12" + "0" * 28, outcome="hold", deadline=0, made=1)
    newest = make_case(first, run="ab12" + "0" * 28, outcome="reject", deadline=0, dataset="f" * 64, made=2)
    other = make_case(second, run="ab13" + "0" * 28, made=3)
    for name in ("pets/1", "1", "ab12", newest.id):
        assert deciding.find(name).case.id == newest.id
    assert deciding.find("pets/2").case.id == other.id
    make_case(make_version("3"), run="ab12" + "f" * 28, made=4)
    with pytest.raises(UserError, match=r"'ab12' fits 2 versions: pets/3, pets/1. Name one of them"):
        deciding.find("ab12")
    with pytest.raises(UserError, match="has judged no version 'pets/7' here. Its newest: pets/3, pets/2, pets/1"):
        deciding.find("pets/7")


def test_a_version_that_is_rolled_back_to_names_its_model(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "params.yaml").write_text("name: pets\n")
    for number in ("1", "2"):
        for model in (MODEL, "cars"):
            case = make_case(make_version(number, model=model), run=number * 32)
            decisions.approve(case.id, ADA, "better")
    with pytest.raises(UserError, match=r"--to cars/1 is a version of 'cars', and --model says 'pets'"):
        deciding.rollback(project, "pets", "cars/1", "no")
    monkeypatch.setattr(deciding.settle, "settle", lambda root: [])  # MLflow is none of this
    deciding.rollback(project, "", "cars/1", "its brakes")
    found = champion.current("cars")
    assert (reigning(), found and found.version.version) == ("2", "1")


def test_the_gate_promotes_once_and_its_run_tells_of_it() -> None:
    case = make_case(make_version("1"), deadline=0)
    entry = decisions.promoted_by_gate(case)
    assert entry
    assert (entry.via, entry.why, reigning()) == ("gate", "Better than before.", "1")
    assert entry.who.startswith("the gate, for ")
    assert decisions.promoted_by_gate(case) is None  # the same run, taken up again
    assert len(ledger.history(MODEL)) == 1
    assert cases.pending() == []  # else people would hear of it twice, and the next run would look for them


def test_silence_is_a_no() -> None:
    case = make_case(make_version("1"), deadline=1_700_000_000_000)
    assert cases.standing(case.id).state == "overdue"
    with pytest.raises(
        Refused, match="time to decide ended at 2023-11-14 22:13 UTC, and silence is a no. `convoy judge"
    ):
        decisions.approve(case.id, ADA, "sorry, late")
    entry = cases.standing(case.id).decision
    assert entry
    assert (entry.action, entry.who, entry.via) == ("reject", "nobody", "silence")
    assert entry.why == "Nobody decided until 2023-11-14 22:13 UTC: silence is a no."
    assert decisions.silence() == []
    waiting = make_case(make_version("2"))
    assert decisions.silence() == []
    assert cases.standing(waiting.id).state == "waiting"


def test_the_same_judgement_twice_is_one_case() -> None:
    version = make_version("1")
    first = make_case(version)
    assert make_case(version, made=1) == first  # as it was
    assert len(ledger.history(None, ("judge",))) == 1


def test_another_outcome_is_another_case() -> None:
    version = make_version("1")
    slow, quick = (make_case(version, outcome=outcome, deadline=0) for outcome in ("reject", "hold"))
    assert slow.id != quick.id
    assert [one.case.verdict.outcome for one in cases.standings()] == ["hold", "reject"]


def test_a_case_whose_file_was_lost_is_judged_again_and_can_be_decided(project: Path) -> None:
    version = make_version("1")
    lost = make_case(version)
    shutil.rmtree(project / ".convoy/cases")
    again = make_case(version)
    assert again.id != lost.id
    assert make_case(version, made=1) == again  # twice is once
    decisions.approve(again.id, ADA, "better")
    assert reigning() == "1"
    assert ledger.verify() is None


def test_nobody_is_waited_for_beyond_the_calendar() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 87600"):
        GateOptions(decide_within_hours=1e9)
    longest = time.time_ns() // 1_000_000 + 87_600 * 3_600_000
    assert make_case(make_version("1"), deadline=longest).until.endswith(" UTC")


def test_a_name_that_is_no_text_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    approved("1", "2")
    with pytest.raises(Refused, match="has bytes that are no UTF-8"):
        decisions.rollback("pets\udcff", ADA, "no such model")
    monkeypatch.setenv("LOGNAME", "ad\udcff")
    assert decisions.person() == "ad?"
    decisions.rollback(MODEL, By(decisions.person(), "command"), "back")
    assert [entry.who for entry in ledger.history(MODEL)] == ["ada", "ada", "ad?"]


def approved(*numbers: str) -> None:
    for number in numbers:
        decisions.approve(make_case(make_version(number), run=number * 32).id, ADA, f"reason {number}")


def test_rolling_back_takes_the_champion_before(project: Path) -> None:
    approved("1", "2", "3")
    entry = decisions.rollback(MODEL, ADA, "3 breaks dogs")
    assert (reigning(), entry.action, entry.from_version, entry.to_version) == ("2", "rollback", "3", "2")
    assert decisions.rollback(MODEL, ADA, "so does 2", to="1").to_version == "1"
    assert [one.version.version for one in champion.line(MODEL)] == ["1", "2", "3", "2", "1"]
    # the one before this one is the newest other champion
    assert decisions.rollback(MODEL, ADA, "back").to_version == "2"
    assert ledger.verify() is None
    assert cases.pending_models() == [MODEL]


def test_a_rollback_is_refused_in_words(project: Path) -> None:
    with pytest.raises(Refused, match="'pets' has no champion, so there is nothing to go back to"):
        decisions.rollback(MODEL, ADA, "why not")
    approved("1")
    with pytest.raises(Refused, match="has had no champion but version 1: nothing to go back to"):
        decisions.rollback(MODEL, ADA, "why not")
    approved("2")
    with pytest.raises(Refused, match="Version 2 of 'pets' is the champion already"):
        decisions.rollback(MODEL, ADA, "why not", to="2")
    with pytest.raises(Refused, match="Version 7 of 'pets' has never been champion. These were: 1"):
        decisions.rollback(MODEL, ADA, "why not", to="7")
    with pytest.raises(Refused, match="was moved meanwhile: ada put version 2 there"):
        decisions.rollback(MODEL, ADA, "why not", after=1)
    (project / "models/pets/1/network.pt2").write_text("evil")
    with pytest.raises(Refused, match="version 1 of 'pets' in .* were changed after it was registered"):
        decisions.rollback(MODEL, ADA, "why not")
    assert reigning() == "2"
    assert len(refused()) == 6


def test_who_reigned_when() -> None:
    approved("1", "2")
    first, second = ledger.history(MODEL)
    assert champion.at(MODEL, "2020-01-01T00:00:00Z") is None
    found = champion.at(MODEL, second.when)
    assert found and found.version.version == "2"
    assert first.when <= second.when


def test_a_changed_entry_is_found_and_named() -> None:
    approved("1", "2")
    database = sqlite3.connect(".convoy/ledger.db")
    database.executescript("DROP TRIGGER no_change; UPDATE convoy_ledger SET body = replace(body, 'reason 1', 'x');")
    assert "entry 2 (pets, promote) was changed after it was written" in (ledger.verify() or "")


def race(together: Barrier, number: int, wins: Any, moving: Synchronized[int]) -> None:
    """In each round everybody approves the round's case, rejects it or rolls back, at the same moment."""
    by = By(f"person {number}", "command")
    for turn in range(ROUNDS):
        if number == 0:
            version = make_version(str(turn + 3))
            make_case(version, run=f"{turn:032x}")
        together.wait()
        reign = champion.current(MODEL)
        assert reign is not None
        case = next(path.name for path in sorted(Path(".convoy/cases").iterdir()) if turn_of(path) == turn)
        together.wait()
        try:
            if (number + turn) % 3 == 0:
                decisions.rollback(MODEL, by, "race", after=reign.epoch)
            elif (number + turn) % 3 == 1:
                decisions.approve(case, by, "race")
            else:
                decisions.reject(case, by, "race")
            wins.append((turn, number))
        except Refused:
            pass
        together.wait()
    with moving.get_lock():
        moving.value -= 1


def turn_of(case: Path) -> int:
    return int(json.loads((case / "case.json").read_bytes())["run"], 16) if case.name[0] != "." else -1


def watch(moving: Synchronized[int], seen: Any) -> None:
    """Exactly one champion at every instant, and the epoch never goes back."""
    last = 0
    while moving.value > 0:
        entry = ledger.champion(MODEL)
        assert entry is not None
        assert entry.epoch >= last
        last = entry.epoch
        seen.append(last)


def told(work: Callable[..., None], trouble: Any, *arguments: Any) -> None:
    """Do the work of a process; what goes wrong in it is told."""
    try:
        work(*arguments)
    except BaseException:
        trouble.append(traceback.format_exc())


@pytest.mark.slow
def test_of_eight_processes_in_many_rounds_each_loser_is_told() -> None:
    for number in ("1", "2"):
        decisions.approve(make_case(make_version(number), run="f" * 31 + number).id, ADA, "first")
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        wins, seen, trouble = manager.list(), manager.list(), manager.list()
        together, moving = context.Barrier(PROCESSES), context.Value("i", PROCESSES)
        work = [(race, trouble, together, number, wins, moving) for number in range(PROCESSES)]
        processes = [context.Process(target=told, args=one) for one in (*work, (watch, trouble, moving, seen))]
        for process in processes:
            process.start()
        for process in processes:
            process.join(1800)
        assert (list(trouble), moving.value) == ([], 0)
        won = Counter(turn for turn, _ in wins)
        assert len(seen) > ROUNDS
    entries = ledger.history(None, ("promote", "reject", "rollback"))[2:]
    assert len(entries) == sum(won.values())  # who was not refused has an entry, and nobody else
    assert all(1 <= won[turn] <= 2 for turn in range(ROUNDS))  # a rejection and one move, or one of them
    assert len(ledger.history(None, ("refuse",))) == PROCESSES * ROUNDS - sum(won.values())
    assert [entry.epoch for entry in ledger.history(MODEL)] == list(range(1, len(ledger.history(MODEL)) + 1))
    assert ledger.verify() is None


def test_a_ledger_that_cannot_be_used_refuses_everything(project: Path) -> None:
    case = make_case(make_version("1"))
    (project / ".convoy/ledger.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(UserError, match=r"ledger .* cannot be used"):
        decisions.approve(case.id, ADA, "better")
