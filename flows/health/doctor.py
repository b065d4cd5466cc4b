"""`convoy doctor`: is every part here, of a version that works, reachable and safe; and what to do if not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from configparser import Error as ConfigError
from pathlib import Path

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

from flows import settings
from flows.health.checks import FAILED, OK, WARNING, Check
from flows.health.checks_of_ledger import check_ledger
from flows.health.checks_of_servers import check_databases, check_servers
from flows.records.terminal import plain
from flows.repository import in_git, unreadable
from pipeline.door import PARAMS, load
from pipeline.errors import ParamsError
from pipeline.files import STATE
from pipeline.params import Params

OLDEST = (3, 11)
GIGABYTE = 10**9
STYLES = {OK: "green", WARNING: "yellow", FAILED: "bold red"}
COMPUTE_SECONDS = 120.0
"""For torch to load and to compute, which takes it some 5; a driver at fault lets it wait for ever."""
COMPUTE = """
import torch
found = ["cpu"] + [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
found += ["mps"] if torch.backends.mps.is_available() else []
for name in found:
    ones = torch.ones(8, 8, device=name.split(" ")[0])
    assert (ones @ ones).sum().item() == 512, name
print(f"torch {torch.__version__} computes on {', '.join(found)}")
"""


def show_diagnosis(root: Path) -> int:
    """Print what every check found; the exit code, 1 if any failed."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("", "check", "found"):
        table.add_column(column, overflow="fold")
    checks = diagnose(root)
    for check in checks:
        table.add_row(plain(check.status, STYLES[check.status]), check.name, plain(check.found))
        if check.advice:
            table.add_row("", "", plain(f"-> {check.advice}", "italic"))
    Console().print(table)
    counts = {status: sum(check.status == status for check in checks) for status in (FAILED, WARNING)}
    print(f"\n{len(checks)} checks: {counts[FAILED]} failed, {counts[WARNING]} with a warning.")
    return 1 if counts[FAILED] else 0


def diagnose(root: Path) -> list[Check]:
    """Every check of the project in `root`, side by side; nothing is changed, but the page notes what it refuses."""
    with ThreadPoolExecutor() as pool:
        parts = pool.map(lambda check: list(check(root)), CHECKS)
        return [check for part in parts for check in part]


def check_python(root: Path) -> Iterable[Check]:
    """The interpreter, and whether it keeps what it compiles."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST:
        yield Check(
            "Python", FAILED, version, "Convoy needs 3.11 or newer: make clean, then make PYTHON=python3.13 run"
        )
    else:
        yield Check("Python", OK, f"{version} in {sys.prefix}")
    spec = importlib.util.find_spec("prefect")
    compiled = Path(importlib.util.cache_from_source(spec.origin)) if spec and spec.origin else None
    if sys.dont_write_bytecode and compiled and not compiled.exists():
        advice = "unset PYTHONDONTWRITEBYTECODE: each start of Prefect, MLflow and torch takes twice the time with it"
        yield Check("compiled modules", WARNING, "none are kept", advice)


def check_libraries(root: Path) -> Iterable[Check]:
    """Each library of the lock in its version, by the installed metadata: nothing is imported."""
    advice = "make setup installs what requirements.lock says"
    try:
        lines = (root / "requirements.lock").read_text().splitlines()
    except OSError:
        yield Check(
            "libraries", WARNING, "there is no requirements.lock", "get it back: git checkout requirements.lock"
        )
        return
    wanted = [Requirement(line.rstrip(" \\")) for line in lines if line[:1].isalnum()]
    wanted = [library for library in wanted if library.marker is None or library.marker.evaluate()]
    wrong = [
        f"{library.name} {found or 'is missing'}, not {str(library.specifier).removeprefix('==')}"
        for library in wanted
        if (found := installed(library.name)) is None or found not in library.specifier
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        yield Check("libraries", FAILED, "; ".join(wrong[:5]) + more, advice)
    else:
        yield Check("libraries", OK, f"all {len(wanted)} of requirements.lock, in its versions")
    if installed("albumentationsx"):
        found = "albumentationsx is installed: it takes the place of albumentations, under the AGPL"
        yield Check("licences", FAILED, found, ".venv/bin/uv pip uninstall albumentationsx, then make setup")
    if (fastapi := installed("fastapi")) and tuple(map(int, fastapi.split(".")[:2])) >= (0, 151):
        found = f"fastapi {fastapi}: with 0.155 and newer, Prefect 3.8's server dies when it starts"
        yield Check("Prefect's server", FAILED, found, advice)


def installed(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_compute(root: Path) -> Iterable[Check]:
    """Whether torch computes, on what devices; in a process of its own, as a broken driver may end it."""
    advice = "make clean, then make setup; or set compute.device: cpu"
    try:
        done = subprocess.run(
            [sys.executable, "-c", COMPUTE], capture_output=True, text=True, cwd=root, timeout=COMPUTE_SECONDS
        )
    except subprocess.TimeoutExpired:
        yield Check("compute", FAILED, f"torch says nothing for {COMPUTE_SECONDS:g} s: a device hangs", advice)
        return
    if done.returncode == 0:
        yield Check("compute", OK, done.stdout.strip())
    else:
        lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        yield Check("compute", FAILED, f"torch does not compute: {lines[-1]}", advice)


def check_git(root: Path) -> Iterable[Check]:
    """git, the repository, the user's name, and whether the tree is clean."""
    if shutil.which("git") is None:
        yield Check("git", WARNING, "not installed: runs cannot say what code made them", "install git")
        return
    if not in_git(root):
        yield Check("git", WARNING, "not in a repository: runs cannot say what code made them", "git init, then commit")
        return
    changed = (git(root, "status", "--porcelain") or "").splitlines()
    if trouble := unreadable(root):
        advice = "commit the project; or, if git says so, tell it to trust this folder (`git status` has the command)"
        yield Check("git", WARNING, f"runs cannot say what code made them: {trouble}", advice)
    elif changed:
        files = "1 file differs" if len(changed) == 1 else f"{len(changed)} files differ"
        found = f"{files} from the last commit: a run records them as a patch"
        yield Check("git", WARNING, found, "commit before a run that must be repeatable")
    else:
        yield Check("git", OK, f"at commit {git(root, 'rev-parse', '--short', 'HEAD')}, nothing changed")
    if not git(root, "config", "user.name"):
        yield Check("git user", WARNING, "git knows no name for you", "git config --global user.name 'Your Name'")


def git(root: Path, *arguments: str) -> str | None:
    """What git says, or None if it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def check_dvc(root: Path) -> Iterable[Check]:
    """Whether DVC is set up here, and where it can push to."""
    if not (root / ".dvc").is_dir():
        yield Check("DVC", FAILED, f"{root} holds no .dvc folder", ".venv/bin/dvc init (with --no-scm outside git)")
        return
    config = ConfigParser(interpolation=None)
    try:
        config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"])
    except ConfigError as error:
        yield Check(
            "DVC", FAILED, f".dvc/config cannot be read: {error.message}", "mend it, or git checkout .dvc/config"
        )
        return
    remotes = [section.strip("'").removeprefix("remote ").strip('"') for section in config if "remote " in section]
    where = f"remotes: {', '.join(remotes)}" if remotes else "no remote: versions of the data stay on this machine"
    yield Check("DVC", OK, f"set up; {where}")


def check_params(root: Path) -> Iterable[Check]:
    """Whether the door lets params.yaml in; `doctor` runs in the project, whose parts it names."""
    try:
        params = load(Params, root / PARAMS)
    except ParamsError as error:
        found = "; ".join(f"{problem.place}: {problem.text}" for problem in error.problems)
        yield Check("params.yaml", FAILED, found, "mend it; `git diff params.yaml` shows what you changed")
    else:
        yield Check("params.yaml", OK, f"describes a run of {params.name!r}")


def check_disk(root: Path) -> Iterable[Check]:
    """Room for outputs, and whether the state folder takes a file."""
    free = shutil.disk_usage(root).free
    status = FAILED if free < GIGABYTE / 2 else WARNING if free < 3 * GIGABYTE else OK
    advice = (
        "" if status == OK else "free some: .venv/bin/dvc gc --workspace drops versions that the workspace does not use"
    )
    yield Check("disk", status, f"{free / GIGABYTE:.1f} GB are free", advice)
    try:
        (root / STATE).mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=root / STATE):
            yield Check("state", OK, f"{root / STATE} can be written")
    except OSError as error:
        yield Check(
            "state", FAILED, f"{root / STATE} cannot be written: {error.strerror}", "give yourself the right to"
        )


def check_telemetry(root: Path) -> Iterable[Check]:
    """Whether no library phones home."""
    variables = {**settings.environment(root), **os.environ}
    talking = [name for name in settings.TELEMETRY if variables[name] != settings.SWITCHES[name]]
    if talking:
        yield Check("telemetry", WARNING, f"switched on by {', '.join(talking)}", f"unset {' '.join(talking)}")
    else:
        yield Check("telemetry", OK, "switched off in Prefect, MLflow, DVC and Albumentations")


CHECKS: tuple[Callable[[Path], Iterable[Check]], ...] = (
    check_python,
    check_libraries,
    check_compute,
    check_git,
    check_dvc,
    check_params,
    check_disk,
    check_databases,
    check_ledger,
    check_servers,
    check_telemetry,
)
