"""Progressive resizing: the side of each epoch by hand, the smaller pictures, and what cannot be resized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from as_in_training import as_in_training
from PIL import Image
from ready_files import clashes
from torch import nn

from pipeline.errors import UserError
from pipeline.plugin import config_class
from pipeline.train.learner import Learner
from pipeline.train.sizes import check_sides, side_of, smaller
from pipeline.train_options import TrainOptions

__all__ = ["as_in_training"]

ROOT = Path(__file__).parents[1]


def sides(size: int, **options: object) -> list[int]:
    given = TrainOptions.model_validate(options)
    return [side_of(given, size, epoch) for epoch in range(given.epochs)]


# --- the side of an epoch


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        # 16 more pixels in 7 epochs: 16, 18.3, 20.6, 22.9, 25.1, 27.4, 29.7, in steps of 4
        (32, {"epochs": 10, "first_size": 16}, [16, 16, 20, 20, 24, 24, 28, 32, 32, 32]),
        # 96 more pixels in 8 epochs, 12 each, in steps of 32
        (224, {"epochs": 10, "first_size": 128, "full_size_from": 0.8}, [*[128] * 3, *[160] * 3, *[192] * 2, 224, 224]),
        (224, {"epochs": 4, "first_size": 100, "full_size_from": 0.5}, [100, 160, 224, 224]),
        # the last epoch is at full size, whatever is asked: 9, 18.5, 28
        (28, {"epochs": 3, "first_size": 9, "full_size_from": 1.0}, [9, 16, 28]),
        (6, {"epochs": 2, "first_size": 4, "full_size_from": 0.5}, [4, 6]),
        (32, {"epochs": 4, "first_size": 0}, [32] * 4),
        (32, {"epochs": 1}, [32]),
        # 11 is no multiple of 4, and neither is 30: 11, 15.75, 20.5, 25.25
        (30, {"epochs": 5, "first_size": 11, "full_size_from": 1.0}, [11, 12, 20, 24, 30]),
    ],
)  # fmt: skip
def test_sides_by_hand(size: int, options: dict[str, object], expected: list[int]) -> None:
    assert sides(size, **options) == expected


def test_sides_never_fall_and_are_few() -> None:
    for size in range(15, 600, 7):
        for first in (4, size // 3, size // 2, size - 1):
            found = sides(size, epochs=90, first_size=first)
            assert found == sorted(found) and found[0] == first and found[-1] == size
            assert len(set(found)) <= 16
            stride = max(4, 2 ** int(np.log2(size / 7)))
            assert all(side % stride == 0 for side in set(found) - {first, size})


# --- smaller pictures


def test_a_smaller_picture_is_that_of_pillow() -> None:
    pixels = torch.randint(256, (40, 40), generator=torch.Generator().manual_seed(0)).float()
    expected = Image.fromarray(pixels.numpy()).resize((25, 25), Image.Resampling.BILINEAR)
    assert np.allclose(smaller(pictures := pixels[None, None], 25)[0, 0].numpy(), np.asarray(expected), atol=1e-3)
    assert smaller(pictures, 40) is pictures and smaller(pictures, None) is pictures


def test_half_the_side_is_a_mean_of_neighbours_by_hand() -> None:
    # a triangle two pixels wide on either side weighs four pixels 1, 3, 3, 1; at the edge the first is not there
    row = torch.tensor([0.0, 8.0, 16.0, 8.0]).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    left, right = smaller(row, 2)[0, 0, 0].tolist()
    assert (left, right) == pytest.approx(((3 * 0 + 3 * 8 + 16) / 7, (8 + 3 * 16 + 3 * 8) / 7))


def test_only_what_is_learnt_from_is_smaller_and_what_is_compared_with_stays() -> None:
    mixing = config_class("mixings", "cutmix")(probability=1.0)
    learner = Learner(_Floats(), nn.Identity(), nn.Identity(), mixing)
    pictures, targets = torch.randint(256, (4, 16, 16, 3), dtype=torch.uint8), torch.arange(4)
    learner.side = 8
    seen, compared = learner.prepared(pictures, targets, np.random.default_rng(0))
    assert seen.shape == (4, 3, 8, 8) and len(compared) == 2
    assert learner.prepared(pictures, targets)[0].shape == (4, 3, 16, 16)
    learner.side = None
    assert learner.prepared(pictures, targets, np.random.default_rng(0))[0].shape == (4, 3, 16, 16)


class _Floats(nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.permute(0, 3, 1, 2).float()


# --- networks that take other sides, and those that do not

OPTIONS = TrainOptions.model_validate({"epochs": 10, "first_size": 16})


@pytest.mark.parametrize(
    ("name", "options"),
    [("convnet", {"width": 4}), ("timm", {"architecture": "resnet10t"}), ("torchvision", {"architecture": "resnet18"})],
)
def test_a_network_that_averages_over_the_picture_is_left_as_it_was(name: str, options: dict[str, object]) -> None:
    network = config_class("models", name)(**options).build(3, 2, 32)
    next(iter(network.children())).eval()  # as a frozen layer is
    modes = [module.training for module in network.modules()]
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    torch.manual_seed(5)
    check_sides(network, 3, 32, OPTIONS, name)
    assert torch.initial_seed() == 5 and torch.equal(torch.rand(2), _after_seed(5))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())


def _after_seed(seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.rand(2)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("lenet5", {}, r"Kernel size can't be greater than actual input size"),
        ("convnet", {"width": 4, "pooled": False}, r"mat1 and mat2 shapes cannot be multiplied"),
        ("timm", {"architecture": "vit_tiny_patch16_224"}, r"Input height \(16\) doesn't match model \(32\)"),
    ],
)
def test_a_network_for_one_size_is_refused_in_words(name: str, options: dict[str, object], reason: str) -> None:
    network = config_class("models", name)(**options).build(3, 2, 32)
    with pytest.raises(UserError, match=reason) as refused:
        check_sides(network, 3, 32, OPTIONS, name)
    first, second = str(refused.value).split("\n")
    assert first.startswith(
        f"params.yaml: train.first_size is 16, but model {name!r}, built for pictures of 32 pixels a side, cannot take "
        "any of 16 ("
    )
    assert second == (
        "Set train.first_size to 0, or take a model that averages over the whole picture, such as convnet."
    )
    assert network.training


def test_where_nothing_grows_nothing_is_tried() -> None:
    network = config_class("models", "lenet5")().build(1, 2, 32)
    check_sides(network, 1, 32, TrainOptions(), "lenet5")


# --- at the door


@pytest.mark.parametrize("first", [32, 48])
def test_pictures_grow_from_something_smaller(first: int) -> None:
    assert clashes("ordinal", "augment.size=32", f"train.first_size={first}") == [
        f"  the parts together: train.first_size is {first}, but pictures grow to augment.size, which is 32; set less, "
        "or 0 to have all epochs see that size."
    ]


def test_the_stage_refuses_pictures_that_would_shrink() -> None:
    with pytest.raises(UserError) as refused:
        check_sides(nn.Identity(), 1, 32, TrainOptions(first_size=32), "convnet")
    assert str(refused.value) == (
        "params.yaml: train.first_size is 32, but pictures grow to augment.size, which is 32; set less, or 0 to have "
        "all epochs see that size."
    )


def test_one_epoch_is_too_few_to_grow_in() -> None:
    assert clashes("ordinal", "train.epochs=1", "train.first_size=16") == [
        "  train.first_size: is 16, but the last epoch is at full size, and there is one; set train.epochs to 2 or "
        "more, or this to 0."
    ]
    assert not clashes("ordinal", "train.epochs=1") and not clashes("ordinal", "train.epochs=2", "train.first_size=16")


def test_places_do_not_shrink_with_the_picture() -> None:
    assert clashes("segmentation-lists", "train.first_size=16") == [
        "  the parts together: train.first_size is 16, but task 'semantic_segmentation' learns where things are, and "
        "those places do not shrink with the picture; set it to 0."
    ]
    assert not clashes("counting", "train.first_size=16")
