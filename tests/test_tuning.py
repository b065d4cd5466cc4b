"""`convoy tune`: the proposals from curves made by hand, the search for a batch, and real trials."""

from __future__ import annotations

import csv
import math
import re
import sys
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from engine_project import SHIPPED, begun, inside, params_of, prepare
from forked import Ended, Forked
from small_project import make, make_pictures
from torch import nn

from flows.edits import edited
from flows.tune import propose_batch
from pipeline.contracts import Options
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.files import DATASET
from pipeline.host import Limits
from pipeline.plugin import config_class, names
from pipeline.policy import Policy
from pipeline.train.assembly import Training
from pipeline.train.batches import Batch
from pipeline.train.machine import Pace
from pipeline.tuning import batch, room, trial
from pipeline.tuning.apart import TooLarge, apart, endless, whole
from pipeline.tuning.batch import Found, find, hint, in_words, steady
from pipeline.tuning.range_test import range_test
from pipeline.tuning.rates import Doubt, Point, Proposal, Watch, growing, proposal, scaled, smoothed
from pipeline.tuning.report import write_batches, write_rates
from pipeline.tuning.room import Line, expected, free_memory, largest
from pipeline.tuning.trial import Subject, Trial

__all__ = ["inside"]


def curve(steepest: float, lowest: float, noise: float = 0.0, seed: int = 0, start: float = 2.3) -> list[Point]:
    """A loss that falls by a smooth step around `steepest`, is lowest at `lowest`, and explodes after it."""
    random = np.random.default_rng(seed)
    points = []
    for rate in growing(1e-7, 10, 100):
        place = math.log10(rate)
        fall = 1 / (1 + math.exp(-4 * (place - math.log10(steepest))))
        rise = max(0.0, place - math.log10(lowest)) ** 2
        points.append(Point(rate, start - 1.5 * fall + 8 * rise + noise * random.normal()))
        if points[-1].loss > 4 * start:
            break
    return points


def test_rates_grow_by_the_same_factor():
    assert growing(1e-4, 1, 5) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])


def test_smoothing_is_the_same_from_both_sides_and_leaves_a_line_alone():
    places = np.linspace(-3.1, 0.1, 33)[:-1] + 0.05
    step = (places > -1.5).astype(float)
    smooth, weight = smoothed(places, step)
    assert smooth == pytest.approx(1 - smooth[::-1]) and np.all(np.diff(smooth) >= 0)
    line, _ = smoothed(places, places)
    assert line[10:21] == pytest.approx(places[10:21], abs=1e-6)
    # a bell of 2 steps: about 1 / sqrt(2 sqrt(pi) 2) of the scatter is left in the middle
    assert weight[15] == pytest.approx((2 * math.sqrt(math.pi) * 2) ** -0.5, rel=0.01)


def read(points: list[Point]) -> Proposal:
    found = proposal(points)
    assert isinstance(found, Proposal), found.why
    return found


def doubt(points: list[Point]) -> str:
    found = proposal(points)
    assert isinstance(found, Doubt), found.rate
    return found.why


def test_the_proposal_on_a_smooth_curve():
    found = read(curve(1e-3, 1e-1))
    assert math.log10(found.steepest) == pytest.approx(-3, abs=0.1)
    assert 1e-2 < found.lowest < 1e-1  # the bottom is flat
    # half-way in factors: the rate is as many times the one as the other is times the rate
    assert found.rate / found.steepest == pytest.approx(found.lowest / found.rate, rel=0.1)


@pytest.mark.parametrize(("noise", "most", "usual"), [(0.05, 0.2, 0.1), (0.2, 0.4, 0.15), (0.4, 0.9, 0.25)])
def test_noise_hardly_moves_the_proposal(noise: float, most: float, usual: float):
    quiet = read(curve(1e-3, 1e-1))
    found = [read(curve(1e-3, 1e-1, noise, seed)) for seed in range(50)]  # the loss falls by 1.5
    off = [abs(math.log10(one.rate / quiet.rate)) for one in found]
    assert max(off) < most and np.mean(off) < usual  # decades


def test_a_loss_that_does_not_fall_proposes_nothing():
    for seed in range(10):
        random = np.random.default_rng(seed)
        assert doubt([Point(rate, 2.3 + 0.2 * random.normal()) for rate in growing(1e-7, 1e-4, 100)]) == (
            "from 1e-07 to 0.0001 the loss falls by no more than it scatters; try larger rates (--to 0.01), more steps "
            "(--steps 400), or look at the curve"
        )


