"""The accounts of the page: settings under which it starts, the file of accounts, and the command that makes a line."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from dashboard.access import Access, Role
from flows.accounts import TOKEN, digest
from pipeline.errors import UserError

REPOSITORY = Path(__file__).parents[1]
CHEAP = PasswordHasher(time_cost=1, memory_cost=7168, parallelism=1)
LINES = [
    "# the team",
    f"ada:approver:{CHEAP.hash('correct horse battery')}",
    f"ci:viewer:{TOKEN}{digest('convoy_a-token-for-programs')}",
]
ACCOUNTS = {"CONVOY_ACCOUNTS": "\n".join(LINES)}


def test_elsewhere_there_must_be_accounts() -> None:
    for host, origin, reached in (
        ("0.0.0.0", "", "on 0.0.0.0"),
        ("192.0.2.7", "", "on 192.0.2.7"),
        ("::", "", "on ::"),
        ("127.0.0.1", "https://convoy.example", "at https://convoy.example"),
    ):
        with pytest.raises(UserError) as caught:
            Access.read(host, 4300, {"CONVOY_PAGE_ORIGIN": origin})
        assert str(caught.value) == (
            f"The page would stand open {reached}, to everybody who can reach it: it needs accounts. Let "
            "CONVOY_ACCOUNTS_FILE name a file of them; `convoy account NAME --role approver` makes one. On 127.0.0.1 "
            "alone, without CONVOY_PAGE_ORIGIN, it needs none."
        )
    for host in ("127.0.0.1", "localhost", "::1"):
        assert Access.read(host, 4300, {}).accounts is None
    assert set(Access.read("192.0.2.7", 4300, ACCOUNTS).addresses) == {
        "127.0.0.1:4300",
        "localhost:4300",
        "[::1]:4300",
        "192.0.2.7:4300",
    }


def test_on_every_address_it_must_be_said_which_is_meant() -> None:
    with pytest.raises(UserError) as caught:
        Access.read("0.0.0.0", 4300, ACCOUNTS)
    assert str(caught.value) == (
        "The page is to listen on every address of this machine, so CONVOY_PAGE_ORIGIN must say by which one people "
        "reach it: CONVOY_PAGE_ORIGIN=https://convoy.example"
    )
    found = Access.read("0.0.0.0", 80, {**ACCOUNTS, "CONVOY_PAGE_ORIGIN": "https://convoy.example:443"})
    assert found.addresses["convoy.example"] == "https://convoy.example" and found.addresses["localhost"]
    for wrong in (
        "convoy.example",
        "ftp://convoy.example",
        "https://",
        "https://a/b",
        "https://u@a",
        "https://a:x",
        "*",
    ):
        with pytest.raises(UserError, match="a scheme and a host are expected"):
            Access.read("0.0.0.0", 80, {**ACCOUNTS, "CONVOY_PAGE_ORIGIN": wrong})


def test_bad_lines_are_told_by_number_and_without_their_text() -> None:
    secret = "s3cr3t-s3cr3t"
    lines = [
        LINES[1],
        secret,
        f"ada:viewer:{TOKEN}{digest('x')}",
        f"{secret}!:viewer:{TOKEN}{digest('x')}",
        f"bob:{secret}:{TOKEN}{digest('x')}",
        f"bob:viewer:{secret}",
        f"bob:viewer:{TOKEN}{digest('x')[:-1]}",
        "bob:viewer:" + CHEAP.hash(secret).replace("m=7168", "m=99999999"),
        "bob:viewer:" + CHEAP.hash(secret).replace("argon2id", "argon2i"),
    ]
    with pytest.raises(UserError) as caught:
        Access.read("127.0.0.1", 4300, {"CONVOY_ACCOUNTS": "\n".join(lines)})
    make = "`convoy account NAME --role approver` makes one."
    wrong = f"its secret is neither an argon2id hash nor token-sha256: and 64 hexadecimal digits. {make}"
    assert str(caught.value).split("\n") == [
        "CONVOY_ACCOUNTS: 8 problems",
        f"  line 2: not name:role:secret. {make}",
        "  line 3: its name stands in an earlier line already.",
        "  line 4: its name is not up to 64 letters, digits and . _ @ + -, a letter or a digit first.",
        "  line 5: its role is neither viewer nor approver.",
        f"  line 6: {wrong}",
        f"  line 7: {wrong}",
        "  line 8: its hash costs too little or too much: 7 MiB to 1 GiB, 1 to 100 passes and 1 to 64 lanes are taken.",
        f"  line 9: {wrong}",
    ]
    assert secret not in repr(Access.read("127.0.0.1", 4300, ACCOUNTS)) and "argon2" not in repr(
        Access.read("127.0.0.1", 4300, ACCOUNTS)
    )


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    environ = {"CONVOY_ACCOUNTS_FILE": str(path)}

    def said(**more: str) -> str:
        with pytest.raises(UserError) as caught:
            Access.read("127.0.0.1", 4300, environ | more)
        return str(caught.value)

    make = "`convoy account NAME --role approver` makes one."
    assert said() == (f"CONVOY_ACCOUNTS_FILE names {path}, which cannot be read: No such file or directory. {make}")
    path.write_text("\n".join(LINES))
    path.chmod(0o640)
    assert said() == f"{path} can be read by others (mode 640), and it opens the page: chmod 600 {path}"
    path.chmod(0o600)
    assert said(**ACCOUNTS) == (
        "CONVOY_ACCOUNTS_FILE and CONVOY_ACCOUNTS both name accounts of the page: unset one of them."
    )
    found = Access.read("127.0.0.1", 4300, environ).accounts
    assert found and set(found.by_name) == {"ada", "ci"}
    path.write_text("# nobody yet\n")
    assert said() == f"{path} holds no account of the page. {make}", "an empty file opens no door"


COMMAND = """
import sys, typer
from flows.accounts import account
from pipeline.errors import UserError
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(account)
try:
    app()
