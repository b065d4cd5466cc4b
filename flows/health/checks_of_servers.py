"""The doctor's look at databases and servers: there, up to date, answering, and closed to strangers."""

from __future__ import annotations

import importlib.util
import os
import re
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from email.message import Message
from pathlib import Path

import psutil

from flows import settings
from flows.health.checks import FAILED, OK, WARNING, Check
from flows.notify.redaction import redacted
from flows.servers.processes import HOST, Server, answers, running
from pipeline.files import STATE

STRANGER = "https://stranger.example"
REFUSED = (400, 401, 403, 405, 421)
MIGRATIONS = {
    "prefect.db": ("prefect", "server/database/_migrations/versions/sqlite"),
    "mlflow.db": ("mlflow", "store/db_migrations/versions"),
}


def check_databases(root: Path) -> Iterable[Check]:
    """Each of the project's own databases, and whether its tables are those of the installed library."""
    variables = {**settings.environment(root), **os.environ}
    addresses = (variables["PREFECT_API_DATABASE_CONNECTION_URL"], variables["MLFLOW_TRACKING_URI"])
    for (database, (library, migrations)), address in zip(MIGRATIONS.items(), addresses, strict=True):
        path = root / STATE / database
        if not address.endswith(f":///{path}"):
            yield Check(database, OK, f"another one is used: {redacted(address)}")
        elif not path.exists():
            yield Check(database, WARNING, "not made yet: the first run will take 15 s longer", "make setup")
        elif (schema := schema_of(path)) is None:
            advice = (
                f"restore it from a copy, or begin anew without what it remembers: mv {path} {path}.old; make setup"
            )
            yield Check(database, FAILED, f"{path} is no database that can be read", advice)
        elif not os.access(path, os.W_OK):
            yield Check(database, FAILED, f"{path} is read-only for you", f"chmod u+w {path}, or ask whose it is")
        elif (newest := newest_schema(library, migrations)) != schema:
            advice = {
                "prefect.db": "convoy up migrates it",
                "mlflow.db": f"copy it, then: .venv/bin/mlflow db upgrade {address}",
            }[database]
            yield Check(database, WARNING, f"made by another version of {library} ({schema}, not {newest})", advice)
        else:
            yield Check(database, OK, f"as {library} wants it ({path.stat().st_size / 1e6:.1f} MB)")


def schema_of(database: Path) -> str | None:
    """The revision of a database's tables, or None where it cannot be read."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        row = connection.execute("select version_num from alembic_version").fetchone()
        return str(row[0]) if row else None
    return None


def newest_schema(library: str, migrations: str) -> str | None:
    """The revision that no other one follows, read from the names in a library's migrations without importing it."""
    spec = importlib.util.find_spec(library)
    folder = Path((spec and spec.origin) or "").parent / migrations
    texts = [path.read_text() for path in folder.glob("*.py")]
    found = {
        name: re.findall(rf"^{name}\b.*?= *[\"'](\w+)[\"']", "\n".join(texts), re.M)
        for name in ("revision", "down_revision")
    }
    newest = set(found["revision"]) - set(found["down_revision"])
    return newest.pop() if len(newest) == 1 else None


def check_servers(root: Path) -> Iterable[Check]:
    """The dashboards' servers, or the ones that the user's variables name."""
    servers = running(root)
    yield _page(servers.get("page"))
    for name, title, variable, path in (
        ("prefect", "Prefect", "PREFECT_API_URL", "/health"),
        ("mlflow", "MLflow", "MLFLOW_TRACKING_URI", "/health"),
    ):
        given = os.environ.get(variable, "")
        if given.startswith(("http:", "https:")):
            named = redacted(given)
            if answers(given.rstrip("/") + path, 5.0):
                yield Check(title, OK, f"the server of {variable} answers: {named}")
            else:
                yield Check(
                    title, FAILED, f"{variable} names {named}, which does not answer", f"start it, or unset {variable}"
                )
        elif name not in servers:
            yield Check(title, OK, "its server is not up; convoy up starts it")
        elif not servers[name].answers(5.0):
            found = f"its server runs (process {servers[name].pid}) and does not answer"
            yield Check(title, FAILED, found, f"convoy down, then convoy up; its log is {servers[name].log}")
        elif open_doors := [*PROBES[name](servers[name]), *_heard_outside(servers[name])]:
            advice = "convoy down; unset the variables that open it (env | grep -E 'PREFECT|MLFLOW'); convoy up"
            yield Check(title, FAILED, f"{servers[name].url} {'; '.join(open_doors)}", advice)
        else:
            yield Check(title, OK, f"{servers[name].url} answers, and lets no stranger in")


