"""The page: its frame, the list of runs, one run, two compared; asked of a real process, and looked at in a browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path

import httpx
import numpy as np
import page_project
import pytest
from page_project import EVIL, Project
from PIL import Image

from dashboard import charts, comparisons, known, wording
from dashboard.addresses import Addresses
from dashboard.bars import Scale
from dashboard.charts import Series
from dashboard.servers import FlowState, Servers
from dashboard.views._run import shown
from pipeline.errors import UserError
from pipeline.registry.glances import Glance

RUNS = 60
HEAVY = ("torch", "mlflow", "prefect", "pandas", "scipy", "dvc", "sklearn")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return page_project.make(tmp_path_factory.mktemp("page") / "project", RUNS)


@pytest.fixture(scope="module")
def url(project: Project) -> Iterator[str]:
    """The page, with one run at work."""
    with page_project.working(project.root, project.working), page_project.serve(project.root) as address:
        yield address


@pytest.fixture(scope="module")
def web(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=120) as client:
        yield client


class Reader(HTMLParser):
    """Cells of the rows, and elements by name with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self._open = tag in ("td", "th") or (self._open and tag != "title")

    def handle_data(self, data: str) -> None:
        if self._open and self.rows and self.rows[-1]:
            self.rows[-1][-1] = (self.rows[-1][-1] + data).lstrip()


def ids(web: httpx.Client, path: str) -> list[str]:
    """The runs that a list shows, in order."""
    return re.findall(r'name="run" value="([0-9a-f]{32})"', web.get(path).raise_for_status().text)


def test_it_answers_without_a_session_and_begins_with_the_runs(web: httpx.Client) -> None:
    assert web.get("/health").json() == {"status": "ok"}
    assert web.get("/").headers["location"] == "/runs"
    assert web.get("/docs").status_code == web.get("/openapi.json").status_code == 404
    assert "server" not in web.get("/health").headers


def test_the_list_shows_what_each_run_came_to(web: httpx.Client, project: Project) -> None:
    text = web.get("/runs").text
    rows = {row[1][:8]: row for row in Reader(text).rows if len(row) == 9}
    assert len(rows) == 51  # fifty and the head
    champion = rows[project.champion[:8]]
    record = json.loads((project.root / f".convoy/runs/{project.champion}/record.json").read_text())
    assert f"{record['scores']['accuracy']['value']:.4f}" in champion[4]
    assert champion[5].strip() == record["version"]["version"]
    assert "champion" in champion[7]
    assert "at work" in rows[project.working[:8]][6]
    assert ids(web, "/runs")[0] == project.working
    assert "epoch 7 of 10, step 120 of 200" in text


def test_pages_of_the_list_hold_every_run_once(web: httpx.Client, project: Project) -> None:
    both = ids(web, "/runs") + ids(web, "/runs?page=2")
    assert sorted(both) == sorted([*project.finished, *project.stopped, project.working])
    assert ids(web, "/runs?page=99") == ids(web, "/runs?page=2")


@pytest.mark.parametrize("column", ["run", "began", "model", "score", "version", "state", "verdict", "took"])
def test_every_column_sorts_both_ways_and_keeps_the_filter(web: httpx.Client, column: str) -> None:
    up, down = (ids(web, f"/runs?state=finished&q=lenet5&sort={sign}{column}") for sign in ("", "-"))
    assert sorted(up) == sorted(down)
    assert up != down
    page = web.get(f"/runs?state=finished&q=lenet5&sort={column}").text
    heads = {attrs.get("aria-sort") for tag, attrs in Reader(page).elements if tag == "th" and "aria-sort" in attrs}
    assert heads == {"ascending", "none"}
    assert f"/runs?q=lenet5&amp;state=finished&amp;sort=-{column}" in page or column == "began"


def test_scores_are_sorted_as_numbers_and_runs_without_one_come_last(web: httpx.Client, project: Project) -> None:
    found = ids(web, "/runs?sort=score")
    values = [known_score(project, run) for run in found]
    numbers = [value for value in values if value is not None]
    assert numbers == sorted(numbers)
    assert values[: len(numbers)] == numbers


def known_score(project: Project, run: str) -> float | None:
    path = project.root / f".convoy/runs/{run}/record.json"
    return float(json.loads(path.read_text())["scores"]["accuracy"]["value"]) if path.exists() else None


