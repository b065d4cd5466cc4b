"""Every file in pipeline/schedules/ meets one contract; the rates are worked out by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ready_files import clashes
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, PolynomialLR, ReduceLROnPlateau, StepLR

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
    assert np.argmax(course) <= 7  # of 15 steps half may climb, and the next one is the crest


@pytest.mark.parametrize("options", [{}, {"warmup_epochs": 1}, {"warmup_epochs": 9}])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1, 1]),
        (
            "cosine",
            [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, *((1 + math.cos(math.pi * n / 5)) / 2 for n in (1, 2, 3, 4))],
        ),
        ("polynomial", [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 0.8, 0.6, 0.4, 0.2]),
        ("step", [1 / 3, 2 / 3, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01]),  # 2 of the 5 steps before the first drop
        ("plateau", [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1, 1]),
    ],
)
def test_one_epoch_is_enough_to_climb_and_to_fall(name: str, expected: list[float], options: dict[str, float]) -> None:
    if name != "constant" or options:
        assert factors(schedule(name, **options), 10, 1) == pytest.approx(expected)


@pytest.mark.parametrize(("options", "crest"), [({}, 2), ({"warmup_epochs": 0.2}, 1), ({"warmup_epochs": 5}, 4)])
def test_one_cycle_of_one_epoch_falls_to_its_end(options: dict[str, float], crest: int) -> None:
    course = factors(schedule("one_cycle", **options), 10, 1)
    assert course[crest] == 1 and course[-1] == pytest.approx(0.000004)
    assert np.all(np.diff(course[: crest + 1]) > 0) and np.all(np.diff(course[crest:]) < 0)


def test_a_warm_up_ends_before_the_first_drop() -> None:
    # of 2 epochs of 4 steps the first drop is after one, of which half may climb
    assert factors(schedule("step"), 4, 2) == pytest.approx([1 / 3, 2 / 3, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert factors(schedule("step", drops=()), 4, 2) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1])


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


def rates(reference: Callable[[Optimizer], Any], steps: int, key: str = "lr") -> list[float]:
    """What a schedule of torch sets over so many steps, from a rate of 1."""
    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=1.0, momentum=0.9)
    scheduler, found = reference(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0][key])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("part", "reference"),
    [
        (schedule("cosine", warmup_epochs=0, final=0.05), lambda it: CosineAnnealingLR(it, T_max=30, eta_min=0.05)),
        (schedule("step", warmup_epochs=0, drops=(1 / 3, 2 / 3), leaves=0.2), lambda it: StepLR(it, 10, gamma=0.2)),
        (schedule("polynomial", warmup_epochs=0, power=0.9), lambda it: PolynomialLR(it, total_iters=30, power=0.9)),
        (
            schedule("one_cycle", first=0.1, last=0.002),
            lambda it: OneCycleLR(it, 1.0, total_steps=30, div_factor=10, final_div_factor=50),
        ),
    ],
    ids=["cosine", "step", "polynomial", "one_cycle"],
)
def test_the_rates_are_those_of_torch(part: ScheduleConfig, reference: Callable[[Optimizer], Any]) -> None:
    assert factors(part, 10, 3) == pytest.approx(rates(reference, 30))


# --- step


def test_step_by_hand() -> None:
    # 2 steps of warm-up; of 8 steps half and three quarters are behind it from the 4th and the 6th on
    course = factors(schedule("step", warmup_epochs=1, leaves=0.5), 2, 4)
    assert course == pytest.approx([1 / 3, 2 / 3, 1, 1, 0.5, 0.5, 0.25, 0.25])


# --- polynomial


def test_polynomial_by_hand() -> None:
    # 2 steps up to 1, then 8 steps down to 0.1: step 4 has 2 of 8 behind it
    course = factors(schedule("polynomial", warmup_epochs=1, power=2, final=0.1), 2, 5)
    assert course[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert course[4] == pytest.approx(0.1 + 0.9 * 0.75**2)
    assert course[9] == pytest.approx(0.1 + 0.9 * 0.125**2)


# --- one cycle


def test_one_cycle_by_hand() -> None:
    # of 11 steps the first 5 climb: step 2 is half way up, step 4 the crest, step 7 half way down, step 10 the end
    part = schedule("one_cycle", warmup_epochs=5, first=0.2, last=0.1, momenta=(0.8, 0.9))
    course = [Course(step, 1, 11) for step in range(11)]
    assert [part.factor(course[step]) for step in (0, 2, 4, 7, 10)] == pytest.approx([0.2, 0.6, 1, 0.55, 0.1])
    assert [part.momentum(course[step]) for step in (0, 2, 4, 7, 10)] == pytest.approx([0.9, 0.85, 0.8, 0.85, 0.9])


def test_the_momentum_of_one_cycle_is_that_of_torch() -> None:
    part = schedule("one_cycle", momenta=(0.7, 0.98))
    momenta = [part.momentum(Course(step, 10, 3)) for step in range(30)]
    expected = rates(
        lambda it: OneCycleLR(it, 1.0, total_steps=30, base_momentum=0.7, max_momentum=0.98), 30, "momentum"
    )
    assert momenta == pytest.approx(expected)


@pytest.mark.parametrize("name", [name for name in names("schedules") if name != "one_cycle"])
def test_other_schedules_leave_the_momentum_alone(name: str) -> None:
    assert schedule(name).momentum(Course(3, 10, 3)) is None


def test_one_cycle_may_leave_it_alone_too() -> None:
    assert schedule("one_cycle", momenta=None).momentum(Course(3, 10, 3)) is None


# --- plateau


def heights(part: ScheduleConfig, worths: list[float]) -> list[float]:
    """The factor of the epoch after each of these, and of the first one before."""
    return [part.factor(Course(10 * epoch, 10, 99, worths[:epoch])) for epoch in range(len(worths) + 1)]


def test_plateau_by_hand() -> None:
    # patience 1: 0.6 after 0.7 is let pass, the second one drops; 0.7 again is no better, and drops after one more
    part = schedule("plateau", warmup_epochs=0, patience=1, leaves=0.5, final=0.2)
    worths = [0.5, 0.7, 0.6, 0.6, 0.7, 0.7, 0.8, 0.8, 0.8]
    assert heights(part, worths) == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2]


def test_plateau_before_the_first_validation_is_a_warm_up() -> None:
    assert factors(schedule("plateau", warmup_epochs=1), 4, 2) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("patience", "cooldown", "better_by"), [(0, 0, 0.0), (2, 0, 0.05), (1, 3, 0.0), (3, 1, 0.1)])
def test_plateau_drops_where_torch_does(seed: int, patience: int, cooldown: int, better_by: float) -> None:
    worths = np.random.default_rng(seed).random(60).cumsum().clip(0, 5 + seed).tolist() + [4.0, 9.0, 9.02, 9.3] * 5
    part = schedule(
        "plateau", warmup_epochs=0, patience=patience, cooldown=cooldown, better_by=better_by, leaves=0.5, final=0.01
    )
    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    reference = ReduceLROnPlateau(
        optimizer, "max", 0.5, patience, better_by, "abs", cooldown=cooldown, min_lr=0.01, eps=0
    )
    expected = [1.0]
    for worth in worths:
        reference.step(worth)
        expected.append(optimizer.param_groups[0]["lr"])
    assert heights(part, worths) == pytest.approx(expected)


def test_no_rate_is_cut_because_a_score_is_undefined() -> None:
    part = schedule("plateau", warmup_epochs=0, patience=0, leaves=0.5)
    assert heights(part, [-math.inf] * 9) == [1] * 10
    assert heights(part, [-math.inf, 0.1, -math.inf, 0.1, -math.inf]) == [1, 1, 1, 1, 0.5, 0.5]


# --- at the door


@pytest.mark.parametrize(
    "optimizer",
    [
        "{name: sgd, momentum: 0, nesterov: false}",
        "{name: muon, momentum: 0, nesterov: false}",
        "{name: lion, betas: [0, 0.9]}",
    ],
)
def test_a_momentum_that_is_not_there_is_not_moved(optimizer: str) -> None:
    name = optimizer[len("{name: ") :].partition(",")[0]
    assert clashes("ordinal", "schedule={name: one_cycle}", f"optimizer={optimizer}") == [
        f"  the parts together: schedule 'one_cycle' moves the momentum, or first beta, and optimizer {name!r} has "
        "none (0); set schedule.momenta to null, or give the optimizer one."
    ]
    assert not clashes("ordinal", "schedule={name: one_cycle, momenta: null}", f"optimizer={optimizer}")
    assert not clashes("ordinal", "schedule={name: cosine}", f"optimizer={optimizer}")


def test_schedules_and_optimizers_fit_as_they_come_for_an_epoch_too() -> None:
    for name, optimizer in itertools.product(names("schedules"), names("optimizers")):
        parts = (f"schedule={{name: {name}}}", f"optimizer={{name: {optimizer}}}")
        assert not clashes("ordinal", *parts, "train.epochs=1")
