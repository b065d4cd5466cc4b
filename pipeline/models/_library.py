"""What builds the networks of timm and torchvision, with fresh weights, and checks them against what they shall see."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

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


def known_timm(architecture: str) -> str:
    """See `known`."""
    import timm  # late: seconds, and only for those who chose it

    return known("timm", architecture, timm.list_models())


def known_torchvision(architecture: str) -> str:
    """See `known`."""
    from torchvision import models  # late: likewise

    return known("torchvision", architecture, models.list_models(module=models))


def of_timm(architecture: str, channels: int, outputs: int, size: int, options: dict[str, Any]) -> nn.Module:
    """timm's network for pictures of S = `size`: float32 [B, C, S, S] to [B, K].

    Raises:
        UserError: the architecture does not take pictures of this size, or one of the options.
    """
    try:
        try:
            network = create(architecture, channels, outputs, {**options, "img_size": size})
        except TypeError as error:
            # Transformers must know the size, and most convolutional networks refuse to hear of it.
            if not re.search(r"unexpected keyword argument.*'img_size'", str(error)):
                raise
            network = create(architecture, channels, outputs, options)
    except Exception as error:  # timm asserts, and raises whatever comes
        raise refused(architecture, size, error) from error
    return tried(network, architecture, channels, outputs, size)


def create(architecture: str, channels: int, outputs: int, options: dict[str, Any]) -> nn.Module:
    """timm's network with fresh weights: float32 [B, C, S, S] to [B, K]."""
    import timm

    return timm.create_model(architecture, pretrained=False, in_chans=channels, num_classes=outputs, **options)


def of_torchvision(architecture: str, channels: int, outputs: int, size: int) -> nn.Module:
    """torchvision's network for pictures of S = `size`: float32 [B, C, S, S] to [B, K].

    Raises:
        UserError: the architecture does not take pictures of this size.
    """
    from torchvision import models

    try:
        network = models.get_model(architecture, weights=None, num_classes=outputs, **arguments(architecture, size))
    except Exception as error:  # a size that the patches do not divide is an assertion or a ValueError
        raise refused(architecture, size, error) from error
    if channels == 1:
        network = nn.Sequential(GreyAsColour(), network)
    return tried(network, architecture, channels, outputs, size)


def arguments(architecture: str, size: int) -> dict[str, Any]:
    """What some architectures must be told besides the number of classes."""
    if architecture in ("googlenet", "inception_v3"):
        # Their helper heads would give a tuple while training; without them there is one vector, as everywhere.
        return {"aux_logits": False, "init_weights": True}
    if architecture.startswith("vit_"):
        return {"image_size": size}
    if architecture.startswith("maxvit_"):
        return {"input_size": (size, size)}
    return {}


def see_small_pictures(network: nn.Module, architecture: str) -> None:
    """Let a ResNet begin with a 3 x 3 convolution of stride 1 in place of one of 7 x 7 and stride 2 and a pooling.

    So pictures of 32 pixels end as maps of 4, not of 1. Source: He, Zhang, Ren, Sun. Deep Residual Learning for Image
    Recognition, 2015, section 4.2.

    Args:
        network: of timm or torchvision; its first layers are replaced.
        architecture: its name.

    Raises:
        UserError: it begins otherwise.
    """
    for module in network.modules():
        first, pooling = getattr(module, "conv1", None), getattr(module, "maxpool", None)
        if isinstance(first, nn.Conv2d) and first.stride == (2, 2) and isinstance(pooling, nn.MaxPool2d):
            begin = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=first.bias is not None)
            nn.init.kaiming_normal_(begin.weight, mode="fan_out", nonlinearity="relu")
            module.conv1, module.maxpool = begin, nn.Identity()
            return
    raise UserError(
        f"params.yaml: model: small_pictures is true, but {architecture} does not begin with a convolution and a "
        "pooling that halve, as resnet18 and its kin do. Set it to false, or take another architecture."
    )


class GreyAsColour(nn.Module):
    """[B, 1, H, W] to [B, 3, H, W]: torchvision's networks take three channels, and have no option for it.

    The channel is repeated in the network, not in the data, so that grey pictures stay one byte a pixel until here.
    """

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        return pictures.expand(-1, 3, -1, -1)


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