def part(low: float, high: float, noise: float = 0.0, seed: int = 0) -> list[Point]:
    """Of the curve that falls around 0.001 and is lowest at 0.1, 100 points from low to high."""
    random = np.random.default_rng(seed)
    points = []
    for rate in growing(low, high, 100):
        place = math.log10(rate)
        loss = 2.3 - 1.5 / (1 + math.exp(-4 * (place + 3))) + 8 * max(0.0, place + 1) ** 2
        points.append(Point(rate, loss + noise * random.normal()))
    return points


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
def test_a_range_that_ends_before_the_loss_rises_proposes_nothing(noise: float, seed: int):
    falling = doubt(part(1e-7, 1e-3, noise, seed))
    assert falling.endswith(" at 0.001, the end of the range; try --to 0.1")
    assert noise or falling.startswith("the loss was still falling")
    assert doubt(part(1e-6, 1e-2, noise, seed)).endswith(" at 0.01, the end of the range; try --to 1")


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])  # of a fall by 0.75
def test_a_range_that_begins_while_the_loss_falls_proposes_nothing(noise: float, seed: int):
    assert doubt(part(1e-3, 1, noise, seed)) == (
        "the loss fell fastest near 0.001, the beginning of the range; try --from 1e-05"
    )


def test_a_range_that_begins_beyond_the_best_rate_proposes_nothing():
    assert doubt(part(0.1, 1)) == "from 0.1 on the loss only rises, beyond the best rate; try --from 0.001"
    assert doubt(part(1, 100)[:3]) == "at 1.1, after 3 steps, the loss had diverged; try --from 0.01"


def test_a_single_spike_and_an_end_without_a_number_change_nothing():
    points = curve(1e-3, 1e-1)
    spiked = [*points]
    spiked[30] = Point(points[30].rate, 1e6)
    plain, found = read(points), read([*spiked, Point(20, math.nan)])
    assert found.steepest == pytest.approx(plain.steepest) and found.lowest == pytest.approx(plain.lowest, rel=0.25)
    assert len(found.smoothed) == len(points)


def test_divergence_is_four_times_the_best_running_mean():
    watch = Watch()
    assert not any(watch.diverged(1.0) for _ in range(50))
    # the mean goes from 1 by a tenth of the way to 50 a step: 5.9 after the first
    assert watch.diverged(50.0) and Watch().diverged(math.inf) and Watch().diverged(math.nan)
    calm = Watch()
    assert not any(calm.diverged(loss) for loss in [1.0] * 50 + [20.0, 1.0])  # 2.9


def test_memory_is_a_line_in_the_batch():
    assert Line.through([8, 16, 32], [180, 260, 420]) == pytest.approx((100, 10))
    assert Line.through([8, 16, 32], [180, 260, 420]).at(64) == pytest.approx(740)
    assert Line.through([8, 16], [80, 240]) == pytest.approx((0, (8 * 80 + 16 * 240) / (64 + 256)))  # through 0
    assert Line.through([8, 16, 32], [300, 200, 100]) == pytest.approx((200, 0))


def test_what_a_larger_batch_will_take_is_never_told_too_low():
    assert expected([8], [100], 16) == 0  # nobody can know
    assert expected([8, 16, 32], [180, 260, 420], 64) == pytest.approx(740)
    # small batches hide in what the process has anyway; the last two sizes tell the true slope of 10
    assert expected([8, 16, 32, 64], [100, 100, 100, 420], 128) == pytest.approx(420 + 10 * 64)


