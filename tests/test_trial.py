"""Two models compared: the numbers by hand, and by simulation that the test keeps to its error and to its power."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from scipy import stats

from pipeline import masks, mcnemar
from pipeline.answering import Answers
from pipeline.answers.grades import GradeAnswers
from pipeline.answers.identities import IdentityAnswers
from pipeline.answers.labels import LabelAnswers
from pipeline.answers.masks import MaskAnswers
from pipeline.answers.objects import ObjectAnswers
from pipeline.plugin import metric_named
from pipeline.registry.trial import DIFFERENCES, Trial, judge, of_qualities
from pipeline.registry.verdict import Comparison, Verdict

LABELS = np.arange(200) % 2
IMAGES = 500
CLASSES = ("even", "odd")


def answering(labels: np.ndarray, wrong: np.ndarray, sure: float = 0.9) -> LabelAnswers:
    """Probabilities of two classes that are right but for the images in `wrong`."""
    told = np.where(np.isin(np.arange(len(labels)), wrong), 1 - labels, labels)
    probabilities = np.full((len(labels), 2), 1 - sure)
    probabilities[np.arange(len(labels)), told] = sure
    return LabelAnswers(CLASSES, labels, probabilities)


def trial(**changes: object) -> Trial:
    return Trial(**({"score": "accuracy", "confidence": 0.95, "resamples": 1000, "seed": 0} | changes))


def judged(challenger_wrong: object, champion_wrong: object, **changes: object) -> Verdict:
    test = trial(**changes)
    sides = (answering(LABELS, np.array(wrong)) for wrong in (challenger_wrong, champion_wrong))
    return judge(*sides, "version 3", test)


def compared(challenger: Answers, champion: Answers, **changes: object) -> Comparison:
    """The numbers behind a verdict."""
    found = judge(challenger, champion, "version 3", trial(**changes)).comparison
    assert found
    return found


def test_the_numbers_by_hand() -> None:
    # wrong: challenger 2 (one of them shared), champion 9 -> fixed 8, broken 1, exact p = 2 * (1 + 9) / 2^9
    found = compared(answering(LABELS, np.arange(2)), answering(LABELS, np.arange(1, 10)))
    assert (found.challenger, found.champion, found.decided_by) == (0.99, 0.955, "McNemar")
    assert found.difference == pytest.approx(7 / 200)
    assert (found.fixed, found.broken) == (8, 1)
    assert found.p == pytest.approx(2 * (1 + 9) / 2**9)
    assert found.lower == mcnemar.lower(200, 8, 1, 0.95)
    assert found.detectable == mcnemar.detectable(200, 8, 1, 0.95)
    assert found.power == {points: mcnemar.power(200, 9 / 200, points, 0.95) for points in (0.01, 0.02, 0.04)}
    assert (found.images, found.graded) == (200, False)


def test_the_bootstrap_decides_where_the_score_is_no_count() -> None:
    sides = answering(LABELS, np.arange(2)), answering(LABELS, np.arange(1, 10))
    found = compared(*sides, score="balanced_accuracy")
    assert found.decided_by == "bootstrap"
    # of one image's difference: mean 7/200, mean square 9/200 -> standard error 0.01466; times 1.645 and 0.842
    error = np.sqrt((9 / 200 - (7 / 200) ** 2) / 200)
    assert found.detectable == pytest.approx((1.6449 + 0.8416) * error, rel=0.1)
    assert found.lower == pytest.approx(7 / 200 - 1.6449 * error, abs=0.004)
    assert found.power[0.02] == pytest.approx(stats.norm.cdf(0.02 / error - 1.6449), abs=0.03)


def test_a_better_model_is_promoted_and_the_reasons_say_why() -> None:
    verdict = judged(range(2), range(20))
    assert verdict.outcome == "promote"
    assert verdict.reasons[0] == "Better than version 3: Accuracy 0.9900 against 0.9000 on the same 200 test images."
    assert verdict.reasons[1] == (
        "Difference +0.0900 (95 % interval +0.0498 to +0.1385); by the exact McNemar test it is at least +0.0550 with "
        "95 % confidence, and more than 0 is needed."
    )
    assert "answers 18 images rightly that version 3 does not, and 0 the other way round" in verdict.reasons[2]
    assert verdict.reasons[3] == (
        "This test set shows a difference of 0.0547 or more in 80 of 100 such tests; one of 0.01 in 8, one of 0.02 in "
        "18, one of 0.04 in 52."
    )
    by_bootstrap = judged(range(2), range(20), score="balanced_accuracy")
    assert by_bootstrap.outcome == "promote"
    assert "by the paired bootstrap it is at least +0.0" in by_bootstrap.reasons[1]


@pytest.mark.parametrize("score", ["accuracy", "balanced_accuracy"])
def test_a_worse_model_is_rejected_and_an_equal_one_held(score: str) -> None:
    assert judged(range(20), range(2), score=score).outcome == "reject"
    verdict = judged(range(2), range(2), score=score)
    assert verdict.outcome == "hold"
    assert verdict.reasons[0].startswith("No difference to version 3 that this test can show: ")
    assert judged(range(2), range(3), score=score).outcome == "hold"


def test_what_a_test_cannot_say_of_its_power() -> None:
    by_count = judged([], []).reasons[-1]
    assert by_count.startswith(
        "This test set shows a difference of 0.0334 or more in 80 of 100 such tests; one of 0.01"
    )
    by_bootstrap = judged([], [], score="brier")
    assert by_bootstrap.reasons[-1].startswith("The two never differ, so how small a difference")
    labels = np.arange(4) % 2
    few = judge(answering(labels, np.arange(0)), answering(labels, np.arange(4)), "it", trial())
    assert few.outcome == "hold"
    assert few.reasons[-1] == "4 test images are too few to show any difference, however large."
    assert Verdict.model_validate_json(few.model_dump_json()).reasons == few.reasons  # with a number that is none
    one_class = np.zeros(10, np.int64)
    undefined = judge(*[answering(one_class, np.arange(1))] * 2, "it", trial(score="roc_auc"))
    assert (undefined.outcome, undefined.reasons[-1]) == ("hold", "ROC AUC is undefined on these test images.")


def test_few_images_decide_nothing_whatever_the_score() -> None:
    labels = np.arange(4) % 2
    sides = answering(labels, np.arange(0), sure=0.9), answering(labels, np.arange(0), sure=0.6)
    few = judge(*sides, "it", trial(score="brier"))  # better on all four: so are equal models once in 16
    assert few.outcome == "hold"
    assert few.reasons[1].startswith("Difference +0.3")
    assert few.reasons[1].endswith("; the paired bootstrap has no bound for it with 95 % confidence.")
    assert few.reasons[-1] == "4 test images are too few to show any difference, however large."
    assert judge(*sides[::-1], "it", trial(score="brier")).outcome == "hold"
    labels = np.arange(6) % 2
    sides = answering(labels, np.arange(0), sure=0.875), answering(labels, np.arange(0), sure=0.75)
    enough = judge(*sides, "it", trial(score="brier"))
    assert enough.outcome == "promote"
    assert enough.reasons[-1].startswith("Every resample gives the same difference, so how small a difference")


def test_a_score_that_is_undefined_is_said_so() -> None:
    one_class = np.zeros(10, np.int64)
    undefined = judge(*[answering(one_class, np.arange(1))] * 2, "it", trial(score="roc_auc"))
    assert undefined.reasons[0].endswith(": ROC AUC undefined against undefined on the same 10 test images.")
    assert undefined.reasons[1] == "So their difference is undefined too."


def test_a_score_that_should_be_low_is_turned_round() -> None:
    sure, unsure = answering(LABELS, np.arange(2), sure=0.95), answering(LABELS, np.arange(2), sure=0.6)
    verdict = judge(sure, unsure, "version 3", trial(score="brier"))
    assert verdict.outcome == "promote"
    assert verdict.comparison
    assert verdict.comparison.challenger < verdict.comparison.champion
    assert verdict.comparison.difference > 0
    assert judge(unsure, sure, "version 3", trial(score="brier")).outcome == "reject"


# Answers that can be right in part.

BOXES = np.array([[0, 0, 10, 10], [10, 10, 20, 20]], float)
"""The two objects of every picture."""
PAINTED = np.array([[0, 0], [1, 1]], np.uint8)


def finding(counts: Sequence[int]) -> ObjectAnswers:
    """Of each image the first `counts` of its two objects are found, exactly where they are."""
    truth = np.column_stack([BOXES, np.zeros((2, 2))])  # of class 0, no crowds
    found = np.column_stack([BOXES, np.full(2, 0.9), np.zeros(2)])
    return ObjectAnswers(["cell"], [truth] * len(counts), [found[:count] for count in counts], [(20, 20)] * len(counts))


def painting(wrong: Sequence[int], images: int = 40) -> MaskAnswers:
    """Masks that are right but for one of the two pixels of class 0 in the images in `wrong`."""
    other = PAINTED.copy()
    other[0, 1] = 1
    said = [masks.encode(other if place in wrong else PAINTED) for place in range(images)]
    return MaskAnswers(["sky", "road"], [masks.encode(PAINTED)] * images, said, np.full(images, 0.8))


MORE = [2] * 30 + [1] * 10
FEWER = [1] * 5 + [2] * 20 + [1] * 5 + [2] * 2 + [1] * 8


def test_objects_by_hand() -> None:
    challenger, champion = finding(MORE), finding(FEWER)
    assert set(challenger.quality) == {1.0, 2 / 3}  # F1 of one of two, and nothing wrong: 2 / 3
    found = compared(challenger, champion, score="map50")
    # Precision is 1 until no more is found: of 80 objects 70 and 62. COCO looks at the recalls 0, 0.01, ..., 1, of
    # which 88 are at most 0.875, and 78 at most 0.775.
    assert (found.challenger, found.champion) == (pytest.approx(88 / 101), pytest.approx(78 / 101))
    assert found.difference == pytest.approx(10 / 101)
    assert (found.decided_by, found.graded, found.images) == ("bootstrap", True, 40)
    # images 0 to 4 and 25 to 29 are answered better, 30 and 31 worse: 10 or more of 12 tosses, either way round
    assert (found.fixed, found.broken) == (10, 2)
    assert found.p == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    # of one image's share of what is found: half an object of two 10 times more and twice less
    error = np.sqrt((12 * 0.5**2 / 40 - 0.1**2) / 40)
    assert found.lower == pytest.approx(0.1 - 1.6449 * error, abs=0.01)
    assert found.detectable == pytest.approx((1.6449 + 0.8416) * error, rel=0.1)


def test_the_words_about_answers_that_are_right_in_part() -> None:
    verdict = judge(finding(MORE), finding(FEWER), "version 3", trial(score="map50"))
    assert verdict.outcome == "promote"
    assert verdict.reasons[0] == "Better than version 3: mAP 50 0.8713 against 0.7723 on the same 40 test images."
    assert "by the paired bootstrap it is at least +0.0" in verdict.reasons[1]
    assert verdict.reasons[2] == (
        "It answers 10 images better than version 3, and 2 worse (exact sign test: p = 0.039)."
    )
    assert judge(finding(FEWER), finding(MORE), "version 3", trial(score="map50")).outcome == "reject"
    same = judge(finding(MORE), finding(MORE), "version 3", trial(score="map50"))
    assert same.outcome == "hold"
    assert same.reasons[-1].startswith("The two never differ, so how small a difference")
    nothing_there = ObjectAnswers(["cell"], [np.zeros((0, 6))] * 9, [np.zeros((0, 6))] * 9, [(20, 20)] * 9)
    undefined = judge(nothing_there, nothing_there, "it", trial(score="map"))
    assert (undefined.outcome, undefined.reasons[-1]) == ("hold", "mAP 50:95 is undefined on these test images.")


def test_masks_by_hand() -> None:
    challenger, champion = painting(range(4)), painting(range(2, 18))
    # one of two pixels of the sky said to be road: IoU 1 / 2 of the sky and 2 / 3 of the road
    assert challenger.quality == pytest.approx(np.repeat([7 / 12, 1.0], [4, 36]))
    found = compared(challenger, champion, score="mean_iou")
    # of 80 pixels of the sky 4 and 16 are lost to the 80 of the road
    assert found.challenger == pytest.approx((76 / 80 + 80 / 84) / 2)
    assert found.champion == pytest.approx((64 / 80 + 80 / 96) / 2)
    assert (found.decided_by, found.graded) == ("bootstrap", True)
    assert (found.fixed, found.broken) == (14, 2)
    assert found.p == pytest.approx(2 * (1 + 16 + 120) / 2**16)
    assert found.lower > 0
    # every pixel counts alike: of one image a quarter is wrong, 14 times less and twice more
    error = np.sqrt((16 * 0.25**2 / 40 - (12 * 0.25 / 40) ** 2) / 40)
    by_pixel = compared(challenger, champion, score="pixel_accuracy")
    assert by_pixel.difference == pytest.approx(12 * 0.25 / 40)
    assert by_pixel.lower == pytest.approx(12 * 0.25 / 40 - 1.6449 * error, abs=0.005)


def test_qualities_alone_are_compared_by_their_mean() -> None:
    right, before = answering(LABELS, np.arange(2)).quality, answering(LABELS, np.arange(1, 10)).quality
    counted = of_qualities(right, before, "run 1", trial(score="brier"))
    by_answers = compared(answering(LABELS, np.arange(2)), answering(LABELS, np.arange(1, 10)))
    assert counted == by_answers.model_copy(update={"champion_name": "run 1"})  # a count of right answers: McNemar
    found = of_qualities(finding(MORE).quality, finding(FEWER).quality, "run 1", trial(score="map"))
    assert (found.score, found.decided_by, found.graded) == ("Quality of the answers", "bootstrap", True)
    assert found.challenger == pytest.approx((30 + 10 * 2 / 3) / 40)
    assert found.difference == pytest.approx((10 - 2) / 3 / 40)
    assert (found.fixed, found.broken) == (10, 2)
    error = np.sqrt((12 / 3**2 / 40 - (8 / 3 / 40) ** 2) / 40)
    assert found.lower == pytest.approx(8 / 3 / 40 - 1.6449 * error, abs=0.005)
    assert found.power[0.04] == pytest.approx(stats.norm.cdf(0.04 / error - 1.6449), abs=0.05)


# Pairs of models as they come: what is hard for one is hard for the other. Each image has a difficulty that both share;
# the margin by which a model is right is its skill, less that, and noise of its own.

SKILL, SHARED, OWN = 2.6, 1.5, 0.8


def margins(random: np.random.Generator, images: int, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Of challenger and champion."""
    common = SKILL + SHARED * random.standard_normal(images)
    challenger, champion = common + OWN * random.standard_normal((2, images))
    return challenger + gain, champion


