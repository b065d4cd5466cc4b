"""The servers, for real: started, asked the wrong way, asked the right way, killed, stopped."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from sqlalchemy.engine import make_url

from flows import settings
from flows.accounts import TOKEN, digest
from flows.health.checks_of_servers import check_databases, check_servers
from flows.servers import dashboards as servers
from flows.servers import processes
from flows.servers.dashboards import PageAt
from flows.servers.databases import prepare
from flows.servers.processes import Server, listen
from pipeline.errors import UserError

pytestmark = pytest.mark.slow  # real runs and servers

REPOSITORY = Path(__file__).parents[1]
FLOW = """
    import os, signal, sys
    from pathlib import Path
    from flows import settings
    from flows.servers.dashboards import prefect_for_run

    root = Path(sys.argv[1])
    settings.apply(root)
    with prefect_for_run(root) as prefect:
        print(prefect.api, prefect.private.pid if prefect.private else 0, flush=True)
        if sys.argv[2] == "hang":
            prefect.wait_ready()
            print("ready", flush=True)
            signal.pause()
        from prefect import flow, get_run_logger, task

        @task
        def double(number):
            get_run_logger().info("doubling %d", number)
            return 2 * number

        @flow
        def tiny():
            total = sum(double(number) for number in range(20))
            if sys.argv[2] == "fail":
                raise RuntimeError("as asked")
            return total

        with prefect.client():
            print(tiny(), flush=True)
"""


@pytest.fixture(scope="module")
def clean_variables() -> Iterator[None]:
    """No variable of the machine names a server; the project's modules are found from any folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("PREFECT_", "MLFLOW_"))]:
            patch.delenv(name)
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, clean_variables: None) -> Path:
    """A project with its databases made, and no server."""
    root = new_project(tmp_path_factory.mktemp("project"))
    prepare(root)
    return root


@pytest.fixture
def no_servers(project: Path, tmp_path: Path) -> Iterator[Path]:
    """Another such project; what was started there ends with the test."""
    root = new_project(tmp_path / "project")
    shutil.copytree(project / ".convoy", root / ".convoy")
    yield root
    servers.down(root)


@pytest.fixture
def page_alone(no_servers: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project where `up` starts the page and nothing else: the user's variables name the other servers."""
    for variable in servers.ELSEWHERE.values():
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    return no_servers


@pytest.fixture(scope="module")
def dashboards(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Server]]]:
    """A project whose servers were started by two `up` at once."""
    root = new_project(tmp_path_factory.mktemp("dashboards"))
    shutil.copytree(project / ".convoy", root / ".convoy")
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(servers.up, [root, root])
    assert first == second
    yield root, first
    servers.down(root)


def new_project(root: Path) -> Path:
    root.mkdir(exist_ok=True)
    for name in ("dvc.yaml", "params.yaml"):
        (root / name).touch()
    return root


def ask(url: str, headers: Mapping[str, str] = {}, data: bytes | None = None, method: str | None = None) -> tuple:
    """Status and headers of the answer."""
    request = urllib.request.Request(url, data=data, headers=dict(headers), method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.headers


def basic(root: Path) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(settings.password(root).encode()).decode()}


def run_flow(root: Path, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(FLOW), str(root), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)


def recorded(root: Path, table: str) -> list[str]:
    with sqlite3.connect(root / ".convoy" / "prefect.db") as connection:
        return [state for (state,) in connection.execute(f"select state_name from {table}")]


def at_work(root: Path) -> list[psutil.Process]:
    """The processes that were started in a project and still run."""
    found = psutil.process_iter(["cwd", "status"])
    return [one for one in found if one.info["cwd"] == str(root) and one.info["status"] != psutil.STATUS_ZOMBIE]


