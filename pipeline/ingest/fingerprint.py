"""Whether there is anything to ingest: a walk over names, sizes and times, which reads no picture.

Kept beside the project: a digest of the options, of the code and of the names in the source, and the outputs that came
of them. Outputs that only look new, as after `dvc checkout`, are hashed once and then known again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.files import STATE, sha256_of, shared, write_json, write_text
from pipeline.plugin import HOME, imported

if TYPE_CHECKING:
    from pipeline.params import IngestParams

RECORD = STATE / "ingest" / "fingerprint.json"
CODE = ("dataset.py", "images.py", "ingest/*.py", "masks.py")


@dataclass(frozen=True)
class Inputs:
    """What a dataset is made from."""

    digest: str
    files: int
    """Of the source, an archive counting as one."""


def look(params: IngestParams) -> Inputs:
    """The inputs as they are now.

    Raises:
        UserError: the source is missing.
    """
    from pipeline.params import described, part_name

    digest = hashlib.sha256(json.dumps(described(params), sort_keys=True).encode())
    # A format that finds out by itself which one a source is may come to any of them.
    formats = "*" if part_name(params.data) == "auto" else part_name(params.data)
    parts = {
        file
        for pattern in (f"formats/{formats}.py", f"tasks/{part_name(params.task)}.py")
        for file in HOME.glob(pattern)
    }
    for file in sorted({file for pattern in CODE for file in HOME.glob(pattern)} | imported(parts)):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    count = 0
    for line in params.data.fingerprint():
        digest.update(line.encode() + b"\n")
        count += 1
    return Inputs(digest.hexdigest(), count)


def unchanged(inputs: Inputs, out: Path) -> bool:
    """Whether `out` holds just what came of these inputs."""
    try:
        record = json.loads(RECORD.read_bytes())
        known: dict[str, list[object]] = record["outputs"]
        if record["inputs"] != inputs.digest or known.keys() != _files(out).keys():
            return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    looks = {name: _look(path) for name, path in _files(out).items()}
    odd = [name for name, look in looks.items() if known[name][:2] != look]
    if any(known[name][2] != sha256_of(out / name) for name in odd):
        return False
    if odd:
        _write(inputs, {name: [*look, known[name][2]] for name, look in looks.items()})
    return True


def known_dataset(params: IngestParams) -> str | None:
    """The digest of the dataset that these inputs make, if any tree of the project has made it; reads no picture.

    Raises:
        UserError: the source is missing.
    """
    try:
        return _made(look(params)).read_text().strip()
    except OSError:
        return None


def remember(inputs: Inputs, out: Path) -> None:
    """Note that `out` is what came of these inputs."""
    write_text(_made(inputs), json.loads((out / "dataset.json").read_bytes())["digest"] + "\n")
    _write(inputs, {name: [*_look(path), sha256_of(path)] for name, path in _files(out).items()})


def _made(inputs: Inputs) -> Path:
    return shared() / "ingested" / inputs.digest


def _write(inputs: Inputs, outputs: dict[str, list[object]]) -> None:
    write_json(RECORD, {"inputs": inputs.digest, "outputs": outputs})


def _files(out: Path) -> dict[str, Path]:
    return {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}


def _look(path: Path) -> list[object]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]
