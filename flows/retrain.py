"""The flow `retrain`: the stages of `dvc.yaml`, then what must never be skipped or replayed: register, gate, promote.

The stages are pure and belong to DVC. The side effects are tasks here, each keyed by the digest of the model that it
acts on, so that a run that was killed can be taken up again at any point.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed
from prefect.task_engine import TaskRunTimeoutError

from flows import announce, artifacts, logs
from flows.decisions import judging, suspension
from flows.decisions.judging import Asker
from flows.recording import Recording
from flows.result import Result
from flows.schedule.request import Request
from flows.schedule.wording import trigger_words
from flows.servers.prefect_rest import AWAY, wired
from flows.servers.prefect_server import REQUEST_SECONDS
from flows.settings import home
from flows.stage import Died, Graph, StageRun, Stopped
from flows.worker import untold
from flows.worker.heartbeat import beating
from flows.worker.untold import Shown
from pipeline.asking import Killed
from pipeline.dataset import Dataset
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.files import DATASET, in_worktree
from pipeline.host import RESUME
from pipeline.params import Named, Params
from pipeline.registry import attempts, champion, decisions, experiment, slices
from pipeline.registry.cases import Case
from pipeline.registry.champion import Version
from pipeline.registry.runs import RunRecord
from pipeline.registry.tracking import address, reaching

DIED = (Died, Killed)
"""A process ended without a word."""
BY_HAND = Request.model_validate({})


def _model_name() -> str:
    return load(Named).name


@flow(name="retrain", flow_run_name=_model_name, persist_result=False)
def retrain(request: Request = BY_HAND) -> Any:
    """Bring the model of `params.yaml` up to date and let the gate decide whether it becomes champion.

    Args:
        request: what this run is asked to do beside that.

    Returns:
        A `Result`.

    Raises:
        UserError: what the user should mend; everything done so far is kept.
        Stopped: the run was interrupted.
    """
    os.environ["CONVOY_FLOW_PID"] = str(os.getpid())  # a stage ends itself when this process is gone
    if request.resume:
        os.environ[RESUME] = request.resume
    params = load(Params)
    with logs.kept(flow_run.id), beating(flow_run.id):
        try:
            return _retrain(params, request)
        except Exception as error:
            goes_on = isinstance(error, Stopped) or (isinstance(error, DIED) and _of_worker())
            if not goes_on:  # the worker takes a scheduled run up again whose process died
                announce.failed(params, flow_run.name or "", str(error) or type(error).__name__)
            raise


def _of_worker() -> bool:
    """Whether this flow run is one of a deployment. `prefect.runtime` would ask a server, which may be away by now."""
    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.deployment_id)


def _retrain(params: Params, request: Request) -> Any:
    graph = Graph(Path.cwd())
    with Recording(params, _prefect_tags()) as recording:
        source = graph.maker(DATASET)
        for stage in graph.stages():
            recording.at(stage)
            recording.stage(_brought_up_to_date(graph, stage, params))
            if stage == source:
                found = Dataset.open()
                slices.check(params.gate.slices, slices.columns(found))  # now, and not after hours of training
                dataset = found.info.digest
                if in_worktree() and (before := attempts.finished_as(params, dataset)):
                    message = f"Data, params and code are those of run {before.id[:8]}."
                    return Completed(name="NothingToDo", message=message, data=Result(before, new=False))
                recording.begin(dataset)
        version = register(recording)
        recording.at("judge")
        case: Case = _as_often_as_stages(judge, params)(recording, params, version, request.push)
        recording.at("promote")
        reigns = promote(recording, params, case)
        waits = not reigns and case.deadline > 0
        tags = _origin(request) | (keep_as_experiment(recording) if in_worktree() else {})
        record = recording.whole(version, case.verdict, tags)
        if request.push:
            recording.at("push")
            push(record, reigns)
        show(artifacts.of_run(params, version, case.verdict, reigns))
        finished = recording.conclude(record, reigns)
    announce.ended(params, finished.id, case, reigns, waits)
    result = Result(finished, new=True, experiment=tags.get("dvc.experiment", ""))
    return suspend(case, result) if waits else result


def _brought_up_to_date(graph: Graph, stage: str, params: Params) -> StageRun:
    """The stage as a Prefect task of its own name."""
    as_task = _as_often_as_stages(bring_up_to_date, params).with_options(
        name=stage, task_run_name=stage, timeout_seconds=params.flow.timeout_seconds or None
    )
    try:
        # A task that is called gives its result, but one that names its own state (`Cached`) gives that state.
        done: StageRun = as_task(graph, stage, return_state=True).result()
    except TaskRunTimeoutError:
        raise UserError(
            f"{stage}: stopped after {params.flow.timeout_seconds:g} s, as flow.timeout_seconds says. "
            "Set more, or 0 for no limit; `convoy run` goes on."
        ) from None
    return done


@task(persist_result=False)
def bring_up_to_date(graph: Graph, stage: str) -> Any:
    """Run one stage if DVC says so; a skipped one ends as `Cached`, which Prefect's page shows."""
    done: StageRun = graph.run(stage)
    artifacts.stage_done(done)
    return done if done.outcome == "ran" else Completed(name="Cached", message=f"{done.outcome} by DVC", data=done)


