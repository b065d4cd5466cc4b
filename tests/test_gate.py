"""The gate over a real project: verdicts, what else must hold, and the table of images."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from registry_project import CLASSES, make_dataset, make_evaluation, make_pictures, make_project
from registry_project import told as ask

from pipeline.answers.labels import LabelAnswers
from pipeline.asking import Killed, Told
from pipeline.bundle import Bundle, digest_of
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.params import GateOptions, Params
from pipeline.registry import gate
from pipeline.registry.baselines import CLASS_MEANS
from pipeline.registry.champion import Champion, Version
from pipeline.registry.gate import Judgement
from pipeline.registry.tracking import Away
from pipeline.registry.verdict import Verdict

EASY = GateOptions(baseline="largest_class")
"""Dark and light are told apart by any means."""
SAMPLES = Path("out/dataset/samples.parquet")


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
    yield made[1].model_copy(update={"gate": EASY})
    os.chdir(before)


def asking(params: Params, **changes: object) -> Params:
    """The params with another gate."""
    return params.model_copy(update={"gate": params.gate.model_copy(update=changes)})


def version(number: str = "1", folder: Path = Path("out/model")) -> Version:
    return Version(name="digits", version=number, digest=digest_of(folder), dataset="d" * 64, location=str(folder))


def reigning(version: Version, epoch: int = 1) -> Champion:
    return Champion(version=version, since="2026-01-01T00:00:00Z", epoch=epoch, why="")


def turned(told: Told, positions: object) -> Told:
    """The same with the two probabilities of some images in each other's place."""
    answers = told.answers
    assert isinstance(answers, LabelAnswers)
    shares = answers.probabilities.copy()
    shares[positions] = shares[positions, ::-1]
    return replace(told, answers=LabelAnswers(answers.classes, answers.labels, shares))


def decide(params: Params, champion: Champion | None = None, number: str = "2") -> Verdict:
    return gate.decide(params, version(number), champion, ask).verdict


def other_bundle(**changes: object) -> Path:
    """A champion that differs from `out/model` as asked."""
    shutil.copytree("out/model", "champion")
    bundle = Path("champion/bundle.json")
    info = Bundle.open(Path("champion")).info.model_copy(update=changes or {"parameters": 1})
    bundle.write_text(info.model_dump_json())
    return Path("champion")


def weaker(wrong: int) -> tuple[Champion, object]:
    """A champion that answers `wrong` more images wrongly, the first that `out/model` answers rightly, and who asks."""
    champion = reigning(version("1", other_bundle()))

    def both(folder: Path) -> Told:
        told = ask(folder)
        return turned(told, np.flatnonzero(told.answers.quality)[:wrong]) if folder.name == "champion" else told

    return champion, both


def describe(**columns: object) -> None:
    """Give the samples more columns; each is told of the 40 test images, and of as many others."""
    samples = pq.read_table(SAMPLES)
    for name, values in columns.items():
        samples = samples.append_column(name, pa.array([*values, *values]))
    pq.write_table(samples, SAMPLES)
    info = Path("out/dataset/dataset.json")
    write_json(info, json.loads(info.read_text()) | {"metadata": [name for name in columns if name != "group"]})


def test_a_first_model_is_compared_with_the_largest_class(params: Params) -> None:
    verdict = decide(params, number="1")
    assert verdict.outcome == "promote"
    assert verdict.reasons[0] == (
        "Better than the baseline of the largest class: Accuracy 0.9000 against 0.5000 on the same 40 test images."
    )
    assert (verdict.challenger, verdict.champion, verdict.epoch) == (version().digest, "", 0)
    assert (verdict.dataset, verdict.sound) == ("d" * 64, True)


def test_a_first_model_that_is_no_better_than_class_means_is_held(params: Params) -> None:
    verdict = decide(asking(params, baseline="class_means"))
    assert verdict.outcome == "hold"
    assert verdict.reasons[0] == (
        f"No difference to {CLASS_MEANS} that this test can show: Accuracy 0.9000 against 0.9000 on the same 40 test "
        "images."
    )
    assert verdict.reasons[-1] == (
        "A network that does no better is not needed, or training pictures leaked into the test split. If the task is "
        "known to be easy, set gate.baseline to largest_class in params.yaml."
    )


