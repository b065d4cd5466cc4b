"""`convoy runs`: what was run here, newest first. No server is asked, and no record is read whole."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, get_args

import yaml
from rich.cells import cell_len
from rich.text import Text

from flows.housekeeping.marks import marked
from flows.records.terminal import console, plain, safe
from pipeline.errors import NO_VALUE, UserError, did_you_mean
from pipeline.registry import champion, glances
from pipeline.registry.endings import reason_said
from pipeline.registry.glances import SHOWN, Glance, State
from pipeline.wording import scored

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
VERDICTS = ("promote", "hold", "reject")


@dataclass(frozen=True)
class Filter:
    """Which runs are wanted; an empty field wants any."""

    model: str = ""
    state: str = ""
    since: str = ""
    """A day, 2026-11-01, a moment, 2026-11-01T14:30, or how long ago: 30m, 12h, 7d, 2w."""
    verdict: str = ""
    params: Sequence[str] = field(default=())
    """As `train.epochs=3`."""

    def chosen(self, known: Sequence[Glance]) -> list[Glance]:
        """Those of `known` that are wanted.

        Raises:
            UserError: the filter cannot be understood, or names a param that no run has.
        """
        _one_of("--state", self.state, get_args(State))
        _one_of("--verdict", self.verdict, VERDICTS)
        oldest = moment(self.since) if self.since else 0.0
        wanted = [_assignment(param, known) for param in self.params]
        return [
            run
            for run in known
            if self.model in ("", run.model)
            and self.state in ("", run.state)
            and self.verdict in ("", run.verdict)
            and run.started >= oldest
            and all(_same(run.params.get(key), value) for key, value in wanted)
        ]


def show(wanted: Filter, limit: int, as_json: bool) -> None:
    """Print the runs that are wanted, newest first.

    As JSON it is a list of `pipeline.registry.glances.Glance`, each with `champion` (whether its version is in use).

    Raises:
        UserError: the filter cannot be understood.
    """
    known = glances.read_all()
    found = wanted.chosen(known)[::-1]
    shown = found[:limit] if limit else found
    reigning = {model: champion.current(model) for model in {run.model for run in shown}}
    makers = {
        run.id
        for model, champ in reigning.items()
        if champ and (run := _maker(known, model, champ.version.digest)) is not None
    }
    if as_json:
        print(json.dumps([run.model_dump(mode="json") | {"champion": run.id in makers} for run in shown], indent=2))
        return
    out = console()
    if not shown:
        out.print(plain("No run fits." if known else "No run is recorded here yet; `convoy run` makes one."))
        return
    for line in _lines(shown, makers):
        line.rstrip()
        out.print(line, no_wrap=True, overflow="ellipsis")
    if len(found) > len(shown):
        out.print(plain(f"{len(found) - len(shown):,} older ones; --limit 0 shows all."))


def moment(text: str) -> float:
    """Milliseconds since 1970 of a day, a moment, or so long ago.

    Raises:
        UserError: it is none of these.
    """
    if ago := re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([mhdw])", text):
        return (time.time() - float(ago[1]) * UNITS[ago[2]]) * 1000
    try:
        return datetime.fromisoformat(text).timestamp() * 1000
    except (ValueError, OverflowError, OSError):
        raise UserError(
            f"--since {text!r}: expected a day as in 2026-11-01, or how long ago as in 7d, 12h, 30m or 2w."
        ) from None


def _maker(known: Sequence[Glance], model: str, digest: str) -> Glance | None:
    """The run that made a model: a later one that found it again changed nothing."""
    return next((run for run in known if run.model == model and run.digest == digest), None)


def _lines(runs: Sequence[Glance], makers: set[str]) -> Iterator[Text]:
    """A table, in which what a run that stopped short says takes the room of all that it has not."""
    several = len({run.model for run in runs}) > 1
    columns: dict[str, Callable[[Glance], str]] = {
        "run": lambda run: run.id[:SHOWN],
        "began": lambda run: _began(run.started),
        **({"model": lambda run: run.model} if several else {}),
        "score": _score,
        "version": lambda run: run.version,
        "state": lambda run: run.verdict if run.state == "finished" else run.state,
        "": lambda run: ", ".join(_notes(run, run.id in makers)),
    }
    first = 3 if several else 2
    rows = [[safe(cell(run)) for cell in columns.values()] for run in runs]
    whole = [list(columns), *(row for run, row in zip(runs, rows, strict=True) if run.state != "stopped")]
    short = [row[:first] for row in rows]
    widths = [
        max(cell_len(row[place]) for row in (*whole, *short) if place < len(row)) for place in range(len(columns))
    ]
    right = list(columns).index("version")
    yield Text(_row(list(columns), widths, right), style="bold")
    for run, row in zip(runs, rows, strict=True):
        if run.state == "stopped":
            said = ", ".join(filter(None, ["stopped", row[-1]])) + f": {safe(reason_said(run.reason).splitlines()[0])}"
            yield Text("  ".join([_row(row[:first], widths, right), said]), style="dim")
        else:
            yield Text(_row(row, widths, right), style="bold" if run.id in makers else "")


def _row(cells: Sequence[str], widths: Sequence[int], right: int) -> str:
    """Cells side by side; the one at `right` holds a number, before which one space is enough."""
    row = ""
    for place, (cell, width) in enumerate(zip(cells, widths, strict=False)):
        space = " " * (width - cell_len(cell))
        row += f" {space}{cell}" if place == right else f"{'  ' * bool(place)}{cell}{space}"
    return row


def _began(milliseconds: int) -> str:
    """Without the year, if it is this one."""
    then, now = time.localtime(milliseconds / 1000), time.localtime()
    return time.strftime("%m-%d %H:%M" if then.tm_year == now.tm_year else "%Y-%m-%d %H:%M", then)


def _score(run: Glance) -> str:
    return scored(run.value, run.low, run.high) if run.value is not None else ""


def _notes(run: Glance, reigns: bool) -> list[str]:
    notes = ["champion"] * reigns + ["dirty"] * run.dirty + [run.trigger] * bool(run.trigger)
    if marked(run.id):
        notes.append("kept")
    if run.experiment:
        notes.append("experiment")  # its name would fold each line at 80 columns; `convoy show` has it
    return notes


def _one_of(option: str, found: str, valid: Sequence[str]) -> None:
    if found and found not in valid:
        raise UserError(f"{option} {found!r}: expected one of {', '.join(valid)}.{did_you_mean(found, valid)}")


def _assignment(text: str, known: Sequence[Glance]) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UserError(f"--param {text!r}: expected key=value, as in train.epochs=3.")
    keys = {name for run in known for name in run.params}
    if keys and key not in keys:
        raise UserError(f"--param {text!r}: no run has a param {key!r}.{did_you_mean(key, keys)}")
    try:
        return key, yaml.safe_load(value)
    except (yaml.YAMLError, *NO_VALUE):
        return key, value


def _same(found: Any, wanted: Any) -> bool:
    """`3` is 3.0, and `1e-3`, which YAML reads as a text, is 0.001."""
    if isinstance(found, float | int) and not isinstance(found, bool) and isinstance(wanted, str):
        try:
            wanted = float(wanted)
        except ValueError:
            return False
    return bool(found == wanted) and isinstance(found, bool) == isinstance(wanted, bool)
