"""The doctor finds what is wrong, says what to do, and fails where it should."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from decision_project import make_case, make_version

from flows import settings
from flows.health import checks_of_servers, doctor
from flows.health.checks import FAILED, OK, WARNING, Check
from flows.health.checks_of_ledger import check_ledger
from flows.servers import processes
from flows.servers.processes import Server, born
from pipeline.files import write_json
from pipeline.registry import decisions
from pipeline.registry.decisions import By


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that lacks nothing but databases, where the tests stand."""
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PREFECT_API_DATABASE_CONNECTION_URL", *settings.TELEMETRY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (root / "requirements.lock").write_text(f"pytest=={pytest.__version__} \\\n    --hash=sha256:00\n    # via x\n")
    shutil.copy(Path(__file__).parent.parent / "params.yaml", root)
    monkeypatch.chdir(root)
    return root


def installed(root: Path, name: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution as importlib.metadata finds it."""
    folder = root / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(root))


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


def test_all_checks_of_a_new_project(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    statuses = {check.name: check.status for check in doctor.diagnose(root)}
    assert statuses.pop("disk") in (OK, WARNING)
    statuses.pop("compiled modules", None)
    assert statuses == {
        "Python": OK,
        "libraries": OK,
        "compute": OK,
        "git": WARNING,
        "DVC": OK,
        "params.yaml": OK,
        "state": OK,
        "prefect.db": WARNING,
        "mlflow.db": WARNING,
        "ledger": OK,
        "review page": OK,
        "Prefect": OK,
        "MLflow": OK,
        "telemetry": OK,
    }


def test_the_exit_code_tells_of_failures(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "requirements.lock").write_text(
        "pytest==0.1\nno-such-library==1.2 ; python_version > '3'\nother==1 ; python_version < '3'\n"
    )
    assert doctor.show_diagnosis(root) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert f"pytest {pytest.__version__}, not 0.1; no-such-library is missing, not 1.2" in shown
    assert "-> make setup installs what requirements.lock says" in shown
    assert "1 failed" in shown


def test_a_lock_that_is_met_is_no_problem(root: Path) -> None:
    assert list(doctor.check_libraries(root)) == [Check("libraries", OK, "all 1 of requirements.lock, in its versions")]


def test_the_agpl_twin_of_albumentations_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(root, "albumentationsx", "2.1.0", monkeypatch)
    check = list(doctor.check_libraries(root))[-1]
    assert (check.name, check.status) == ("licences", FAILED)
    assert check.advice == ".venv/bin/uv pip uninstall albumentationsx, then make setup"


def test_a_fastapi_that_kills_prefect_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(root, "fastapi", "0.155.0", monkeypatch)
    check = list(doctor.check_libraries(root))[-1]
    assert check.found == "fastapi 0.155.0: with 0.155 and newer, Prefect 3.8's server dies when it starts"


def test_what_is_found_is_text_and_no_markup(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Check("place", FAILED, "/my/[data]/x [/red]", "look in [bold]")
    monkeypatch.setattr(doctor, "CHECKS", (lambda _: [found],))
    assert doctor.show_diagnosis(root) == 1
    said = capsys.readouterr().out
    assert "/my/[data]/x [/red]" in said and "-> look in [bold]" in said


def test_a_device_that_hangs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "COMPUTE", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "COMPUTE_SECONDS", 0.5)
    (check,) = doctor.check_compute(root)
    assert (check.status, check.found) == (FAILED, "torch says nothing for 0.5 s: a device hangs")


def test_torch_that_does_not_compute(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(root))
    (check,) = doctor.check_compute(root)
    assert check.found == "torch does not compute: ImportError: libcudart.so.13: cannot open shared object file"


def test_params_that_the_door_refuses(root: Path) -> None:
    shipped = (root / "params.yaml").read_text()
    assert [check.found for check in doctor.check_params(root)] == ["describes a run of 'digits'"]
    (root / "params.yaml").write_text(shipped.replace("epochs: 10", "epocs: 12"))
    (check,) = doctor.check_params(root)
    assert check.status == FAILED
    assert "train.epocs: no such key. Did you mean 'epochs'?" in check.found


def test_git_from_nothing_to_clean(root: Path) -> None:
    assert [check.found for check in doctor.check_git(root)] == [
        "not in a repository: runs cannot say what code made them"
    ]
    git(root, "init")
    empty, nameless = doctor.check_git(root)
    assert (empty.status, nameless.found) == (WARNING, "git knows no name for you")
    assert empty.found == "runs cannot say what code made them: nothing is committed yet"
    git(root, "config", "user.name", "A")
    git(root, "config", "user.email", "a@example.com")
    git(root, "add", ".")
    git(root, "commit", "-m", "Begin")
    (clean,) = doctor.check_git(root)
    assert clean.status == OK
    assert clean.found.endswith(", nothing changed")
    (root / "params.yaml").write_text("other")
    assert [check.found for check in doctor.check_git(root)] == [
        "1 file differs from the last commit: a run records them as a patch"
    ]


def test_a_repository_that_git_does_not_read_is_none_to_a_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(root, "init")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own: as if somebody else had made the clone
    (check,) = [check for check in doctor.check_git(root) if check.name == "git"]
    assert (check.status, "detected dubious ownership" in check.found) == (WARNING, True)
    assert "tell it to trust this folder" in check.advice


def test_dvc_and_its_remotes(root: Path) -> None:
    config = root / ".dvc" / "config"
    config.write_text("['remote \"store\"']\n    url = s3://bucket/%d\n")
    assert [check.found for check in doctor.check_dvc(root)] == ["set up; remotes: store"]
    config.write_text("no section\n")
    assert [check.status for check in doctor.check_dvc(root)] == [FAILED]
    config.unlink()
    config.parent.rmdir()
    assert [check.advice for check in doctor.check_dvc(root)] == [".venv/bin/dvc init (with --no-scm outside git)"]


def test_telemetry_that_the_user_switched_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    (check,) = doctor.check_telemetry(root)
    assert (check.status, check.found) == (WARNING, "switched on by MLFLOW_DISABLE_TELEMETRY")


def test_databases_that_are_old_or_none(root: Path) -> None:
    state = root / ".convoy"
    state.mkdir()
    (state / "prefect.db").write_bytes(b"something else" * 100)
    with sqlite3.connect(state / "mlflow.db") as connection:
        connection.execute("create table alembic_version (version_num)")
        connection.execute("insert into alembic_version values ('0123abcd')")
    prefect, mlflow = checks_of_servers.check_databases(root)
    assert (prefect.status, prefect.found) == (FAILED, f"{state}/prefect.db is no database that can be read")
    assert mlflow.found.startswith("made by another version of mlflow (0123abcd, not ")
    assert mlflow.advice == f"copy it, then: .venv/bin/mlflow db upgrade sqlite:///{state}/mlflow.db"


@pytest.fixture
def decided(root: Path) -> Path:
    """The same project, with two champions, one after the other."""
    for number in ("1", "2"):
        case = make_case(make_version(number), run=number * 32)
        decisions.approve(case.id, By("ada", "command"), f"reason {number}")
    return root


def changed(root: Path, statement: str) -> None:
    """Do to the ledger what its triggers forbid."""
    with sqlite3.connect(root / ".convoy" / "ledger.db") as database:
        database.executescript(f"drop trigger no_change; drop trigger no_removal; {statement}")


def test_a_ledger_that_is_whole(root: Path, request: pytest.FixtureRequest) -> None:
    assert list(check_ledger(root)) == [Check("ledger", OK, "nothing was decided yet")]
    assert not (root / ".convoy").exists()  # nothing is made by looking
    request.getfixturevalue("decided")
    assert list(check_ledger(root)) == [
        Check("ledger", OK, "4 entries, and the chain is whole"),
        Check("champion", OK, "pets version 2, its files are whole"),
    ]


def test_a_changed_entry_of_the_ledger_is_found_and_named(
    decided: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    changed(decided, "update convoy_ledger set body = replace(body, 'reason 1', 'reason 9')")
    assert doctor.show_diagnosis(decided) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "failed ledger .convoy/ledger.db: entry 2 (pets, promote) was changed after it was written." in shown
    assert "-> who wrote there? Put back a copy of the ledger; until then, trust no champion that it names" in shown
    assert "champion" not in shown.replace("trust no champion", "")  # nothing good is said of what it names
    assert "1 failed" in shown


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("update convoy_ledger set body = '{}' where number = 2", "entry 2 cannot be read"),
        ("delete from convoy_ledger where number = 3", "entry 4 does not follow the one before it"),
        ("delete from convoy_ledger where number = 4", "its end is gone"),
    ],
)
def test_a_broken_ledger_is_told_whatever_broke_it(decided: Path, statement: str, words: str) -> None:
    changed(decided, statement)
    (check,) = check_ledger(decided)
    assert (check.name, check.status) == ("ledger", FAILED)
    assert words in check.found


def test_a_ledger_that_is_no_database(decided: Path) -> None:
    (decided / ".convoy" / "ledger.db").write_bytes(b"something else" * 100)
    (check,) = check_ledger(decided)
    assert (check.name, check.status) == ("ledger", FAILED)
    assert "The ledger .convoy/ledger.db cannot be used" in check.found


def test_a_champion_whose_files_changed(decided: Path) -> None:
    weights = decided / "models/pets/2/weights.safetensors"
    weights.write_text("others")
    chain, champion = check_ledger(decided)
    assert (chain.status, champion.status) == (OK, FAILED)
    assert "files of version 2 of 'pets' in models/pets/2 were changed after it was registered" in champion.found
    assert champion.advice == "convoy rollback --model pets puts back the one before"
    weights.unlink()
    _, champion = check_ledger(decided)
    assert champion.status == FAILED
    assert champion.found.startswith("The files of version 2 of 'pets' are gone")


class Open(BaseHTTPRequestHandler):
    """A server that says yes to everybody."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()

    do_POST = do_OPTIONS = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def open_server() -> Iterator[int]:
    server = HTTPServer(("0.0.0.0", 0), Open)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def up(root: Path, port: int, **of_page: str) -> None:
    """This process is kept as every server of the project."""
    ours = {"pid": psutil.Process().pid, "started": born(psutil.Process()), "port": port}
    servers = {
        name: Server(name=name, health="/", log=root / "log", **ours, **(of_page if name == "page" else {}))
        for name in ("page", "prefect", "mlflow")
    }
    write_json(processes.record(root), {name: server.model_dump(mode="json") for name, server in servers.items()})


def test_open_servers_are_told(root: Path, open_server: int) -> None:
    up(root, open_server)
    page, prefect, mlflow = checks_of_servers.check_servers(root)
    assert (page.status, prefect.status, mlflow.status) == (FAILED, FAILED, FAILED)
    open_page = (
        f"http://127.0.0.1:{open_server} answers under any host name (DNS rebinding); takes orders from other sites; "
        "takes forged requests (no form token); can be shown in other sites' frames, or runs script of others"
    )
    assert page.found == open_page
    assert prefect.found == (
        f"http://127.0.0.1:{open_server} asks for no password; lets other sites read it; "
        "takes forged requests (no CSRF check); listens on 0.0.0.0, beyond this machine"
    )
    assert mlflow.found == (
        f"http://127.0.0.1:{open_server} answers under any host name (DNS rebinding); "
        "takes orders from other sites; listens on 0.0.0.0, beyond this machine"
    )
    up(root, open_server, host="0.0.0.0")
    page, *_ = checks_of_servers.check_servers(root)
    assert page.found == f"{open_page}; is there for other machines and asks nobody to log in"


def test_servers_that_hang_are_told(root: Path) -> None:
    up(root, 9)  # where nobody listens
    checks = list(checks_of_servers.check_servers(root))
    assert [check.name for check in checks] == ["review page", "Prefect", "MLflow"]
    for check in checks:
        assert check.status == FAILED
        assert check.found == f"its server runs (process {psutil.Process().pid}) and does not answer"
        assert check.advice == f"convoy down, then convoy up; its log is {root}/log"


def test_servers_of_the_user(root: Path, monkeypatch: pytest.MonkeyPatch, open_server: int) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{open_server}/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    page, prefect, mlflow = checks_of_servers.check_servers(root)
    assert (page.found, prefect.status) == ("it is not up; convoy up starts it", OK)
    assert (mlflow.status, mlflow.advice) == (FAILED, "start it, or unset MLFLOW_TRACKING_URI")


def test_the_doctor_imports_nothing_heavy() -> None:
    words = (
        "import sys, flows.health.doctor; print([m for m in ('torch', 'prefect', 'mlflow', 'dvc') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", words], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
