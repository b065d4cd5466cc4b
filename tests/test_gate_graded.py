"""The gate where answers are right in part: objects and pixels, from files in a fresh process to verdict and table."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import registry_project
import torch
from graded_project import OBJECTS, PIXELS, SHORT, SIDE, SQUARE, make_project
from registry_project import told as ask

from pipeline import asking, masks, score
from pipeline.answering import Answers
from pipeline.answers.masks import MaskAnswers
from pipeline.answers.objects import ObjectAnswers
from pipeline.asking import Told
from pipeline.bundle import Bundle, digest_of
from pipeline.dataset import Dataset
from pipeline.params import Params
from pipeline.registry import fitness, gate
from pipeline.registry.champion import Champion, Version
from pipeline.registry.fitness import PREDICTIONS
from pipeline.registry.verdict import Verdict
from pipeline.train_options import ComputeOptions

MODEL, CHAMPION = Path("out/model"), Path("champion")
BOTH = pytest.mark.parametrize("task", [OBJECTS, PIXELS])
PIXELS_OF_ONE = SIDE * SHORT
BACKGROUND = PIXELS_OF_ONE - 2 * SQUARE**2
"""Pixels that are true background where there are two squares."""
HALF = (BACKGROUND / (BACKGROUND + SQUARE**2) + 1 / 2) / 2
"""Mean IoU of a picture with two squares of which one is seen."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Params]]:
    roots = {task: tmp_path_factory.mktemp("graded") / "project" for task in (OBJECTS, PIXELS)}
    return {task: (root, make_project(root, task)) for task, root in roots.items()}


@pytest.fixture
def params(made: dict[str, tuple[Path, Params]], tmp_path: Path, task: str) -> Iterator[Params]:
    """A fresh copy of the project, entered."""
    root, found = made[task]
    shutil.copytree(root, tmp_path / "project")
    before = Path.cwd()
    os.chdir(tmp_path / "project")
    yield found
    os.chdir(before)


def version(number: str = "2", folder: Path = MODEL) -> Version:
    return Version(name="digits", version=number, digest=digest_of(folder), dataset="e" * 64, location=str(folder))


def reigning(**changes: object) -> Champion:
    """A champion whose files differ from `out/model` in what they say of themselves."""
    shutil.copytree(MODEL, CHAMPION)
    info = Bundle.open(CHAMPION).info.model_copy(update=changes or {"parameters": 1})
    (CHAMPION / "bundle.json").write_text(info.model_dump_json())
    return Champion(version=version("1", CHAMPION), since="2026-01-01T00:00:00Z", epoch=1, why="")


def blinded(answers: Answers, places: range) -> Answers:
    """The same, but of the images at `places` nothing is said: no box, or background everywhere."""
    if isinstance(answers, ObjectAnswers):
        found = [np.zeros((0, 6)) if place in places else rows for place, rows in enumerate(answers.found)]
        return ObjectAnswers(answers.classes, answers.truth, found, answers.sizes)
    assert isinstance(answers, MaskAnswers)
    said = [
        masks.encode(np.zeros_like(masks.decode(mask))) if place in places else mask
        for place, mask in enumerate(answers.masks)
    ]
    return MaskAnswers(answers.classes, answers.truths, said, answers.confidence)


def against_a_blinder_one(params: Params, places: range) -> gate.Judgement:
    """The verdict on `out/model` against a champion that says nothing of some images."""

    def both(folder: Path) -> Told:
        told = ask(folder)
        return replace(told, answers=blinded(told.answers, places)) if folder == CHAMPION else told

    return gate.decide(params, version(), reigning(), both)


def gated(params: Params, **changes: object) -> Params:
    return params.model_copy(update={"gate": params.gate.model_copy(update=changes)})


@BOTH
def test_a_fresh_process_answers_as_evaluated(params: Params, task: str) -> None:
    compute = ComputeOptions(device="cpu", threads=1)
    found = fitness.examine(
        version(), Dataset.open().split("test").ids, params.gate, lambda folder: asking.ask(folder, compute)
    )
    assert found.problems == []
    limit = {OBJECTS: "0.001", PIXELS: "0.005"}[task]
    assert found.checks[1].found == (
        "As evaluated on 20 test images, and on 16 of them served as encoded pictures: answers differ by 0 at most, "
        f"and {limit} is the limit."
    )
    assert found.told
    assert (len(found.told.answers), len(found.told.golden)) == (20, 16)
    assert found.told.answers.classes == Dataset.open().info.classes
    partly = {OBJECTS: 2 / 3, PIXELS: HALF}[task]  # one of two is found, and nothing wrong is said
    expected = [partly if place % 5 == 3 else 1.0 for place in range(20)]
    assert found.told.answers.quality == pytest.approx(np.array(expected))
    assert found.told.golden.quality == pytest.approx(np.array(expected[:16]))


