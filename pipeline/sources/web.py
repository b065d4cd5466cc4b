"""Archives behind https, each with its checksum: `https://host/pets.zip#sha256=9f86d0...`.

httpx and not fsspec, whose http file system reads whole answers into memory and follows any redirect.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from pipeline.errors import UserError
from pipeline.sources.store import Blob, Passing

if TYPE_CHECKING:
    import httpx

REDIRECTS = 5
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
CHECKSUM = re.compile(r"sha256=([0-9A-Fa-f]{64})")


class WebFile(Blob):
    """One file on a web server."""

    def __init__(self, path: str) -> None:
        """Look at `data.path`, and ask nobody.

        Raises:
            UserError: it has no checksum, or one that is none; http elsewhere than on this machine; a password.
        """
        address, _, fragment = path.partition("#")
        self.address = address
        self.shown = _shown(address)
        _check_address(address, "data.path")
        said = CHECKSUM.fullmatch(fragment)
        if not said:
            wrong = f"ends in #{fragment[:80]}" if fragment else "says no checksum"
            raise UserError(
                f"data.path: {self.shown} {wrong}. Expected the sha256 of the archive behind it: "
                f"{self.shown}#sha256=<64 hexadecimal digits>. Whoever publishes it may say it; else fetch it, look at "
                "it, and take what `sha256sum` says."
            )
        self.sha256 = self.version = said[1].lower()

    def chunks(self, start: int) -> Iterator[tuple[int, int | None, bytes]]:
        """See `Blob.chunks`."""
        import httpx

        try:
            with self._answer(start) as answer:
                at, total = _place(answer, start)
                if answer.status_code == 416:  # nothing is left to ask for
                    yield start, total, b""
                    return
                for data in answer.iter_raw():  # as it comes: what a connection that breaks has brought is kept
                    yield at, total, data
                    at += len(data)
        except httpx.TimeoutException:
            raise Passing(f"the server has said nothing for {READ_SECONDS:g} s") from None
        except httpx.InvalidURL as error:
            raise UserError(f"data.path: {self.shown} is no address: {error}.") from None
        except httpx.HTTPError as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            if "CERTIFICATE_VERIFY_FAILED" in reason:
                raise UserError(
                    f"{self.shown}: the certificate of the server is not trusted ({reason}). SSL_CERT_FILE names "
                    "a file with those that you trust."
                ) from None
            raise Passing(reason) from None

    @contextmanager
    def _answer(self, start: int) -> Iterator[httpx.Response]:
        """The answer at the end of all redirects."""
        import httpx

        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        # What the server compresses on the way would have another length and another checksum.
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        address = self.address
        with httpx.Client(timeout=timeout, trust_env=address.startswith("https:")) as client:
            for _ in range(REDIRECTS + 1):
                with client.stream("GET", address, headers=headers) as answer:
                    if answer.next_request is None:
                        self._check_status(answer)
                        yield answer
                        return
                    address = str(answer.next_request.url)
                _check_address(address, f"{self.shown} leads on to {_shown(address)}")
                if self.address.startswith("https:") and not address.startswith("https:"):
                    raise UserError(
                        f"{self.shown} leads on to {_shown(address)}: from https to http nobody is followed."
                    )
        raise UserError(
            f"{self.shown} leads on and on, {REDIRECTS} times and more. Write the address of the file itself."
        )

    def _check_status(self, answer: httpx.Response) -> None:
        status = answer.status_code
        said = f"{status} {answer.reason_phrase}".strip()
        if status in (200, 206, 416):
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise UserError(f"{self.shown}: the server packs the file on its way. Serve it as it is.")
        elif status in (408, 425, 429) or status >= 500:
            raise Passing(f"the server says {said}")
        elif status in (401, 403, 407):
            raise UserError(
                f"{self.shown}: the server refuses ({said}). May everybody fetch it, is a link still valid?"
            )
        elif status in (404, 410):
            raise UserError(f"{self.shown}: there is no such file on the server ({said}). Is the address right?")
        else:
            raise UserError(f"{self.shown}: the server says {said}; expected the file. Is the address right?")


def _place(answer: httpx.Response, start: int) -> tuple[int, int | None]:
    """Where the answer begins, and the size of the whole file, as the server says."""
    said = answer.headers.get("Content-Range", "")
    if answer.status_code == 206:
        match = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", said)
        if not match or int(match[1]) != start:
            raise Passing(f"asked for what follows byte {start:,}, the server sends {said[:80]!r}")
        return start, None if match[2] == "*" else int(match[2])
    if answer.status_code == 416:
        match = re.fullmatch(r"bytes \*/(\d{1,18})", said)
        return start, int(match[1]) if match else None
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if re.fullmatch(r"\d{1,18}", length) else None


def _check_address(address: str, what: str) -> None:
    parts = _split(address)
    if parts is None or not parts.hostname or parts.scheme not in ("http", "https"):
        raise UserError(
            f"{what}: expected an address such as https://host/pets.zip#sha256=...; found {_bare(address)!r}."
        )
    if "@" in parts.netloc:
        raise UserError(
            f"{what}: the address holds a user or a password, and whoever reads params.yaml would see them. Use an "
            "address without, or S3."
        )
    if parts.scheme == "http" and not _on_this_machine(parts.hostname):
        raise UserError(f"{what}: http is for this machine alone; from {parts.hostname} files come by https.")


def _split(address: str) -> SplitResult | None:
    """None if it is no address at all."""
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 (raises where it is none)
    except ValueError:
        return None
    return parts if address.isascii() and address.isprintable() and " " not in address else None


def _shown(address: str) -> str:
    """Without a query, in which there may be a signature, and without a user."""
    parts = _split(address)
    if parts is None:
        return repr(_bare(address))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _bare(address: str) -> str:
    """What is no address, without what might be a password or a signature in it."""
    return re.sub(r"//.*@", "//...@", address, flags=re.DOTALL).partition("?")[0][:200]


def _on_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