def test_the_filter_finds_by_model_state_verdict_and_words(web: httpx.Client, project: Project) -> None:
    assert set(ids(web, "/runs?state=stopped")) == set(project.stopped)
    assert ids(web, "/runs?state=working") == [project.working]
    assert len(ids(web, "/runs?model=parts-small&sort=run")) == sum(
        number % 5 == 0 and number % 8 != 5 for number in range(RUNS)
    )
    assert ids(web, f"/runs?q={project.champion[:10]}") == [project.champion]
    assert set(ids(web, "/runs?q=DIVERGED")) < set(project.stopped)
    assert len(ids(web, "/runs?q=train.epochs%3D3+model.name%3Dlenet5")) == 6
    assert "No run fits" in web.get("/runs?q=nosuchthing").text
    held = ids(web, "/runs?verdict=hold")
    assert held
    assert not set(held) & set(ids(web, "/runs?verdict=reject"))


def test_values_that_make_no_sense_are_passed_over(web: httpx.Client) -> None:
    assert ids(web, "/runs?sort=nonsense&state=x&verdict=y") == ids(web, "/runs")
    assert web.get("/runs?page=0").status_code == 422


def test_names_from_outside_stay_text_on_every_page(web: httpx.Client, project: Project) -> None:
    run, stopped = project.finished[0], project.stopped[2]
    pages = ["/runs?sort=began", "/runs?q=%3Cscript%3E", "/jobs", f"/compare?before={run}&after={project.champion}"]
    for one in (run, stopped, project.working, project.champion):
        pages += [f"/runs/{one}", f"/runs/{one}/params", f"/runs/{one}/log"]
    pages += [
        f"/runs/{run}/mistakes",
        f"/runs/{project.working}/log/more",
        f"/runs/{project.working}/live",
        "/runs/%3Cscript%3E",
    ]
    seen = 0
    for path in pages:
        text = web.get(path).text
        scripts = [attrs for tag, attrs in Reader(text).elements if tag == "script"]
        assert all(attrs.get("src", "").startswith("/static/") for attrs in scripts), path
        assert not any(
            "style" in attrs or any(key.startswith("on") for key in attrs) for _, attrs in Reader(text).elements
        ), path
        seen += "&lt;script&gt;" in text
    assert seen > 8  # they were there to be shown


def test_a_run_that_is_not_there_is_said_in_words(web: httpx.Client, project: Project) -> None:
    answer = web.get("/runs/0000aaaa")
    assert answer.status_code == 404
    assert "No run &#39;0000aaaa&#39; is recorded here." in answer.text
    assert web.get(f"/runs/{project.champion[:8]}").headers["location"] == f"/runs/{project.champion}"
    assert web.get("/runs/latest").headers["location"] == f"/runs/{project.finished[-1]}"
    assert web.get("/jobs/nope").status_code == 404


def test_a_run_shows_the_whole_chain(web: httpx.Client, project: Project) -> None:
    text = web.get(f"/runs/{project.champion}").text
    record = json.loads((project.root / f".convoy/runs/{project.champion}/record.json").read_text())
    for part in (
        "~/parts",
        project.dataset[:12],
        record["code"]["commit"][:12],
        f"seed {record['params']['seed']}",
        "cuda, bfloat16, channels last, 8 threads",
        record["version"]["digest"][:12],
        "in use",
        "by <bdi>ada</bdi>, page",
        f"/runs/{project.champion}/mistakes",
    ):
        assert part in text, part
    for name, found in record["scores"].items():
        assert name in ("images", "units") or f"{found['value']:.4f}" in text
    assert text.count('<figure class="chart">') == 5
    assert "Epoch 10: training" in text


def test_params_come_with_their_defaults_and_the_patch_line_by_line(web: httpx.Client, project: Project) -> None:
    text = web.get(f"/runs/{project.finished[0]}/params").text
    values = {row[0].strip(): row[1].strip() for row in Reader(text).rows if len(row) == 2}
    assert values["train.epochs"] == "3"
    assert values["notify.email"] == "[]"
    assert '<span class="add">+&lt;script&gt;' in text
    assert '<span class="del">-old</span>' in text


def test_mistakes_are_those_of_the_predictions(web: httpx.Client, project: Project) -> None:
    run = project.finished[0]
    text = web.get(f"/runs/{run}/mistakes").text
    pictures = [attrs for tag, attrs in Reader(text).elements if tag == "img"]
    assert f"{len(pictures)} mistakes, the surest first" in " ".join(text.split())
    assert all(str(attrs["src"]).startswith(f"/pictures/{project.dataset}/") for attrs in pictures)
    assert web.get(str(pictures[0]["src"])).headers["content-type"].startswith("image/")
    sure = [int(found) for found in re.findall(r"(\d+) % sure", text)]
    assert sure == sorted(sure, reverse=True)
    bolts = web.get(f"/runs/{run}/mistakes?label=bolt").text
    assert 0 < bolts.count("<img") == bolts.count("is bolt</span>") < len(pictures)


