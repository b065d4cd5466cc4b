"""States from Prefect and scores from MLflow, asked over REST by a thread of its own: no page waits for a server.

Only what somebody looks at is asked for, and nothing while nobody looks. What a server said last is shown until it
says more; what it said of a run that has ended is not asked again. A server that is away is one quiet line.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

from dashboard.addresses import Address, Addresses, near
from flows.servers.prefect_rest import AWAY, Wire

EVERY = 4.0
"""Seconds between two questions while somebody looks."""
LOOKING = 30.0
"""Seconds after the last view within which somebody may still look."""
FRESH = 60.0
"""Seconds for which the scores of a run are not asked again."""
PATIENCE = 3.0
MOST = 200
"""Runs in one question: Prefect's own limit."""
REMEMBERED = 5000
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


class FlowState(NamedTuple):
    """Of a flow run, as Prefect has it."""

    kind: str
    """`RUNNING`, `COMPLETED`, ..."""
    name: str
    """What people see: `AwaitingRetry`, `Suspended`, `Late`."""


class Seen(NamedTuple):
    """What the servers have said so far."""

    states: dict[str, FlowState]
    """By flow run."""
    scores: dict[str, dict[str, float]]
    """By MLflow run: `accuracy`, `accuracy_low`, ... of the test split."""
    away: tuple[str, ...]
    """Names of servers that do not answer."""


@dataclass
class _Server:
    """What one server was asked and said."""

    wanted: OrderedDict[str, float] = field(default_factory=OrderedDict)
    """Run -> when somebody looked last."""
    said: OrderedDict[str, tuple[float, Any]] = field(default_factory=OrderedDict)
    """Run -> when, and what; None if the server does not know it."""
    away: bool = False

    def look(self, runs: Iterable[str], now: float) -> None:
        for run in runs:
            self.wanted[run] = now
            self.wanted.move_to_end(run)

    def known(self, runs: Iterable[str]) -> dict[str, Any]:
        return {run: self.said[run][1] for run in runs if self.said.get(run, (0, None))[1] is not None}

    def due(self, now: float) -> list[str]:
        for run in [run for run, seen in self.wanted.items() if now - seen > LOOKING]:
            del self.wanted[run]
        return [run for run in reversed(self.wanted) if not self.settled(run, now)][:MOST]

    def settled(self, run: str, now: float) -> bool:
        when, what = self.said.get(run, (-FRESH, None))
        return what.kind in ENDED if isinstance(what, FlowState) else now - when < FRESH

    def note(self, answers: dict[str, Any], now: float) -> None:
        for run, what in answers.items():
            self.said[run] = now, what
            self.said.move_to_end(run)
        while len(self.said) > REMEMBERED:
            self.said.popitem(last=False)


class Servers:
    """The thread that asks, and what came of it."""

    def __init__(self, addresses: Addresses) -> None:
        self.addresses = addresses
        self._prefect, self._mlflow = _Server(), _Server()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="servers", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; the thread ends with its current question."""
        self._stopping = True
        self._wake.set()

    def look(self, flow_runs: Iterable[str] = (), mlflow_runs: Iterable[str] = ()) -> Seen:
        """What is known of these runs now; whatever is not is asked for, for whoever looks next."""
        now = time.monotonic()
        flow_runs, mlflow_runs = [one for one in flow_runs if one], [one for one in mlflow_runs if one]
        with self._lock:
            self._prefect.look(flow_runs, now)
            self._mlflow.look(mlflow_runs, now)
            states, scores = self._prefect.known(flow_runs), self._mlflow.known(mlflow_runs)
            away = [name for name, one in (("Prefect", self._prefect), ("MLflow", self._mlflow)) if one.away]
            unsettled = self._prefect.due(now) or self._mlflow.due(now)
        if unsettled:
            self._wake.set()
        return Seen(states, scores, tuple(away))

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            with self._lock:
                now = time.monotonic()
                due = self._prefect.due(now), self._mlflow.due(now)
            if any(due):
                prefect, mlflow = self.addresses.now()
                self._ask(self._prefect, prefect, due[0], flow_states)
                self._ask(self._mlflow, mlflow, due[1], scores_of)
                self._pause(EVERY)
            else:
                self._wake.wait()

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))

    def _ask(self, server: _Server, address: Address, runs: Sequence[str], ask: Any) -> None:
        if not runs or not address.url:
            with self._lock:
                server.away = server.away and bool(address.url)
                server.wanted.clear()
            return
        try:
            with httpx.Client(
                base_url=address.url, auth=address.auth, timeout=PATIENCE, trust_env=not near(address.url)
            ) as client:
                answers = ask(client, runs)
        except (*AWAY, LookupError, TypeError):  # away, or another kind of server
            with self._lock:
                server.away = True
            return
        with self._lock:
            server.away = False
            server.note(dict.fromkeys(runs) | answers, time.monotonic())


def flow_states(client: httpx.Client, runs: Sequence[str]) -> dict[str, FlowState]:
    """Flow run -> state."""
    found = Wire(client).post("/flow_runs/filter", {"flow_runs": {"id": {"any_": list(runs)}}, "limit": MOST})
    return {str(run["id"]): FlowState(str(run["state_type"] or ""), str(run["state_name"] or "")) for run in found}


def scores_of(client: httpx.Client, runs: Sequence[str]) -> dict[str, dict[str, float]]:
    """MLflow run -> its metrics `test/NAME`, by NAME."""
    api = "/api/2.0/mlflow"
    found = client.post(f"{api}/experiments/search", json={"max_results": 1000}).raise_for_status().json()
    experiments = [one["experiment_id"] for one in found.get("experiments", [])]
    named = ",".join(f"'{run}'" for run in runs if run.isalnum())
    wanted = {"experiment_ids": experiments, "filter": f"attributes.run_id IN ({named})", "max_results": MOST}
    answer = client.post(f"{api}/runs/search", json=wanted).raise_for_status().json()
    return {
        run["info"]["run_id"]: {
            metric["key"].removeprefix("test/"): float(metric["value"])
            for metric in run["data"].get("metrics", [])
            if metric["key"].startswith("test/")
        }
        for run in answer.get("runs", [])
    }
