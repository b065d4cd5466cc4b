"""`convoy run`: one run at a time, nothing done twice, everything prepared side by side."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flows import settings
from flows.alone import alone, of_device
from flows.edits import edited, merged, replace_params
from flows.housekeeping.turns import run_at_work
from flows.repository import in_git, unreadable
from flows.result import Result
from flows.servers.dashboards import prefect_for_run
from flows.stage import Graph
from flows.worktrees import LOCK
from pipeline.door import PARAMS, load, parse
from pipeline.errors import ParamsError, UserError
from pipeline.files import DATASET, in_worktree, shared
from pipeline.params import IngestParams, Params
from pipeline.registry import attempts, cases
from pipeline.registry.attempts import Finished

if TYPE_CHECKING:
    from flows.schedule.request import Request


def run(root: Path, request: Request, params_file: Path | None) -> Result:
    """Bring everything up to date, or say that it is.

    Args:
        root: the project, which is the current folder.
        request: changes to params.yaml, and what else is asked for.
        params_file: whose text replaces params.yaml, before the changes.

    Raises:
        UserError: a mistake in the params, the data or the machine; nothing that was done is lost.
    """
    with run_at_work(), alone(LOCK, _wait_for):
        _catch_up(root)
        change_params(request.set, params_file)
        if finished := nothing_to_do(root):
            if request.push and not in_worktree():
                from flows.remote import published

                published.push_again(root, finished)
            _tell_prefect(root)
            return Result(finished, new=False)
        _look_at_source()
        if request.push:
            from flows.remote import moving

            moving.check(root)
        if not in_git(root):
            print("Not in a git repository: the run is recorded without the code that made it. `git init` mends that.")
        elif trouble := unreadable(root):
            print(f"The run is recorded without the code that made it: {trouble}. `convoy doctor` says what to do.")
        with prefect_for_run(settings.home(root)) as prefect, device_of(prepared()):
            with prefect.client(), polite_kill():
                _tell_of_decisions(settings.home(root), prefect.api)
                return _as_flow_run(request)


def _catch_up(root: Path) -> None:
    """Hear what was decided meanwhile, and tell those who have not heard of it."""
    if in_worktree() or not (cases.pending() or cases.pending_models()):
        return
    from flows.decisions import follow, settle
    from flows.decisions.watch import watch

    for line in watch(root):
        print(line, flush=True)
    if settle.needed():  # beside the run, which waits for no MLflow
        follow.start(root)


def _prefect_lacks_decisions() -> bool:
    if in_worktree() or not cases.pending():
        return False
    from flows.decisions import settle

    return settle.prefect_lacks()


def _tell_of_decisions(project: Path, api: str) -> None:
    """Show the flow runs as decided that waited when this server, or the one before it, last heard of them."""
    if not _prefect_lacks_decisions():
        return
    from flows.decisions import settle

    settle.tell_prefect(project, api)


def _as_flow_run(request: Request) -> Result:
    """Run the flow, once Prefect knows how the flow runs before it ended."""
    from prefect.client.orchestration import get_client

    from flows.retrain import retrain
    from flows.worker import engine, untold

    with get_client(sync_client=True) as client:
        with suppress(*untold.AWAY):  # its next request says so
            for line in untold.tell(client):
                print(line, flush=True)
        return cast(Result, engine.run(client, retrain, {"request": request}))


def _tell_prefect(root: Path) -> None:
    """Where nothing is to be run: tell Prefect what it has not heard, if there is such a thing and it is back."""
    if not _prefect_lacks_decisions() and not any((shared() / settings.UNTOLD).glob("*.json")):
        return
    from flows.worker import untold

    with suppress(UserError), prefect_for_run(settings.home(root)) as prefect, prefect.client():
        from prefect.client.orchestration import get_client

        _tell_of_decisions(settings.home(root), prefect.api)
        with get_client(sync_client=True) as client, suppress(*untold.AWAY):
            for line in untold.tell(client):
                print(line, flush=True)


def nothing_to_do(root: Path) -> Finished | None:
    """What an earlier run with these data, params and code came to, if there is nothing to do again."""
    return finished_before() if in_worktree() else up_to_date(root)


def up_to_date(root: Path) -> Finished | None:
    """What the last run came to, if data, params and code are as it left them."""
    try:
        finished = attempts.finished(PARAMS.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):  # the door has the words
        return None
    if finished is None or not (attempts.folder(finished.id) / attempts.RECORD).exists():  # removed: made again
        return None
    if Graph(root).changed():  # DVC is not loaded where there is work anyway: servers start first
        return None
    from pipeline.ingest.stage import unchanged

    return finished if unchanged(load(IngestParams), DATASET) else None


def finished_before() -> Finished | None:
    """What a run came to that had the same data, params and code, wherever it ran; no picture is read for that."""
    from pipeline.ingest.fingerprint import known_dataset

    dataset = known_dataset(load(IngestParams))
    return attempts.finished_as(load(Params), dataset) if dataset else None


def change_params(assignments: Sequence[str], params_file: Path | None) -> None:
    """Write what the command line says into params.yaml, unless the door refuses it.

    Raises:
        UserError: the file is not there, or the params would be wrong; params.yaml is as it was.
    """
    if not assignments and params_file is None:
        return
    text = _text(PARAMS, str(PARAMS)) if params_file is None or PARAMS.exists() else ""
    if params_file is not None:
        said = _text(params_file, f"--params {params_file}")
        text = merged(said, text, str(params_file)) if text else said
    text = edited(text, assignments) if assignments else text
    parse(Params, text, str(params_file or PARAMS))
    if (kept := replace_params(PARAMS, text)) and not in_worktree():
        print(f"params.yaml is changed; the text from before is in {kept}.")


def _text(file: Path, name: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{name}: cannot be read: {error}") from None


def prepared() -> str:
    """The device's identity, after everything that can be refused at once is looked at; Prefect loads meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        loaded = pool.submit(_import_libraries)
        params = load(Params)
        _look_at_notifications(params)
        from pipeline.devices import identity, pick

        device = identity(pick(params.compute.device))
        loaded.result()
    return device


@contextmanager
def device_of(identity: str) -> Iterator[None]:
    """Have the device to oneself, among all projects of this user; its stages hold a lock beside it."""
    from pipeline.__main__ import DEVICE_LOCK

    lock = of_device(identity)
    with alone(lock, lambda who: _wait_for_device(identity, who)):
        os.environ[DEVICE_LOCK] = str(lock.with_suffix(".stage"))
        try:
            yield
        finally:
            del os.environ[DEVICE_LOCK]


@contextmanager
def polite_kill() -> Iterator[None]:
    """Let a polite kill end the flow as Ctrl-C does: the record is closed and the private server ended."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.stdout.flush()


def _look_at_source() -> None:
    """Refuse a source that is not there before any server is started or library loaded."""
    try:
        params = load(IngestParams)
    except ParamsError:
        load(Params)  # all problems of the file together, not only those of these sections
        raise
    next(params.data.fingerprint(), None)


def _look_at_notifications(params: Params) -> None:
    if params.notify.on:
        from flows import notify

        notify.check(params.notify)


def _import_libraries() -> None:
    import prefect  # noqa: F401


def _wait_for(holder: str) -> None:
    print(f"Another run is at work here ({holder}); this one waits for it. Ctrl-C gives up.", flush=True)


def _wait_for_device(identity: str, holder: str) -> None:
    what = "the processor" if identity == "cpu" else identity
    print(f"Another run has {what} of this machine ({holder}); this one waits for it. Ctrl-C gives up.", flush=True)
