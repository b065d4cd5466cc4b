"""The accounts of the page: one a line, `name:role:secret`, in a file for its owner's eyes alone.

A secret is the argon2id hash of a password or `token-sha256:` with the digest of a token. What is wrong with a line is
said with its number and without its text: what stands in the wrong place may be a secret.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hmac import compare_digest
from pathlib import Path

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import Argon2Error, InvalidHashError

from flows.accounts import FILE, NAME, TEXT, TOKEN, Role, digest, normal
from pipeline.errors import ParamsError, Problem, UserError

HASH = re.compile(r"\$argon2id\$v=19\$m=(\d{1,8}),t=(\d{1,3}),p=(\d{1,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}")
LEAST, MOST = (7168, 1, 1), (2**20, 100, 64)
"""KiB of memory, passes and lanes of a hash: below, it is guessed too fast; above, a login takes the machine down."""
DIGEST = re.compile(r"[0-9a-f]{64}")
MAKE = "`convoy account NAME --role approver` makes one"


@dataclass(frozen=True)
class Account:
    """One line."""

    name: str
    role: Role
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Accounts:
    """All of them, and a hash that nobody's password has: an unknown name costs as long as a known one."""

    by_name: Mapping[str, Account]
    nobody: str = field(repr=False)

    def with_password(self, name: str, password: str) -> Account | None:
        """The account that both belong to; takes as long as a hash does, whether or not the name is known."""
        account = self.by_name.get(name)
        known = account is not None and not account.secret.startswith(TOKEN)
        secret = account.secret if account and known else self.nobody
        try:
            PasswordHasher().verify(secret, normal(password))
        except (Argon2Error, InvalidHashError):
            return None
        return account if known else None

    def with_token(self, token: str) -> Account | None:
        """The account that a bearer token belongs to."""
        shown = TOKEN + digest(token)
        right = [account for account in self.by_name.values() if compare_digest(account.secret, shown)]
        return right[0] if right else None


def read(environ: Mapping[str, str]) -> Accounts | None:
    """What the variables name; None where neither is set.

    Raises:
        UserError: both are set, the file cannot be read or others can read it, or lines are wrong (all of them).
    """
    file, text = environ.get(FILE, ""), environ.get(TEXT, "")
    if file and text:
        raise UserError(f"{FILE} and {TEXT} both name accounts of the page: unset one of them.")
    if file:
        return _checked(file, _private(Path(file)))
    return _checked(TEXT, text) if text else None


def _checked(where: str, text: str) -> Accounts:
    found: dict[str, Account] = {}
    problems = []
    for number, line in _lines(text):
        account = _parsed(line)
        if isinstance(account, str):
            problems.append(Problem(f"line {number}", account))
        elif account.name in found:
            problems.append(Problem(f"line {number}", "its name stands in an earlier line already."))
        else:
            found[account.name] = account
    if problems:
        raise ParamsError(where, problems)
    if not found:
        raise UserError(f"{where} holds no account of the page. {MAKE}.")
    return Accounts(found, _nobody(found.values()))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _parsed(line: str) -> Account | str:
    """The account of a line, or what is wrong with it."""
    name, _, rest = line.partition(":")
    role, _, secret = rest.partition(":")
    if not secret:
        return f"not name:role:secret. {MAKE}."
    if not NAME.fullmatch(name):
        return "its name is not up to 64 letters, digits and . _ @ + -, a letter or a digit first."
    if role not in set(Role):
        return f"its role is neither {Role.VIEWER} nor {Role.APPROVER}."
    if secret.startswith(TOKEN) and DIGEST.fullmatch(secret.removeprefix(TOKEN)):
        return Account(name, Role(role), secret)
    match = HASH.fullmatch(secret)
    if not match:
        return f"its secret is neither an argon2id hash nor {TOKEN} and 64 hexadecimal digits. {MAKE}."
    if not all(least <= int(cost) <= most for least, cost, most in zip(LEAST, match.groups(), MOST, strict=True)):
        return "its hash costs too little or too much: 7 MiB to 1 GiB, 1 to 100 passes and 1 to 64 lanes are taken."
    return Account(name, Role(role), secret)


def _nobody(accounts: Iterable[Account]) -> str:
    """A hash as costly as those of the accounts."""
    hashes = [account.secret for account in accounts if not account.secret.startswith(TOKEN)]
    hasher = PasswordHasher.from_parameters(extract_parameters(hashes[0])) if hashes else PasswordHasher()
    return hasher.hash(secrets.token_urlsafe(32))


def _private(path: Path) -> str:
    """The text of a file that nobody but its owner can read."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise UserError(
                    f"{path} can be read by others (mode {mode:o}), and it opens the page: chmod 600 {path}"
                )
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"{FILE} names {path}, which cannot be read: {reason}. {MAKE}.") from error
