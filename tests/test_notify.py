"""Notifications, for real: receivers on loopback that fail, hang, refuse and lie, and a secret planted everywhere."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import hmac
import json
import logging
import os
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from decision_project import make_case, make_version

from flows import announce, notify, settings
from flows.notify import Event
from flows.notify.mail import smtp_server
from flows.notify.redaction import redacted
from flows.servers.processes import Server, born, record
from pipeline.door import PARAMS, parse
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.params import NotifyOptions, Params, Told
from pipeline.registry import decisions
from pipeline.registry.decisions import By

HOME = Path(__file__).parents[1]
KEY = "key-of-the-signature-4711"
PLANTED = "planted-secret-0815"
EVENT = Event(
    kind="failure",
    model="digits",
    run="1f2e",
    headline="train ended by signal SIGKILL",
    lines=("Class 'größe' has 3 pictures.",),
    links={"run": "http://127.0.0.1:4200/runs/flow-run/1f2e"},
)


class Got(NamedTuple):
    """A request, as the receiver saw it."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    when: float


class Receiver:
    """An HTTP server on loopback that answers what it is told to, and keeps what it got."""

    def __init__(self, answers: Callable[[int], tuple[int, dict[str, str]]] = lambda _: (200, {})) -> None:
        self.got: list[Got] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(Got(self.path, dict(self.headers), body, time.monotonic()))
                status, headers = answers(len(receiver.got))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(PLANTED)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(PLANTED.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class PostOffice(socketserver.ThreadingTCPServer):
    """The little of SMTP that a client needs: it keeps envelopes, logins and whether they came encrypted."""

    allow_reuse_address, daemon_threads = True, True

    def __init__(self, tls: ssl.SSLContext | None = None, refuses: tuple[str, ...] = ()) -> None:
        super().__init__(("127.0.0.1", 0), Clerk)
        self.tls, self.refuses = tls, refuses
        self.mails: list[tuple[str, list[str], EmailMessage]] = []
        self.logins: list[tuple[str, bool]] = []
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Clerk(socketserver.StreamRequestHandler):
    server: PostOffice

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def handle(self) -> None:
        encrypted, sender, recipients = False, "", list[str]()
        self.say("220 here")
        while line := self.rfile.readline().decode().strip():
            command = line.upper()
            if command.startswith("EHLO"):
                self.say("250-here")
                self.say("250-STARTTLS" if self.server.tls and not encrypted else "250-8BITMIME")
                self.say("250 AUTH PLAIN")
            elif command == "STARTTLS" and self.server.tls:
                self.say("220 go on")
                self.request = self.server.tls.wrap_socket(self.request, server_side=True)
                self.setup()
                encrypted = True
            elif command.startswith("AUTH PLAIN"):
                self.server.logins.append((base64.b64decode(line.split()[2]).decode(), encrypted))
                self.say("535 no" if b"wrong" in base64.b64decode(line.split()[2]) else "235 welcome")
            elif command.startswith("MAIL FROM:"):
                sender = line[10:].split()[0].strip("<>")
                self.say("250 ok")
            elif command.startswith("RCPT TO:"):
                recipient = line[8:].strip("<>")
                refused = recipient in self.server.refuses
                recipients += [] if refused else [recipient]
                self.say(f"550 {PLANTED}" if refused else "250 ok")
            elif command == "DATA":
                self.say("354 go on")
                data = b""
                while not data.endswith(b"\r\n.\r\n"):
                    data += self.rfile.readline()
                self.server.mails.append(
                    (sender, recipients, email.message_from_bytes(data[:-3], policy=email.policy.default))  # type: ignore[arg-type]
                )
                self.say("250 taken")
            else:
                self.say("221 bye" if command == "QUIT" else "250 ok")


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nobody set anything but the key."""
    for name in [name for name in os.environ if name.startswith("CONVOY_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CONVOY_WEBHOOK_SECRET", KEY)


def options(**given: Any) -> NotifyOptions:
    return NotifyOptions(**{"on": ("failure", "success", "decision"), **given})


# --- params -----------------------------------------------------------------------------------------------------------


def door(section: str) -> NotifyOptions:
    text = (HOME / PARAMS).read_text().partition("\nnotify:")[0]
    return parse(Params, f"{text}\n{section}\n").notify


def test_params() -> None:
    assert parse(Params, (HOME / PARAMS).read_text()).notify == door("") == NotifyOptions()
    # `on` is true in YAML 1.1
    read = door(
        "notify: {on: [failure, decision], webhook: 'https://h/p', email: [a.b@c.d], prefect_block: slack-webhook/t}"
    )
    assert read.on == ("failure", "decision") and read.email == ("a.b@c.d",)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("on: [failed]", "notify.on.0: expected 'failure', 'success' or 'decision'; found 'failed'."),
        ("webhook: ftp://h/p", "notify.webhook: expected an address of the form https://host/path."),
        ("webhook: file:///etc/passwd", "notify.webhook: expected an address of the form https://host/path."),
        ("webhook: 'http://[h'", "notify.webhook: expected an address"),
        (f"webhook: 'https://u:{PLANTED}@h/p'", "notify.webhook: holds a user or password; give this address in the"),
        (r'email: ["a@b.c\nBcc: d@e.f"]', r"notify.email.0: expected name@host; found 'a@b.c\nBcc"),
        ("email: [ann]", "notify.email.0: expected name@host; found 'ann'."),
        ("prefect_block: slack", "notify.prefect_block: expected type/name of a block, as in slack-webhook/team"),
        ("onn: []", "notify.onn: no such key. Did you mean 'on'?"),
    ],
)
def test_mistakes_at_the_door(section: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        door(f"notify: {{{section}}}")
    assert words in str(error.value)
    assert PLANTED not in str(error.value)


def test_what_is_missing_is_said_before_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    notify.check(NotifyOptions(webhook="https://h/p", email=("a@b.c",)))  # silent: nothing is needed
    with pytest.raises(UserError, match="notify.on names events, but webhook, email and prefect_block are empty"):
        notify.check(options())
    monkeypatch.delenv("CONVOY_WEBHOOK_SECRET")
    with pytest.raises(UserError) as error:
        notify.check(options(webhook="https://h/p", email=["a@b.c"]))
    first, second = str(error.value).splitlines()
    assert first.startswith("webhook: CONVOY_WEBHOOK_SECRET is missing, the key that messages are signed with.")
    assert second.startswith("email: CONVOY_SMTP_URL is missing, the server that takes mail. Set it, or CONVOY_SMTP")
    key = tmp_path / "key"
    monkeypatch.setenv("CONVOY_WEBHOOK_SECRET_FILE", str(key))
    with pytest.raises(UserError, match="CONVOY_WEBHOOK_SECRET_FILE names .*/key, which cannot be read: No such file"):
        notify.check(options(webhook="https://h/p"))
    key.write_text(" \n")
    with pytest.raises(UserError, match="/key, which is empty"):
        notify.check(options(webhook="https://h/p"))
    key.write_text(f"{KEY}\n")
    notify.check(options(webhook="https://h/p"))
    monkeypatch.setenv("CONVOY_WEBHOOK_URL", f"ftp://u:{PLANTED}@h/p")
    with pytest.raises(UserError, match="The address in CONVOY_WEBHOOK_URL or notify.webhook is not one of") as error:
        notify.check(options())
    assert PLANTED not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [f"http://u:{PLANTED}@h", PLANTED, f"smtp://u:{PLANTED}@", f"smtp://u:{PLANTED}@h:x", "smtp://h?from=x%0d%0ay@z"],
)
def test_wrong_mail_server(address: str) -> None:
    with pytest.raises(UserError, match="^CONVOY_SMTP_URL is not of the form smtp://user:password@host:587") as error:
        smtp_server(address)
    assert PLANTED not in str(error.value)


def test_mail_servers() -> None:
    assert smtp_server("smtp://relay.firm").port == 25
    full = smtp_server("smtp://ann%40firm:p%3Aw@relay.firm")
    assert (full.port, full.user, full.password, full.sender) == (587, "ann@firm", "p:w", "ann@firm")
    assert full.must_encrypt and not smtp_server("smtp://u:p@127.0.0.1").must_encrypt
    assert (smtp_server("smtps://u:p@h").port, smtp_server("smtps://u:p@h").tls) == (465, True)
    assert smtp_server("smtp://apikey:p@h?from=convoy@firm.com").sender == "convoy@firm.com"


# --- webhook ----------------------------------------------------------------------------------------------------------


def test_receiver_that_fails_twice_and_then_accepts() -> None:
    with Receiver(lambda count: (503 if count < 3 else 204, {})) as receiver:
        assert notify.send(options(webhook=f"{receiver.url}/hook?token=t"), EVENT) == []
    assert [got.path for got in receiver.got] == ["/hook?token=t"] * 3
    assert len({got.headers["X-Convoy-Delivery"] for got in receiver.got}) == 1
    first, second, third = (got.when for got in receiver.got)
    assert second - first >= 0.25 and third - second >= 0.5  # half to all of 0.5 and 1 s
    for _, headers, body, _ in receiver.got:
        signed = headers["X-Convoy-Timestamp"].encode() + b"." + body
        expected = hmac.new(KEY.encode(), signed, hashlib.sha256).hexdigest()
        assert headers["X-Convoy-Signature"] == f"sha256={expected}"
        assert headers["X-Convoy-Event"] == "failure"
        assert abs(int(headers["X-Convoy-Timestamp"]) - time.time()) < 600
        told = json.loads(body)
        assert told["headline"] == EVENT.headline and told["lines"] == ["Class 'größe' has 3 pictures."]
        assert (told["model"], told["run"], told["links"]) == ("digits", "1f2e", EVENT.links)
        assert told["text"].startswith("train ended by signal SIGKILL\n\nClass 'größe' has 3 pictures.\n\nrun: http://")


def test_verify_knows_a_forgery() -> None:
    signature = "sha256=" + hmac.new(b"k", b"17.body", hashlib.sha256).hexdigest()
    assert notify.verify("k", "17", b"body", signature)
    for forged in (("x", "17", b"body", signature), ("k", "18", b"body", signature), ("k", "17", b"bod", signature)):
        assert not notify.verify(*forged)
    assert not notify.verify("k", "17", b"body", "") and not notify.verify("k", "17", b"body", "sha256=é\ud800")


def test_receiver_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:  # takes the connection and says nothing
        start = time.monotonic()
        problems = notify.send(options(webhook=f"http://127.0.0.1:{door.getsockname()[1]}/{PLANTED}"), EVENT, limit=1)
        assert time.monotonic() - start < 30
    assert len(problems) == 1 and PLANTED not in problems[0]
    assert problems[0].startswith("webhook: ")


def test_receiver_that_drips() -> None:
    """A byte now and then renews every time limit of a socket; the limit of `send` holds all the same."""

    def drip(door: socket.socket) -> None:
        connection, _ = door.accept()
        with connection:
            try:
                for letter in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100:
                    connection.send(bytes([letter]))
                    time.sleep(0.1)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=drip, args=(door,), daemon=True).start()
        start = time.monotonic()
        problems = notify.send(options(webhook=f"http://127.0.0.1:{door.getsockname()[1]}"), EVENT, limit=1)
        assert time.monotonic() - start < 30
    assert problems == ["webhook: no end within 1 s; whether it was delivered is unknown."]


def test_receiver_that_answers_500_for_ever() -> None:
    with Receiver(lambda _: (500, {})) as receiver:
        start = time.monotonic()
        problems = notify.send(options(webhook=f"{receiver.url}/{PLANTED}"), EVENT, limit=4)
        assert time.monotonic() - start < 25
    assert problems == ["webhook: 127.0.0.1 answers 500. It was tried until the time was over."]
    assert 2 <= len(receiver.got) <= 6


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_refusal_is_not_tried_again(status: int) -> None:
    with Receiver(lambda _: (status, {})) as receiver:
        assert notify.send(options(webhook=receiver.url), EVENT) == [f"webhook: 127.0.0.1 answers {status}."]
    assert len(receiver.got) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_receiver_that_asks_to_wait(form: str) -> None:
    def answer(count: int) -> tuple[int, dict[str, str]]:
        later = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
        return (429, {"Retry-After": "2" if form == "seconds" else later}) if count == 1 else (200, {})

    with Receiver(answer) as receiver:
        assert notify.send(options(webhook=receiver.url), EVENT) == []
    first, second = (got.when for got in receiver.got)
    assert second - first >= 1.9


def test_receiver_that_asks_to_wait_too_long() -> None:
    with Receiver(lambda _: (429, {"Retry-After": "3600"})) as receiver:
        start = time.monotonic()
        assert notify.send(options(webhook=receiver.url), EVENT) == [
            "webhook: 127.0.0.1 answers 429. It was tried until the time was over."
        ]
        assert time.monotonic() - start < 30


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    with Receiver() as elsewhere, Receiver(lambda _: (status, {"Location": f"{elsewhere.url}/{PLANTED}"})) as receiver:
        problems = notify.send(options(webhook=receiver.url), EVENT)
    assert problems == [
        f"webhook: 127.0.0.1 answers {status} and names another address, which is not followed; set that one."
    ]
    assert len(receiver.got) == 1 and not elsewhere.got


def test_the_variable_wins_and_may_hold_a_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Receiver() as receiver:
        (tmp_path / "url").write_text(receiver.url.replace("://", f"://ann:{PLANTED}%21@") + "/hook\n")
        monkeypatch.setenv("CONVOY_WEBHOOK_URL_FILE", str(tmp_path / "url"))
        assert notify.send(options(webhook="http://127.0.0.1:9/"), EVENT) == []
    assert receiver.got[0].path == "/hook"
    login = base64.b64decode(receiver.got[0].headers["Authorization"].removeprefix("Basic ")).decode()
    assert login == f"ann:{PLANTED}!"


def test_only_what_was_asked_for_is_told() -> None:
    with Receiver() as receiver:
        assert notify.send(NotifyOptions(on=("success",), webhook=receiver.url), EVENT) == []
        assert notify.send(NotifyOptions(webhook=receiver.url), EVENT) == []
    assert not receiver.got


# --- mail -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ssl.SSLContext]:
    """Makes a server of the given name, which this machine trusts."""

    def make(name: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(issuer, issuer, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        file = tmp_path / f"{name}.pem"
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(private + made.public_bytes(pem))
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    return make


def test_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    with PostOffice() as office:
        monkeypatch.setenv("CONVOY_SMTP_URL", f"smtp://127.0.0.1:{office.port}?from=convoy@firm.com")
        assert notify.send(options(email=["ann@firm.com", "bob@firm.com"]), EVENT) == []
    ((sender, recipients, mail),) = office.mails
    assert (sender, recipients) == ("convoy@firm.com", ["ann@firm.com", "bob@firm.com"])
    assert mail["Subject"] == "[digits] failure: train ended by signal SIGKILL"
    assert mail["To"] == "ann@firm.com, bob@firm.com" and mail["From"] == "Convoy <convoy@firm.com>"
    assert "Class 'größe' has 3 pictures." in mail.get_content()
    assert socket.gethostname() not in str(mail)


def test_names_cannot_become_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "x\r\nBcc: eve@evil.com\r\n\r\nhello\x00\u202e\ud800 " + "y" * 2000
    event = Event("decision", hostile, hostile, hostile, (hostile,), {hostile: hostile})
    with PostOffice() as office, Receiver() as receiver:
        monkeypatch.setenv("CONVOY_SMTP_URL", f"smtp://127.0.0.1:{office.port}")
        assert notify.send(options(email=["ann@firm.com"], webhook=receiver.url), event) == []
    ((_, recipients, mail),) = office.mails
    assert recipients == ["ann@firm.com"] and mail["Bcc"] is None
    assert set(mail) == {
        *("Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "X-Convoy-Event"),
        *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
    }
    told = json.loads(receiver.got[0].body)
    assert told["headline"].startswith("x Bcc: eve@evil.com hello yyy") and len(told["headline"]) == 500


def test_password_goes_encrypted_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, certified: Callable[[str], ssl.SSLContext]
) -> None:
    """127.1 reaches this machine by a name that does not say so."""

    def mail(office: PostOffice) -> list[str]:
        monkeypatch.setenv("CONVOY_SMTP_URL", f"smtp://ann:{PLANTED}@127.1:{office.port}?from=a@b.c")
        return notify.send(options(email=["bob@firm.com"]), EVENT)

    with PostOffice() as plain:
        assert mail(plain) == ["email: 127.1 offers no encryption (STARTTLS); no password is sent without."]
    with PostOffice(tls=certified("localhost")) as impostor:
        (problem,) = mail(impostor)
        assert problem.startswith("email: 127.1 shows a certificate that is not valid: ")
    assert not plain.logins and not plain.mails and not impostor.logins and not impostor.mails
    with PostOffice(tls=certified("127.1")) as office:
        assert mail(office) == []
    assert office.logins == [(f"\0ann\0{PLANTED}", True)] and len(office.mails) == 1


def test_mail_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with PostOffice(refuses=("bob@firm.com",)) as office:
        monkeypatch.setenv("CONVOY_SMTP_URL", f"smtp://127.0.0.1:{office.port}")
        assert notify.send(options(email=["ann@firm.com", "bob@firm.com"]), EVENT) == [
            "email: 127.0.0.1 takes no mail for bob@firm.com; the others got it."
        ]
        assert notify.send(options(email=["bob@firm.com"]), EVENT) == [
            "email: 127.0.0.1 takes mail for none of bob@firm.com."
        ]
        monkeypatch.setenv("CONVOY_SMTP_URL", f"smtp://ann:wrong-{PLANTED}@127.0.0.1:{office.port}")
        assert notify.send(options(email=["ann@firm.com"]), EVENT) == [
            "email: 127.0.0.1 refuses the user or the password in CONVOY_SMTP_URL."
        ]
    monkeypatch.setenv("CONVOY_SMTP_URL", f"smtp://127.0.0.1:{office.port}")
    assert notify.send(options(email=["ann@firm.com"]), EVENT) == ["email: 127.0.0.1 fails (ConnectionRefusedError)."]


# --- all of them ------------------------------------------------------------------------------------------------------


def test_redaction() -> None:
    text = f"git clone https://ann:p@ss@host/x?sig={PLANTED}#f and S3://k:s@b/p, http://h/#/runs?t=1 (see user@host)"
    assert (
        redacted(text, ["host/x"])
        == "git clone https://***@***?*** and S3://***@b/p, http://h/#/runs?*** (see user@host)"
    )
    assert redacted("abc", ["", "b"]) == "abc"


def test_no_secret_gets_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same secret is the key, in the address, in the password and in what is told; every channel fails first."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CONVOY_WEBHOOK_SECRET", PLANTED)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other-secret-99")
    told = f"{PLANTED} https://u:pw-of-url@h/p?sig=query-secret other-secret-99"
    event = Event("failure", told, told, told, (told,), {told: told})
    problems = []
    with Receiver(lambda count: (404 if count == 1 else 200, {})) as receiver, PostOffice() as office:
        address = receiver.url.replace("://", f"://u:{PLANTED}@")
        monkeypatch.setenv("CONVOY_WEBHOOK_URL", f"{address}/{PLANTED}?k={PLANTED}")
        for password in (f"wrong-{PLANTED}", PLANTED):
            monkeypatch.setenv("CONVOY_SMTP_URL", f"smtp://ann:{password}@127.0.0.1:{office.port}")
            problems += notify.send(options(email=["ann@firm.com"]), event)
    assert len(problems) == 2 and len(receiver.got) == 2 and len(office.mails) == 1
    captured = capfd.readouterr()
    seen = [*problems, caplog.text, captured.out, captured.err, str(office.mails[0][2])]
    seen += [got.body.decode() for got in receiver.got]
    for secret in (PLANTED, "pw-of-url", "query-secret", "other-secret-99"):
        assert not [text for text in seen if secret in text]
    assert "https://***@h/p?***" in office.mails[0][2].get_content()


def test_one_channel_does_not_wait_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, PostOffice() as office:
        monkeypatch.setenv("CONVOY_SMTP_URL", f"smtp://127.0.0.1:{office.port}")
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (problem,) = notify.send(options(webhook=url, email=["ann@firm.com"]), EVENT, limit=5)
    assert problem.startswith("webhook: ") and len(office.mails) == 1


# --- a block of Prefect's ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A real Prefect server of its own, that phones nobody, and this process talks to it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.SWITCHES.items():
            patch.setenv(name, value)
        from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings
        from prefect.testing.utilities import prefect_test_harness

        # For a Prefect that another test has imported already, the variables come too late.
        with temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False}):
            with prefect_test_harness(server_startup_timeout=300):
                yield


def test_prefect_block(prefect: None, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.blocks.system import Secret

    caplog.set_level(logging.DEBUG)
    with Receiver(lambda count: (200 if count == 1 else 500, {})) as receiver:
        block = CustomWebhookNotificationBlock(
            name="team",
            url=f"{receiver.url}/{PLANTED}?key={PLANTED}",
            json_data={"title": "{{subject}}", "text": "{{body}}"},
        )
        block.save("team")
        assert notify.send(options(prefect_block="custom-webhook/team"), EVENT) == []
        failed = notify.send(options(prefect_block="custom-webhook/team"), EVENT)
    assert json.loads(receiver.got[0].body)["title"] == "[digits] failure: train ended by signal SIGKILL"
    assert failed == ["Prefect block: the block 'custom-webhook/team' fails (HTTPStatusError)."]
    assert notify.send(options(prefect_block="custom-webhook/nobody"), EVENT) == [
        "Prefect block: Prefect's server has no block 'custom-webhook/nobody'. Its page lists the blocks there are."
    ]
    Secret(value=PLANTED).save("mine")
    assert notify.send(options(prefect_block="secret/mine"), EVENT) == [
        "Prefect block: 'secret/mine' is a block of type Secret, which cannot notify."
    ]
    captured = capfd.readouterr()
    for text in (caplog.text, captured.out, captured.err):
        assert PLANTED not in text


# --- what a run tells -------------------------------------------------------------------------------------------------


Heard = tuple[Told, Callable[[], list[tuple[str, ...]]]]


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    """An empty project, whom it tells, and what they have heard since they were asked last."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    with Receiver() as receiver:

        def said() -> list[tuple[str, ...]]:
            told = [json.loads(got.body) for got in receiver.got]
            receiver.got.clear()
            return [(one["event"], one["run"], one["headline"], *one["lines"]) for one in told]

        yield Told(name="pets", notify=options(webhook=receiver.url)), said


def test_the_end_of_a_run_says_where_its_version_stands(heard: Heard) -> None:
    told, said = heard
    first, second = make_version("1"), make_version("2")
    announce.ended(told, "1f2e", make_case(first, deadline=0), reigns=True, waits=False)
    assert said() == [("success", "1f2e", "pets version 1 is the champion", "Better than before.")]
    announce.ended(told, "1f2e", make_case(second, outcome="hold", deadline=0), reigns=False, waits=False)
    assert said() == [("success", "1f2e", "pets version 2 is held back", "Better than before.")]
    announce.ended(told, "1f2e", make_case(make_version("3"), outcome="reject", deadline=0), reigns=False, waits=False)
    assert said() == [("success", "1f2e", "pets version 3 is rejected", "Better than before.")]


def test_who_is_to_decide_is_asked_and_told_until_when(heard: Heard) -> None:
    told, said = heard
    asked = "pets version 1 is better than the champion, and waits for somebody to promote it"
    how = "`convoy promote pets/1` or `convoy reject`, with a reason."
    waiting = make_case(make_version("1"), deadline=1_900_000_000_000)
    announce.ended(told, "1f2e", waiting, reigns=False, waits=True)
    assert said() == [
        ("success", "1f2e", "pets version 1 is better", "Better than before."),
        ("decision", "1f2e", f"{asked} until 2030-03-17 17:46 UTC; silence is a no", "Better than before.", how),
    ]
    # `promote: never`: nobody is waited for
    announce.ended(told, "1f2e", waiting.model_copy(update={"deadline": 0}), reigns=False, waits=False)
    assert said()[1] == ("decision", "1f2e", asked, "Better than before.", how)


def test_who_is_to_decide_is_told_where_to_look(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    told, _ = heard
    case = make_case(make_version("1"))
    ours = {"pid": os.getpid(), "started": born(psutil.Process()), "port": 4307}
    page = Server(name="Review", health="/health", log=tmp_path / "log", **ours)

    def links() -> dict[str, str]:
        with Receiver() as receiver:
            announce.ended(
                told.model_copy(update={"notify": options(on=["decision"], webhook=receiver.url)}),
                "1f2e",
                case,
                reigns=False,
                waits=True,
            )
        found: dict[str, str] = json.loads(receiver.got[0].body)["links"]
        return found

    assert links() == {}  # no page is up
    write_json(record(tmp_path), {"page": page.model_dump(mode="json")})
    assert links() == {"look and decide": f"http://127.0.0.1:4307/decisions/{case.id}"}
    monkeypatch.setenv("CONVOY_PAGE_ORIGIN", "https://convoy.example/")
    assert links() == {"look and decide": f"https://convoy.example/decisions/{case.id}"}


def test_a_decision_is_told_with_who_and_why(heard: Heard) -> None:
    told, said = heard
    first = make_case(make_version("1"), run="1" * 32)
    announce.decided(told, first, decisions.approve(first.id, By("ada", "page"), "looks right"))
    assert said() == [("success", "1" * 32, "pets version 1 is the champion, by ada", "looks right")]
    second = make_case(make_version("2"), deadline=1, run="3" * 32)
    (silent,) = decisions.silence()
    announce.decided(told, second, silent)
    why = "Nobody decided until 1970-01-01 00:00 UTC: silence is a no."
    assert said() == [("success", "3" * 32, "pets version 2 was rejected, by nobody", why)]


def test_who_cannot_be_told_is_named_and_nothing_else_happens(heard: Heard, capsys: pytest.CaptureFixture[str]) -> None:
    told, _ = heard
    with Receiver(lambda _: (404, {})) as receiver:
        deaf = told.model_copy(update={"notify": options(webhook=receiver.url)})
        announce.ended(deaf, "1f2e", make_case(make_version("1"), deadline=0), reigns=True, waits=False)
    assert capsys.readouterr().out == "Not notified: webhook: 127.0.0.1 answers 404.\n"
