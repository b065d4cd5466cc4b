"""How long optimizers take to move a ResNet-18 and a ResNet-50."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import torch
import torchvision
from bench import Bench, Found
from moving import rivals
from turns import ratios, taking_turns

STEPS = 20


def optimizers(bench: Bench) -> Iterator[Found]:
    """Milliseconds of a step of each."""
    for architecture in bench.size(("resnet18", "resnet50"), ("shufflenet_v2_x0_5",)):
        network = torchvision.models.get_model(architecture, weights=None)
        network = network.to(bench.device, memory_format=torch.channels_last)
        for name, steps in rivals(network).items():
            sides = {side: bench.seconds(step, bench.size(STEPS, 1)) for side, step in steps.items()}
            found = taking_turns(sides, bench.pairs)
            yield {
                "network": architecture,
                "optimizer": name,
                **{f"ms, {side}": 1000 * statistics.median(times) for side, times in found.items()},
                **{f"{side} / convoy": ratios(found, side, "convoy") for side in found if side != "convoy"},
            }
