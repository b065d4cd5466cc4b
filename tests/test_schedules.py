"""Every file in pipeline/schedules/ meets one contract; the rates are worked out by hand."""

from __future__ import annotations

import math

import pytest
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from pipeline.plugin import config_class, names
from pipeline.training import Course, ScheduleConfig


def schedule(name: str, **options: object) -> ScheduleConfig:
    return config_class("schedules", name)(**options)


def factors(part: ScheduleConfig, steps: int, epochs: int) -> list[float]:
    return [part.factor(Course(step, steps, epochs)) for step in range(steps * epochs)]


@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (1, 5), (19, 12), (1000, 3)])
@pytest.mark.parametrize("name", names("schedules"))
def test_every_step_moves_the_weights_and_none_too_far(name: str, steps: int, epochs: int) -> None:
    assert all(0 < factor <= 1 for factor in factors(schedule(name), steps, epochs))


@pytest.mark.parametrize("name", names("schedules"))
def test_a_factor_depends_on_the_step_alone(name: str) -> None:
    part = schedule(name)
    assert [part.factor(Course(step, 7, 3)) for step in reversed(range(21))] == factors(part, 7, 3)[::-1]


@pytest.mark.parametrize("name", names("schedules"))
@pytest.mark.parametrize("warmup_epochs", [0.5, 3, 3.7, 100])
def test_warmup_may_be_a_part_of_an_epoch_or_longer_than_the_training(name: str, warmup_epochs: float) -> None:
    course = factors(schedule(name, warmup_epochs=warmup_epochs), 5, 3)
    assert all(0 < factor <= 1 for factor in course)
    assert course[0] < course[1]


def test_constant_by_hand() -> None:
    assert factors(schedule("constant", warmup_epochs=1), 4, 2) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1])


def test_constant_without_warmup_is_one_from_the_start() -> None:
    assert factors(schedule("constant"), 4, 2) == [1] * 8


def test_cosine_by_hand() -> None:
    # 2 steps up to 1, then 8 steps down: step 2 is the crest, step 6 half way, step 9 has 7/8 of the wave behind it
    course = factors(schedule("cosine", warmup_epochs=1, final=0.1), 2, 5)
    assert course[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert course[4] == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)
    assert course[6] == pytest.approx(0.1 + 0.9 / 2)
    assert course[9] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 7 / 8)) / 2)


def test_cosine_is_at_its_final_rate_after_the_last_step_and_stays_there() -> None:
    part = schedule("cosine", final=0.25)
    assert part.factor(Course(50, 10, 5)) == pytest.approx(0.25)
    assert part.factor(Course(80, 10, 5)) == pytest.approx(0.25)


def test_cosine_is_that_of_torch() -> None:
    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    reference = CosineAnnealingLR(optimizer, T_max=30, eta_min=0.05)
    expected = []
    for _ in range(30):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert factors(schedule("cosine", warmup_epochs=0, final=0.05), 10, 3) == pytest.approx(expected)