@pytest.mark.parametrize("limit", [8, 9, 15, 16, 100, 101, 1000, 4095, 4096])
def test_the_search_comes_near_the_limit_and_asks_seldom(limit: int):
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= limit

    found = largest(fits, 8, 4096)
    assert found <= limit < found + max(8, found // 16 + 8) or found == limit == 4096
    assert found % 8 == 0 and len(asked) == len(set(asked)) <= 18


def test_the_search_at_its_ends():
    assert largest(lambda size: False, 8, 4096) == 0
    assert largest(lambda size: True, 8, 1177) == 1177  # all pictures, though no multiple of 8
    assert largest(lambda size: size <= 5, 5, 5) == 5


def test_the_learning_rate_that_goes_with_another_batch():
    assert hint(0.1, 64, 256) == pytest.approx((0.4, 0.2))


LINEAR = {"sgd", "sam"}


@pytest.mark.parametrize("name", names("optimizers"))
def test_the_rule_is_that_of_how_an_optimizer_steps(name: str):
    assert steady(config_class("optimizers", name)()) == (name not in LINEAR)


@pytest.mark.parametrize("name", names("optimizers"))
def test_a_training_with_the_rates_that_are_written_is_the_one_that_was_tested(name: str):
    tested = config_class("optimizers", name)()
    written = tested.model_copy(update=scaled(tested, 3.7 * tested.lr))
    moved = []
    for config in (tested, written):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 2))
        groups = [{"params": [each for each in network.parameters() if each.ndim > 1]}]
        groups.append({"params": [each for each in network.parameters() if each.ndim == 1], "weight_decay": 0.0})
        optimizer = config.build(groups)
        for group in optimizer.param_groups:  # as the loop sets it
            group["lr"] = written.lr
        network(torch.ones(2, 1, 3, 3)).square().sum().backward()
        optimizer.step()
        moved.append(torch.cat([each.detach().ravel() for each in network.parameters()]))
    assert torch.allclose(*moved, rtol=1e-3, atol=1e-6)


def test_every_rate_of_muon_is_scaled_by_hand():
    muon = config_class("optimizers", "muon")(lr=0.02, matrices_lr=0.003, vectors_lr=0.01)
    assert scaled(muon, 0.05) == {"lr": 0.05, "matrices_lr": 0.0075, "vectors_lr": 0.025}
    assert scaled(config_class("optimizers", "adamw")(), 0.1) == {"lr": 0.1}


def tried(size: int, peak: float = 0, speed: float = 100, views: int = 1_000) -> Trial:
    return Trial(size, int(peak), 10_000, speed, size / speed, views, ("float32", "contiguous", "eager"))


def test_the_smallest_batch_that_is_about_as_fast_is_proposed():
    found = Found([tried(8, speed=50), tried(16, speed=96), tried(32, speed=100), tried(64, speed=99)])
    assert found.fastest is found.proposed
    assert (found.fastest.size, found.largest.size) == (16, 64)


SPEEDS = {8: 500, 16: 900, 32: 1_500, 64: 2_000, 128: 3_000, 256: 3_900, 512: 4_000}


def of_digits(**more: int) -> Found:
    """All but the speed is as it is for 1,177 digits."""
    return Found(
        [tried(size, speed=speed, **more) for size, speed in SPEEDS.items()], why="the most that was asked for"
    )


def test_no_batch_is_proposed_that_leaves_an_epoch_too_few_steps():
    found = of_digits(views=1_177)
    assert found.fastest.size == 256 and found.fastest.steps() == 4  # 1,177 // 256
    assert found.proposed is not None and (found.proposed.size, found.proposed.steps()) == (64, 18)
    # one that is about as fast as all of them is not given up for one that is slower still
    near = Found([tried(8, speed=93), tried(16, speed=96), tried(128, speed=100)])
    assert near.proposed is near.fastest is near.trials[1]


def test_why_no_batch_is_proposed():
    few = of_digits(views=60)
    assert few.proposed is None and few.doubt == (
        "of 60 pictures even a batch of 8 makes 7 steps an epoch, and fewer than 10 teach little; take 6 or fewer"
    )
    one = Found([tried(3)], why="no more was asked for")
    assert one.proposed is None and one.doubt == (
        "only a batch of 3 was tried, and there is nothing to compare it with: no more was asked for"
    )


def test_a_line_of_the_search_says_how_long_an_epoch_is():
    assert (
        in_words(tried(64, 146e6, 2_372, 1_177))
        == "batch    64:       146 MB,    2,372 images/s,     18 steps an epoch"
    )
    assert in_words(tried(1_024, 349e6, 680, 1_177)).endswith(",       1 step an epoch")