except UserError as error:
    sys.exit(str(error))
"""


def account(*arguments: str, stdin: str = "", encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COMMAND, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, encoding=encoding, cwd=REPOSITORY)


def test_the_command_makes_a_line_that_opens_the_page() -> None:
    made = account("ada", "--role", "approver", stdin="correct horse battery\n")
    assert re.fullmatch(r"ada:approver:\$argon2id\$v=19\$m=65536,t=3,p=4\$\S+\n", made.stdout)
    assert "correct horse" not in made.stdout + made.stderr
    found = Access.read("127.0.0.1", 4300, {"CONVOY_ACCOUNTS": made.stdout}).accounts
    assert found and found.with_password("ada", "correct horse battery") and not found.with_password("ada", "wrong")
    made = account("ci", "--token")
    token = made.stderr.split("\n")[1]
    assert token.startswith("convoy_") and len(token) == 50 and token not in made.stdout
    found = Access.read("127.0.0.1", 4300, {"CONVOY_ACCOUNTS": made.stdout}).accounts
    known = found and found.with_token(token)
    assert known and (known.name, known.role) == ("ci", Role.VIEWER)
    assert found and found.with_token("convoy_x") is None


def test_the_command_refuses_what_would_not_do() -> None:
    short = account("ada", stdin="short\n")
    assert short.returncode and "A password takes 12 characters or more; this one has 5." in short.stderr
    named = account("a:b", stdin="correct horse battery\n")
    assert "'a:b' cannot be a name: up to 64 letters, digits and . _ @ + - are taken" in named.stderr
    other = account("ada", stdin="corr\u00e9ct horse battery\n", encoding="latin-1")
    assert other.stderr == "The password on the standard input is not UTF-8; no account is made.\n"
    assert not short.stdout and not named.stdout and not other.stdout


def test_the_command_asks_twice_and_shows_nothing() -> None:
    """On a terminal of its own."""

    def typed(*lines: str) -> str:
        child, terminal = pty.fork()
        if child == 0:
            os.execv(sys.executable, [sys.executable, "-c", COMMAND, "ada"])
        shown = b""
        for line, prompt in zip(lines, (b"Password of ada: ", b"Once more: "), strict=True):
            while not shown.endswith(prompt):
                shown += os.read(terminal, 1000)
            os.write(terminal, f"{line}\n".encode())
        while True:
            try:
                shown += os.read(terminal, 1000)
            except OSError:
                break
        os.waitpid(child, 0)
        return shown.decode()

    shown = typed("correct horse battery", "correct horse battery")
    assert "ada:viewer:$argon2id$" in shown and "correct" not in shown
    assert "The two passwords differ; no account is made." in " ".join(typed("correct horse battery", "other").split())
