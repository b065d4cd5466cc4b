"""The examples of CONTRIBUTING.md, each saved under its name and put through the suites of its folder."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
EXAMPLE = re.compile(r"^`(pipeline/(\w+)/(\w+)\.py)`\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = EXAMPLE.findall((REPOSITORY / "CONTRIBUTING.md").read_text())
FOLDERS = {"models", "losses", "metrics", "formats", "policies", "optimizers", "schedules"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project that has every example."""
    root = tmp_path_factory.mktemp("contributed")
    for folder in ("dashboard", "flows", "pipeline", "tests"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    for path, _, _, text in EXAMPLES:
        assert not (root / path).exists(), f"{path} is here: CONTRIBUTING.md needs another example"
        (root / path).write_text(text)
    return root


def test_there_is_one_for_each_kind_of_part() -> None:
    assert {folder for _, folder, _, _ in EXAMPLES} == FOLDERS
    assert len(EXAMPLES) == len(FOLDERS)


def test_they_pass_the_suites_of_their_folders(copy: Path) -> None:
    suites = [f"tests/test_{folder}.py" for folder in sorted(FOLDERS)]
    parts = [part for _, _, part, _ in EXAMPLES]
    command = [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider", "-k", " or ".join(parts)]
    done = subprocess.run(
        [*command, *suites, "tests/test_part_options.py"], cwd=copy, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout[-5000:]
    for _, folder, part, _ in EXAMPLES:
        for suite in (f"test_{folder}", "test_part_options"):
            passed = re.findall(rf"^tests/{suite}\.py::\S*\b{part}\b\S* PASSED", done.stdout, re.MULTILINE)
            assert passed, f"{suite} did not try {part}"


def test_they_are_in_the_style_of_the_house(copy: Path) -> None:
    paths = [path for path, _, _, _ in EXAMPLES]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", *paths], cwd=copy, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
