"""Who becomes champion: by the gate, by a person, by nobody answering, and back again.

Whatever the way in, all of it passes here: the page, the commands, the API and Prefect call these functions and no
others. The ledger decides between several at once; MLflow's alias follows it (see `champion.reconcile`), and may be
away meanwhile. Whoever is refused is told why, and leaves an entry.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal
from unicodedata import category

from pipeline.errors import UserError
from pipeline.registry import cases, champion, ledger
from pipeline.registry.cases import Case, Standing
from pipeline.registry.champion import Champion, bundle_of
from pipeline.registry.ledger import Act, Entry

GATE = "gate"
LONGEST = 2000
"""Characters of a reason."""
WRITTEN = "\r\n\t\u200c\u200d"
"""Of a reason, beside what can be printed and spaces of any width: joiners, which Persian, Hindi and emoji need."""


class Refused(UserError):
    """It must not be, or somebody was first; nothing was changed."""


@dataclass(frozen=True)
class By:
    """Who decides, and by which way in."""

    who: str
    via: str
    """See `ledger.Act`."""


def approve(case: str, by: By, why: str, shown: str | None = None) -> Entry:
    """Make the challenger of a case the champion.

    Args:
        case: its id.
        by: who says so.
        why: in their words.
        shown: the `cases.binding` of what they saw; None for whoever looks and decides at once.

    Raises:
        Refused: it is unknown, unsound, stale, overdue or decided, its files are gone or changed, or what was shown has
            changed since.
    """
    with _noted(by, case) as name:
        found = _decidable(case, why, shown)
        name.append(found.case.challenger.name)
        _approvable(found)
        bundle_of(found.case.challenger)
        if by.via != GATE:  # whose own run tells of it, and goes on with that after a kill
            cases.mark(case)
        reigning = champion.current(found.case.challenger.name)
        act = cases.act("promote", found.case, by.who, by.via, why)
        act = act.model_copy(update={"from_version": reigning.version.version if reigning else None})
        return ledger.append(act, after=found.case.verdict.epoch)


def reject(case: str, by: By, why: str, shown: str | None = None) -> Entry:
    """Close a case without a change. See `approve`."""
    with _noted(by, case) as name:
        found = _decidable(case, why, shown)
        name.append(found.case.challenger.name)
        cases.mark(case)
        return ledger.append(cases.act("reject", found.case, by.who, by.via, why))


def decide(decision: Literal["approve", "reject"], case: str, by: By, why: str, shown: str | None = None) -> Entry:
    """See `approve` and `reject`."""
    return (approve if decision == "approve" else reject)(case, by, why, shown)


def promoted_by_gate(case: Case) -> Entry | None:
    """Promote the challenger on the gate's own verdict; None if it is the champion already. Twice is once.

    Raises:
        Refused: as for `approve`.
    """
    reigning = champion.current(case.challenger.name)
    whole = reigning is not None and reigning.version == case.challenger
    if whole and ledger.of_case(case.id)[1] is not None:
        return None
    return approve(case.id, By(f"the gate, for {person()}", GATE), " ".join(case.verdict.reasons))


def rollback(model: str, by: By, why: str, to: str = "", after: int | None = None) -> Entry:
    """Make an earlier champion the champion again; MLflow may be away.

    Args:
        model: its name.
        by: who says so.
        why: in their words.
        to: its version; by default the champion before this one.
        after: the epoch of the ledger that they saw; None for whoever looks and decides at once.

    Raises:
        Refused: there is no such champion, its files are gone or changed, or somebody was first.
    """
    with _noted(by, "", model):
        _reasoned(why)
        newest, line = ledger.champion(model), champion.line(model)
        if newest and after not in (None, newest.epoch):
            raise Refused(ledger.moved(newest))
        target = _earlier(model, line, to)
        bundle_of(target.version)
        cases.mark(model=model)
        version = target.version
        act = Act(
            action="rollback",
            model=model,
            who=by.who,
            via=by.via,
            why=why,
            from_version=line[-1].version.version,
            to_version=version.version,
            model_digest=version.digest,
            dataset_digest=version.dataset,
            location=version.location,
        )
        return ledger.append(act, after=line[-1].epoch if after is None else after)


def silence() -> list[Entry]:
    """Reject every case that nobody has answered in time, or that waits though another champion or another verdict on
    the same files has come."""
    return [entry for case in cases.pending() if (entry := _silenced(case))]


def refuse(act: Act) -> None:
    """Leave an entry about something that was refused; that it cannot be left is no reason to go on."""
    with suppress(UserError):
        ledger.append(act)


def person() -> str:
    """Who uses this process."""
    try:
        return getpass.getuser().encode(errors="replace").decode()  # a variable may hold bytes that are no UTF-8
    except (OSError, KeyError, ImportError):  # a container's user without a name
        return "unknown"


def _silenced(case: str) -> Entry | None:
    with suppress(UserError):  # another process has said so, or the case cannot be read
        standing = cases.standing(case)
        reigning = champion.current(standing.case.challenger.name)
        if standing.state == "overdue":
            why = f"Nobody decided until {standing.case.until}: silence is a no."
        elif standing.state == "stale" and standing.case.deadline and reigning:
            why = (
                f"Version {reigning.version.version} became champion meanwhile, and it was compared with another one. "
                f"`convoy judge {standing.case.challenger.named}` asks anew."
            )
        elif standing.state == "outdated" and standing.case.deadline:
            why = f"The gate has judged the same files again, as case {standing.since}, and rejected them."
        else:
            return None
        return ledger.append(cases.act("reject", standing.case, "nobody", "silence", why))
    return None


@contextmanager
def _noted(by: By, case: str, model: str = "") -> Iterator[list[str]]:
    """Note what is refused inside; the block adds the model's name once it knows it."""
    known = [model]
    try:
        yield known
    except UserError as error:
        kept = case if cases.ID.fullmatch(case) else ""
        refuse(Act(action="refuse", model=known[-1], who=by.who, via=by.via, why=str(error)[:LONGEST], case=kept))
        raise error if isinstance(error, Refused) else Refused(str(error)) from error


