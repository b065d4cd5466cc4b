"""`convoy worker`: serves the scheduled runs of a project, one at a time, for as long as it is left to.

A plain loop over Prefect's API. Each flow run gets a worktree and a process of its own; this process computes nothing,
so that neither a mistake in somebody's code nor a lack of memory ends it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from json import JSONDecodeError
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Failed
from pydantic import ValidationError

from flows import announce, worktrees
from flows.alone import alone
from flows.decisions import follow
from flows.decisions.follow import Follower
from flows.notify.redaction import reason, redacted
from flows.schedule import scheduler
from flows.schedule.server import bring_in_line
from flows.servers import dashboards as servers
from flows.worker import automations, crashes, due, flow_runs, pool, untold
from flows.worker.duties import Every, told_to_stop
from flows.worker.heartbeat import beating
from flows.worker.job import Job, conclude, unwanted
from pipeline.errors import TemporaryFailure, UserError
from pipeline.files import STATE
from pipeline.room import full

COMMAND = ("-m", "flows.scheduled")
"""What runs a flow run, after the interpreter and before its id: in its worktree, with the code there."""
LOOK_SECONDS = 0.5
"""Between two looks at the process of a flow run, and at the signals."""
HEARTBEAT_SECONDS = 10
"""Between two signs of life of the worker; after three that are missing, Prefect's page shows it offline."""
AWAY = (httpx.HTTPError, ValidationError, JSONDecodeError)
"""A server that refuses, hangs, or answers what makes no sense."""


def work(project: Path, name: str | None = None, keep_up: bool = False) -> None:
    """Serve until SIGINT or SIGTERM; the run at work then keeps what is done, and the next worker goes on with it.

    Args:
        project: its root, which is the current folder.
        name: as Prefect's page shows it; by default the machine's.
        keep_up: start the project's servers too, and again whenever they are gone; they end with the worker.
    """

    def wait(holder: str) -> None:
        say(f"Another worker is at work in this project ({holder}); this one takes over when it ends.")

    with alone(project / STATE / "worker.lock", wait):
        Worker(project, name or platform.node(), keep_up).serve()
        if keep_up:
            servers.down(project, say)
    say("The worker has ended.")


