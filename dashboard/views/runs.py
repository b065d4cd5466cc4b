"""All runs: which there are, what each came to, and what is at work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from dashboard import bars, known
from dashboard.access import Viewer
from dashboard.known import Known
from dashboard.page import page
from dashboard.servers import FlowState, Seen
from dashboard.views import _run
from dashboard.views._live import Live, live_of
from flows.housekeeping.marks import marked
from pipeline.registry.glances import Glance, State
from pipeline.registry.verdict import Outcome

PAGE = 50
STATES = get_args(State)
VERDICTS = get_args(Outcome)
NEWEST = "-began"

router = APIRouter()


class Row(NamedTuple):
    """A run in the table."""

    run: Glance
    mark: str
    """`champion`, `former`, or nothing."""
    kept: bool
    flow: FlowState | None
    """What Prefect says, where it answers and says more than the record."""
    value: float | None
    low: float | None
    high: float | None
    differs: bool
    """Whether MLflow and the record disagree about the score."""
    scale: tuple[float, float]


class Wanted(NamedTuple):
    """Which runs, in which order."""

    q: str
    model: str
    state: str
    verdict: str
    sort: str

    def query(self, **changes: Any) -> str:
        """The address of the same list with something changed; whatever is as usual stays out."""
        values = {key: value for key, value in {**self._asdict(), **changes}.items() if value}
        if values.get("sort") == NEWEST:
            del values["sort"]
        return f"/runs?{urlencode(values)}" if values else "/runs"

    def chosen(self, runs: Sequence[Known]) -> list[Known]:
        """Those that are wanted, sorted; runs without a value in that column come last either way."""
        words = self.q.lower().split()
        found = [
            one
            for one in runs
            if self.model in ("", one.glance.model)
            and self.state in ("", one.glance.state)
            and self.verdict in ("", one.glance.verdict)
            and all(word in one.text for word in words)
        ]
        key = SORTS[self.sort.removeprefix("-")]
        valued = [(value, one) for one in found if (value := key(one.glance)) is not None]
        rest = [one for one in found if key(one.glance) is None]
        valued.sort(key=lambda pair: pair[0], reverse=self.sort.startswith("-"))
        return [one for _, one in valued] + rest


SORTS: Mapping[str, Callable[[Glance], Any]] = {
    "run": lambda run: run.id,
    "began": lambda run: run.started,
    "model": lambda run: (run.model, str(run.params.get("model.name", ""))),
    "score": lambda run: run.value,
    "version": lambda run: (run.model, int(run.version)) if run.version.isdecimal() else None,
    "state": lambda run: (STATES.index(run.state), -run.started),
    "verdict": lambda run: run.verdict or None,
    "took": lambda run: run.ended - run.started if run.ended else None,
}


@router.get("/runs")
def overview(
    request: Request,
    person: Viewer,
    q: Annotated[str, Query(max_length=200)] = "",
    model: Annotated[str, Query(max_length=200)] = "",
    state: str = "",
    verdict: str = "",
    sort: str = NEWEST,
    number: Annotated[int, Query(alias="page", ge=1)] = 1,
) -> Response:
    """The runs that are wanted, fifty at a time; those at work above them."""
    runs = known.everything()
    wanted = Wanted(
        q.strip(),
        model,
        state if state in STATES else "",
        verdict if verdict in VERDICTS else "",
        sort if sort.removeprefix("-") in SORTS else NEWEST,
    )
    found = wanted.chosen(runs)
    pages = max(1, -(-len(found) // PAGE))
    number = min(number, pages)
    shown = found[(number - 1) * PAGE : number * PAGE]
    seen = look(request, [one.glance for one in shown])
    return page(
        request,
        "runs.html",
        runs=rows(shown, runs, seen),
        total=len(found),
        of=len(runs),
        wanted=wanted,
        query=wanted.query,
        number=number,
        pages=pages,
        models=[(name, name) for name in sorted({one.glance.model for one in runs})],
        states=STATES,
        verdicts=VERDICTS,
        working=at_work(runs),
        away=seen.away,
    )


@router.get("/at-work")
def working(request: Request, person: Viewer) -> Response:
    """What is at work now, asked for again and again while something is."""
    found = at_work(known.everything())
    answer = page(request, "runs_at_work.html", working=found)
    if not found:
        answer.headers["HX-Trigger"] = "runs-changed"
    return answer


def look(request: Request, runs: Sequence[Glance]) -> Seen:
    """What the servers say of these runs."""
    seen: Seen = request.app.state.servers.look([run.flow_run for run in runs], [run.mlflow_run for run in runs])
    return seen


def rows(shown: Sequence[Known], runs: Sequence[Known], seen: Seen) -> list[Row]:
    """The rows of the table."""
    reigns = known.reigns()
    marks = known.makers(runs, reigns)
    found = [_row(one.glance, marks, seen) for one in shown]
    scales = {
        name: bars.spread([(row.value, row.low, row.high) for row in found if row.run.score == name])
        for name in {row.run.score for row in found}
    }
    return [row._replace(scale=scales[row.run.score]) for row in found]


def at_work(runs: Sequence[Known]) -> list[Live]:
    """Runs that a process works on, with how far they are."""
    return [live_of(one.glance) for one in runs if one.glance.state == "working"]


def _row(run: Glance, marks: Mapping[str, str], seen: Seen) -> Row:
    value, low, high, differs = run.value, run.low, run.high, False
    told = seen.scores.get(run.mlflow_run, {})
    if run.score in told:
        differs = value is not None and abs(told[run.score] - value) > 1e-6
        value = told[run.score]
        low, high = told.get(f"{run.score}_low", low), told.get(f"{run.score}_high", high)
    flow = _run.shown(run, seen.states.get(run.flow_run))
    return Row(run, marks.get(run.id, ""), marked(run.id), flow, value, low, high, differs, (0, 1))
