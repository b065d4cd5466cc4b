"""The flow `retrain`: the stages of `dvc.yaml`, then what must never be skipped or replayed: register, gate, promote.

The stages are pure and belong to DVC. The side effects are tasks here, each keyed by the digest of the model that it
acts on, so that a run that was killed can be taken up again at any point.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.task_engine import TaskRunTimeoutError

from flows import artifacts
from flows.recording import Recording
from flows.stage import Died, Graph, StageRun
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.registry import champion, gate
from pipeline.registry.attempts import Finished
from pipeline.registry.champion import Version
from pipeline.registry.gate import Verdict
from pipeline.score import answers


@flow(name="retrain", flow_run_name="{name}", persist_result=False)
def retrain(name: str) -> Finished:
    """Bring the model `name` up to date and let the gate decide whether it becomes champion.

    Raises:
        UserError: what the user should mend; everything done so far is kept.
        Stopped: the run was interrupted.
    """
    params, graph = load(Params), Graph(Path.cwd())
    os.environ["CONVOY_FLOW_PID"] = str(os.getpid())  # a stage ends itself when this process is gone
    with Recording(params, _prefect_tags()) as recording:
        for stage in graph.stages():
            # A task that is called gives its result, but one that names its own state (`Cached`) gives that state.
            try:
                recording.stage(_stage_task(stage, params)(graph, stage, return_state=True).result())
            except TaskRunTimeoutError:
                raise UserError(
                    f"{stage}: stopped after {params.flow.timeout_seconds:g} s, as flow.timeout_seconds says. "
                    "Set more, or 0 for no limit; `convoy run` goes on."
                ) from None
        version = register(recording)
        verdict = judge(params, version)
        reigns = promote(recording, params, version, verdict)
        artifacts.publish(params, version, verdict, reigns)
        return recording.conclude(version, verdict, reigns)


def _stage_task(stage: str, params: Params) -> Any:
    """The stage as a Prefect task of its own name."""
    return bring_up_to_date.with_options(
        name=stage,
        task_run_name=stage,
        retries=params.flow.retries,
        retry_condition_fn=_worth_another_try,
        timeout_seconds=params.flow.timeout_seconds or None,
    )


@task(persist_result=False)
def bring_up_to_date(graph: Graph, stage: str) -> Any:
    """Run one stage if DVC says so; a skipped one ends as `Cached`, which Prefect's page shows."""
    done: StageRun = graph.run(stage)
    artifacts.stage_done(done)
    return done if done.outcome == "ran" else Completed(name="Cached", message=f"{done.outcome} by DVC", data=done)


def _worth_another_try(_: Any, __: TaskRun, state: State[Any]) -> bool:
    """A stage that died may live the next time; a mistake or an interruption stays one."""
    return isinstance(state.result(raise_on_failure=False), Died)


@task(persist_result=False, task_run_name="register")
def register(recording: Recording) -> Version:
    """The model as a version in MLflow's registry, once per digest."""
    return recording.register()


@task(persist_result=False, task_run_name="judge")
def judge(params: Params, version: Version) -> Verdict:
    """Champion and challenger answer the same test images now, each from a fresh process; the test is paired."""
    reigning = champion.current(params.name)
    return gate.decide(params, version, reigning, lambda bundle: answers(bundle, params.compute))


@task(persist_result=False, task_run_name="promote")
def promote(recording: Recording, params: Params, version: Version, verdict: Verdict) -> bool:
    """Move the champion if gate and params say so; whether the version is the champion now."""
    if verdict.outcome == "promote" and params.gate.promote == "auto":
        champion.promote(recording.client, version, verdict.epoch, " ".join(verdict.reasons))
    else:
        champion.reconcile(recording.client, params.name)
    reigning = champion.current(params.name)
    return reigning is not None and reigning.version.digest == version.digest


def _prefect_tags() -> dict[str, str]:
    return {"prefect.flow_run": str(flow_run.id or ""), "prefect.flow_run_name": str(flow_run.name or "")}
