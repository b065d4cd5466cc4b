"""The intended times of a cron in a zone, and which of them is due. Pure: the moment is an argument.

Where the clock changes, Debian's rules hold, which cronsim's authors follow too. A cron of fixed times (`30 2 * * *`)
runs once a day whatever the clock does: a time that is skipped runs when the clock has been put forward, one that comes
twice runs the first time. A cron whose minute or hour begins with `*` (`0 * * * *`) follows the clock on the wall:
what is skipped is no time at all, and what comes twice runs twice.

cronsim reads the expression and walks over the wall's clock; from there to moments it goes here, because cronsim 2.8
loses times where the clock changes by half an hour: `45 * * * *` in Australia/Lord_Howe, for one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim

from flows.schedule.request import Trigger

MINUTE = timedelta(minutes=1)
LONGEST_REPEAT = timedelta(hours=4)
"""No clock of any zone has been put back by more than 3 hours since 1995."""
LOOK_BACK = [timedelta(hours=2), timedelta(days=2), timedelta(days=60), timedelta(days=800)]
"""Where the latest of many missed times is looked for, so that a year of them is not counted through."""


class Change(NamedTuple):
    """What a change of the clock does to one intended time."""

    wall: datetime
    """As the cron says it, without a zone."""
    moment: datetime
    """When it runs, in the zone."""
    skipped: bool
    """The clock is put forward over it; otherwise it comes twice."""


def after(trigger: Trigger, moment: datetime) -> Iterator[datetime]:
    """The intended times later than `moment`, in order, in UTC; none without a cron."""
    if trigger.cron is None:
        return
    zone, fixed = ZoneInfo(trigger.zone), _is_fixed(trigger.cron)
    start = moment.astimezone(zone).replace(tzinfo=None) - LONGEST_REPEAT
    passes = [_moments(trigger.cron, zone, start, fixed, fold) for fold in ((0,) if fixed else (0, 1))]
    last = moment
    for time in heapq.merge(*passes):
        if time > last:  # several skipped times run as one, when the clock has been put forward
            yield time
            last = time


def upcoming(trigger: Trigger, moment: datetime, count: int) -> list[datetime]:
    """The next `count` intended times later than `moment`."""
    return list(islice(after(trigger, moment), count))


def between(trigger: Trigger, since: datetime, now: datetime) -> Iterator[datetime]:
    """The intended times later than `since` and not later than `now`."""
    for time in after(trigger, since):
        if time > now:
            return
        yield time


def due(trigger: Trigger, handled: datetime, now: datetime) -> datetime | None:
    """The one intended time to run now: the latest since `handled`, however many were missed.

    Args:
        trigger: what sets runs off.
        handled: the last intended time that was dealt with. As long as it does not move back, a clock that is set back
            gives no time twice.
        now: the moment.
    """
    first = next(after(trigger, handled), None)
    if first is None or first > now:
        return None
    for span in LOOK_BACK:
        since = max(handled, now - span)
        latest = None
        for latest in between(trigger, since, now):  # noqa: B007  # the last one is wanted
            pass
        if latest or since == handled:
            return latest
    return max(between(trigger, handled, now), default=None)


def changes(trigger: Trigger, moment: datetime, until: datetime) -> Iterator[Change]:
    """The intended times of a fixed cron that a change of the clock touches, later than `moment`."""
    if trigger.cron is None or not _is_fixed(trigger.cron):
        return
    zone = ZoneInfo(trigger.zone)
    for wall in CronSim(trigger.cron, moment.astimezone(zone).replace(tzinfo=None)):
        first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if first > until:
            return
        if first != second:
            ran = _put_forward(wall, zone)
            yield Change(wall, ran.astimezone(zone), skipped=_on_the_wall(ran, zone) != wall)


def _is_fixed(cron: str) -> bool:
    """Whether neither the minute nor the hour follows the wall's clock."""
    minute, hour, *_ = cron.split()
    return not minute.startswith("*") and not hour.startswith("*")


def _moments(cron: str, zone: ZoneInfo, start: datetime, fixed: bool, fold: int) -> Iterator[datetime]:
    """The moments at which the wall shows the cron's times, for the first (0) or the second (1) time."""
    for wall in CronSim(cron, start):
        if fixed:
            yield _put_forward(wall, zone)
            continue
        moment = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if _on_the_wall(moment, zone) == wall:
            yield moment


def _put_forward(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first moment at which the wall shows this time, or, where it is skipped, the first one after the change."""
    while _on_the_wall(moment := wall.replace(tzinfo=zone, fold=0).astimezone(UTC), zone) != wall:
        wall += MINUTE
    return moment


def _on_the_wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)
