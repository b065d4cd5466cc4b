"""The times of a schedule, against a walk through every minute of two years, and under a clock that misbehaves."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from flows.schedule.request import Trigger
from flows.schedule.times import after, between, changes, due, upcoming

START, END = datetime(2027, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)  # 29 February 2028 lies within
ZONES = (
    *("UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"),  # the last by half an hour
    *("America/Sao_Paulo", "Asia/Kolkata"),  # no daylight saving
)
MINUTE, QUARTER, DAY = timedelta(minutes=1), timedelta(minutes=15), timedelta(days=1)

ANY = frozenset(range(60))
EVERY_DAY = lambda day: True  # noqa: E731
CRONS = {
    # the cron: fixed?, minutes, hours, days
    "30 2 * * *": (True, {30}, {2}, EVERY_DAY),
    "15 2 * * *": (True, {15}, {2}, EVERY_DAY),
    "0,20,40 1-3 * * *": (True, {0, 20, 40}, {1, 2, 3}, EVERY_DAY),
    "0 0 29 2 *": (True, {0}, {0}, lambda day: (day.month, day.day) == (2, 29)),
    "45 1 1 * 0": (True, {45}, {1}, lambda day: day.day == 1 or day.weekday() == 6),
    "0 3 * * 1-5": (True, {0}, {3}, lambda day: day.weekday() < 5),
    "0 * * * *": (False, {0}, ANY, EVERY_DAY),
    "45 * * * *": (False, {45}, ANY, EVERY_DAY),
    "*/20 2 * * *": (False, {0, 20, 40}, {2}, EVERY_DAY),
    "10 */6 * * *": (False, {10}, {0, 6, 12, 18}, EVERY_DAY),
}


def minutes(zone: str) -> Iterator[tuple[datetime, datetime]]:
    """Every minute of two years: the moment, and the wall's clock. Clocks change on the quarter of an hour."""
    clock, quarter = ZoneInfo(zone), START
    while quarter < END:
        wall = quarter.astimezone(clock).replace(tzinfo=None)
        for _ in range(15):
            yield quarter, wall
            quarter, wall = quarter + MINUTE, wall + MINUTE


