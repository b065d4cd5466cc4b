"""A mail through the user's SMTP server."""

from __future__ import annotations

import re
import smtplib
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime, make_msgid
from urllib.parse import parse_qs, unquote, urlsplit

from flows.notify.credentials import SMTP_URL, credential
from flows.notify.message import Delivery, Event, Undelivered, subject, text
from flows.notify.redaction import is_loopback
from pipeline.errors import UserError
from pipeline.params import MAIL_ADDRESS, NotifyOptions

SUBMISSION = 587
PORTS = {"smtp": 25, "smtps": 465}
TIMEOUT = 15.0
"""Seconds of silence after which the server counts as gone."""
EXAMPLE = "smtp://user:password@host:587 or smtps://user:password@host"


def channel(options: NotifyOptions) -> Delivery | None:
    """How to mail, or None if no recipient is given.

    Raises:
        UserError: the server is missing, or its address cannot be used.
    """
    if not options.email:
        return None
    if not (address := credential(SMTP_URL)):
        raise UserError(
            f"{SMTP_URL} is missing, the server that takes mail. Set it, or {SMTP_URL}_FILE to the path of a file "
            f"that holds it, to {EXAMPLE}."
        )
    return _Mail(smtp_server(address), options.email)


@dataclass(frozen=True)
class SmtpServer:
    """Where mail is handed in, and as whom."""

    host: str
    port: int
    tls: bool
    """From the first byte on (smtps)."""
    user: str
    password: str
    sender: str

    @property
    def must_encrypt(self) -> bool:
        """A password crosses no network in the clear."""
        return bool(self.password) and not is_loopback(self.host)


def smtp_server(address: str) -> SmtpServer:
    """Read `smtp://user:password@host:port?from=convoy@host`; the sender is by default the user, if that is an address.

    Raises:
        UserError: it is no such address; the text does not repeat it.
    """
    wrong = UserError(f"{SMTP_URL} is not of the form {EXAMPLE}.")
    try:
        parts = urlsplit(address)
        host, user = parts.hostname, unquote(parts.username or "")
        port = parts.port or (SUBMISSION if parts.scheme == "smtp" and user else PORTS[parts.scheme])
        asked = parse_qs(parts.query, strict_parsing=bool(parts.query)).get("from", [""])[0]
    except (ValueError, KeyError):
        raise wrong from None
    sender = asked or (user if "@" in user else f"convoy@{host}")
    if parts.scheme not in PORTS or not host or not address.isprintable() or not re.fullmatch(MAIL_ADDRESS, sender):
        raise wrong
    return SmtpServer(host, port, parts.scheme == "smtps", user, unquote(parts.password or ""), sender)


@dataclass(frozen=True)
class _Mail:
    """One server and whom it mails to."""

    server: SmtpServer
    recipients: tuple[str, ...]

    def __call__(self, event: Event, end: float) -> None:
        """Mail `event` to all recipients."""
        host = self.server.host
        try:
            refused = self._mail(event, max(0.1, min(TIMEOUT, end - time.monotonic())))
        except smtplib.SMTPRecipientsRefused:
            raise Undelivered(f"{host} takes mail for none of {', '.join(self.recipients)}.") from None
        except smtplib.SMTPAuthenticationError:
            raise Undelivered(f"{host} refuses the user or the password in {SMTP_URL}.") from None
        except smtplib.SMTPResponseException as error:
            raise Undelivered(f"{host} answers {error.smtp_code}.") from None  # its words may repeat what it got
        except ssl.SSLCertVerificationError as error:
            raise Undelivered(f"{host} shows a certificate that is not valid: {error.verify_message}.") from None
        except (OSError, smtplib.SMTPException) as error:
            problem = "does not answer" if isinstance(error, TimeoutError) else f"fails ({type(error).__name__})"
            raise Undelivered(f"{host} {problem}.") from None
        if refused:
            raise Undelivered(f"{host} takes no mail for {', '.join(refused)}; the others got it.")

    def _mail(self, event: Event, timeout: float) -> list[str]:
        """Hand the mail in; the recipients that were refused."""
        server, context = self.server, ssl.create_default_context()
        # An address literal: the name of this machine is nobody's business, and asking for it may take seconds.
        if server.tls:
            session: smtplib.SMTP = smtplib.SMTP_SSL(
                server.host, server.port, local_hostname="[127.0.0.1]", timeout=timeout, context=context
            )
        else:
            session = smtplib.SMTP(server.host, server.port, local_hostname="[127.0.0.1]", timeout=timeout)
        try:
            session.ehlo()
            if not server.tls and (server.must_encrypt or server.port == SUBMISSION):
                if session.has_extn("starttls"):
                    session.starttls(context=context)
                elif server.must_encrypt:
                    raise Undelivered(f"{server.host} offers no encryption (STARTTLS); no password is sent without.")
            if server.password:
                session.login(server.user, server.password)
            return list(session.send_message(self._message(event), server.sender, list(self.recipients)))
        finally:
            with suppress(OSError, smtplib.SMTPException):
                session.quit()

    def _message(self, event: Event) -> EmailMessage:
        message = EmailMessage()  # its policy refuses a line break in a header
        message["Subject"] = subject(event)
        message["From"] = Address("Convoy", addr_spec=self.server.sender)
        message["To"] = [Address(addr_spec=recipient) for recipient in self.recipients]
        message["Date"] = localtime()
        message["Message-ID"] = make_msgid(domain=self.server.sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"  # no out-of-office answers
        message["X-Convoy-Event"] = event.kind
        message.set_content(text(event))
        return message
