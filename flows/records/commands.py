"""The commands about runs that have been: list, show, compare, prove, keep and free them."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from flows import settings
from pipeline.interrupts import EXIT_CODE

RUN = "An id or its beginning, a version as `digits/3`, a DVC experiment, `latest`, `champion`."


def verify(
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN)],
    json: Annotated[bool, typer.Option("--json", help="Everything that was compared, as one JSON object.")] = False,
) -> None:
    """Rebuild a recorded run in a clean git worktree and compare it with its record, digest by digest.

    Nothing but the data is taken over from this project: no cache, no checkpoint. The exit status is 0 if dataset,
    policy, weights and scores are identical, and 1 if not; then the first stage that differs is named, and what was
    different before it.
    """
    from flows.records.verified import verify_and_show

    raise typer.Exit(verify_and_show(settings.enter_project(), run, json))


def rerun(run: Annotated[str, typer.Argument(metavar="RUN", help=RUN)]) -> None:
    """Run a recorded run once more, in a git worktree of its own: its code and params, with the data as they are now.

    A run that stopped short goes on where it was. If neither code, params nor data have changed since a run that has
    finished, that one is named and nothing is computed.
    """
    from flows.records.rerun import rerun as run_again

    raise typer.Exit(run_again(settings.enter_project(), run))


def runs(
    model: Annotated[str, typer.Option(help="Of this model alone.")] = "",
    state: Annotated[str, typer.Option(metavar="finished|stopped|working", help="In this state.")] = "",
    since: Annotated[str, typer.Option(metavar="DAY", help="Begun since then: 2026-11-01, or so long ago: 7d.")] = "",
    verdict: Annotated[str, typer.Option(metavar="promote|hold|reject", help="That the gate judged so.")] = "",
    param: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="With this param, as `train.epochs=5`. Repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0 is all.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="A list of JSON objects.")] = False,
) -> None:
    """List the runs of this project, newest first; no server is asked."""
    from flows.records import listing

    settings.enter_project()
    listing.show(listing.Filter(model, state, since, verdict, tuple(param or ())), limit, json)


def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN)],
    json: Annotated[bool, typer.Option("--json", help="The whole record as one JSON object.")] = False,
    patch: Annotated[bool, typer.Option("--patch", help="What was not committed, as a patch.")] = False,
    params: Annotated[bool, typer.Option("--params", help="The text of its params.yaml.")] = False,
) -> None:
    """Show what a run was made of and what came of it: code, params, data, environment, scores, verdict."""
    from flows.records.show import show as show_run

    settings.enter_project()
    show_run(run, json, patch, params)


def compare(
    before: Annotated[str, typer.Argument(metavar="RUN", help=RUN)],
    after: Annotated[str, typer.Argument(metavar="RUN", help="The other one.")],
    json: Annotated[bool, typer.Option("--json", help="Every difference as one JSON object.")] = False,
) -> None:
    """Say what two runs differ in, in code, params, data and environment, and whether one is better."""
    from flows.records.compare import show as show_difference

    settings.enter_project()
    show_difference(before, after, json)


def keep(
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN)],
    off: Annotated[bool, typer.Option("--off", help="Take the mark off again.")] = False,
) -> None:
    """Keep a run, whatever becomes of its model: `convoy gc` frees nothing of it."""
    from flows.housekeeping.marks import keep as keep_run

    settings.enter_project()
    keep_run(run, off)


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Free it; without this it is only shown.")] = False,
    newest: Annotated[
        int, typer.Option(min=0, metavar="N", help="So many finished runs of each model stay in any case.")
    ] = 3,
    grace: Annotated[
        float, typer.Option(min=0, metavar="MINUTES", help="What came into DVC's cache so lately stays.")
    ] = 60,
    json: Annotated[bool, typer.Option("--json", help="Everything by its name, as one JSON object.")] = False,
) -> None:
    """Show what no registered model, no kept run and no branch needs; with --yes, free it.

    DVC's cache, MLflow runs and models, experiments, worktrees, checkpoints and caches. What stays can be verified as
    before. The ledger, the sources of the data, working files and the DVC remote are never touched.
    """
    from flows.housekeeping.plan import Limits
    from flows.housekeeping.show import gc as collect

    root = settings.home(settings.enter_project())
    os.chdir(root)
    try:
        collect(root, Limits(newest, grace * 60), yes, json)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_CODE) from None


COMMANDS = (runs, show, compare, verify, rerun, keep, gc)
