"""Who is shown: pairs, neighbours, thresholds and their scores, by hand and as scikit-learn has them."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from pipeline.answers._likeness import unit
from pipeline.answers.identities import IdentityAnswers
from pipeline.bootstrap import interval
from pipeline.contracts import Target
from pipeline.plugin import config_class, metric_named, names

METRICS = [name for name in names("metrics") if Target.IDENTITY in config_class("metrics", name).takes]


def at_angles(people: str, *degrees: float, **more: float | None) -> IdentityAnswers:
    """Images of people a, b, ... whose embeddings point this way in a plane, of various lengths."""
    turns = np.radians(degrees)
    told = np.stack([np.cos(turns), np.sin(turns)], axis=1) * np.arange(1, len(degrees) + 1)[:, None]
    return IdentityAnswers(["a", "b", "c", "d"], np.array(["abcd".index(one) for one in people]), told, **more)


def many(images: int, people: int, seed: int = 0, digits: int | None = None) -> IdentityAnswers:
    """Images that are often like those of the same person; with few digits, of many pairs as near as others."""
    random = np.random.default_rng(seed)
    labels = random.integers(people, size=images)
    told = 0.6 * random.normal(size=(people, 6))[labels] + random.normal(size=(images, 6))
    if digits is not None:
        told = np.where(np.abs(told) > 0.7, np.sign(told), 0)
    return IdentityAnswers([f"s{k}" for k in range(people + 1)], labels, told)


def drawn(images: int, count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = [np.bincount(random.integers(images, size=images), minlength=images) for _ in range(count)]
    return np.stack([np.ones(images), *rows]).astype(float)


def listed(answers: IdentityAnswers, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair with a weight: whether it is one person, how alike, how much it weighs."""
    first, second = np.triu_indices(len(answers), 1)
    straight = answers.embeddings / np.maximum(np.linalg.norm(answers.embeddings, axis=1, keepdims=True), 1e-300)
    alike = np.einsum("ne,me->nm", straight, straight)[first, second]
    same, each = answers.labels[first] == answers.labels[second], weights[first] * weights[second]
    each = np.where(same, np.sqrt(each), each)
    kept = each > 0
    return same[kept], alike[kept].round(12), each[kept]


def reference(name: str, answers: IdentityAnswers, weights: np.ndarray) -> float:
    same, alike, each = listed(answers, weights)
    if name == "verification_auc":
        return float(roc_auc_score(same, alike, sample_weight=each))
    mistaken, found, _ = roc_curve(same, alike, sample_weight=each, drop_intermediate=False)
    if name == "equal_error_rate":
        grid = np.linspace(0, 1, 2_000_001)
        excess = np.interp(grid, mistaken, found) + grid - 1
        return float(grid[np.abs(excess).argmin()])
    share = {"tar_at_far_1e2": 0.01, "tar_at_far_1e3": 0.001}[name]
    return float(found[mistaken <= share + 1e-12].max())


@pytest.mark.parametrize("digits", [None, 0])
@pytest.mark.parametrize("name", ["verification_auc", "equal_error_rate", "tar_at_far_1e2", "tar_at_far_1e3"])
def test_scores_of_pairs_are_those_of_an_independent_curve(name: str, digits: int | None) -> None:
    answers = many(60, 9, digits=digits)
    if digits is not None:
        assert len(answers.pairs.ends) < len(answers.pairs.distances) / 10  # ties, thousands of them
    weights = drawn(60, 6)
    found = metric_named(name).score(answers, weights)
    expected = [reference(name, answers, row) for row in weights]
    assert found == pytest.approx(np.array(expected), abs=2e-6)


def test_a_person_who_is_drawn_twice_is_two_people_who_are_never_compared():
    answers, times = many(40, 8, seed=2), np.array([0, 1, 2, 3, 0, 1, 1, 2])
    drawn = [(image, copy) for image in range(40) for copy in range(times[answers.labels[image]])]
    same, alike = [], []
    for place, (one, its) in enumerate(drawn):
        for other, of_other in drawn[:place]:
            if answers.labels[one] != answers.labels[other] or its == of_other:
                same.append(answers.labels[one] == answers.labels[other])
                alike.append(float(answers.directions[one] @ answers.directions[other]))
    weights = times[answers.labels][None].astype(float)
    found = metric_named("verification_auc").score(answers, weights)[0]
    assert found == pytest.approx(roc_auc_score(same, alike), abs=1e-9)


