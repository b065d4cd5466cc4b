"""What `convoy history` and `convoy champion` show, from the ledger alone."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from rich.table import Table

from flows.records.terminal import console, plain
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.params import Named
from pipeline.registry import champion as champions
from pipeline.registry import ledger
from pipeline.registry.ledger import Action, Entry

DECIDED: tuple[Action, ...] = ("promote", "reject", "rollback")
ALL: tuple[Action, ...] = (*DECIDED, "judge", "refuse")


def history(model: str, everything: bool, limit: int, as_json: bool) -> None:
    """Print entries of the ledger, newest first."""
    found = ledger.history(model or None, ALL if everything else DECIDED)[::-1]
    shown = found[:limit] if limit else found
    if as_json:
        print(json.dumps([entry.model_dump(mode="json") for entry in shown], indent=2))
        return
    out = console()
    if not shown:
        out.print(plain("Nothing was decided here yet; `convoy run` trains a model and has it judged."))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("when (UTC)", "model", "what", "from", "to", "who", "why"):
        table.add_column(title, no_wrap=title not in ("who", "why"), overflow="fold")
    for entry in shown:
        table.add_row(*map(plain, _row(entry)))
    out.print(table)
    if len(found) > len(shown):
        out.print(plain(f"{len(found) - len(shown):,} older ones; --limit 0 shows all."))


def champion(model: str, at: str) -> champions.Champion | None:
    """Who reigns over a model, or did at a moment.

    Raises:
        UserError: `at` is no day and no moment.
    """
    name = model or load(Named).name
    return champions.at(name, moment(at)) if at else champions.current(name)


def reigning(found: champions.Champion) -> str:
    """In two lines."""
    version = found.version
    return f"{version.name} version {version.version} ({version.digest[:12]}), since {found.since}\n{found.why}"


def moment(text: str) -> str:
    """A day, at its end, or a moment in UTC, as the ledger writes it.

    Raises:
        UserError: it is neither.
    """
    try:
        found = datetime.fromisoformat(f"{text}T23:59:59" if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text)
        utc = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        return f"{utc:%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError):
        raise UserError(f"--at {text!r}: expected a day as in 2026-05-01, or a moment as 2026-05-01T12:00.") from None


def _row(entry: Entry) -> list[str]:
    when = entry.when.replace("T", " ").removesuffix("Z")[:16]
    return [when, entry.model, entry.action, entry.from_version or "-", entry.to_version, entry.who, entry.why]
