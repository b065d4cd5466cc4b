"""The DVC remote, for real: a local folder, and an S3 server on loopback that dies, comes back, or refuses."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from ports import lasting_port
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from flows import settings
from flows.remote import moving as remote
from flows.remote.access import opened
from flows.remote.moving import Moved
from pipeline.errors import UserError

pytestmark = pytest.mark.slow  # real runs and servers

FILES = {"out/data/a.txt": b"a" * 1000, "out/data/b.txt": b"b" * 2000, "out/model.bin": b"m" * 4000}
SECRET = "hunter2-of-the-remote"
STAGE = """
stages:
  make:
    cmd: python make.py
    outs:
    - out/data
    - out/model.bin
"""
MAKE = f"""
from pathlib import Path
for name, data in {FILES!r}.items():
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(data)
"""
CONNECTED: list[Any] = []


def heed(event: str, arguments: tuple[Any, ...]) -> None:
    """Note every address that this process connects to."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        CONNECTED.append(arguments[1][0])


@pytest.fixture(scope="module", autouse=True)
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No account of this machine is used; S3's client gives up at once, so that the tests are short."""
    empty = tmp_path_factory.mktemp("home") / "none"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("AWS_EC2_METADATA_DISABLED", "DVC_NO_ANALYTICS"):
            patch.setenv(name, settings.SWITCHES[name])
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setenv("AWS_CONFIG_FILE", str(empty))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(empty))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with one DVC stage that has run; to be copied."""
    root = tmp_path_factory.mktemp("made") / "project"
    root.mkdir()
    (root / "dvc.yaml").write_text(STAGE)
    (root / "make.py").write_text(MAKE)
    git(root, "init", "--quiet", "--initial-branch=main")
    dvc(root, "init", "--quiet")
    dvc(root, "repro", "--quiet")
    git(root, "add", "--all")
    git(root, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message=Make")
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """The project, without a remote."""
    return Path(shutil.copytree(made, tmp_path / "project", symlinks=True))


@pytest.fixture
def stored(project: Path, tmp_path: Path) -> Path:
    """The project with a local folder as its remote; the folder."""
    dvc(project, "remote", "add", "--quiet", "-d", "storage", str(tmp_path / "store"))
    return tmp_path / "store"


class S3:
    """moto's S3 on loopback, that can be killed and started again without losing what it holds."""

    def __init__(self) -> None:
        self._application = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer | None = None
        self.port = lasting_port()
        self.dies_after: int | None = None
        """Files that it takes before it dies in the middle of the next."""
        self.away = 0.0
        """Seconds until it is back; 0 is never."""
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __call__(self, environ: dict[str, Any], respond: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT" and self.dies_after is not None:
            self.dies_after -= 1
            if self.dies_after < 0:
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                self.kill()
        return self._application(environ, respond)

    def start(self) -> None:
        self.dies_after = None
        self._server = make_server("127.0.0.1", self.port, self, threaded=True, request_handler=Quiet)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self) -> None:
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()
            if self.away:
                threading.Timer(self.away, self.start).start()

    def bucket(self, name: str) -> None:
        requests.put(f"{self.url}/{name}", timeout=120).raise_for_status()

    def demand_credentials(self, demand: bool) -> None:
        after = "0" if demand else "inf"
        requests.post(f"{self.url}/moto-api/reset-auth", data=after, timeout=120).raise_for_status()


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


@pytest.fixture
def s3() -> Iterator[S3]:
    server = S3()
    yield server
    server.away = 0
    server.kill()


@pytest.fixture
def in_s3(project: Path, s3: S3) -> Path:
    """The project with a bucket of its own on `s3` as its remote."""
    bucket = f"bucket-{s3.port}"
    s3.bucket(bucket)
    dvc(project, "remote", "add", "--quiet", "-d", "cloud", f"s3://{bucket}/store")
    dvc(project, "remote", "modify", "--quiet", "cloud", "endpointurl", s3.url)
    dvc(project, "remote", "modify", "--quiet", "--local", "cloud", "access_key_id", "AKIA0")
    dvc(project, "remote", "modify", "--quiet", "--local", "cloud", "secret_access_key", SECRET)
    return project


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


def dvc(root: Path, *arguments: str) -> None:
    """DVC's own command, in this process: a new one takes a second to start."""
    from dvc.cli import main

    before = Path.cwd()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.chdir(root)
    try:
        assert main(list(arguments)) == 0
    finally:
        os.chdir(before)


def forget(root: Path) -> None:
    """As a fresh clone: neither outputs nor cache."""
    shutil.rmtree(root / "out")
    shutil.rmtree(root / ".dvc" / "cache")


def outputs(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in (root / "out").rglob("[a-z]*.*")}


def silent(_: str) -> None:
    pass


