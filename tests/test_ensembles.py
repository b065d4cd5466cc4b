"""Several trainings that make one model: what differs, how answers and weights are joined, and one report of it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trained as small_trainings
from engine_project import SHIPPED, begun, inside, params_of, prepare
from PIL import Image
from safetensors.torch import load_file
from tiny_sources import SOURCES
from torch import nn

from flows.edits import edited, merged
from pipeline import pooling
from pipeline.bundle import Bundle
from pipeline.dataset import Dataset
from pipeline.door import parse
from pipeline.errors import ParamsError, UserError
from pipeline.failpoints import TrainingPoint
from pipeline.files import DATASET
from pipeline.ingest import stage as ingest
from pipeline.journal import Journal, journals, read
from pipeline.models.convnet import Config as Convnet
from pipeline.numbers import Scale
from pipeline.params import Params
from pipeline.plugin import metric_named
from pipeline.policy import Policy
from pipeline.score import of_split
from pipeline.train import stage
from pipeline.train.assembly import Training
from pipeline.train.batches import Material, plain_batches
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.counts import COUNTED, counts_of
from pipeline.train.ensemble import spread
from pipeline.train.folders import LOCK, remove_old_trainings
from pipeline.train.learner import build_learner
from pipeline.train.members import folded, members_of, soup
from pipeline.train.refreshing import refreshed

__all__ = ["inside"]

NOTES = ("epochs.csv", "gradients.csv", "steps.csv", "training.json")


def trained(params: Params, root: str) -> dict:
    stage.run(params, Dataset.open(), Policy.open(), Path(root, "model"), Path(root, "training"))
    torch.set_deterministic_debug_mode("default")
    return json.loads(Path(root, "training/training.json").read_text())


def weights_in(root: str) -> dict[str, torch.Tensor]:
    return load_file(Path(root, "model/weights.safetensors"))


def kept_by_members() -> list[dict[str, torch.Tensor]]:
    """The weights that each member has kept."""
    return [load_file(next(journal.parent.glob("best-*.safetensors"))) for journal in noted_by_members().values()]


def noted_by_members() -> dict[int, Path]:
    """The journals of the only ensemble here."""
    (home,) = (place for place in Path(".convoy/train").iterdir() if place.is_dir())
    return journals(home)


def noted(series: str) -> dict[int, list[int]]:
    """By member the steps that it has noted of a series."""
    rows = {member: read(path, 0)[0] for member, path in noted_by_members().items()}
    return {member: [row.step for row in mine if row.series == series] for member, mine in rows.items()}


def ready(name: str, *changes: str) -> str:
    """The text of params of `params/`."""
    file = Path(__file__).parents[1] / f"params/{name}.yaml"
    return edited(merged(file.read_text(), SHIPPED, str(file)), changes)


# --- answers of several as one


def test_probabilities_are_averaged_by_hand() -> None:
    answers = torch.tensor([[[0.2, 0.8]], [[0.6, 0.4]]]).log()  # two networks, one picture
    assert pooling.softmaxes(answers + torch.tensor([[[3.0]], [[-5.0]]])).softmax(dim=1).tolist() == [
        pytest.approx([0.4, 0.6])
    ]
    maps = torch.randn(3, 2, 5, 4, 4)
    assert torch.allclose(pooling.softmaxes(maps).softmax(dim=1), maps.softmax(dim=2).mean(dim=0), atol=1e-6)


def test_chances_are_averaged_also_where_they_are_extreme() -> None:
    logits = torch.tensor([[[-50.0, 50.0, 0.0]], [[-48.0, 52.0, 2.0]]])
    pooled = pooling.sigmoids(logits)[0]
    assert pooled[0].item() == pytest.approx(np.log((np.exp(-50) + np.exp(-48)) / 2), rel=1e-5)
    assert pooled[1].item() == pytest.approx(-np.log((np.exp(-50) + np.exp(-52)) / 2), rel=1e-5)
    assert pooled[2].sigmoid().item() == pytest.approx((0.5 + 1 / (1 + np.exp(-2))) / 2)


def test_numbers_are_averaged_round_the_circle_and_as_logarithms() -> None:
    scales = [Scale(), Scale(kind="circular", period=360), Scale(kind="log")]
    answers = torch.tensor([[[1.0, 350.0, 10.0]], [[2.0, 20.0, 1000.0]]])
    assert pooling.numbers(answers, scales)[0].tolist() == pytest.approx([1.5, 5.0, 100.0], abs=1e-4)


def test_the_cosine_of_directions_is_the_mean_of_theirs() -> None:
    answers = torch.randn(3, 2, 8)
    both = pooling.directions(answers)
    unit = nn.functional.normalize(answers, dim=2)
    assert both.shape == (2, 24)
    assert (both[0] @ both[1]).item() == pytest.approx((unit[:, 0] * unit[:, 1]).sum(dim=1).mean().item(), abs=1e-6)


def test_a_soup_by_hand() -> None:
    states = [
        {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)},
        {"w": torch.tensor([3.0, 6.0]), "n": torch.tensor(5)},
    ]
    mixed = soup(states)
    assert mixed["w"].tolist() == [2, 4] and mixed["n"].item() == 3


def test_boxes_have_no_mean() -> None:
    text = ready("detection-voc", "ensemble.members=2")
    with pytest.raises(ParamsError, match="answers of task 'object_detection' have no mean: boxes"):
        parse(Params, text)
    parse(Params, edited(text, ["ensemble.join=soup"]))


def test_what_no_score_comes_of_is_refused_at_the_door() -> None:
    for options, words in (
        ("{members: 3, by: folds, join: soup}", "by is folds and join is soup, but .* no image is left to score it on"),
        ("{join: soup}", "join is soup, and there is 1 member, .* set members to 2 or more, or join to average"),
        ("{by: folds}", "by is folds, and there is 1 member: .* set members to 2 or more, or by to seeds"),
    ):
        with pytest.raises(ParamsError, match=f"ensemble: {words}"):
            parse(Params, edited(SHIPPED, [f"ensemble={options}"]))
    faces = ready("faces-folder", "ensemble={members: 3}")
    parse(Params, faces)
    with pytest.raises(ParamsError, match="directions of networks that learnt apart cannot be compared"):
        parse(Params, edited(faces, ["ensemble.by=folds"]))


# --- what differs


def test_folds_part_no_group_and_validate_each_image_once(inside: Path) -> None:
    prepare(inside)
    dataset = Dataset.open()
    train, val = dataset.split("train"), dataset.split("val")
    parts = folded(train, val, 3)
    seen = [identity for _, held in parts for identity in held.ids]
    assert sorted(seen) == sorted([*train.ids, *val.ids])
    for learnt, held in parts:
        assert not set(learnt.ids) & set(held.ids) and len(learnt) + len(held) == 50
        assert abs(len(held) - 50 / 3) < 1
    grouped = SimpleNamespace(dataset=dataset, samples=_with_groups(train.samples))
    for learnt, held in folded(grouped, val.at([]), 4):  # type: ignore[arg-type]
        assert not set(learnt.groups) & set(held.groups)
    with pytest.raises(UserError, match=r"ensemble.members is 9, but train and val hold 8 images or groups"):
        folded(grouped, val.at([]), 9)  # type: ignore[arg-type]


def _with_groups(samples):
    import pyarrow as pa

    groups = pa.array([f"group {row % 8}" for row in range(samples.num_rows)])
    for name in ("group", "together"):
        samples = samples.set_column(samples.column_names.index(name), samples.schema.field(name), groups)
    return samples


def test_folds_part_no_copies(inside: Path) -> None:
    for number in range(18):
        rough = np.random.default_rng(number).integers(0, 256, (6, 6)).astype(np.uint8)
        picture = Image.fromarray(rough).resize((48, 48), Image.Resampling.BICUBIC)
        path = inside / "pictures" / ("even", "odd")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        picture.resize((64, 64), Image.Resampling.BICUBIC).save(path.with_name(f"{number:02d}-copy.png"))
    ingest.run(params_of(inside), DATASET)
    dataset = Dataset.open()
    fold_of = {}
    for number, (_, held) in enumerate(folded(dataset.split("train"), dataset.split("val"), 3)):
        fold_of |= {Path(source).stem: number for source in held.samples.column("source").to_pylist()}
    pictures = [name for name in fold_of if "-" not in name]
    assert len(pictures) > 9 and set(fold_of.values()) == {0, 1, 2}
    assert [fold_of[f"{name}-copy"] for name in pictures] == [fold_of[name] for name in pictures]


EACH_TARGET = (
    *("counting", "keypoints-table", "regression-table", "classification-folder", "multi-label-folder", "ordinal"),
    *("faces-folder", "detection-coco", "instances-coco", "segmentation-voc"),
)


@pytest.mark.parametrize("name", EACH_TARGET)
def test_what_images_hold_is_counted_as_ingest_does(name: str, inside: Path) -> None:
    SOURCES[name](inside / "source")
    ingest.run(parse(Params, ready(name, f"data.path={inside / 'source'}")), DATASET)
    dataset = Dataset.open()
    for split, expected in dataset.info.counts.items():
        assert counts_of(dataset.split(split)) == expected
    assert sum(dataset.info.counts["train"].values()) > 0


def test_every_target_is_counted() -> None:
    assert {parse(Params, ready(name)).task.learns for name in EACH_TARGET} == set(COUNTED)


def test_a_member_weighs_classes_by_what_it_learns_from(inside: Path) -> None:
    balanced = "loss={name: cross_entropy, class_weights: balanced}"
    params = prepare(inside, "ensemble={members: 3, by: folds}", balanced)
    dataset, policy = Dataset.open(), Policy.open()
    for member in members_of(params, dataset):
        counts = np.bincount(member.train.labels, minlength=2)
        training = stage.assemble(params, dataset, policy, member)
        training.close()
        assert training.machine.learner.loss.weight.tolist() == pytest.approx(
            [counts.sum() / (2 * count) for count in counts]
        )
    (alone,) = members_of(params_of(inside), dataset)
    assert alone.dataset is dataset
    torch.set_deterministic_debug_mode("default")


def test_seeds_differ_and_a_soup_begins_alike(inside: Path) -> None:
    params = prepare(inside, "ensemble={members: 3}")
    members = members_of(params, Dataset.open())
    assert members[0].seed == params.seed
    assert len({member.seed for member in members}) == len({member.weights_seed for member in members}) == 3
    stirred = members_of(params_of(inside, "ensemble={members: 3, join: soup}"), Dataset.open())
    assert len({member.seed for member in stirred}) == 3 and {member.weights_seed for member in stirred} == {0}


# --- one model, one report


def test_an_ensemble_of_seeds_answers_with_the_mean_of_its_members(inside: Path) -> None:
    params = prepare(inside, "ensemble={members: 2}", "train.epochs=2")
    facts = trained(params, "out")
    assert [one["epochs"] for one in facts["members"]] == [2, 2] and facts["epochs"] == 4
    steps = [*range(2 * 5)]  # 40 images, batches of 8
    assert noted("step") == {1: steps, 2: steps} and noted("epoch") == {1: [0, 1], 2: [0, 1]}
    assert len(Path("out/training/steps.csv").read_text().splitlines()) == 1 + 20

    alone = trained(params_of(inside, "train.epochs=2"), "alone")
    together, first = weights_in("out"), weights_in("alone")
    for name, weights in first.items():  # the first member is the run without an ensemble
        assert torch.equal(together[f"members.0.{name}"], weights)
    assert facts["parameters"] == 2 * alone["parameters"]
    told = of_split(Bundle.open(Path("out/model")), Dataset.open().split("test"), torch.device("cpu"))
    one = of_split(Bundle.open(Path("alone/model")), Dataset.open().split("test"), torch.device("cpu"))
    assert np.abs(np.stack(told) - np.stack(one)).max() > 1e-4
    val = Dataset.open().split("val")
    answers = params.task.answers(val, of_split(Bundle.open(Path("out/model")), val, torch.device("cpu")))
    score = metric_named("accuracy").score(answers, np.ones((1, len(val))))[0]
    assert facts["val_accuracy"] == pytest.approx(score)


def test_folds_are_scored_on_what_each_member_has_not_seen(inside: Path) -> None:
    params = prepare(inside, "ensemble={members: 2, by: folds}", "train.epochs=2")
    facts = trained(params, "out")
    of_members = [one["val_accuracy"] for one in facts["members"]]
    assert facts["val_accuracy"] == pytest.approx(np.mean(of_members), abs=0.35)
    assert facts["val_accuracy"] * 50 == pytest.approx(round(facts["val_accuracy"] * 50))  # of all 50 images


def test_folds_that_differ_in_size_count_steps_of_their_own(inside: Path) -> None:
    params = prepare(inside, "ensemble={members: 3, by: folds}", "train.epochs=2", "train.batch_size=17")
    trained(params, "out")  # of 50 images 33, 33 and 34 are learnt from: 1, 1 and 2 steps an epoch
    assert noted("step") == {1: [0, 1], 2: [0, 1], 3: [0, 1, 2, 3]}


def test_a_soup_is_one_network(inside: Path) -> None:
    params = prepare(inside, "ensemble={members: 2, join: soup}", "train.epochs=1")
    facts = trained(params, "out")
    found, members = weights_in("out"), kept_by_members()
    assert set(found) == set(members[0])
    assert torch.allclose(found["0.0.weight"], (members[0]["0.0.weight"] + members[1]["0.0.weight"]) / 2, atol=1e-7)
    assert not torch.allclose(found["0.1.running_mean"], members[0]["0.1.running_mean"])  # measured anew
    assert len(facts["members"]) == 2
    assert facts["parameters"] == sum(one.numel() for name, one in found.items() if name.endswith(("weight", "bias")))


def test_statistics_of_a_soup_are_those_of_what_validation_sees(inside: Path) -> None:
    """Of a frame that shows all of a picture, training keeps pictures larger than the network sees them."""
    augmented = "augment={name: standard, size: 12, frame: stretch}"
    params = prepare(inside, augmented, "ensemble={members: 2, join: soup}", "train.epochs=1", "train.batch_size=16")
    trained(params, "out")
    dataset, policy, found = Dataset.open(), Policy.open(), weights_in("out")
    assert policy.packed == 14 and policy.plain == 12
    learner = build_learner(params, dataset, policy)
    learner.network.load_state_dict(found)
    seen = Material.of(dataset.split("train"), policy.frame, policy.plain)
    first, second, _ = plain_batches(seen, policy, 16)  # 40 pictures: 8 of them are left over

    def see() -> None:
        for batch in (first, second):
            learner.network(learner.prepared(batch.pictures, batch.targets)[0])

    for name, statistics in refreshed(learner.network.train(), see).items():
        assert torch.allclose(found[name].double(), statistics.double(), atol=1e-6), name


def test_layers_that_rest_keep_their_statistics_in_a_soup(inside: Path) -> None:
    resting = ("layers={frozen_epochs: 2}", "train.epochs=2", begun(inside))
    trained(prepare(inside, "ensemble={members: 2, join: soup}", *resting), "out")
    found, (first, second) = weights_in("out"), kept_by_members()
    statistics = [name for name in found if "running" in name]
    assert len(statistics) > 2
    for name in statistics:
        assert torch.equal(first[name], second[name]) and torch.equal(found[name], first[name]), name


def test_one_picture_left_over_has_no_say_in_a_soup(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 pictures in batches of 13, and a network that ends with a norm of vectors: one of them has no variance."""
    built = Convnet.build

    def with_norm(config: Convnet, channels: int, outputs: int, size: int) -> nn.Module:
        return nn.Sequential(built(config, channels, outputs, size), nn.BatchNorm1d(outputs))

    monkeypatch.setattr(Convnet, "build", with_norm)
    params = prepare(inside, "ensemble={members: 2, join: soup}", "train.epochs=1", "train.batch_size=13")
    trained(params, "out")
    assert weights_in("out")["1.num_batches_tracked"] == 3


