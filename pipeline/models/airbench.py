"""The network of the CIFAR-10 speed runs: eight layers, whitened pictures, filters that begin by passing maps on.

Source: Jordan. 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, section 3, and its code, airbench94. The preset
`params/cifar10-speedrun.yaml` says how it is trained there. On 32-pixel pictures in colour it has 1,971,352 weights
that are learnt and costs 118 million multiplications a picture.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import ModelConfig, Output
from pipeline.errors import UserError
from pipeline.models._whitening import Whitening


class Config(ModelConfig):
    """Each group of two convolutions halves the maps; of what is left the largest value of each map is a feature."""

    gives: ClassVar[Output] = Output.VECTOR

    widths: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field((64, 256, 256), min_length=1, max_length=8)
    """Filters of each group."""
    whitened: Annotated[int, Field(ge=1, le=8)] = 2
    """Side in pixels of the patches of the training pictures that the first layer comes from."""
    logit_scale: float = Field(1 / 9, gt=0, allow_inf_nan=False)
    """What the answers are multiplied by: small ones keep the first steps from being too sure."""

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: pictures of this size cannot be halved that often.
        """
        smallest = 2 ** len(self.widths) + self.whitened - 1
        if size < smallest:
            raise UserError(
                f"params.yaml: model airbench, with {len(self.widths)} groups and patches of {self.whitened}, sees "
                f"pictures of {smallest} pixels or more, and augment.size is {size}: enlarge it, or give fewer "
                "model.widths."
            )
        return AirBench(channels, outputs, self)


class AirBench(nn.Module):
    """Pictures [B, C, S, S] to logits [B, K]."""

    def __init__(self, channels: int, outputs: int, options: Config) -> None:
        super().__init__()
        self.whitening = Whitening(channels, options.whitened)
        widths = (len(self.whitening.filters), *options.widths)
        self.groups = nn.Sequential(*(Group(*pair) for pair in pairwise(widths)))
        self.head = nn.Linear(widths[-1], outputs, bias=False)
        self.scale = options.logit_scale

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        maps: Tensor = self.groups(F.gelu(self.whitening(pictures)))
        # Not `amax`: compiled in half precision, its gradient looks for the largest value among unrounded ones, finds
        # none, and is no number.
        largest = F.max_pool2d(maps, maps.shape[2:]).flatten(1)
        logits: Tensor = self.head(largest)
        return logits * self.scale


class Group(nn.Module):
    """Two convolutions, the first of which is halved: [B, N, H, W] to [B, M, H/2, W/2], rounded down."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = Passing(inputs, outputs)
        self.first_norm = Norm(outputs)
        self.second = Passing(outputs, outputs)
        self.second_norm = Norm(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        halved = F.gelu(self.first_norm(F.max_pool2d(self.first(maps), 2)))
        return F.gelu(self.second_norm(self.second(halved)))


class Passing(nn.Conv2d):
    """3 x 3 convolution, the first of whose filters pass the incoming maps on as they are, until they have learnt."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        nn.init.dirac_(self.weight.data[:inputs])


class Norm(nn.BatchNorm2d):
    """Batch normalisation with a bias alone, and statistics that forget fast: there are few steps to learn them in."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-12, momentum=0.4)
        ones = self.weight.detach()  # without any weights, cuDNN's kernels could not be taken
        del self.weight
        self.register_buffer("weight", ones)