class Worker:
    """Holds what outlives a connection to the server: the flow run at work, and when each duty is due."""

    def __init__(self, project: Path, name: str, keep_up: bool) -> None:
        self._project, self._name, self._keep_up = project, name, keep_up
        self._job: Job | None = None
        self._heartbeat, self._sweeps, self._servers = Every(HEARTBEAT_SECONDS), Every(10), Every(20)
        self._schedules, self._polls, self._cancellations = Every(5), Every(2), Every(2)
        self._trouble, self._in_doubt = "", False
        self._ticked: list[str] = []
        self._follower = Follower(project)

    def serve(self) -> None:
        """Do what is due, again and again, through every absence of the server."""
        follow.start(self._project)  # MLflow's aliases are brought in line with the ledger
        with told_to_stop() as told:
            try:
                while not told:
                    self._serve_until_away(told)
                    time.sleep(0 if told else 2)
                self._stop()
            finally:  # also after a second signal, which is an exception
                if self._job:
                    self._job.kill()

    def _serve_until_away(self, told: Sequence[int]) -> None:
        api = pool.address(self._project)
        if api is None and self._keep_up:
            self._start_servers()
            return
        if api is None:
            self._complain("No Prefect server of this project runs; the worker waits for one. `convoy up` starts it.")
            return
        try:
            with pool.connected(api) as client:
                pool.ensure(client)
                automations.ensure(client)
                self._deploy(client)
                if self._trouble or not self._in_doubt:
                    say(f"Worker {self._name} serves the pool {pool.POOL!r} at {redacted(api)}. Ctrl-C stops it.")
                self._trouble = ""
                while not told:
                    self._look_after(client, api)
                    self._in_doubt = False
                    time.sleep(LOOK_SECONDS)
        except ObjectNotFound:
            pass  # a flow run was deleted on the page a moment ago; the next round knows
        except AWAY as error:
            if self._in_doubt:  # once is nothing: a server on SQLite is at times too busy for one request
                self._complain(
                    f"The Prefect server at {redacted(api)} is away ({reason(error)[:200]}); the worker waits for it."
                )
            self._in_doubt = True
        except OSError as error:
            if not (words := full(error)):
                raise
            self._complain(f"Cannot write: {words}. The worker goes on once there is room.")

    def _start_servers(self) -> None:
        try:
            servers.up(self._project, say)
        except UserError as error:
            self._complain(str(error))

    def _deploy(self, client: SyncPrefectClient) -> None:
        try:
            self._report(bring_in_line(client, self._project))
        except UserError as error:  # in prefect.yaml; what the server holds is served all the same
            say(str(error))

    def _look_after(self, client: SyncPrefectClient, api: str) -> None:
        if self._keep_up and self._servers.due() and servers.missing(self._project):
            self._start_servers()
        if self._heartbeat.due():
            client.send_worker_heartbeat(pool.POOL, self._name, HEARTBEAT_SECONDS)
        if self._job:
            self._watch(client, self._job)
        if self._sweeps.due():
            self._sweep(client)
        if self._schedules.due():
            self._tick(client)
        if self._job is None and self._polls.due():
            self._take(client, api)

    def _tick(self, client: SyncPrefectClient) -> None:
        """What a tick says is said once, however often the next ones say the same."""
        said, self._ticked = self._ticked, scheduler.tick(client, self._project, datetime.now(UTC))
        self._report([line for line in self._ticked if line not in said])

    def _take(self, client: SyncPrefectClient, api: str) -> None:
        """Start the flow run that has been due for longest; call off those that need not begin."""
        now = datetime.now(UTC)
        for found in client.get_scheduled_flow_runs_for_work_pool(pool.POOL, scheduled_before=now):
            flow_run = found.flow_run
            if not due.belongs_here(self._project, flow_run) or flow_runs.lives(self._project, flow_run.id):
                continue
            try:
                request = due.request_of(flow_run)
                if skip := due.called_off(client, flow_run, request, now):
                    client.set_flow_run_state(flow_run.id, skip.state(), force=True)
                    say(f"Flow run {flow_run.id} does not begin. {skip.reason}")
                elif flow_runs.claim(client, self._project, flow_run.id, self._name):
                    self._start(flow_run, due.ref_of(request), api)
                    return
            except TemporaryFailure as error:  # a full disk: it waits, or is put back, until there is room
                self._complain(str(error))
            except UserError as error:
                client.set_flow_run_state(flow_run.id, Failed(message=str(error)), force=True)
                say(f"Flow run {flow_run.id} failed: {error}")
                announce.failed_early(self._project, flow_run.name, str(error))  # it has no tree whose params say whom
                self._sweeps.at_once()

    def _start(self, flow_run: FlowRun, ref: str, api: str) -> None:
        with beating(flow_run.id):  # its process does so itself once it is up
            root = worktrees.open_for(self._project, str(flow_run.id), ref)
        say(f"Flow run {flow_run.id} starts in {root}.")
        self._job = Job(flow_run.id, COMMAND, root, api)

    def _watch(self, client: SyncPrefectClient, job: Job) -> None:
        """See whether the process has ended, or should."""
        if (status := job.status()) is not None:
            say(conclude(client, job, status))
            self._job = None
            self._sweeps.at_once()
            self._polls.at_once()
        elif self._cancellations.due() and not job.cancelled and unwanted(client, job.flow_run_id):
            say(f"Flow run {job.flow_run_id} is cancelled on Prefect's page; it keeps what is done and stops.")
            job.cancelled = True
            job.ask_to_stop()

    def _sweep(self, client: SyncPrefectClient) -> None:
        self._report(self._follower.look())
        at_work = self._job.flow_run_id if self._job else None
        try:
            close = partial(worktrees.close, self._project)
            self._report(crashes.sweep(client, self._project, at_work, close))
        except UserError as error:  # of a worktree that cannot be removed; the next sweep tries again
            self._complain(str(error))

    def _stop(self) -> None:
        """Let the run at work keep what is done, and put it back for the next worker."""
        job, api = self._job, pool.address(self._project)
        if job is None:
            return
        say(
            f"The worker ends once flow run {job.flow_run_id} has kept what is done. A second signal ends both at once."
        )
        job.ask_to_stop()
        while (status := job.status()) is None:
            time.sleep(LOOK_SECONDS / 5)
        self._job = None
        try:
            with pool.connected(api or "") as client:
                untold.tell(client)
                flow_run = client.read_flow_run(job.flow_run_id)
                if job.cancelled or flow_run.state_type == StateType.COMPLETED:
                    say(conclude(client, job, status))
                    self._sweep(client)
                else:
                    crashes.put_back(client, flow_run, "Its worker was stopped; the next one goes on with it.")
                    say(f"Flow run {job.flow_run_id} waits for the next worker, which goes on where it was.")
        except (*AWAY, ObjectNotFound):
            say("The Prefect server is away; the next worker finds out how things stand.")

    def _report(self, lines: Sequence[str]) -> None:
        for line in lines:
            say(line)

    def _complain(self, trouble: str) -> None:
        """Say it once, however long it lasts."""
        if trouble != self._trouble:
            say(trouble)
        self._trouble = trouble


def say(line: str) -> None:
    """One line of the worker's log."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}", flush=True)
