"""`convoy account`: the line that lets somebody into the review page, for the file that the page reads.

Passwords are kept as argon2id hashes; tokens, which nobody can guess, as sha256.
"""

from __future__ import annotations

import getpass
import hashlib
import re
import secrets
import sys
import unicodedata
from enum import StrEnum
from typing import Annotated

import typer

from pipeline.errors import UserError

FILE = "CONVOY_ACCOUNTS_FILE"
TEXT = "CONVOY_ACCOUNTS"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
TOKEN = "token-sha256:"  # noqa: S105 -- what the line of a token begins with
SHORTEST = 12
"""Characters of a password."""


class Role(StrEnum):
    """What an account may do on the page."""

    VIEWER = "viewer"
    APPROVER = "approver"


def account(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whom the ledger will name.", show_default=False)],
    role: Annotated[Role, typer.Option(help="An approver changes something, a viewer looks.")] = Role.VIEWER,
    token: Annotated[bool, typer.Option("--token", help="For a program: a token for /api/ and no password.")] = False,
) -> None:
    """Make an account of the review page: asks for a password, and prints the line for the page's file.

    When it starts, the page reads the lines of the file that CONVOY_ACCOUNTS_FILE names, which is for its owner's eyes
    alone (chmod 600). Without a terminal, the password is the first line of the standard input.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be a name: up to 64 letters, digits and . _ @ + - are taken, a letter or a digit first."
        )
    if token:
        made = f"convoy_{secrets.token_urlsafe(32)}"
        print(f"The token of {name}, shown this once:\n{made}\nIts line, for the file of {FILE}:", file=sys.stderr)
        secret = TOKEN + digest(made)
    else:
        password = _password(name)
        print(f"The line of {name}, for the file of {FILE}:", file=sys.stderr)
        secret = hashed(password)
    print(f"{name}:{role}:{secret}")


def normal(password: str) -> str:
    """The same characters for the same keys, whatever keyboard and browser make of them."""
    return unicodedata.normalize("NFKC", password)


def hashed(password: str) -> str:
    """The argon2id hash of a password, with the costs of RFC 9106 for little memory."""
    from argon2 import PasswordHasher

    return PasswordHasher().hash(normal(password))


def digest(token: str) -> str:
    """The sha256 of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        password = _line()
    else:
        try:
            password = getpass.getpass(f"Password of {name}: ")
            again = getpass.getpass("Once more: ")
        except EOFError:
            raise UserError("No password was given; no account is made.") from None
        if again != password:
            raise UserError("The two passwords differ; no account is made.")
    if len(password) < SHORTEST:
        raise UserError(f"A password takes {SHORTEST} characters or more; this one has {len(password)}.")
    return password


def _line() -> str:
    try:
        return sys.stdin.buffer.readline().decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise UserError("The password on the standard input is not UTF-8; no account is made.") from None
