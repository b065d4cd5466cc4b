"""What `convoy promote`, `reject` and `rollback` do: decide, then tell everybody who can be reached."""

from __future__ import annotations

from pathlib import Path

from flows.decisions import settle
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.params import Named
from pipeline.registry import cases, decisions, ledger
from pipeline.registry.cases import Standing
from pipeline.registry.decisions import By
from pipeline.registry.glances import SHORTEST
from pipeline.registry.ledger import Entry


def promote(root: Path, version: str, why: str) -> None:
    """Make the version the champion. See `find`."""
    _told(root, decisions.approve(find(version).case.id, _by(), why))


def reject(root: Path, version: str, why: str) -> None:
    """Say no to it. See `find`."""
    _told(root, decisions.reject(find(version).case.id, _by(), why))


def rollback(root: Path, model: str, to: str, why: str) -> None:
    """Put an earlier champion back.

    Raises:
        UserError: `to` is a version of another model than `model`.
    """
    named, _, number = to.rpartition("/")
    if model and named and model != named:
        raise UserError(f"--to {to} is a version of {named!r}, and --model says {model!r}. Leave one of them out.")
    _told(root, decisions.rollback(model or named or load(Named).name, _by(), why, number))


def find(name: str) -> Standing:
    """The newest case about what `name` means: what was judged before that is out of date.

    Args:
        name: of a case, a version, or the run that made it.

    Raises:
        UserError: there is none, or it fits several versions.
    """
    known = cases.standings()
    if found := [one for one in known if one.case.id == name]:
        return found[0]
    own, _, number = name.rpartition("/")
    about = [
        one
        for one in known
        if (one.case.challenger.name, one.case.challenger.version) == (own or load(Named).name, number)
        or (len(name) >= SHORTEST and one.case.run.startswith(name.lower()))
    ]
    if not about:
        few = ", ".join(dict.fromkeys(one.case.challenger.named for one in known[:5]))
        raise UserError(
            f"The gate has judged no version {name!r} here. Its newest: {few or 'none'}. `convoy run` trains one."
        )
    versions = dict.fromkeys(one.case.challenger.named for one in about)
    if len(versions) > 1:
        raise UserError(f"{name!r} fits {len(versions)} versions: {', '.join([*versions][:5])}. Name one of them.")
    return about[0]


def _told(root: Path, entry: Entry) -> None:
    done = ledger.decided(entry)
    print(f"{done[0].upper()}{done[1:]}, by {entry.who}.", flush=True)
    for problem in settle.settle(root):
        print(problem)


def _by() -> By:
    return By(decisions.person(), "command")
