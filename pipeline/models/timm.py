"""The architectures of timm (PyTorch Image Models), about 1,370 of them, with fresh weights or those of a file.

Source: Wightman. PyTorch Image Models, https://github.com/huggingface/pytorch-image-models. `timm.list_models()` lists
the names. Nothing is ever downloaded.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, field_validator
from torch import nn

from pipeline.contracts import Output
from pipeline.models._blur import BlurPool
from pipeline.models._library import known_timm, of_timm, see_small_pictures
from pipeline.models._weights import Weighted


class Config(Weighted):
    """One of timm's architectures, made for the pictures' own size and channels."""

    gives: ClassVar[Output] = Output.VECTOR

    architecture: str
    """timm's name for it, without the tag of a pretraining: `resnet18`, `convnext_atto`, `vit_tiny_patch16_224`."""
    small_pictures: bool = False
    """A ResNet begins with a 3 x 3 convolution that halves nothing, without pooling: for pictures of 32 pixels."""
    drop_rate: float | None = Field(None, ge=0, lt=1)
    """Dropout before the last layer; null is the architecture's own."""
    drop_path_rate: float | None = Field(None, ge=0, lt=1)
    """Share of whole residual branches left out in a training step; null is the architecture's own."""
    blur: bool = False
    """Blur maps before they are halved (BlurPool), in architectures that have a place for it, timm's `aa_layer`: those
    of ResNet and EfficientNet among others."""

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, architecture: str) -> str:
        return known_timm(architecture)

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the architecture does not take pictures of this size, or one of the options, or has no such
                beginning; or the weights of the file cannot be read, are others, or those of another network.
        """
        options: dict[str, Any] = {
            "drop_rate": self.drop_rate,
            "drop_path_rate": self.drop_path_rate,
            "aa_layer": BlurPool if self.blur else None,
        }
        options = {key: value for key, value in options.items() if value is not None}
        network = of_timm(self.architecture, channels, outputs, size, options)
        if self.small_pictures:
            see_small_pictures(network, self.architecture)
        return self.started(network)
