"""What a run tells people, by the channels of `notify` in params.yaml: that it failed, what it came to, what waits."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from flows.notify import Event, send
from flows.servers.processes import running
from flows.settings import home
from pipeline.door import PARAMS, load
from pipeline.errors import UserError
from pipeline.params import Told
from pipeline.registry.cases import Case
from pipeline.registry.ledger import Entry

PLACES = {"promote": "is better", "hold": "is held back", "reject": "is rejected"}


def failed(params: Told, run: str, words: str) -> None:
    """A run has stopped and will not go on by itself."""
    first, *more = words.strip().splitlines() or ["it does not say why"]
    _send(params, Event("failure", params.name, run, f"a retraining failed: {first}", tuple(more)))


def failed_early(root: Path, run: str, words: str) -> None:
    """As `failed`, of a run that did not come to read its params, or died: those of its tree say whom to tell."""
    with suppress(UserError):  # nobody can be told by params that cannot be read; the run's page has the words
        failed(load(Told, root / PARAMS), run, words)


def ended(params: Told, run: str, case: Case, reigns: bool, waits: bool) -> None:
    """A run has come to an end; somebody is told to decide where it waits for that, or may do no more than ask."""
    what, verdict = _version(case), case.verdict
    place = "is the champion" if reigns else PLACES[verdict.outcome]
    _send(params, Event("success", params.name, run, f"{what} {place}", tuple(verdict.reasons)))
    if verdict.outcome == "promote" and not reigns:
        how = f"`convoy promote {case.challenger.named}` or `convoy reject`, with a reason."
        until = f" until {case.until}; silence is a no" if waits else ""
        headline = f"{what} is better than the champion, and waits for somebody to promote it{until}"
        _send(params, Event("decision", params.name, run, headline, (*verdict.reasons, how), _links(case)))


def decided(params: Told, case: Case, decision: Entry) -> None:
    """Somebody has decided, or nobody has."""
    done = "is the champion" if decision.action == "promote" else "was rejected"
    headline = f"{_version(case)} {done}, by {decision.who}"
    _send(params, Event("success", params.name, case.run, headline, (decision.why,)))


def _send(params: Told, event: Event) -> None:
    for problem in send(params.notify, event):
        print(f"Not notified: {problem}", flush=True)


def _links(case: Case) -> dict[str, str]:
    """Where the case can be looked at: the page of this project, by the name that others know it by."""
    page = running(home(Path.cwd())).get("page")
    address = os.environ.get("CONVOY_PAGE_ORIGIN") or (page.url if page else "")
    return {"look and decide": f"{address.rstrip('/')}/decisions/{case.id}"} if address else {}


def _version(case: Case) -> str:
    return f"{case.challenger.name} version {case.challenger.version}"
