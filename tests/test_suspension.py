"""Flow runs that wait for a decision, on a real Prefect server: how they end, are answered, and survive its absence."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import databases
import pytest
from decision_project import MODEL, make_case, make_version
from faulty_proxy import FaultyProxy, Mode

from flows import settings
from flows.decisions import suspension
from flows.decisions.watch import PERSON, waiting_on, watch
from flows.result import Result
from flows.servers.prefect_rest import wired
from flows.servers.prefect_server import Prefect, start_prefect
from flows.servers.processes import PATIENCE, stop, wait_ready
from flows.worker import untold
from flows.worker.untold import MEANWHILE, End
from pipeline.files import write_json
from pipeline.registry import attempts, cases, champion, decisions
from pipeline.registry.attempts import Attempt, Finished
from pipeline.registry.cases import Case
from pipeline.registry.decisions import By

pytestmark = pytest.mark.slow

ADA = By("ada", "command")
DONE = Finished(id="0" * 32, run="r", version="1", outcome="promote", champion=False, reasons=[])
FORM = ["decision-description", "decision-schema"]


class Scene:
    """A project whose Prefect server can be away."""

    def __init__(self, root: Path, proxy: FaultyProxy, client: Any) -> None:
        self.root, self.proxy, self.client = root, proxy, client

    def waits(self, before_its_end: Callable[[], None] = lambda: None) -> Case:
        """A flow run by hand that has asked for a decision."""
        assert self._engine_run(None, before_its_end) == Result(DONE, new=True)
        (standing,) = cases.standings()
        return standing.case

    def taken(self) -> UUID:
        """A flow run of a deployment that a worker of this project has taken."""
        from flows.worker import flow_runs

        flow = self.client.create_flow_from_name("retrain")
        deployment = self.client.create_deployment(flow, uuid4().hex)
        found: UUID = self.client.create_flow_run_from_deployment(deployment).id
        assert flow_runs.claim(self.client, self.root, found, "tester")
        return found

    def waits_as(self, taken: UUID) -> Case:
        """It has come to its end, and asked."""
        assert self._engine_run(taken, lambda: None) == Result(DONE, new=True)
        (standing,) = cases.standings()
        return standing.case

    def state(self, flow_run_id: UUID | str) -> tuple[str, str]:
        """Name and message."""
        state = self.client.read_flow_run(UUID(str(flow_run_id))).state
        return state.name, state.message

    def form(self, case: Case) -> list[str]:
        """What Prefect's page asks, and what was answered there."""
        with self.wire() as wire:
            found = wire.post(f"/flow_runs/{case.flow_run}/input/filter", {"prefix": "decision", "limit": 9})
            return sorted(one["key"] for one in found)

    def answer(self, case: Case, decision: str, reason: str = "seen") -> str:
        """Fill in the form as Prefect's page does; what becomes of it."""
        given = {"decision": decision, "reason": reason}
        return str(self.client.resume_flow_run(UUID(case.flow_run), run_input=given).status.value)

    def wire(self) -> Any:
        return wired(self.root)

    def _engine_run(self, taken: UUID | None, before_its_end: Callable[[], None]) -> Any:
        from prefect import flow
        from prefect.runtime import flow_run

        from flows.retrain import suspend
        from flows.worker import engine

        @flow(name="retrain", flow_run_name=MODEL, persist_result=False)
        def retrain() -> Any:
            case = make_case(make_version("1"), flow_run=flow_run.id)
            has_finished(flow_run.id)
            before_its_end()
            return suspend(case, Result(DONE, new=True))

        if taken:
            return engine.run_as(self.client.read_flow_run(taken), retrain)
        return engine.run(self.client, retrain, {})


