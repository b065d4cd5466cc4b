"""Decisions and champions on the page: a real server, a real browser, and requests that a browser would not send."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import page_project
import pytest
from decision_project import EVIL, UNSOUND, make_case, make_full_case, make_version
from playwright.sync_api import Browser, Page, expect, sync_playwright
from test_page_browser import CONTRAST, PATIENCE

from dashboard import judged
from pipeline.registry import cases, champion, decisions, ledger
from pipeline.registry.cases import Case
from pipeline.registry.decisions import By

MODEL = "parts"
CHROMIUM = "/usr/bin/chromium"
NOBODY = "http://127.0.0.1:9"
"""Where MLflow is said to be: making a store of its own takes longer than these tests."""
REASON = f"Fewer wrong bolts. {EVIL}"
needs_browser = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Debian's chromium: apt-get install it")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[page_project.Project]:
    """A project with runs and champions, which is the current folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PREFECT_", "CONVOY_P"))]:
            patch.delenv(name)
        found = page_project.make(tmp_path_factory.mktemp("page") / "project", runs=8)
        patch.chdir(found.root)
        yield found


@pytest.fixture(scope="module")
def url(project: page_project.Project) -> Iterator[str]:
    with page_project.serve(project.root, MLFLOW_TRACKING_URI=NOBODY) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        expect.set_options(timeout=PATIENCE)
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab whose script errors, and whose breaches of the page's policy, are failures."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    found = context.new_page()
    found.set_default_timeout(PATIENCE)
    trouble: list[str] = []
    found.on("pageerror", lambda error: trouble.append(str(error)))
    found.on("console", lambda line: trouble.append(line.text) if "Content Security Policy" in line.text else None)
    found.on("dialog", lambda dialog: trouble.append(dialog.message))
    yield found
    context.close()
    assert trouble == []


numbers = iter(range(50, 1000))


def new_case(project: page_project.Project, **changes: Any) -> Case:
    """A case about a new version, against the champion of the moment."""
    version = make_version(str(next(numbers)), model=MODEL)
    run = changes.pop("run", project.finished[-1])
    return make_full_case(project.root, project.dataset, version, run=run, **changes)


def reigning() -> str:
    found = champion.current(MODEL)
    assert found
    return found.version.version


def refusals() -> list[str]:
    return [entry.why for entry in ledger.history(None, ("refuse",))]


@needs_browser
def test_a_person_looks_and_approves(project: page_project.Project, url: str, page: Page) -> None:
    case = new_case(project)
    page.goto(f"{url}/decisions")
    expect(page.get_by_role("link", name="Decisions (1 waiting)")).to_be_visible()
    page.get_by_role("link", name="Look and decide").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"version {case.challenger.version} beside version")
    expect(page.locator("body")).to_contain_text(f"Names may be {EVIL}.")  # as text
    broken = page.get_by_role("link", name=re.compile("^Breaks"))
    broken.click()
    pictures = page.locator(".pictures img")
    expect(pictures.first).to_have_js_property("complete", True)
    expect(pictures.first).not_to_have_js_property("naturalWidth", 0)
    page.get_by_label("Reason").fill(REASON)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", name=re.compile("^Approved by "))).to_be_visible()
    assert page.title() != "owned"
    assert reigning() == case.challenger.version
    entry = ledger.history(MODEL)[-1]
    assert (entry.via, entry.why, entry.case) == ("page", REASON, case.id)
    page.goto(f"{url}/champion")
    expect(page.locator(".timeline li").first).to_contain_text(REASON)
    expect(page.locator(".timeline li").first).to_contain_text("in use")


@needs_browser
def test_the_keyboard_alone_rejects(project: page_project.Project, url: str, page: Page) -> None:
    case, before = new_case(project), reigning()
    page.goto(f"{url}/decisions/{case.id}")
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.innerText.trim()"))
        if reached[-1] == "why":
            break
    assert reached[0] == "Skip to the content"
    page.keyboard.type("It confuses nuts and washers")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText").strip() == "Reject"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=re.compile("^Rejected by "))).to_be_visible()
    assert reigning() == before
    assert cases.standing(case.id).state == "rejected"


@needs_browser
def test_silence_past_the_limit_is_a_rejection(project: page_project.Project, url: str, page: Page) -> None:
    for seconds in (5, 20, 80):  # a busy machine shows it after its limit, and then there is no button any more
        case = new_case(project, deadline=time.time_ns() // 1_000_000 + 1000 * seconds)
        page.goto(f"{url}/decisions/{case.id}")
        if page.get_by_role("button", name="Approve").is_visible():
            break
    deadline = time.monotonic() + 240
    while cases.standing(case.id).decision is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    page.get_by_label("Reason").fill("Sorry, late")
    page.get_by_role("button", name="Approve").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("That was refused, and nothing was changed")
    expect(alert).to_contain_text("nobody was first: version")
    page.goto(f"{url}/decisions/{case.id}")
    expect(page.get_by_role("heading", name="Rejected by nobody")).to_be_visible()
    expect(page.locator("body")).to_contain_text("silence is a no")


@needs_browser
def test_going_back_takes_a_reason_and_a_second(project: page_project.Project, url: str, page: Page) -> None:
    for why in ("new", "newer"):
        decisions.approve(new_case(project).id, By("ada", "command"), why)
    older, newer = (entry.to_version for entry in ledger.history(MODEL)[-2:])
    page.goto(f"{url}/champion?model={MODEL}")
    page.get_by_label("Version", exact=True).select_option(older)
    page.get_by_label("Reason").fill("The new one breaks gaskets")
    page.get_by_role("button", name="Roll back").click()
    expect(page.locator(".timeline li").first).to_contain_text(f"Rolled back to version {older}")
    assert reigning() == older
    # somebody else moves it while the form is open
    page.get_by_label("Reason").fill("And back")
    decisions.rollback(MODEL, By("bob", "command"), "no", to=newer)
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("alert")).to_contain_text("was moved meanwhile: bob put version")
    assert reigning() == newer


