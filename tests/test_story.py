"""The whole way, as a person goes it: a run watched live on the page, a decision there, and what all say then."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import small_project
from playwright.sync_api import Page, expect, sync_playwright
from small_project import convoy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/usr/bin/chromium").exists(), reason="needs Debian's chromium: apt-get install it"),
]
MINUTE = 60_000
PATIENCE = 240.0
"""Seconds for whatever a server does."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project that asks before a model goes into use, with its servers up."""
    root = tmp_path_factory.mktemp("story")
    made = small_project.make(root / "project", small_project.make_pictures(root / "pictures"))
    params = made / "params.yaml"
    params.write_text(params.read_text().replace("promote: auto", "promote: ask ").replace("epochs: 2", "epochs: 250"))
    small_project.commit(made, "ask a person")
    convoy(made, "up")
    yield made
    convoy(made, "down")


@pytest.fixture(scope="module")
def urls(project: Path) -> dict[str, str]:
    servers = json.loads((project / ".convoy/servers.json").read_bytes())
    return {name: f"http://127.0.0.1:{server['port']}" for name, server in servers.items()}


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A tab in which no script fails and no policy is breached."""
    with sync_playwright() as driver:
        expect.set_options(timeout=MINUTE)
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        found = browser.new_page()
        found.set_default_timeout(2 * MINUTE)
        trouble: list[str] = []
        found.on("pageerror", lambda error: trouble.append(str(error)))
        found.on("console", lambda line: trouble.append(line.text) if "Content Security Policy" in line.text else None)
        yield found
        browser.close()
        assert trouble == []


def wait_for(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (value := found()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.3)
    return value


def flow_run(project: Path, urls: dict[str, str], run: dict[str, Any]) -> dict[str, Any]:
    """As Prefect shows it."""
    name, _, word = (project / ".convoy/prefect.auth").read_text().strip().partition(":")
    answer = httpx.get(f"{urls['prefect']}/api/flow_runs/{run['flow_run']}", auth=(name, word), timeout=PATIENCE)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def newest(project: Path) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(convoy(project, "runs", "--json"))
    return found[0]


def test_a_run_is_watched_from_start_to_end(project: Path, urls: dict[str, str], page: Page) -> None:
    page.goto(f"{urls['page']}/runs")
    expect(page.get_by_role("heading", name="No run yet")).to_be_visible()
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run"],
        cwd=project,
        env=small_project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(lambda: any(project.glob(".convoy/runs/*/attempt.json")))
    page.reload()
    expect(page.get_by_text(re.compile(r"epoch \d+ of 250", re.IGNORECASE)).first).to_be_visible(timeout=4 * MINUTE)
    page.locator("a[href^='/runs/']").first.click()
    expect(page.locator("figure.chart svg").first).to_be_visible(timeout=4 * MINUTE)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    # nobody reloads: the page sees by itself how it ends
    expect(page.get_by_text("finished").first).to_be_visible(timeout=6 * MINUTE)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "for a decision until" in said
    assert "convoy promote shades/1 --why" in said
    assert flow_run(project, urls, newest(project))["state"]["name"] == "Suspended"


def test_it_is_approved_on_the_page_and_everybody_knows(project: Path, urls: dict[str, str], page: Page) -> None:
    run = newest(project)
    page.goto(f"{urls['page']}/runs/{run['id']}")
    page.get_by_role("link", name="Decisions (1 waiting)").click()
    page.get_by_role("link", name="Look and decide").click()
    page.get_by_label("Reason").fill("Tells dark from light")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", name=re.compile("^Approved by"))).to_be_visible()
    assert "shades version 1 (" in convoy(project, "champion")
    state = wait_for(lambda: (one := flow_run(project, urls, run)["state"])["type"] == "COMPLETED" and one)
    assert state["name"] == "Approved"
    assert state["message"].endswith("(page): Tells dark from light")
    alias = {"name": "shades", "alias": "champion"}
    registry = f"{urls['mlflow']}/api/2.0/mlflow/registered-models/alias"
    version = wait_for(lambda: httpx.get(registry, params=alias, timeout=PATIENCE).json().get("model_version"))
    assert version["version"] == "1"
    told = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert told["decision.why"] == "Tells dark from light"
    wait_for(lambda: not any(project.glob(".convoy/pending/*")))


def test_another_run_is_compared_and_verified(project: Path, urls: dict[str, str], page: Page) -> None:
    small_project.commit(project, "with what the run wrote")
    convoy(project, "run", "--set", "seed=7", "--set", "train.epochs=2")
    page.goto(f"{urls['page']}/runs")
    boxes = page.get_by_role("checkbox", name=re.compile("^Compare run"))
    expect(boxes).to_have_count(2)
    for position in range(2):
        boxes.nth(position).check()
    page.get_by_role("link", name="Compare", exact=True).click()
    expect(page.locator("main")).to_contain_text("train.epochs", timeout=4 * MINUTE)
    run = newest(project)
    page.goto(f"{urls['page']}/runs/{run['id']}")
    page.get_by_role("button", name=re.compile("^Verify")).click()
    expect(page.locator("main")).to_contain_text(re.compile("identical", re.IGNORECASE), timeout=8 * MINUTE)


def test_prefect_is_a_way_in_and_passes_the_same_door(project: Path, urls: dict[str, str]) -> None:
    convoy(project, "run", "--set", "name=others", "--set", "train.epochs=3")
    run = newest(project)
    assert run["state"] == "finished"
    name, _, word = (project / ".convoy/prefect.auth").read_text().strip().partition(":")
    with httpx.Client(base_url=f"{urls['prefect']}/api", auth=(name, word), timeout=PATIENCE) as prefect:
        token = prefect.get("/csrf-token", params={"client": "test"}).json()["token"]
        prefect.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "test"})
        path = f"/flow_runs/{run['flow_run']}/resume"
        nonsense = prefect.post(path, json={"run_input": {"decision": "perhaps", "reason": "x"}})
        assert nonsense.json()["status"] == "REJECT"
        # the case is changed after it was judged: it is refused, and the flow run waits on
        case = next(path for path in project.glob(".convoy/cases/*/case.json") if '"others"' in path.read_text())
        whole = case.read_text()
        case.write_text(whole.replace('"push": false', '"push": true'))
        prefect.post(path, json={"run_input": {"decision": "approve", "reason": "from afar"}}).raise_for_status()
        refused = wait_for(
            lambda: (
                (one := flow_run(project, urls, run)["state"])["name"] == "Suspended"
                and "is not the one that the gate judged" in (one["message"] or "")
                and one
            )
        )
        assert refused["type"] == "PAUSED"
        assert "No champion yet" in convoy(project, "champion", "--model", "others", status=1)
        case.write_text(whole)
        prefect.post(path, json={"run_input": {"decision": "approve", "reason": "from afar"}}).raise_for_status()
        state = wait_for(lambda: (one := flow_run(project, urls, run)["state"])["type"] == "COMPLETED" and one)
    assert state["message"] == "Approved by somebody on Prefect's page (prefect): from afar"
    assert "others version 1 (" in convoy(project, "champion", "--model", "others")


def test_going_back_works_with_mlflow_away(project: Path) -> None:
    convoy(project, "promote", "shades/2", "--why", "for the drill")
    convoy(project, "down")
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    start = time.monotonic()
    said = convoy(project, "rollback", "--model", "shades", "--why", "2 is no better", **away)
    assert "Version 1 of 'shades' was put back at" in said
    assert "MLflow's alias follows later" in said
    assert time.monotonic() - start < 150  # MLflow's own patience is longer
    weights = next(project.glob(".convoy/mlartifacts/shades/models/*/artifacts/artifacts/model/weights.safetensors"))
    for one in project.glob(".convoy/mlartifacts/shades/models/*/artifacts/artifacts/model/weights.safetensors"):
        one.chmod(0o644)
        one.write_bytes(weights.read_bytes()[:-1] + b"x")
    said = convoy(project, "rollback", "--model", "shades", "--why", "no, 2", status=1, **away)
    assert "were changed after it was registered" in said
    doctor = convoy(project, "doctor", status=1)
    assert "were changed after" in " ".join(doctor.split())
    assert "2 is no better" in convoy(project, "history", "--model", "shades")


def test_without_servers_prefect_hears_of_it_at_the_next_run(tmp_path: Path) -> None:
    project = small_project.make(tmp_path / "project", small_project.make_pictures(tmp_path / "pictures"))
    convoy(project, "run", "--set", "gate.promote=ask")

    def states() -> list[tuple[str, str]]:
        with closing(sqlite3.connect(project / ".convoy/prefect.db")) as database:
            return database.execute("SELECT state_type, state_name FROM flow_run").fetchall()

    assert states() == [("PAUSED", "Suspended")]
    assert "shades/1 for a decision until" in convoy(project, "status")
    said = convoy(project, "reject", "shades/1", "--why", "too small a test set")
    assert said.startswith("Version 1 of 'shades' was rejected at ") and said.count("\n") == 1
    assert states() == [("PAUSED", "Suspended")]  # there is nobody to tell
    assert "Nothing to do" in convoy(project, "run")
    assert states() == [("COMPLETED", "Rejected")]
    assert not any((project / ".convoy/pending").iterdir())
