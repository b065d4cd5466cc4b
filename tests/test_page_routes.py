"""Every address of the real page, walked by program: who may do what there, and that nothing in one does harm."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import page_project
import pyarrow as pa
import pytest
from argon2 import PasswordHasher
from decision_project import make_case, make_full_case, make_version
from playwright.sync_api import sync_playwright

from dashboard import views
from flows.accounts import TOKEN, digest
from pipeline.registry import ledger
from pipeline.registry.gate import IMAGE_COLUMNS
from pipeline.registry.verdict import Comparison, Verdict

CHROMIUM = "/usr/bin/chromium"
PASSWORD = "only here to look"  # noqa: S105 -- of an account that lives for a test
CHEAP = PasswordHasher(time_cost=1, memory_cost=7168, parallelism=1)
LONGEST = "m" * 64
"""A name that an account may have."""
FREE = ("/login", "/logout")
HOSTILE = (
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "%00",
    "%ff%fe",
    "%F0%9F%92%A9",
    "<script>alert(1)</script>",
    "'%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E",
    "%0d%0aSet-Cookie:%20a=b",
    "9" * 5000,
)
QUERY = "page=2&page=x&offset=-1&next=//evil.example&q=%00&label=<script>alert(1)</script>&run=a&run=b&before=a&after=b"


def addresses() -> list[tuple[str, str]]:
    """Method and path of each route of every view."""
    routes: list[Any] = [route for module in views.modules().values() for route in module.router.routes]
    return sorted((method, route.path) for route in routes for method in route.methods)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[page_project.Project]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PREFECT_", "CONVOY_"))]:
            patch.delenv(name)
        found = page_project.make(tmp_path_factory.mktemp("page") / "project", runs=3)
        patch.chdir(found.root)
        yield found


@pytest.fixture(scope="module")
def url(project: page_project.Project) -> Iterator[str]:
    lines = [
        f"{role}:{role}:{CHEAP.hash(PASSWORD)}\n{role}-program:{role}:{TOKEN}{digest(role)}"
        for role in ("viewer", "approver")
    ]
    lines.append(f"{LONGEST}:viewer:{CHEAP.hash(PASSWORD)}")
    with page_project.serve(project.root, CONVOY_ACCOUNTS="\n".join(lines)) as address:
        yield address


@pytest.fixture(scope="module")
def values(project: page_project.Project) -> dict[str, str]:
    """What there is, for each part of a path."""
    case = make_full_case(project.root, project.dataset, make_version("9", model="parts"), run=project.finished[-1])
    image = "a" * 64
    named = {"name": project.finished[-1], "case": case.id, "digest": project.dataset, "dataset": project.dataset}
    return named | {
        "image": image,
        "side": "champion",
        "file": "0000.png",
        "model": "parts",
        "action": "run",
        "job": "20260101-000000-" + "a" * 8,
    }


@contextmanager
def browser(url: str, person: str = "") -> Iterator[httpx.Client]:
    """A browser, whose person has logged in."""
    headers = {"Origin": url, "Sec-Fetch-Site": "same-origin", "Connection": "close"}
    with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
        if person:
            assert client.post("/login", data={"name": person, "password": PASSWORD}).status_code == 303
        yield client


def filled(path: str, values: dict[str, str], **changes: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda part: {**values, **changes}[part[1]], path)


def test_there_are_as_many_as_there_were_views_to_walk() -> None:
    found = addresses()
    assert len(found) > 30
    assert {method for method, _ in found} == {"GET", "POST"}


def test_nobody_sees_or_does_anything_without_logging_in(url: str, values: dict[str, str]) -> None:
    with browser(url) as nobody:
        for method, path in addresses():
            answer = nobody.request(method, filled(path, values), data={"token": "x"} if method == "POST" else None)
            if path.startswith("/api/") or method == "POST":
                assert answer.status_code in ((401, 415) if path.startswith("/api/") else (401,)), (method, path)
            elif path not in FREE:
                assert (answer.status_code, answer.headers["location"][:12]) == (303, "/login?next="), path


def test_a_viewer_changes_nothing_anywhere(url: str, values: dict[str, str]) -> None:
    changing = [path for method, path in addresses() if method == "POST" and path not in FREE]
    noted = len(ledger.history(None, ("refuse",)))
    with browser(url, "viewer") as viewer:
        for path in changing:
            if path.startswith("/api/"):
                answer = viewer.post(filled(path, values), json={}, headers={"Authorization": "Bearer viewer"})
            else:
                answer = viewer.post(filled(path, values), data={"token": "x"})
            assert answer.status_code == 403, path
            assert "only an approver may change something" in answer.text, path
    entries = ledger.history(None, ("refuse",))[noted:]
    assert len(entries) == len(changing)
    assert {entry.who for entry in entries} == {"viewer", "viewer-program"}


def test_an_approver_changes_nothing_without_the_token_of_the_form(url: str, values: dict[str, str]) -> None:
    with browser(url, "approver") as approver:
        for method, path in addresses():
            if method == "POST" and path not in FREE and not path.startswith("/api/"):
                answer = approver.post(filled(path, values), data={"token": "x", "why": "x"})
                assert (answer.status_code, "form token" in answer.text) == (403, True), path


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"])
def test_other_verbs_do_nothing(url: str, values: dict[str, str], method: str) -> None:
    with browser(url, "approver") as approver:
        for path in {path for _, path in addresses()}:
            answer = approver.request(method, filled(path, values))
            assert answer.status_code == 405, path
            assert set(answer.headers["allow"].split(", ")) <= {"GET", "POST"}


def test_every_page_can_be_looked_at_and_tells_the_browser_what_it_may(url: str, values: dict[str, str]) -> None:
    with browser(url, "viewer") as viewer:
        for method, path in addresses():
            if method == "GET":
                answer = viewer.get(filled(path, values))
                assert answer.status_code in (200, 303, 404, 422), (path, answer.text[:300])
                policy = answer.headers["content-security-policy"]
                assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy, path
                assert "script-src 'self'" in policy or "script-src" not in policy
                assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Debian's chromium: apt-get install it")
def test_the_way_out_is_in_sight_on_the_smallest_phone(url: str) -> None:
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 320, "height": 640})
        page.set_default_timeout(120_000)
        page.goto(f"{url}/decisions")
        page.get_by_label("Name").fill(LONGEST)
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/decisions")
        place = page.get_by_role("button", name="Log out").bounding_box()
        assert place and place["x"] + place["width"] <= 320
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url(f"{url}/login")
        chromium.close()


def test_a_run_whose_deciding_score_is_undefined_has_a_page(url: str, project: page_project.Project) -> None:
    old = project.root / ".convoy/runs" / project.finished[0]
    record = json.loads((old / "record.json").read_text())
    run = "e" * 32
    scores = {name: value for name, value in record["scores"].items() if name != record["params"]["task"]["score"]}
    folder = old.with_name(run)
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(record | {"id": run, "scores": scores}))
    with browser(url, "viewer") as viewer:
        answer = viewer.get(f"/runs/{run}")
        assert answer.status_code == 200
        assert "ROC AUC, test split" in answer.text or "Average precision, test split" in answer.text
        assert viewer.get("/runs").status_code == 200


NAN = float("nan")
FEW = Comparison(
    score="Brier score",
    champion_name="version 3",
    images=4,
    units=4,
    challenger=0.1,
    champion=0.4,
    difference=0.3,
    low=NAN,
    high=NAN,
    lower=NAN,
    detectable=NAN,
    confidence=0.95,
    fixed=0,
    broken=0,
    p=1.0,
)
UNDEFINED = {"challenger": NAN, "champion": NAN, "difference": NAN}


@pytest.mark.parametrize(
    ("number", "changes", "difference", "words"),
    [
        ("20", {}, "+0.3000", "no difference: too few images"),
        ("21", UNDEFINED, "–", "nothing: Brier score is undefined on these images"),
        ("22", {"low": 0.3, "high": 0.3, "lower": 0.3, "detectable": 0.0}, "+0.3000", "every resample gives the same"),
    ],
)
def test_numbers_that_are_none_are_said_so(
    url: str, project: page_project.Project, number: str, changes: dict[str, float], difference: str, words: str
) -> None:
    verdict = Verdict(outcome="hold", reasons=["Held."], comparison=FEW.model_copy(update=changes))
    nothing = pa.schema(IMAGE_COLUMNS).empty_table()
    about = {"verdict": verdict, "images": nothing, "run": project.finished[0], "deadline": 0}
    case = make_case(make_version(number, model="parts"), **about)
    with browser(url, "viewer") as viewer:
        text = viewer.get(f"/decisions/{case.id}").text
        assert words in text and f"<dt>Difference</dt><dd>{difference}" in text and "nan" not in text
        assert ("Difference +" in text) == ("low" in changes)  # the drawing
        told = viewer.get(f"/api/decisions/{case.id}").json()["case"]["verdict"]["comparison"]
        assert told["images"] == 4 and (told["lower"] is None) == ("low" not in changes)


def test_no_part_of_an_address_does_harm(url: str, values: dict[str, str], project: page_project.Project) -> None:
    with browser(url, "viewer") as viewer:
        for method, path in addresses():
            if method != "GET":
                continue
            wrong = [filled(path, values, **{part: bad}) for part in re.findall(r"\{(\w+)\}", path) for bad in HOSTILE]
            for address in (*wrong, f"{filled(path, values)}?{QUERY}"):
                answer = viewer.get(address)
                assert answer.status_code in (200, 303, 404, 405, 409, 422), (address, answer.text[:300])
                assert "a" not in answer.cookies
                for leak in ("root:x:", "Traceback", str(project.root)):
                    assert leak not in answer.text, (address, leak)
                if "json" not in answer.headers.get("content-type", ""):
                    assert not re.search("<(script>alert|img src=x)", answer.text), address
    assert "Traceback" not in (Path(project.root) / "page.log").read_text()
