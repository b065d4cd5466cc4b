"""A PostgreSQL server of the machine's own packages, for one test module: on loopback, in a folder that goes."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ports import lasting_port

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
USER = "postgres"
"""It refuses to run as root."""


@contextmanager
def server() -> Iterator[str]:
    """The address of an empty database, as MLFLOW_TRACKING_URI names it."""
    binaries, home = BINARIES[-1], Path(tempfile.mkdtemp(prefix="convoy-postgres-"))
    shutil.chown(home, USER)
    data = home / "data"
    initdb = [str(binaries / "initdb"), "-D", str(data), "--auth=trust", "--username=convoy", "--no-sync"]
    subprocess.run(initdb, user=USER, cwd=home, check=True, capture_output=True)
    port = lasting_port()
    options = ["-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(home)]
    log = (home / "log").open("wb")
    process = subprocess.Popen([str(binaries / "postgres"), *options], user=USER, cwd=home, stdout=log, stderr=log)
    try:
        _wait(port)
        yield f"postgresql+pg8000://convoy@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)  # fast shutdown: connections are cut
        process.wait(120)
        shutil.rmtree(home)


def _wait(port: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("PostgreSQL does not answer")
