"""What the house costs: a first run against its bare training loop, one with nothing to do against a plain script.

    .venv/bin/python benchmarks/overhead.py --rounds 3

Everything happens in fresh clones of this repository's HEAD in a temporary folder. The sides take turns in one call
(A B C, C B A, ...), so that a machine that becomes busy meanwhile troubles all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLAIN = Path(__file__).with_name("plain_script.py")
# The loop of the stage `train` in one process, with its checkpoints and journal and without the outputs; its imports
# and the assembling count.
BARE = """
from pipeline.dataset import Dataset
from pipeline.door import load
from pipeline.params import TrainParams
from pipeline.policy import Policy
from pipeline.train.assembly import assemble
from pipeline.train.epochs import finish_epochs
training = assemble(load(TrainParams), Dataset.open(), Policy.open())
finish_epochs(training)
training.close()
"""
FIXED = (("precision: auto", "precision: float32"), ("memory_format: auto", "memory_format: contiguous"))
"""So that no probe decides: all sides compute the same."""
KEPT_OUT = ("PREFECT_", "MLFLOW_", "DVC_", "CONVOY_", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH")

Seconds = dict[str, list[float]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison (default 3)")
    rounds = parser.parse_args().rounds
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # servers end and folders go, as by Ctrl-C
    print(f"{os.cpu_count()} cores, load before: {_load()}; {rounds} rounds", flush=True)
    with tempfile.TemporaryDirectory(prefix="convoy-overhead-") as folder:
        cold, phases = cold_runs(Path(folder), rounds)
        table("A first run (seconds)", cold, against="bare loop")
        table("Where the time of `convoy, no servers` goes (seconds)", phases)
        print(f"load meanwhile: {_load()}\n", flush=True)
        table("Nothing to do, servers up (seconds)", idle_runs(Path(folder), rounds), against="plain script")
    print(f"load after: {_load()}")


def cold_runs(folder: Path, rounds: int) -> tuple[Seconds, Seconds]:
    """Wall seconds of whole first runs and of the bare loop on the data that they prepared, and of each phase."""
    prepared = project(folder / "prepared")  # untimed: it gives the bare loop its data, and warms the file cache
    run(prepared, "-m", "flows.cli", "run")
    phases: Seconds = {}
    count = 0

    def new() -> Path:
        nonlocal count
        count += 1
        return project(folder / f"cold-{count}")

    def alone() -> float:
        fresh = new()
        begun, spent = time.time(), run(fresh, "-m", "flows.cli", "run")
        for phase, seconds in phases_of(fresh, begun, begun + spent).items():
            phases.setdefault(phase, []).append(seconds)
        shutil.rmtree(fresh)
        return spent

    def with_servers() -> float:
        fresh = new()
        run(fresh, "-m", "flows.cli", "up")
        try:
            return run(fresh, "-m", "flows.cli", "run")
        finally:
            run(fresh, "-m", "flows.cli", "down")
            shutil.rmtree(fresh)

    def bare() -> float:
        shutil.rmtree(prepared / ".convoy" / "train")  # no checkpoint to go on from
        return run(prepared, "-c", BARE)

    sides = {"convoy, no servers": alone, "bare loop": bare, "convoy, servers up": with_servers}
    spent = interleaved(sides, rounds)
    whole = statistics.median(spent["bare loop"])
    phases["of train: beyond the bare loop"] = [seconds - whole for seconds in phases["train"]]
    return spent, phases


def idle_runs(folder: Path, rounds: int) -> Seconds:
    """Wall seconds of runs that find nothing to do, ours and the plain script's, on the same servers."""
    home = folder / "prepared"
    run(home, "-m", "flows.cli", "up")
    try:
        run(home, "-m", "flows.cli", "run")
        urls = {
            name: f"http://127.0.0.1:{server['port']}"
            for name, server in json.loads((home / ".convoy" / "servers.json").read_text()).items()
        }
        told = {
            "PREFECT_API_URL": f"{urls['prefect']}/api",
            "PREFECT_API_AUTH_STRING": (home / ".convoy" / "prefect.auth").read_text().strip(),
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
            "PREFECT_HOME": str(home / ".convoy" / "prefect"),
            "MLFLOW_TRACKING_URI": urls["mlflow"],
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        run(home, str(PLAIN), variables=told)  # untimed: its first one registers the model
        sides = {
            "convoy": lambda: run(home, "-m", "flows.cli", "run"),
            "plain script": lambda: run(home, str(PLAIN), variables=told),
        }
        return interleaved(sides, rounds)
    finally:
        run(home, "-m", "flows.cli", "down")


def phases_of(home: Path, begun: float, ended: float) -> dict[str, float]:
    """Seconds of each phase of a run, from the times that Prefect's database holds."""
    with closing(sqlite3.connect(home / ".convoy" / "prefect.db")) as database:
        rows = database.execute("select name, start_time, end_time from task_run order by start_time").fetchall()
        (finished,) = database.execute("select end_time from flow_run").fetchone()
    phases = {"start: imports, Prefect's server": _moment(rows[0][1]) - begun}
    phases |= {name.partition("-")[0]: _moment(end) - _moment(start) for name, start, end in rows}
    phases["record"] = _moment(finished) - _moment(rows[-1][2])
    phases["end: Prefect's server, the process"] = ended - _moment(finished)
    return phases


def project(home: Path) -> Path:
    """A fresh clone with its databases made, as `make setup` leaves it, and no outputs."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(home)], check=True)
    (home / ".venv").symlink_to(ROOT / ".venv")
    text = (home / "params.yaml").read_text()
    for old, new in FIXED:
        assert old in text, f"params.yaml has no {old!r} any more"
        text = text.replace(old, new)
    (home / "params.yaml").write_text(text)
    run(home, "-m", "flows.servers.dashboards", "prepare")
    return home


def run(home: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> float:
    """Run `python ARGUMENTS` in the project; the wall seconds of the whole process."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(KEPT_OUT)}
    clean["PATH"] = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{clean['PATH']}"
    start = time.perf_counter()
    done = subprocess.run(
        [str(ROOT / ".venv" / "bin" / "python"), *arguments],
        cwd=home,
        env={**clean, **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    spent = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} ended with status {done.returncode}:\n{done.stdout[-4000:]}")
    return spent


def interleaved(sides: Mapping[str, Callable[[], float]], rounds: int) -> Seconds:
    """Seconds of each side; every other round goes backwards."""
    spent: Seconds = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else reversed(sides):
            spent[name].append(sides[name]())
            print(f"  round {number + 1}: {name} {spent[name][-1]:.1f} s (load {_load()})", flush=True)
    return spent


def table(title: str, spent: Seconds, against: str = "") -> None:
    """Medians with their range; against one of the rows, the difference and the ratio of the medians."""
    base = statistics.median(spent[against]) if against else 0.0
    print(f"\n{title:<52}{'median':>8}{'lowest':>8}{'highest':>8}" + (f"{'more':>8}{'times':>8}" if against else ""))
    for name, seconds in spent.items():
        middle = statistics.median(seconds)
        line = f"  {name:<50}{middle:>8.2f}{min(seconds):>8.2f}{max(seconds):>8.2f}"
        print(line + (f"{middle - base:>+8.2f}{middle / base:>8.2f}" if against else ""))


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