def test_the_best_baseline_is_found_by_the_score_that_decides(params: Params) -> None:
    task = params.task.model_copy(update={"score": "brier"})  # lower is better
    verdict = decide(asking(params, baseline="class_means").model_copy(update={"task": task}))
    assert verdict.comparison and verdict.comparison.champion_name == CLASS_MEANS
    assert verdict.comparison.decided_by == "bootstrap"


def test_a_champion_with_the_same_answers_stays(params: Params) -> None:
    champion = reigning(version("1", other_bundle()), epoch=5)
    verdict = decide(params, champion)
    assert (verdict.outcome, verdict.epoch, verdict.champion) == ("hold", 5, champion.version.digest)
    assert verdict.reasons[0].startswith("No difference to version 1 that this test can show")
    assert verdict.sound


def test_a_new_test_split_means_that_both_are_asked_again(params: Params) -> None:
    champion, asked = reigning(version("1", other_bundle())), []

    def noting(folder: Path) -> Told:
        asked.append(folder.name)
        return ask(folder)

    first = gate.decide(params, version("2"), champion, noting)
    shutil.rmtree("out/dataset")
    shutil.rmtree("out/evaluation")
    pictures, labels = make_pictures(60)
    make_dataset(Path("out/dataset"), pictures, labels)
    make_evaluation(Path("out/evaluation"), Path("out/model"), Path("out/dataset"))
    second = gate.decide(params, version("2"), champion, noting)
    assert asked == ["model", "champion"] * 2
    assert (first.images.num_rows, second.images.num_rows) == (40, 60)
    assert second.verdict.comparison and second.verdict.comparison.images == 60


def test_files_that_answer_otherwise_than_the_trained_model_are_rejected(params: Params) -> None:
    def otherwise(folder: Path) -> Told:
        return turned(ask(folder), range(40))

    for champion in (None, reigning(version("1", other_bundle()))):
        found = gate.decide(params, version("2"), champion, otherwise)
        assert (found.verdict.outcome, found.verdict.sound, found.images.num_rows) == ("reject", False, 0)
        (words,) = found.verdict.reasons
        assert "registered files give other answers than the trained model: one differs by" in words


def test_files_that_are_gone_are_rejected(params: Params) -> None:
    challenger = version("2")
    shutil.rmtree("out/model")
    verdict = gate.decide(params, challenger, None, ask).verdict
    assert (verdict.outcome, verdict.sound) == ("reject", False)
    assert verdict.reasons[0].startswith("The files of version 2 of 'digits' are gone")


def test_a_better_model_that_is_too_slow_is_rejected_and_still_compared(params: Params) -> None:
    champion, both = weaker(20)
    assert gate.decide(params, version("2"), champion, both).verdict.outcome == "promote"
    verdict = gate.decide(asking(params, latency_ms=2), version("2"), champion, both).verdict
    assert (verdict.outcome, verdict.sound) == ("reject", False)
    assert verdict.reasons[0].startswith("Too slow: 2.5 ms from an encoded picture to its answer")
    assert verdict.reasons[1].startswith("Better than version 1: Accuracy 0.9000 against 0.4000")
    assert [check.passed for check in verdict.checks] == [True, True, False, True]


def test_a_better_model_under_a_floor_is_rejected(params: Params) -> None:
    champion, both = weaker(20)
    verdict = gate.decide(asking(params, class_floor=0.95), version("2"), champion, both).verdict
    assert (verdict.outcome, verdict.sound) == ("reject", True)
    # four of 40 pictures look like the other class; all are light ones
    assert verdict.reasons[0] == "Too few right answers in 1 slice: class 'light' 0.8000 of 20 images (floor 0.95)."
    assert verdict.reasons[1].startswith("Better than version 1")
    assert [(row.value, row.challenger, row.champion, row.held) for row in verdict.slices] == [
        ("dark", 1.0, 0.45, True),
        ("light", 0.8, 0.35, False),
    ]