def test_scores_that_are_undefined_are_said_and_left_out_of_the_mean(
    inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spread([0.5, 0.7]) == "0.6000 +- 0.1414"
    assert spread([0.5, 0.7, math.nan]) == "0.6000 +- 0.1414 (undefined for 1)"
    assert spread([0.5, math.nan]) == "0.5000 (undefined for 1)"
    validated = Training.validated
    monkeypatch.setattr(Training, "validated", lambda training: validated(training)._replace(score=math.nan))
    facts = trained(prepare(inside, "ensemble={members: 2}", "train.epochs=1"), "out")
    assert [one["val_accuracy"] for one in facts["members"]] == [None, None]
    assert "val accuracy nan (undefined for 2) each; together: " in capsys.readouterr().out


def test_stopped_in_the_second_member_it_ends_with_the_same_bytes(inside: Path) -> None:
    params = prepare(inside, "ensemble={members: 2}", "train.epochs=2")
    trained(params, "whole")
    for folder in Path(".convoy/train").iterdir():
        if folder.is_dir():
            import shutil

            shutil.rmtree(folder)
    dataset, policy = Dataset.open(), Policy.open()
    first, second = members_of(params, dataset)
    stage.train(params, dataset, policy, first)
    training = stage.assemble(params, dataset, policy, second)
    from pipeline.train.epochs import _close_epoch, _finish_steps

    _finish_steps(training)
    _close_epoch(training, 1.0)
    training.close()
    trained(params, "again")
    for name in ("model/weights.safetensors", "model/network.pt2", *(f"training/{note}" for note in NOTES)):
        assert Path("again", name).read_bytes() == Path("whole", name).read_bytes(), name


@pytest.mark.slow
def test_killed_in_any_member_it_ends_with_the_same_bytes_and_each_step_noted_once(tmp_path: Path) -> None:
    whole = small_trainings.prepare(tmp_path / "whole")
    small_trainings.change(whole, ensemble={"members": 3}, train={"epochs": 2, "batch_size": 256})
    killed = small_trainings.copy(whole, tmp_path / "killed")
    small_trainings.finish(whole)
    for point, time in (
        (TrainingPoint.EPOCH_NOTED, 1),
        (TrainingPoint.CHECKPOINT_BEGUN, 4),
        (TrainingPoint.EPOCH_NOTED, 2),
        (TrainingPoint.EPOCHS_DONE, 1),
    ):
        small_trainings.die(killed, point, time)
    small_trainings.finish(killed)
    assert small_trainings.outputs(killed) == small_trainings.outputs(whole)
    for project in (whole, killed):
        noted = {member: read(path, 0)[0] for member, path in journals(small_trainings.folder(project)).items()}
        steps = {member: [row.step for row in rows if row.series == "step"] for member, rows in noted.items()}
        assert steps == {1: [0, 1, 2, 3], 2: [0, 1, 2, 3], 3: [0, 1, 2, 3]}


def test_a_first_member_that_starts_over_takes_the_others_along_and_another_only_itself(inside: Path) -> None:
    for number in (1, 2):
        checkpoints = Checkpoints("key", {}, number)
        Journal(checkpoints.home, number).close()
        checkpoints.finish()
        checkpoints.close()

    def cleared(number: int) -> list[int]:
        checkpoints = Checkpoints("key", {}, number)
        checkpoints.clear()
        checkpoints.close()
        return list(journals(checkpoints.home))

    assert cleared(2) == [1] and Path(".convoy/train/key/finished").exists()
    Journal(Path(".convoy/train/key"), 2).close()
    assert cleared(1) == [] and not Path(".convoy/train/key/finished").exists()
    assert Path(".convoy/train/key/member-1").is_dir()


def test_an_ensemble_is_as_new_as_the_member_that_wrote_last(inside: Path) -> None:
    trainings = Path(".convoy/train")
    for name, touched in (("latest", 50), ("second", 40), ("third", 30), ("ensemble", 10)):
        member = trainings / name / "member-2"
        (member if name == "ensemble" else member.parent).mkdir(parents=True)
        (trainings / name / LOCK).touch()
        os.utime(trainings / name, (touched, touched))
    os.utime(trainings / "ensemble/member-2", (45, 45))
    remove_old_trainings()
    assert {path.name for path in trainings.iterdir()} == {"latest", "second", "ensemble"}
