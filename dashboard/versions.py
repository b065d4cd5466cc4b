"""The versions of the data that runs have learnt from, by their records, and the one in out/dataset.

Read once each, as 2,000 records are 50 MB: a look costs a `stat` per run.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.contracts import SPLITS
from pipeline.files import DATASET, shared

INFO = "dataset.json"


class Use(NamedTuple):
    """A run that learnt from a version."""

    run: str
    model: str
    started: int
    """Milliseconds since 1970."""
    ended: int


class Version(NamedTuple):
    """A version of the data."""

    digest: str
    images: int
    classes: int
    splits: dict[str, int]
    rejected: int
    origin: dict[str, Any]
    """The section `data` of the params; empty if no run has learnt from it yet."""
    uses: Sequence[Use]
    """Newest first."""
    here: bool
    """Whether it is the one in out/dataset."""
    when: int
    """When the first run that learnt from it began, or else when it was made; milliseconds since 1970."""


class _Record(NamedTuple):
    """What matters here of one run's record."""

    stamp: int
    """Time of the file."""
    use: Use
    version: Version
    """Without its uses."""


_records: dict[str, _Record] = {}
_lock = threading.Lock()


def known() -> list[Version]:
    """Every version that a run has learnt from, and the one in out/dataset, newest first."""
    with _lock:
        _refresh()
        records = sorted(_records.values(), key=lambda record: record.use.started)
    found: dict[str, Version] = {}
    learnt: dict[str, list[Use]] = {}
    for record in records:
        found.setdefault(record.version.digest, record.version)
        learnt.setdefault(record.version.digest, []).insert(0, record.use)
    if (mine := here()) is not None:
        found[mine.digest] = found.get(mine.digest, mine)._replace(here=True)
    every = [version._replace(uses=learnt.get(digest, [])) for digest, version in found.items()]
    return sorted(every, key=lambda version: (version.when, version.here), reverse=True)


def uses(digest: str) -> list[Use]:
    """The runs that learnt from a version, newest first."""
    with _lock:
        _refresh()
        found = [record.use for record in _records.values() if record.version.digest == digest]
    return sorted(found, key=lambda use: use.started, reverse=True)


def here() -> Version | None:
    """The version in out/dataset; None if there is none that can be read."""
    try:
        stamp = (DATASET / INFO).stat().st_mtime_ns
        info = json.loads((DATASET / INFO).read_bytes())
        splits = {split: _images(info, split) for split in SPLITS}
        counts = int(info["images"]), len(info["classes"]), splits, int(info["rejected"])
        return Version(str(info["digest"]), *counts, {}, (), True, stamp // 1_000_000)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _images(info: dict[str, Any], split: str) -> int:
    """Images of a split; where it is not said, images alone were counted."""
    return int(info["splits"].get(split, 0) if "splits" in info else sum(info["counts"].get(split, {}).values()))


def _refresh() -> None:
    """Read the records that are new or were replaced."""
    stamps = {}
    for path in shared().glob("runs/*/record.json"):
        try:
            stamps[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    for path, stamp in stamps.items():
        old = _records.get(path.parent.name)
        if old is None or old.stamp != stamp:
            try:
                _records[path.parent.name] = _read(json.loads(path.read_bytes()), stamp)
            except (OSError, ValueError, LookupError, TypeError):  # nothing that can be read
                _records.pop(path.parent.name, None)
    for gone in _records.keys() - {path.parent.name for path in stamps}:
        del _records[gone]


def _read(record: dict[str, Any], stamp: int) -> _Record:
    data = record["data"]
    use = Use(str(record["id"]), str(record["model"]), int(record["started"]), int(record["ended"]))
    splits = {split: int(data["splits"].get(split, 0)) for split in SPLITS}
    counts = int(data["images"]), len(data["classes"]), splits, int(data["rejected"])
    return _Record(stamp, use, Version(str(data["digest"]), *counts, dict(data["origin"]), (), False, use.started))
