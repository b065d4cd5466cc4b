"""RoIAlign with a gradient that is repeatable on a GPU, beside torchvision's."""

from __future__ import annotations

import pytest
import torch
from imagined_gpu import GPU, imagined, sent
from torchvision.ops import roi_align

from pipeline.devices import set_up
from pipeline.models._detection import repeatable
from pipeline.models._detection.regions import Regions, features_of
from pipeline.models._detection.repeatable import aligned

PLACES = [
    [0.0, 0.0, 96.0, 64.0],  # all of the map
    [10.3, 20.6, 30.9, 50.2],
    [-40.0, -30.0, 20.0, 10.0],  # beyond both edges
    [80.0, 50.0, 200.0, 150.0],
    [33.0, 33.0, 33.0, 33.0],  # without area
    [60.0, 20.0, 40.0, 10.0],  # inverted
    [95.9, 63.9, 96.1, 64.1],
]


def regions(seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    corners = 110 * torch.rand(60, 2, 2, generator=random, dtype=torch.float64) - 10
    drawn = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
    boxes = torch.cat([drawn, torch.tensor(PLACES, dtype=torch.float64)]).float()
    return torch.cat([torch.randint(3, (len(boxes), 1), generator=random).float(), boxes], dim=1)


@pytest.mark.parametrize(("bins", "samples"), [(7, 2), (14, 2), (3, 1)])
@pytest.mark.parametrize("at_once", [2**26, 1])
def test_values_and_gradients_are_those_of_torchvision(
    monkeypatch: pytest.MonkeyPatch, bins: int, samples: int, at_once: int
) -> None:
    monkeypatch.setattr(repeatable, "AT_ONCE", at_once)
    maps = torch.randn(3, 5, 16, 24, generator=torch.Generator().manual_seed(1))
    ours, theirs = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    found = aligned(ours, regions(0), bins, 0.25, samples)
    expected = roi_align(theirs, regions(0), bins, spatial_scale=0.25, sampling_ratio=samples)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    towards = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    found.backward(towards)
    expected.backward(towards)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)


def test_of_no_region_there_is_nothing() -> None:
    maps = torch.randn(1, 5, 16, 24, requires_grad=True)
    found = aligned(maps, torch.zeros(0, 5), 7, 0.25, 2)
    assert found.shape == (0, 5, 7, 7)
    found.sum().backward()
    assert maps.grad is not None and not maps.grad.any()


def test_half_precision_is_computed_in_full() -> None:
    maps = torch.randn(3, 5, 16, 24, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = aligned(maps, regions(0), 7, 0.25, 2)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, aligned(maps.float(), regions(0), 7, 0.25, 2).bfloat16())


def test_on_a_gpu_nothing_is_compiled_refused_or_waited_for() -> None:
    maps = [torch.randn(3, 5, side, side, generator=torch.Generator().manual_seed(side)) for side in (32, 16)]
    rows = regions(0)
    on = Regions.of(rows[:, 1:], rows[:, 0].long(), (4, 8))
    expected = features_of(maps, (4, 8), on)
    with imagined() as watch:
        set_up("cuda", 1)
        there = [sent(each).requires_grad_() for each in maps]
        seen = Regions(on.boxes.to(GPU), on.pictures.to(GPU), [each.to(GPU) for each in on.on_maps])
        watch.waits.clear()
        watch.strict = True
        found = features_of(there, (4, 8), seen)
        found.sum().backward()
        assert not watch.waits and not watch.refused
        torch.testing.assert_close(found.detach().cpu(), expected, rtol=1e-5, atol=1e-5)
    torch.set_deterministic_debug_mode("default")
