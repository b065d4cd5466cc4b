"""Every file in pipeline/mixings/ meets one contract; blends are worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ready_files import clashes
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import Target
from pipeline.losses.binary_cross_entropy import BinaryCrossEntropy
from pipeline.mixings._blends import faded, partners, pasted, rectangle
from pipeline.plugin import config_class, names
from pipeline.training import MixingConfig

ROOT = Path(__file__).parents[1]
BLENDING = [name for name in names("mixings") if name != "none"]
TARGETS = {
    Target.LABEL: torch.arange(6),
    Target.GRADE: torch.arange(6),
    Target.LABELS: torch.eye(6, dtype=torch.uint8),
    Target.NUMBERS: torch.arange(12, dtype=torch.float32).reshape(6, 2),
    Target.COUNTS: torch.arange(12, dtype=torch.float32).reshape(6, 2),
    Target.MASK: torch.arange(6, dtype=torch.uint8)[:, None, None].expand(6, 8, 8).contiguous(),
}


def part(name: str, **options: object) -> MixingConfig:
    return config_class("mixings", name)(**options)


def pictures(count: int = 6, side: int = 8) -> Tensor:
    """Picture n is n everywhere."""
    return torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(count, 3, side, side).contiguous()


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


# --- the contract


@pytest.mark.parametrize("name", names("mixings"))
def test_shares_add_up_to_1_and_shapes_stay(name: str) -> None:
    for target in part(name).takes & TARGETS.keys():
        for seed in range(30):
            seen, compared = part(name).mixed(pictures(), TARGETS[target], generator(seed))
            assert seen.shape == (6, 3, 8, 8) and seen.dtype == torch.float32
            assert sum(share for _, share in compared) == pytest.approx(1)
            assert all(0 <= share <= 1 for _, share in compared)
            assert all(one.shape == TARGETS[target].shape and one.dtype == TARGETS[target].dtype for one, _ in compared)


@pytest.mark.parametrize("name", names("mixings"))
def test_the_seed_decides_and_nothing_is_changed_in_place(name: str) -> None:
    given, targets = pictures(), torch.arange(6)
    for seed in range(10):
        torch.manual_seed(seed)
        first, compared = part(name).mixed(given, targets, generator(seed))
        again, likewise = part(name).mixed(given, targets, generator(seed))
        assert torch.equal(first, again) and [share for _, share in compared] == [share for _, share in likewise]
        assert torch.equal(given, pictures()) and torch.equal(targets, torch.arange(6))


@pytest.mark.parametrize("name", names("mixings"))
def test_every_target_is_counted_by_how_much_of_its_picture_is_seen(name: str) -> None:
    for seed in range(50):
        seen, compared = part(name).mixed(pictures(), torch.arange(6), generator(seed))
        expected = sum(share * one.double() for one, share in compared)
        assert seen.double().mean(dim=(1, 2, 3)).tolist() == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("name", names("mixings"))
def test_a_picture_alone_stays_as_it_is(name: str) -> None:
    given = torch.rand(1, 3, 8, 8)
    for seed in range(10):
        seen, compared = part(name).mixed(given, torch.tensor([4]), generator(seed))
        assert torch.allclose(seen, given, atol=1e-6) and all(one.tolist() == [4] for one, _ in compared)


@pytest.mark.parametrize("name", BLENDING)
def test_pictures_are_blended_and_as_often_as_asked(name: str) -> None:
    blended = [
        len(part(name, probability=0.25).mixed(pictures(), torch.arange(6), generator(seed))[1]) == 2
        for seed in range(800)
    ]
    assert np.mean(blended) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 800) ** 0.5)


def test_none_takes_everything_as_it_is() -> None:
    given = pictures()
    seen, compared = part("none").mixed(given, torch.arange(6), generator(0))
    assert seen is given and len(compared) == 1 and compared[0][1] == 1
    assert part("none").takes == frozenset(Target)


# --- by hand


def test_faded_by_hand() -> None:
    seen, compared = faded(torch.tensor([0.0, 4.0, 8.0]).view(3, 1, 1, 1), torch.tensor([5, 6, 7]), 0.75, 1)
    assert seen.flatten().tolist() == [1.0, 5.0, 6.0]
    assert [(one.tolist(), share) for one, share in compared] == [([5, 6, 7], 0.75), ([6, 7, 5], 0.25)]


def test_pasted_by_hand() -> None:
    # a rectangle of 3 x 2 of the 8 x 8 pixels: 6 of 64
    seen, compared = pasted(pictures(3), torch.tensor([5, 6, 7]), (1, 2, 4, 4), 2)
    assert seen[0, :, 2:4, 1:4].unique().tolist() == [2.0] and (seen[0] == 2).sum() == 3 * 6
    assert seen[0, 0, 0, 0] == 0 and seen[1, 1, 3, 3] == 0 and seen[2, 2, 2, 1] == 1
    assert [(one.tolist(), share) for one, share in compared] == [([5, 6, 7], 1 - 6 / 64), ([7, 5, 6], 6 / 64)]


def test_a_mask_is_cut_with_its_picture_and_is_all_that_is_true() -> None:
    masks = torch.arange(3, dtype=torch.uint8)[:, None, None].expand(3, 8, 8)
    seen, ((mask, share),) = pasted(pictures(3), masks, (0, 0, 8, 3), 1)
    assert share == 1 and mask.dtype == torch.uint8 and torch.equal(mask.float(), seen[:, 0])
    assert mask[0, :3].unique().tolist() == [1] and mask[0, 3:].unique().tolist() == [0]


def test_a_rectangle_leaves_the_share_of_the_picture_unless_the_edge_cuts_it() -> None:
    for seed in range(200):
        x1, y1, x2, y2 = rectangle(40, 20, 0.75, generator(seed))
        assert 0 <= x1 < x2 <= 40 and 0 <= y1 < y2 <= 20
        assert x2 - x1 <= 20 and y2 - y1 <= 10  # half of each side: a quarter of the area
        if x1 and y1 and x2 < 40 and y2 < 20:
            assert (x2 - x1, y2 - y1) == (20, 10)
    assert rectangle(40, 20, 1.0, generator(0))[0] == rectangle(40, 20, 1.0, generator(0))[2]


def test_everybody_has_another_partner_and_each_comes_equally_often() -> None:
    shifts = [partners(4, generator(seed)) for seed in range(300)]
    assert set(shifts) == {1, 2, 3} and partners(1, generator(0)) == 0
    assert min(np.bincount(shifts)[1:]) > 70


def test_shares_are_those_of_the_beta_distribution() -> None:
    def shares(name: str, **options: object) -> np.ndarray:
        drawn = (part(name, **options).mixed(pictures(2, 64), torch.arange(2), generator(seed)) for seed in range(500))
        return np.array([compared[0][1] for _, compared in drawn])

    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1))
    for alpha in (0.2, 1.0, 8.0):
        drawn = shares("mixup", alpha=alpha)
        assert drawn.mean() == pytest.approx(0.5, abs=0.06)
        assert drawn.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)
    # edges cut off of rectangles: more stays of the picture than was drawn
    assert 0.55 < shares("cutmix", alpha=1.0, probability=1.0).mean() < 0.8


def test_both_takes_each_by_its_share() -> None:
    def faded_at(config: MixingConfig, seed: int) -> bool:
        """Whether pixels are mixtures, and not of one picture or the other."""
        seen, _ = config.mixed(pictures(2), torch.arange(2), generator(seed))
        return bool(((seen != 0) & (seen != 1)).any())

    faded_ones = [faded_at(part("both", cutmix_share=0.25), seed) for seed in range(300)]
    assert np.mean(faded_ones) == pytest.approx(0.75, abs=0.1)
    assert not any(faded_at(part("both", cutmix_share=1.0), seed) for seed in range(50))
    assert all(faded_at(part("both", cutmix_share=0.0), seed) for seed in range(50))


def test_the_loss_is_that_of_the_mean_of_both_truths() -> None:
    # of cross-entropy, with one-hot targets, and of squared errors, whose slope is that towards the mean number
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    _, compared = part("mixup").mixed(pictures(4), torch.tensor([0, 1, 2, 0]), generator(1))
    soft = sum(share * F.one_hot(one, 3).float() for one, share in compared)
    mixed = sum(share * F.cross_entropy(logits, one) for one, share in compared)
    assert mixed.item() == pytest.approx(F.cross_entropy(logits, soft).item())
    sets = torch.tensor([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]], dtype=torch.uint8)
    loss = BinaryCrossEntropy(0.0, torch.ones(3))
    _, compared = part("mixup").mixed(pictures(4), sets, generator(1))
    soft = sum(share * one.float() for one, share in compared)
    mixed = sum(share * loss(logits, one) for one, share in compared)
    assert mixed.item() == pytest.approx(F.binary_cross_entropy_with_logits(logits, soft).item())
    numbers = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    _, compared = part("mixup").mixed(pictures(4), numbers, generator(1))
    (slope,) = torch.autograd.grad(sum(share * F.mse_loss(logits, one) for one, share in compared), logits)
    (other,) = torch.autograd.grad(F.mse_loss(logits, sum(share * one for one, share in compared)), logits)
    assert torch.allclose(slope, other, atol=1e-6)


@pytest.mark.parametrize("name", BLENDING)
@pytest.mark.parametrize("option", ["alpha", "mixup_alpha", "cutmix_alpha", "probability"])
def test_options_that_draw_nothing_are_refused(name: str, option: str) -> None:
    if option in config_class("mixings", name).model_fields:
        with pytest.raises(ValueError, match=option):
            part(name, **{option: 0})


# --- at the door


def test_what_a_task_learns_must_be_blended() -> None:
    assert clashes("segmentation-lists", "mixing={name: mixup}") == [
        "  the parts together: mixing 'mixup' does not blend one class per pixel, which task "
        "'semantic_segmentation' learns; set mixing to cutmix or none."
    ]
    assert clashes("detection-voc", "mixing={name: both}") == [
        "  the parts together: mixing 'both' does not blend boxes with classes per image, which "
        "task 'object_detection' learns; set mixing to none."
    ]
    assert not clashes("segmentation-lists", "mixing={name: cutmix}") and not clashes(
        "counting", "mixing={name: mixup}"
    )
