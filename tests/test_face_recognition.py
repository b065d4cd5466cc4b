"""Faces: the task by hand, the order of pictures of one person, and a training from folders of people to a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_sources import SOURCES

from flows.edits import edited, merged
from pipeline.answers.identities import IdentityAnswers
from pipeline.augment import stage as augment
from pipeline.bundle import Bundle
from pipeline.contracts import AnnotationRules, Frame, Target, Views
from pipeline.dataset import Dataset
from pipeline.door import parse
from pipeline.errors import UserError
from pipeline.evaluate import stage as evaluate
from pipeline.ingest import stage as ingest
from pipeline.orders.runs import Config as Runs
from pipeline.params import Params
from pipeline.policy import Policy
from pipeline.tasks.face_recognition import Config
from pipeline.train import stage as train
from pipeline.train.batches import Material, TrainingBatches
from pipeline.train.learner import build_learner, parameter_groups
from pipeline.train.orders import epoch_order
from pipeline.training import Known

ROOT = Path(__file__).parents[1]
TASK = Config(embedding=2)

# --- the task


def test_people_are_classes_and_groups():
    assert TASK.classes(["s10", "s2", "s2"]) == ["s2", "s10"]
    assert TASK.group("s2", None) == TASK.group("s2", "session 3") == "s2"
    assert TASK.stratum("s2") == TASK.stratum("s10")
    assert TASK.settle("s2", 4, 4, AnnotationRules()).annotation == "s2"
    assert (TASK.tally("s2"), TASK.columns("s2", ["s1", "s2"])) == ({"s2": 1}, {"label": 1})
    assert TASK.joined(["s2", "s2"]) == "s2" and TASK.joined(["s2", "s10"]) is None
    with pytest.raises(UserError, match=r"pictures of two people or more; the source has 1 \('s2'\)"):
        TASK.classes(["s2"])


def test_an_embedding_is_told_at_length_1_and_over_several_views_as_their_mean_direction():
    outputs = np.array([[3, 4], [0.5, 0], [0, -2]], np.float32)
    plain = Views(np.arange(3), np.zeros((3, 4)), np.full((3, 2), 4), 4)
    assert np.stack(TASK.told(outputs, plain)).tolist() == [[0.6, 0.8], [1, 0], [0, -1]]
    tiles = Views(np.array([0, 0, 1]), np.zeros((3, 4)), np.array([[8, 4], [4, 4]]), 4)
    (first, second) = TASK.told(outputs, tiles)
    assert first == pytest.approx(np.array([1.6, 0.8]) / np.sqrt(1.6**2 + 0.8**2)) and second.tolist() == [0, -1]
    assert TASK.told(np.zeros((1, 2), np.float32), plain._replace(images=np.arange(1), sizes=np.ones((1, 2))))[
        0
    ].tolist() == [0, 0]


def test_an_embedding_in_words_and_for_programs():
    task, told = Config(embedding=8), np.array([0.5, -0.5, 0.5, -0.5, 0, 0, 0, 0])
    assert task.marks(told, ["a"]).words == "a face as 8 numbers: +0.500, -0.500, +0.500, -0.500, ..."
    assert task.plain(told, ["a"]) == {"embedding": told.tolist()}
    assert task.truth({"label": 1}, None, ["a", "b"]).words == "b"


def test_a_threshold_is_tuned_unless_it_is_given():
    class Split:
        classes, labels = ("a", "b"), np.array([0, 0, 1, 1])

        def __len__(self) -> int:
            return 4

    turns = np.radians([0, 10, 30, 35])
    told = list(np.stack([np.cos(turns), np.sin(turns)], axis=1))
    answers = TASK.answers(Split(), told)
    between = 1 - (np.cos(np.radians(10)) + np.cos(np.radians(20))) / 2
    assert answers.threshold is None and TASK.tuned(answers).threshold == pytest.approx(between)
    assert Config(embedding=2, threshold=0.3).tuned(answers).threshold == 0.3
    assert Config(embedding=2, false_accepts=0.5).tuned(answers).threshold > between
    assert TASK.tuned(answers.at([0, 1])).threshold is None
    assert TASK.blind(None, Split()).embeddings.tolist() == [[1, 0]] * 4


def test_of_a_network_that_answers_all_alike_the_threshold_can_be_read_again():
    told = np.tile([1.0, 0.0], (4, 1))
    tuned = TASK.tuned(IdentityAnswers(["a", "b"], np.array([0, 0, 1, 1]), told))
    assert tuned.threshold == 0 and Config.model_validate(tuned.model_dump()) == tuned


# --- the order of the pictures


def test_a_batch_holds_pairs():
    targets = np.arange(40) % 10
    pictures = np.zeros((40, 8, 8, 1), np.uint8)
    material = Material([f"{n:064x}" for n in range(40)], pictures, targets, Target.IDENTITY, np.arange(40))
    spec = augment.resolve([], 8, 8, 1, Target.IDENTITY)
    frame = Frame.model_validate("crop")
    policy = Policy(channels=1, frame=frame, packed=8, size=8, mean=[0.5], deviation=[0.2], transforms=spec)
    batches = TrainingBatches(material, policy, seed=1, batch_size=8, threads=1)
    order = epoch_order(Runs(images_per_class=4), 1, 0, 1, Known(40, targets, dict[str, np.ndarray]().__getitem__))
    for batch in batches.epoch(0, 0, order):
        assert sorted(np.unique(batch.targets.numpy(), return_counts=True)[1].tolist()) == [4, 4]
    batches.close()


# --- from folders of people to a report


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages, once: 8 people of three pictures each."""
    root = tmp_path_factory.mktemp("faces")
    SOURCES["faces-folder"](root / "source")
    ready = ROOT / "params" / "faces-folder.yaml"
    text = merged(ready.read_text(), (ROOT / "params.yaml").read_text(), str(ready))
    changes = (
        *(f"data.path={root / 'source'}", "augment.size=24", "augment.frame=stretch"),
        *("model={name: embedding, width: 8}", "task.embedding=16", "train.epochs=6", "train.batch_size=6"),
        *("order={name: runs, images_per_class: 3}", "compute.threads=1", "compute.loader_threads=1"),
        "compute.device=cpu",
        *("compute.precision=float32", "compute.memory_format=contiguous", "evaluate.resamples=100"),
    )
    (root / "params.yaml").write_text(edited(text, list(changes)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        params = of(root)
        ingest.run(params, Path("out/dataset"))
        dataset = Dataset.open()
        Path("out/policy").mkdir()
        augment.run(params, dataset, Path("out/policy"))
        for folder in ("out/model", "out/training"):
            Path(folder).mkdir()
        train.run(params, dataset, Policy.open(), Path("out/model"), Path("out/training"))
        evaluate.run(params, dataset, Bundle.open(), Path("out/evaluation"))
    return root


def of(root: Path) -> Params:
    return parse(Params, (root / "params.yaml").read_text())


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def test_no_person_is_in_two_splits(inside: Path) -> None:
    dataset = Dataset.open()
    people = {split: set(dataset.split(split).labels.tolist()) for split in ("train", "val", "test")}
    assert [len(people[split]) for split in people] == [4, 2, 2]
    assert len(set.union(*people.values())) == 8
    assert {split: len(dataset.split(split)) for split in people} == {"train": 12, "val": 6, "test": 6}


def test_the_threshold_that_validation_chose_is_in_the_model(inside: Path) -> None:
    task: Any = Bundle.open().task
    assert 0 < task.threshold < 2 and task.embedding == 16 and of(inside).task.threshold is None
    found = json.loads(Path("out/evaluation/metrics.json").read_text())
    assert {"verification_auc", "equal_error_rate", "tar_at_far_1e2", "rank1", "rank5"} <= set(found)
    report = Path("out/evaluation/report.html").read_text()
    assert "Two images, one person?" in report and "How soon the person is found" in report


def test_the_weights_of_the_loss_learn_are_kept_in_checkpoints_and_not_in_the_model(inside: Path) -> None:
    params, dataset = of(inside), Dataset.open()
    learner = build_learner(params, dataset, Policy.open())
    before = learner.loss.centres.detach().clone()
    assert before.shape == (4, 16)  # of the people in training alone
    (saved,) = Path(".convoy/train").glob("*/checkpoint.pt")
    state = torch.load(saved, weights_only=True)["state"]
    learnt = state["learner"]["loss.centres"]
    assert learnt.shape == (4, 16) and (learnt - before).abs().min() > 0
    groups = parameter_groups(learner, {})
    assert any(weights is learner.loss.centres for weights in groups[0]["params"])
    moments = [one["exp_avg"].shape for one in state["optimizer"]["state"].values()]
    assert (4, 16) in [tuple(shape) for shape in moments]
    assert not [name for name in load_file("out/model/weights.safetensors") if "centres" in name]