def test_push_and_fetch_by_a_local_folder(project: Path, stored: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    said: list[str] = []
    assert remote.push(project, said.append) == Moved(3, 7000)
    assert said == [f"Pushed 3 files (7,000 bytes) to remote 'storage' ({stored})."]
    assert remote.push(project, said.append) == Moved(0, 0)
    assert said[1] == f"Nothing to push: remote 'storage' ({stored}) has everything."
    forget(project)
    assert remote.fetch(project, ["out/data"], said.append) == Moved(2, 3000)
    assert set(outputs(project)) == {"out/data/a.txt", "out/data/b.txt"}
    assert remote.fetch(project, ["out/model.bin", "out/data/a.txt"], said.append) == Moved(1, 4000)
    assert outputs(project) == FILES
    assert capfd.readouterr() == ("", "")  # no bar, no log of DVC's


def test_push_from_a_worktree(project: Path, stored: Path, tmp_path: Path) -> None:
    git(project, "add", "--", ".dvc/config")
    git(project, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message=Remote")
    tree = tmp_path / "tree"
    git(project, "worktree", "add", "--quiet", "--detach", str(tree))
    remote.push(project, silent)
    assert remote.fetch(tree, [], silent) == Moved(3, 7000)
    assert outputs(tree) == FILES
    (tree / "make.py").write_text(MAKE.replace("b'mm", "b'nm"))
    dvc(tree, "repro", "--quiet", "--force")
    assert remote.push(tree, silent).files == 1
    assert outputs(project) == FILES


def test_no_remote(project: Path) -> None:
    for use in (remote.check, remote.push, remote.fetch, remote.list_published):
        with pytest.raises(
            UserError, match="No DVC remote is configured.*`dvc remote add -d storage s3://bucket/path`"
        ):
            use(project)


def test_files_that_are_gone(project: Path, stored: Path) -> None:
    (lost,) = [path for path in (project / ".dvc/cache").rglob("*") if path.is_file() and path.read_bytes()[:1] == b"m"]
    lost.unlink()
    for use in (remote.push, remote.fetch):
        with pytest.raises(
            UserError, match="Neither DVC's cache nor remote 'storage' .* has 1 file that dvc.lock names"
        ):
            use(project, say=silent)
    assert not list(stored.rglob("*.dir"))
    forget(project)
    with pytest.raises(UserError, match=r"has the files of out/data\. `dvc push` where they were made"):
        remote.fetch(project, ["out/data"], silent)


def test_a_changed_file_in_the_tree_stays(project: Path, stored: Path) -> None:
    remote.push(project, silent)
    (project / "out/model.bin").unlink()
    (project / "out/model.bin").write_bytes(b"mine")
    with pytest.raises(UserError, match="DVC says: .*out/model.bin"):
        remote.fetch(project, ["out/model.bin"], silent)
    assert (project / "out/model.bin").read_bytes() == b"mine"


def test_unknown_target(project: Path, stored: Path) -> None:
    for target, words in {
        "out/dat": "is no output of a stage. Did you mean 'out/data'? dvc.yaml has: out/data, out/model.bin.",
        "../../etc": "is no output",
        "--all": "is no output",
    }.items():
        with pytest.raises(UserError) as error:
            remote.fetch(project, [target], silent)
        assert words in str(error.value)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written(project: Path, stored: Path) -> None:
    stored.mkdir(mode=0o500)
    with pytest.raises(UserError, match="refuses: the credentials"):
        remote.check(project)


def test_folder_that_cannot_be(project: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    dvc(project, "remote", "add", "--quiet", "-d", "storage", str(tmp_path / "file" / "store"))
    with pytest.raises(UserError, match=r"remote 'storage' \(.*/file/store\) says: .*Not a directory"):
        remote.check(project)


def test_publishing_in_a_folder(project: Path, stored: Path) -> None:
    publishing(project)
    remote.push(project, silent)
    files = {str(path.relative_to(stored)) for path in (stored / "convoy").rglob("*") if path.is_file()}
    assert files == {"convoy/.writable", "convoy/runs/b.json", "convoy/runs/ab/c.json", "convoy/verdict"}
    from dvc.repo import Repo

    with Repo(str(project)) as repo:  # what DVC clears out of a remote is its own
        (project / "dvc.lock").unlink()
        repo.gc(workspace=True, cloud=True, force=True)
    assert remote.list_published(project) == ["runs/ab/c.json", "runs/b.json", "verdict"]
    assert not list(stored.glob("files/md5/*/*"))


def test_publishing_in_s3(in_s3: Path) -> None:
    publishing(in_s3)


def publishing(root: Path) -> None:
    remote.check(root)
    assert remote.published(root, "runs/b.json") is None
    assert remote.list_published(root) == []
    for name, data in {"runs/b.json": b"old", "runs/ab/c.json": b"{}", "verdict": b""}.items():
        remote.publish(root, name, data)
    remote.publish(root, "runs/b.json", b"new\x00")
    assert remote.published(root, "runs/b.json") == b"new\x00"
    assert remote.published(root, "verdict") == b""
    assert remote.list_published(root) == ["runs/ab/c.json", "runs/b.json", "verdict"]
    assert remote.list_published(root, "runs/b") == ["runs/b.json"]
    for name in ("../up", "/etc/passwd", "a//b", ".hidden", "runs/../../up", "", "a\nb", "-rf", "a b"):
        with pytest.raises(UserError, match="Nothing can be published as"):
            remote.publish(root, name, b"")
        with pytest.raises(UserError, match="Nothing can be published as"):
            remote.published(root, name)


def test_s3_and_no_other_address(in_s3: Path) -> None:
    if heed not in HOOKED:
        sys.addaudithook(heed)
        HOOKED.append(heed)
    CONNECTED.clear()
    remote.check(in_s3)
    assert remote.push(in_s3, silent) == Moved(3, 7000)
    forget(in_s3)
    assert remote.fetch(in_s3, [], silent) == Moved(3, 7000)
    assert outputs(in_s3) == FILES
    assert set(CONNECTED) == {"127.0.0.1"}


HOOKED: list[Any] = []
"""An audit hook stays for good; one is enough."""


def test_s3_dies_in_the_middle_and_comes_back(in_s3: Path, s3: S3) -> None:
    s3.dies_after, s3.away = 1, 1.0
    said: list[str] = []
    assert remote.push(in_s3, said.append, pauses=(0.5, 2.0, 4.0, 8.0, 16.0)) == Moved(3, 7000)
    assert "cannot be reached" in said[0] and "Trying again in 0.5 s" in said[0]
    assert said[-1].startswith("Pushed 3 files (7,000 bytes)")
    forget(in_s3)
    remote.fetch(in_s3, [], silent)
    assert outputs(in_s3) == FILES


def test_s3_dies_for_good(
    in_s3: Path, s3: S3, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    s3.dies_after = 1
    capfd.readouterr()
    said: list[str] = []
    with pytest.raises(UserError, match=r"remote 'cloud' \(s3://bucket-\d+/store\) cannot be reached") as error:
        remote.push(in_s3, said.append, pauses=(0.05, 0.1))
    assert len(said) == 2
    with pytest.raises(UserError, match="cannot be reached"):
        remote.check(in_s3)
    forget(in_s3)
    with pytest.raises(UserError, match="cannot be reached"):
        remote.fetch(in_s3, ["out/data"], silent, pauses=())
    assert capfd.readouterr() == ("", "") and "failed to transfer" not in caplog.text  # DVC's own word for it
    assert SECRET not in str(error.value) + caplog.text + "".join(said)


def test_s3_that_says_nothing(in_s3: Path, s3: S3) -> None:
    s3.kill()
    with socket.create_server(("127.0.0.1", s3.port)):  # takes connections and never answers
        start = time.monotonic()
        with pytest.raises(UserError, match="says nothing for 1 s"):
            remote.check(in_s3, limit=1)
        assert time.monotonic() - start < 60


def test_s3_is_not_waited_for_too_long(in_s3: Path) -> None:
    dvc(in_s3, "remote", "modify", "--quiet", "cloud", "read_timeout", "7")
    with opened(in_s3, silent, ()) as access:
        client = access.remote.fs.fs.s3.meta.config
        assert (client.connect_timeout, client.read_timeout) == (10, 7)
        with access.repo.config.edit("repo") as saved:
            assert "connect_timeout" not in saved["remote"]["cloud"]


def test_wrong_bucket(in_s3: Path) -> None:
    dvc(in_s3, "remote", "modify", "--quiet", "cloud", "url", "s3://nobodys/store")
    for use in (remote.check, remote.push, remote.fetch):
        with pytest.raises(UserError, match=r"\(s3://nobodys/store\): there is no such bucket"):
            use(in_s3)
    with pytest.raises(UserError, match="there is no such bucket"):
        remote.published(in_s3, "a")


def test_refused_credentials(in_s3: Path, s3: S3) -> None:
    s3.demand_credentials(True)
    try:
        for use in (remote.check, remote.push, remote.fetch, remote.list_published):
            with pytest.raises(UserError, match="refuses: the credentials are missing, wrong or not enough") as error:
                use(in_s3)
            assert SECRET not in str(error.value)
    finally:
        s3.demand_credentials(False)


def test_no_credentials(in_s3: Path) -> None:
    (in_s3 / ".dvc/config.local").unlink()
    with pytest.raises(UserError, match="refuses: the credentials are missing"):
        remote.push(in_s3, silent)
