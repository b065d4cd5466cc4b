"""How many samples at a source are new or changed since a run was last asked for.

Kept for each deployment in `.convoy/sources/`: NAME.txt, one line per sample as they were then. Removed samples are no
news. Without that file every sample is new, unless the deployment has had a run already: then it starts to count now.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from flows.edits import edited
from flows.schedule.request import Request
from pipeline.contracts import FormatConfig
from pipeline.door import PARAMS, parse
from pipeline.errors import UserError
from pipeline.files import STATE, replacing
from pipeline.params import IngestParams

HOME = STATE / "sources"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class News(NamedTuple):
    """A source, compared with what is remembered of it."""

    lines: list[str]
    """One per sample, sorted."""
    fresh: int | None
    """Samples that are new or changed; None if nothing is remembered."""


def source(project: Path, request: Request) -> FormatConfig:
    """Where the samples of a request come from: params.yaml at its branch's newest commit, with its assignments.

    Raises:
        UserError: no such branch, no such file there, or the params are wrong.
    """
    revision = f"refs/heads/{request.branch}:./{PARAMS}"  # ./ is the project's folder within the repository
    command = ["git", "-C", str(project), "show", "--no-textconv", "--end-of-options", revision]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False)
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired) as error:
        raise UserError(f"git cannot show {PARAMS} of branch {request.branch!r}: {error}") from None
    if shown.returncode:
        reason = " ".join(shown.stderr.split()) or f"status {shown.returncode}"
        raise UserError(f"Branch {request.branch!r} has no {PARAMS} that could be read. git says: {reason}")
    return parse(IngestParams, edited(shown.stdout, request.set), f"{PARAMS} of branch {request.branch}").data


def look(project: Path, name: str, form: FormatConfig) -> News:
    """Compare the source with what is remembered for the deployment `name`; costs a walk over its names.

    Raises:
        UserError: the source is missing or damaged.
    """
    lines = sorted(form.listing())
    try:
        known = set(_file(project, name).read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        return News(lines, None)
    return News(lines, sum(line not in known for line in lines))


def remember(project: Path, name: str, lines: Iterable[str]) -> None:
    """A run of the deployment `name` is asked for that sees these samples."""
    with replacing(_file(project, name)) as file:
        file.writelines(f"{line}\n".encode() for line in lines)


def digest(lines: Iterable[str]) -> str:
    """sha256 over lines."""
    found = hashlib.sha256()
    for line in lines:
        found.update(line.encode() + b"\n")
    return found.hexdigest()


def _file(project: Path, name: str) -> Path:
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r} is no name of a deployment of ours.")
    return project / HOME / f"{name}.txt"
