"""Schedules in words: what sets a run off, the next times, and where a change of the clock moves one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from flows.schedule import times
from flows.schedule.request import Trigger

SHOWN = 10
AHEAD = timedelta(days=400)
"""Both changes of the clock, and each month, lie within."""


def trigger_words(trigger: Trigger) -> str:
    """What sets a run off: `30 2 * * * UTC, or 20 new samples`."""
    ways = []
    if trigger.cron:
        ways.append(f"{trigger.cron} {trigger.zone}")
    if trigger.new_data:
        ways.append(f"{trigger.new_data:,} new or changed sample{'s' if trigger.new_data > 1 else ''}")
    return ", or ".join(ways) or "by hand"


def next_times(trigger: Trigger, now: datetime) -> Iterator[str]:
    """The next ten times, a line each, then what changes of the clock do to the times of the next 400 days."""
    zone = ZoneInfo(trigger.zone)
    for time in times.upcoming(trigger, now, SHOWN):
        there, utc = time.astimezone(zone), f"{time:%Y-%m-%d %H:%M} UTC"
        yield f"  {there:%a} {utc}" if trigger.zone == "UTC" else f"  {there:%a %Y-%m-%d %H:%M %Z}   {utc}"
    for change in times.changes(trigger, now, now + AHEAD):
        yield f"  {_change_words(change)}"


def when(moment: datetime | None) -> str:
    """A moment in UTC, or a dash."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}" if moment else "-"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _change_words(change: times.Change) -> str:
    ran = f"{change.moment:%H:%M %Z} ({change.moment.astimezone(UTC):%H:%M} UTC)"
    if change.skipped:
        return f"{change.wall:%a %Y-%m-%d}: no {change.wall:%H:%M}, as the clock is put forward; runs at {ran}."
    return f"{change.wall:%a %Y-%m-%d}: {change.wall:%H:%M} comes twice, as the clock is put back; runs once, at {ran}."
