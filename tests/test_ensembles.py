"""Several trainings that make one model: what differs, how answers and weights are joined, and one report of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine_project import SHIPPED, inside, params_of, prepare
from torch import nn

from flows.edits import edited
from pipeline import pooling
from pipeline.bundle import Bundle
from pipeline.dataset import Dataset
from pipeline.door import parse
from pipeline.errors import ParamsError, UserError
from pipeline.journal import read
from pipeline.numbers import Scale
from pipeline.params import Params
from pipeline.plugin import metric_named
from pipeline.policy import Policy
from pipeline.score import of_split
from pipeline.train import stage
from pipeline.train.members import folded, members_of, soup

__all__ = ["inside"]


def trained(params: Params, root: str) -> dict:
    stage.run(params, Dataset.open(), Policy.open(), Path(root, "model"), Path(root, "training"))
    torch.set_deterministic_debug_mode("default")
    return json.loads(Path(root, "training/training.json").read_text())


def weights_in(root: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(Path(root, "model/weights.safetensors"))


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
    file = Path(__file__).parents[1] / "params/detection-voc.yaml"
    from flows.edits import merged

    text = edited(merged(file.read_text(), SHIPPED, str(file)), ["ensemble.members=2"])
    with pytest.raises(ParamsError, match="answers of task 'object_detection' have no mean: boxes"):
        parse(Params, text)
    parse(Params, edited(text, ["ensemble.join=soup"]))


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
    return samples.set_column(samples.column_names.index("group"), samples.schema.field("group"), groups)


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
    rows = read(next(Path(".convoy/train").glob("*/journal.jsonl")), 0)[0]
    assert [row.step for row in rows if row.series == "step"] == list(range(2 * 2 * 5))  # 40 images, batches of 8
    assert [row.step for row in rows if row.series == "epoch"] == [0, 1, 2, 3]
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


def test_steps_of_folds_that_differ_in_size_follow_each_other(inside: Path) -> None:
    params = prepare(inside, "ensemble={members: 3, by: folds}", "train.epochs=2", "train.batch_size=17")
    trained(params, "out")  # of 50 images 33, 33 and 34 are learnt from: 1, 1 and 2 steps an epoch
    rows = read(next(Path(".convoy/train").glob("*/journal.jsonl")), 0)[0]
    assert [row.step for row in rows if row.series == "step"] == list(range(2 + 2 + 4))


def test_a_soup_is_one_network(inside: Path) -> None:
    params = prepare(inside, "ensemble={members: 2, join: soup}", "train.epochs=1")
    facts = trained(params, "out")
    found = weights_in("out")
    folder = next(Path(".convoy/train").iterdir())
    from safetensors.torch import load_file

    members = [load_file(next(place.glob("best-*.safetensors"))) for place in (folder, folder / "member-2")]
    assert set(found) == set(members[0])
    assert torch.allclose(found["0.0.weight"], (members[0]["0.0.weight"] + members[1]["0.0.weight"]) / 2, atol=1e-7)
    assert not torch.allclose(found["0.1.running_mean"], members[0]["0.1.running_mean"])  # measured anew
    assert len(facts["members"]) == 2
    assert facts["parameters"] == sum(one.numel() for name, one in found.items() if name.endswith(("weight", "bias")))


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
    for name in ("model/weights.safetensors", "model/network.pt2", "training/steps.csv", "training/training.json"):
        assert Path("again", name).read_bytes() == Path("whole", name).read_bytes(), name
