"""One request: who sent it, what it asks for, and what its answer will set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import parse_qsl, quote, unquote

from fastapi.templating import Jinja2Templates
from starlette.datastructures import Headers
from starlette.types import Scope

from dashboard.access import tokens
from dashboard.access.checks import API, SAFE
from dashboard.access.logins import Logins
from dashboard.access.people import Person
from dashboard.access.refusals import Notes, Refused
from dashboard.access.sessions import Session, Sessions
from dashboard.access.settings import Access
from flows.accounts import Role

FIELDS = 200
"""Of a form."""
LOGIN, LOGOUT = "/login", "/logout"


@dataclass(frozen=True)
class Door:
    """What all requests share."""

    access: Access
    sessions: Sessions
    logins: Logins
    notes: Notes
    templates: Jinja2Templates
    clock: Callable[[], float]


class Visit:
    """One request, as far as it has been looked into."""

    def __init__(self, door: Door, scope: Scope) -> None:
        self.door = door
        self.headers = Headers(scope=scope)
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        query = scope["query_string"].decode("latin-1")
        self.target = quote(self.path) + (f"?{query}" if query else "")
        self.client = _client(scope, self.headers, bool(door.access.origin))
        self.state: dict[str, object] = scope.setdefault("state", {})
        self.state["person"] = None
        self.changing = self.method not in SAFE
        """Whether something would have changed, had it not been refused."""
        self.trusted = False
        """Whether it came by an address of ours."""
        self.cleared = False
        """Whether it may change something: every check is passed, and the form token spent."""
        self.refused = False
        self.bearer = False
        self.session: Session | None = None
        self.cookie: str | None = None
        """What the answer sets; empty: it removes the cookie."""
        self.form: dict[str, str] = {}

    @property
    def person(self) -> Person | None:
        """Who sent it."""
        found = self.state["person"]
        return found if isinstance(found, Person) else None

    @property
    def api(self) -> bool:
        """Whether programs talk here, in JSON."""
        return self.path.startswith(API)

    @property
    def shown(self) -> list[str]:
        """The ids that the request's cookies claim."""
        return _cookies(self.headers.getlist("cookie"), self.door.access.cookie)

    @property
    def origins(self) -> set[str]:
        """The pages that may have sent it."""
        access = self.door.access
        return {access.addresses[self.headers["host"].lower()], access.origin} - {""}

    def identify(self) -> None:
        """Find out who sent it, by bearer token, cookie, or because everybody here is the same person."""
        accounts = self.door.access.accounts
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if self.api and scheme.lower() == "bearer":
            account = accounts.with_token(token.strip()) if accounts else None
            if account is None:
                raise Refused(401, "This bearer token is not known here.", {"WWW-Authenticate": "Bearer"})
            self.bearer = True
            self.state["person"] = Person(account.name, account.role, "bearer")
            return
        if len(self.shown) == 1:
            self.session = self.door.sessions.find(self.shown[0])
        if self.session:
            self.state["person"] = self.session.person
        elif accounts is None:
            self.state["person"] = Person(self.door.access.user, Role.APPROVER, "loopback")

    def enter(self, person: Person) -> None:
        """Begin a session for `person` under a new id, in place of the one there may be."""
        self.leave()
        self.session = self.door.sessions.start(person)
        self.state["person"] = person
        self.cookie = self.session.id

    def leave(self) -> None:
        """End the session."""
        if self.session:
            self.door.sessions.end(self.session)
        self.session, self.state["person"], self.cookie = None, None, ""

    def form_token(self, path: str) -> str:
        """A token for a POST to `path`; empty for those who cannot send one."""
        if self.person and self.person.via == "loopback" and not self.session and not self.refused:
            self.enter(self.person)
        return tokens.issue(self.session.secret, unquote(path), self.door.clock()) if self.session else ""

    def clear(self, body: bytes) -> None:
        """Take the form, and let the person change something with it.

        Raises:
            Refused: nobody is logged in, it is not their business, or the form is not one that this page made for it.
        """
        pairs = [] if self.api else parse_qsl(body.decode(errors="replace"), keep_blank_values=True)[:FIELDS]
        self.form = dict(pairs)
        if self.path == LOGIN:
            return
        if self.person is None:
            raise Refused(401, "The session has ended: log in again." if self.shown else "Nobody is logged in.")
        if self.person.role != Role.APPROVER and self.path != LOGOUT:
            raise Refused(403, f"{self.person.name} is a {self.person.role}: only an approver may change something.")
        if not self.bearer:
            self._spend([self.headers.get("x-convoy-token") or "", *(value for key, value in pairs if key == "token")])
        self.cleared = True

    def _spend(self, found: list[str]) -> None:
        sent = {token for token in found if token}
        if not self.session:
            raise Refused(403, f"The session has ended, or this request has none. {tokens.AGAIN}")
        token = sent.pop() if len(sent) == 1 else ""
        tokens.spend(self.session.used, self.session.secret, self.path, token, self.door.clock())


def _client(scope: Scope, headers: Headers, behind: bool) -> str:
    """The address that a request came from; behind a proxy of ours, the one that it names."""
    peer = scope["client"][0] if scope.get("client") else ""
    named = headers.getlist("x-forwarded-for")[-1:] if behind and _near(peer) else []
    address = named[0].rpartition(",")[2].strip() if named else ""
    return address if _near(address) is not None else peer


def _near(address: str) -> bool | None:
    """Whether this is an address within a private network; None: it is no address."""
    try:
        return ip_address(address).is_private
    except ValueError:
        return None


def _cookies(headers: list[str], name: str) -> list[str]:
    """The values of all cookies of this name; a page elsewhere on this machine may have set another one."""
    pairs = (part.strip().partition("=") for header in headers for part in header.split(";"))
    return [value for key, _, value in pairs if key == name]