@BOTH
def test_a_first_model_is_compared_with_one_that_never_looks(params: Params, task: str) -> None:
    found = gate.decide(params, version("1"), None, ask)
    assert found.verdict.outcome == "promote"
    comparison = found.verdict.comparison
    assert comparison
    assert (comparison.champion_name, comparison.decided_by) == ("the baseline that never looks", "bootstrap")
    if task == OBJECTS:
        # 10 of the 12 objects of each class are found, and nothing wrong: 84 of COCO's 101 recalls are reached
        assert comparison.challenger == pytest.approx(84 / 101)
        assert comparison.champion < 0.5
    else:
        # of 3,840 pixels 56 are void and 12 squares of 36 are of each class; two squares of each are not seen
        background, square = 3840 - 56 - 24 * 36, 36
        assert comparison.challenger == pytest.approx((background / (background + 4 * square) + 2 * 10 / 12) / 3)
        # always the background: the others are never said, and count
        assert comparison.champion == pytest.approx(background / (3840 - 56) / 3)
    assert found.verdict.reasons[0].startswith("Better than the baseline that never looks: ")
    assert Verdict.model_validate_json(found.verdict.model_dump_json()) == found.verdict


@BOTH
def test_what_became_of_each_image(params: Params, task: str) -> None:
    found = against_a_blinder_one(params, range(2, 6))
    comparison = found.verdict.comparison
    assert comparison
    assert (found.verdict.outcome, comparison.graded) == ("promote", True)
    assert (comparison.fixed, comparison.broken, comparison.p) == (4, 0, pytest.approx(2 / 2**4))
    assert found.verdict.reasons[2] == (
        "It answers 4 images better than version 1, and 0 worse (exact sign test: p = 0.125)."
    )
    changes = found.images.column("change").to_pylist()
    # of 8, 13 and 18 both say the same, and not all
    assert changes == [
        "fixed" if 2 <= place < 6 else "both wrong" if place % 5 == 3 else "both right" for place in range(20)
    ]
    # 1 and 3 are less light
    row = found.images.to_pylist()[3]
    words = {
        OBJECTS: ("2 dust", "1 dust", "nothing"),
        PIXELS: ("background 62%, dust 38%", "background 81%, dust 19%", "background 100%"),
    }[task]
    assert (row["label"], row["challenger"], row["champion"]) == words
    assert row["challenger_confidence"] == pytest.approx(ask(MODEL).answers.confidence[3])
    assert found.images.schema == gate._schema([])
    turned = gate.decide(params, version("1", CHAMPION), Champion(version=version(), since="", epoch=1, why=""), ask)
    assert turned.verdict.outcome == "hold"  # the same answers from both


@BOTH
def test_classes_and_slices_of_answers_that_are_right_in_part(params: Params, task: str) -> None:
    asked = gated(params, slices=("width",), class_floor=0.9, slice_floor=0.9)
    found = against_a_blinder_one(asked, range(4))
    rows = {(row.column, row.value): row for row in found.verdict.slices}
    dust = rows["class", "dust"]
    # Ten images hold dust, 3 and 13 hold twice as much as is seen. The champion says nothing of 1 and 3.
    partly = {OBJECTS: 2 / 3, PIXELS: 1 / 2}[task]
    assert (dust.images, dust.challenger) == (10, pytest.approx((8 + 2 * partly) / 10))
    assert dust.champion == pytest.approx((7 + partly) / 10)
    assert (dust.fixed, dust.broken, dust.held) == (2, 0, True)
    narrow, wide = rows["width", "12"], rows["width", "16"]
    assert (narrow.images, wide.images) == (10, 10)
    # 3 and 18 are narrow, 8 and 13 are wide
    partly = {OBJECTS: 2 / 3, PIXELS: HALF}[task]
    assert (narrow.challenger, wide.challenger) == (pytest.approx((8 + 2 * partly) / 10),) * 2
    assert (narrow.fixed, wide.fixed) == (2, 2)
    if task == PIXELS:
        background = rows["class", "background"]
        assert background.images == 20
        of_part = BACKGROUND / (BACKGROUND + SQUARE**2)
        assert background.challenger == pytest.approx((16 + 4 * of_part) / 20)


@BOTH
def test_a_floor_that_is_not_reached(params: Params, task: str) -> None:
    found = against_a_blinder_one(gated(params, class_floor=0.95), range(10))
    assert (found.verdict.outcome, found.verdict.sound) == ("reject", True)
    share = {OBJECTS: (8 + 2 * 2 / 3) / 10, PIXELS: 0.9}[task]
    words = found.verdict.reasons[0]
    assert words.startswith("Too few right answers in 2 slices: class ")
    for name in ("cell", "dust"):
        assert f"class '{name}' {share:.4f} of 10 images (floor 0.95)" in words
    assert found.verdict.reasons[1].startswith("Better than version 1: ")