@needs_browser
def test_what_changed_after_it_was_shown_is_refused(project: page_project.Project, url: str, page: Page) -> None:
    case = new_case(project)
    page.goto(f"{url}/decisions/{case.id}")
    decisions.approve(new_case(project).id, By("bob", "command"), "quicker")
    page.get_by_label("Reason").fill("looks good")
    page.get_by_role("button", name="Approve").click()
    # the page may have closed the case already, which now compares with a champion of the past
    expect(page.get_by_role("alert")).to_contain_text(re.compile("What you saw has changed since|nobody was first"))
    assert reigning() != case.challenger.version


@needs_browser
def test_what_the_gate_has_rejected_since_has_no_button(project: page_project.Project, url: str, page: Page) -> None:
    case = new_case(project, deadline=0)
    again = make_case(case.challenger, outcome="reject", deadline=0, dataset="f" * 64)
    page.goto(f"{url}/decisions/{case.id}")
    expect(page.get_by_role("heading", name="The gate has rejected the same files since")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    expect(page.get_by_role("link", name=again.id)).to_have_attribute("href", f"/decisions/{again.id}")


@needs_browser
@pytest.mark.parametrize("path", ["/decisions", "/champion", "/decisions/CASE"])
def test_a_phone_scrolls_down_only(project: page_project.Project, url: str, browser: Browser, path: str) -> None:
    case = new_case(project)
    context = browser.new_context(viewport={"width": 375, "height": 740}, has_touch=True, is_mobile=True)
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE)
    tab.goto(url + path.replace("CASE", case.id))
    width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert tab.evaluate(width) <= 0
    context.close()


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_a_decision_stands_out(
    project: page_project.Project, url: str, browser: Browser, scheme: Any
) -> None:
    decisions.reject(new_case(project).id, By("bob", "page"), REASON)
    case, tab = new_case(project), browser.new_page(color_scheme=scheme)
    tab.set_default_timeout(PATIENCE)
    for path in ("/decisions", f"/decisions/{case.id}", f"/champion?model={MODEL}"):
        tab.goto(url + path)
        assert tab.evaluate(CONTRAST) == [], path
    tab.close()


@pytest.fixture
def visitor(url: str) -> Iterator[httpx.Client]:
    """As a browser's tab asks: with the cookie, and the headers of a form of this page."""
    headers = {"Origin": url, "Sec-Fetch-Site": "same-origin", "Connection": "close"}
    with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
        yield client


def form(visitor: httpx.Client, case: Case, decision: str = "approve") -> dict[str, str]:
    """What the form on the page of the case would send."""
    text = visitor.get(f"/decisions/{case.id}").text
    hidden = dict(re.findall(r'<input type="hidden" name="(token|binding)" value="([^"]+)">', text))
    return {**hidden, "why": "looks right", "decision": decision}


def test_the_form_alone_works(project: page_project.Project, visitor: httpx.Client) -> None:
    case = new_case(project)
    answer = visitor.post(f"/decisions/{case.id}", data=form(visitor, case))
    assert (answer.status_code, answer.headers["location"]) == (303, f"/decisions/{case.id}")
    assert reigning() == case.challenger.version


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"method": "GET"}, 200),
        ({"method": "PUT"}, 405),
        ({"method": "DELETE"}, 405),
        ({"without": "token"}, 403),
        ({"token": "x" * 80}, 403),
        ({"headers": {"Origin": "https://stranger.example"}}, 403),
        ({"headers": {"Origin": "null"}}, 403),
        ({"headers": {"Host": "stranger.example"}}, 403),
        ({"headers": {"Sec-Fetch-Dest": "iframe"}}, 403),
        ({"headers": {"Content-Type": "text/plain"}}, 415),
        ({"without": "cookie"}, 403),
    ],
    ids=str,
)
def test_forged_requests_change_nothing_and_leave_an_entry(
    project: page_project.Project, visitor: httpx.Client, request_: dict[str, Any], status: int
) -> None:
    case, before, noted = new_case(project), reigning(), len(refusals())
    data = form(visitor, case)
    data = {key: value for key, value in data.items() if key != request_.get("without")} | {
        key: value for key, value in request_.items() if key == "token"
    }
    if request_.get("without") == "cookie":
        visitor.cookies.clear()
    method = request_.get("method", "POST")
    headers = request_.get("headers", {})
    body = {"params": data} if method == "GET" else {"data": data}
    if headers.get("Content-Type"):
        body = {"content": "&".join(f"{key}={value}" for key, value in data.items())}
    answer = visitor.request(method, f"/decisions/{case.id}", headers=headers, **body)
    assert answer.status_code == status, answer.text
    assert reigning() == before
    assert cases.standing(case.id).state == "waiting"
    if method != "GET":  # which only looks: nothing in its query is a decision
        assert len(refusals()) == noted + 1
        assert f"{method} /decisions/{case.id} from 127.0.0.1" in refusals()[-1]


