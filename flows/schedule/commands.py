"""`convoy schedule`: deployments written, listed, paused, removed and run, in prefect.yaml first, then on the server.

Everything heavy is imported by the command that needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import settings
from pipeline.errors import UserError

if TYPE_CHECKING:
    from flows.schedule.request import Request

app = typer.Typer(
    no_args_is_help=True,
    help="Retrain by the clock, on new data, or on request: deployments in prefect.yaml, served by `convoy worker`.",
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the deployment.", show_default=False)]


@app.command()
def add(
    name: Name,
    cron: Annotated[str | None, typer.Option(metavar="CRON", help='Five fields, as in "30 2 * * *".')] = None,
    zone: Annotated[str, typer.Option(metavar="ZONE", help="In which the cron is meant: Europe/Berlin.")] = "UTC",
    new_data: Annotated[
        int | None, typer.Option("--on-new-data", metavar="N", help="Once so many samples are new or changed.")
    ] = None,
    every: Annotated[float, typer.Option(metavar="MINUTES", help="Between two looks at the source.")] = 5,
    branch: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Its newest commit is trained.", show_default="the current one")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a param in its runs. Repeatable.")
    ] = None,
    cooldown: Annotated[float, typer.Option(metavar="MINUTES", help="At least, between the starts of two runs.")] = 0,
    push: Annotated[bool, typer.Option("--push", help="Push data and models to the DVC remote.")] = False,
) -> None:
    """Write a deployment into prefect.yaml, apply it, and show its next ten times."""
    from datetime import UTC, datetime

    from flows.schedule import deployments, prefect_yaml, wording
    from flows.schedule.branches import current, existing

    root = settings.enter_project()
    request = _request(
        trigger={"cron": cron, "zone": zone, "new_data": new_data, "every_minutes": every},
        branch=current(root) if branch is None else branch,
        set=assignments or [],
        cooldown_minutes=cooldown,
        push=push,
    )
    existing(root, request.branch)
    deployments.add(root, name, request)
    print(f"{name} is in {prefect_yaml.FILE}: branch {request.branch}, {wording.trigger_words(request.trigger)}.")
    for line in wording.next_times(request.trigger, datetime.now(UTC)):
        print(line)
    _apply(root)


@app.command("list")
def list_(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Every deployment: what sets it off, its branch, next time, and how its last run ended."""
    from json import dumps

    from flows.schedule import listing, wording

    found = listing.listed(settings.enter_project())
    if json:
        print(dumps([row.model_dump(mode="json") for row in found], indent=2))
        return
    rows = [("name", "trigger", "branch", "next (UTC)", "last result")]
    for row in found:
        upcoming = "paused" if row.paused else wording.when(row.next)
        rows.append((row.name, wording.trigger_words(row.trigger), row.branch, upcoming, row.last_words))
    for line in wording.table(rows):
        print(line)


@app.command()
def pause(name: Name) -> None:
    """Let a deployment rest: no new runs; one that is at work goes on."""
    _set_paused(name, True)


@app.command()
def resume(name: Name) -> None:
    """Wake a paused deployment; what it missed meanwhile is not made up for."""
    _set_paused(name, False)


@app.command()
def remove(name: Name) -> None:
    """Take a deployment out of prefect.yaml and off the server; its runs stay."""
    from flows.schedule import deployments, prefect_yaml

    root = settings.enter_project()
    deployments.remove(root, name)
    print(f"{name} is no longer in {prefect_yaml.FILE}.")
    _apply(root)


@app.command()
def run(name: Name) -> None:
    """Ask for a run of a deployment, now."""
    from flows.schedule import deployments, runs, server

    root = settings.enter_project()
    deployments.find(root, name)
    with server.reachable(root) as client:
        if client is None:
            raise UserError(f"No Prefect server is up to ask for a run of {name}. `convoy up`, then the same again.")
        server.bring_in_line(client, root)
        asked = runs.ask(client, server.ours(client, root)[name])
        print(f"Asked for a run of {name}: flow run {asked.name} ({asked.id}).")
        if not runs.has_worker(client):
            print("No worker is up; it begins once one is: `convoy worker`.")


def _set_paused(name: str, paused: bool) -> None:
    from flows.schedule import deployments, server

    root = settings.enter_project()
    deployments.set_paused(root, name, paused)
    print(f"{name} {'is paused' if paused else 'is awake'}.")
    with server.reachable(root) as client:
        if client is None:
            return
        server.bring_in_line(client, root)
        on_server = server.ours(client, root)[name]
        if on_server.paused != paused:  # it was changed on Prefect's page, and prefect.yaml says nothing new
            (client.pause_deployment if paused else client.resume_deployment)(on_server.id)


def _apply(root: Path) -> None:
    from flows.schedule import server

    with server.reachable(root) as client:
        if client is None:
            print("No Prefect server is up; `convoy up` applies it, and `convoy worker` serves it.")
            return
        for line in server.bring_in_line(client, root):
            print(line)


def _request(**fields: Any) -> Request:
    """What the options say.

    Raises:
        UserError: with every option that is wrong.
    """
    from pydantic import ValidationError

    from flows.schedule.request import Request

    options = {"new_data": "--on-new-data", "every_minutes": "--every", "cooldown_minutes": "--cooldown"}
    try:
        return Request.model_validate(fields)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            field = next((str(part) for part in reversed(problem["loc"]) if isinstance(part, str)), "")
            option = {"trigger": "--zone", **options}.get(field, f"--{field}")
            said = problem["msg"].removeprefix("Value error, ")
            if problem["type"] != "value_error":
                said = f"{said[0].lower()}{said[1:]}; found {problem['input']!r}"
            lines.append(f"{option}: {said}")
        raise UserError("\n".join(line if line.endswith("?") else f"{line}." for line in lines)) from None