def test_the_report_is_a_document_of_its_own_that_runs_nothing(web: httpx.Client, project: Project) -> None:
    answer = web.get(f"/runs/{project.champion}/report")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert "<h1>Report</h1>" in answer.text
    assert web.get(f"/runs/{project.working}/report").status_code == 404


def test_a_log_goes_on_where_the_last_look_ended(web: httpx.Client, project: Project) -> None:
    text = web.get(f"/runs/{project.working}/log").text
    assert "The run begins, in process 4711." in text
    (more,) = re.findall(r'hx-get="(/runs/[^"]*/log/more\?offset=\d+)"', text)
    log = next((project.root / ".convoy/logs/runs").glob("*.log"), None)
    attempt = json.loads((project.root / f".convoy/runs/{project.working}/attempt.json").read_text())
    log = project.root / f".convoy/logs/runs/{attempt['flow_run']}.log"
    with log.open("a") as file:
        file.write("\x1b[31mred\x1b[0m line\n")
    answer = web.get(more).text
    assert answer.startswith("red line\n<span")
    assert "The run begins" not in answer


def test_comparing_says_what_differs_and_what_the_pictures_show(web: httpx.Client, project: Project) -> None:
    before, after = project.finished[1], project.champion
    assert (
        web.get("/compare", params={"run": [after, before]}).headers["location"]
        == f"/compare?before={before}&after={after}"
    )
    assert web.get(f"/compare?before={before[:8]}&after={after}").headers["location"].startswith("/compare?before=")
    text = web.get(f"/compare?before={before}&after={after}").text
    changed = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in Reader(text).rows if len(row) == 3}
    assert changed["seed"] == [
        "1",
        str(json.loads((project.root / f".convoy/runs/{after}/record.json").read_text())["params"]["seed"]),
    ]
    assert web.get("/compare", params={"run": [after]}).status_code == 404
    assert "Which two?" in web.get("/compare").text
    assert web.get(f"/compare?before={before}&after={project.working}").status_code == 404
    pictures = web.get(f"/compare/pictures?before={before}&after={after}").text
    assert "The second run is better" in pictures
    assert "on the 160 test pictures that both answered" in pictures


def test_comparisons_that_wait_do_not_hold_every_thread_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, end = threading.Semaphore(0), threading.Event()

    def slow(before: str, after: str) -> None:
        begun.release()
        assert end.wait(600)

    monkeypatch.setattr(comparisons, "_compared", slow)
    waiting = [threading.Thread(target=comparisons.compared, args=("a", "b")) for _ in range(comparisons.WAITING)]
    for thread in waiting:
        thread.start()
    assert begun.acquire(timeout=240)
    deadline = time.monotonic() + 240
    while comparisons._waiting.acquire(blocking=False):  # until the last of them has come to wait
        comparisons._waiting.release()
        assert time.monotonic() < deadline
    with pytest.raises(UserError, match="3 comparisons are at work already. Load this page again in a minute"):
        comparisons.compared("c", "d")
    end.set()
    for thread in waiting:
        thread.join()
    comparisons.compared("c", "d")


def test_what_changes_something_needs_a_form_of_this_page(web: httpx.Client, project: Project) -> None:
    path = f"/runs/{project.champion}/verify"
    assert web.post(path).status_code in (403, 415)
    assert web.get(path).status_code == 405
    page = web.get(f"/runs/{project.champion}").text
    assert f'action="{path}"' in page
    assert f'action="/runs/{project.champion}/rerun"' in page


def test_what_is_at_work_is_shown_until_it_ends(tmp_path: Path) -> None:
    project = page_project.make(tmp_path / "project", 4)
    with page_project.serve(project.root) as url, httpx.Client(base_url=url, timeout=120) as web:
        assert "hx-trigger" not in web.get("/at-work").text
        with page_project.working(project.root, project.working):
            answer = web.get("/at-work")
            assert 'hx-trigger="every 2s"' in answer.text
            assert "hx-trigger" not in answer.headers
            assert 'hx-trigger="every 2s"' in web.get(f"/runs/{project.working}").text
        answer = web.get("/at-work")
        assert "every 2s" not in answer.text
        assert answer.headers["hx-trigger"] == "runs-changed"
        assert web.get(f"/runs/{project.working}/live").headers["hx-refresh"] == "true"


