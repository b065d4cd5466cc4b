"""Whoever registers, judges, decides or rolls back is killed at every numbered point, and the next start mends it."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import databases
import numpy as np
import pytest
import small_project
from narrow import no_room, noting
from registry_project import make_project, told

from pipeline.errors import UserError
from pipeline.failpoints import VARIABLE, Point
from pipeline.registry import attempts, cases, champion, decisions, ledger, tracking
from pipeline.registry.decisions import By
from pipeline.room import full

pytestmark = pytest.mark.slow
ADA = By("ada", "command")
ONLY_IF_ASKED = {Point.RUN_TOLD, Point.VERSION_TOLD, Point.PREFECT_TOLD, Point.NOTIFIED}
OF_ROLLBACK = (Point.ENTRY_WRITTEN, Point.ENTRY_COMMITTED, Point.LEDGER_MARKED, Point.ALIAS_SET)


def run_flow() -> None:
    """What the flow does once its stages are done, and then a person, and whoever tells of it."""
    from flows import retrain
    from flows.decisions import judging, settle
    from flows.recording import Recording
    from pipeline.door import load
    from pipeline.params import Params

    judging.ask = lambda bundle, *_: told(bundle)  # no write, and a fresh process takes seconds at every kill
    params = load(Params)
    with Recording(params, {}) as recording:
        recording.begin("d" * 64)
        version = retrain.register.fn(recording)
        case = retrain.judge.fn(recording, params, version, False)
        reigns = retrain.promote.fn(recording, params, case)
        record = recording.whole(version, case.verdict, {})
        recording.conclude(record, reigns)
    if cases.standing(case.id).state == "waiting":
        decisions.approve(case.id, ADA, "looks right")
    assert settle.settle(Path.cwd()) == []


def start_again() -> None:
    """What the next start does by itself, before anybody asks for a run."""
    from flows.decisions import settle

    assert settle.settle(Path.cwd(), everything=True) == []


def roll_back() -> None:
    from flows.decisions import settle

    decisions.rollback("digits", ADA, "it breaks dogs")
    assert settle.settle(Path.cwd()) == []


def in_child(project: Path, work: Callable[[], None], point: Point | None = None) -> int:
    """The exit status of a process that does `work` in the project, and dies at `point`."""

    def child() -> None:
        os.chdir(project)
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PREFECT_"))]:
            del os.environ[name]
        if point:
            os.environ[VARIABLE] = str(point.value)
        work()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(600)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    """Loaded once; each child is a fork of this process."""
    import mlflow  # noqa: F401
    import torch

    import flows.retrain  # noqa: F401

    torch.set_num_threads(1)  # threads do not outlive a fork


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages have run, with an empty MLflow store."""
    root = tmp_path_factory.mktemp("made") / "project"
    make_project(root)
    params = root / "params.yaml"  # dark and light are told apart by any means
    params.write_text(params.read_text().replace("baseline: class_means", "baseline: largest_class"))
    shutil.copy(small_project.ROOT / "requirements.lock", root)
    databases.give(root, tracking.DATABASE)
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "project"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    return root


def ask_people(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("promote: auto", "promote: ask "))


def is_whole(project: Path) -> None:
    """One run, one version, one case, one champion, and everybody says the same."""
    assert ledger.verify() is None
    reigning = champion.current("digits")
    assert reigning
    assert [entry.action for entry in ledger.history("digits", ("judge", "promote", "reject", "refuse"))] == [
        "judge",
        "promote",
    ]
    (standing,) = cases.standings()
    assert standing.state == "promoted" and cases.intact(standing)
    assert cases.pending() == [] and cases.pending_models() == []
    (attempt,) = attempts.read_all()
    assert attempt.finished and attempt.case == standing.case.id
    client = tracking.connect()
    versions = client.search_model_versions("name = 'digits'")
    assert [str(one.version) for one in versions] == ["1"]
    assert str(client.get_model_version_by_alias("digits", champion.ALIAS).version) == reigning.version.version == "1"
    (run,) = client.search_runs(
        [one.experiment_id for one in client.search_experiments(filter_string="name = 'digits'")]
    )
    assert run.info.status == "FINISHED"
    assert not list(project.glob(".convoy/cases/.*")) and not list(project.glob(".convoy/**/*.tmp"))