@pytest.mark.parametrize(
    ("optimizer", "rates", "words"),
    [
        ("{name: adamw, lr: 0.003}", {"lr": 0.006}, "from 0.003 to 0.006, by the square root, as for Adam"),
        ("{name: sgd, lr: 0.1}", {"lr": 0.4}, "from 0.1 to 0.4, by the linear rule, as for SGD"),
        (
            "{name: muon, lr: 0.02, matrices_lr: 0.003, vectors_lr: 0.01}",
            {"lr": 0.04, "matrices_lr": 0.006, "vectors_lr": 0.02},
            "By as much: optimizer.vectors_lr 0.02; it is 0.01 now.",
        ),
    ],
)
def test_the_learning_rates_go_with_the_batch(inside, capsys, optimizer, rates, words):
    changes = f"optimizer={optimizer}", "train.batch_size=16"
    Path("params.yaml").write_text(edited(SHIPPED, changes))
    found = of_digits(views=1_177)
    assert found.proposed is not None
    propose_batch(params_of(inside, *changes), found, found.proposed, apply=False)
    said = capsys.readouterr().out
    assert said.startswith(
        "Proposed: train.batch_size 64, the smallest that is about as fast as any that makes 10 steps an epoch (2,000 "
        "images/s); it is 16 now.\nA batch of 256 gives 3,900 images/s, but makes 4 steps an epoch.\n"
        "It makes 18 steps an epoch; 16 makes 73.\nWith it optimizer.lr changes from "
    )
    assert words in said
    assert f"convoy run --set train.batch_size=64 --set optimizer.lr={rates['lr']:g}" in said
    propose_batch(params_of(inside, *changes), found, found.proposed, apply=True)
    written = yaml.safe_load(Path("params.yaml").read_text())
    assert written["train"]["batch_size"] == 64
    assert {name: written["optimizer"][name] for name in rates} == pytest.approx(rates)


def test_a_batch_that_stays_changes_nothing(inside, capsys):
    found = of_digits(views=1_177)
    assert found.proposed is not None
    propose_batch(params_of(inside, "train.batch_size=64"), found, found.proposed, apply=True)
    assert capsys.readouterr().out.endswith(
        "images/s, but makes 4 steps an epoch.\nIt stays as it is, with 18 steps an epoch.\n"
    )
    assert not Path("params.yaml").exists()


def test_a_batch_for_several_processes_has_equal_parts(inside, capsys):
    changes = "compute.processes=3", "train.batch_size=15"
    Path("params.yaml").write_text(edited(SHIPPED, changes))
    found = of_digits(views=1_177)
    assert found.proposed is not None
    propose_batch(params_of(inside, *changes), found, found.proposed, apply=True)
    said = capsys.readouterr().out
    assert "(2,000 images/s), of which 63 have 3 equal parts, one for each process; it is 15 now." in said
    assert yaml.safe_load(Path("params.yaml").read_text())["train"]["batch_size"] == 63


class Fake(Options):
    """As much of params as the search looks at."""

    class Train(Options):
        accumulation: int = 1
        batch_size: int = 8

    train: Train = Train()


def test_no_size_is_tried_that_is_expected_not_to_fit(monkeypatch, tmp_path):
    asked: list[int] = []

    def attempt(subject: Subject, size: int) -> Trial:
        asked.append(size)
        return tried(size, 1_000 + 50 * size)

    monkeypatch.setattr(batch, "attempt", attempt)
    said: list[str] = []
    found = find(Subject(Fake(), tmp_path, None), 100_000, 4096, said.append)  # type: ignore[arg-type]
    # 8,000 of 10,000 bytes may be taken, which is 140 pictures; 256 would take 13,800
    assert asked == [8, 8, 16, 32, 64, 128, 136] and found.largest.size == 136
    assert found.line == pytest.approx((1000, 50))
    assert "batch   256: would take 0 MB, and 0 MB may be taken" in said
    assert found.why == "a batch of 144 would take 0 MB, and 0 MB may be taken"
    assert [one.size for one in found.trials] == [8, 16, 32, 64, 128, 136] and found.quickest.size == 8  # all as fast


