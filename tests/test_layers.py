"""The walls of the house: who may import whom, as pyproject.toml says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """Hold every contract of `root` against its code."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    return subprocess.run([*command, "--no-cache"], cwd=root, capture_output=True, text=True, timeout=600)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The code, to break it."""
    for folder in ("dashboard", "flows", "pipeline"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_point_one_way() -> None:
    result = lint(REPOSITORY)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


def test_each_wall_stands(copy: Path) -> None:
    """The contracts are no decoration: each of these lines breaks one."""
    for file, line in {
        "pipeline/losses/focal.py": "import pipeline.models.lenet5",
        "pipeline/errors.py": "import pipeline.contracts",
        "pipeline/dataset.py": "import pipeline.train",
        "pipeline/ingest/splits.py": "import pipeline.augment",
        "pipeline/files.py": "import flows.settings",
        "pipeline/packed.py": "import prefect",
        "pipeline/policy.py": "import albumentations",
        "flows/settings.py": "import torch",
        "flows/alone.py": "import flows.cli",
        "flows/edits.py": "import dashboard.page",
        "dashboard/judged.py": "import mlflow",
        "dashboard/sides.py": "import torch",
    }.items():
        path = copy / file
        path.write_text(path.read_text() + f"\n{line}\n")
    (copy / "pipeline" / "utils.py").touch()  # a module that nobody gave a place
    result = lint(copy)
    assert result.returncode == 1
    said = " ".join(result.stdout.split())
    for words in (
        "pipeline.losses is not allowed to import pipeline.models",
        "pipeline.errors is not allowed to import pipeline.contracts",
        "pipeline.dataset is not allowed to import pipeline.train",
        "pipeline.ingest is not allowed to import pipeline.augment",
        "pipeline is not allowed to import flows",
        "pipeline is not allowed to import prefect",
        "pipeline is not allowed to import albumentations",
        "flows is not allowed to import torch",
        "flows.cli",
        "utils",
    ):
        assert words in said