def has_finished(flow_run_id: UUID | str) -> None:
    """All of it is done and recorded."""
    attempt = Attempt(id="0" * 32, key="k", model=MODEL, started=1, flow_run=str(flow_run_id), finished=DONE)
    write_json(attempts.folder(attempt.id) / "attempt.json", attempt.model_dump(mode="json"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The server has a password and checks for forged requests, as that of `convoy up`."""
    root = tmp_path_factory.mktemp("scene")
    databases.give(root)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("PREFECT_", "MLFLOW_"))]:
            patch.delenv(name)
        for name, value in settings.environment(root).items():
            patch.setenv(name, value)
        patch.chdir(root)
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_CLIENT_CSRF_SUPPORT_ENABLED, temporary_settings

        server = start_prefect(root, os.environ, port=0, parent=os.getpid())
        try:
            wait_ready(server, PATIENCE)
            # For a Prefect that another test has imported already, the variables come too late.
            own = {PREFECT_API_AUTH_STRING: settings.password(root), PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: True}
            with FaultyProxy(server.port) as proxy, temporary_settings(own):
                patch.setenv("PREFECT_API_URL", f"{proxy.url}/api")
                with Prefect(f"{proxy.url}/api").client(), get_client(sync_client=True) as client:
                    yield Scene(root, proxy, client)
        finally:
            if process := server.process():
                stop(process)


@pytest.fixture(autouse=True)
def nothing_is_decided(scene: Scene) -> None:
    """The server is there, and of the project's state only its password is left."""
    scene.proxy.switch(Mode.PASS)
    for path in (scene.root / ".convoy").iterdir():
        if path.name in ("cases", "pending", "runs", "untold", "flow-runs", "heartbeats"):
            shutil.rmtree(path)
        elif path.name.startswith("ledger"):
            path.unlink()


def test_a_flow_that_asks_is_suspended_with_a_form_and_its_process_goes_on(scene: Scene) -> None:
    case = scene.waits()
    state = scene.client.read_flow_run(UUID(case.flow_run)).state
    assert (state.type.value, state.name, state.message) == ("PAUSED", "Suspended", suspension.words(case))
    assert state.state_details.pause_timeout.timestamp() * 1000 == case.deadline
    assert scene.form(case) == FORM
    with scene.wire() as wire:
        asked = wire.get(f"/flow_runs/{case.flow_run}/input/decision-description")
        suspension.ask(wire, case)  # twice is once
    assert suspension.words(case).startswith(
        "pets version 1 is better than the champion and waits for a decision until 20"
    )
    about = f"Case `{case.id}`, model `{case.challenger.digest[:12]}`."
    assert asked == f"{suspension.words(case)}\n\n- Better than before.\n\n{about}"
    assert scene.form(case) == FORM
    assert waiting_on(UUID(case.flow_run)) == case
    assert list((scene.root / ".convoy/untold").glob("*")) == []  # the server knows all of it
    assert untold.tell(scene.client) == []


def test_an_answer_on_prefects_page_is_heard_once(scene: Scene) -> None:
    case = scene.waits()
    assert watch(scene.root) == []
    assert scene.answer(case, "perhaps") == "REJECT"  # the server holds what is filled in against the form
    assert scene.answer(case, "approve", "") == "REJECT"
    assert scene.state(case.flow_run)[0] == "Suspended"
    assert scene.answer(case, "approve", "looks right") == "ACCEPT"
    assert watch(scene.root) == [f"{PERSON} decided: promote pets version 1."]
    decision = cases.standing(case.id).decision
    assert decision is not None
    assert (decision.who, decision.via, decision.why) == (PERSON, "prefect", "looks right")
    assert scene.form(case) == FORM
    assert watch(scene.root) == []
    with scene.wire() as wire:
        suspension.end(wire, case, decision)
    state = scene.client.read_flow_run(UUID(case.flow_run)).state
    assert (state.type.value, state.name) == ("COMPLETED", "Approved")
    assert state.message == f"Approved by {PERSON} (prefect): looks right"


def test_a_no_on_prefects_page_is_a_no(scene: Scene) -> None:
    case = scene.waits()
    assert scene.answer(case, "reject", "confuses cats") == "ACCEPT"
    assert watch(scene.root) == [f"{PERSON} decided: reject pets version 1."]
    decision = cases.standing(case.id).decision
    assert decision is not None
    with scene.wire() as wire:
        suspension.end(wire, case, decision)
    assert scene.state(case.flow_run) == ("Rejected", f"Rejected by {PERSON} (prefect): confuses cats")
    assert champion.current(MODEL) is None


def test_cancelling_on_prefects_page_is_a_no(scene: Scene) -> None:
    from prefect.states import Cancelled

    case = scene.waits()
    scene.client.set_flow_run_state(UUID(case.flow_run), Cancelled(), force=True)
    assert watch(scene.root) == [f"{PERSON} decided: reject pets version 1."]
    decision = cases.standing(case.id).decision
    assert decision and decision.why == "Its flow run was cancelled on Prefect's page."
    assert champion.current(MODEL) is None


def test_an_answer_that_is_refused_leaves_the_flow_waiting_with_the_reason(scene: Scene) -> None:
    case = scene.waits()
    weights = scene.root / case.challenger.location / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"others")
    assert scene.answer(case, "approve") == "ACCEPT"
    (line,) = watch(scene.root)
    assert line.startswith("An answer on Prefect's page was refused: The files of version 1 of 'pets' in ")
    name, message = scene.state(case.flow_run)
    assert name == "Suspended"
    assert "were changed after it was registered" in message and message.endswith(suspension.words(case))
    assert scene.form(case) == FORM
    weights.write_bytes(whole)
    assert scene.answer(case, "approve") == "ACCEPT"  # and it can be answered again
    assert watch(scene.root) == [f"{PERSON} decided: promote pets version 1."]


def test_what_is_not_from_the_form_is_no_answer(scene: Scene) -> None:
    case = scene.waits()
    for value in ("approve", '{"decision": "approve"}', '{"decision": "approve", "reason": "x", "who": "root"}', "["):
        with scene.wire() as wire:
            wire.post(f"/flow_runs/{case.flow_run}/input", {"key": "decision-response", "value": json.dumps(value)})
            assert suspension.answer(wire, case) is None
    assert scene.form(case) == FORM
    assert cases.standing(case.id).state == "waiting"


def test_silence_is_a_no_whether_or_not_the_server_is_there(scene: Scene) -> None:
    make_case(make_version("1"), flow_run=str(uuid4()), deadline=1_700_000_000_000)
    scene.proxy.switch(Mode.REFUSE)
    assert watch(scene.root) == [
        "pets version 1 is rejected: Nobody decided until 2023-11-14 22:13 UTC: silence is a no."
    ]
    assert watch(scene.root) == []


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.FAIL])
def test_a_server_that_is_away_hears_later_that_the_flow_waits(
    scene: Scene, capsys: pytest.CaptureFixture[str], mode: Mode
) -> None:
    case = scene.waits(before_its_end=lambda: scene.proxy.switch(mode))
    assert "was away when the run ended. What it has not heard is told by the next" in capsys.readouterr().out
    note = untold.read(UUID(case.flow_run))
    assert note is not None
    assert note.end == End(type="PAUSED", name="Suspended", message=suspension.words(case))
    assert watch(scene.root) == []  # nobody can have answered
    scene.proxy.switch(Mode.PASS)
    assert scene.state(case.flow_run)[0] == "Running"
    assert scene.form(case) == []
    short = case.flow_run[:8]
    assert untold.tell(scene.client) == [f"Prefect now knows that flow run 'pets' ({short}) ended: Suspended."]
    assert scene.state(case.flow_run) == ("Suspended", f"{MEANWHILE} {suspension.words(case)}")
    assert scene.form(case) == FORM
    assert untold.tell(scene.client) == []
    assert scene.answer(case, "reject") == "ACCEPT"
    assert watch(scene.root) == [f"{PERSON} decided: reject pets version 1."]


