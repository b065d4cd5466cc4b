"""`convoy show RUN`: all that a run was made of and came to, as its record tells it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from flows.records import finding
from flows.records.terminal import console, day, grid, lines, plain, safe, took
from flows.servers.processes import running
from flows.settings import home
from pipeline.contracts import SPLITS
from pipeline.errors import UserError
from pipeline.registry import attempts, glances, ledger
from pipeline.registry.attempts import NO_MATTER
from pipeline.registry.endings import next_said, reason_said
from pipeline.registry.glances import SHOWN, Glance, flat, of_attempt
from pipeline.registry.ledger import Entry
from pipeline.wording import between, images_said, perfect, written

if TYPE_CHECKING:
    from pipeline.registry.runs import RunRecord

PACKAGES = ("torch", "torchvision", "timm", "albumentations", "numpy")
PARTS = ("model", "data", "augment", "loss", "optimizer", "schedule", "task")
CHOSEN = ("device", "threads", "precision", "memory_format", "execution")


def show(name: str, as_json: bool, patch: bool, params: bool) -> None:
    """Print the run that `name` means, or of it only the patch of its code or the text of its params.

    As JSON it is one object: the fields of `pipeline.registry.runs.RunRecord`, with `state` (finished, working or
    stopped) and `moves` (the entries of the ledger that put its version in place or took it away; each as
    `pipeline.registry.ledger.Entry`). Of a run that has not finished it is the fields of
    `pipeline.registry.attempts.Attempt` with `state`.

    Raises:
        UserError: there is no such run, or it has nothing of what is asked for.
    """
    found = finding.look_up(name)
    later = _later(found) if name == "latest" and not isinstance(found, Glance) else None
    if isinstance(found, Glance):
        _unfinished(found, as_json, patch or params)
    elif patch:
        _print_text(found.code.patch)
    elif params:
        _print_text(found.params_text)
    elif as_json:
        moves = [entry.model_dump(mode="json") for entry in _moves(found)]
        print(
            json.dumps({**found.model_dump(mode="json"), "state": "finished", "moves": moves}, indent=2, sort_keys=True)
        )
    else:
        out = console()
        out.print(grid([*([("latest", later)] if later else []), *_rows(found)]))


def _print_text(text: str) -> None:
    """As it is into a file or a pipe, for `git apply` to read; without control characters on a terminal."""
    if sys.stdout.isatty():
        text = "\n".join(map(safe, text.split("\n")))
    sys.stdout.write(text)


def _later(latest: RunRecord) -> Text | None:
    """That it is not the last one which was begun, if so."""
    begun = [one for one in glances.read_all() if one.state != "finished" and one.started > latest.started]
    if not begun:
        return None
    what = "is at work" if begun[-1].state == "working" else "stopped short"
    run = begun[-1].id[:SHOWN]
    return plain(f"of those that have finished; run {run} began later and {what}: `convoy show {run}`")


def _unfinished(run: Glance, as_json: bool, texts: bool) -> None:
    """A run that is at work, or stopped short, as far as it is known."""
    if texts:
        raise UserError(f"Run {run.id[:SHOWN]} has no record yet: params and patch are kept when it has finished.")
    attempt = next(one for one in attempts.read_all() if one.id == run.id)
    if as_json:
        state = of_attempt(attempt).state
        print(json.dumps({**attempt.model_dump(mode="json"), "state": state}, indent=2, sort_keys=True))
        return
    stopped = f"stopped short: {reason_said(run.reason)}"
    stages = [f"{stage}  ran in {took(seconds)}" for stage, seconds in attempt.seconds.items()]
    if attempt.stage:
        stages.append(f"{attempt.stage}  {'at work' if run.state == 'working' else 'stopped short'}")
    rows: list[tuple[str, Text | Table]] = [
        ("run", plain(f"{run.id}, of {run.model}")),
        ("state", plain("at work now" if run.state == "working" else stopped, style="bold")),
        ("began", plain(_when(run.started, attempt.resumed))),
        ("stages", lines(stages) if stages else plain("none has begun")),
        *_links(attempt.flow_run, attempt.run),
    ]
    if run.state == "stopped":
        rows.append(("next", plain(next_said(attempt))))
    console().print(grid(rows))


def _rows(record: RunRecord) -> list[tuple[str, Text | Table]]:
    version, moves = record.version, _moves(record)
    experiment = record.tags.get("dvc.experiment", "")
    trigger = record.tags.get("trigger", "")
    rows: list[tuple[str, Text | Table]] = [
        ("run", plain(f"{record.id}, of {record.model}")),
        ("state", plain("finished" + f", set off by {trigger}" * bool(trigger))),
        ("began", plain(_when(record.started, record.resumed) + f", took {took(_lasted(record))}")),
        ("code", _code(record)),
        ("params", _params(record)),
        ("data", _data(record)),
        ("stages", _stages(record)),
        ("environment", _environment(record)),
        *_links(record.flow_run, record.mlflow_run),
        ("model", plain(f"{version.name} version {version.version}, {version.digest[:12]}\n{version.location}")),
        ("scores", _scores(record)),
        ("verdict", lines([Text(record.verdict.outcome, style="bold"), *record.verdict.reasons])),
        ("champion", _reign(moves, version.version)),
    ]
    if experiment:
        home_again = f"`dvc exp apply {experiment}` brings it into the working tree"
        rows.append(("experiment", lines([experiment, home_again])))
    return [*rows, ("next", plain(f"`convoy verify {record.id[:SHOWN]}` makes it again and compares"))]


def _when(started: int, resumed: int) -> str:
    again = {0: "", 1: ", taken up again once"}.get(resumed, f", taken up again {resumed} times")
    return day(started) + again


def _lasted(record: RunRecord) -> float:
    return (record.ended - record.started) / 1000


def _code(record: RunRecord) -> Text:
    code = record.code
    if not code.commit:
        return plain(f"in no git repository; package pipeline {code.digest[:12]}")
    branch = record.tags.get("git.branch") or code.branch
    said = [f"commit {code.commit[:12]}" + f" on {branch}" * bool(branch)]
    if code.patch:
        changed = [line for line in code.patch.splitlines() if line[:1] in "+-" and line[:4] not in ("+++ ", "--- ")]
        files = sum(line.startswith("diff --git ") for line in code.patch.splitlines())
        said.append(f"and a patch: {_count(files, 'file')}, {_count(len(changed), 'line')}; --patch prints it")
    if code.left_out:
        said.append(f"without new files too large for the patch: {', '.join(code.left_out)}")
    return lines(said)


def _params(record: RunRecord) -> Table:
    """Part by part as the file has them; what is not written there has its default."""
    table = Table.grid(padding=(0, 2))
    sections = sorted(record.params, key=lambda name: (*PARTS, name).index(name))
    single = [name for name in sections if not isinstance(record.params[name], dict) and name != "name"]
    for section in [*(name for name in sections if isinstance(record.params[name], dict)), *single]:
        if section not in NO_MATTER:
            table.add_row(plain(section), plain(_options(record.params[section])))
    table.add_row("", plain("with every default; --params prints the file"))
    return table


def _options(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    options = flat(value)
    name = options.pop("name", "")
    written = [
        f"{key} {one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)}"
        for key, one in options.items()
        if one != ""
    ]
    return "; ".join(filter(None, [str(name), ", ".join(written)]))


def _data(record: RunRecord) -> Text:
    data = record.data
    order = [*(split for split in SPLITS if split in data.splits), *sorted(data.splits.keys() - set(SPLITS))]
    counts = ", ".join(f"{split} {data.splits[split]:,}" for split in order)
    names = ", ".join(data.classes[:10]) + (", ..." if len(data.classes) > 10 else "")
    return lines(
        [
            f"{data.digest[:12]} from {_options(data.origin)}",
            f"{data.images:,} images: {counts}; {data.rejected:,} rejected",
            f"{len(data.classes):,} classes: {names}",
        ]
    )


def _stages(record: RunRecord) -> Table:
    from pipeline.registry.proof import entries

    table = Table.grid(padding=(0, 2))
    for stage, entry in entries(record.lock_text).items():
        if stage in record.seconds:
            fate = f"ran in {took(record.seconds[stage])}"
        elif first := record.first_computed.get(stage):
            fate = f"up to date; first made by MLflow run {first[:SHOWN]}"
        else:
            fate = "up to date"
        outs = entry.get("outs", [])
        wrote = [f"{str(out.get('md5', ''))[:SHOWN]} {out['path']}" for out in outs]
        table.add_row(plain(stage), lines([fate, *wrote]))
    return table


def _environment(record: RunRecord) -> Text:
    machine, training = record.environment, record.environment.training
    order = [*(key for key in CHOSEN if key in training), *sorted(training.keys() - set(CHOSEN))]
    chosen = ", ".join(f"{key.replace('_', ' ')} {training[key]}" for key in order)
    versions = ", ".join(f"{name} {machine.packages[name]}" for name in PACKAGES if name in machine.packages)
    locked = f"; requirements.lock {machine.requirements[:12]}" if machine.requirements else ""
    return lines(
        [
            chosen,
            f"{machine.processor}, {_count(machine.cores, 'core')}; {machine.system}",
            f"python {machine.python}, {versions}",
            f"{_count(len(machine.packages), 'package')} installed, Convoy among them{locked}",
        ]
    )


def _links(flow_run: str, mlflow_run: str) -> list[tuple[str, Text | Table]]:
    """The pages of the servers that `convoy up` started, or that the variables name."""
    servers = {name: server.url for name, server in running(home(Path.cwd())).items()}
    for name, variable in (("prefect", "PREFECT_API_URL"), ("mlflow", "MLFLOW_TRACKING_URI")):
        if (given := os.environ.get(variable, "")).startswith(("http:", "https:")) and "@" not in given:
            servers[name] = given.rstrip("/").removesuffix("/api")
    rows: list[tuple[str, Text | Table]] = []
    for name, title, run, page in (
        ("prefect", "Prefect run", flow_run, "runs/flow-run"),
        ("mlflow", "MLflow run", mlflow_run, "#/runs"),
    ):
        if run:
            where = [f"{servers[name]}/{page}/{run}"] if name in servers else []
            rows.append((title, lines([run, *where])))
    return rows


def _scores(record: RunRecord) -> Table:
    table = Table.grid(padding=(0, 2))
    main, sure = record.params["task"]["score"], perfect(record.scores)
    for name in sorted(record.scores, key=lambda name: (name != main, name)):
        if isinstance(found := record.scores[name], dict):
            value = plain(written(found["value"]), style="bold" if name == main else "")
            table.add_row(plain(name.replace("_", " ")), value, plain(between(found["low"], found["high"])))
    said = f"95 % intervals; {images_said(record.scores)}"
    table.add_row("", "", lines([sure, said] if sure else [said]))
    return table


def _moves(record: RunRecord) -> list[Entry]:
    """The ledger's entries that put this version in place, or another in its."""
    mine = record.version.version
    return [entry for entry in ledger.history(record.model) if mine in (entry.to_version, entry.from_version)]


def _reign(moves: list[Entry], version: str) -> Text:
    if not moves:
        return plain("never")
    now = [Text("now", style="bold")] if moves[-1].to_version == version else [plain("no longer")]
    return lines([*now, *map(_move, moves)])


def _move(entry: Entry) -> str:
    replaced = f" in place of version {entry.from_version}" if entry.from_version else ""
    return f"{entry.when}  {entry.action}: version {entry.to_version}{replaced}, by {entry.who}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
