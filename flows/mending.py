"""What `kill -9` leaves where DVC writes its own files in place: half a `dvc.lock`, half a table of its locks.

DVC can do nothing with either, in any later run. Before each stage `dvc.lock` is kept, to be put back; the table is
removed, for those whom it named are dead.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from pipeline.errors import UserError
from pipeline.files import STATE, write_bytes

LOCK = Path("dvc.lock")
KEPT = STATE / "dvc.lock.before"
TABLE = Path(".dvc/tmp/rwlock")
WITHOUT_DIGEST = {"path", "size", "nfiles", "hash", "isexec"}
"""Keys of an item in `dvc.lock` that say nothing of its contents."""
SECOND_LOOK = 0.3
"""Seconds; a file that a living DVC is just writing is whole by then."""
CONFLICT = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
"""What git puts around two versions of some lines."""


def keep_lock(root: Path) -> None:
    """Remember `dvc.lock`, before a stage begins."""
    if (root / LOCK).exists():
        write_bytes(root / KEPT, (root / LOCK).read_bytes())


def mend(root: Path) -> None:
    """Put right what a kill has cut short, and say so; what is whole is left alone.

    Raises:
        UserError: a merge in git has left both versions of `dvc.lock` in it.
    """
    _refuse_conflict(root / LOCK)
    if _stays_broken(root / TABLE, json.loads):
        (root / TABLE).unlink(missing_ok=True)
    if _stays_broken(root / LOCK, _entries) and (root / KEPT).exists():
        write_bytes(root / LOCK, (root / KEPT).read_bytes())
        print("dvc.lock was cut short by a kill; it is put back as it was before that stage.", flush=True)


def _refuse_conflict(lock: Path) -> None:
    if lock.exists() and CONFLICT.search(lock.read_bytes()):
        raise UserError(
            f"{LOCK} holds a merge's conflict. Take one side, `git checkout --ours {LOCK}` or `--theirs`, then "
            "`convoy run`: what does not fit is computed again."
        )


def _stays_broken(path: Path, parse: Callable[[str], object]) -> bool:
    if not _broken(path, parse):
        return False
    time.sleep(SECOND_LOOK)
    return _broken(path, parse)


def _broken(path: Path, parse: Callable[[str], object]) -> bool:
    from voluptuous import Invalid

    try:
        parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, yaml.YAMLError, Invalid):
        return True
    return False


def _entries(text: str) -> object:
    """What DVC has written to its end: a whole last line, a digest in each item, and what its schema asks for.

    Where the last items are gone, DVC takes that for a change and runs the stage: no harm.
    """
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA

    found = COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(text))
    entries = (found.get("stages") or {}).values()
    items = [item for entry in entries for part in ("deps", "outs") for item in entry.get(part) or ()]
    if not text.endswith("\n") or not all(item.keys() - WITHOUT_DIGEST for item in items):
        raise ValueError("cut short")
    return found
