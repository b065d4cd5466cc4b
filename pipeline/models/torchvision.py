"""The classification architectures of torchvision, 80 of them, with fresh weights or those of a file.

Source: https://docs.pytorch.org/vision/stable/models.html, which lists the names. Nothing is ever downloaded.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import field_validator
from torch import nn

from pipeline.contracts import Output
from pipeline.models._library import known_torchvision, of_torchvision, see_small_pictures
from pipeline.models._weights import Weighted


class Config(Weighted):
    """One of torchvision's architectures."""

    gives: ClassVar[Output] = Output.VECTOR

    architecture: str
    """torchvision's name for it: `resnet18`, `mobilenet_v3_small`, `vit_b_16`."""
    small_pictures: bool = False
    """A ResNet begins with a 3 x 3 convolution that halves nothing, without pooling: for pictures of 32 pixels."""

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, architecture: str) -> str:
        return known_torchvision(architecture)

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the architecture does not take pictures of this size, or has no such beginning; or the weights
                of the file cannot be read, are others, or those of another network.
        """
        network = of_torchvision(self.architecture, channels, outputs, size)
        if self.small_pictures:
            see_small_pictures(network, self.architecture)
        return self.started(network)
