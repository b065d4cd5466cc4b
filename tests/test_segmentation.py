"""Every loss of masks and every network that draws them; the numbers are by hand, torch's, or those of the papers."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline import door
from pipeline.contracts import Output, Target
from pipeline.errors import ParamsError, UserError
from pipeline.losses.dice import dice
from pipeline.losses.jaccard import jaccard
from pipeline.losses.lovasz import lovasz
from pipeline.losses.tversky import tversky
from pipeline.masks import VOID
from pipeline.models.segmentation_models import Config as Library
from pipeline.models.unet import Config as OwnUNet
from pipeline.params import Params
from pipeline.plugin import config_class, names

LOSSES = [name for name in names("losses") if (Output.MAP, Target.MASK) in config_class("losses", name).takes]
MODELS = [name for name in names("models") if config_class("models", name).gives is Output.MAP]
LIGHT: dict[str, dict[str, Any]] = {"unet": {"width": 8, "depth": 2}}
"""Options that make a model small."""
CLASSES, SIDE = 5, 32
WANTED = ["unet", "unetplusplus", "fpn", "deeplabv3", "deeplabv3plus", "segformer"]
"""Architectures that must be there."""
REFUSED = ("NllLoss", "Cumsum", "Gather", "Scatter", "Sort", "Index")
"""Steps whose gradients a GPU adds up in any order, or slowly."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def loss(name: str, counts: Sequence[int] = (5, 5, 5), **options: Any) -> nn.Module:
    return config_class("losses", name)(**options).build(counts, len(counts))


