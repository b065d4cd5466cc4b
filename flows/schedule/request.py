"""What a run is asked to do, and what sets it off: the one parameter of the flow `retrain`, kept by Prefect as JSON."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from datetime import UTC, datetime
from typing import Annotated, Literal

from cronsim import CronSim, CronSimError
from pydantic import Field, StringConstraints, field_validator, model_validator

from pipeline.contracts import Options

NO_BRANCH = re.compile(
    r"""^-                         # would be read as an option
    | ^HEAD$ | ^@$             # the second means the first in a revision
    | [\x00-\x20\x7f~^:?*\[\\]     # controls, blanks, and what git's revisions are written with
    | \.\. | @\{ | //
    | (^|/)\. | ^/ | /$ | \.$ | \.lock(/|$)""",
    re.VERBOSE,
)
"""What `git check-ref-format --branch` refuses, and `@`."""


_ANY_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)


class Trigger(Options):
    """What sets a run off: times, news at the source, both, or nobody but a person."""

    cron: str | None = Field(default=None, max_length=200)
    """Five fields, as in `30 2 * * *`: minute, hour, day of month, month, day of week."""
    zone: str = Field(default="UTC", min_length=1, max_length=100)
    """In which the cron's times are meant, as in `Europe/Berlin`."""
    new_data: int | None = Field(default=None, ge=1)
    """A run is due once so many samples at the source are new or changed."""
    every_minutes: float = Field(default=5, gt=0, le=10_080, allow_inf_nan=False)
    """Between two looks at the source."""

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str | None) -> str | None:
        if cron is None:
            return None
        if len(cron.split()) != 5:
            raise ValueError(f"expected five fields, as in '30 2 * * *'; found {len(cron.split())} in {cron!r}")
        try:
            first = next(CronSim(cron, _ANY_MOMENT), None)
        except (CronSimError, ValueError, AssertionError) as error:  # the last two from what no cron looks like
            reason = str(error) if isinstance(error, CronSimError) else "Bad number"
            raise ValueError(f"{cron!r} is no cron expression: {reason.lower()}") from None
        if first is None:
            raise ValueError(f"{cron!r} names no time within 50 years")
        return " ".join(cron.split())

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, zone: str) -> str:
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # none such; a path; a folder of zones
            known = {name.lower(): name for name in zoneinfo.available_timezones()}
            near = difflib.get_close_matches(zone.lower(), known, n=1)
            hint = f"Did you mean {known[near[0]]!r}?" if near else "Expected one such as 'UTC' or 'Europe/Berlin'"
            raise ValueError(f"there is no zone {zone!r}. {hint}") from None
        return zone

    @model_validator(mode="after")
    def _nothing_idle(self) -> Trigger:
        if self.zone != "UTC" and self.cron is None:
            raise ValueError(f"zone {self.zone!r} says in which zone a cron is meant, but there is no cron")
        return self


class Request(Options):
    """What one run of `retrain` is asked to do."""

    branch: str = Field(default="", max_length=200)
    """Whose newest commit is trained; empty is the working tree as it stands."""
    set: list[Annotated[str, StringConstraints(max_length=10_000)]] = Field(default=[], max_length=100)
    """Changes to params.yaml for this run, as in `train.epochs=5`."""
    push: bool = False
    """Whether data and models go to the DVC remote."""
    resume: Literal["", "anyway", "anew"] = ""
    """Of a training that was begun on another machine, or with other libraries or threads: go on, to other bits, or
    start over. By default that is refused."""
    cooldown_minutes: float = Field(default=0, ge=0, allow_inf_nan=False)
    """A run is skipped while the last one of its deployment began less than so long ago."""
    trigger: Trigger = Trigger()
    """By default a person."""

    @field_validator("branch")
    @classmethod
    def _is_branch(cls, branch: str) -> str:
        if NO_BRANCH.search(branch):
            raise ValueError(f"{branch!r} cannot be the name of a branch; `git branch` lists yours")
        return branch

    @field_validator("set")
    @classmethod
    def _are_assignments(cls, assignments: list[str]) -> list[str]:
        for assignment in assignments:
            key, equals, _ = assignment.partition("=")
            if not key or not equals:
                raise ValueError(f"expected key=value, as in 'train.epochs=5'; found {assignment!r}")
        return assignments
