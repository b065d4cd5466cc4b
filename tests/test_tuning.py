"""`convoy tune`: the proposals from curves made by hand, the search for a batch, and real trials."""

from __future__ import annotations

import csv
import math
import sys
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from engine_project import inside, prepare
from forked import Ended, Forked
from small_project import make, make_pictures

from pipeline.contracts import Options
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.files import DATASET
from pipeline.policy import Policy
from pipeline.tuning import batch, trial
from pipeline.tuning.apart import TooLarge, apart, endless, whole
from pipeline.tuning.batch import Found, find, hint
from pipeline.tuning.range_test import range_test
from pipeline.tuning.rates import Point, Watch, growing, proposal, smoothed
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


def test_the_proposal_on_a_smooth_curve():
    found = proposal(curve(1e-3, 1e-1))
    assert found is not None
    assert math.log10(found.steepest) == pytest.approx(-3, abs=0.1)
    assert 1e-2 < found.lowest < 1e-1 and found.below_lowest == pytest.approx(found.lowest / 10)  # the bottom is flat
    # half-way in factors: the rate is as many times the one as the other is times the rate
    assert found.rate / found.steepest == pytest.approx(found.lowest / found.rate, rel=0.1)


@pytest.mark.parametrize(("noise", "most", "usual"), [(0.05, 0.2, 0.1), (0.2, 0.4, 0.15), (0.4, 0.9, 0.25)])
def test_noise_hardly_moves_the_proposal(noise: float, most: float, usual: float):
    quiet = proposal(curve(1e-3, 1e-1))
    found = [proposal(curve(1e-3, 1e-1, noise, seed)) for seed in range(50)]  # the loss falls by 1.5
    off = [abs(math.log10(one.rate / quiet.rate)) for one in found if one and quiet]
    assert len(off) == 50 and max(off) < most and np.mean(off) < usual  # decades


def test_a_loss_that_does_not_fall_proposes_nothing():
    for seed in range(10):
        random = np.random.default_rng(seed)
        assert proposal([Point(rate, 2.3 + 0.2 * random.normal()) for rate in growing(1e-7, 10, 100)]) is None
    rising = [Point(rate, 2.3 + 0.01 * place) for place, rate in enumerate(growing(1e-7, 10, 100))]
    assert proposal(rising) is None and proposal(curve(1e-3, 1e-1)[:5]) is None


def test_a_single_spike_and_an_end_without_a_number_change_nothing():
    points = curve(1e-3, 1e-1)
    spiked = [*points]
    spiked[30] = Point(points[30].rate, 1e6)
    plain, found = proposal(points), proposal([*spiked, Point(20, math.nan)])
    assert plain is not None and found is not None
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


def tried(size: int, peak: float = 0, speed: float = 100) -> Trial:
    return Trial(size, int(peak), 10_000, speed, size / speed, True, ("float32", "contiguous", "eager"))


def test_the_smallest_batch_that_is_about_as_fast_is_proposed():
    found = Found([tried(8, speed=50), tried(16, speed=96), tried(32, speed=100), tried(64, speed=99)])
    assert (found.fastest.size, found.largest.size) == (16, 64)


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
    assert asked == [8, 8, 16, 32, 64, 128, 136] and found.largest.size == 136 and found.too_large == 144
    assert found.line == pytest.approx((1000, 50))
    assert "batch   256: would take 0 MB, and 0 MB may be taken" in said


def test_what_does_not_fit_at_all_and_what_takes_too_long(monkeypatch, tmp_path):
    def never(subject: Subject, size: int) -> Trial:
        raise TooLarge("")

    monkeypatch.setattr(batch, "attempt", never)
    subject = Subject(Fake(), tmp_path, None)  # type: ignore[arg-type]
    found = find(subject, 1000, 4096, lambda line: None)
    assert not found.trials and found.too_large == 8 and found.why == "does not fit into memory"
    monkeypatch.setattr(batch, "attempt", lambda subject, size: tried(size, speed=1))
    found = find(subject, 1000, 4096, lambda line: None)
    assert [one.size for one in found.trials] == [8, 16, 32] and found.why == "a step takes 32 s"
    found = find(subject, 20, 4096, lambda line: None)
    assert [one.size for one in found.trials] == [8, 16, 20] and found.why == "all 20 training pictures"


def test_free_memory_is_that_of_the_container_where_it_has_less(monkeypatch, tmp_path):
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    limit.write_text("5000\n")
    used.write_text("2000\n")
    monkeypatch.setattr("pipeline.tuning.room.CONTROL_GROUPS", ((limit, used),))
    assert free_memory() == 3000
    limit.write_text("max\n")
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
    write_rates(runs[0], found := proposal(runs[0]))
    rows = list(csv.DictReader(Path("out/tuning/lr.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == [point.loss for point in runs[0]]
    picture = ElementTree.parse("out/tuning/lr.svg").getroot()
    assert len(picture.findall(".//{*}polyline")) == (5 if found else 1)


def test_whole_networks_and_whole_pictures_are_tuned(inside):
    params = prepare(inside, "layers={frozen_epochs: 1, thawing_epochs: 1}", "train.first_size=8", "ensemble.members=3")
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
    assert [one.size for one in found.trials] == [8, 16, 32, 40] and found.why == "all 40 training pictures"
    assert all(not one.adaptive and one.arithmetic == ("float32", "contiguous", "eager") for one in found.trials)
    assert found.line is not None and 0.3e6 < found.line.each < 10e6  # 16 maps of 32 x 32 floats alone are 65 kB
    write_batches(found)
    assert len(Path("out/tuning/batch.csv").read_text().splitlines()) == 5
    assert len(ElementTree.parse("out/tuning/batch.svg").getroot().findall(".//{*}polyline")) == 3


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
    words = said(project, "tune", "lr", "--apply")
    assert "ingest: 60 images of 2 classes" in words and "the curve is in out/tuning/lr.svg" in words
    rate = yaml.safe_load((project / "params.yaml").read_text())["optimizer"]["lr"]
    assert f"Proposed, in the middle: optimizer.lr {rate:g}; it is 0.003 now." in words
    assert f"params.yaml says optimizer.lr={rate:g} now" in words and 1e-5 < rate < 1
    assert {path.name for path in (project / "out").iterdir()} == {"dataset", "policy", "tuning"}
    assert not (project / ".convoy/train").exists() and not (project / ".convoy/tuning").exists()
    flat = said(project, "tune", "lr", "--from", "1e-12", "--to", "1e-11", "--steps", "20", status=1)
    assert "No learning rate can be proposed: from 1e-12 to 1e-11 the loss falls by no more than it scatters." in flat


@pytest.mark.slow
def test_tune_batch(project):
    words = said(project, "tune", "batch", "--most", "16")
    assert "batch     8:" in words and "batch    16:" in words and "batch    32:" not in words
    assert "The largest that fits, of those tried: 16; the search ended at the most that was asked for." in words
    assert "by the square root, for Adam and its kin" in words and "convoy run --set train.batch_size=" in words


@pytest.mark.slow
def test_profile(project):
    words = said(project, "profile", "--steps", "5", "--trace", "trace.json")
    assert "5 steps of 40 pictures, 32 px, on cpu, float32, contiguous, eager" in words
    assert "waiting for input" in words and "\nBound by " in words and "\n  - " in words
    assert (project / "trace.json").stat().st_size > 1000 and (project / "out/tuning/profile.json").exists()
