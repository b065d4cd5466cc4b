"""The gate: verdicts by hand, by simulation, and over a real project."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from registry_project import make_project

from pipeline.bundle import Bundle, digest_of
from pipeline.dataset import Dataset
from pipeline.params import Params
from pipeline.registry import gate
from pipeline.registry.champion import Champion, Version
from pipeline.registry.gate import Trial, Verdict, compare, judge


def answering(labels: np.ndarray, wrong: np.ndarray, sure: float = 0.9) -> np.ndarray:
    """Probabilities of two classes that are right but for the images in `wrong`."""
    told = np.where(np.isin(np.arange(len(labels)), wrong), 1 - labels, labels)
    probabilities = np.full((len(labels), 2), 1 - sure)
    probabilities[np.arange(len(labels)), told] = sure
    return probabilities


def accuracy_test(labels: np.ndarray, **changes: object) -> Trial:
    return Trial(
        **({"labels": labels, "score": "accuracy", "confidence": 0.95, "resamples": 1000, "seed": 0} | changes)
    )


LABELS = np.arange(200) % 2


def test_the_numbers_by_hand() -> None:
    # wrong: challenger 2 (one of them shared), champion 9 -> fixed 8, broken 1, exact p = 2 * (1 + 9) / 2^9
    found = compare(
        answering(LABELS, np.arange(2)), answering(LABELS, np.arange(1, 10)), "version 3", accuracy_test(LABELS)
    )
    assert (found.challenger, found.champion) == (0.99, 0.955)
    assert found.difference == pytest.approx(7 / 200)
    assert (found.fixed, found.broken) == (8, 1)
    assert found.p == pytest.approx(2 * (1 + 9) / 2**9)
    # of one image's difference: mean 7/200, mean square 9/200 -> standard error 0.01466; times 1.645 and 0.842
    error = np.sqrt((9 / 200 - (7 / 200) ** 2) / 200)
    assert found.detectable == pytest.approx((1.6449 + 0.8416) * error, rel=0.1)
    assert found.lower == pytest.approx(7 / 200 - 1.6449 * error, abs=0.004)


def test_a_better_model_is_promoted_and_the_reasons_say_why() -> None:
    verdict = judge(
        answering(LABELS, np.arange(2)), answering(LABELS, np.arange(20)), "version 3", accuracy_test(LABELS)
    )
    assert verdict.outcome == "promote"
    assert verdict.reasons[0] == ("Better than version 3: Accuracy 0.9900 against 0.9000 on the same 200 test images.")
    assert "Difference +0.0900 (95% interval +0.0" in verdict.reasons[1]
    assert "answers 18 images rightly that version 3 does not, and 0 the other way round" in verdict.reasons[2]


def test_a_worse_model_is_rejected_and_an_equal_one_held() -> None:
    good, bad = answering(LABELS, np.arange(2)), answering(LABELS, np.arange(20))
    assert judge(bad, good, "version 3", accuracy_test(LABELS)).outcome == "reject"
    verdict = judge(good, good, "version 3", accuracy_test(LABELS))
    assert verdict.outcome == "hold"
    assert verdict.reasons[0].startswith("No difference to version 3 that this test can show: Accuracy 0.9900")
    assert judge(good, answering(LABELS, np.arange(3)), "version 3", accuracy_test(LABELS)).outcome == "hold"


def test_a_score_that_should_be_low_is_turned_round() -> None:
    sure, unsure = answering(LABELS, np.arange(2), sure=0.95), answering(LABELS, np.arange(2), sure=0.6)
    verdict = judge(sure, unsure, "version 3", accuracy_test(LABELS, score="brier"))
    assert verdict.outcome == "promote"
    assert verdict.comparison
    assert verdict.comparison.challenger < verdict.comparison.champion
    assert verdict.comparison.difference > 0


def test_equal_models_are_promoted_as_rarely_as_the_confidence_says() -> None:
    random, promoted, rounds = np.random.default_rng(0), 0, 300
    labels = np.arange(120) % 2
    for round_ in range(rounds):
        challenger, champion = (answering(labels, np.flatnonzero(random.random(120) < 0.15)) for _ in range(2))
        test = accuracy_test(labels, resamples=200, seed=round_)
        promoted += judge(challenger, champion, "it", test).outcome == "promote"
    assert promoted <= rounds * 0.05 + 2.3 * np.sqrt(rounds * 0.05 * 0.95)  # 1 in 100 simulations is above that


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    root = tmp_path_factory.mktemp("gate") / "project"
    return root, make_project(root)


@pytest.fixture
def params(made: tuple[Path, Params], tmp_path: Path) -> Iterator[Params]:
    """A fresh copy of the project, entered."""
    shutil.copytree(made[0], tmp_path / "project")
    before = Path.cwd()
    os.chdir(tmp_path / "project")
    yield made[1]
    os.chdir(before)


def version(number: str = "1", folder: Path = Path("out/model")) -> Version:
    return Version(name="digits", version=number, digest=digest_of(folder), dataset="d" * 64, location=str(folder))


def reigning(version: Version, epoch: int = 1) -> Champion:
    return Champion(version=version, since="2026-01-01T00:00:00Z", epoch=epoch, why="")


def answers(folder: Path) -> np.ndarray:
    test = Dataset.open().split("test")
    return Bundle.open(folder).probabilities([test.read(position) for position in range(len(test))])


def other_bundle(**changes: object) -> Path:
    """A champion that differs from `out/model` as asked."""
    shutil.copytree("out/model", "champion")
    bundle = Path("champion/bundle.json")
    info = Bundle.open(Path("champion")).info.model_copy(update=changes or {"parameters": 1})
    bundle.write_text(info.model_dump_json())
    return Path("champion")


def test_a_first_model_is_compared_with_the_baseline(params: Params) -> None:
    verdict = gate.decide(params, version(), None, answers)
    assert verdict.outcome == "promote"
    assert verdict.reasons[0] == "Better than the baseline: Accuracy 0.9000 against 0.5000 on the same 40 test images."
    assert (verdict.challenger, verdict.epoch) == (version().digest, 0)


def test_a_champion_with_the_same_answers_stays(params: Params) -> None:
    verdict = gate.decide(params, version("2"), reigning(version("1", other_bundle()), epoch=5), answers)
    assert (verdict.outcome, verdict.epoch) == ("hold", 5)
    assert verdict.reasons[0].startswith("No difference to version 1 that this test can show")


def test_files_that_answer_otherwise_than_the_trained_model_are_rejected(params: Params) -> None:
    verdict = gate.decide(params, version(), None, lambda _: np.full((40, 2), 0.5))
    assert verdict.outcome == "reject"
    assert "registered files give other answers than the trained model: a probability differs by" in verdict.reasons[0]


def test_answers_that_are_no_numbers_are_rejected(params: Params) -> None:
    assert gate.decide(params, version(), None, lambda _: np.full((40, 2), np.nan)).outcome == "reject"


def test_the_same_files_are_the_champion_already(params: Params) -> None:
    verdict = gate.decide(params, version("2"), reigning(version("1")), answers)
    assert (verdict.outcome, verdict.reasons) == ("hold", ["It is the champion already, as version 1: the same files."])


def test_a_champion_of_other_classes_needs_another_name(params: Params) -> None:
    champion = other_bundle(classes=["dark", "bright"])
    verdict = gate.decide(params, version("2"), reigning(version("1", champion)), answers)
    assert verdict.outcome == "hold"
    assert "no longer there: 'bright'; new: 'light'; 2 then, 2 now" in verdict.reasons[0]
    assert "Choose another `name` in params.yaml" in verdict.reasons[0]


def test_a_champion_whose_files_were_changed_or_are_gone(params: Params) -> None:
    champion = other_bundle()
    throne = reigning(version("1", champion))
    (champion / "weights.safetensors").write_bytes(b"other")
    verdict = gate.decide(params, version("2"), throne, answers)
    assert verdict.outcome == "hold"
    assert "were changed after it was registered" in verdict.reasons[0]
    assert "or choose another `name` in params.yaml: it starts without a champion" in verdict.reasons[0]
    shutil.rmtree(champion)
    assert "are gone" in gate.decide(params, version("2"), throne, answers).reasons[0]


def test_the_champions_own_model_registered_again_mends_it(params: Params) -> None:
    shutil.copytree("out/model", "champion")
    throne = reigning(version("1", Path("champion")))
    shutil.rmtree("champion")
    verdict = gate.decide(params, version("2"), throne, answers)
    assert verdict.outcome == "promote"
    assert "It is the champion, version 1, whose files were gone or changed; these are whole." in verdict.reasons


def test_a_run_killed_after_its_promotion_keeps_its_verdict(params: Params) -> None:
    verdict = gate.decide(params, version(), None, answers)
    throne = reigning(version(), epoch=1)
    assert gate.decide(params, version(), throne, answers, kept=verdict) == verdict
    # in a later run the same model is no news
    assert gate.decide(params, version(), throne, answers).outcome == "hold"


def test_a_verdict_survives_json(params: Params) -> None:
    verdict = gate.decide(params, version(), None, answers)
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