def _as_often_as_stages(of_it: Any, params: Params) -> Any:
    return of_it.with_options(retries=params.flow.retries, retry_condition_fn=_worth_another_try)


def _worth_another_try(of_it: Any, run: TaskRun, state: State[Any]) -> bool:
    """A process that died may live the next time; a mistake or an interruption stays one.

    Prefect asks where tries are left, so what is answered with yes is tried again: that is said here, for the next
    word is that of a process which takes its time to begin.
    """
    error = state.result(raise_on_failure=False)
    if not isinstance(error, DIED):
        return False
    reason = error.reason if isinstance(error, Died) else str(error)
    print(f"{reason} Trying again ({run.run_count} of {of_it.retries}).", flush=True)
    return True


@task(persist_result=False, task_run_name="register")
def register(recording: Recording) -> Version:
    """The model as a version in MLflow's registry, once per digest."""
    return recording.register()


@task(persist_result=False, task_run_name="judge")
def judge(recording: Recording, params: Params, version: Version, push: bool) -> Case:
    """Champion and challenger answer the same test images now, each from a fresh process; the test is paired."""
    asker = Asker(recording.attempt.id, str(flow_run.id or ""), push)
    case = judging.judge(params, version, asker, before=recording.attempt.case)
    recording.judged(case)
    return case


@task(persist_result=False, task_run_name="promote")
def promote(recording: Recording, params: Params, case: Case) -> bool:
    """Move the champion if gate and params say so; whether the version is the champion now."""
    if case.verdict.outcome == "promote" and params.gate.promote == "auto":
        decisions.promoted_by_gate(case)
    with reaching(address()):
        champion.reconcile(recording.client, params.name)
    reigning = champion.current(params.name)
    return reigning is not None and reigning.version.digest == case.challenger.digest


def suspend(case: Case, result: Result) -> State[Any]:
    """The flow run waits on Prefect's page, with a form to answer; nothing of it is left to be done meanwhile."""
    with suppress(*AWAY), wired(home(Path.cwd()), PREFECT_API_URL.value()) as wire:
        if wire:
            suspension.ask(wire, case)
    return suspension.suspended(case, result)


@task(persist_result=False, task_run_name="keep as experiment")
def keep_as_experiment(recording: Recording) -> dict[str, str]:
    """The run as a DVC experiment, which outlives its tree; the tag that names it."""
    attempt = recording.attempt
    day = time.strftime("%Y-%m-%d", time.gmtime(attempt.started / 1000))
    return {"dvc.experiment": experiment.save(attempt.model, attempt.id, day)}


@task(persist_result=False, task_run_name="push")
def push(record: RunRecord, reigns: bool) -> None:
    """Data, models and the record of the run to the DVC remote: enough for a fresh clone to rebuild the run."""
    from flows.remote import published

    published.push(Path.cwd(), record, reigns)


def show(shown: list[Shown]) -> None:
    """Put the run on Prefect's page; a server that is away hears of it later."""
    with get_client(sync_client=True, httpx_settings={"timeout": REQUEST_SECONDS}) as client:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            untold.show(client, UUID(str(flow_run.id)), shown)


def _origin(request: Request) -> dict[str, str]:
    """What set the run off and which branch it is of, where that was no person at the working tree."""
    set_off = request.trigger.cron or request.trigger.new_data
    tags = {"trigger": trigger_words(request.trigger)} if set_off else {}
    return tags | ({"git.branch": request.branch} if request.branch else {})


def _prefect_tags() -> dict[str, str]:
    return {"prefect.flow_run": str(flow_run.id or ""), "prefect.flow_run_name": str(flow_run.name or "")}