def test_scores_of_pairs_by_hand():
    # distances rise with the angles: aa 10, ab 20, ab 30 (from 10 to 40 and ...), bb 5
    answers = at_angles("aabb", 0, 10, 30, 35)
    # 1.: bb 5, 2.: aa 10, 3.: ab 20 (10-30), 4.: 25 (10-35), 5.: 30 (0-30), 6.: 35
    assert np.degrees(np.arccos(1 - answers.pairs.distances)) == pytest.approx([5, 10, 20, 25, 30, 35])
    assert answers.pairs.same.tolist() == [0, 1]
    worth = {name: float(metric_named(name).score(answers, np.ones((1, 4)))[0]) for name in METRICS}
    assert worth == {
        "verification_auc": 1,
        "equal_error_rate": 0,
        "tar_at_far_1e2": 1,
        "tar_at_far_1e3": 1,
        "rank1": 1,
        "rank5": 1,
    }
    # aa 20, bb 20 (30-50); ab: 10 (20-30), 30, 30, 50: one of four pairs of two people is nearer than both of one
    mixed = at_angles("aabb", 0, 20, 30, 50)
    once = np.ones((1, 4))
    assert metric_named("verification_auc").score(mixed, once)[0] == pytest.approx(3 / 4)
    # at 10: a quarter accepted, all refused; at 20: a quarter accepted, none refused
    assert metric_named("equal_error_rate").score(mixed, once)[0] == pytest.approx(1 / 4)
    assert metric_named("tar_at_far_1e2").score(mixed, once)[0] == 0
    # the image at 30 twice, the one at 50 left out: pairs aa 20 of weight 1; ab 10, weight 2, and 30, weight 2
    assert metric_named("verification_auc").score(mixed, np.array([[1.0, 1, 2, 0]]))[0] == pytest.approx(1 / 2)


def test_ranks_by_hand():
    #                  0   1   2   3   4   5   6    7
    answers = at_angles("abbacccd", 0, 4, 9, 15, 40, 41, 90, 200)
    order = answers.neighbours.order
    assert order[0].tolist() == [1, 2, 3, 4, 5, 6, 7] and order[7][0] == 6
    once = np.ones((1, 8))
    # 0 (b), 1: 0 at 4 before 2 at 5, 2: 1 at 5, 3: 2 at 6, 4 and 5 each other, 6: 5; 7 cannot be found
    assert metric_named("rank1").score(answers, once)[0] == pytest.approx(4 / 7)
    # the second nearest of 1 is 2; of 0 the third is 3; of 3: 2, 1, 0; so all are within five
    assert metric_named("rank5").score(answers, once)[0] == 1
    # nobody looks for 1, which the others are compared with as before
    assert metric_named("rank1").score(answers, np.array([[1.0, 0, 1, 1, 1, 1, 1, 1]]))[0] == pytest.approx(4 / 6)
    # 4 three times, 0 twice: a probe counts as often as it is drawn, and is not found by itself
    often = np.array([[2.0, 1, 1, 1, 3, 1, 1, 1]])
    assert metric_named("rank1").score(answers, often)[0] == pytest.approx(
        (1 + 3 + 1 + 1) / (2 + 1 + 1 + 1 + 3 + 1 + 1)
    )
    assert np.isnan(metric_named("rank1").score(answers, np.array([[0.0, 0, 0, 0, 0, 0, 0, 1]]))[0])


def test_ranks_are_those_of_a_search_one_by_one():
    answers, among = many(50, 12, seed=3), 5
    weights = drawn(50, 20, seed=1)
    straight = unit(answers.embeddings)
    alike = straight @ straight.T
    np.fill_diagonal(alike, -np.inf)
    for count, name in ((1, "rank1"), (among, "rank5")):
        for row, score in zip(weights, metric_named(name).score(answers, weights), strict=True):
            right = total = 0.0
            for probe in np.flatnonzero(row):
                others = [n for n in np.argsort(-alike[probe], kind="stable") if n != probe]
                if any(answers.labels[n] == answers.labels[probe] for n in others):
                    total += row[probe]
                    right += row[probe] * any(answers.labels[n] == answers.labels[probe] for n in others[:count])
            assert score == pytest.approx(right / total)


