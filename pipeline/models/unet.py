"""U-Net: down a ladder of ever coarser maps and up again, with a rung across at every level.

Source: Ronneberger, Fischer, Brox. U-Net: Convolutional Networks for Biomedical Image Segmentation, 2015, figure 1 and
section 3 (first weights). For one channel and two classes it has 31 million weights.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.contracts import ModelConfig, Output
from pipeline.errors import UserError


class Config(ModelConfig):
    """The network of the paper, but for three things.

    The paper's convolutions see only whole neighbourhoods, so that its map is 92 pixels a side smaller than the part of
    the picture that it can answer for; here they are padded with zeros, and the map is as large as the picture. Each is
    followed by batch normalisation, unless `batch_norm` is off. Dropout at the bottom is there, and off.
    """

    gives: ClassVar[Output] = Output.MAP

    width: int = Field(64, ge=1, le=1024)
    """Filters of the first level; each lower one has twice as many. Half the width is a quarter of the cost."""
    depth: int = Field(4, ge=1, le=8)
    """How often the picture is halved; its side must be divisible by 2 to this power."""
    batch_norm: bool = True
    """Off, as in the paper, training from scratch is slow and needs a small learning rate."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the features that the end of the way down does not get to see in a training step."""

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: `size` cannot be halved so often.
        """
        step = 2**self.depth
        if size % step:
            near = " or ".join(str(side) for side in (size // step * step, (size // step + 1) * step) if side)
            raise UserError(
                f"params.yaml: model: a unet of depth {self.depth} sees pictures of a multiple of {step} pixels, and "
                f"augment.size is {size}: set augment.size to {near}, or model.depth lower."
            )
        network = UNet(channels, outputs, self)
        network.apply(_first_weights)
        return network


class UNet(nn.Module):
    """float32 [B, C, S, S] to logits [B, K, S, S]."""

    def __init__(self, channels: int, outputs: int, options: Config) -> None:
        super().__init__()
        widths = [options.width * 2**level for level in range(options.depth + 1)]
        befores = [channels, *widths]
        self.down = nn.ModuleList(_double(befores[level], width, options) for level, width in enumerate(widths))
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(options.dropout)
        levels = list(reversed(range(options.depth)))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(widths[level + 1], widths[level], 2, 2) for level in levels)
        self.up = nn.ModuleList(_double(2 * widths[level], widths[level], options) for level in levels)
        self.last = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        maps, rungs = self.down[0](pictures), []
        for block in list(self.down)[1:]:
            rungs.append(maps)
            maps = block(self.pool(maps))
        maps = self.drop(maps)
        for grow, block in zip(self.grow, self.up, strict=True):
            maps = block(torch.cat([rungs.pop(), grow(maps)], dim=1))
        logits: Tensor = self.last(maps)
        return logits


def _double(before: int, width: int, options: Config) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with its ReLU: [B, N, H, W] to [B, M, H, W]."""
    layers: list[nn.Module] = []
    for inputs in (before, width):
        layers.append(nn.Conv2d(inputs, width, 3, padding=1, bias=not options.batch_norm))
        layers += [nn.BatchNorm2d(width)] if options.batch_norm else []  # it has the bias
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _first_weights(layer: nn.Module) -> None:
    """Normal, with variance 2 over the numbers that go into one neuron, so that no level fades: section 3."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        # Of an up-convolution of stride 2, each result sees one place of the map below.
        seen = layer.in_channels * (1 if isinstance(layer, nn.ConvTranspose2d) else layer.kernel_size[0] ** 2)
        nn.init.normal_(layer.weight, std=(2 / seen) ** 0.5)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
