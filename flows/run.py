"""`convoy run`: one run at a time, nothing done twice, everything prepared side by side."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.alone import alone
from flows.edits import edited, replace_params
from flows.servers import prefect_for_run
from flows.stage import Graph, in_git
from pipeline.door import PARAMS, load, parse
from pipeline.errors import ParamsError, UserError
from pipeline.files import DATASET, STATE
from pipeline.params import IngestParams, Params
from pipeline.registry import attempts
from pipeline.registry.attempts import Finished

LOCK = STATE / "run.lock"


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    finished: Finished
    new: bool
    """False: everything was up to date, and this is what the run before came to."""


def run(root: Path, assignments: Sequence[str], params_file: Path | None) -> Result:
    """Bring everything up to date, or say that it is.

    Args:
        root: the project, which is the current folder.
        assignments: changes to params.yaml, as `train.epochs=5`.
        params_file: whose text replaces params.yaml, before the assignments.

    Raises:
        UserError: a mistake in the params, the data or the machine; nothing that was done is lost.
    """
    with alone(LOCK, _wait_for):
        change_params(assignments, params_file)
        if finished := up_to_date(root):
            return Result(finished, new=False)
        _look_at_source()
        if not in_git(root):
            print("Not in a git repository: the run is recorded without the code that made it. `git init` mends that.")
        with prefect_for_run(root) as prefect:
            params = prepared()
            with prefect.client(), _polite_kill():
                from flows.retrain import retrain

                return Result(retrain(params.name), new=True)


def up_to_date(root: Path) -> Finished | None:
    """What the last run came to, if data, params and code are as it left them."""
    finished = attempts.finished(PARAMS.read_text(encoding="utf-8"))
    if finished is None or Graph(root).changed():  # DVC is not loaded where there is work anyway: servers start first
        return None
    from pipeline.ingest.stage import unchanged

    return finished if unchanged(load(IngestParams), DATASET) else None


def change_params(assignments: Sequence[str], params_file: Path | None) -> None:
    """Write what the command line says into params.yaml, unless the door refuses it.

    Raises:
        UserError: the file is not there, or the params would be wrong; params.yaml is as it was.
    """
    if not assignments and params_file is None:
        return
    try:
        text = (params_file or PARAMS).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--params {params_file}: cannot be read: {error}") from None
    text = edited(text, assignments) if assignments else text
    parse(Params, text, str(params_file or PARAMS))
    if kept := replace_params(PARAMS, text):
        print(f"params.yaml is changed; the text from before is in {kept}.")


def _look_at_source() -> None:
    """Refuse a source that is not there before any server is started or library loaded."""
    try:
        params = load(IngestParams)
    except ParamsError:
        load(Params)  # all problems of the file together, not only those of these sections
        raise
    next(params.data.fingerprint(), None)


def prepared() -> Params:
    """The params, after everything that can be refused at once is looked at; Prefect and MLflow load meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        loaded = pool.submit(_import_libraries)
        params = load(Params)
        from pipeline.devices import pick

        pick(params.compute.device)
        loaded.result()
    return params


def _import_libraries() -> None:
    import prefect  # noqa: F401


def _wait_for(holder: str) -> None:
    print(f"Another run is at work here ({holder}); this one waits for it. Ctrl-C gives up.", flush=True)


@contextmanager
def _polite_kill() -> Iterator[None]:
    """Let a polite kill end the flow as Ctrl-C does: the record is closed and the private server ended."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.stdout.flush()
