"""`convoy`: the one front door, over flows, dashboards and pipeline.

Everything heavy is imported by the command that needs it: `--help` costs a tenth of a second.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows import settings
from flows.accounts import account
from flows.decisions import commands as decisions
from flows.export import export
from flows.faces import commands as faces
from flows.inspect import inspect
from flows.profile import profile
from flows.records.commands import COMMANDS
from flows.schedule import commands
from flows.tune import app as tune
from pipeline.errors import UserError
from pipeline.room import closed, full

INTERRUPTED = 130

app = typer.Typer(
    name="convoy",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Train networks on your images, bit for bit repeatable, and review them before they go into use.

Say in `params.yaml` what to learn, then:

    convoy run                          from pictures to a judged model; only what changed

    convoy run --set train.epochs=5     with another value, written into params.yaml

    convoy predict cat.jpg              ask the champion

    convoy up                           look at runs, compare, decide: the review page

A run that is stopped or killed goes on where it was: `convoy run` again. When something does not work: `convoy doctor`.
""",
)

app.add_typer(commands.app, name="schedule")
app.add_typer(faces.app, name="faces")
app.add_typer(tune, name="tune")


@app.command()
def run(
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a param: `train.epochs=5`. `seed=1,2` is two runs. Repeatable."
        ),
    ] = None,
    params: Annotated[
        Path | None,
        typer.Option("--params", metavar="FILE", help="Take params from this file, the rest from params.yaml."),
    ] = None,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="Work in a git worktree of its own; nothing here is touched.")
    ] = False,
    ref: Annotated[
        str, typer.Option("--ref", metavar="COMMIT", help="With --isolated: run this branch, tag or commit.")
    ] = "",
    push: Annotated[bool, typer.Option("--push", help="Push data and models to the DVC remote.")] = False,
    resume: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="Of a training that was begun with other threads, libraries or device: `anyway`, go on; `anew`, start "
            "over.",
        ),
    ] = "",
) -> None:
    """Bring everything up to date: the model, its record in MLflow, and the champion.

    Stages whose data, params and code are as they were are skipped. `--set` and `--params` change params.yaml itself,
    so that it always describes the last run; the text from before is kept in .convoy/params/. Several values,
    `--set model.name=lenet5,convnet`, are several experiments: one after the other, each in a tree of its own, and kept
    for `dvc exp`. One run at a time works on a device of this machine: a second one waits for the first.
    """
    from flows.run import run as run_flow
    from flows.summary import show

    params = params and params.absolute()  # typed relative to where the user stands
    root = settings.enter_project()
    if ref and not isolated:
        raise UserError("--ref says what to run in a tree of its own: add --isolated.")
    if resume not in ("", "anyway", "anew"):
        raise UserError(f"--resume {resume}: it is `anyway`, to go on with other bits, or `anew`, to start over.")
    from flows.edits import combinations
    from flows.isolated import Wish, run_isolated, run_queue
    from flows.schedule.request import Request
    from flows.stage import Stopped

    queue, wish = combinations(assignments or []), Wish(ref, params, push, resume)
    if len(queue) > 1:
        raise typer.Exit(run_queue(root, wish, queue))
    if isolated:
        raise typer.Exit(run_isolated(root, wish, queue[0]))

    try:
        show(run_flow(root, Request.model_validate({"set": queue[0], "push": push, "resume": resume}), params))
    except (KeyboardInterrupt, Stopped):  # both processes hear Ctrl-C, and either may be the first to end
        print("Stopped; nothing that was done is lost, and `convoy run` goes on from there.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


@app.command()
def up(
    host: Annotated[
        str, typer.Option(envvar="CONVOY_PAGE_HOST", help="That the page listens on; elsewhere it wants accounts.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="CONVOY_PAGE_PORT", min=1, max=65_435, help="Of the page: the first one to try.")
    ] = 4300,
) -> None:
    """Start the review page, and Prefect's and MLflow's servers, in the background, on this machine only.

    With --host the page is for others as well; then CONVOY_ACCOUNTS_FILE names who may look and who may decide
    (`convoy account` makes its lines), and CONVOY_PAGE_ORIGIN its address behind a proxy.
    """
    from flows.servers import dashboards as servers

    servers.up(settings.enter_project(), page=servers.PageAt(host, port))


@app.command()
def down() -> None:
    """Stop the page and the servers."""
    from flows.servers import dashboards as servers

    servers.down(settings.enter_project())


@app.command()
def worker(
    name: Annotated[str | None, typer.Option(help="As Prefect's page shows it; by default the machine's name.")] = None,
    keep_up: Annotated[bool, typer.Option("--up", help="Keep the dashboards up as well.")] = False,
) -> None:
    """Serve the scheduled runs of this project, one at a time, until stopped; docs/worker.md tells how it stays up.

    Each run gets a git worktree of its own, so that nobody's working files are touched. A run that dies with its
    process, its worker or its machine goes on where it was.
    """
    from flows.worker.serving import work

    work(settings.enter_project(), name, keep_up)


@app.command()
def status() -> None:
    """What runs, who is champion, and whether anything is to do."""
    from flows.status import show

    show(settings.enter_project())


@app.command()
def predict(
    pictures: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of them.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line, with all that is known.")] = False,
    draw: Annotated[
        Path | None, typer.Option("--draw", metavar="FOLDER", help="Put the pictures there, answers drawn on them.")
    ] = None,
) -> None:
    """Ask the champion what is in a picture: its class, its objects, or what each of its pixels is."""
    from flows.predict import Asked, show_predictions

    pictures = [picture.absolute() for picture in pictures]  # typed relative to where the user stands
    draw = draw and draw.absolute()
    settings.enter_project()
    show_predictions(pictures, Asked(json, draw))


for command in (*COMMANDS, *decisions.COMMANDS, account, inspect, export, profile):
    app.command()(command)


@app.command()
def options(
    place: Annotated[
        str, typer.Argument(help="A section (`train`), a part (`schedule.step`), or an option of either.")
    ] = "",
) -> None:
    """What can be set in params.yaml: its sections, the parts that each can be, and every option with its default."""
    from flows.options import show

    show(place)


@app.command()
def doctor() -> None:
    """Check that every part is here, of a version that works, reachable and safe; say what to do if not."""
    from flows.health.doctor import show_diagnosis

    raise typer.Exit(show_diagnosis(settings.enter_project()))


def main() -> None:
    """Run `convoy`; a mistake that the user can mend costs its words and status 1, no traceback."""
    try:
        app()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.status)
    except Exception as error:
        if words := full(error):
            said = f"Cannot write: {words}. Make room, then run the same command again; nothing is lost."
        elif words := closed(error):
            said = f"{words}. Give yourself the right to it, or work in a clone of your own."
        else:
            raise
        print(said, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
