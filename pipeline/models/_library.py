"""What the families of timm and torchvision share: checking a name, and a network against the pictures it shall see."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from pipeline.errors import UserError, did_you_mean


def known(library: str, architecture: str, valid: Iterable[str]) -> str:
    """The name of an architecture, as it was given.

    Raises:
        ValueError: the library has no such one; the message names the nearest.
    """
    valid = list(valid)
    if architecture not in valid:
        near = did_you_mean(architecture, valid) or f" It has {len(valid)}, such as 'resnet18'."
        raise ValueError(f"no {library} architecture named {architecture!r}.{near}")
    return architecture


def tried(network: nn.Module, architecture: str, channels: int, outputs: int, size: int) -> nn.Module:
    """The network itself, after it answered two blank pictures: most architectures refuse a size only then.

    Raises:
        UserError: it failed, or gave anything but one vector per picture.
    """
    try:
        with torch.no_grad():
            answer = network.eval()(torch.zeros(2, channels, size, size))
    except Exception as error:  # a picture that shrinks to nothing is a RuntimeError, an assertion, or worse
        raise refused(architecture, size, error) from error
    if getattr(answer, "shape", None) != (2, outputs):
        found = list(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise UserError(
            f"params.yaml: model: {architecture} is no classifier: for 2 pictures and {outputs} classes it gives "
            f"{found}, not {[2, outputs]}. Take another architecture."
        )
    return network.train()


def refused(architecture: str, size: int, error: Exception) -> UserError:
    """The library's complaint in our words."""
    text = (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".")
    return UserError(
        f"params.yaml: model: {architecture} cannot be built for pictures of {size} pixels: {text}. "
        "Change augment.size, the architecture or its options."
    )