def test_what_does_not_fit_at_all_and_what_takes_too_long(monkeypatch, tmp_path):
    def never(subject: Subject, size: int) -> Trial:
        raise TooLarge("")

    monkeypatch.setattr(batch, "attempt", never)
    subject = Subject(Fake(), tmp_path, None)  # type: ignore[arg-type]
    found = find(subject, 1000, 4096, lambda line: None)
    assert not found.trials and found.why == "a batch of 8 does not fit into memory"
    monkeypatch.setattr(batch, "attempt", lambda subject, size: tried(size, speed=1))
    found = find(subject, 1000, 4096, lambda line: None)
    assert [one.size for one in found.trials] == [8, 16, 32] and found.why == "a step takes 32 s"
    found = find(subject, 20, 4096, lambda line: None)
    assert [one.size for one in found.trials] == [8, 16, 20] and found.why == "there are 20 training pictures"


def test_free_memory_is_that_of_the_container_where_it_has_less(monkeypatch):
    monkeypatch.setattr(room, "limits", lambda: Limits(5000, 3000, math.inf))
    assert free_memory() == 3000
    monkeypatch.setattr(room, "limits", lambda: Limits(math.inf, math.inf, math.inf))
    assert free_memory() > 1_000_000


def test_a_range_test_leaves_nothing_behind_and_is_repeatable(inside):
    params = prepare(inside)
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    runs = []
    for _ in range(2):
        with apart(params, Dataset.open(), Policy.open()) as training:
            runs.append(range_test(training, 1e-6, 100, 40, lambda count: None))
            assert training.checkpoints.folder.absolute().is_relative_to(inside / ".convoy/tuning")
    assert runs[0] == runs[1] and 20 < len(runs[0]) < 40  # it diverges before a rate of 100
    assert runs[0][0].rate == pytest.approx(1e-6) and not Path(".convoy/tuning").exists()
    after = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert {path for path in after if path not in before} <= set(Path(".convoy/cache").rglob("*"))
    assert all(after[path] == data for path, data in before.items())
    write_rates(runs[0], proposal(runs[0]))
    rows = list(csv.DictReader(Path("out/tuning/lr.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == [point.loss for point in runs[0]]


def drawn(name: str) -> tuple[list[ElementTree.Element], list[str]]:
    """The lines of a picture, those of its legend left out, and its words."""
    picture = ElementTree.parse(f"out/tuning/{name}.svg").getroot()
    lines = [line for line in picture.findall(".//{*}polyline") if line.get("class") != "swatch"]
    return lines, ["".join(text.itertext()) for text in picture.findall(".//{*}text")]


def test_lines_are_told_apart_without_colour_and_what_is_cut_off_is_said(inside):
    points = curve(1e-3, 1e-1)
    write_rates(points, proposal(points))
    lines, words = drawn("lr")
    assert len(lines) == 5 == len({line.get("stroke-dasharray") for line in lines})
    # the first loss is 2.3, and 1.3 times as much is 2.99
    assert "loss of each step, those above 3 drawn there" in words and "learning rate (log scale)" in words
    write_rates(points[:60], proposal(points[:60]))
    lines, words = drawn("lr")
    assert len(lines) == 2 and "loss of each step" in words and "smoothed" in words
    picture = Path("out/tuning/lr.svg").read_text()
    assert 'aria-label="The loss at growing learning rates. Nothing is proposed: the loss was still falling' in picture


def test_axes_of_batches_end_near_what_was_measured(inside):
    write_batches(Found([tried(8, 100e6, 50), tried(64, 535e6, 100)]))
    lines, words = drawn("batch")
    assert "500" not in words and "400" in words and "600" not in words and words.count("batch size (log scale)") == 2
    # the highest value lies where 1 of 1.05 is, between 236 and 12 pixels: at 22.67
    assert lines[0].get("points", "").endswith(",22.67")
    write_batches(Found([tried(8)]))
    assert drawn("batch") == ([], ["Only one size was tried."])


def modes(training: Training, rate: float) -> list[bool]:
    """Of each step of a range test, whether all that learns is in training mode."""
    machine, seen = training.machine, []
    step = machine.step

    def noted(batch: Batch, pace: Pace) -> torch.Tensor:
        learns = machine.freezer.head.modules if machine.freezer.head_alone else [machine.learner]
        parts = [part for one in learns for part in one.modules()]
        seen.append(machine.feed.training and all(part.training for part in parts))
        return step(batch, pace)

    machine.step = noted
    range_test(training, 1e-7, rate, 40, lambda count: None)
    return seen


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("order={name: curriculum, warmup_epochs: 0}",),
        ("order={name: curriculum, warmup_epochs: 1}", "train.epochs=6"),
        ("layers={frozen_epochs: 1}",),
        ("layers={frozen_epochs: 3}",),
        ("layers={frozen_epochs: 3}", "augment={name: light, size: 12}"),
    ],
    ids=["plain", "curriculum", "curriculum-later", "thawed", "head-on-features", "head-on-pictures"],
)
def test_the_network_is_in_training_in_every_step(inside, changes):
    with apart(prepare(inside, begun(inside), *changes), Dataset.open(), Policy.open()) as training:
        assert modes(training, 1e-3) == [True] * 40  # 8 epochs of 5 steps


def test_whole_networks_and_whole_pictures_are_tuned(inside):
    params = prepare(
        inside,
        "layers={frozen_epochs: 1, thawing_epochs: 1}",
        "train.first_size=8",
        "ensemble.members=3",
        begun(inside),
    )
    seen = whole(params)
    assert (seen.layers.frozen_epochs, seen.layers.thawing_epochs, seen.train.first_size) == (0, 0, 0)
    assert seen.ensemble.members == 1 and seen.layers.rate_decay == params.layers.rate_decay
    head = params.model_copy(update={"layers": params.layers.model_copy(update={"frozen_epochs": 3})})
    assert whole(head).layers.frozen_epochs == 3  # these never learn


def test_a_batch_that_does_not_fit_is_told_and_nothing_is_left(inside):
    params = prepare(inside)
    with pytest.raises(TooLarge) as told, apart(params, Dataset.open(), Policy.open()):
        raise MemoryError
    assert str(told.value) == "A batch of 8 does not fit into memory: `convoy tune batch` finds one that does."
    with pytest.raises(RuntimeError, match="another"), apart(params, Dataset.open(), Policy.open()):
        raise RuntimeError("another")
    assert Path.cwd() == inside and not Path(".convoy/tuning").exists()


def test_batches_go_on_for_ever(inside):
    params = prepare(inside, "order={name: curriculum, grown_at: 1}", "train.epochs=3")
    with apart(params, Dataset.open(), Policy.open()) as training:
        batches = endless(training)
        assert len([next(batches) for _ in range(3 * 5 + 3)]) == 18  # of 40 pictures in batches of 8
        batches.close()


@pytest.mark.slow
def test_a_mistake_in_a_trial_keeps_its_words(inside):
    params = prepare(inside)
    with pytest.raises(UserError, match=r"No dataset can be read in .*nowhere"):
        trial.attempt(Subject(params, inside / "nowhere", Policy.open()), 8)


@pytest.mark.slow
def test_a_trial_that_takes_too_much_is_ended(inside, monkeypatch):
    params = prepare(inside, "model.width=64", "augment.size=64")
    monkeypatch.setattr(trial, "free_memory", lambda: 20_000_000)
    with pytest.raises(TooLarge):
        trial.attempt(Subject(params, DATASET, Policy.open()), 40)
    assert not Path(".convoy/tuning").exists()


@pytest.mark.slow
def test_batches_for_real(inside):
    params = prepare(inside, "model.width=16", "augment.size=64", "optimizer={name: sgd, lr: 0.1}")
    said: list[str] = []
    found = find(Subject(params, DATASET, Policy.open()), 40, 4096, said.append)
    assert [one.size for one in found.trials] == [8, 16, 32, 40] and found.why == "there are 40 training pictures"
    assert all(one.arithmetic == ("float32", "contiguous", "eager") for one in found.trials)
    assert found.line is not None and 0.3e6 < found.line.each < 10e6  # 16 maps of 32 x 32 floats alone are 65 kB
    write_batches(found)
    assert len(Path("out/tuning/batch.csv").read_text().splitlines()) == 5
    assert len(drawn("batch")[0]) == 3


def convoy(*arguments: str) -> int:
    """`convoy ARGUMENTS`, in a process of its own."""
    from flows import cli

    sys.argv = ["convoy", *arguments]
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def said(project: Path, *arguments: str, status: int = 0) -> str:
    ended: Ended = Forked(project, partial(convoy, *arguments)).ended()
    assert ended.status == status and "Traceback" not in ended.words, ended.words
    return ended.words


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A fresh one, in which nothing has run."""
    folder = tmp_path_factory.mktemp("tuned")
    return make(folder / "project", make_pictures(folder / "pictures"))


@pytest.mark.slow
def test_tune_lr_on_a_fresh_project(project):
    refused = said(project, "tune", "lr", "--from", "1", "--to", "0.1", status=1)
    assert refused == "--from 1 --to 0.1: the first must be less than the second.\n"
    refused = said(project, "tune", "lr", "--from", "0.0001", "--to", "0.00011", status=1)
    assert refused == "--from 0.0001 --to 0.00011: less than a decade shows nothing; try --to 0.001 or more.\n"
    words = said(project, "tune", "lr", "--apply")
    assert "ingest: 60 images of 2 classes" in words and "the curve is in out/tuning/lr.svg" in words
    rate = yaml.safe_load((project / "params.yaml").read_text())["optimizer"]["lr"]
    assert words.startswith(
        "tune lr: trains up to 100 steps at learning rates from 1e-07 to 10; no model is changed.\n"
    )
    assert f"Proposed, midway between the two by factors: optimizer.lr {rate:g}; it is 0.003 now." in words
    assert f"params.yaml says optimizer.lr={rate:g} now" in words and 1e-5 < rate < 1
    assert {path.name for path in (project / "out").iterdir()} == {"dataset", "policy", "tuning"}
    assert not (project / ".convoy/train").exists() and not (project / ".convoy/tuning").exists()
    before = (project / "params.yaml").read_bytes()
    flat = said(project, "tune", "lr", "--from", "1e-12", "--to", "1e-11", "--steps", "20", "--apply", status=1)
    assert "No learning rate is proposed: from 1e-12 to 1e-11 the loss falls by no more than it scatters; try " in flat
    assert (project / "params.yaml").read_bytes() == before


@pytest.mark.slow
def test_tune_batch(project):
    before = (project / "params.yaml").read_bytes()
    words = said(project, "tune", "batch", "--most", "16", "--apply", status=1)
    assert words.startswith(
        "tune batch: trains a few steps each with ever larger batches, up to 16; no model is changed.\n"
    )
    assert "batch     8:" in words and "batch    16:" in words and "batch    32:" not in words
    assert re.search(
        r"The largest that fits, of those tried: 16, with [\d,]+ images/s; no more was asked for\.\n", words
    )
    assert "No batch size is proposed: of 40 pictures even a batch of 8 makes 5 steps an epoch" in words
    assert (project / "params.yaml").read_bytes() == before
    small = said(project, "tune", "batch", "--most", "3", status=1)
    assert "No batch size is proposed: only a batch of 3 was tried" in small and "Proposed" not in small


@pytest.mark.slow
def test_tune_lr_writes_every_rate_that_it_has_tried(project):
    params = project / "params.yaml"
    before = params.read_text()
    params.write_text(edited(before, ["optimizer={name: muon, lr: 0.02, vectors_lr: 0.001}"]))
    words = said(project, "tune", "lr", "--apply")
    found = yaml.safe_load(params.read_text())["optimizer"]
    params.write_text(before)
    assert found["matrices_lr"] == pytest.approx(found["lr"] * 0.003 / 0.02, rel=1e-3)
    assert found["vectors_lr"] == pytest.approx(found["lr"] * 0.001 / 0.02, rel=1e-3)
    assert f"By as much: optimizer.matrices_lr {found['matrices_lr']:g}; it is 0.003 now." in words
    assert (
        f"optimizer.lr={found['lr']:g}, optimizer.matrices_lr={found['matrices_lr']:g}, optimizer.vectors_lr=" in words
    )


@pytest.mark.slow
def test_profile(project):
    refused = said(project, "profile", "--trace", ".", status=1)
    assert refused == f"--trace {project}: this is a folder. Name a file in it: --trace {project / 'trace.json'}\n"
    words = said(project, "profile", "--steps", "5", "--trace", "trace.json")
    assert words.startswith("profile: trains some seconds, and times up to 5 steps; no model is changed.\n")
    assert "5 steps of 40 pictures, 32 px, on cpu, float32, contiguous, eager" in words
    assert "waiting for input" in words and "\nBound by " in words and "\n  - " in words
    assert (project / "trace.json").stat().st_size > 1000 and (project / "out/tuning/profile.json").exists()
    assert not list(project.glob(".timeline*")) and not list(project.glob("*.tmp"))