def answers(margin: np.ndarray, labels: np.ndarray) -> LabelAnswers:
    """Of two classes; the true one has the logistic of the margin."""
    true = 1 / (1 + np.exp(-margin))
    return LabelAnswers(CLASSES, labels, np.where(labels[:, None] == np.arange(2), true[:, None], 1 - true[:, None]))


@cache
def gain_for(score: str, difference: float) -> float:
    """By how much more skill a challenger is better by `difference`, on a million images."""
    metric = metric_named(score)
    labels, once = np.arange(1_000_000) % 2, np.ones((1, 1_000_000))

    def worth(margin: np.ndarray) -> float:
        value = float(metric.score(answers(margin, labels), once)[0])
        return value if metric.higher_is_better else -value

    challenger, champion = margins(np.random.default_rng(9), len(labels), 0)
    base, low, high = worth(champion), 0.0, 4.0
    for _ in range(16 if difference else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if worth(challenger + middle) - base < difference else (low, middle)
    return low


def rounds(count: int, score: str, difference: float, resamples: int = 200) -> tuple[float, float]:
    """The share of pairs whose challenger is promoted, and the share that the tests claim, of `count` pairs."""
    random, labels = np.random.default_rng(round(1000 * difference)), np.arange(IMAGES) % 2
    gain, promoted, claimed = gain_for(score, difference), 0, 0.0
    for turn in range(count):
        sides = (answers(margin, labels) for margin in margins(random, IMAGES, gain))
        verdict = judge(*sides, "it", trial(score=score, resamples=resamples, seed=turn))
        promoted += verdict.outcome == "promote"
        assert verdict.comparison
        claimed += verdict.comparison.power.get(difference, 0)
    return promoted / count, claimed / count


def error(share: float, count: int) -> float:
    """Three standard errors of a share in `count` rounds."""
    return 3 * np.sqrt(share * (1 - share) / count)


def test_of_a_thousand_equal_pairs_no_more_are_promoted_than_the_confidence_says() -> None:
    promoted, _ = rounds(1000, "accuracy", 0)
    assert promoted * 1000 <= stats.binom.ppf(0.999, 1000, 0.05)
    assert promoted > 0.02  # the test is not asleep: of some fifty images that part, 0.05 is exact but for steps


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_better_models_are_promoted_as_often_as_the_exact_test_claims(difference: float) -> None:
    promoted, claimed = rounds(1000, "accuracy", difference)
    # each pair claims from the images on which it parted, which are themselves a sample: 0.01 for that
    assert promoted == pytest.approx(claimed, abs=error(promoted, 1000) + 0.01)


def rounds_of_patients(count: int, *, known: bool) -> float:
    """The share of equal pairs whose challenger is promoted, on ten images of each of 50 patients; what parts them is
    mostly the patient.

    Args:
        count: of the pairs.
        known: whether the test knows the patients.
    """
    random, promoted, labels = np.random.default_rng(11), 0, np.arange(IMAGES) % 2
    units = np.repeat(np.arange(50), IMAGES // 50)
    for turn in range(count):
        common = SKILL + SHARED * random.standard_normal(50)[units]
        own = OWN * (0.9 * random.standard_normal((2, 50))[:, units] + 0.44 * random.standard_normal((2, IMAGES)))
        test = trial(resamples=200, seed=turn, units=units if known else None)
        promoted += judge(*(answers(common + one, labels) for one in own), "it", test).outcome == "promote"
    return promoted / count


def test_equal_models_are_promoted_as_seldom_where_images_are_of_the_same_patients() -> None:
    assert rounds_of_patients(200, known=True) * 200 <= stats.binom.ppf(0.999, 200, 0.05)
    assert rounds_of_patients(200, known=False) > 0.15  # of images that are taken for independent ones


def test_images_of_one_patient_are_one_trial() -> None:
    # the champion misses ten images: one of each of ten patients, or two of each of five
    side, rival = answering(LABELS, np.arange(0)), answering(LABELS, np.arange(0, 100, 10))
    of_ten, of_five = np.arange(200) // 10, np.arange(200) // 20
    found = compared(side, rival, units=of_ten)
    assert (found.images, found.units, found.grouped, found.fixed, found.broken) == (200, 20, True, 10, 0)
    assert found.decided_by == "McNemar" and found.p == pytest.approx(2 / 2**10)
    assert found.difference == pytest.approx(10 / 200)
    assert found.lower == pytest.approx(mcnemar.lower(20, 10, 0, 0.95) / 10)
    assert (found.low, found.high) == pytest.approx([end / 10 for end in mcnemar.interval(20, 10, 0, 0.95)])
    assert found.detectable == pytest.approx(mcnemar.detectable(20, 10, 0, 0.95) / 10)
    assert found.power[0.02] == pytest.approx(mcnemar.power(20, 10 / 20, 0.2, 0.95))
    verdict = judge(side, rival, "version 3", trial(units=of_five))
    assert verdict.outcome == "promote" and verdict.comparison
    assert (verdict.comparison.decided_by, verdict.comparison.units) == ("bootstrap", 10)
    assert verdict.comparison.p == pytest.approx(2 / 2**5)
    assert verdict.reasons[0] == (
        "Better than version 3: Accuracy 1.0000 against 0.9500 on the same 200 test images. They make 10 units: images "
        "that belong together are one."
    )
    assert verdict.reasons[2].endswith("(exact sign test of the units: p = 0.062).")
    few = judge(side, rival, "version 3", trial(units=np.arange(200) // 50))
    assert few.outcome == "hold"
    assert few.reasons[-1] == "The two part on too few of 4 units to show any difference, however large."


def test_units_that_part_no_two_models_are_no_trials_however_few_resamples_there_are() -> None:
    labels, units = np.arange(600) % 2, np.arange(600) // 2
    sides = answering(labels, np.arange(0)), answering(labels, np.arange(8))  # the champion misses four pairs of 300
    for resamples in (200, 1000):
        few = judge(*sides, "it", trial(units=units, resamples=resamples))
        assert few.comparison and few.comparison.decided_by == "bootstrap"
        assert few.outcome == "hold"  # tosses fall four times alike, for the challenger, once in sixteen
        assert few.reasons[-1] == "The two part on too few of 300 units to show any difference, however large."


@pytest.mark.parametrize("score", ["rank1", "rank5", "verification_auc"])
def test_people_are_units_though_nobody_is_mistaken_alone(score: str) -> None:
    random, people = np.random.default_rng(0), np.repeat(np.arange(30), 5)
    centers = random.standard_normal((30, 16))[people]
    sides = (
        IdentityAnswers(list(map(str, range(30))), people, centers + noise * random.standard_normal((150, 16)))
        for noise in (0.5, 1.3)
    )
    assert judge(*sides, "it", trial(score=score, resamples=200, units=people)).outcome == "promote"


def test_a_ranking_tells_models_apart_though_each_patient_is_of_one_class() -> None:
    random, patients = np.random.default_rng(0), np.arange(160) // 4
    labels = patients % 2
    sides = [answers(skill + random.standard_normal(160), labels) for skill in (2.5, 0.5)]
    assert judge(*sides, "it", trial(score="average_precision", units=patients)).outcome == "promote"


def test_accuracy_of_grades_counts_right_answers_and_not_near_ones() -> None:
    labels, grades = np.full(100, 4), list("abcde")
    half = np.arange(100) < 50
    nearer, farther = (GradeAnswers(grades, labels, np.eye(5)[np.where(half, 4, said)]) for said in (3, 1))
    found = compared(nearer, farther)
    assert (found.challenger, found.champion, found.difference, found.decided_by) == (0.5, 0.5, 0, "bootstrap")
    assert (found.graded, found.fixed, found.broken) == (True, 50, 0)
    assert judge(nearer, farther, "it", trial()).outcome == "hold"
    assert judge(nearer, farther, "it", trial(score="grade_error")).outcome == "promote"


def test_what_was_kept_before_units_were_counted_is_read() -> None:
    kept = compared(answering(LABELS, np.arange(2)), answering(LABELS, np.arange(1, 10))).model_dump()
    assert kept.pop("units") == 200
    found = Comparison.model_validate(kept)
    assert (found.grouped, found.exact_test) == (False, "exact McNemar test")


def test_all_images_of_one_unit_show_nothing() -> None:
    for score in ("accuracy", "balanced_accuracy", "brier"):
        verdict = judged([], range(100), score=score, units=np.zeros(200, np.int64))
        assert verdict.outcome == "hold"
        assert verdict.reasons[0].endswith(" They make 1 unit: images that belong together are one.")
        assert verdict.reasons[-1] == "The two part on too few of 1 unit to show any difference, however large."


def test_equal_and_better_models_by_the_bootstrap() -> None:
    promoted, _ = rounds(100, "brier", 0)
    assert promoted * 100 <= stats.binom.ppf(0.999, 100, 0.05)
    promoted, claimed = rounds(100, "brier", 0.01)
    assert promoted == pytest.approx(claimed, abs=error(promoted, 100) + 0.02)


def found_of_two(margin: np.ndarray) -> list[int]:
    """How many of its two objects are found in each picture: the second one is harder."""
    return ((margin > 0).astype(int) + (margin > SKILL)).tolist()


def test_of_equal_and_of_better_detectors() -> None:
    random, promoted = np.random.default_rng(3), {0.0: 0, 0.4: 0}
    for gain in promoted:
        for turn in range(100):
            sides = (finding(found_of_two(margin)) for margin in margins(random, 100, gain))
            verdict = judge(*sides, "it", trial(score="map50", resamples=200, seed=turn))
            promoted[gain] += verdict.outcome == "promote"
    assert promoted[0.0] <= stats.binom.ppf(0.999, 100, 0.05)
    assert promoted[0.4] > 50


@pytest.mark.slow
@pytest.mark.parametrize("score", ["balanced_accuracy", "brier"])
def test_equal_and_better_models_by_the_bootstrap_hundreds_of_times(score: str) -> None:
    promoted, _ = rounds(300, score, 0, resamples=250)
    # the percentile interval lacks a little at this many images, and a quantile of 250 has an error: 0.005
    assert promoted <= 0.055 + error(0.05, 300)
    for difference in (min(DIFFERENCES), max(DIFFERENCES)):
        promoted, claimed = rounds(100, score, difference, resamples=250)
        assert promoted == pytest.approx(claimed, abs=error(promoted, 100) + 0.02)
