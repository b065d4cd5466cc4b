"""Where the page listens, by which address people reach it, and who may come in."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from dashboard.access import accounts
from dashboard.access.accounts import MAKE, Accounts
from flows.accounts import FILE
from pipeline.errors import UserError

ORIGIN = "CONVOY_PAGE_ORIGIN"
HOST = re.compile(r"[a-z0-9.:-]+")
PORTS = {"http": 80, "https": 443}
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Access:
    """Settings of the door, checked."""

    port: int
    origin: str
    """By which people elsewhere reach the page, `https://convoy.example`; empty: nobody does."""
    addresses: Mapping[str, str]
    """Each Host that is answered, with the Origin of its pages. Any other is a name that somebody points here."""
    accounts: Accounts | None
    """None: whoever reaches the page on this machine is `user`."""
    user: str
    """Who runs this process."""

    @classmethod
    def read(cls, host: str, port: int, environ: Mapping[str, str]) -> Access:
        """What the variables say of a page that listens on `host` and `port`.

        Raises:
            UserError: it could be reached from elsewhere without an account, or by an address that nobody told; the
                accounts or the origin are wrong.
        """
        origin = _origin(environ.get(ORIGIN, ""))
        known = accounts.read(environ)
        here = _loopback(host)
        if not known and (origin or not here):
            reached = f"at {origin}" if origin else f"on {host}"
            raise UserError(
                f"The page would stand open {reached}, to everybody who can reach it: it needs accounts. Let {FILE} "
                f"name a file of them; {MAKE}. On 127.0.0.1 alone, without {ORIGIN}, it needs none."
            )
        if not here and not origin and (host == "" or _wildcard(host)):
            raise UserError(
                f"The page is to listen on every address of this machine, so {ORIGIN} must say by which one people "
                f"reach it: {ORIGIN}=https://convoy.example"
            )
        addresses = _addresses(LOOPBACK if here else (*LOOPBACK, host), port)
        if origin:
            addresses[urlsplit(origin).netloc] = origin
        return cls(port, origin, addresses, known, _user())

    @property
    def secure(self) -> bool:
        """Whether browsers come over https."""
        return self.origin.startswith("https:")

    @property
    def cookie(self) -> str:
        """Its name: pages on other ports of a machine share its cookies."""
        return "__Host-convoy" if self.secure else f"convoy-{self.port}"


def _origin(text: str) -> str:
    """Scheme and host as a browser writes them in `Origin`."""
    if not text:
        return ""
    try:
        parts = urlsplit(text.strip().lower())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    plain = not parts.path.strip("/") and not parts.query and not parts.fragment and parts.username is None
    if parts.scheme not in PORTS or not HOST.fullmatch(parts.hostname or "") or not plain:
        raise UserError(f"{ORIGIN} is {text!r}; a scheme and a host are expected: {ORIGIN}=https://convoy.example")
    return f"{parts.scheme}://{_host(str(parts.hostname), port, PORTS[parts.scheme])}"


def _addresses(hosts: tuple[str, ...], port: int) -> dict[str, str]:
    names = [_host(host.lower(), port, PORTS["http"]) for host in hosts]
    return {name: f"http://{name}" for name in names}


def _host(host: str, port: int | None, default: int) -> str:
    """As a browser writes it in `Host`."""
    name = f"[{host}]" if ":" in host else host
    return name if port in (None, default) else f"{name}:{port}"


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _user() -> str:
    """The name that the system knows, not one that the environment gives."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return f"user {os.getuid()}"
