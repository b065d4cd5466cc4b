"""Schedules for real: a Prefect server, prefect.yaml, a clock that the test holds, and the commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import databases
import pytest

from flows import settings
from flows.schedule import deployments, runs, server
from flows.schedule.request import Request
from flows.schedule.scheduler import tick
from flows.servers.prefect_server import start_prefect
from flows.servers.processes import PATIENCE, stop, wait_ready
from flows.worker import pool
from pipeline.errors import UserError

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
TODAY = datetime(2031, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server of this file's own."""
    root = tmp_path_factory.mktemp("server")
    databases.give(root, "prefect.db")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("PREFECT_", "MLFLOW_"))]:
            patch.delenv(name)
        variables = {**os.environ, **settings.environment(root)}
        variables = {name: value for name, value in variables.items() if not name.endswith("AUTH_STRING")}
        running = start_prefect(root, variables, port=0, parent=os.getpid())
        wait_ready(running, PATIENCE)
        patch.setenv("PREFECT_API_URL", f"{running.url}/api")
        patch.setenv("PREFECT_CLIENT_CSRF_SUPPORT_ENABLED", "true")
        yield f"{running.url}/api"
    if process := running.process():
        stop(process)


@pytest.fixture
def client(api: str, tmp_path: Path) -> Iterator[Any]:
    with server.reachable(tmp_path) as client:
        yield client


