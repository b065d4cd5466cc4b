"""`convoy gc`: show what nobody needs, and free it if told to."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from rich.table import Table

from flows.housekeeping import marks, plan, references
from flows.housekeeping.plan import Limits, Plan
from flows.housekeeping.turns import alone_in_project, at_work
from flows.records.terminal import console, plain
from pipeline.errors import UserError

UNITS = ("bytes", "kB", "MB", "GB", "TB")


def gc(root: Path, limits: Limits, yes: bool, as_json: bool) -> None:
    """Show what nobody needs, and with `yes` free it.

    Args:
        root: the project, not a worktree of it, and the current folder.
        limits: what stays beyond what is needed.
        yes: free it.
        as_json: print one JSON object instead of words.

    Raises:
        UserError: a run is at work, or git or MLflow cannot say what is needed; nothing was freed.
    """
    with alone_in_project(root) if yes else nullcontext():
        found = plan.make(root, limits)
        if not as_json:
            _show(found)
        if yes:
            _free(root, found, (lambda _: None) if as_json else print)
    if as_json:
        print(json.dumps(_plain(found, yes), indent=2))
    elif found.groups:
        total = human(found.bytes)
        print(f"Freed {total}." if yes else _invitation(root, total))


def human(count: int) -> str:
    """Bytes in the unit that leaves one to three digits before the point, as 1.4 MB."""
    size, unit = float(count), 0
    while size >= 999.5 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    digits = 1 if unit and size < 99.95 else 0
    return f"{size:.{digits}f} {UNITS[unit]}"


def _free(root: Path, found: Plan, say: Callable[[str], None]) -> None:
    """Free one group after the other; an interruption loses nothing that is needed."""
    if found.pins:
        references.pin(root, found.pins)
    marks.begin(found.going)
    for number, group in enumerate(found.groups):
        try:
            group.free()
        except KeyboardInterrupt:
            left = ", ".join(later.what for later in found.groups[number:])
            print(
                f"Interrupted. What is needed is as it was; `convoy gc --yes` frees the rest: {left}.", file=sys.stderr
            )
            raise
        except OSError as error:
            raise UserError(
                f"{group.what}: {error.filename or ''} cannot be removed ({error.strerror}). What is needed is as it "
                "was; give yourself the right to write there, and run `convoy gc --yes` again."
            ) from error
        say(f"freed  {human(group.bytes):>9}  {len(group.names):,} {group.what}")


def _show(found: Plan) -> None:
    out = console()
    for note in found.notes:
        out.print(plain(note))
    kept = ", ".join(f"{count:,} {why}" for why, count in sorted(found.kept.items(), key=lambda item: -item[1]))
    total = sum(found.kept.values())
    out.print(plain(f"{total:,} run{'s' * (total != 1)} stay{'s' * (total == 1)}{f': {kept}' if kept else ''}."))
    if found.pins:
        out.print(plain(f"{len(found.pins):,} of their commits are on no branch; refs of their own will keep them."))
    if not found.groups:
        out.print(plain("Nothing to free: all that is here is needed."))
        return
    out.print(_table(found))


def _table(found: Plan) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_footer=True)
    table.add_column("what", "total", overflow="fold")
    table.add_column("how many", justify="right", no_wrap=True)
    table.add_column("size", human(found.bytes), justify="right", no_wrap=True)
    table.add_column("why nobody needs it", overflow="fold")
    for group in found.groups:
        table.add_row(
            plain(group.what), f"{len(group.names):,}", human(group.bytes) if group.bytes else "", plain(group.why)
        )
    return table


def _invitation(root: Path, total: str) -> str:
    working = at_work(root)
    if working:
        return f"{working[0].upper()}{working[1:]}; when it has ended, `convoy gc --yes` frees what nobody needs."
    return f"`convoy gc --yes` frees it: {total}. The ledger, your pictures and the DVC remote are never touched."


def _plain(found: Plan, freed: bool) -> dict[str, object]:
    groups = [
        {"what": one.what, "why": one.why, "count": len(one.names), "bytes": one.bytes, "names": list(one.names)}
        for one in found.groups
    ]
    return {
        "freed": freed,
        "bytes": found.bytes,
        "groups": groups,
        "kept": found.kept,
        "pinned": found.pins,
        "notes": list(found.notes),
    }