def other_object(answers: Answers, score: float = 0.0, right: float = 0.0) -> ObjectAnswers:
    """The same with the box of image 5 surer, or farther right."""
    assert isinstance(answers, ObjectAnswers)
    found = [rows + np.array([right, 0, right, 0, score, 0]) * (place == 5) for place, rows in enumerate(answers.found)]
    return ObjectAnswers(answers.classes, answers.truth, found, answers.sizes)


def other_pixels(answers: Answers) -> MaskAnswers:
    """The same with one pixel of image 5 of another class."""
    assert isinstance(answers, MaskAnswers)
    mask = masks.decode(answers.masks[5]).copy()
    mask[-1, -1] = 1 if mask[-1, -1] != 1 else 2
    said = [masks.encode(mask) if place == 5 else one for place, one in enumerate(answers.masks)]
    return MaskAnswers(answers.classes, answers.truths, said, answers.confidence)


def problems_of(params: Params, **changes: Answers) -> list[str]:
    ids = Dataset.open().split("test").ids
    return fitness.examine(version(), ids, params.gate, lambda folder: replace(ask(folder), **changes)).problems


@pytest.mark.parametrize("task", [OBJECTS])
def test_objects_that_are_not_those_of_the_trained_model(params: Params) -> None:
    told = ask(MODEL)
    assert problems_of(params, answers=other_object(told.answers, score=5e-4)) == []
    (words,) = problems_of(params, answers=other_object(told.answers, score=2e-3))
    assert words == (
        "The registered files give other answers than the trained model: one differs by 0.002, and 0.001 is the limit. "
        "Remove this version in MLflow and run again."
    )
    # 6 x 6 pixels moved by one: 30 in common, 42 in all
    (words,) = problems_of(params, answers=other_object(told.answers, right=1))
    assert f"one differs by {1 - 30 / 42:.2g}, and" in words
    (words,) = problems_of(params, golden=blinded(told.golden, range(5, 6)))
    assert "where encoded pictures are served: one differs by 0.88, and 0.001 is the limit." in words  # its score
    assert "one differs by nan" in problems_of(params, answers=other_object(told.answers, score=np.nan))[0]


@pytest.mark.parametrize("task", [PIXELS])
def test_masks_that_are_not_those_of_the_trained_model(params: Params) -> None:
    told = ask(MODEL)
    (words,) = problems_of(params, answers=other_pixels(told.answers))
    assert f"than the trained model: one differs by {1 / PIXELS_OF_ONE:.2g}, and" in words
    (words,) = problems_of(params, golden=other_pixels(told.golden))
    assert "where encoded pictures are served: one differs by" in words


@BOTH
def test_what_was_said_of_other_images_or_by_a_model_of_another_kind(
    params: Params, task: str, made: dict[str, tuple[Path, Params]]
) -> None:
    written = pq.read_table(PREDICTIONS)
    found = gate.decide(params, version(), reigning(), ask, written.slice(10))
    assert found.verdict.sound
    assert "As evaluated on 10 test images, and on 6 of them served" in found.verdict.checks[1].found
    pq.write_table(written.slice(1), PREDICTIONS)
    other_images = f"{PREDICTIONS} is about other test images than out/dataset: run `convoy run` again."
    assert problems_of(params) == [other_images]
    other = made[PIXELS if task == OBJECTS else OBJECTS][0]
    shutil.copy(other / PREDICTIONS, PREDICTIONS)
    assert problems_of(params) == [other_images]


@BOTH
def test_a_champion_of_another_task_needs_another_name(params: Params, task: str) -> None:
    champion = reigning(task={"name": "classification"})
    verdict = gate.decide(params, version(), champion, ask).verdict
    assert (verdict.outcome, verdict.sound) == ("hold", True)
    assert verdict.reasons == [
        "The champion, version 1, is of another task, 'classification', so the two cannot be compared. Choose another "
        "`name` in params.yaml for this model: it starts without a champion."
    ]


@BOTH
def test_a_model_of_grey_pictures_answers_coloured_ones_as_in_use(params: Params, task: str) -> None:
    info = Path("out/dataset/dataset.json")
    info.write_text(info.read_text().replace('"channels": 1', '"channels": 3'))
    test, bundle = Dataset.open().split("test"), Bundle.open(MODEL)
    told = bundle.task.answers(test, score.of_split(bundle, test, torch.device("cpu")))
    assert told.difference(registry_project.told(MODEL).answers).max() == 0
