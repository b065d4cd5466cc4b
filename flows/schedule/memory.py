"""What the scheduler remembers of a deployment from tick to tick, in `.convoy/schedules/NAME.json`."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from pydantic import AwareDatetime, ValidationError

from flows.schedule.request import Trigger
from pipeline.contracts import Options
from pipeline.files import STATE, write_json

HOME = STATE / "schedules"
WRONG = timedelta(days=2)
"""A clock that is so far behind what was dealt with went wrong before, and is right now."""


class Memory(Options):
    """Of one deployment."""

    deployment: UUID
    trigger: Trigger
    handled: AwareDatetime
    """The last intended time that was dealt with. It stays where the clock is set back, unless by more than `WRONG`:
    else nothing would run until the clock has come so far again. No time runs twice then either, for its flow run has a
    key."""
    looked: AwareDatetime | None = None
    """When the source was looked at."""
    seen: str = ""
    """Digest of the source's fingerprint then, if there was not enough news in it."""
    trouble: str = ""
    """What was wrong with the source then."""


def recall(project: Path, name: str, deployment: UUID, trigger: Trigger, now: datetime) -> Memory:
    """What is remembered; a deployment or a trigger that is new, or a clock that was wrong, starts at `now`."""
    try:
        kept = Memory.model_validate_json(_file(project, name).read_bytes())
    except (OSError, ValidationError):
        return Memory(deployment=deployment, trigger=trigger, handled=now)
    handled = now if kept.handled - now > WRONG else kept.handled
    if (kept.deployment, kept.trigger) == (deployment, trigger):
        return kept.model_copy(update={"handled": handled})
    return Memory(deployment=deployment, trigger=trigger, handled=max(handled, now))


def keep(project: Path, name: str, memory: Memory) -> None:
    """Remember, unless it is what is remembered."""
    plain, path = memory.model_dump(mode="json"), _file(project, name)
    try:
        if Memory.model_validate_json(path.read_bytes()) == memory:
            return
    except (OSError, ValidationError):
        pass
    write_json(path, plain)


def _file(project: Path, name: str) -> Path:
    return project / HOME / f"{name}.json"
