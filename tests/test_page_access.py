"""Who gets into the page: real requests to a real server, and the words and notes of every refusal."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import pytest
import uvicorn
from argon2 import PasswordHasher
from fastapi import FastAPI, Form
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from dashboard import access as door
from dashboard.access import Access, Approver, Person, Refusal, Refused, Role, Viewer, form_token, guard, protect
from dashboard.access.answers import local
from dashboard.access.checks import takes
from dashboard.access.limits import Limit, neighbourhood
from dashboard.access.refusals import LEFT_OUT, clipped
from dashboard.access.sessions import Sessions
from dashboard.access.visit import Visit
from dashboard.page import templates
from dashboard.views import login
from flows.accounts import TOKEN, digest

CHROMIUM = shutil.which("chromium")
APPROVE = "/decisions/7/approve"
PASSWORDS = {"ada": "correct horse battery", "vic": "only here to look"}
BEARER = "convoy_a-token-for-programs"
CHEAP = PasswordHasher(time_cost=1, memory_cost=7168, parallelism=1)
LINES = [
    "# the team",
    f"ada:approver:{CHEAP.hash(PASSWORDS['ada'])}",
    f"vic:viewer:{CHEAP.hash(PASSWORDS['vic'])}",
    f"ci:approver:{TOKEN}{digest(BEARER)}",
    f"eye:viewer:{TOKEN}{digest('convoy_another')}",
]
PATIENCE = 120.0
"""Seconds for an answer, on a busy machine."""
ACCOUNTS = {"CONVOY_ACCOUNTS": "\n".join(LINES)}
NO_TOKEN = "This request has no form token, or several. Load the page again."
WRONG_TOKEN = "This form token is not one of this session and address. Load the page again."
REPLAY = "This form was sent before. Load the page again."
NOBODY = "Nobody is logged in."
NO_ORIGIN = "This request does not say that this page sent it: it has no Origin."


PAGES = templates({})


class Page(SimpleNamespace):
    """A small app behind the guard, served on loopback."""

    url: str
    notes: list[Refusal]
    done: list[str]
    now: float

    def fresh(self) -> Page:
        """As if it had just been started."""
        shared = self.guard.door
        for kept in (
            self.notes,
            self.done,
            shared.sessions.living,
            shared.logins.clients.tries,
            shared.logins.names.tries,
        ):
            kept.clear()
        self.now, shared.notes.until = time.time(), 0.0
        return self

    def browser(self, **headers: str) -> httpx.Client:
        """A browser: it keeps cookies, and says from where it posts."""
        here = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        # no certificates to be read
        return httpx.Client(base_url=self.url, headers=here | headers, verify=False, timeout=PATIENCE)

    def logged_in(self, name: str = "ada", password: str = "") -> httpx.Client:
        """A browser whose person has logged in."""
        answer = self.browser().post("/login", data={"name": name, "password": password or PASSWORDS[name]})
        assert answer.status_code == 303, answer.text
        browser = self.browser()
        browser.cookies.update(answer.cookies)
        return browser

    def refused(self, answer: httpx.Response, status: int, words: str, who: str = "nobody") -> None:
        """Assert status and words of an answer, that a note was left, and that nothing was changed."""
        assert (answer.status_code, self.done) == (status, [])
        assert words in unescape(
            answer.text if "json" not in answer.headers["content-type"] else answer.json()["error"]
        )
        request = answer.request
        path = request.url.path
        assert self.notes.pop() == Refusal(who, "127.0.0.1", request.method, path, words)
        assert self.notes == []


def app_of(page: Page) -> FastAPI:
    """A page to look at, an action, the same for programs, and one that cuts itself off."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(login.router)

    @app.get("/")
    def look(request: Request, person: Viewer, path: str = APPROVE, times: int = 1) -> Response:
        tokens = " ".join(form_token(request, path) for _ in range(times))
        return HTMLResponse(f"{person.name} {person.role} {person.via}\n{tokens}")

    @app.post(APPROVE)
    def approve(person: Approver, why: Annotated[str, Form()] = "") -> dict[str, str]:
        page.done.append(f"{person.name}: {why}")
        return {"by": person.name}

    @app.post("/api" + APPROVE)
    def approve_by_program(person: Approver, body: dict[str, str]) -> dict[str, str]:
        page.done.append(f"{person.name}: {body['why']}")
        return {"by": person.name, "via": person.via}

    @app.get("/api/state")
    def state(person: Viewer) -> dict[str, str]:
        return {"name": person.name}

    @app.get("/forgotten")
    def forgotten() -> str:
        return "no dependency says who may read this"

    @app.get("/report")
    def report(person: Viewer) -> Response:
        return HTMLResponse("report", headers={"Content-Security-Policy": "sandbox", "Cache-Control": "private"})

    @app.post("/late")
    def late(person: Approver) -> None:
        raise Refused(409, "Somebody was first.")

    @app.get("/health")
    def health() -> str:
        return "up"

    return app


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., Page]]:
    """Serves a small app with the given variables until the last test of this file ends."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def started(**environ: str) -> Page:
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        page = Page(url=f"http://127.0.0.1:{port}", port=port, notes=[], done=[], now=time.time())
        page.access = Access.read("127.0.0.1", port, environ)
        page.guard = protect(app_of(page), page.access, lambda note: page.notes.append(note), PAGES, lambda: page.now)
        server = uvicorn.Server(uvicorn.Config(page.guard, log_level="warning", **door.SERVING))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        running.append((server, thread))
        return page

    yield started
    for server, thread in running:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def pages(serve: Callable[..., Page]) -> dict[str, Page]:
    """One of each kind, for all tests."""
    origin = {"CONVOY_PAGE_ORIGIN": "https://Convoy.example/"}
    return {"alone": serve(), "team": serve(**ACCOUNTS), "public": serve(**ACCOUNTS, **origin)}


@pytest.fixture
def alone(pages: dict[str, Page]) -> Page:
    """On loopback, without accounts."""
    return pages["alone"].fresh()


@pytest.fixture
def team(pages: dict[str, Page]) -> Page:
    """On loopback, with accounts."""
    return pages["team"].fresh()


@pytest.fixture
def public(pages: dict[str, Page]) -> Page:
    """Behind a proxy on this machine, with accounts."""
    return pages["public"].fresh()


def token(browser: httpx.Client, path: str = APPROVE) -> str:
    answer = browser.get("/", params={"path": path})
    assert answer.status_code == 200, answer.text
    found: str = answer.text.split("\n")[1]
    return found


# ---- it works -----------------------------------------------------------------------------------------------


def test_alone_on_this_machine_the_user_of_the_system_decides(alone: Page) -> None:
    with alone.browser() as browser:
        looked = browser.get("/")
        name, role, via = looked.text.split("\n")[0].split(" ")
        assert (role, via) == ("approver", "loopback") and name == alone.access.user
        cookie = looked.headers["set-cookie"]
        assert re.fullmatch(rf"convoy-{alone.port}=[\w-]{{43}}; HttpOnly; SameSite=Strict; Path=/", cookie)
        done = browser.post(APPROVE, data={"why": "better & smaller", "token": looked.text.split("\n")[1]})
        assert done.status_code == 200 and alone.done == [f"{name}: better & smaller"]
        assert "set-cookie" not in browser.get("/").headers
    assert alone.notes == []


def test_a_token_in_the_header_is_as_good(alone: Page) -> None:
    with alone.browser() as browser:
        shown = token(browser)
        assert browser.post(APPROVE, data={"why": "x"}, headers={"X-Convoy-Token": shown}).status_code == 200


def test_a_path_with_signs_that_are_quoted_has_its_token(alone: Page) -> None:
    with alone.browser() as browser:
        browser.cookies.update(browser.get("/").cookies)
        answer = browser.post("/a%20b", data={"token": token(browser, "/a%20b")})
        assert answer.status_code == 404  # past the guard


def test_no_cookie_no_origin_but_the_browser_says_same_origin(alone: Page) -> None:
    with httpx.Client(base_url=alone.url, headers={"Sec-Fetch-Site": "same-origin"}, timeout=PATIENCE) as browser:
        assert browser.post(APPROVE, data={"token": token(browser)}).status_code == 200


def test_log_in_decide_log_out(team: Page) -> None:
    with team.browser() as browser:
        asked = browser.get("/?path=/x&times=2")
        assert asked.status_code == 303
        assert asked.headers["location"] == "/login?next=%2F%3Fpath%3D%2Fx%26times%3D2"
        form = browser.get(asked.headers["location"])
        assert 'name="next" value="/?path=/x&amp;times=2"' in form.text and "set-cookie" not in form.headers
        fields = {"name": "ada", "password": PASSWORDS["ada"], "next": "/?path=/x&times=2"}
        let_in = browser.post("/login", data=fields)
        assert (let_in.status_code, let_in.headers["location"]) == (303, "/?path=/x&times=2")
        assert browser.get("/").text.startswith("ada approver session\n")
        assert browser.post(APPROVE, data={"token": token(browser)}).json() == {"by": "ada"}
        ((name, value),) = browser.cookies.items()
        out = browser.post("/logout", data={"token": token(browser, "/logout")})
        assert out.headers["location"] == "/login" and "Max-Age=0" in out.headers["set-cookie"]
        assert not browser.cookies
        assert browser.get("/", headers={"Cookie": f"{name}={value}"}).status_code == 303, (
            "the server has forgotten it too"
        )
    assert team.notes == [] and team.done == ["ada: "]


def test_programs_come_with_a_token(team: Page) -> None:
    with httpx.Client(base_url=team.url, headers={"Authorization": f"Bearer {BEARER}"}, timeout=PATIENCE) as program:
        done = program.post("/api" + APPROVE, json={"why": "nightly"})
        assert done.json() == {"by": "ci", "via": "bearer"} and team.done == ["ci: nightly"]
        assert program.get("/api/state").json() == {"name": "ci"}
        assert program.get("/").status_code == 303, "elsewhere people log in"
        assert "set-cookie" not in done.headers
    assert team.notes == []


def test_every_answer_tells_the_browser_what_it_may(team: Page) -> None:
    answers = [team.browser().get(path) for path in ("/login", "/health", "/nothing", "/")]
    answers += [team.browser().post(APPROVE), httpx.get(team.url, headers={"Host": "evil.example"}, timeout=PATIENCE)]
    answers += [team.logged_in().get("/nothing")]
    for answer in answers:
        found = answer.headers
        assert found["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        assert found["x-frame-options"] == "DENY" and found["x-content-type-options"] == "nosniff"
        assert found["referrer-policy"] == "same-origin" and found["cache-control"] == "no-store"
        assert found["cross-origin-opener-policy"] == found["cross-origin-resource-policy"] == "same-origin"
        assert "camera=()" in found["permissions-policy"] and "server" not in found
    report = team.logged_in().get("/report").headers
    assert report["content-security-policy"] == "sandbox" and report["cache-control"] == "private"
    assert report["x-frame-options"] == "DENY"


# ---- what is refused: on loopback, where nobody has to log in -----------------------------------------------


def forged(page: Page, **changes: Any) -> httpx.Response:
    """A request that would be right, but for `changes`; with a fresh token, and headers that are None left out."""
    with page.browser() as browser:
        shown = token(browser)
        headers = {"Origin": page.url, "Content-Type": "application/x-www-form-urlencoded"}
        headers |= changes.pop("headers", {})
        del browser.headers["Origin"], browser.headers["Sec-Fetch-Site"]
        method = changes.pop("method", "POST")
        content = changes.pop("content", f"token={shown}&why=x")
        present = {key: value for key, value in headers.items() if value is not None}
        return browser.request(method, changes.pop("path", APPROVE), content=content, headers=present, **changes)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"content": "why=x"}, 403, NO_TOKEN),
        ({"content": ""}, 403, NO_TOKEN),
        ({"content": "token=a&token=b"}, 403, NO_TOKEN),
        ({"content": "token=%FF%00"}, 403, WRONG_TOKEN),
        ({"content": f"token={'A' * 72}"}, 403, WRONG_TOKEN),
        (
            {"headers": {"Origin": "https://evil.example"}},
            403,
            "This request was sent by 'https://evil.example', not by this page.",
        ),
        ({"headers": {"Origin": "null"}}, 403, "This request was sent by 'null', not by this page."),
        ({"headers": {"Origin": None}}, 403, NO_ORIGIN),
        ({"headers": {"Origin": None, "Sec-Fetch-Site": "same-site"}}, 403, NO_ORIGIN),
        ({"headers": {"Origin": None, "Sec-Fetch-Site": "cross-site"}}, 403, NO_ORIGIN),
        ({"headers": {"Sec-Fetch-Dest": "iframe"}}, 403, "This page is not shown inside another one."),
        (
            {"headers": {"Content-Type": "text/plain"}},
            415,
            "This request has text/plain; application/x-www-form-urlencoded is expected.",
        ),
        (
            {"headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            415,
            "This request has multipart/form-data; boundary=x; application/x-www-form-urlencoded is expected.",
        ),
        (
            {"headers": {"Content-Type": "application/json"}},
            415,
            "This request has application/json; application/x-www-form-urlencoded is expected.",
        ),
        (
            {"headers": {"Content-Type": None}},
            415,
            "This request has no content type; application/x-www-form-urlencoded is expected.",
        ),
        ({"method": "GET"}, 405, "GET does nothing at this address, which takes POST."),
        ({"method": "HEAD"}, 405, ""),
        ({"method": "PUT"}, 405, "PUT does nothing at this address, which takes POST."),
        ({"method": "OPTIONS"}, 405, "OPTIONS does nothing at this address, which takes POST."),
        ({"method": "DELETE", "path": "/"}, 405, "DELETE does nothing at this address, which takes GET."),
        ({"content": "x" * 70_000}, 413, "This request is larger than 64 KiB."),
        ({"content": iter([b"x" * 40_000, b"x" * 40_000])}, 413, "This request is larger than 64 KiB."),
        (
            {"path": "/api" + APPROVE, "headers": {"Content-Type": "application/json"}, "content": "{}"},
            401,
            "A change under /api/ needs a bearer token.",
        ),
    ],
)
def test_forged_requests_change_nothing(alone: Page, changes: dict[str, Any], status: int, words: str) -> None:
    answer = forged(alone, **changes)
    if answer.request.method == "HEAD":
        assert answer.status_code == status and alone.done == []
        assert [note.reason for note in alone.notes] == ["HEAD does nothing at this address, which takes POST."]
    else:
        alone.refused(answer, status, words, alone.access.user)
    assert answer.status_code != 405 or answer.headers["allow"]
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1.evil.example"])
def test_a_name_that_points_here_is_not_answered(alone: Page, host: str) -> None:
    words = f"This page does not answer to the host '{host}'."
    alone.refused(forged(alone, headers={"Host": host, "Origin": f"http://{host}"}), 403, words)
    looked = httpx.get(alone.url, headers={"Host": host}, timeout=PATIENCE)
    assert looked.status_code == 403 and alone.notes == [], "looking is no change"
    assert "set-cookie" not in looked.headers


def test_localhost_is_a_name_of_this_machine_but_another_origin(alone: Page) -> None:
    localhost = f"http://localhost:{alone.port}"
    assert forged(alone, headers={"Host": f"LOCALHOST:{alone.port}", "Origin": localhost}).status_code == 200
    alone.done.clear()
    words = f"This request was sent by '{localhost}', not by this page."
    alone.refused(forged(alone, headers={"Origin": localhost}), 403, words, alone.access.user)


def test_a_form_is_sent_once_to_one_address_by_one_session_within_the_hour(alone: Page) -> None:
    me = alone.access.user
    with alone.browser() as browser, alone.browser() as other:
        shown = token(browser)
        assert browser.post(APPROVE, data={"token": shown}).status_code == 200
        alone.done.clear()
        alone.refused(browser.post(APPROVE, data={"token": shown}), 403, REPLAY, me)
        alone.refused(browser.post(APPROVE, data={"token": token(browser, "/late")}), 403, WRONG_TOKEN, me)
        token(other)
        alone.refused(other.post(APPROVE, data={"token": token(browser)}), 403, WRONG_TOKEN, me)
        with alone.browser() as blank:
            words = "The session has ended, or this request has none. Load the page again."
            alone.refused(blank.post(APPROVE, data={"token": token(browser)}), 403, words, me)
        shown = token(browser)
        for _ in range(3):
            alone.now += 1200
            browser.get("/")  # the session goes on
        words = "This form is older than an hour. Load the page again."
        alone.refused(browser.post(APPROVE, data={"token": shown}), 403, words, me)


def test_a_refusal_begins_no_session(alone: Page) -> None:
    host = f"127.0.0.1:{alone.port}".encode()
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [(b"host", host)]}
    visit = Visit(alone.guard.door, scope)
    visit.identify()
    visit.refused = True
    assert visit.form_token("/x") == "" and visit.cookie is None and not alone.guard.door.sessions.living
    visit.refused = False
    assert visit.form_token("/x") and visit.cookie


def test_two_that_are_sent_at_once_count_as_one(alone: Page) -> None:
    with alone.browser() as browser:
        shown = token(browser)
        threads = [threading.Thread(target=lambda: browser.post(APPROVE, data={"token": shown})) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(alone.done) == 1 and [note.reason for note in alone.notes] == [REPLAY] * 7


def test_a_session_sends_a_thousand_forms_an_hour(alone: Page) -> None:
    with alone.browser() as browser:
        shown = token(browser)
        (session,) = alone.guard.door.sessions.living.values()
        session.used |= {str(number).encode(): int(alone.now) + 60 for number in range(1000)}
        words = "This session has sent 1000 forms within an hour. Try again later."
        alone.refused(browser.post(APPROVE, data={"token": shown}), 429, words, alone.access.user)
        alone.now += 61
        assert browser.post(APPROVE, data={"token": shown}).status_code == 200
        assert len(session.used) == 1


def test_a_view_refuses_as_well(alone: Page) -> None:
    with alone.browser() as browser:
        answer = browser.post("/late", data={"token": token(browser, "/late")})
        alone.refused(answer, 409, "Somebody was first.", alone.access.user)


def test_a_body_that_does_not_come(alone: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PATIENCE", 0.2)
    with socket.create_connection(("127.0.0.1", alone.port)) as slow:
        head = f"POST {APPROVE} HTTP/1.1\r\nHost: 127.0.0.1:{alone.port}\r\nOrigin: {alone.url}\r\n"
        slow.sendall(f"{head}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nwhy".encode())
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert [note.reason for note in alone.notes] == ["The rest of this request did not come within 0.2 s."]


@pytest.mark.parametrize("dest", ["iframe", "frame", "embed", "object"])
def test_the_page_is_not_framed(alone: Page, dest: str) -> None:
    answer = alone.browser(**{"Sec-Fetch-Dest": dest}).get("/")
    assert answer.status_code == 403 and "This page is not shown inside another one." in answer.text


def test_another_site_links_but_loads_nothing(alone: Page) -> None:
    for site in ("cross-site", "same-site"):
        answer = alone.browser(**{"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}).get("/")
        assert answer.status_code == 403 and "may link to this page, but not load from it." in answer.text
        assert "set-cookie" not in answer.headers
    with alone.browser(**{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}) as browser:
        answer = browser.get('/?path=/x"><b>')
        assert answer.status_code == 200 and "set-cookie" not in answer.headers
        assert '<meta http-equiv="refresh" content="0; url=/?path=/x%22%3E%3Cb%3E">' in answer.text
        assert 'content="0; url=/"' in browser.get("//evil.example/").text


# ---- with accounts ------------------------------------------------------------------------------------------


def test_nobody_does_anything_without_logging_in(team: Page) -> None:
    team.refused(team.browser().post(APPROVE, data={"token": "x"}), 401, NOBODY)
    for path in ("/forgotten", "/nothing", "/report"):
        assert team.browser().get(path).headers["location"] == f"/login?next=%2F{path[1:]}"
    assert team.browser().get("/health").status_code == 200
    assert team.browser().get("/api/state").json() == {"error": NOBODY}
    assert team.browser(Accept="application/json").get("/").json() == {"error": NOBODY}
    fragment = team.browser(**{"HX-Request": "true", "HX-Current-URL": f"{team.url}/runs?page=2"}).get("/")
    assert fragment.status_code == 401 and fragment.text == f'<p class="refused" role="alert">{NOBODY}</p>'
    assert fragment.headers["hx-redirect"] == "/login?next=%2Fruns%3Fpage%3D2"
    assert team.notes == []


def test_a_viewer_looks_and_logs_out(team: Page) -> None:
    with team.logged_in("vic") as browser:
        assert browser.get("/").text.startswith("vic viewer session\n")
        words = "vic is a viewer: only an approver may change something."
        team.refused(browser.post(APPROVE, data={"token": token(browser)}), 403, words, "vic")
        assert browser.post("/logout", data={"token": "x"}).status_code == 403
        assert browser.post("/logout", data={"token": token(browser, "/logout")}).status_code == 303


def test_a_session_ends_when_idle_and_after_half_a_day(team: Page) -> None:
    words = "The session has ended: log in again."
    with team.logged_in() as browser:
        shown = token(browser)
        team.now += 3601
        team.refused(browser.post(APPROVE, data={"token": shown}), 401, words)
        assert browser.get("/").status_code == 303
    with team.logged_in() as browser:
        for _ in range(23):
            team.now += 1800
            assert browser.get("/").status_code == 200
        team.now += 1800
        team.refused(browser.post(APPROVE, data={"token": "x"}), 401, words)
    with team.logged_in() as browser:
        for _ in range(3):
            team.now += 1800  # a page that keeps itself fresh is not a person
            status = browser.get("/", headers={"HX-Request": "true"}).status_code
        assert status == 401


def test_log_in_gives_a_new_id_and_takes_none(team: Page) -> None:
    with team.browser() as browser:
        name = team.access.cookie
        browser.cookies.set(name, "chosen-by-somebody-else", domain="127.0.0.1", path="/")
        browser.post("/login", data={"name": "ada", "password": PASSWORDS["ada"]})
        first = {cookie.value for cookie in browser.cookies.jar}
        assert "chosen-by-somebody-else" not in first
        browser.post("/login", data={"name": "ada", "password": PASSWORDS["ada"]})
        second = {cookie.value for cookie in browser.cookies.jar}
        assert not first & second
        assert httpx.get(team.url, cookies={name: first.pop()}).status_code == 303, "the old one is over"
        tossed = f"{name}={second.pop()}; {name}=x"
        assert httpx.get(team.url, headers={"Cookie": tossed}).status_code == 303, "another page has set one, too"
        assert (
            httpx.get(f"{team.url}/login", params={"next": "/x"}, cookies=browser.cookies).headers["location"] == "/x"
        )


@pytest.mark.parametrize(("name", "who"), [("ada", "ada"), ("mallory", "nobody"), ("ci", "ci"), ("", "nobody")])
def test_name_and_password_must_match(team: Page, name: str, who: str) -> None:
    for password in ("wrong", "", BEARER):
        answer = team.browser().post("/login", data={"name": name, "password": password, "next": "//evil.example"})
        assert "set-cookie" not in answer.headers and 'name="next" value="/"' in answer.text
        team.refused(answer, 401, "Name and password do not match.", who)


def test_an_unknown_name_costs_as_much_as_a_known_one(team: Page) -> None:
    accounts = team.access.accounts

    def cost(name: str) -> float:
        began = time.process_time()
        for _ in range(4):
            assert accounts.with_password(name, "wrong") is None
        return time.process_time() - began

    rounds = [[cost(name) for name in ("ada", "mallory", "ci")] for _ in range(6)]
    known, unknown, program = map(min, zip(*rounds, strict=True))  # without what else the machine does
    assert known / 2 < unknown < known * 2 and known / 2 < program < known * 2


def test_one_address_tries_ten_times_in_five_minutes(team: Page) -> None:
    for _ in range(10):
        team.browser().post("/login", data={"name": "vic", "password": "wrong"})
    team.notes.clear()
    right = {"name": "ada", "password": PASSWORDS["ada"]}
    answer = team.browser().post("/login", data=right)
    assert answer.headers["retry-after"] == "300"
    team.refused(answer, 429, "Too many tries to log in. Try again in 300 s.", "ada")
    team.now += 299
    assert team.browser().post("/login", data=right).status_code == 429
    team.now += 1
    for _ in range(15):
        assert team.browser().post("/login", data=right).status_code == 303, "who gets it right may do so often"


def test_one_name_is_tried_thirty_times_whoever_does_it(public: Page) -> None:
    for number in range(30):
        headers = {"X-Forwarded-For": f"9.9.9.9, 203.0.113.{number}"}
        public.browser(**headers).post("/login", data={"name": "ada", "password": "wrong"})
    assert public.notes[-1].client == "203.0.113.29"
    fields = {"name": "ada", "password": PASSWORDS["ada"]}
    assert public.browser(**{"X-Forwarded-For": "198.51.100.1"}).post("/login", data=fields).status_code == 429
    fields = {"name": "vic", "password": PASSWORDS["vic"]}
    assert public.browser(**{"X-Forwarded-For": "198.51.100.1"}).post("/login", data=fields).status_code == 303


def test_log_in_is_guarded_like_everything_else(team: Page) -> None:
    fields = {"name": "ada", "password": PASSWORDS["ada"]}
    words = "This request was sent by 'https://evil.example', not by this page."
    team.refused(team.browser(Origin="https://evil.example").post("/login", data=fields), 403, words)
    team.refused(httpx.post(f"{team.url}/login", data=fields), 403, NO_ORIGIN)


def test_nobody_logs_in_where_there_are_no_accounts(alone: Page) -> None:
    words = "Nobody logs in here: this page has no accounts."
    alone.refused(alone.browser().post("/login", data={"name": "ada", "password": "x"}), 403, words)
    assert alone.browser().get("/login").headers["location"] == "/"


def test_programs_are_refused_too(team: Page) -> None:
    url = f"{team.url}/api{APPROVE}"

    def post(bearer: str, **changes: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {bearer}", **changes.pop("headers", {})}
        return httpx.post(url, headers=headers, timeout=PATIENCE, **({"json": {"why": "x"}} | changes))

    team.refused(post("convoy_wrong"), 401, "This bearer token is not known here.")
    team.refused(post("convoy_another"), 403, "eye is a viewer: only an approver may change something.", "eye")
    words = "This request was sent by 'https://evil.example', not by this page."
    team.refused(post(BEARER, headers={"Origin": "https://evil.example"}), 403, words, "ci")
    words = "This request has application/x-www-form-urlencoded; application/json is expected."
    team.refused(post(BEARER, json=None, data={"why": "x"}), 415, words, "ci")
    words = "A change under /api/ needs a bearer token."
    team.refused(team.logged_in().post(f"/api{APPROVE}", json={"why": "x"}), 401, words, "ada")
    elsewhere = httpx.post(team.url + APPROVE, data={"why": "x"}, headers={"Authorization": f"Bearer {BEARER}"})
    team.refused(elsewhere, 403, NO_ORIGIN)


# ---- behind a proxy -----------------------------------------------------------------------------------------


def test_behind_a_proxy_the_public_name_counts(public: Page) -> None:
    named = {"Host": "convoy.example", "Origin": "https://convoy.example"}
    fields = {"name": "ada", "password": PASSWORDS["ada"]}
    answer = public.browser(**named).post("/login", data=fields)
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(r"__Host-convoy=[\w-]{43}; HttpOnly; SameSite=Strict; Path=/; Secure", cookie)
    assert public.browser(Host="convoy.example", Origin="http://convoy.example").post("/login").status_code == 403
    forwarded = {"X-Forwarded-Host": "convoy.example", "Host": "evil.example"}
    assert public.browser(**forwarded).get("/login").status_code == 403
    assert public.browser(Host=f"127.0.0.1:{public.port}").get("/login").status_code == 200


def test_behind_a_proxy_with_https_nobody_is_sent_on_to_http(public: Page) -> None:
    here = f"127.0.0.1:{public.port}"
    for host, origin in (("convoy.example", "https://convoy.example"), (here, f"http://{here}")):
        named = {"Host": host, "Origin": origin}
        entered = public.browser(**named).post("/login", data={"name": "ada", "password": PASSWORDS["ada"]})
        cookie = entered.headers["set-cookie"].partition(";")[0]
        answer = public.browser(**named, Cookie=cookie).get("/report/")  # without the last slash it is there
        assert (answer.status_code, answer.headers["location"]) == (307, f"{origin}/report")


def test_without_one_nobody_is_believed_about_addresses(team: Page) -> None:
    team.browser(**{"X-Forwarded-For": "203.0.113.5"}).post("/login", data={"name": "ada", "password": "wrong"})
    assert team.notes[-1].client == "127.0.0.1"


# ---- in a browser --------------------------------------------------------------------------------------------


@pytest.fixture
def evil(alone: Page) -> Iterator[str]:
    """A foreign site with a link to the page and forms that it would like to send there."""
    action = f'method="post" action="{alone.url}{APPROVE}"'
    html = (
        f'<a id="link" href="{alone.url}/">look</a><form id="plain" {action}></form>'
        f'<form id="text" {action} enctype="text/plain"></form><iframe id="frame" src="{alone.url}/"></iframe>'
        f'<iframe sandbox="allow-forms allow-scripts" srcdoc=\'<form {action}></form><script>document.forms[0].submit()'
        "</script>'></iframe>"
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine")
def test_a_real_browser_comes_by_a_link_and_sends_no_form_of_a_foreign_site(alone: Page, evil: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_context().new_page()
        tab.set_default_timeout(1000 * PATIENCE)
        tab.goto(alone.url)
        (kept,) = alone.guard.door.sessions.living
        tab.goto(evil)
        tab.click("#link")
        tab.wait_for_url(f"{alone.url}/")
        tab.wait_for_selector("text=approver loopback")
        assert list(alone.guard.door.sessions.living) == [kept], "the link has cost nobody a session"
        for form in ("plain", "text"):
            tab.goto(evil)
            tab.wait_for_load_state()
            tab.evaluate(f"document.getElementById('{form}').submit()")
            tab.wait_for_selector("text=This request was sent by")
        browser.close()
    assert alone.done == [] and list(alone.guard.door.sessions.living) == [kept]
    reasons = {note.reason for note in alone.notes}
    foreign = f"This request was sent by '{evil}', not by this page."
    assert foreign in reasons and reasons <= {foreign, "This page is not shown inside another one."}


# ---- bounds -------------------------------------------------------------------------------------------------


def test_a_thousand_tokens_cost_no_memory(alone: Page) -> None:
    with alone.browser() as browser:
        browser.get("/", params={"times": 1000})
        tracemalloc.start()
        before = tracemalloc.take_snapshot()
        for _ in range(5):
            assert len(set(browser.get("/", params={"times": 1000}).text.split("\n")[1].split(" "))) == 1000
        after = tracemalloc.take_snapshot()
        tracemalloc.stop()
    ours = [tracemalloc.Filter(True, "*/dashboard/*")]
    grown = after.filter_traces(ours).compare_to(before.filter_traces(ours), "filename")
    assert sum(entry.size_diff for entry in grown) < 20_000
    (session,) = alone.guard.door.sessions.living.values()
    assert session.used == {}


def test_sessions_are_bounded_and_those_that_came_back_stay() -> None:
    now = [1000.0]
    sessions = Sessions(each=20, clock=lambda: now[0])
    ada, vic = Person("ada", Role.APPROVER, "session"), Person("vic", Role.VIEWER, "session")
    kept = sessions.start(ada)
    sessions.renew(kept)
    first = sessions.start(ada)
    for _ in range(100):
        now[0] += 1
        sessions.start(vic)
        sessions.start(ada)
    assert len(sessions.living) == 40 and sessions.find(kept.id) is kept and sessions.find(first.id) is None
    for number in range(1000):
        sessions.start(Person(f"p{number}", Role.VIEWER, "session"))
    assert len(sessions.living) == 500 and sessions.find(kept.id)
    assert "id" not in repr(kept) and "secret" not in repr(kept)


def test_a_limit_is_bounded_and_not_flushed_by_new_keys() -> None:
    now = [1000.0]
    limit = Limit(2, 60, keys=10, clock=lambda: now[0])
    assert [limit.take("a"), limit.take("a"), limit.take("a")] == [0, 0, 60]
    refused = sum(limit.take(f"key {number}") > 0 for number in range(100))
    assert refused == 89 and len(limit.tries) <= 11 and limit.take("a") == 60
    now[0] += 60
    assert limit.take("a") == limit.take("new") == 0 and len(limit.tries) == 2
    limit.forgive("a")
    assert [limit.take("a"), limit.take("a"), limit.take("a") > 0] == [0, 0, True]


def test_neighbours_of_an_ipv6_network_are_one() -> None:
    assert neighbourhood("2001:db8::1") == neighbourhood("2001:db8::ffff:1") != neighbourhood("2001:db8:0:1::1")
    assert neighbourhood("::ffff:192.0.2.1") == "192.0.2.1" == neighbourhood("192.0.2.1")


def test_sixty_notes_a_minute_then_one_that_says_so(alone: Page) -> None:
    for _ in range(65):
        assert alone.browser().post(APPROVE).status_code == 415
    assert len(alone.notes) == 61 and alone.notes[-1].reason == LEFT_OUT
    alone.now += 60
    alone.browser().post(APPROVE)
    assert len(alone.notes) == 62 and alone.notes[-1].reason.startswith("This request has no content type")


def test_notes_are_short_and_printable(alone: Page) -> None:
    path = "/x%0A%1B[31m" + "y" * 500
    origin = "https://" + "z" * 500
    alone.browser(Origin=origin).post(path, data={})
    (note,) = alone.notes
    assert note.path == "/x??[31m" + "y" * 191 + "…" and len(note.path) == 200
    assert note.reason == f"This request was sent by '{origin[:199]}…', not by this page."
    assert clipped("a\u202eb\x00c") == "a?b?c"


def test_a_ledger_that_is_away_lets_nobody_in(
    alone: Page, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(refusal: Refusal) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(alone.guard.door.notes, "note", away)
    answer = alone.browser().post(APPROVE, data={"token": "x"})
    assert answer.status_code == 403 and alone.done == []
    assert "A refusal is not noted" in caplog.text


@pytest.mark.parametrize(
    ("target", "goes"),
    [
        ("/runs?page=2", "/runs?page=2"),
        *(
            (target, "/")
            for target in ("", "runs", "//evil.example", "/\\evil.example", "https://evil.example", "/\t/e")
        ),
        *((target, "/") for target in ("javascript:alert(1)", "\\\\evil.example", "/\r\nSet-Cookie: a=b", " /x")),
    ],
)
def test_next_stays_on_this_page(target: str, goes: str) -> None:
    assert local(target) == goes


def test_routes_of_routers_and_mounts_are_known(alone: Page) -> None:
    routes = alone.guard.app.routes
    assert takes(routes, APPROVE, ["GET", "POST"]) == ["POST"]
    assert takes(routes, "/login", ["GET", "POST", "PUT"]) == ["GET", "POST"]
    assert takes(routes, "/nothing", ["GET", "POST"]) == []