def _decidable(case: str, why: str, shown: str | None) -> Standing:
    _reasoned(why)
    found = cases.standing(case)
    if found.opened is None or not cases.intact(found):
        raise Refused(
            f"Case {case} is not the one that the gate judged: the ledger knows it under another digest, or not at "
            "all. Have the model judged again: `convoy judge`."
        )
    if found.decision:
        entry = found.decision
        raise Refused(f"{entry.who} was first: {ledger.decided(entry)}. Nothing was changed.")
    if found.state == "overdue":
        silence()
        raise Refused(
            f"The time to decide ended at {found.case.until}, and silence is a no. "
            f"`convoy judge {found.case.challenger.named}` asks anew."
        )
    if found.state == "reigning":
        raise Refused(
            f"{found.case.challenger.named} is the champion already. `convoy rollback {found.case.challenger.name}` "
            "takes it out of use."
        )
    if shown is not None and shown != cases.binding(case):
        raise Refused(
            "What you saw has changed since: another champion reigns, or the case is another. Nothing was changed; "
            "look at it again."
        )
    return found


def _approvable(found: Standing) -> None:
    case = found.case
    if not case.verdict.sound:
        failed = [check.found for check in case.verdict.checks if not check.passed] or ["it was never made"]
        raise Refused(
            f"{case.challenger.named} fails its infrastructure check, so nobody can promote it: {' '.join(failed)}"
        )
    if case.verdict.outcome == "reject":
        raise Refused(
            f"The gate rejected {case.challenger.named}, so nobody can promote it: {' '.join(case.verdict.reasons)}"
        )
    if found.state == "outdated":
        raise Refused(
            f"The gate has judged {case.challenger.named} again, as case {found.since}, and rejected it, so nobody can "
            "promote it."
        )
    if found.state == "stale":
        raise Refused(
            f"{case.challenger.named} was judged against another champion than the present one. "
            f"`convoy judge {case.challenger.named}` compares it with that."
        )


def _earlier(model: str, line: list[Champion], to: str) -> Champion:
    if not line:
        raise Refused(f"{model!r} has no champion, so there is nothing to go back to.")
    others = [one for one in line if one.version.digest != line[-1].version.digest]
    if not others:
        raise Refused(f"{model!r} has had no champion but version {line[-1].version.version}: nothing to go back to.")
    if not to:
        return others[-1]
    if to == line[-1].version.version:
        raise Refused(f"Version {to} of {model!r} is the champion already.")
    found = [one for one in others if one.version.version == to]
    if not found:
        known = ", ".join(dict.fromkeys(one.version.version for one in others))
        raise Refused(f"Version {to} of {model!r} has never been champion. These were: {known}.")
    return found[-1]


def _reasoned(why: str) -> None:
    if not why.strip():
        raise Refused("A decision needs a reason: say in a few words why, for whoever reads the history.")
    if not all(letter.isprintable() or letter in WRITTEN or category(letter) == "Zs" for letter in why):
        raise Refused("The reason holds characters that cannot be printed. Say it in plain text.")
    if len(why) > LONGEST:
        raise Refused(f"The reason has {len(why):,} characters; {LONGEST:,} are kept. Say it shorter.")