def test_a_server_that_was_away_until_somebody_decided_hears_that_it_is_over(scene: Scene) -> None:
    case = scene.waits(before_its_end=lambda: scene.proxy.switch(Mode.REFUSE))
    decisions.reject(case.id, ADA, "confuses cats")
    scene.proxy.switch(Mode.PASS)
    (line,) = untold.tell(scene.client)
    assert line.endswith("ended: Completed.")
    assert scene.state(case.flow_run) == ("Completed", f"Run 00000000, version 1 of pets: promote. {MEANWHILE}")
    assert scene.form(case) == []


def test_a_flow_that_was_deleted_on_the_page_is_left_alone(scene: Scene) -> None:
    case = scene.waits()
    with scene.wire() as wire:
        wire.delete(f"/flow_runs/{case.flow_run}")
        assert watch(scene.root) == []
        suspension.end(wire, case, decisions.reject(case.id, ADA, "confuses cats"))


@pytest.mark.parametrize("cancelled", [False, True])
def test_the_worker_sees_that_its_process_ended_because_it_waits(scene: Scene, cancelled: bool) -> None:
    from flows.worker.job import Job, conclude

    taken = scene.taken()
    case = scene.waits_as(taken)
    job = Job(taken, ["-c", "pass"], scene.root, f"{scene.proxy.url}/api")
    while (status := job.status()) is None:
        time.sleep(0.02)
    job.cancelled = cancelled
    said = conclude(scene.client, job, status)
    if cancelled:
        assert said == f"Flow run {taken} is cancelled."
        assert scene.state(taken) == ("Cancelled", "Stopped as asked; what is done is kept.")
    else:
        assert said == f"Flow run {taken} waits for a decision."
        assert scene.state(taken) == ("Suspended", suspension.words(case))


def test_the_worker_clears_up_after_a_flow_that_waits_and_leaves_its_words(scene: Scene) -> None:
    from flows.worker import crashes, flow_runs

    taken = scene.taken()
    case = scene.waits_as(taken)
    closed: list[str] = []
    assert crashes.sweep(scene.client, scene.root, None, closed.append) == []
    assert closed == [str(taken)]
    assert flow_runs.remembered(scene.root) == []
    assert scene.state(taken) == ("Suspended", suspension.words(case))


def test_a_process_that_died_before_it_could_say_that_it_waits_has_it_said_by_the_worker(scene: Scene) -> None:
    from prefect.states import Running

    from flows.worker import crashes

    taken = scene.taken()
    scene.client.set_flow_run_state(taken, Running(), force=True)
    has_finished(taken)
    case = make_case(make_version("1"), flow_run=str(taken))
    closed: list[str] = []
    assert crashes.sweep(scene.client, scene.root, None, closed.append) == [
        f"Flow run {taken} had finished; Prefect knows it now."
    ]
    assert closed == [str(taken)]
    assert scene.state(taken) == ("Suspended", f"{MEANWHILE} {suspension.words(case)}")
    assert scene.form(case) == FORM


def test_what_somebody_has_paused_by_hand_is_left_alone(scene: Scene) -> None:
    from prefect.states import Paused

    from flows.worker import crashes, flow_runs

    taken = scene.taken()
    scene.client.set_flow_run_state(taken, Paused(timeout_seconds=60), force=True)
    assert crashes.sweep(scene.client, scene.root, None, pytest.fail) == []
    assert flow_runs.remembered(scene.root) == [taken]
