"""Cases: each judgement of a registered model against the champion of that moment, kept for whoever decides.

.convoy/cases/ID/case.json       the verdict, what it is about, and until when somebody may decide
.convoy/cases/ID/images.parquet  what both answered to each test image
.convoy/pending/case-ID          while somebody is to decide, or is to be told of the decision
.convoy/pending/model-NAME       while MLflow is to be told of a rollback

A case never changes: the ledger holds its digest from the moment that it is opened, and what was decided about it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.failpoints import Point, passing
from pipeline.files import creating, replacing_folder, sha256_of, shared, write_json
from pipeline.registry import ledger
from pipeline.registry.champion import Version
from pipeline.registry.ledger import Act, Entry
from pipeline.registry.verdict import Verdict

if TYPE_CHECKING:
    import pyarrow as pa

CASE, IMAGES = "case.json", "images.parquet"
ID = re.compile("[0-9a-f]{16}")
"""An id comes from outside and becomes the name of a folder."""
State = Literal["waiting", "overdue", "open", "stale", "outdated", "reigning", "promoted", "rejected", "refused"]


class Case(Options):
    """`case.json`."""

    id: str
    run: str
    """Id of the run that made the model, or had it judged."""
    flow_run: str
    """Of Prefect; empty if none waits for the decision."""
    challenger: Version
    champion: Version | None
    """That it was compared with; None: the baseline."""
    verdict: Verdict
    report_digest: str
    """sha256 of the report on the challenger."""
    made: int
    """Milliseconds since 1970."""
    deadline: int
    """Likewise; 0 if nobody is waited for. Silence until then is a no."""
    push: bool
    """Whether the champion is to be published in the DVC remote."""

    @property
    def until(self) -> str:
        """The deadline in words."""
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.deadline / 1000))


@dataclass(frozen=True)
class Standing:
    """A case as it stands now."""

    case: Case
    state: State
    """waiting: somebody is asked; overdue: nobody answered; open: nobody is asked, a person may decide; stale: another
    champion has come; outdated: the gate has judged the same files again and rejected them; reigning: they are the
    champion's already; promoted, rejected: decided; refused: the gate rejected it."""
    opened: Entry | None
    decision: Entry | None
    since: str = ""
    """The newer case by which it is outdated."""

    @property
    def answerable(self) -> bool:
        """Whether somebody can still decide."""
        return self.state in ("waiting", "open")


def identify(run: str, challenger: str, verdict: Verdict, asked: str) -> str:
    """The id of a case: the same judgement made again after a kill is the same case.

    Args:
        run: that made the model, or had it judged.
        challenger: digest of the model.
        verdict: of the gate.
        asked: what was asked of the model and how it was compared, as text.
    """
    about = [run, challenger, verdict.champion, verdict.epoch, verdict.dataset, verdict.outcome, asked]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def open_case(case: Case, images: pa.Table, who: str) -> Case:
    """Keep a case and enter it in the ledger; one that is entered already is given as it was.

    One whose file was lost or changed since it was entered is kept anew under another id: the ledger holds its digest,
    so that nobody could decide on it any more.

    Args:
        case: what to keep.
        images: what both answered to each test image.
        who: has had it judged.
    """
    import pyarrow.parquet as pq

    while opened := ledger.of_case(case.id)[0]:
        if opened.case_digest == _digest(case.id):
            return read(case.id)
        case = case.model_copy(update={"id": hashlib.sha256(f"after {case.id}".encode()).hexdigest()[:16]})
    if case.deadline:
        mark(case.id)
    with replacing_folder(folder(case.id)) as home:
        with creating(home / IMAGES) as file:
            pq.write_table(images, file)
        passing(Point.CASE_IMAGES_WRITTEN)
        write_json(home / CASE, case.model_dump(mode="json"))
    passing(Point.CASE_WRITTEN)
    about = f"The gate says {case.verdict.outcome}. {' '.join(case.verdict.reasons[:1])}"
    ledger.append(act("judge", case, who, "gate", about))
    passing(Point.CASE_ENTERED)
    return case


def act(action: ledger.Action, case: Case, who: str, via: str, why: str) -> Act:
    """What the ledger notes of something that is done to a case."""
    return Act(
        action=action,
        model=case.challenger.name,
        who=who,
        via=via,
        why=why,
        case=case.id,
        case_digest=_digest(case.id),
        from_version=case.champion.version if case.champion else None,
        to_version=case.challenger.version,
        model_digest=case.challenger.digest,
        dataset_digest=case.challenger.dataset,
        report_digest=case.report_digest,
        location=case.challenger.location,
    )


def read(case: str) -> Case:
    """The case with this id.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    try:
        if ID.fullmatch(case):
            return Case.model_validate_json((folder(case) / CASE).read_bytes())
    except FileNotFoundError:
        pass
    except (OSError, ValidationError) as error:
        raise UserError(f"Case {case} cannot be read: {' '.join(str(error).split())[:200]}") from None
    raise UserError(f"There is no case {case[:40]!r} here. `convoy history` lists what was judged and decided.")


def images(case: str, columns: Sequence[str] | None = None) -> pa.Table:
    """What challenger and champion answered to each test image; of `columns`, those that there are.

    Raises:
        UserError: it is gone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(folder(read(case).id) / IMAGES) as file:
            known = file.schema_arrow.names
            return file.read(known if columns is None else [name for name in columns if name in known])
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"The images of case {case} cannot be read: {error}") from None


