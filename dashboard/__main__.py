"""The process behind the page: `python -m dashboard FILE_DESCRIPTOR HOST`, in the project's root.

It serves on a socket that is already open, so its address is known, and can be connected to, before it is ready. HOST
is the name by which it listens: on loopback nobody logs in, elsewhere there are accounts.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from pathlib import Path

GRACE = 2
"""Seconds that open connections get when the server ends."""


def main() -> None:
    """Serve until told to stop."""
    gc.disable()  # while classes are made: there is no garbage yet
    handle, host = int(sys.argv[1]), sys.argv[2]

    import uvicorn

    from dashboard.access import SERVING, Access
    from dashboard.app import Setup, served
    from dashboard.refusals import note_refusal
    from pipeline.errors import UserError

    door = socket.socket(fileno=handle)
    try:
        access = Access.read(host, door.getsockname()[1], os.environ)
    except UserError as error:
        sys.exit(str(error))
    setup = Setup(
        root=Path.cwd(),
        access=access,
        note_refusal=note_refusal,
        prefect=os.environ.get("PREFECT_API_URL", ""),
        prefect_auth=os.environ.get("PREFECT_API_AUTH_STRING", ""),
        mlflow=os.environ.get("MLFLOW_TRACKING_URI", ""),
    )
    app = served(setup)
    gc.freeze()
    gc.enable()
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE, lifespan="on", **SERVING
    )
    uvicorn.Server(config).run(sockets=[door])


if __name__ == "__main__":
    main()
