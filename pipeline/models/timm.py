"""The architectures of timm (PyTorch Image Models), about 1,370 of them, always with fresh weights.

Source: Wightman. PyTorch Image Models, https://github.com/huggingface/pytorch-image-models. `timm.list_models()` lists
the names. Nothing is ever downloaded.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator
from torch import nn

from pipeline.contracts import ModelConfig, Output
from pipeline.models._library import known_timm, of_timm


class Config(ModelConfig):
    """One of timm's architectures, made for the pictures' own size and channels."""

    gives: ClassVar[Output] = Output.VECTOR

    architecture: str
    """timm's name for it, without the tag of a pretraining: `resnet18`, `convnext_atto`, `vit_tiny_patch16_224`."""
    drop_rate: float | None = Field(None, ge=0, lt=1)
    """Dropout before the last layer; null is the architecture's own."""
    drop_path_rate: float | None = Field(None, ge=0, lt=1)
    """Share of whole residual branches left out in a training step; null is the architecture's own."""

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, architecture: str) -> str:
        return known_timm(architecture)

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the architecture does not take pictures of this size, or one of the options.
        """
        options = {"drop_rate": self.drop_rate, "drop_path_rate": self.drop_path_rate}
        options = {key: value for key, value in options.items() if value is not None}
        return of_timm(self.architecture, channels, outputs, size, options)