def maps(batch: int = 2, classes: int = 3, side: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits float64 [B, K, S, S] and a mask for them, a fifth of it void."""
    random = torch.Generator().manual_seed(seed)
    mask = torch.randint(classes, (batch, side, side), generator=random)
    mask[torch.rand(mask.shape, generator=random) < 0.2] = VOID
    return torch.randn(batch, classes, side, side, generator=random, dtype=torch.float64), mask.to(torch.uint8)


def certain(said: list[list[int]], k: int) -> Tensor:
    """Logits of one picture that leave no doubt."""
    return 1e4 * F.one_hot(torch.tensor([said]), k).permute(0, 3, 1, 2).double()


# --- every loss of masks


@pytest.mark.parametrize("name", LOSSES)
def test_void_pixels_count_for_nothing(name: str) -> None:
    logits, mask = maps()
    part = loss(name).double()
    known = mask != VOID
    pixels = logits.movedim(1, -1)[known], mask[known].long()
    assert part(logits, mask).item() == pytest.approx(part(*pixels).item(), rel=1e-12)
    other = logits.where(known.unsqueeze(1), 7 * torch.randn_like(logits)).requires_grad_()
    cost = part(other, mask)
    cost.backward()
    assert cost.item() == pytest.approx(part(logits, mask).item(), rel=1e-12)
    assert not other.grad.movedim(1, -1)[~known].any()
    assert other.grad.movedim(1, -1)[known].any(dim=1).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_void_batch_costs_nothing_and_teaches_nothing(name: str) -> None:
    logits = maps()[0].requires_grad_()
    cost = loss(name).double()(logits, torch.full((2, 6, 6), VOID, dtype=torch.uint8))
    cost.backward()
    assert cost.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("name", LOSSES)
def test_a_void_picture_changes_nothing_for_the_other(name: str) -> None:
    logits, mask = maps()
    mask[1] = VOID
    part = loss(name).double()
    assert part(logits, mask).item() == pytest.approx(part(logits[:1], mask[:1]).item(), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_the_slope_is_the_numeric_one(name: str) -> None:
    logits, mask = maps(side=3)
    part = loss(name).double()
    assert torch.autograd.gradcheck(lambda x: part(x, mask), logits.requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
def test_order_of_pictures_does_not_matter_nor_the_type_of_the_mask(name: str) -> None:
    logits, mask = maps(batch=4)
    order, part = torch.tensor([2, 0, 3, 1]), loss(name).double()
    cost = part(logits, mask).item()
    assert part(logits[order], mask[order]).item() == pytest.approx(cost, rel=1e-12)
    assert part(logits, mask.long()).item() == cost
    assert part(logits.to(memory_format=torch.channels_last), mask).item() == pytest.approx(cost, rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extremes_stay_finite(name: str, size: float) -> None:
    logits = (size * maps()[0].float().sign()).requires_grad_()
    cost = loss(name)(logits, maps()[1])
    cost.backward()
    assert torch.isfinite(cost) and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_better_maps_cost_less(name: str) -> None:
    mask = maps()[1]
    right = F.one_hot(mask.long().clamp(max=2), 3).permute(0, 3, 1, 2).double()
    costs = [loss(name).double()(sure * right, mask).item() for sure in (-2, 0, 1, 3, 50)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_it_computes_where_torch_must_be_deterministic(name: str) -> None:
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    try:
        logits, mask = maps()
        runs = []
        for _ in range(2):
            given = logits.clone().requires_grad_()
            loss(name).double()(given, mask).backward()
            runs.append(given.grad)
    finally:
        torch.set_deterministic_debug_mode(before)
    assert torch.equal(*runs)


def test_nothing_is_used_that_a_gpu_may_add_up_in_any_order() -> None:
    """What torch refuses on a GPU in deterministic mode, looked for in the graph of what is computed."""
    logits, mask = maps()
    for name in LOSSES:
        stack, seen = [loss(name).double()(logits.clone().requires_grad_(), mask).grad_fn], set()
        while stack:
            node = stack.pop()
            if node is not None and node not in seen:
                seen.add(node)
                stack += [following for following, _ in node.next_functions]
        used = {type(node).__name__ for node in seen}
        assert not [word for word in used if word.startswith(REFUSED)]


# --- the numbers


def test_dice_of_half_overlap_by_hand() -> None:
    # class 0: predicted 2, true 1, common 1 -> 2*1/3;  class 1: predicted 2, true 3, common 2 -> 2*2/5
    masks = torch.tensor([[[0, 1], [1, 1]]])
    loss = dice(certain([[0, 0], [1, 1]], k=2), masks, smooth=1e-9)
    assert loss.item() == pytest.approx(1 - (2 / 3 + 4 / 5) / 2)


def test_jaccard_and_tversky_by_hand() -> None:
    masks = torch.tensor([[[0, 1], [1, 1]]])
    said = certain([[0, 0], [1, 1]], k=2)
    assert jaccard(said, masks, smooth=0).item() == pytest.approx(1 - (1 / 2 + 2 / 3) / 2)
    # class 0 has a false alarm, class 1 a miss
    cost = tversky(said, masks, alpha=0.3, beta=0.7, smooth=0)
    assert cost.item() == pytest.approx(1 - (1 / 1.3 + 2 / 2.7) / 2)


def test_smoothing_by_hand() -> None:
    masks = torch.tensor([[[0, 1], [1, 1]]])
    said = certain([[0, 0], [1, 1]], k=2)
    assert dice(said, masks, smooth=1).item() == pytest.approx(1 - (3 / 4 + 5 / 6) / 2)
    assert jaccard(said, masks, smooth=1).item() == pytest.approx(1 - (2 / 3 + 3 / 4) / 2)


def test_a_class_that_the_batch_does_not_hold_is_left_out_of_the_mean() -> None:
    # class 2 is said of one pixel: that costs class 1, of which it is, and nothing else
    masks = torch.tensor([[[0, 1], [1, 1]]])
    cost = dice(certain([[0, 2], [1, 1]], k=3), masks, smooth=0)
    assert cost.item() == pytest.approx(1 - (1 + 4 / 5) / 2)


def test_tversky_is_dice_and_jaccard() -> None:
    logits, mask = maps()
    assert tversky(logits, mask, 0.5, 0.5, smooth=0).item() == pytest.approx(dice(logits, mask, smooth=0).item())
    assert tversky(logits, mask, 1, 1, smooth=2).item() == pytest.approx(jaccard(logits, mask, smooth=2).item())


def test_tversky_must_punish_something() -> None:
    with pytest.raises(ValidationError, match="alpha and beta are both 0, so that no answer is wrong"):
        config_class("losses", "tversky")(alpha=0, beta=0)


def test_lovasz_by_hand() -> None:
    # Two pixels, 1 and 0, to which class 1 gives 0.6 and 0.3.
    # class 1: errors 0.4 (a miss) and 0.3 (an alarm); the first miss is all there is: 0.4 * 1 + 0.3 * 0
    # class 0: errors 0.4 (an alarm) and 0.3 (a miss): 0.4 * 1/2 + 0.3 * 1/2
    shares = torch.tensor([[0.4, 0.6], [0.7, 0.3]]).double()
    cost = lovasz(shares.log().T.reshape(1, 2, 1, 2), torch.tensor([[[1, 0]]]))
    assert cost.item() == pytest.approx((0.4 + 0.35) / 2)


def test_lovasz_is_jaccard_where_answers_are_certain() -> None:
    said = torch.randint(3, (5, 5), generator=torch.Generator().manual_seed(3))
    logits, mask = certain(said.tolist(), 3), maps(batch=1, side=5)[1]
    assert lovasz(logits, mask).item() == pytest.approx(jaccard(logits, mask, smooth=0).item())


def test_lovasz_is_algorithm_1_of_the_paper() -> None:
    logits, mask = maps(batch=3, side=9)
    shares, known = logits.softmax(1).movedim(1, -1)[mask != VOID], mask[mask != VOID]
    costs = []
    for index in range(3):
        true = (known == index).double()
        errors, order = (true - shares[:, index]).abs().sort(descending=True)
        gone, more = true[order].cumsum(0), (1 - true[order]).cumsum(0)
        steps = 1 - (true.sum() - gone) / (true.sum() + more)
        costs.append((errors * torch.cat([steps[:1], steps[1:] - steps[:-1]])).sum())
    assert lovasz(logits, mask).item() == pytest.approx(torch.stack(costs).mean().item(), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", ["none", [0.5, 1, 4]])
def test_cross_entropy_of_a_map_is_that_of_torch(smoothing: float, weights: Any) -> None:
    logits, mask = maps(side=20)
    given = None if weights == "none" else torch.tensor(weights).double()
    reference = F.cross_entropy(logits, mask.long(), given, ignore_index=VOID, label_smoothing=smoothing)
    part = loss("cross_entropy", class_weights=weights, label_smoothing=smoothing).double()
    assert part(logits, mask).item() == pytest.approx(reference.item(), rel=1e-12)


def test_focal_of_a_map_without_fading_is_cross_entropy() -> None:
    logits, mask = maps(side=20)
    options = {"class_weights": [0.5, 1, 4]}
    faded, plain = loss("focal", gamma=0, **options).double(), loss("cross_entropy", **options).double()
    assert faded(logits, mask).item() == pytest.approx(plain(logits, mask).item(), rel=1e-12)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_class_255_of_a_label_is_a_class_like_any_other(name: str) -> None:
    logits, labels = torch.randn(4, 300), torch.tensor([255, 255, 0, 255])
    part = loss(name, [1] * 300)
    apart = [part(logits[i : i + 1], labels[i : i + 1]).item() for i in range(4)]
    assert part(logits, labels).item() == pytest.approx(sum(apart) / 4)


# --- sums


def test_a_sum_is_the_sum() -> None:
    logits, mask = maps()
    terms = [{"name": "cross_entropy", "weight": 1.0}, {"name": "dice", "weight": 0.5, "smooth": 1}, {"name": "lovasz"}]
    apart = [loss("cross_entropy"), loss("dice", smooth=1), loss("lovasz")]
    expected = sum(w * part.double()(logits, mask).item() for w, part in zip((1, 0.5, 1), apart, strict=True))
    assert loss("sum", terms=terms).double()(logits, mask).item() == pytest.approx(expected)


def test_a_sum_weighs_classes_by_what_was_counted() -> None:
    logits, mask = maps()
    terms = [{"name": "focal", "class_weights": "balanced"}]
    expected = loss("focal", (8, 1, 4), class_weights="balanced").double()(logits, mask).item()
    assert loss("sum", (8, 1, 4), terms=terms).double()(logits, mask).item() == pytest.approx(expected)


def in_params(text: str) -> str:
    """params.yaml of the project with another loss."""
    lines = (Path(__file__).parents[1] / "params.yaml").read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("loss:"))
    end = next(at for at, line in enumerate(lines[start + 1 :], start + 1) if line and line[0] not in " #")
    return "\n".join([*lines[:start], f"loss: {text}", *lines[end:]])


def test_every_problem_of_a_sum_has_its_place() -> None:
    terms = "{name: dice, smoth: 1}, {name: focl}, {name: focal, gamma: -1}, {name: sum}, {name: dice, x: 1}, dice"
    with pytest.raises(ParamsError) as caught:
        door.parse(Params, in_params(f"{{name: sum, terms: [{terms}]}}"))
    lines = str(caught.value).splitlines()
    assert lines[0] == "params.yaml: 6 problems"
    assert lines[1] == "  loss.terms.0.smoth: no such key. Did you mean 'smooth'?"
    assert lines[2].startswith("  loss.terms.1: no loss named 'focl'. Did you mean 'focal'? pipeline/losses/ has: ")
    assert lines[3] == "  loss.terms.2.gamma: found -1; set 0 or more."
    assert lines[4] == "  loss.terms.3: a sum within a sum: write its terms beside the others."
    assert lines[5] == "  loss.terms.4.x: no such key. Valid keys: weight, smooth."
    assert lines[6] == "  loss.terms.5: expected a loss by its name, as in {name: dice, weight: 0.5}; found 'dice'."


def test_a_sum_has_terms_and_not_too_many() -> None:
    for count in (0, 17):
        with pytest.raises(ValidationError, match=f"expected 1 to 16 losses; found {count}"):
            loss("sum", terms=[{"name": "dice"}] * count)


def test_a_sum_takes_losses_of_masks_alone() -> None:
    others = [name for name in names("losses") if name not in LOSSES]
    for name in others:
        with pytest.raises(ValidationError, match=f"loss '{name}' does not learn from masks; of these, some do: cross"):
            loss("sum", terms=[{"name": name}])


@pytest.mark.parametrize("name", ["../models/unet", "os.system", "_pixels", "dice.py", ""])
def test_a_sum_names_nothing_but_losses(name: str) -> None:
    with pytest.raises(ValidationError, match="no loss named"):
        loss("sum", terms=[{"name": name}])


def test_the_terms_of_a_sum_are_dumped_with_their_options() -> None:
    config = config_class("losses", "sum")(terms=[{"name": "tversky", "beta": 2}, {"name": "lovasz", "weight": 3}])
    first = {"name": "tversky", "weight": 1, "alpha": 0.3, "beta": 2, "smooth": 0}
    assert config.model_dump(mode="json") == {"terms": [first, {"name": "lovasz", "weight": 3}]}
    assert type(config).model_validate_json(config.model_dump_json()) == config


# --- every network of maps


def network(name: str, channels: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return config_class("models", name)(**LIGHT.get(name, {})).build(channels, CLASSES, SIDE)


def pictures(count: int, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def drawn(net: nn.Module, batch: Tensor) -> Tensor:
    with torch.no_grad():
        return net.eval()(batch)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_a_map_is_as_large_as_the_picture_and_gradients_reach_every_weight(name: str, channels: int) -> None:
    net = network(name, channels)
    assert net.training
    with torch.no_grad():
        for weights in net.parameters():  # some start at zero on purpose, and hold back the gradient of others
            weights.add_(0.05 * torch.randn_like(weights))
    logits = net(pictures(4, channels))
    assert logits.shape == drawn(net, pictures(4, channels)).shape == (4, CLASSES, SIDE, SIDE)
    (logits * torch.randn_like(logits)).sum().backward()
    unreached = [key for key, weights in net.named_parameters() if weights.grad is None or not weights.grad.any()]
    assert unreached == []


@pytest.mark.parametrize("name", MODELS)
def test_a_picture_is_drawn_alike_in_any_company(name: str) -> None:
    net, batch = network(name), pictures(4)
    together, order = drawn(net, batch), torch.tensor([3, 0, 1, 2])
    torch.testing.assert_close(drawn(net, batch[order]), together[order])
    torch.testing.assert_close(drawn(net, batch[2:3]), together[2:3], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_extreme_pictures_are_drawn_in_finite_numbers(name: str) -> None:
    net = network(name)
    for size in (0.0, 1e3, -1e3):
        assert torch.isfinite(drawn(net, torch.full((2, 3, SIDE, SIDE), size))).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_decides_the_first_weights_and_they_are_saved_and_loaded(name: str) -> None:
    net, again, other = (network(name, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(net.state_dict()[key], value) for key, value in again.state_dict().items())
    assert any(not torch.equal(net.state_dict()[key], value) for key, value in other.state_dict().items())
    net(pictures(4))  # moves the statistics that belong to the state
    other.load_state_dict(load(save(net.state_dict())))
    assert torch.equal(drawn(other, pictures(3)), drawn(net, pictures(3)))


@pytest.mark.parametrize("name", MODELS)
def test_exported_it_draws_the_same_maps_for_any_number_of_pictures(name: str) -> None:
    net = network(name, 1).eval()
    dynamic = ({0: torch.export.Dim("batch", min=1, max=4096)},)
    program = torch.export.export(net, (pictures(3, 1),), dynamic_shapes=dynamic, strict=False).module()
    for count in (1, 2, 7):
        with torch.no_grad():
            torch.testing.assert_close(program(pictures(count, 1)), drawn(net, pictures(count, 1)))


# --- our own U-Net


def test_unet_has_the_layers_of_figure_1() -> None:
    net = OwnUNet(batch_norm=False).build(1, 2, 32)
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 23  # as section 2 counts them
    down = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    bottom = [(512, 1024), (1024, 1024)]
    up = [(1024, 512), (512, 512), (512, 256), (256, 256), (256, 128), (128, 128), (128, 64), (64, 64)]
    grow = [(1024, 512), (512, 256), (256, 128), (128, 64)]
    expected = sum(9 * a * b + b for a, b in [*down, *bottom, *up]) + sum(4 * a * b + b for a, b in grow) + 64 * 2 + 2
    assert sum(weights.numel() for weights in net.parameters()) == expected == 31_030_658


def test_unet_first_weights_are_those_of_section_3() -> None:
    torch.manual_seed(0)
    net = OwnUNet(width=32, depth=2).build(3, 2, 16)
    deviations = {key: weights.std().item() for key, weights in net.named_parameters() if weights.ndim == 4}
    assert deviations["down.1.0.weight"] == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.03)
    assert deviations["grow.0.weight"] == pytest.approx((2 / 128) ** 0.5, rel=0.03)
    assert deviations["up.1.0.weight"] == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)


def test_unet_sees_only_sizes_that_can_be_halved() -> None:
    expected = (
        "a unet of depth 3 sees pictures of a multiple of 8 pixels, and augment.size is 100: set augment.size to 96 or"
    )
    with pytest.raises(UserError, match=expected):
        OwnUNet(depth=3).build(3, 2, 100)
    with pytest.raises(UserError, match="set augment.size to 256, or model.depth lower"):
        OwnUNet(depth=8).build(3, 2, 100)


def test_unet_keeps_every_pixel_in_its_place() -> None:
    """A dot far from any edge moves the map around it alone, and by as much wherever it is."""
    torch.manual_seed(0)
    net = OwnUNet(width=4, depth=1).build(1, 2, 32).eval()
    with torch.no_grad():
        blank = net(torch.zeros(1, 1, 32, 32))
        moved = []
        for row, column in ((12, 16), (14, 16)):
            dot = torch.zeros(1, 1, 32, 32)
            dot[0, 0, row, column] = 1
            moved.append((net(dot) - blank)[0])
    torch.testing.assert_close(moved[0][:, 2:26], moved[1][:, 4:28])
    assert moved[0].abs().amax(0).argmax() // 32 in range(9, 17)


def test_unet_learns_a_few_pictures_by_heart() -> None:
    torch.manual_seed(0)
    net = OwnUNet(width=8, depth=2).build(1, 3, 16)
    batch = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    masks = ((F.avg_pool2d(batch, 5, 1, 2) > 0).int() + (batch > 1).int()).squeeze(1).to(torch.uint8)
    part, stepper = loss("sum"), torch.optim.AdamW(net.parameters(), lr=0.01)
    for _ in range(60):
        stepper.zero_grad()
        part(net(batch), masks).backward()
        stepper.step()
    assert (net(batch).argmax(1) == masks).double().mean() > 0.97


# --- segmentation_models_pytorch


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "encoder"), [*((name, "resnet18") for name in WANTED), ("segformer", "mit_b0")]
)
def test_every_architecture_draws_maps_as_large_as_the_picture_and_exports(architecture: str, encoder: str) -> None:
    assert Library(architecture=architecture, encoder=encoder).build(1, 5, 64)
    net, batch = Library(architecture=architecture, encoder=encoder).build(3, 5, 64), torch.randn(3, 3, 64, 64)
    assert net(batch).shape == (3, 5, 64, 64)
    dynamic = ({0: torch.export.Dim("batch", min=2)},)
    program = torch.export.export(net.eval(), (batch[:2],), dynamic_shapes=dynamic, strict=False).module()
    with torch.no_grad():
        torch.testing.assert_close(program(batch), net(batch))


def test_a_size_that_an_architecture_cannot_take() -> None:
    expected = (
        "params.yaml: model: fpn over resnet18 cannot be built for pictures of 100 pixels: Wrong input shape "
        "height=100, width=100. Expected image height and width divisible by 32"
    )
    with pytest.raises(UserError, match=expected):
        Library(architecture="fpn").build(3, 2, 100)


def test_an_encoder_that_an_architecture_cannot_take() -> None:
    with pytest.raises(UserError, match="dpt over resnet18 cannot be built for pictures of 64 pixels: "):
        Library(architecture="dpt").build(3, 2, 64)


@pytest.mark.parametrize(
    ("option", "given", "near"),
    [
        ("architecture", "unet++", "Did you mean 'unet'?"),
        ("architecture", "hf-hub:x/y", "It has unet, unetplusplus, manet"),
        ("encoder", "resnet81", "Did you mean 'resnet18'?"),
        ("encoder", "tu-hf-hub:timm/resnet18", "Did you mean "),
        ("encoder", "../resnet18", "Did you mean 'resnet18'?"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(option: str, given: str, near: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Library(**{option: given})
    (problem,) = caught.value.errors()
    assert problem["loc"] == (option,)
    assert problem["msg"].startswith(f"Value error, no {option} of segmentation_models_pytorch named {given!r}. {near}")


def test_an_encoder_of_timm() -> None:
    net = Library(architecture="fpn", encoder="tu-test_resnet").build(1, 2, 64)
    assert net(torch.randn(2, 1, 64, 64)).shape == (2, 2, 64, 64)


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a model asked the network for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert Library().build(3, 2, 32)


# --- weights from a file


def saved(folder: Path, tensors: dict[str, Tensor], name: str = "weights.safetensors") -> dict[str, str]:
    """The options that start a network from these weights."""
    path = folder / name
    if name.endswith("safetensors"):
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return {"weights": str(path), "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def weights_of(seed: int, outputs: int = 2, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return Library(**options).build(3, outputs, 32).state_dict()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_it_starts_from_the_weights_of_a_file(tmp_path: Path, name: str) -> None:
    first = weights_of(0)
    again = weights_of(1, **saved(tmp_path, first, name))
    assert all(torch.equal(again[key], first[key]) for key in first)


def test_other_classes_need_another_last_layer(tmp_path: Path) -> None:
    options = saved(tmp_path, weights_of(0))
    again, fresh, first = weights_of(1, 5, **options), weights_of(1, 5), weights_of(0)
    for key in again:
        source = fresh if key.startswith("segmentation_head.") else first
        assert torch.equal(again[key], source[key]), key


def test_the_encoder_may_come_from_a_classifier(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    classifier = resnet18(weights=None).state_dict()
    again, fresh = weights_of(1, **saved(tmp_path, classifier)), weights_of(1)
    assert all(torch.equal(again[f"encoder.{key}"], classifier[key]) for key in classifier if not key.startswith("fc."))
    rest = [key for key in again if not key.startswith("encoder.")]
    assert all(torch.equal(again[key], fresh[key]) for key in rest)


@pytest.mark.slow
def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    options = saved(tmp_path, weights_of(0, architecture="fpn"))
    with pytest.raises(UserError, match=r"weights.safetensors is of another network: \d+ missing \(decoder\."):
        weights_of(1, **options)
    grey = saved(tmp_path, Library().build(1, 2, 32).state_dict(), "grey.safetensors")
    expected = r"encoder.conv1.weight is \[64, 1, 7, 7\], and \[64, 3, 7, 7\] is needed"
    with pytest.raises(UserError, match=expected):
        weights_of(1, **grey)


def test_weights_are_the_ones_that_params_say(tmp_path: Path) -> None:
    options = {**saved(tmp_path, weights_of(0)), "weights_sha256": "0" * 64}
    with pytest.raises(UserError, match="weights_sha256"):
        weights_of(1, **options)
    with pytest.raises(ValidationError, match="weights and weights_sha256 go together"):
        Library(weights="a.safetensors")
    with pytest.raises(UserError, match="cannot be read"):
        weights_of(1, weights=str(tmp_path / "none.pth"), weights_sha256="0" * 64)


def test_a_pickle_of_more_than_tensors_is_refused(tmp_path: Path) -> None:
    options = saved(tmp_path, {"x": Path("/")}, "weights.pth")  # type: ignore[dict-item]
    with pytest.raises(UserError, match="weights"):
        weights_of(1, **options)