def test_resamples_of_people_lie_around_the_rank_of_all_of_them():
    answers = many(150, 30, seed=4)
    for name in ("rank1", "rank5"):
        units = np.unique(answers.labels, return_inverse=True)[1]
        score = partial(metric_named(name).score, answers)
        found = interval(score, units, resamples=500, confidence=0.95, seed=0)
        assert found.low < found.value < found.high
        assert (found.low + found.high) / 2 == pytest.approx(found.value, abs=0.03)


def test_blind_answers_are_worth_what_chance_is():
    blind = IdentityAnswers(["a", "b"], np.array([0, 1, 0, 1, 1]), np.ones((5, 3)))
    worth = {name: metric_named(name).score(blind, np.ones((1, 5)))[0] for name in METRICS}
    assert worth["verification_auc"] == worth["equal_error_rate"] == 0.5
    assert worth["tar_at_far_1e2"] == 0
    assert worth["rank1"] == pytest.approx(
        1 / 5
    )  # all but the first are taken for it, and it for the second: a a a b b


@pytest.mark.parametrize("name", METRICS)
def test_scores_are_undefined_without_pairs_of_both_kinds(name: str) -> None:
    lonely = at_angles("abc", 0, 10, 20)
    assert np.isnan(metric_named(name).score(lonely, np.ones((2, 3)))).all()
    nobody = IdentityAnswers(["a"], np.zeros(0, np.int64), np.zeros((0, 4)))
    assert np.isnan(metric_named(name).score(nobody, np.ones((1, 0)))).all()


@pytest.mark.parametrize("name", METRICS)
def test_only_directions_count(name: str) -> None:
    answers, weights = many(40, 6), drawn(40, 3)
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    told = (answers.embeddings * np.linspace(0.1, 50, 40)[:, None]) @ turned
    other = IdentityAnswers(answers.classes, answers.labels, told)
    found = metric_named(name).score(answers, weights)
    assert metric_named(name).score(other, weights) == pytest.approx(found, abs=1e-12)
    assert answers.difference(other).max() < 1e-12


def test_resamples_of_400_images_take_seconds():
    answers, weights = many(400, 40), drawn(400, 249)
    start = time.process_time()
    for name in METRICS:
        metric_named(name).score(answers, weights)
    assert time.process_time() - start < 5  # measured: 0.4 s, and 1.5 s for a thousand


def test_each_image_is_judged_by_its_nearest():
    answers = at_angles("abbacccd", 0, 4, 9, 15, 40, 41, 90, 200, threshold=0.2)
    assert answers.taken_for.tolist() == [1, 0, 1, 2, 5, 4, 5, 6]
    assert answers.alone.tolist() == [False] * 7 + [True]
    assert answers.quality.tolist() == [0, 0, 1, 0, 1, 1, 1, 1]  # nobody is as near to the last as 0.2
    assert at_angles("abbacccd", 0, 4, 9, 15, 40, 41, 90, 95, threshold=0.2).quality[7] == 0
    assert at_angles("abbacccd", 0, 4, 9, 15, 40, 41, 90, 95).quality[7] == 1
    assert answers.confidence[0] == pytest.approx((1 + np.cos(np.radians(4))) / 2)
    # nearest own 15 degrees away, nearest other 4
    assert answers.losses[0] == pytest.approx(2 + np.cos(np.radians(4)) - np.cos(np.radians(15)))
    assert answers.losses[7] == pytest.approx(2 + 0.2 - (1 - np.cos(np.radians(110))))
    assert answers.worst(9) == [0, 3, 1]
    present, qualities = answers.by_class
    assert present.sum(axis=0).tolist() == [2, 2, 3, 0] and qualities[present].tolist() == [0, 0, 1, 0, 1, 1, 1]
    assert not answers.graded


def test_words_name_who_it_is_taken_for_and_show_the_picture():
    answers = at_angles("abac", 0, 30, 60, 200)
    said = answers.said(0)
    assert (said.words, said.beside) == ("taken for b (distance 0.13)", 1)
    assert answers.true(0).words == "a"
    strict = at_angles("abac", 0, 30, 60, 200, threshold=0.1)
    assert strict.said(0).words == "taken for nobody here; the nearest is b (distance 0.13)"
    one = answers.at([2])
    assert one.said(0).words == "no other image to compare it with" and one.said(0).beside is None
    assert one.quality.tolist() == [1] and np.isfinite(one.losses).all() and one.confidence.tolist() == [0]