def _page(server: Server | None) -> Check:
    """The review page, which may be there for other machines as well."""
    if server is None:
        return Check("review page", OK, "it is not up; convoy up starts it")
    if not server.answers(5.0):
        found = f"its server runs (process {server.pid}) and does not answer"
        return Check("review page", FAILED, found, f"convoy down, then convoy up; its log is {server.log}")
    if open_doors := list(_open_in_page(server)):
        advice = f"convoy down, then convoy up; if that does not help, its log is {server.log}"
        return Check("review page", FAILED, f"{server.url} {'; '.join(open_doors)}", advice)
    return Check("review page", OK, f"{server.url} answers, and lets no stranger in")


def _open_in_page(server: Server) -> Iterable[str]:
    """Asked as another site would; what is refused so leaves entries in the ledger."""
    decision = server.url + "/decisions/0000000000000000"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    if ask(server.url + "/runs", {"Host": "stranger.example"})[0] not in REFUSED:
        yield "answers under any host name (DNS rebinding)"
    if ask(decision, {**form, "Origin": STRANGER}, "POST")[0] not in REFUSED:
        yield "takes orders from other sites"
    if ask(decision, {**form, "Origin": server.url}, "POST")[0] not in REFUSED:
        yield "takes forged requests (no form token)"
    policy = ask(server.url + "/login")[1].get("Content-Security-Policy", "")
    if "frame-ancestors 'none'" not in policy or "script-src 'self'" not in policy:
        yield "can be shown in other sites' frames, or runs script of others"
    if server.host != HOST and ask(server.url + "/api/runs")[0] not in REFUSED:
        yield "is there for other machines and asks nobody to log in"


def _open_in_prefect(server: Server) -> Iterable[str]:
    if ask(server.url + "/api/admin/version")[0] != 401:
        yield "asks for no password"
    asking = {"Origin": STRANGER, "Access-Control-Request-Method": "POST"}
    if ask(server.url + "/api/flows/filter", asking, "OPTIONS")[1]["Access-Control-Allow-Origin"] is not None:
        yield "lets other sites read it"
    # Without a password it would be 401 as well: a server that checks for forgery says so first.
    if ask(server.url + "/api/flows/", {"Content-Type": "application/json"}, "POST")[0] != 403:
        yield "takes forged requests (no CSRF check)"


def _open_in_mlflow(server: Server) -> Iterable[str]:
    search = server.url + "/api/2.0/mlflow/experiments/search"
    if ask(search + "?max_results=1", {"Host": "stranger.example"})[0] != 403:
        yield "answers under any host name (DNS rebinding)"
    if ask(search, {"Origin": STRANGER, "Content-Type": "application/json"}, "POST")[0] != 403:
        yield "takes orders from other sites"


def _heard_outside(server: Server) -> Iterable[str]:
    process = server.process()
    with suppress(psutil.Error):
        for member in [process, *process.children(recursive=True)] if process else []:
            for door in member.net_connections("inet"):
                if door.status == psutil.CONN_LISTEN and door.laddr.ip != HOST:
                    yield f"listens on {door.laddr.ip}, beyond this machine"


PROBES = {"prefect": _open_in_prefect, "mlflow": _open_in_mlflow}


def ask(url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> tuple[int, Message]:
    """Status and headers of the answer to a request without a password; status 0 where none came."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = b"{}" if method == "POST" else None
    try:
        with opener.open(urllib.request.Request(url, data, dict(headers or {}), method=method), timeout=5) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.headers
    except OSError:
        return 0, Message()
