"""A recorded run once more: what it was made of comes back whole, and what is missing is said before it begins."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from small_project import commit, git
from test_runs import PATCH, made_record, run_id

from flows.records import rerun
from pipeline.door import parse
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.params import Params, described
from pipeline.registry import attempts, runs
from pipeline.registry.attempts import Attempt, Work
from pipeline.registry.code import Code

ROOT = Path(__file__).parents[1]
RUN = run_id(1)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for variable in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(variable, raising=False)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / ".dvc").mkdir()
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text(".convoy/\n")
    commit(tmp_path, "one")
    return tmp_path


def stopped(params: dict[str, Any], code: Code | None) -> None:
    attempt = Attempt(id=RUN, key="key", model="digits", started=1, params=params)
    write_json(attempts.folder(RUN) / "attempt.json", attempt.model_dump(mode="json"))
    if code:
        write_json(attempts.folder(RUN) / attempts.CODE, asdict(code))


def test_a_finished_run_is_made_of_its_record(project: Path) -> None:  # noqa: ARG001
    runs.write(made_record(RUN, code__patch=PATCH, params_text="seed: 7  # mine\n"))
    recipe = rerun.recipe_of(RUN[:4])
    assert recipe.code == Code("c" * 40, "main", PATCH, ())
    assert recipe.params_text == "seed: 7  # mine\n"


@pytest.mark.parametrize(
    "change",
    [
        ("lr: 0.003", "lr: 1.0e-5"),
        ("patience: 0", "patience: 3"),
        ("seed: 0", "seed: 1234567890"),
        ("worst: 24", "worst: 0"),
    ],
)
def test_a_run_that_stopped_short_is_made_of_what_it_noted(project: Path, change: tuple[str, str]) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert change[0] in text
    params = parse(Params, text.replace(change[0], change[1], 1))
    code = Code(git(project, "rev-parse", "HEAD"), "main", PATCH + "é\n", ("large.bin",))
    stopped(json.loads(json.dumps(described(params))), code)
    recipe = rerun.recipe_of(RUN)
    assert recipe.code.patch == code.patch
    assert list(recipe.code.left_out) == ["large.bin"]
    again = parse(Params, recipe.params_text)
    assert attempts.run_key(again, "d") == attempts.run_key(params, "d")  # so it goes on, and is no new run


def refused(project: Path) -> str:
    with pytest.raises(UserError) as error:
        rerun.rerun(project, RUN)
    assert not (project / ".convoy/worktrees").exists()
    return str(error.value)


def test_what_cannot_be_run_again_says_why(project: Path) -> None:
    runs.write(made_record(RUN, code__commit=""))
    assert refused(project) == (
        "Run 00010000 cannot be run again: it ran outside a git repository, so its code is not known."
    )
    runs.write(made_record(RUN, code__left_out=["big.bin", "bigger.bin"]))
    assert refused(project) == (
        "Run 00010000 cannot be run again: big.bin, bigger.bin was new, not known to git, and too large to be recorded "
        "with it."
    )
    runs.write(made_record(RUN))
    assert refused(project) == (
        "Run 00010000 cannot be run again: its commit cccccccccccc is not in this repository. `git fetch --all` brings "
        "it, if it was pushed."
    )
    shutil.rmtree(project / ".git")
    assert "needs git: `git init`" in refused(project)


def test_of_a_run_that_older_code_began_nothing_is_guessed(project: Path) -> None:
    stopped({}, None)
    assert refused(project) == (
        "Run 00010000 stopped short, and what it was made of was not noted: an earlier version of Convoy began it. "
        "`convoy run` goes on with it if params, code and data are the same."
    )


def test_a_run_at_work_is_left_alone(project: Path) -> None:
    stopped({"name": "digits"}, Code("c" * 40))
    lock = attempts._try_lock("key")
    assert lock
    work = Work(attempts.read_all()[0], lock)
    assert refused(project) == "Run 00010000 is at work; it can be run again once it has ended."
    work.release()