@pytest.fixture
def project(tmp_path: Path, api: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project in git with a folder of pictures as its source, and no deployment yet."""
    (tmp_path / "pets").mkdir()
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    for command in (["init", "-q", "-b", "main"], ["add", "params.yaml", "dvc.yaml"], ["commit", "-q", "-m", "begin"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    (tmp_path / "prefect.yaml").unlink(missing_ok=True)
    server.bring_in_line(client, tmp_path)


@pytest.fixture
def add(project: Path, client: Any) -> Callable[..., Any]:
    """Writes a deployment of a fresh name, applies it and gives it as the server has it."""

    def added(**request: Any) -> Any:
        name = f"d{uuid4().hex[:8]}"
        deployments.add(project, name, Request.model_validate({"branch": "main", **request}))
        server.bring_in_line(client, project)
        return server.ours(client, project)[name]

    return added


def intended(client: Any, deployment: Any) -> list[datetime]:
    return sorted(run.expected_start_time for run in runs.waiting(client, deployment))


def test_the_server_follows_the_file_and_a_second_time_does_nothing(project: Path, client: Any, add: Any) -> None:
    one, two = add(trigger={"cron": "0 * * * *"}), add(set=["seed=1"])
    assert server.bring_in_line(client, project) == []
    assert one.work_pool_name == "convoy" and one.entrypoint == "flows/retrain.py:retrain"
    assert one.parameters["request"]["trigger"]["cron"] == "0 * * * *"
    assert {"convoy", server.project_tag(project)} == set(one.tags)
    assert "request" in one.parameter_openapi_schema["properties"]  # Prefect's page draws its form from there
    assert client.read_work_pool("convoy").type == "process"
    text = (project / "prefect.yaml").read_text()
    (project / "prefect.yaml").write_text(text.replace("0 * * * *", "5 * * * *"))
    assert server.bring_in_line(client, project) == [f"{one.name}: updated on the Prefect server."]
    deployments.remove(project, two.name)
    assert server.bring_in_line(client, project) == [f"{two.name}: deleted on the Prefect server."]
    (left,) = server.ours(client, project).values()
    assert (left.id, left.parameters["request"]["trigger"]["cron"]) == (one.id, "5 * * * *")


def test_what_is_paused_on_the_page_stays_so_until_the_file_changes(project: Path, client: Any, add: Any) -> None:
    deployment = add(trigger={"cron": "0 * * * *"})
    client.pause_deployment(deployment.id)
    assert server.bring_in_line(client, project) == []
    assert server.ours(client, project)[deployment.name].paused
    text = (project / "prefect.yaml").read_text()
    (project / "prefect.yaml").write_text(text.replace("0 * * * *", "5 * * * *"))
    server.bring_in_line(client, project)
    assert not server.ours(client, project)[deployment.name].paused


def test_another_projects_deployments_are_not_touched(
    project: Path, client: Any, add: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mine, other = add(trigger={"cron": "0 * * * *"}), tmp_path_factory.mktemp("other")
    assert server.bring_in_line(client, other) == []  # it has none, and deletes none
    assert tick(client, other, TODAY) == []
    deployments.add(other, mine.name, Request.model_validate({"branch": "main"}))
    with pytest.raises(UserError, match=f"Another project has {mine.name} on this Prefect server"):
        server.bring_in_line(client, other)
    assert server.ours(client, project)[mine.name].parameters == mine.parameters


def test_each_time_becomes_one_run_and_the_next_one_is_shown(project: Path, client: Any, add: Any) -> None:
    deployment = add(trigger={"cron": "0 */6 * * *"})
    for minutes in (0, 1, 1):
        assert tick(client, project, TODAY + timedelta(minutes=minutes)) == []
    assert intended(client, deployment) == [TODAY + 6 * HOUR]  # noon itself is not missed: the schedule is new
    assert tick(client, project, TODAY + 6 * HOUR) == [f"{deployment.name}: the run of 2031-05-01 18:00 UTC is due."]
    assert tick(client, project, TODAY + 6 * HOUR) == []
    assert tick(client, project, TODAY + 5 * HOUR) == []  # the clock is set back
    assert intended(client, deployment) == [TODAY + 6 * HOUR, TODAY + 12 * HOUR]
    (project / ".convoy/schedules" / f"{deployment.name}.json").unlink()  # even if all is forgotten: the keys hold
    tick(client, project, TODAY + 5 * HOUR)
    tick(client, project, TODAY + 6 * HOUR)
    assert intended(client, deployment) == [TODAY + 6 * HOUR, TODAY + 12 * HOUR]


def test_after_three_days_off_there_is_one_run_beside_the_one_that_stood_there(
    project: Path, client: Any, add: Any
) -> None:
    deployment = add(trigger={"cron": "0 */6 * * *"})
    tick(client, project, TODAY)
    assert len(tick(client, project, TODAY + 73 * HOUR)) == 1
    # The first was shown ahead; it is late now, and for the guard to call off.
    assert intended(client, deployment) == [TODAY + 6 * HOUR, TODAY + 72 * HOUR, TODAY + 78 * HOUR]


def test_a_pause_takes_back_what_was_shown_and_is_not_made_up_for(project: Path, client: Any, add: Any) -> None:
    deployment = add(trigger={"cron": "0 * * * *"})
    tick(client, project, TODAY)
    client.pause_deployment(deployment.id)
    assert tick(client, project, TODAY + HOUR / 2) == []
    assert intended(client, deployment) == []
    tick(client, project, TODAY + 5.5 * HOUR)
    client.resume_deployment(deployment.id)
    assert tick(client, project, TODAY + 5.6 * HOUR) == []
    assert intended(client, deployment) == [TODAY + 6 * HOUR]


def test_what_came_due_while_paused_and_no_worker_was_up_is_taken_back(project: Path, client: Any, add: Any) -> None:
    deployment = add(trigger={"cron": "0 * * * *"})
    tick(client, project, TODAY)
    client.pause_deployment(deployment.id)
    assert tick(client, project, TODAY + 1.5 * HOUR) == []
    assert intended(client, deployment) == []


def test_what_is_shown_ahead_follows_a_change_of_the_request(project: Path, client: Any, add: Any) -> None:
    deployment = add(trigger={"cron": "0 * * * *"}, set=["seed=1"])
    tick(client, project, TODAY)
    text = (project / "prefect.yaml").read_text()
    (project / "prefect.yaml").write_text(text.replace("seed=1", "seed=2"))
    server.bring_in_line(client, project)
    for _ in range(2):
        assert tick(client, project, TODAY) == []
    (run,) = runs.waiting(client, deployment)
    assert (run.expected_start_time, run.parameters["request"]["set"]) == (TODAY + HOUR, ["seed=2"])


def test_a_deployment_that_goes_takes_its_waiting_runs_along(project: Path, client: Any, add: Any) -> None:
    deployment = add(trigger={"cron": "0 * * * *"})
    tick(client, project, TODAY)
    deployments.remove(project, deployment.name)
    server.bring_in_line(client, project)
    assert runs.waiting(client, deployment) == []


def test_another_cron_replaces_what_was_shown_and_has_missed_nothing(project: Path, client: Any, add: Any) -> None:
    deployment = add(trigger={"cron": "0 3 * * *"})
    tick(client, project, TODAY)
    text = (project / "prefect.yaml").read_text()
    (project / "prefect.yaml").write_text(text.replace("0 3 * * *", "0 11 * * *"))
    server.bring_in_line(client, project)
    assert tick(client, project, TODAY + HOUR) == []
    assert intended(client, deployment) == [TODAY + 23 * HOUR]


def test_new_data_becomes_one_run_for_each_state_of_the_source(project: Path, client: Any, add: Any) -> None:
    deployment = add(
        set=["data={name: folder, path: pets}"], trigger={"new_data": 2, "every_minutes": 5}, cooldown_minutes=0
    )
    minute, now = timedelta(minutes=1), TODAY

    def put(*names: str) -> None:
        for name in names:
            (project / "pets" / name).write_bytes(name.encode())

    put("1.jpg")
    assert tick(client, project, now) == []  # one sample, two are wanted
    put("2.jpg", "notes.txt")
    assert tick(client, project, now + 4 * minute) == []  # not yet looked at again
    due = f"{deployment.name}: 2 samples are new or changed; a run is due."
    assert tick(client, project, now + 5 * minute) == [due]
    for later in (6, 11, 16):
        assert tick(client, project, now + later * minute) == []
    put("3.jpg")
    assert tick(client, project, now + 22 * minute) == []
    put("4.jpg")
    assert tick(client, project, now + 28 * minute) == [due]
    assert len(runs.waiting(client, deployment)) == 2
    remembered = (project / ".convoy/sources" / f"{deployment.name}.txt").read_text()
    assert [line.split("\t")[0] for line in remembered.splitlines()] == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]


def test_trouble_with_a_source_is_said_once_and_keeps_nobody_else(project: Path, client: Any, add: Any) -> None:
    broken = add(set=["data={name: folder, path: nowhere}"], trigger={"new_data": 1, "every_minutes": 1})
    hourly = add(trigger={"cron": "0 * * * *"})
    (line,) = tick(client, project, TODAY)
    assert line.startswith(f"{broken.name}: its source cannot be looked at. data.path: 'nowhere' cannot be read")
    assert tick(client, project, TODAY + HOUR) == [f"{hourly.name}: the run of 2031-05-01 13:00 UTC is due."]


def test_prefects_own_command_takes_the_file(project: Path, client: Any) -> None:
    (project / "prefect.yaml").write_text((REPOSITORY / "prefect.yaml").read_text())
    (project / "flows").symlink_to(REPOSITORY / "flows")
    pool.ensure(client)
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PREFECT_HOME": str(project / "home")}
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    deployed = client.read_deployment_by_name("retrain/nightly")
    assert deployed.paused and deployed.tags == ["convoy"] and deployed.work_pool_name == "convoy"
    (nightly,) = deployments.read(project)
    assert Request.model_validate(deployed.parameters["request"]) == nightly.request
    assert server.bring_in_line(client, project) == ["nightly: updated on the Prefect server."]  # it is ours now
    assert server.ours(client, project)["nightly"].id == deployed.id


def convoy(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}
    command = [sys.executable, "-m", "flows.cli", "schedule", *arguments]
    return subprocess.run(command, cwd=project, env=given, capture_output=True, text=True, timeout=240)


def test_the_commands_with_a_server(project: Path, client: Any) -> None:
    name = f"d{uuid4().hex[:8]}"
    added = convoy(project, "add", name, "--cron", "30 2 * * *", "--zone", "Europe/Berlin", "--set", "seed=1")
    assert added.returncode == 0, added.stderr
    lines = added.stdout.splitlines()
    assert lines[0] == f"{name} is in prefect.yaml: branch main, 30 2 * * * Europe/Berlin."
    assert len([line for line in lines if line.startswith("  ") and " 02:30 CE" in line and "UTC" in line]) >= 10
    assert any("no 02:30, as the clock is put forward; runs at 03:00 CEST (01:00 UTC)" in line for line in lines)
    assert lines[-1] == f"{name}: created on the Prefect server."
    asked = convoy(project, "run", name)
    assert "No worker is up; it begins once one is: `convoy worker`." in asked.stdout, asked.stderr
    (run,) = runs.waiting(client, server.ours(client, project)[name])
    assert str(run.id) in asked.stdout
    client.pause_deployment(run.deployment_id)  # on the page; the file says nothing new
    assert convoy(project, "resume", name).stdout == f"{name} is awake.\n"
    (row,) = json.loads(convoy(project, "list", "--json").stdout)
    assert (row["name"], row["paused"], row["served"], row["last"]) == (name, False, True, None)
    assert convoy(project, "remove", name).stdout.splitlines()[-1] == f"{name}: deleted on the Prefect server."


def test_the_commands_without_a_server(project: Path) -> None:
    nobody = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    added = convoy(project, "add", "weekly", "--cron", "0 3 * * 1", "--on-new-data", "5", **nobody)
    assert added.stdout.splitlines()[-1].startswith("No Prefect server is up; `convoy up` applies it")
    assert convoy(project, "pause", "weekly", **nobody).stdout == "weekly is paused.\n"
    (_, row) = convoy(project, "list", **nobody).stdout.splitlines()
    assert row == "weekly  0 3 * * 1 UTC, or 5 new or changed samples  main    paused      no server is up"
    asked = convoy(project, "run", "weekly", **nobody)
    assert asked.returncode == 1
    assert asked.stderr == "No Prefect server is up to ask for a run of weekly. `convoy up`, then the same again.\n"
    assert convoy(project, "remove", "weekly", **nobody).returncode == 0
    assert deployments.read(project) == []


def test_what_is_wrong_on_the_command_line_comes_at_once(project: Path) -> None:
    options = ["--cron", "61 2 * * *", "--zone", "Europe/Berln", "--on-new-data", "0", "--set", "seed", "--branch=-x"]
    said = convoy(project, "add", "weekly", *options)
    assert said.returncode == 1
    assert sorted(said.stderr.splitlines()) == [
        "--branch: '-x' cannot be the name of a branch; `git branch` lists yours.",
        "--cron: '61 2 * * *' is no cron expression: bad minute.",
        "--on-new-data: input should be greater than or equal to 1; found 0.",
        "--set: expected key=value, as in 'train.epochs=5'; found 'seed'.",
        "--zone: there is no zone 'Europe/Berln'. Did you mean 'Europe/Berlin'?",
    ]
    unknown = convoy(project, "add", "weekly", "--branch", "nope")
    assert unknown.stderr.startswith("--branch: there is no branch 'nope' with a commit here")
    assert not (project / "prefect.yaml").exists()
