"""Where a training is computed and with what: the same bits come from the same code, params and data only there.

Each checkpoint says where it was made. A training that is taken up elsewhere would go on to weights that neither place
alone would have come to: that is said line by line, and refused unless somebody has allowed it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import torch

from pipeline.errors import UserError
from pipeline.host import RESUME, processor
from pipeline.train_options import ComputeOptions

PACKAGES = (
    "albucore",
    "albumentations",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pytorch-metric-learning",
    "scikit-learn",
    "scipy",
    "segmentation-models-pytorch",
    "stringzilla",
    "timm",
    "torch",
    "torchvision",
    "transformers",
)
"""Whatever computes a pixel, a weight or a score."""
FREE = ("processes", "sharded")
"""Of `compute`, what may change in between: the same pictures come in the same order."""
WHERE = ("device", "threads", "loader_threads", *FREE)
"""Of `compute`, what says where to learn, and not what."""

Way = Literal["go on", "start over"]


def environment(device: torch.device, compute: ComputeOptions) -> dict[str, str]:
    """What the bits of a training depend on here.

    Args:
        device: to compute on.
        compute: what params say of it; the threads are those that torch was set up with.
    """
    found = {"device": device.type, "processor's instructions": torch.backends.cpu.get_cpu_capability()}
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
        found |= {"CUDA": str(torch.version.cuda)}
        found |= {"cuDNN": str(torch.backends.cudnn.version())}  # type: ignore[no-untyped-call]
    else:
        found |= {"processor": processor(), "threads": str(torch.get_num_threads())}
    found |= {name: str(getattr(compute, name)) for name in FREE}
    return found | {name: number for name in PACKAGES if (number := _version(name))}


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """What is not as it was, by its name: `2 then, 1 now`."""
    names = sorted({*then, *now}, key=[*now, *then].index)
    return {
        name: f"{then.get(name, 'none')} then, {now.get(name, 'none')} now"
        for name in names
        if then.get(name) != now.get(name)
    }


def way(place: str, differing: Mapping[str, str], finished: bool) -> Way:
    """How to take up a training that has a checkpoint.

    Args:
        place: that it has come to, in words.
        differing: from where the checkpoint was made, see `differences`.
        finished: whether its model has been written.

    Raises:
        UserError: it would get other bits from here on, and nobody has allowed that.
    """
    wanted = os.environ.get(RESUME, "")
    if wanted not in ("", "anyway", "anew"):
        raise UserError(f"{RESUME} is {wanted!r}; it is `anyway`, `anew`, or not set.")
    free = (*FREE, "threads") if "processes" in differing else FREE  # cores are shared out among the processes
    grave = [f"{name}: {words}" for name, words in differing.items() if name not in free]
    if not grave:
        for name, words in differing.items():
            print(f"train: {name}: {words}; that may change in between", flush=True)
        return "go on"
    if finished:
        print(f"train: the model of these params was made elsewhere ({'; '.join(grave)}); here it is trained anew")
        return "start over"
    if wanted == "anew":
        print(f"train: starts over, as told: {place} was reached elsewhere ({'; '.join(grave)})")
        return "start over"
    if wanted == "anyway":
        print(
            f"train: goes on, as told: {place} was reached elsewhere ({'; '.join(grave)}), and from here on the "
            "weights get other bits than they would have there",
            flush=True,
        )
        return "go on"
    listed = "\n".join(f"  {line}" for line in grave)
    raise UserError(
        f"train: {place} was reached elsewhere, and from here on the weights would get other bits:\n{listed}\n"
        "Put that back (`compute` in params.yaml has device and threads), or say what you want: `convoy run --resume "
        f"anyway` goes on, `convoy run --resume anew` starts over; other commands take {RESUME}=anyway or anew."
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