@pytest.mark.parametrize(
    "point", [point for point in Point if point not in ONLY_IF_ASKED], ids=lambda point: point.name
)
def test_a_run_that_promotes_by_itself_is_killed(project: Path, point: Point) -> None:
    assert in_child(project, run_flow, point) == -signal.SIGKILL, "the point was not passed"
    assert ledger.verify() is None
    assert in_child(project, start_again) == 0
    assert in_child(project, run_flow) == 0
    is_whole(project)


ASKED = [
    point for point in Point if point in ONLY_IF_ASKED or point.name.startswith(("CASE", "ENTRY", "LEDGER", "ALIAS"))
]


@pytest.mark.parametrize("point", ASKED, ids=lambda point: point.name)
def test_a_run_that_asks_and_its_decision_are_killed(project: Path, point: Point) -> None:
    ask_people(project)
    assert in_child(project, run_flow, point) == -signal.SIGKILL, "the point was not passed"
    assert ledger.verify() is None
    decided = bool(ledger.history("digits"))
    assert in_child(project, start_again) == 0
    if decided:  # then nobody has to ask for a run again
        assert cases.pending() == []
    if not all(attempt.finished for attempt in attempts.read_all()):  # else `convoy run` has nothing to do
        assert in_child(project, run_flow) == 0
    is_whole(project)


@pytest.mark.parametrize("point", OF_ROLLBACK, ids=lambda point: point.name)
def test_a_rollback_is_killed(project: Path, point: Point) -> None:
    from decision_project import make_case, make_version

    assert in_child(project, run_flow) == 0
    other = make_version("9", model="digits")
    client = tracking.connect()
    source = client.get_model_version("digits", "1").source
    for _ in range(9 - 1):  # MLflow counts by itself
        client.create_model_version("digits", source=source)
    decisions.approve(make_case(other).id, ADA, "newer")
    assert in_child(project, roll_back, point) == -signal.SIGKILL, "the point was not passed"
    assert ledger.verify() is None
    assert in_child(project, start_again) == 0
    reigning = champion.current("digits")
    assert reigning
    assert reigning.version.version == ("9" if point == Point.ENTRY_WRITTEN else "1")
    assert str(client.get_model_version_by_alias("digits", champion.ALIAS).version) == reigning.version.version
    assert cases.pending_models() == []


DATABASE = f".convoy/{tracking.DATABASE}"
WRITTEN = (
    "runs/ID/code.json",
    "artifacts/evaluation/predictions.parquet",
    "artifacts/artifacts/model/network.pt2",
    "cases/ID/images.parquet",
    "cases/ID/case.json",
    "ledger.db",
    "runs/ID/record.json",
    "runs/ID/glance.json",
    "finished/ID.json",
)
"""Each kind of file that a run writes beside its stages, but for MLflow's database."""


def without_room(name: str, limit: int) -> None:
    """Run the flow while a file cannot be written: it stops in words."""
    with no_room(name, limit):
        try:
            run_flow()
        except Exception as error:
            words = str(error) if isinstance(error, UserError) else full(error)
        else:
            raise AssertionError(f"{name} was not written")
    print(f"{name} ({limit}): {words}", flush=True)
    assert words.startswith("No room to write ") or os.strerror(errno.EFBIG) in words or words == "disk I/O error"
    assert ledger.verify() is None


def without_room_for_each(note: Path) -> None:
    """For the first file, then for the second, ..., as they were noted; and in the end run it to its end."""
    sizes = json.loads(note.read_text())
    for name in sizes:
        if name.endswith(WRITTEN):
            without_room(name, sizes[name] - 1)
    run_flow()


def test_there_is_no_room_for_a_file_of_a_run(
    project: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full; of the stages see `test_disk_full`."""
    other, note = tmp_path / "other", tmp_path / "note.json"
    shutil.copytree(made, other)
    assert in_child(other, lambda: print(noting(succeed, note))) == 0
    monkeypatch.setenv(tracking.PATIENCE, "0")
    assert in_child(project, lambda: without_room(DATABASE, (project / DATABASE).stat().st_size)) == 0
    assert in_child(project, lambda: without_room_for_each(note)) == 0
    is_whole(project)


def succeed() -> int:
    """Run the flow."""
    run_flow()
    return 0


def test_numbers_are_settled() -> None:
    assert [point.value for point in Point] == list(range(1, len(Point) + 1))
    assert np.all(np.diff([point.value for point in Point]) == 1)