def test_it_ends_politely_though_connections_are_open(tmp_path: Path) -> None:
    project = page_project.make(tmp_path / "project", 2)
    with ExitStack() as stack:
        url, process = stack.enter_context(page_project.served(project.root))
        clients = [stack.enter_context(httpx.Client(base_url=url, timeout=120)) for _ in range(5)]
        assert all(client.get("/runs").status_code == 200 for client in clients)
        process.terminate()
        process.wait(120)


def test_the_process_imports_nothing_heavy() -> None:
    code = f"""
import sys, dashboard.__main__, dashboard.app, dashboard.views
dashboard.views.modules()
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=page_project.ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_runs_are_read_again_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = page_project.make(tmp_path / "project", 3)
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(known, "_known", {})
    states = lambda: {one.glance.id: one.glance.state for one in known.everything()}  # noqa: E731
    assert states()[project.working] == "stopped"
    with page_project.working(project.root, project.working):
        assert states()[project.working] == "working"
    assert states()[project.working] == "stopped"
    folder = project.root / ".convoy/runs" / project.finished[0]
    record = json.loads((folder / "record.json").read_text())
    (folder / "glance.json").unlink()
    (folder / "record.json").write_text(json.dumps({**record, "model": "renamed"}))
    assert "renamed" in {one.glance.model for one in known.everything()}
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert project.finished[0] not in states()


def test_a_server_that_is_away_is_said_and_delays_nothing(tmp_path: Path) -> None:
    servers = Servers(Addresses(tmp_path, "http://127.0.0.1:9/api", "a:b", "http://127.0.0.1:9"))
    servers.start()
    begun = time.monotonic()
    assert servers.look(["x"], ["y"]).away == ()
    assert time.monotonic() - begun < 20
    while len(servers.look(["x"], ["y"]).away) < 2 and time.monotonic() - begun < 240:
        time.sleep(0.05)
    assert servers.look(["x"], ["y"]).away == ("Prefect", "MLflow")
    assert servers.addresses.links("127.0.0.1", "x", "y") == {
        "Prefect": "http://127.0.0.1:9/runs/flow-run/x",
        "MLflow": "http://127.0.0.1:9/#/runs/y",
    }
    assert servers.addresses.links("convoy.example", "x", "y") == {}  # another machine's loopback is another
    servers.stop()


def test_ticks_are_round_and_within() -> None:
    assert Scale(0, 1, 0, 100).ticks() == [
        (0.0, "0.0"),
        (0.2, "0.2"),
        (0.4, "0.4"),
        (0.6000000000000001, "0.6"),
        (0.8, "0.8"),
        (1.0, "1.0"),
    ]
    assert [text for _, text in Scale(3, 47, 0, 100).ticks()] == ["10", "20", "30", "40"]
    assert Scale(0, 10, 50, 150).at(2.5) == 75
    assert Scale(0, 10, 50, 150).at(99) == 150


def test_a_chart_escapes_names_thins_curves_and_leaves_out_what_is_not_finite() -> None:
    points = [(n, 1 / n) for n in range(1, 5001)]
    chart = charts.line_chart(EVIL, [Series(EVIL, [*points, (5001, float("nan"))]), Series("none", [])])
    assert "<script" not in chart
    assert "nan" not in chart
    (corners,) = re.findall(r'<polyline class="c0" points="([^"]*)"/><circle', chart)
    assert len(corners.split()) <= charts.CORNERS + 1
    assert chart.count('class="spot"') <= charts.SPOTS + 1
    assert charts.line_chart("x", [Series("a", [(1, float("inf"))])]) == ""


def test_words_for_numbers_and_moments() -> None:
    assert [wording.took(value) for value in (None, 3.21, 42.4, 121, 3700)] == [
        "–",
        "3.2 s",
        "42 s",
        "2 min 01 s",
        "1 h 01 min",
    ]
    assert wording.signed(-0.0123) == "\N{MINUS SIGN}0.0123"
    assert wording.chance(0.0001) == "p < 0.001"
    assert wording.between(-0.02, 0.01) == "\N{MINUS SIGN}0.0200 to 0.0100" and wording.between(1, 1) == wording.DASH
    assert wording.spread(-0.02, 0.01, 0.95) == "95 % interval \N{MINUS SIGN}0.0200 to +0.0100"
    assert wording.coded("do `a <b>` & go") == "do <code>a &lt;b&gt;</code> &amp; go"
    assert wording.coded("it's `open") == "it&#39;s `open"
    assert wording.count(1, "run") == "1 run"
    assert wording.plain("\x1b[1;31mred\x1b[0m\x07\ttab") == "red\ttab"
    assert wording.moment(time.time() * 1000).words.startswith("today ")
    assert wording.moment("2020-11-03T10:00:00Z").words == "2020-11-03"


def test_a_run_that_stopped_offers_what_helps_and_no_stage_of_it_seems_at_work(
    web: httpx.Client, project: Project
) -> None:
    killed, mistaken = project.stopped[0], project.stopped[1]
    text = web.get(f"/runs/{killed}").text
    assert f'action="/runs/{killed}/rerun"' in text and "Go on" in text
    assert "turning" not in text and "stopped here" in text and "at work" not in text
    text = web.get(f"/runs/{mistaken}").text
    assert "rerun" not in text and "Go on" not in text and "It goes on" not in text
    assert "Lower <code>optimizer.lr</code> in params.yaml." in text and "it would stop at the same place" in text
    rows = {row[1][:8]: row for row in Reader(web.get("/runs?state=stopped&sort=began").text).rows}
    assert "Lower `optimizer.lr` in params.yaml." in rows[mistaken[:8]][6]


def test_the_step_at_which_a_training_diverged_is_shown_with_its_pictures(web: httpx.Client, project: Project) -> None:
    run, training = project.stopped[1], "d" * 32
    path = project.root / f".convoy/runs/{run}/attempt.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"training": training}))
    home = project.root / f".convoy/train/{training}"
    folder = home / "member-2/diverged"
    folder.mkdir(parents=True)
    for member in ("member-1", "member-2"):
        (home / member).mkdir(exist_ok=True)
        (home / member / "journal.jsonl").write_text("")
    assert "Where training diverged" not in web.get(f"/runs/{run}").text
    step = {"epoch": 3, "step": 17, "learning_rate": 1e9, "loss": "nan", "what": EVIL, "gradient_norms": {"all": "inf"}}
    (folder / "step.json").write_text(json.dumps(step))
    losses = ["0.5", "nan", "7.25", "inf"] + ["0.1"] * 40
    rows = [f"{number:04d}.png,{'a' * 64},{loss}" for number, loss in enumerate(losses)]
    (folder / "pictures.csv").write_text("\n".join(["file,id,loss", *rows, f"../{EVIL},a,1", "0099.png,a,soon"]) + "\n")
    assert web.get(f"/runs/{run}").text.count("/diverged/") == 0  # a table that nobody can read
    (folder / "pictures.csv").write_text("\n".join(["file,id,loss", *rows, f"../{EVIL},a,1"]) + "\n")
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(folder / "0001.png")
    (folder / "0002.png").write_text("no picture")
    (folder / "0003.png").symlink_to(folder / "0001.png")
    text = web.get(f"/runs/{run}").text
    assert re.search(r"<dt>Member</dt>\s*<dd[^>]*>2</dd>", text)
    assert "1e9" in text and ">17<" in text and "The 44 pictures of that step" in text and "24 are shown" in text
    order = re.findall(rf"/runs/{run}/diverged/([0-9]+\.png)", text)
    assert order[:4] == ["0001.png", "0003.png", "0002.png", "0000.png"]
    found = web.get(f"/runs/{run}/diverged/0001.png")
    assert (found.status_code, found.headers["content-type"]) == (200, "image/png")
    for name in ("0002.png", "0003.png", "0007.png", "step.json", "..%2Fstep.json", "%2e%2e", "0001.png%00"):
        assert web.get(f"/runs/{run}/diverged/{name}").status_code == 404, name
    assert web.get(f"/runs/{project.stopped[0]}/diverged/0001.png").status_code == 404
    assert web.get("/runs/latest/diverged/0001.png").status_code == 404
    path.write_text(json.dumps(json.loads(path.read_text()) | {"training": f"../train/{training}"}))
    assert web.get(f"/runs/{run}/diverged/0001.png").status_code == 404


def test_what_prefect_says_is_shown_where_it_says_more() -> None:
    run = Glance(id="a" * 32, model="m", state="stopped", started=0)
    assert shown(run, FlowState("FAILED", "Failed")) is None
    assert shown(run, FlowState("CRASHED", "Crashed")) == FlowState("CRASHED", "Crashed")
    assert shown(run.model_copy(update={"state": "finished"}), FlowState("FAILED", "Failed")) is not None
    assert shown(run, FlowState("RUNNING", "Running")) is None