def test_slices_have_floors_and_columns_of_their_own(params: Params) -> None:
    cameras = ["old" if place % 10 == 3 or place < 12 else "new" for place in range(40)]
    describe(camera=cameras)
    champion, both = weaker(20)
    asked = asking(params, slices=("camera", "width"), slice_floor=0.8)
    found = gate.decide(asked, version("2"), champion, both)
    assert found.verdict.outcome == "reject"
    # old: the first twelve, of which 3 is not what it looks like, and 13, 23, 33 likewise
    assert found.verdict.reasons[0] == (
        "Too few right answers in 1 slice: camera 'old' 0.7333 of 15 images (floor 0.8)."
    )
    rows = {(row.column, row.value): row.images for row in found.verdict.slices}
    assert rows == {
        ("class", "dark"): 20,
        ("class", "light"): 20,
        ("camera", "new"): 25,
        ("camera", "old"): 15,
        ("width", "8"): 40,
    }
    assert found.images.column("slice:camera").to_pylist() == cameras
    lenient = gate.decide(asking(asked, smallest_slice=16), version("2"), champion, both).verdict
    assert lenient.outcome == "promote"  # 15 images are too few to be held to a floor


def test_images_that_belong_together_are_one_trial_of_every_test(params: Params) -> None:
    samples = pq.read_table(SAMPLES)
    names = pa.array([f"patient {place % 40 // 8}" for place in range(80)])  # eight of each of five
    place = samples.column_names.index("together")
    pq.write_table(samples.set_column(place, "together", names), SAMPLES)
    champion, both = weaker(20)  # the first 22 but for 3 and 13: of three patients
    verdict = gate.decide(asking(params, slices=("width",)), version("2"), champion, both).verdict
    found = verdict.comparison
    assert verdict.outcome == "hold" and found
    assert (found.images, found.units, found.fixed, found.broken, found.p) == (40, 5, 20, 0, 0.25)
    assert [(row.value, row.fixed, row.p) for row in verdict.slices] == [
        ("dark", 11, 0.25),
        ("light", 9, 0.25),
        ("8", 20, 0.25),
    ]


def test_one_row_for_each_test_image(params: Params) -> None:
    champion, both = weaker(3)
    images = gate.decide(params, version("2"), champion, both).images
    assert images.schema == pa.schema(gate.IMAGE_COLUMNS)
    assert images.column("id").to_pylist() == list(Dataset.open().split("test").ids)
    assert images.column("label").to_pylist() == CLASSES * 20
    assert set(images.column("source").to_pylist()) == {"x.png"}
    changes = images.column("change").to_pylist()
    # 0, 1 and 2 are those that only the challenger answers rightly; 3, 13, 23 and 33 look like the other class
    assert changes == [
        "both wrong" if place % 10 == 3 else "fixed" if place < 3 else "both right" for place in range(40)
    ]
    first = images.slice(0, 1).to_pylist()[0]
    assert (first["challenger"], first["champion"]) == ("dark", "light")
    assert (
        first["challenger_confidence"] == first["champion_confidence"] == ask(Path("out/model")).answers.confidence[0]
    )


def test_what_was_broken(params: Params) -> None:
    shutil.copytree("out/model", "champion")
    told = turned(ask(Path("champion")), [3])  # the champion has it right
    info = Bundle.open(Path("champion")).info.model_copy(update={"parameters": 1})
    Path("champion/bundle.json").write_text(info.model_dump_json())
    champion = reigning(version("1", Path("champion")))
    found = gate.decide(
        params, version("2"), champion, lambda folder: told if folder.name == "champion" else ask(folder)
    )
    assert found.images.column("change").to_pylist()[3] == "broken"
    assert found.verdict.comparison and found.verdict.comparison.broken == 1


