"""What repeatable operations cost: steps with them, without, and with kernels that cuDNN has tried."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

from bench import Bench, Found, as_it_comes
from machines import machine, work
from turns import ratios, taking_turns

from pipeline.train.machine import Arithmetic

STEPS = 10
LOCATED = ("data={name: coco, path: none}", "augment.frame=pad")
MASKS = (*LOCATED, "task={name: semantic_segmentation, score: mean_iou}")
BOXES = (*LOCATED, "task={name: object_detection, score: map}", "loss={name: detection}")
CASES: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[str, ...]]] = {
    "resnet18": ((256, 128), (4, 32), ("model={name: torchvision, architecture: resnet18}",)),
    "resnet50": ((128, 224), (2, 32), ("model={name: torchvision, architecture: resnet50}",)),
    "unet": ((32, 256), (2, 32), (*MASKS, "model={name: unet, width: 32}")),
    "fcos": ((16, 320), (2, 64), (*BOXES, "model={name: fcos}")),
    "yolo": ((32, 320), (2, 64), (*BOXES, "model={name: yolo}")),
}
"""Pictures in a batch and their side, the same for a rehearsal, and what learns."""
CLASSES = 10


def determinism(bench: Bench) -> Iterator[Found]:
    """Milliseconds of a step of Convoy's, bfloat16 and channels last."""
    for name, (real, small, changes) in CASES.items():
        given = work(bench, bench.size(real, small), CLASSES, *changes)
        step = machine(bench, given, Arithmetic("bfloat16", "channels_last"))
        sides = {
            "repeatable": bench.seconds(step, bench.size(STEPS, 1)),
            "not": _without(bench, step, searching=False),
            "not, and kernels tried": _without(bench, step, searching=True),
        }
        found = taking_turns(sides, bench.pairs)
        yield {
            "network": name,
            "pictures": list(bench.size(real, small)),
            **{f"ms, {side}": 1000 * statistics.median(times) for side, times in found.items()},
            "repeatable / not": ratios(found, "repeatable", "not"),
            "repeatable / not, and kernels tried": ratios(found, "repeatable", "not, and kernels tried"),
        }


def _without(bench: Bench, step: Callable[[], object], searching: bool) -> Callable[[], float]:
    with as_it_comes(searching):
        made = bench.seconds(step, bench.size(STEPS, 1))

    def turn() -> float:
        with as_it_comes(searching):
            return made()

    return turn
