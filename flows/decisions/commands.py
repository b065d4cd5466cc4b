"""The commands by which people decide: promote, reject, rollback, judge; history and champion show what was decided.

Everything heavy is imported by the command that needs it.
"""

from __future__ import annotations

import json as to_json
import sys
from typing import Annotated

import typer

from flows import settings

VERSION = "A model version as `digits/3`, `3` of the project's own model, a run, or the id of a case."
Why = Annotated[str, typer.Option("--why", metavar="REASON", help="In a few words, for whoever reads the history.")]


def promote(version: Annotated[str, typer.Argument(metavar="VERSION", help=VERSION)], why: Why = "") -> None:
    """Make a judged version the champion; refused if it is unsound, or was judged against another champion."""
    from flows.decisions import deciding

    deciding.promote(settings.enter_project(), version, why)


def reject(version: Annotated[str, typer.Argument(metavar="VERSION", help=VERSION)], why: Why = "") -> None:
    """Say no to a version that waits for a decision."""
    from flows.decisions import deciding

    deciding.reject(settings.enter_project(), version, why)


def rollback(
    to: Annotated[
        str, typer.Option(metavar="VERSION", help="An earlier champion.", show_default="the one before")
    ] = "",
    model: Annotated[str, typer.Option(help="Of this model.", show_default="the project's own")] = "",
    why: Why = "",
) -> None:
    """Put an earlier champion back, at once; no server is needed. Refused if its files are gone or changed."""
    from flows.decisions import deciding

    deciding.rollback(settings.enter_project(), model, to, why)


def judge(version: Annotated[str, typer.Argument(metavar="VERSION", help=VERSION)]) -> None:
    """Compare a registered version with today's champion, on the test images of today's data set."""
    from flows.decisions import rejudging

    rejudging.judge(settings.enter_project(), version)


def history(
    model: Annotated[str, typer.Option(help="Of this model alone.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Verdicts and what was refused as well.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0 is all.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="A list of JSON objects.")] = False,
) -> None:
    """List who was made champion or rejected, when, by whom and why, newest first."""
    from flows.decisions import telling

    settings.enter_project()
    telling.history(model, everything, limit, json)


def champion(
    at: Annotated[
        str, typer.Option(metavar="DAY", help="At the end of this day, or at a moment: 2026-05-01T12:00 (UTC).")
    ] = "",
    model: Annotated[str, typer.Option(help="Of this model.", show_default="the project's own")] = "",
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say which version is in use, or was at a moment."""
    from flows.decisions import telling

    settings.enter_project()
    found = telling.champion(model, at)
    if json:
        print(to_json.dumps(found.model_dump(mode="json") if found else None, indent=2))
    elif found:
        print(telling.reigning(found))
    else:
        print(f"No champion{f' at {at}' if at else ' yet'}.", file=sys.stderr)
        raise typer.Exit(1)


COMMANDS = (promote, reject, rollback, judge, history, champion)
