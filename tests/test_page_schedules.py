"""The page of the schedules: prefect.yaml and real commands over HTTP, without a Prefect server and with one."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import page_project
import pytest
from small_project import git

from flows import settings
from flows.schedule import deployments
from flows.servers.prefect_rest import wired
from flows.servers.prefect_server import start_prefect
from flows.servers.processes import PATIENCE, stop, wait_ready

ROOT = Path(__file__).parents[1]
FILE = """\
deployments:
  - name: nightly
    description: Every night. <script>document.title='owned'</script>
    entrypoint: flows/retrain.py:retrain
    tags: [convoy]
    work_pool: {name: convoy}
    parameters:
      request:
        branch: main
        set: ["train.epochs=<b>2</b>"]
        push: true
        trigger: {cron: 30 2 * * *, zone: Pacific/Auckland}
  - name: on-news
    entrypoint: flows/retrain.py:retrain
    tags: [convoy]
    paused: true
    work_pool: {name: convoy}
    parameters:
      request: {branch: main, cooldown_minutes: 90, trigger: {new_data: 50, every_minutes: 2.5}}
  - name: theirs
    entrypoint: other.py:flow
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schedules")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (folder / "dvc.yaml").touch()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "begin")
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[httpx.Client]:
    with page_project.serve(root) as url, httpx.Client(base_url=url, timeout=120) as client:
        yield client


@pytest.fixture
def project(root: Path) -> Path:
    """With the file as above."""
    (root / "prefect.yaml").write_text(FILE)
    return root


def parts(text: str) -> dict[str, str]:
    """What the page says of each deployment."""
    found = re.findall(r'<article [^>]*aria-labelledby="d-([^"]*)">(.*?)</article>', text, re.DOTALL)
    return {name: unescape(" ".join(re.sub(r"<[^>]*>", " ", part).split())) for name, part in found}


def press(page: httpx.Client, name: str, action: str) -> httpx.Response:
    """Send the form of a button."""
    text = page.get("/schedules").text
    token = re.search(rf'action="/schedules/{name}/{action}"><input type="hidden" name="token" value="([^"]+)"', text)
    assert token, f"no button to {action} {name}"
    origin = str(page.base_url).rstrip("/")
    return page.post(f"/schedules/{name}/{action}", data={"token": token[1]}, headers={"Origin": origin})


def said(page: httpx.Client, answer: httpx.Response) -> str:
    """What the command that was started says, once it has ended."""
    assert answer.status_code == 303, answer.text
    job = answer.headers["location"].partition("job=")[2]
    end = time.monotonic() + 240
    while time.monotonic() < end:
        told = page.get(f"/schedules/jobs/{job}")
        if "every 1s" not in told.text:
            assert told.headers["hx-trigger"] == "schedules-changed"
            assert told.text.strip() in page.get(answer.headers["location"]).text
            return unescape(" ".join(re.sub(r"<[^>]*>", " ", told.text).split()))
        time.sleep(0.1)
    raise AssertionError("the command does not end")


# Without a server


def test_each_deployment_says_what_it_does_and_when(page: httpx.Client, project: Path) -> None:
    before = datetime.now(UTC)
    text = page.get("/schedules").text
    found = parts(text)
    assert list(found) == ["nightly", "on-news"]
    nightly, news = found.values()
    assert "Set off by 30 2 * * * Pacific/Auckland" in nightly
    assert "With train.epochs=<b>2</b>" in nightly and "Pushes data and models" in nightly
    assert "awake" in nightly and "Pause" in nightly and "Resume" not in nightly
    assert "Set off by 50 new or changed samples Looks every 2.5 min" in news and "Rests 90 min" in news
    assert "paused" in news and "Resume" in news and "When the samples are there." in news
    assert "<script>document" not in text and "style=" not in text
    assert "No Prefect server answers" in text
    times = [datetime.fromisoformat(one) for one in re.findall(r'<time datetime="([^"]*)"', text)]
    assert len(times) == 5
    assert all(time.astimezone(ZoneInfo("Pacific/Auckland")).strftime("%H:%M") in ("02:30", "03:00") for time in times)
    assert times == sorted(times) and times[0] > before and (times[-1] - times[0]).days in (3, 4)
    first = times[0]
    assert (
        f"{first:%a %Y-%m-%d %H:%M} UTC {first.astimezone(ZoneInfo('Pacific/Auckland')):%a %Y-%m-%d %H:%M}" in nightly
    )


