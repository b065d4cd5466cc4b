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
    """Put an earlier champion back."""
    _told(root, decisions.rollback(model or load(Named).name, _by(), why, to.rpartition("/")[2]))


def find(name: str) -> Standing:
    """The newest case about what `name` means.

    Args:
        name: of a case, a version, or the run that made it.

    Raises:
        UserError: there is none.
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
    return next((one for one in about if one.answerable), about[0])


def _told(root: Path, entry: Entry) -> None:
    done = ledger.decided(entry)
    print(f"{done[0].upper()}{done[1:]}, by {entry.who}.", flush=True)
    for problem in settle.settle(root):
        print(problem)


def _by() -> By:
    return By(decisions.person(), "command")