def test_tables_and_curves():
    answers = at_angles("abbacccd", 0, 4, 9, 15, 40, 41, 90, 200)
    confusion = answers.confusion()
    assert confusion.names == ["a", "b", "c", "d"]
    assert confusion.counts.tolist() == [[0, 2, 0, 0], [1, 1, 0, 0], [0, 0, 3, 0], [0, 0, 1, 0]]
    few = answers.at([0, 3, 4, 5])
    assert few.confusion().names == ["a", "c"]  # people of other splits are left out
    table = few.class_table()
    assert table.header == ("class", "images", "nearest_same", "nearest_other", "rank1")
    fifteen, twenty_five, one = (1 - np.cos(np.radians(angle)) for angle in (15, 25, 1))
    assert table.rows[0] == (
        "a",
        2,
        pytest.approx(fifteen),
        pytest.approx((1 - np.cos(np.radians(40)) + twenty_five) / 2),
        1,
    )
    assert table.rows[2][:3] == ("c", 2, pytest.approx(one))
    assert table.rows[1][:2] == ("b", 0) and np.isnan(table.rows[1][4])
    roc, cmc = few.curves()
    assert "ROC curve of 6 pairs" in roc.summary and roc.series[0][1][0] == (0, 0) and roc.series[0][1][-1] == (1, 1)
    assert "100.0% among the nearest 1 of the 3 other images" in cmc.summary
    for curve in (roc, cmc, *many(120, 9).curves()):
        points = np.array(curve.series[0][1])
        assert (points >= 0).all() and (points <= 1).all() and (np.diff(points, axis=0) >= 0).all()
        assert len(points) <= 102
    assert at_angles("abc", 0, 10, 20).curves() == []


def test_what_was_said_is_read_again():
    answers = many(7, 3)
    again = answers.again(pa.table(answers.columns()))
    assert (again.embeddings == answers.embeddings).all() and again.difference(answers).max() == 0
    longer = pa.table({"embedding": np.random.default_rng(0).normal(size=(7, 9)).tolist()})
    assert answers.again(longer).embeddings.shape == (7, 9)  # a champion may have longer ones
    for damaged in ({"embedding": [[1.0]] * 6}, {"embedding": [[1.0]] * 6 + [[1.0, 2.0]]}, {"other": [1] * 7}):
        with pytest.raises(ValueError, match="expected embeddings of one length for 7 images"):
            answers.again(pa.table(damaged))


def test_difference_is_the_largest_change_of_a_distance():
    before, after = at_angles("aab", 0, 10, 90), at_angles("aab", 0, 10, 100)
    changes = np.cos(np.radians([80, 90])), np.cos(np.radians([90, 100]))
    largest = (changes[0] - changes[1]).max()
    assert before.difference(after) == pytest.approx(
        [abs(np.cos(np.radians(90)) - np.cos(np.radians(100))), largest, largest]
    )
    broken = after.embeddings.copy()
    broken[1, 0] = np.nan
    lost = before.difference(IdentityAnswers(before.classes, before.labels, broken))
    assert np.isnan(lost).tolist() == [False, True, False] and lost[0] == pytest.approx(
        np.cos(np.radians(80)) * 0 + changes[1][0] - changes[1][1]
    )


def test_thresholds_lie_between_two_distances():
    # pairs by angle: same 5 and 10, others 20, 25, 30, 35
    answers = at_angles("aabb", 0, 10, 30, 35)
    ten, twenty = (1 - np.cos(np.radians(angle)) for angle in (10, 20))
    assert answers.chosen(None) == answers.chosen(0.01) == pytest.approx((ten + twenty) / 2)
    # same 20 twice, others 10, 30, 30, 50: at 20 a quarter is accepted, none refused
    mixed = at_angles("aabb", 0, 20, 30, 50)
    twenty, thirty = (1 - np.cos(np.radians(angle)) for angle in (20, 30))
    assert mixed.chosen(None) == pytest.approx((twenty + thirty) / 2)
    strict = mixed.chosen(0.01)
    assert strict == pytest.approx(1 - np.cos(np.radians(10))) and not (mixed.pairs.distances < strict).any()
    everything = mixed.chosen(0.999999)
    assert (mixed.pairs.distances < everything).sum() == 5
    assert at_angles("abc", 0, 1, 2).chosen(None) is None
    large = many(80, 9)
    chosen = large.chosen(0.05)
    others = np.delete(large.pairs.distances, large.pairs.same)
    assert 0.04 < (others < chosen).mean() <= 0.05
