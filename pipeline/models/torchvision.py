"""The classification architectures of torchvision, 80 of them, always with fresh weights.

Source: https://docs.pytorch.org/vision/stable/models.html, which lists the names. Nothing is ever downloaded.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import field_validator
from torch import nn

from pipeline.contracts import ModelConfig, Output
from pipeline.models._library import known_torchvision, of_torchvision


class Config(ModelConfig):
    """One of torchvision's architectures."""

    gives: ClassVar[Output] = Output.VECTOR

    architecture: str
    """torchvision's name for it: `resnet18`, `mobilenet_v3_small`, `vit_b_16`."""

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, architecture: str) -> str:
        return known_torchvision(architecture)

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the architecture does not take pictures of this size.
        """
        return of_torchvision(self.architecture, channels, outputs, size)
