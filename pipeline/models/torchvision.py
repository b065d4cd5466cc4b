"""The classification architectures of torchvision, 80 of them, always with fresh weights.

Source: https://docs.pytorch.org/vision/stable/models.html, which lists the names. Nothing is ever downloaded.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import field_validator
from torch import Tensor, nn

from pipeline.contracts import ModelConfig, Output
from pipeline.models._library import known, refused, tried


class Config(ModelConfig):
    """One of torchvision's architectures."""

    gives: ClassVar[Output] = Output.VECTOR

    architecture: str
    """torchvision's name for it: `resnet18`, `mobilenet_v3_small`, `vit_b_16`."""

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, architecture: str) -> str:
        from torchvision import models  # late: seconds, and only for those who chose it

        return known("torchvision", architecture, models.list_models(module=models))

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the architecture does not take pictures of this size.
        """
        from torchvision import models

        try:
            network = models.get_model(
                self.architecture, weights=None, num_classes=outputs, **arguments(self.architecture, size)
            )
        except Exception as error:  # a size that the patches do not divide is an assertion or a ValueError
            raise refused(self.architecture, size, error) from error
        if channels == 1:
            network = nn.Sequential(GreyAsColour(), network)
        return tried(network, self.architecture, channels, outputs, size)


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


class GreyAsColour(nn.Module):
    """[B, 1, H, W] to [B, 3, H, W]: torchvision's networks take three channels, and have no option for it.

    The channel is repeated in the network, not in the data, so that grey pictures stay one byte a pixel until here.
    """

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        return pictures.expand(-1, 3, -1, -1)
