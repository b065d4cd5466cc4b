"""What the scheduler remembers, under a clock that is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from flows.schedule import times
from flows.schedule.memory import Memory, keep, recall
from flows.schedule.request import Trigger

NOW = datetime(2027, 5, 1, 12, tzinfo=UTC)
NIGHTLY = Trigger(cron="30 2 * * *")


@pytest.mark.parametrize(
    ("ahead", "due"),
    [(timedelta(hours=26), False), (timedelta(days=3), True), (timedelta(days=3650), True)],
)
def test_a_clock_that_was_wrong_keeps_no_later_run_from_beginning(tmp_path: Path, ahead: timedelta, due: bool) -> None:
    deployment = uuid4()
    keep(tmp_path, "nightly", Memory(deployment=deployment, trigger=NIGHTLY, handled=NOW + ahead))
    memory = recall(tmp_path, "nightly", deployment, NIGHTLY, NOW)
    assert memory.handled == (NOW if due else NOW + ahead)
    tonight = NOW + timedelta(hours=15)
    assert (times.due(NIGHTLY, memory.handled, tonight) is not None) == due
    assert times.due(NIGHTLY, memory.handled, NOW) is None  # what is past is not made up for
    changed = Trigger(cron="0 5 * * *")
    assert recall(tmp_path, "nightly", deployment, changed, NOW).handled == max(memory.handled, NOW)