def test_no_schedule_yet(page: httpx.Client, project: Path) -> None:
    (project / "prefect.yaml").unlink()
    assert "Nothing retrains by itself yet" in page.get("/schedules").text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FILE.replace("30 2 * * *", "99 2 * * *"), ["prefect.yaml has 1 problem", "deployments.nightly", "bad minute"]),
        (FILE.replace("paused: true", "pause: <i>"), ["deployments.on-news.pause", "no such key. Did you mean"]),
        ("deployments: [", ["the file", "not valid YAML"]),
        ("- 3", ["expected `deployments:` and a list below it"]),
        (
            FILE.replace("nightly", "a'b\"<script>document"),
            ["expected up to 64 letters", "a'b\"<script>document"],
        ),
    ],
)
def test_a_file_that_is_wrong_shows_its_problems(
    page: httpx.Client, project: Path, text: str, words: list[str]
) -> None:
    (project / "prefect.yaml").write_text(text)
    answer = page.get("/schedules")
    assert answer.status_code == 200
    assert all(word in unescape(answer.text) for word in words)
    assert "<script>document" not in answer.text
    assert parts(answer.text) == {}


def test_a_press_starts_the_command_and_shows_its_words(page: httpx.Client, project: Path) -> None:
    assert "convoy schedule pause nightly done nightly is paused." in said(page, press(page, "nightly", "pause"))
    assert [entry.paused for entry in deployments.read(project)] == [True, True]
    assert "Resume" in parts(page.get("/schedules").text)["nightly"]
    told = said(page, press(page, "on-news", "run"))
    assert "failed" in told and "No Prefect server is up to ask for a run of on-news. `convoy up`, then" in told


@pytest.mark.parametrize("name", ["nothing", "theirs", "--help", "-h", "a%20b"])
def test_only_what_the_file_names_is_pressed(page: httpx.Client, project: Path, name: str) -> None:
    token = re.search(r'name="token" value="([^"]+)"', page.get("/schedules").text)
    assert token
    origin = {"Origin": str(page.base_url).rstrip("/")}
    answer = page.post(f"/schedules/{name}/run", data={"token": token[1]}, headers=origin)
    assert answer.status_code == 403  # the token is one for another address


def test_a_press_without_a_token_changes_nothing(page: httpx.Client, project: Path) -> None:
    origin = {"Origin": str(page.base_url).rstrip("/")}
    for data, headers in (
        ({"a": "b"}, origin),
        ({"token": "x"}, origin),
        ({"a": "b"}, {"Origin": "http://else.example"}),
    ):
        assert page.post("/schedules/nightly/pause", data=data, headers=headers).status_code == 403
    assert page.get("/schedules/nightly/pause").status_code == 405
    assert not deployments.find(project, "nightly").paused


@pytest.mark.parametrize("job", ["x", "../../prefect", "20260101-000000-00000000"])
def test_a_job_that_is_none(page: httpx.Client, project: Path, job: str) -> None:
    assert page.get("/schedules", params={"job": job}).status_code == 200
    assert page.get(f"/schedules/jobs/{job}").status_code == 404


# With one


@pytest.mark.slow
def test_what_prefect_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "prefect.yaml").write_text(FILE)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "begin")
    variables = settings.environment(tmp_path, {})
    server = start_prefect(tmp_path, {**os.environ, **variables}, port=0)
    try:
        wait_ready(server, PATIENCE)
        api, auth = f"{server.url}/api", variables["PREFECT_SERVER_API_AUTH_STRING"]
        with (
            page_project.serve(tmp_path, PREFECT_API_URL=api, PREFECT_API_AUTH_STRING=auth) as url,
            httpx.Client(base_url=url, timeout=120) as page,
        ):
            before = page.get("/schedules").text
            assert "No worker is up" in before and "not on the server yet" in parts(before)["nightly"]
            assert "Asked for a run of nightly" in said(page, press(page, "nightly", "run"))
            asked = page.get("/schedules").text
            assert "not on the server yet" not in asked and "None yet." not in parts(asked)["nightly"]
            assert "is awake" in said(page, press(page, "on-news", "resume"))
            monkeypatch.setenv("PREFECT_API_URL", api)
            monkeypatch.setenv("PREFECT_API_AUTH_STRING", auth)
            with wired(tmp_path, api) as wire:
                assert wire
                (run,) = wire.post("/flow_runs/filter", {})
                state = {"type": "CRASHED", "name": "Crashed", "message": "Gone. <script>document\nmore"}
                wire.post(f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
                wire.post("/work_pools/convoy/workers/heartbeat", {"name": "w"})
            after = page.get("/schedules").text
            assert "a worker is up" in after and "<script>document" not in after
            assert "crashed" in parts(after)["nightly"] and "Gone. <script>document" in parts(after)["nightly"]
            assert f"{server.url}/runs/flow-run/{run['id']}" in after
            assert "awake" in parts(after)["on-news"]
            if process := server.process():
                stop(process)
            assert "No Prefect server answers" in page.get("/schedules").text
    finally:
        if process := server.process():
            stop(process)