def standing(case: str) -> Standing:
    """The case with this id, as it stands now.

    Raises:
        UserError: there is none.
    """
    found = read(case)
    opened, decision = ledger.of_case(case)
    reigning, judged = ledger.champion(found.challenger.name), ledger.history(found.challenger.name, ("judge",))
    newest = _readable(folder(_newest(judged).get(_judged(found), "")) / CASE)
    return _standing(found, opened, decision, newest, reigning)


def standings(entries: Sequence[Entry] | None = None) -> list[Standing]:
    """Every case that is known here, newest first.

    Args:
        entries: of the ledger, of all kinds, if they are at hand.
    """
    if entries is None:
        entries = ledger.history(actions=("judge", *ledger.DECISIONS, *ledger.MOVES))
    opened = {entry.case: entry for entry in entries if entry.action == "judge"}
    closed = {entry.case: entry for entry in entries if entry.action in ledger.DECISIONS and entry.case}
    reigning = {entry.model: entry for entry in entries if entry.action in ledger.MOVES}
    kept = (path for path in (shared() / "cases").glob(f"*/{CASE}") if ID.fullmatch(path.parent.name))
    found = [case for path in kept if (case := _readable(path)) and case.id == path.parent.name]
    of_id, newest = {case.id: case for case in found}, _newest(entries)
    return [
        _standing(
            case,
            opened.get(case.id),
            closed.get(case.id),
            of_id.get(newest.get(_judged(case), "")),
            reigning.get(case.challenger.name),
        )
        for case in sorted(found, key=lambda case: (case.made, case.id), reverse=True)
    ]


def binding(case: str) -> str:
    """What a decision binds to: the digest of the case, so of all that it shows, and the champion of the moment."""
    found = read(case)
    reigning = ledger.champion(found.challenger.name)
    about = [_digest(case), reigning.epoch if reigning else 0, reigning.model_digest if reigning else ""]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def intact(standing: Standing) -> bool:
    """Whether the case is the one that the ledger knows, byte for byte."""
    return standing.opened is not None and standing.opened.case_digest == _digest(standing.case.id)


def pending() -> list[str]:
    """The cases that somebody is to decide, or to be told of: a look at one folder, however many cases there are."""
    return sorted(path.name.removeprefix("case-") for path in _pending().glob("case-*"))


def pending_models() -> list[str]:
    """The models of whose champion MLflow is to be told."""
    return sorted(path.name.removeprefix("model-") for path in _pending().glob("model-*"))


def mark(case: str = "", model: str = "") -> None:
    """Note that something is to follow, before that which it follows is done: a kill in between costs a look."""
    _pending().mkdir(parents=True, exist_ok=True)
    (_pending() / (f"case-{case}" if case else f"model-{model}")).touch()


def unmark(case: str = "", model: str = "") -> None:
    """Nothing is to follow any more."""
    (_pending() / (f"case-{case}" if case else f"model-{model}")).unlink(missing_ok=True)


def folder(case: str) -> Path:
    """Where a case is kept."""
    return shared() / "cases" / case


def _pending() -> Path:
    return shared() / "pending"


def _standing(
    case: Case, opened: Entry | None, decision: Entry | None, newest: Case | None, reigning: Entry | None
) -> Standing:
    """How a case stands.

    Args:
        case: which.
        opened: its entry.
        decision: likewise.
        newest: the last case about the same files, which may be this one; None: it was cleared away.
        reigning: the entry that made the champion; None: there is none.
    """
    since = newest.id if newest and newest.id != case.id and newest.verdict.outcome == "reject" else ""
    return Standing(case, _state(case, decision, since, reigning), opened, decision, since)


def _state(case: Case, decision: Entry | None, since: str, reigning: Entry | None) -> State:
    if decision:
        return "promoted" if decision.action == "promote" else "rejected"
    if case.verdict.outcome == "reject" or not case.verdict.sound:
        return "refused"
    if since:
        return "outdated"
    if case.verdict.epoch != (reigning.epoch if reigning else 0):
        return "stale"
    if reigning and reigning.model_digest == case.challenger.digest:
        return "reigning"
    if not case.deadline:
        return "open"
    return "overdue" if time.time() * 1000 > case.deadline else "waiting"


def _newest(entries: Sequence[Entry]) -> dict[tuple[str, str], str]:
    """The last case about each model's files, by `_judged`."""
    return {(entry.model, entry.model_digest): entry.case for entry in entries if entry.action == "judge"}


def _judged(case: Case) -> tuple[str, str]:
    return case.challenger.name, case.challenger.digest


def _readable(path: Path) -> Case | None:
    try:
        return Case.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _digest(case: str) -> str:
    try:
        return sha256_of(folder(case) / CASE)
    except FileNotFoundError:
        return ""
