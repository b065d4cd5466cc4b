"""A project of its own in git that ingests, trains and judges within seconds: 60 tiny pictures of two classes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import databases
import numpy as np
from databases import clean_environment
from PIL import Image

ROOT = Path(__file__).parents[1]
SMALL = (
    ("name: digits               # of the model", "name: shades               # of the model"),
    ("  name: digits             # 1,797", "  name: folder             # 1,797"),
    ("name: convnet ", "name: lenet5 "),
    ("epochs: 10", "epochs: 2"),
    ("checkpoint_seconds: 30", "checkpoint_seconds: 0"),
    ("precision: auto", "precision: float32"),
    ("memory_format: auto", "memory_format: contiguous"),
    ("  threads: 0", "  threads: 1"),
    ("resamples: 1000", "resamples: 200"),
    ("baseline: class_means", "baseline: largest_class"),  # dark and light are told apart by any means
)


def make(folder: Path, pictures: Path) -> Path:
    """The project in `folder`, committed, that learns from `pictures`."""
    folder.mkdir(parents=True)
    for name in ("dashboard", "flows", "pipeline"):
        shutil.copytree(ROOT / name, folder / name)  # with what was compiled, which is valid there too
    for name in ("dvc.yaml", "prefect.yaml", "requirements.lock", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "*.local"))
    text = (ROOT / "params.yaml").read_text()
    for old, new in SMALL:
        assert old in text, old
        text = text.replace(old, new)
    text = text.replace("  name: folder  ", f"  path: {pictures}\n  name: folder  ", 1)
    (folder / "params.yaml").write_text(text)
    databases.give(folder)
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "the project")
    return folder


def make_pictures(folder: Path) -> Path:
    """60 pictures, 30 dark and 30 light ones."""
    random = np.random.default_rng(0)
    for number in range(60):
        name = ("dark", "light")[number % 2]
        pixels = random.integers(0, 150, (12, 12)) + 100 * (number % 2)
        path = folder / name / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def environment(**more: str) -> dict[str, str]:
    """Of a user's shell: nothing of Prefect, MLflow or DVC is set."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return clean_environment() | {"PATH": path, "DVC_NO_ANALYTICS": "1"} | more


def command(project: Path, *arguments: str, status: int = 0, **more: str) -> str:
    """What `python ARGUMENTS` says in the project; it ends with `status`."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == status, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    return done.stdout


def convoy(project: Path, *arguments: str, status: int = 0, **more: str) -> str:
    """What `convoy ARGUMENTS` says."""
    return command(project, "-m", "flows.cli", *arguments, status=status, **more)


def git(project: Path, *arguments: str) -> str:
    """What git says."""
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=project, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(project: Path, message: str) -> str:
    """Commit everything; the commit."""
    git(project, "add", "-A")
    git(project, "commit", "-qm", message)
    return git(project, "rev-parse", "HEAD")
