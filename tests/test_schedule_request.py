"""What a run may be asked to do: crons, zones, branches and assignments, each refused in words where it is wrong."""

from __future__ import annotations

import subprocess

import pytest
from pydantic import ValidationError

from flows.schedule.request import Request, Trigger


def words(error: pytest.ExceptionInfo[ValidationError]) -> str:
    return " ".join(problem["msg"] for problem in error.value.errors())


def test_by_default_a_person_sets_it_off() -> None:
    request = Request(branch="main")
    assert request.trigger.cron is None and request.trigger.new_data is None
    assert Request.model_validate_json(request.model_dump_json()) == request  # as Prefect keeps it


def test_cron_and_new_data_may_both_be_given() -> None:
    trigger = Trigger(cron=" 30  2 * * * ", zone="Europe/Berlin", new_data=20, every_minutes=1)
    assert trigger.cron == "30 2 * * *"
    assert Trigger.model_validate(trigger.model_dump()) == trigger


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * *", "expected five fields, as in '30 2 * * *'; found 4"),
        ("0 30 2 * * *", "found 6"),  # with seconds: cronsim would read it
        ("@daily", "found 1"),
        ("60 2 * * *", "'60 2 * * *' is no cron expression: bad minute"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("1 2 * * ²L", "bad day-of-week"),
        ("9" * 5000 + " 2 * * *", "at most 200 characters"),
    ],
)
def test_a_cron_that_is_none(cron: str, expected: str) -> None:
    with pytest.raises(ValidationError) as error:
        Trigger(cron=cron)
    assert expected in words(error)


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("europe/berln", "there is no zone 'europe/berln'. Did you mean 'Europe/Berlin'?"),
        ("../../etc/passwd", "Expected one such as 'UTC' or 'Europe/Berlin'"),
        ("/etc/localtime", "there is no zone"),
        ("America", "there is no zone 'America'"),
        ("a\0b", "there is no zone"),
    ],
)
def test_a_zone_that_is_none(zone: str, expected: str) -> None:
    with pytest.raises(ValidationError) as error:
        Trigger(cron="30 2 * * *", zone=zone)
    assert expected in words(error)


def test_a_zone_without_a_cron_is_a_mistake() -> None:
    with pytest.raises(ValidationError) as error:
        Trigger(zone="Europe/Berlin", new_data=3)
    assert "but there is no cron" in words(error)


def test_numbers_that_mean_nothing() -> None:
    for options in ({"new_data": 0}, {"new_data": 1, "every_minutes": 0}, {"every_minutes": float("nan")}):
        with pytest.raises(ValidationError):
            Trigger.model_validate(options)
    with pytest.raises(ValidationError):
        Request(branch="main", cooldown_minutes=-1)


BRANCHES = [
    *("main", "feature/x", "a.b", "a@b", "x-1", "ünïcode", "a{b", "a}", "refs/heads/x", "head", "a.locks"),
    *("-x", "-", "--upload-pack=/bin/sh", "HEAD", "a..b", ".a", "a/.b", "a/", "/a", "a//b", "a.lock", "a.lock/b", "a."),
    *("a~1", "a^", "a:b", "a?b", "a*b", "a[b", "a\\b", "a@{1}", "a b", "a\tb", "a\nb", "main\n", "a\x7fb"),
]


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_branch_is_what_git_says_it_is(branch: str) -> None:
    said = subprocess.run(["git", "check-ref-format", "--branch", branch], capture_output=True, cwd="/").returncode
    try:
        Request(branch=branch)
    except ValidationError as error:
        assert said != 0, "git takes it"
        assert "cannot be the name of a branch; `git branch` lists yours" in str(error)
    else:
        assert said == 0, "git refuses it"


def test_at_sign_is_no_branch_although_git_takes_it() -> None:
    with pytest.raises(ValidationError):
        Request(branch="@")


@pytest.mark.parametrize("assignment", ["train.epochs", "=5", ""])
def test_an_assignment_has_two_sides(assignment: str) -> None:
    with pytest.raises(ValidationError) as error:
        Request(set=["seed=1", assignment])
    assert f"expected key=value, as in 'train.epochs=5'; found {assignment!r}" in words(error)