@cache
def reference(zone: str) -> dict[str, list[datetime]]:
    """The intended times by Debian's rules, found minute by minute.

    Fixed crons: a wall time that comes again does not count again; one that was skipped counts at the first minute
    after. The others: whenever the wall shows it.
    """
    found: dict[str, list[datetime]] = {cron: [] for cron in CRONS}
    at = {minute: [cron for cron, (_, those, _, _) in CRONS.items() if minute in those] for minute in range(60)}
    furthest = None  # what the wall has shown, at most
    for moment, wall in minutes(zone):
        skipped = []
        if furthest and wall > furthest + MINUTE:
            skipped = [furthest + MINUTE * n for n in range(1, (wall - furthest) // MINUTE)]
        again = furthest is not None and wall <= furthest
        furthest = wall if furthest is None else max(furthest, wall)
        for cron in CRONS if skipped else at[wall.minute]:
            fixed, at_minutes, at_hours, on_days = CRONS[cron]
            shown = () if fixed and again else (*skipped, wall) if fixed else (wall,)
            if any(time.minute in at_minutes and time.hour in at_hours and on_days(time) for time in shown):
                found[cron].append(moment)
    return found


@pytest.mark.parametrize("zone", ZONES)
def test_two_years_are_those_of_a_walk_through_every_minute(zone: str) -> None:
    for cron, expected in reference(zone).items():
        trigger = Trigger(cron=cron, zone=zone)
        assert list(between(trigger, START - MINUTE, END - MINUTE)) == expected, cron


def test_what_the_reference_says_by_hand() -> None:
    new_york = reference("America/New_York")["30 2 * * *"]
    assert len(new_york) == 731  # each day of a common and of a leap year, the short and the long ones too
    assert datetime(2027, 3, 14, 7, 0, tzinfo=UTC) in new_york  # 02:30 is skipped: at 03:00 EDT, not an hour early
    # 1:30 local comes twice on 7 November 2027; an hourly cron has 25 times that day.
    hourly = reference("America/New_York")["0 * * * *"]
    assert len([time for time in hourly if (time - timedelta(hours=4)).date() == datetime(2027, 11, 7).date()]) == 24
    assert all(later - earlier == timedelta(hours=1) for earlier, later in pairwise(hourly))
    lord_howe = reference("Australia/Lord_Howe")["15 2 * * *"]
    assert datetime(2027, 10, 2, 15, 30, tzinfo=UTC) in lord_howe  # 02:00 becomes 02:30
    assert reference("UTC")["0 0 29 2 *"] == [datetime(2028, 2, 29, tzinfo=UTC)]


def test_several_skipped_times_run_as_one() -> None:
    trigger = Trigger(cron="0,20,40 1-3 * * *", zone="Europe/Berlin")
    times = between(trigger, datetime(2027, 3, 27, 23, tzinfo=UTC), datetime(2027, 3, 28, 1, 30, tzinfo=UTC))
    assert [f"{time:%H:%M}" for time in times] == ["00:00", "00:20", "00:40", "01:00", "01:20"]


def test_asked_within_the_repeated_hour_nothing_is_lost_or_given_twice() -> None:
    hourly, fixed = (Trigger(cron=cron, zone="Europe/Berlin") for cron in ("30 * * * *", "30 2 * * *"))
    second_pass = datetime(2027, 10, 31, 1, 10, tzinfo=UTC)  # 02:10, for the second time
    assert upcoming(hourly, second_pass, 1) == [datetime(2027, 10, 31, 1, 30, tzinfo=UTC)]
    assert upcoming(fixed, second_pass, 1) == [datetime(2027, 11, 1, 1, 30, tzinfo=UTC)]
    first_pass = datetime(2027, 10, 31, 0, 50, tzinfo=UTC)  # 02:50, for the first time
    assert upcoming(hourly, first_pass, 1) == [datetime(2027, 10, 31, 1, 30, tzinfo=UTC)]


def clock(zone: str, seed: int) -> Iterator[datetime]:
    """A clock that steps by seconds to hours, and is set back by an hour at times and by a day a few times."""
    dice, now = random.Random(f"{zone} {seed}"), START
    while now < END:
        yield now
        now += timedelta(seconds=dice.choice([1, 600, 12_000, 20_000]) * dice.random())
        if dice.random() < 0.005:
            now -= timedelta(hours=1)
        if dice.random() < 0.0005:
            now -= DAY


@pytest.mark.parametrize(
    ("cron", "zone"),
    [*(("30 2 * * *", zone) for zone in ZONES), ("10 */6 * * *", "Australia/Lord_Howe"), ("0 0 29 2 *", "UTC")],
)
def test_under_an_irregular_clock_each_time_comes_exactly_once(cron: str, zone: str) -> None:
    trigger, handled, given, now = Trigger(cron=cron, zone=zone), START - MINUTE, [], START
    for now in clock(zone, seed=1):
        if time := due(trigger, handled, now):
            assert handled < time <= now
            given.append(time)
            handled = time
    assert given == [time for time in reference(zone)[cron] if time <= given[-1]]
    assert not list(between(trigger, handled, now))


@pytest.mark.parametrize("back", [timedelta(hours=1), DAY])
def test_a_clock_that_is_set_back_gives_no_time_twice(back: timedelta) -> None:
    trigger = Trigger(cron="0 * * * *")
    handled = noon = datetime(2027, 6, 1, 12, tzinfo=UTC)
    now = noon + timedelta(minutes=10) - back
    given = []
    while now < noon + timedelta(hours=3):
        if time := due(trigger, handled, now):
            given.append(time)
            handled = time
        now += timedelta(minutes=7)
    assert [time.hour for time in given] == [13, 14]


def test_after_three_days_off_there_is_one_catch_up_and_then_life_goes_on() -> None:
    trigger = Trigger(cron="0 */2 * * *", zone="Europe/Berlin")
    handled = datetime(2027, 3, 26, 11, 0, tzinfo=UTC)  # the clock is changed while the server is off
    now = handled + timedelta(days=3, minutes=17)
    assert len(list(between(trigger, handled, now))) == 35  # missed: 5, 12, 11 without the skipped 02:00, 7
    assert due(trigger, handled, now) == datetime(2027, 3, 29, 10, tzinfo=UTC)
    assert due(trigger, datetime(2027, 3, 29, 10, tzinfo=UTC), now) is None
    assert due(trigger, datetime(2027, 3, 29, 10, tzinfo=UTC), now + timedelta(hours=1)).hour == 12


def test_an_outage_of_ten_years_is_caught_up_with_as_soon() -> None:
    leap_day = Trigger(cron="0 0 29 2 *")
    assert due(leap_day, START, START + 3650 * DAY) == datetime(2036, 2, 29, tzinfo=UTC)
    assert due(leap_day, START, START + 30 * DAY) is None
    now = START + 3650 * DAY
    assert due(Trigger(cron="* * * * *"), START, now) == now


def test_without_a_cron_there_are_no_times() -> None:
    assert list(after(Trigger(new_data=5), START)) == []
    assert due(Trigger(), START, END) is None


def test_what_a_change_of_the_clock_does_is_said() -> None:
    skipped, repeated = changes(Trigger(cron="30 2 * * *", zone="Europe/Berlin"), START, START + 365 * DAY)
    assert (str(skipped.wall), str(skipped.moment)) == ("2027-03-28 02:30:00", "2027-03-28 03:00:00+02:00")
    assert (str(repeated.wall), str(repeated.moment)) == ("2027-10-31 02:30:00", "2027-10-31 02:30:00+02:00")
    assert skipped.skipped and not repeated.skipped
    assert not list(changes(Trigger(cron="30 2 * * *"), START, END))
    assert not list(changes(Trigger(cron="30 4 * * *", zone="Europe/Berlin"), START, END))
    assert not list(changes(Trigger(cron="0 * * * *", zone="Europe/Berlin"), START, END))
