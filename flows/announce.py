"""What a run tells people, by the channels of `notify` in params.yaml: that it failed, what it came to, what waits."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from flows.notify import Event, send
from pipeline.door import PARAMS, load
from pipeline.errors import UserError
from pipeline.params import Told
from pipeline.registry.champion import Version
from pipeline.registry.gate import Verdict

PLACES = {"promote": "is better", "hold": "is held back", "reject": "is rejected"}


def failed(params: Told, run: str, words: str) -> None:
    """A run has stopped and will not go on by itself."""
    first, *more = words.strip().splitlines() or ["it does not say why"]
    _send(params, Event("failure", params.name, run, f"a retraining failed: {first}", tuple(more)))


def failed_early(root: Path, run: str, words: str) -> None:
    """As `failed`, of a run that did not come to read its params, or died: those of its tree say whom to tell."""
    with suppress(UserError):  # nobody can be told by params that cannot be read; the run's page has the words
        failed(load(Told, root / PARAMS), run, words)


def ended(params: Told, run: str, version: Version, verdict: Verdict, reigns: bool) -> None:
    """A run has come to an end; where the gate would promote and may not, somebody has to decide."""
    what = f"{version.name} version {version.version}"
    place = "is the champion" if reigns else PLACES[verdict.outcome]
    _send(params, Event("success", params.name, run, f"{what} {place}", tuple(verdict.reasons)))
    if verdict.outcome == "promote" and not reigns:
        headline = f"{what} is better than the champion, and waits for somebody to promote it"
        _send(params, Event("decision", params.name, run, headline, tuple(verdict.reasons)))


def _send(params: Told, event: Event) -> None:
    for problem in send(params.notify, event):
        print(f"Not notified: {problem}", flush=True)
