"""What a project puts beside its data in the DVC remote, so that a fresh clone knows its runs and its champion.

convoy/records/ID.json        the record of a run
convoy/champions/MODEL.json   the record of the run whose model reigns
"""

from __future__ import annotations

from pathlib import Path

from flows.remote import moving as remote
from pipeline.registry import champion, runs
from pipeline.registry.attempts import Finished
from pipeline.registry.runs import RunRecord


def push(root: Path, record: RunRecord, reigns: bool) -> None:
    """Push data and models of the tree at `root`, then the record that leads to them.

    Raises:
        UserError: there is no remote, it cannot be reached or refuses, or files are missing.
    """
    remote.push(root)
    remote.publish(root, f"records/{record.id}.json", _plain(record))
    if reigns:
        crown(root, record)


def crown(root: Path, record: RunRecord) -> None:
    """Publish that the model of this run reigns. See `push`."""
    remote.publish(root, f"champions/{record.model}.json", _plain(record))


def push_again(root: Path, finished: Finished) -> None:
    """Push what a run left that has finished before.

    Raises:
        UserError: as for `push`.
    """
    record = runs.read(finished.id)
    if record is None:
        remote.push(root)
        return
    reigning = champion.current(record.model)
    push(root, record, reigning is not None and reigning.version.digest == record.version.digest)


def _plain(record: RunRecord) -> bytes:
    return record.model_dump_json(indent=2).encode()