def test_a_form_is_sent_once(project: page_project.Project, visitor: httpx.Client) -> None:
    case = new_case(project)
    data = form(visitor, case, "reject")
    assert visitor.post(f"/decisions/{case.id}", data=data).status_code == 303
    again = visitor.post(f"/decisions/{case.id}", data=data)
    assert again.status_code == 403
    assert "from 127.0.0.1" in refusals()[-1]


@pytest.mark.parametrize("way", ["page", "rollback by GET"])
def test_a_way_that_only_changes_is_not_there_for_looking(visitor: httpx.Client, way: str) -> None:
    noted = len(refusals())
    answer = visitor.get(f"/champion/{MODEL}/rollback", params={"to": "1", "epoch": "1", "why": way})
    assert answer.status_code == 405
    assert len(refusals()) == noted + 1


def test_what_may_not_be_approved_has_no_button_and_no_way_round(
    project: page_project.Project, visitor: httpx.Client
) -> None:
    before = reigning()
    for case in (
        make_case(make_version(str(next(numbers)), model=MODEL), checks=UNSOUND),
        make_case(make_version(str(next(numbers)), model=MODEL), outcome="reject"),
    ):
        token = form(visitor, new_case(project))  # of another case
        assert 'name="decision"' not in visitor.get(f"/decisions/{case.id}").text
        assert visitor.post(f"/decisions/{case.id}", data=token).status_code == 403  # a token for another path
    assert visitor.get("/decisions/" + "f" * 16).status_code == 404
    assert reigning() == before


def test_a_champion_in_a_remote_store_is_not_fetched_by_a_look(
    project: page_project.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)  # other tests of this process have loaded it
    far = make_version("1", model="far").model_copy(update={"location": "models:/m-0"})
    ledger.append(cases.act("promote", make_case(far), "ada", "command", "better"), after=0)
    assert judged.trouble(ledger.history("far")[-1]) == ""
    assert "mlflow" not in sys.modules


def test_programs_decide_by_bearer_token(project: page_project.Project, tmp_path: Path) -> None:
    from flows.accounts import TOKEN, digest

    accounts = tmp_path / "accounts"
    accounts.write_text(f"ci:approver:{TOKEN}{digest('secret-of-ci')}\nbot:viewer:{TOKEN}{digest('secret-of-bot')}\n")
    accounts.chmod(0o600)
    with page_project.serve(project.root, CONVOY_ACCOUNTS_FILE=str(accounts), MLFLOW_TRACKING_URI=NOBODY) as address:
        with httpx.Client(base_url=address, timeout=120) as client:
            case, unsound = new_case(project), make_case(make_version(str(next(numbers)), model=MODEL), checks=UNSOUND)
            path = f"/api/decisions/{case.id}"
            approver, viewer = ({"Authorization": f"Bearer secret-of-{name}"} for name in ("ci", "bot"))
            assert client.get("/api/decisions").status_code == 401
            assert client.get("/decisions").status_code == 303  # to log in
            seen = client.get(path, headers=viewer).json()
            assert (seen["state"], seen["version"]) == ("waiting", case.challenger.version)
            order = {"decision": "approve", "why": "all tests pass", "binding": seen["binding"]}
            assert client.post(path, json=order).status_code == 401
            assert client.post(path, json=order, headers=viewer).status_code == 403
            stale = client.post(path, json=order | {"binding": "0" * 64}, headers=approver)
            assert (stale.status_code, stale.json()["error"][:30]) == (409, "What you saw has changed since")
            refused = client.post(
                f"/api/decisions/{unsound.id}",
                json=order | {"binding": cases.binding(unsound.id)},
                headers=approver,
            )
            assert refused.status_code == 409
            assert "fails its infrastructure check" in refused.json()["error"]
            done = client.post(path, json=order, headers=approver)
            assert done.status_code == 200, done.text
            assert (done.json()["who"], done.json()["via"]) == ("ci", "api")
            line = client.get(f"/api/champions/{MODEL}", headers=viewer).json()
            assert line["champion"]["to_version"] == reigning() == case.challenger.version
            back = {"to": line["moves"][1]["to_version"], "epoch": line["champion"]["epoch"], "why": "drill"}
            assert client.post(f"/api/champions/{MODEL}/rollback", json=back, headers=approver).status_code == 200
            assert client.post(f"/api/champions/{MODEL}/rollback", json=back, headers=approver).status_code == 409
    assert ledger.verify() is None