def gone(pid: int) -> bool:
    """Whether it ends."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False


def test_a_run_without_dashboards_gets_a_server_for_itself_that_records_everything(project: Path) -> None:
    run = run_flow(project, "fail")
    out, errors = run.communicate(timeout=240)
    assert run.returncode == 1
    assert "RuntimeError: as asked" in errors
    assert recorded(project, "flow_run") == ["Failed"]
    assert recorded(project, "task_run") == ["Completed"] * 20
    assert gone(int(out.split()[1]))


def test_the_private_server_ends_by_itself_when_the_run_is_killed(project: Path) -> None:
    run = run_flow(project, "hang")
    assert run.stdout is not None
    server = int(run.stdout.readline().split()[1])
    assert run.stdout.readline() == "ready\n"
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert gone(server)


def test_a_server_named_by_the_user_must_answer(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:9/api"  # where nobody listens
    monkeypatch.setenv("PREFECT_API_URL", url)
    with servers.prefect_for_run(project) as prefect, pytest.raises(UserError) as failure:
        prefect.wait_ready()
    assert str(failure.value) == (
        f"The Prefect server at {url} does not answer. Start it, or unset PREFECT_API_URL: "
        "a run then starts a server of its own."
    )


def test_up_twice_says_so(dashboards: tuple[Path, dict[str, Server]]) -> None:
    root, started = dashboards
    lines: list[str] = []
    assert servers.up(root, lines.append) == started == servers.running(root)
    assert lines == [
        f"Review:  http://127.0.0.1:{started['page'].port}  (up already)",
        f"Prefect: http://127.0.0.1:{started['prefect'].port}  (up already)",
        f"MLflow:  http://127.0.0.1:{started['mlflow'].port}/#/experiments?workflowType=machine_learning  (up already)",
        f"Prefect's page asks to log in, once: give it the line in {root}/.convoy/prefect.auth",
    ]


def test_prefect_wants_the_password(dashboards: tuple[Path, dict[str, Server]]) -> None:
    root, started = dashboards
    url = started["prefect"].url + "/api/admin/version"
    assert ask(url)[0] == 401
    assert ask(url, {"Authorization": "Basic Y29udm95Onl5eQ=="})[0] == 401
    assert ask(url, basic(root))[0] == 200


def test_prefect_refuses_forged_requests(dashboards: tuple[Path, dict[str, Server]]) -> None:
    root, started = dashboards
    url = started["prefect"].url + "/api/flows/"
    forged = basic(root) | {"Content-Type": "application/json"}
    assert ask(url, forged, data=b'{"name": "forged"}')[0] == 403


def test_prefect_grants_no_other_origin(dashboards: tuple[Path, dict[str, Server]]) -> None:
    _, started = dashboards
    own = started["prefect"].url
    for origin, granted in ((own, own), ("https://evil.example", None), ("http://127.0.0.1:1", None)):
        asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        headers = ask(own + "/api/flows/filter", asking, method="OPTIONS")[1]
        assert headers["Access-Control-Allow-Origin"] == granted


def test_prefects_pages_talk_to_nobody_else_and_stand_in_no_frame(
    dashboards: tuple[Path, dict[str, Server]],
) -> None:
    _, started = dashboards
    status, headers = ask(started["prefect"].url + "/")
    port = started["prefect"].port
    hosts = " ".join(f"{scheme}://{host}:{port}" for scheme in ("http", "ws") for host in ("127.0.0.1", "localhost"))
    assert status == 200
    assert headers["Content-Security-Policy"] == f"connect-src 'self' {hosts}; frame-ancestors 'none'"


def test_mlflow_refuses_foreign_hosts_origins_and_frames(dashboards: tuple[Path, dict[str, Server]]) -> None:
    _, started = dashboards
    url = started["mlflow"].url
    search = url + "/api/2.0/mlflow/experiments/search"
    create = url + "/api/2.0/mlflow/experiments/create"
    json_body = {"Content-Type": "application/json"}
    assert ask(search + "?max_results=1")[0] == 200
    assert ask(search + "?max_results=1", {"Host": "evil.example"})[0] == 403
    assert ask(create, json_body | {"Origin": "https://evil.example"}, data=b'{"name": "forged"}')[0] == 403
    assert ask(create, json_body, data=b'{"name": "ours"}')[0] == 200
    assert ask(url)[1]["X-Frame-Options"] == "DENY"
    process = started["mlflow"].process()
    assert process
    for one in (process, *process.children(recursive=True)):  # what every user of the machine can read
        assert "mlflow.db" not in " ".join(one.cmdline())
    assert ask(search, {"Origin": "https://evil.example"})[1]["Access-Control-Allow-Origin"] is None


def test_the_page_answers_and_refuses_other_sites(dashboards: tuple[Path, dict[str, Server]]) -> None:
    _, started = dashboards
    url = started["page"].url
    assert ask(url + "/health")[0] == 200
    status, headers = ask(url + "/runs")
    assert status == 200
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert headers["Access-Control-Allow-Origin"] is None
    assert ask(url + "/runs", {"Host": "evil.example"})[0] == 403
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://evil.example"}
    assert ask(url + "/decisions/0123456789abcdef/approve", form, data=b"why=x")[0] == 403


def test_the_doctor_finds_them_safe_and_their_databases_new(dashboards: tuple[Path, dict[str, Server]]) -> None:
    root, started = dashboards
    checks = [*check_servers(root), *check_databases(root)]
    assert [check.status for check in checks] == ["ok"] * 5
    for check, name in zip(checks, ("page", "prefect", "mlflow"), strict=False):
        assert check.found == f"{started[name].url} answers, and lets no stranger in"
    assert checks[3].found.startswith("as prefect wants it")


def test_they_listen_on_loopback_only(dashboards: tuple[Path, dict[str, Server]]) -> None:
    _, started = dashboards
    for server in started.values():
        process = server.process()
        assert process is not None
        family = [process, *process.children(recursive=True)]
        doors = {door.laddr for member in family for door in member.net_connections("inet") if door.status == "LISTEN"}
        assert doors == {("127.0.0.1", server.port)}


def test_a_run_uses_the_dashboards_server(dashboards: tuple[Path, dict[str, Server]]) -> None:
    root, started = dashboards
    run = run_flow(root, "finish")
    out, errors = run.communicate(timeout=240)
    assert out.splitlines() == [f"{started['prefect'].url}/api 0", "380"], errors
    assert recorded(root, "flow_run").count("Completed") == 1


def test_down_stops_what_up_started_and_nothing_else(dashboards: tuple[Path, dict[str, Server]]) -> None:
    root, started = dashboards
    family = [process.pid for server in started.values() if (process := server.process())]
    family += [child.pid for pid in family for child in psutil.Process(pid).children(recursive=True)]
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    try:
        # Its id stands in the record, but with another start time: the id of a server that ended was used again.
        kept = json.loads((root / ".convoy" / "servers.json").read_text())
        kept["other"] = kept["mlflow"] | {"pid": bystander.pid, "started": 1.0}
        (root / ".convoy" / "servers.json").write_text(json.dumps(kept))
        lines: list[str] = []
        assert sorted(servers.down(root, lines.append)) == ["MLflow", "Prefect", "Review"]
        assert all(gone(pid) for pid in family)
        assert bystander.poll() is None
        assert servers.down(root, lines.append) == []
        assert lines == ["Stopped MLflow and Review and Prefect.", "No server of this project runs."]
    finally:
        bystander.kill()
        bystander.wait()


def test_a_server_that_dies_takes_the_others_with_it_and_shows_its_log(no_servers: Path) -> None:
    (no_servers / ".convoy" / "mlflow.db").write_bytes(b"no database" * 1000)
    lines: list[str] = []
    with pytest.raises(UserError) as failure:
        servers.up(no_servers, lines.append)
    message = str(failure.value)
    log = no_servers / ".convoy/logs/mlflow.log"
    assert message.startswith(f"MLflow's server ended while it started. The end of {log}:\n")
    assert "file is not a database" in message
    assert servers.running(no_servers) == {}
    assert lines == ["Start Review, Prefect, MLflow ..."]
    assert at_work(no_servers) == []


def test_a_page_that_would_stand_open_to_others_is_refused_and_nothing_runs(no_servers: Path) -> None:
    command = [sys.executable, "-m", "flows.cli", "up", "--host", "0.0.0.0"]
    done = subprocess.run(command, cwd=no_servers, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert done.stderr == (
        f"Review's server ended while it started. The end of {no_servers}/.convoy/logs/page.log:\n"
        "  The page would stand open on 0.0.0.0, to everybody who can reach it: it needs accounts. Let "
        "CONVOY_ACCOUNTS_FILE name a file of them; `convoy account NAME --role approver` makes one. On 127.0.0.1 "
        "alone, without CONVOY_PAGE_ORIGIN, it needs none.\n"
    )
    assert servers.running(no_servers) == {}
    assert at_work(no_servers) == []


def test_with_accounts_the_page_is_there_for_others_who_log_in(
    page_alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVOY_ACCOUNTS", f"ci:viewer:{TOKEN}{digest('convoy_a-token')}")
    monkeypatch.setenv("CONVOY_PAGE_ORIGIN", "https://convoy.example")
    monkeypatch.setenv("CONVOY_PAGE_HOST", "0.0.0.0")
    lines: list[str] = []
    page = servers.up(page_alone, lines.append)["page"]
    assert page.host == "0.0.0.0"
    assert lines[-1] == f"Review:  {page.url}"
    assert page.url == f"http://127.0.0.1:{page.port}"
    assert ask(page.url + "/api/runs")[0] == 401
    assert ask(page.url + "/api/runs", {"Authorization": "Bearer convoy_a-token"})[0] == 200
    assert next(iter(check_servers(page_alone))).found == f"{page.url} answers, and lets no stranger in"


def test_a_page_that_dies_shows_its_log(page_alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOY_PAGE_ORIGIN", "convoy.example")
    with pytest.raises(UserError) as failure:
        servers.up(page_alone, print)
    assert str(failure.value) == (
        f"Review's server ended while it started. The end of {page_alone}/.convoy/logs/page.log:\n"
        "  CONVOY_PAGE_ORIGIN is 'convoy.example'; a scheme and a host are expected: "
        "CONVOY_PAGE_ORIGIN=https://convoy.example"
    )
    assert servers.running(page_alone) == {}


def test_the_page_leaves_a_taken_port_to_whoever_has_it(page_alone: Path) -> None:
    lines: list[str] = []
    with listen(0) as taken:
        port = taken.getsockname()[1]
        page = servers.up(page_alone, lines.append, PageAt(port=port))["page"]
    assert port < page.port < port + 100
    assert ask(page.url + "/health")[0] == 200
    assert lines == [
        *(
            f"{variable} names a server already, http://127.0.0.1:9: none is started here."
            for variable in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
        ),
        "Start Review ...",
        f"Review:  {page.url}",
    ]


def test_a_host_that_is_not_this_machines_and_a_port_that_is_none_are_refused(
    page_alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"Nothing can listen on 192\.0\.2\.7: .* Give an address of this machine\."):
        servers.up(page_alone, print, PageAt("192.0.2.7"))
    with pytest.raises(UserError, match=r"Nothing can listen on a\.\.b: .* Give an address of this machine\."):
        servers.up(page_alone, print, PageAt("a..b"))  # no name of any machine
    for port in ("x", "0", "65436", "-1"):
        monkeypatch.setenv("CONVOY_PAGE_PORT", port)
        with pytest.raises(UserError) as failure:
            servers.up(page_alone)
        assert str(failure.value) == f"CONVOY_PAGE_PORT={port}: expected a port, as 4300. Set one, or unset it."


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7"),
        ("0.0.0.0", "http://127.0.0.1:7"),
        ("::", "http://127.0.0.1:7"),
        ("::1", "http://[::1]:7"),
        ("192.0.2.7", "http://192.0.2.7:7"),
    ],
)
def test_a_server_is_asked_where_it_listens(host: str, url: str) -> None:
    server = Server(name="Review", pid=1, started=1.0, port=7, host=host, health="/health", log=Path("log"))
    assert server.url == url


def test_a_taken_port_is_passed_over() -> None:
    with listen(0) as taken:
        port = taken.getsockname()[1]
        with listen(port) as ours:
            assert port < ours.getsockname()[1] < port + 100


def test_a_door_can_be_connected_to_before_anybody_serves() -> None:
    with listen(0) as door, socket.create_connection(door.getsockname(), timeout=60):
        pass


def test_a_process_whose_id_was_used_again_is_not_ours(tmp_path: Path) -> None:
    entry = Server(name="Prefect", pid=os.getpid(), started=1.0, port=1, health="/", log=tmp_path / "log")
    processes.record(tmp_path).parent.mkdir()
    processes.record(tmp_path).write_text(json.dumps({"prefect": entry.model_dump(mode="json")}))
    assert servers.running(tmp_path) == {}
    ours = entry.model_copy(update={"started": processes.born(psutil.Process())})
    assert ours.process() == psutil.Process()


@pytest.mark.skipif(not psutil.LINUX, reason="elsewhere the system keeps the time of day")
def test_a_process_stays_ours_when_the_clock_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    born = processes.born(psutil.Process())
    ours = Server(name="Prefect", pid=os.getpid(), started=born, port=1, health="/", log=tmp_path / "log")
    began, boot = psutil.Process().create_time(), psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot + 3600)  # as the kernel tells it after such a step
    assert psutil.Process().create_time() == pytest.approx(began + 3600, abs=1.5)
    assert ours.process() == psutil.Process()


def test_what_is_missing_are_the_servers_that_run_neither_here_nor_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    assert servers.missing(tmp_path) == ["page", "prefect", "mlflow"]
    born = processes.born(psutil.Process())
    ours = Server(name="Prefect", pid=os.getpid(), started=born, port=1, health="/", log=tmp_path / "log")
    processes.record(tmp_path).parent.mkdir()
    processes.record(tmp_path).write_text(json.dumps({"prefect": ours.model_dump(mode="json")}))
    assert servers.missing(tmp_path) == ["page", "mlflow"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert servers.missing(tmp_path) == ["page", "mlflow"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://team.example")
    assert servers.missing(tmp_path) == ["page"]


@pytest.mark.parametrize("text", ["", "[]", '{"prefect": 1}', '{"prefect": {"pid": "x"}}', "\0"])
def test_a_damaged_record_is_no_record(tmp_path: Path, text: str) -> None:
    processes.record(tmp_path).parent.mkdir()
    processes.record(tmp_path).write_text(text)
    assert servers.running(tmp_path) == {}


def test_the_users_variables_win(tmp_path: Path) -> None:
    ours = settings.environment(tmp_path, {})
    assert ours["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/.convoy/mlflow.db"
    assert ours["PREFECT_API_AUTH_STRING"] == ours["PREFECT_SERVER_API_AUTH_STRING"] == settings.password(tmp_path)
    theirs = settings.environment(
        tmp_path, {"MLFLOW_TRACKING_URI": "http://team", "PREFECT_API_URL": "http://team/api"}
    )
    assert "MLFLOW_TRACKING_URI" not in theirs
    assert "PREFECT_API_AUTH_STRING" not in theirs  # our password is not sent to their server
    assert settings.environment(tmp_path, dict.fromkeys(ours, "") | {"PREFECT_API_URL": ""}) == ours


@pytest.mark.parametrize(("name", "fits"), [("a%20b", False), ("why?", False), ("100% [x] 'ü' #1", True)])
def test_a_path_that_is_another_in_an_address_is_refused(tmp_path: Path, name: str, fits: bool) -> None:
    if fits:
        found = settings.environment(tmp_path / name)["MLFLOW_TRACKING_URI"]
        assert make_url(found).database == f"{tmp_path / name}/.convoy/mlflow.db"
        return
    with pytest.raises(
        UserError, match=r"would mean another folder, for there is a \? in it, or a % before two digits"
    ):
        settings.environment(tmp_path / name)


def test_the_password_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(settings.password, [tmp_path] * 8))
    assert len(made) == 1
    assert len(made.pop()) == len("convoy:") + 32
    assert stat.S_IMODE(settings.password_file(tmp_path).stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / ".convoy").iterdir()] == ["prefect.auth"]


def test_the_project_is_found_from_a_folder_in_it(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    with pytest.raises(UserError) as failure:
        settings.project_root(inside)
    assert str(failure.value) == (
        f"No project here: neither {inside} nor a folder above it holds dvc.yaml and params.yaml.\n"
        "Change to the folder that you cloned, and run the command again."
    )
    assert settings.project_root(new_project(tmp_path) / "a" / "b") == tmp_path
    (tmp_path / "params.yaml").unlink()
    with pytest.raises(UserError, match=r"holds dvc.yaml but no params.yaml. `git checkout params.yaml`"):
        settings.project_root(inside)
