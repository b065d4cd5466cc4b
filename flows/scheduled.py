"""`python -m flows.scheduled FLOW_RUN_ID`: one flow run of a deployment, in the worktree that the worker made for it.

The worker starts it there, so that all code, params and working files are those of the commit. It ends with the worker,
as if it were told to stop: what is done is kept, and the next worker goes on with the same flow run.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from uuid import UUID

from flows import announce, logs, settings
from flows.alone import alone
from flows.housekeeping.turns import run_at_work
from flows.remote import moving as remote
from flows.run import change_params, device_of, finished_before, polite_kill, prepared
from flows.servers.prefect_server import Prefect
from flows.worktrees import LOCK
from pipeline.errors import UserError
from pipeline.interrupts import EXIT_CODE

WATCH_SECONDS = 0.5


def run(flow_run_id: UUID) -> None:
    """Run `retrain` as the flow run that Prefect has made.

    Raises:
        UserError: what the user should mend; Prefect has been told.
    """
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Crashed, Failed

    from flows.schedule.request import Request
    from flows.worker.flow_runs import held

    root = Path.cwd()
    with run_at_work(), held(settings.home(root), flow_run_id), alone(LOCK, lambda _: None):
        with get_client(sync_client=True) as client:
            flow_run = client.read_flow_run(flow_run_id)
            try:
                request = Request.model_validate(flow_run.parameters.get("request", {}))
                change_params(request.set, None)
                before = finished_before()
                if request.push and not before:
                    remote.check(root)
                device = prepared()
            except UserError as error:
                client.set_flow_run_state(flow_run_id, Failed(message=str(error)), force=True)
                announce.failed_early(root, flow_run.name, str(error))
                raise
            if before:
                message = f"Data, params and code are those of run {before.id[:8]}."
                client.set_flow_run_state(flow_run_id, Completed(name="NothingToDo", message=message), force=True)
                print(f"Nothing to do: {message}")
                return
        with device_of(device), Prefect(os.environ["PREFECT_API_URL"]).client(), polite_kill():
            from flows.retrain import DIED, retrain
            from flows.worker import engine

            try:
                engine.run_as(flow_run, retrain)
            except DIED as error:  # to Prefect that is a failure of the flow, which nobody would take up again
                with get_client(sync_client=True) as client:
                    client.set_flow_run_state(flow_run_id, Crashed(message=str(error)), force=True)
                raise


def _end_with(parent: int) -> None:
    """Stop politely once the worker is gone: nobody would hear of this run any more."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str]) -> int:
    """The exit status."""
    settings.apply(Path.cwd())
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    flow_run_id = UUID(arguments[0])
    with logs.kept(flow_run_id):
        try:
            run(flow_run_id)
        except UserError as error:
            print(error, file=sys.stderr)
            return error.status
        except KeyboardInterrupt:
            return EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
