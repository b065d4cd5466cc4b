"""Which layers of a network learn, when and how fast; and features that are kept where the head alone learns."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from engine_project import begun, flat, inside, prepare, training_of
from ready_files import clashes
from torch import nn

from pipeline.errors import UserError
from pipeline.plugin import config_class
from pipeline.train.ensemble import kept as kept_of
from pipeline.train.epochs import _close_epoch, _finish_steps, finish_epochs
from pipeline.train.feeding import feed
from pipeline.train.layers import Freezer, layers_of, learning, shares
from pipeline.train.learner import parameter_groups
from pipeline.train_options import LayersOptions

__all__ = ["inside"]


class Small(nn.Module):
    """A stem, a position that belongs to no module, a norm, two blocks in a sequence, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(3))
        self.stem = nn.Conv2d(1, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.head = nn.Linear(4, 2)


def test_layers_by_hand() -> None:
    network = Small()
    layers = layers_of(network)
    assert [layer.name for layer in layers] == ["stem", "blocks.0", "blocks.2", "head"]
    assert layers[0].modules == (network.stem, network.norm)
    assert layers[0].loose == (network.position,)
    counted = [sum(weights.numel() for weights in layer.parameters()) for layer in layers]
    assert counted == [3 + 8 + 8, 20, 20, 10]


@pytest.mark.parametrize(
    ("library", "architecture", "count", "last"),
    [("torchvision", "resnet18", 10, "fc"), ("timm", "vit_tiny_patch16_224", 14, "head")],
)
def test_layers_of_known_networks(library: str, architecture: str, count: int, last: str) -> None:
    network = config_class("models", library)(architecture=architecture).build(3, 5, 224)
    layers = layers_of(network)
    assert (len(layers), layers[-1].name) == (count, last)
    found = [weights for layer in layers for weights in layer.parameters()]
    assert len(found) == len(set(found)) == len(list(network.parameters()))  # each weight in one layer


def test_how_many_learn_by_hand() -> None:
    together = LayersOptions(frozen_epochs=2)
    assert [learning(together, epoch, 10) for epoch in range(4)] == [1, 1, 10, 10]
    one_by_one = LayersOptions(frozen_epochs=1, thawing_epochs=2)
    assert [learning(one_by_one, epoch, 10) for epoch in range(5)] == [1, 4, 7, 10, 10]  # 1 + 9 x 1/3, 1 + 9 x 2/3
    assert learning(LayersOptions(), 0, 10) == 10


def test_what_rests_does_not_move_and_answers_as_in_use() -> None:
    network = Small()
    network.blocks[2].bias.requires_grad_(False)  # held fixed by the network itself
    freezer = Freezer(network, LayersOptions(frozen_epochs=1, thawing_epochs=1))
    assert freezer.enter(0) and freezer.head_alone
    network.train()
    freezer.rest()
    assert [name for name, weights in network.named_parameters() if weights.requires_grad] == [
        "head.weight",
        "head.bias",
    ]
    assert not network.norm.training and network.head.training
    assert freezer.enter(1) and not freezer.head_alone  # 1 + 3 // 2 = 2 of 4 layers
    assert network.blocks[2].weight.requires_grad and not network.blocks[0].weight.requires_grad
    assert freezer.enter(2) and not freezer.enter(3)
    assert [name for name, weights in network.named_parameters() if not weights.requires_grad] == ["blocks.2.bias"]


def test_rates_fall_from_layer_to_layer() -> None:
    network = Small()
    rates = shares(network, 0.5)
    assert rates[network.head.bias] == 1
    assert rates[network.blocks[2].weight] == 0.5
    assert rates[network.stem.weight] == rates[network.position] == rates[network.norm.weight] == 0.125
    groups = parameter_groups(network, rates)  # type: ignore[arg-type]
    found = [(group["share"], group.get("weight_decay"), len(group["params"])) for group in groups]
    assert found == [
        *((1, None, 1), (1, 0, 1), (0.5, None, 1), (0.5, 0, 1), (0.25, None, 1), (0.25, 0, 1)),
        *((0.125, None, 1), (0.125, 0, 4)),
    ]


def test_only_the_head_learns_and_from_features_that_are_kept(inside: Path) -> None:
    params = prepare(inside, "layers.frozen_epochs=3", begun(inside))
    with training_of(params) as training:
        before = {name: weights.clone() for name, weights in training.machine.learner.network.state_dict().items()}
        finish_epochs(training)
        assert training.features and not training.unkept
        after = training.machine.learner.network.state_dict()
        moved = [name for name in after if not torch.equal(after[name], before[name])]
        assert moved == [name for name in after if name.startswith("11.")]
        assert training.machine.parameters() == sum(after[name].numel() for name in moved)
        kept = flat([after[name] for name in moved])
        worth = training.progress.worths
        training.close()
        best = kept_of(training)  # thresholds are chosen on pictures, once the head has learnt from features
        assert training.validated().score == pytest.approx(max(worth))
        assert not training.machine.optimizer.state
        assert best.facts["best_epoch"] == training.progress.best_epoch

        training.checkpoints.clear()
    with training_of(params) as training:  # the same without kept features: nothing but the way is another
        training.unkept = "not wanted here"
        finish_epochs(training)
        assert training.features is None
        again = training.machine.learner.network.state_dict()
        assert torch.allclose(kept, flat([again[name] for name in moved]), atol=1e-6)
        assert training.progress.worths == pytest.approx(worth)


def test_features_are_let_go_when_others_learn_too_also_in_a_run_that_is_taken_up(inside: Path) -> None:
    params = prepare(
        inside, "layers={frozen_epochs: 2, thawing_epochs: 1, rate_decay: 0.5}", "train.epochs=4", begun(inside)
    )
    with training_of(params) as training:
        finish_epochs(training)
        assert training.features is None
        assert training.machine.feed is training.machine.module is training.machine.learner
        whole = flat(list(training.machine.learner.network.state_dict().values()))
        training.checkpoints.clear()
    for _ in range(3):  # an epoch each, the first two of them on features
        with training_of(params) as training:
            _finish_steps(training)
            assert bool(training.features) == (training.progress.epoch < 2)
            _close_epoch(training, 1.0)
    with training_of(params) as training:
        finish_epochs(training)
        assert torch.equal(whole, flat(list(training.machine.learner.network.state_dict().values())))


@pytest.mark.parametrize(
    ("changes", "dropout", "why"),
    [
        (["augment={name: light, size: 12}"], 0.0, "pictures vary from epoch to epoch"),
        (["mixing={name: mixup}"], 0.0, "pictures vary from epoch to epoch"),
        ([], 0.5, "dropout before the last layer"),
    ],
)
def test_why_features_are_not_kept(
    inside: Path, capsys: pytest.CaptureFixture, changes: list[str], dropout: float, why: str
) -> None:
    params = prepare(inside, "layers.frozen_epochs=3", begun(inside, dropout=dropout), *changes)
    with training_of(params) as training:
        training.machine.enter(0)
        feed(training)
        assert training.features is None
    assert f"train: the layers that rest are computed anew each epoch: {why}" in capsys.readouterr().out


def test_weights_of_a_file_but_for_a_last_layer_of_other_classes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    trained = config_class("models", "convnet")(width=4).build(1, 5, 12)
    file = tmp_path / "weights.pth"
    torch.save({f"network.{name}": weights for name, weights in trained.state_dict().items()}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    start = config_class("models", "convnet")(width=4, weights=str(file), weights_sha256=digest)
    same, fewer = start.build(1, 5, 12), start.build(1, 3, 12)
    assert all(torch.equal(same.state_dict()[name], weights) for name, weights in trained.state_dict().items())
    taken = [name for name, weights in fewer.state_dict().items() if torch.equal(weights, trained.state_dict()[name])]
    assert set(trained.state_dict()) - set(taken) == {"11.weight", "11.bias"}
    with pytest.raises(UserError, match=r"is of another network: \d+ of another shape \(0\.0\.weight is"):
        config_class("models", "convnet")(width=8, weights=str(file), weights_sha256=digest).build(1, 5, 12)
    with pytest.raises(ValueError, match="weights and weights_sha256 go together"):
        config_class("models", "convnet")(weights=str(file))


def test_features_are_kept_where_they_take_no_more_than_a_quarter_of_the_memory(
    inside: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = prepare(inside, "layers.frozen_epochs=3", begun(inside))
    for spared, refused in ((0, False), (1, True)):
        with training_of(params) as training:
            training.machine.enter(0)
            head = training.machine.freezer.head.modules[0]
            assert isinstance(head, nn.Linear)
            needed = 4 * len(training.train) * head.in_features
            monkeypatch.setattr("pipeline.train.frozen.memory", lambda device, room=4 * needed - spared: room)
            feed(training)
            assert (training.features is None) == refused
    assert "computed anew each epoch: their features take more than a quarter of the memory" in capsys.readouterr().out


# --- at the door

BEGUN = f"model={{name: convnet, weights: here.pth, weights_sha256: {64 * 'a'}}}"
"""It need not be there."""


@pytest.mark.parametrize(("frozen", "thawing", "epochs"), [(3, 2, 5), (0, 4, 3), (6, 1, 5)])
def test_a_first_layer_that_would_never_learn_is_refused(frozen: int, thawing: int, epochs: int) -> None:
    layers, enough = f"layers={{frozen_epochs: {frozen}, thawing_epochs: {thawing}}}", frozen + thawing + 1
    options = LayersOptions(frozen_epochs=frozen, thawing_epochs=thawing)
    assert learning(options, epochs - 1, 10) < 10 == learning(options, enough - 1, 10)
    assert clashes("ordinal", layers, f"train.epochs={epochs}", BEGUN) == [
        f"  the parts together: layers.frozen_epochs {frozen} and layers.thawing_epochs {thawing} make "
        f"{frozen + thawing}, but train.epochs is {epochs}: the first layer would never learn; set train.epochs to "
        f"{enough} or more, or layers.thawing_epochs to 0."
    ]
    assert not clashes("ordinal", layers, f"train.epochs={enough}", BEGUN)


def test_that_the_head_alone_learns_is_a_wish() -> None:
    for frozen in (3, 9):
        assert not clashes("ordinal", f"layers.frozen_epochs={frozen}", "train.epochs=3", BEGUN)


NOISE = "starts from random weights, and layers that rest keep them: the last layer would learn from what those make of"


@pytest.mark.parametrize(
    ("layers", "model", "found", "remedy"),
    [
        (
            "layers.frozen_epochs=20",
            "convnet",
            "layers.frozen_epochs is 20, but model 'convnet'",
            "set model.weights to a file of weights, or layers.frozen_epochs to 0.",
        ),
        (
            "layers={frozen_epochs: 1, thawing_epochs: 2}",
            "convnet",
            "layers.frozen_epochs is 1 and layers.thawing_epochs is 2, but model 'convnet'",
            "set model.weights to a file of weights, or layers.frozen_epochs and layers.thawing_epochs to 0.",
        ),
        (
            "layers.thawing_epochs=2",
            "lenet5",
            "layers.thawing_epochs is 2, but model 'lenet5'",
            "take a model that begins with those of a file (convnet, timm, torchvision), or set layers.thawing_epochs "
            "to 0.",
        ),
    ],
)
def test_layers_that_would_rest_on_random_weights_are_refused(layers: str, model: str, found: str, remedy: str) -> None:
    ready = "classification-folder"
    assert clashes(ready, layers, f"model={{name: {model}}}") == [
        f"  the parts together: {found} {NOISE} a picture; {remedy}"
    ]
    assert not clashes(ready, layers, BEGUN)
    assert not clashes(ready, "layers.rate_decay=0.5", f"model={{name: {model}}}")


def test_where_no_model_of_its_kind_begins_with_weights_none_is_named() -> None:
    (line,) = clashes("keypoints-table", "layers.frozen_epochs=1", "model={name: heatmap}", "loss={name: heatmap}")
    assert line.endswith("a picture; set layers.frozen_epochs to 0.")