def test_a_slice_that_is_not_there_is_said_before_anybody_is_asked(params: Params) -> None:
    with pytest.raises(
        UserError, match=r"gate\.slices names 'sorce', .* Did you mean 'source'\? It has: width, height, source\.$"
    ):
        gate.decide(asking(params, slices=("sorce",)), version(), None, lambda _: pytest.fail("asked"))


def test_the_same_files_are_the_champion_already(params: Params) -> None:
    found = gate.decide(params, version("2"), reigning(version("1")), ask)
    assert found.verdict.outcome == "hold"
    assert found.verdict.reasons == ["It is the champion already, as version 1: the same files."]
    assert found.verdict.sound and found.images.schema == pa.schema(gate.IMAGE_COLUMNS) and not found.images.num_rows


def test_a_champion_of_other_classes_needs_another_name(params: Params) -> None:
    verdict = decide(params, reigning(version("1", other_bundle(classes=["dark", "bright"]))))
    assert (verdict.outcome, verdict.sound) == ("hold", True)
    assert "no longer there: 'bright'; new: 'light'; 2 then, 2 now" in verdict.reasons[0]
    assert "Choose another `name` in params.yaml" in verdict.reasons[0]
    assert decide(asking(params, size_mb=1e-6), reigning(version("1", Path("champion")))).outcome == "reject"


def test_a_champion_whose_files_were_changed_or_are_gone(params: Params) -> None:
    champion = other_bundle()
    throne = reigning(version("1", champion))
    (champion / "weights.safetensors").write_bytes(b"other")
    verdict = decide(params, throne)
    assert (verdict.outcome, verdict.sound, verdict.champion) == ("hold", True, throne.version.digest)
    assert "were changed after it was registered" in verdict.reasons[0]
    assert "or choose another `name` in params.yaml: it starts without a champion" in verdict.reasons[0]
    shutil.rmtree(champion)
    assert "are gone" in decide(params, throne).reasons[0]


def test_a_champion_that_cannot_answer_any_more(params: Params) -> None:
    throne = reigning(version("1", other_bundle()))

    def answering(error: Exception) -> Judgement:
        def one(folder: Path) -> Told:
            if folder.name == "champion":
                raise error
            return ask(folder)

        return gate.decide(params, version("2"), throne, one)

    found = answering(UserError("The model in champion gives no answers: no such operator."))
    assert found.verdict.outcome == "hold"
    assert found.verdict.reasons[0].startswith("The champion cannot be compared with. The model in champion gives no")
    for passing in (Killed("signal 9"), Away("MLflow does not answer")):
        with pytest.raises(type(passing)):
            answering(passing)


def test_the_champions_own_model_registered_again_mends_it(params: Params) -> None:
    shutil.copytree("out/model", "champion")
    throne = reigning(version("1", Path("champion")))
    shutil.rmtree("champion")
    verdict = decide(params, throne)
    assert verdict.outcome == "promote"
    assert "It is the champion, version 1, whose files were gone or changed; these are whole." in verdict.reasons


def test_a_model_is_held_against_what_it_said_when_it_was_evaluated(params: Params) -> None:
    throne = reigning(version("1", other_bundle()), epoch=5)
    written = pq.read_table("out/evaluation/predictions.parquet")
    # today's test split has images that it was not evaluated on
    found = gate.decide(params, version("2"), throne, ask, written.slice(10))
    assert found.verdict.sound
    assert "As evaluated on 30 test images, and on 6 of them served" in found.verdict.checks[1].found
    elsewhere = written.set_column(0, "id", pa.array([f"{number:064x}" for number in range(900, 940)]))
    found = gate.decide(params, version("2"), throne, ask, elsewhere)
    assert not found.verdict.sound
    assert found.verdict.reasons[0].startswith("Its run evaluated none of today's test images")


def test_a_verdict_survives_json(params: Params) -> None:
    verdict = decide(params)
    assert verdict.comparison and verdict.slices and verdict.checks
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
