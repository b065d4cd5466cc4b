"""What the review page costs: how soon it is there, how long each view takes with 1,000 runs, and what it remembers.

    .venv/bin/python benchmarks/page.py --runs 1000 --requests 10000

Everything is asked of a real `python -m dashboard` process over the wire, one request at a time. The project is made up
(tests/page_project.py): records, a ledger and pictures as they would lie there, and nothing was trained.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import decision_project  # noqa: E402
import page_project  # noqa: E402

AIM = 300.0
"""Milliseconds for the first view of the runs."""
REPORTS = 5
"""Times that the memory is looked at."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="that the project remembers (default 1000)")
    parser.add_argument("--cases", type=int, default=200, help="that the gate has judged (default 200)")
    parser.add_argument("--requests", type=int, default=10_000, help="before memory is compared (default 10000)")
    parser.add_argument("--rounds", type=int, default=50, help="of each view (default 50)")
    parser.add_argument("--starts", type=int, default=5, help="fresh processes for the first view (default 5)")
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load before: {os.getloadavg()[0]:.1f}; {given.runs} runs", flush=True)
    with tempfile.TemporaryDirectory(prefix="convoy-page-") as folder:
        project = page_project.make(Path(folder) / "project", given.runs)
        case = judged(project, given.cases)
        table("A fresh process (milliseconds)", fresh(project.root, given.starts))
        with page_project.served(project.root) as (url, process), httpx.Client(base_url=url, timeout=60) as client:
            views = {
                "runs": "/runs",
                "runs, page 10": "/runs?page=10",
                "runs, searched": "/runs?q=train.epochs%3D5+lenet5",
                "runs, sorted by score": "/runs?sort=-score",
                "what is at work": "/at-work",
                "one run": f"/runs/{project.champion}",
                "its params": f"/runs/{project.champion}/params",
                "its mistakes": f"/runs/{project.champion}/mistakes",
                "decisions": "/decisions",
                "challenger beside champion": f"/decisions/{case}",
                "champion": "/champion?model=parts",
                "two runs compared": f"/compare?before={project.finished[0]}&after={project.champion}",
            }
            table("A view (milliseconds)", {name: asked(client, path, given.rounds) for name, path in views.items()})
            memory(client, list(views.values()), process, given.requests)
    print(f"load after: {os.getloadavg()[0]:.1f}")


def judged(project: page_project.Project, cases: int) -> str:
    """Let so many versions wait for a decision; the last one."""
    os.chdir(project.root)
    case = ""
    for number in range(cases):
        version = decision_project.make_version(str(10_000 + number), model="parts")
        run = project.finished[number % len(project.finished)]
        case = decision_project.make_full_case(project.root, project.dataset, version, run=run).id
    return case


def fresh(root: Path, starts: int) -> dict[str, list[float]]:
    """Milliseconds until a new process answers, and of its very first view; then of the second."""
    spent: dict[str, list[float]] = {"start": [], "first view of the runs": [], "second view": []}
    for _ in range(starts):
        begun = time.perf_counter()
        with page_project.serve(root) as url:
            spent["start"].append(1000 * (time.perf_counter() - begun))
            with httpx.Client(base_url=url, timeout=60) as client:
                spent["first view of the runs"] += asked(client, "/runs", 1)
                spent["second view"] += asked(client, "/runs", 1)
    return spent


def asked(client: httpx.Client, path: str, rounds: int) -> list[float]:
    """Milliseconds of each of so many requests."""
    spent = []
    for _ in range(rounds):
        begun = time.perf_counter()
        client.get(path).raise_for_status()
        spent.append(1000 * (time.perf_counter() - begun))
    return spent


def memory(client: httpx.Client, paths: Sequence[str], process: psutil.Process, requests: int) -> None:
    """Resident megabytes of the process while it serves so many requests, over all views in turn."""
    every = max(1, requests // REPORTS)
    print(f"\nMemory (MB)\n  {'before':<40}{process.memory_info().rss / 1e6:>8.1f}", flush=True)
    for count, path in enumerate(islice(cycle(paths), requests), start=1):
        client.get(path).raise_for_status()
        if count % every == 0:
            print(f"  {f'after {count:,} requests':<40}{process.memory_info().rss / 1e6:>8.1f}", flush=True)


def table(title: str, spent: Mapping[str, list[float]]) -> None:
    """Medians with their range."""
    print(f"\n{title:<42}{'median':>8}{'lowest':>8}{'highest':>8}")
    for name, found in spent.items():
        aim = f"  aim {AIM:.0f}" if name == "first view of the runs" else ""
        print(f"  {name:<40}{statistics.median(found):>8.1f}{min(found):>8.1f}{max(found):>8.1f}{aim}", flush=True)


if __name__ == "__main__":
    main()
