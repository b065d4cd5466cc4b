"""The files of a version of the data, if they are on this machine: opened, and few of them at a time.

A version is known by its digest. Its files are those of out/dataset, if that is the one, or lie in DVC's cache, where a
run that learnt from it says how to find them. The remote is never asked: a look must not take minutes.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from dashboard import versions
from dashboard.opened import SAMPLES, Away, Opened, told
from dashboard.versions import INFO
from pipeline.errors import UserError
from pipeline.files import DATASET

OPENED = 2
"""Versions that are open at a time."""
ASKED = 20
"""Runs whose records are asked where the files of a version are: each takes some milliseconds."""
LOOK_AGAIN = 10.0
"""Seconds for which files that are not here are not looked for again."""

_opened: OrderedDict[str, Opened] = OrderedDict()
_away: dict[str, tuple[float, Away]] = {}
"""Versions whose files were not here, when that was seen, and why: a page asks for many pictures of one."""
_opening = threading.Lock()


def opened(digest: str) -> Opened:
    """The version with that digest.

    Raises:
        Away: its files are not here.
    """
    with _opening:
        found = _opened.get(digest)
        if found is None or _stamp(found.files[INFO]) != found.stamp:
            _opened.pop(digest, None)
            found = _opened[digest] = _find(digest)
        _opened.move_to_end(digest)
        while len(_opened) > OPENED:
            _opened.popitem(last=False)
        return found


def located(digest: str) -> bool:
    """Whether the pictures of a version can be shown with what is known of them; not if its files are not here."""
    try:
        return opened(digest).located
    except Away:
        return False


def _find(digest: str) -> Opened:
    now = time.monotonic()
    for old in [old for old, (when, _) in _away.items() if now - when > LOOK_AGAIN]:
        del _away[old]
    if digest in _away:
        raise _away[digest][1]
    if (found := _in_tree(digest) or _in_cache(digest)) is not None:
        return found
    problem = Away(
        "Its files are not in DVC's cache on this machine. `dvc fetch` with the dvc.lock of a run that learnt from it "
        "brings them from the remote."
        if versions.uses(digest)
        else "No run that is recorded here has learnt from this version of the data."
    )
    _away[digest] = now, problem
    raise problem


def _in_tree(digest: str) -> Opened | None:
    mine = versions.here()
    if mine is None or mine.digest != digest:
        return None
    return _open({path.relative_to(DATASET).as_posix(): path for path in DATASET.rglob("*") if path.is_file()}, digest)


def _in_cache(digest: str) -> Opened | None:
    """By the record of one of the last runs that learnt from it."""
    found = (_open(_cached(use.run), digest) for use in versions.uses(digest)[:ASKED])
    return next((one for one in found if one is not None), None)


def _cached(run: str) -> dict[str, Path]:
    """The files of the dataset of a run in DVC's cache."""
    from flows.records import outputs
    from pipeline.registry import runs

    record = runs.read(run)
    try:
        return outputs.in_cache(record, DATASET.as_posix()) if record else {}
    except UserError:  # its dvc.lock cannot be read
        return {}


def _open(files: Mapping[str, Path], digest: str) -> Opened | None:
    """These files, if they are the version with that digest."""
    if not {INFO, SAMPLES} <= files.keys():
        return None
    try:
        stamp = _stamp(files[INFO])
        info = told(files[INFO].read_bytes())
    except (OSError, ValueError, TypeError, AttributeError):  # pydantic's error is a ValueError
        return None
    return Opened(info, files, stamp) if info.digest == digest else None


def _stamp(path: Path) -> int:
    """Time of a file; 0 if it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
