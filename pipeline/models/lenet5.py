"""LeNet-5: the convolutional network that read cheques in 1998, about 60,000 weights.

Source: LeCun, Bottou, Bengio, Haffner. Gradient-Based Learning Applied to Document Recognition, 1998, section II.B.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import ModelConfig, Output
from pipeline.errors import UserError

SIDE = 32
C3_INPUTS = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),  # three neighbours
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),  # four neighbours
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)
"""Table I of the paper: which of the 6 maps of S2 each of the 16 maps of C3 sees."""


class Config(ModelConfig):
    """LeNet-5 as in the paper, for pictures of 32 x 32 pixels, but for two things.

    The paper's output layer measures the distance to a fixed drawing of each digit; here it is a linear layer, which
    gives logits for any K. Colour pictures are taken too: C1 then sees three channels instead of one.
    """

    gives: ClassVar[Output] = Output.VECTOR

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: `size` is not 32.
        """
        if size != SIDE:
            raise UserError(
                f"params.yaml: model: lenet5 sees 32-pixel pictures, and augment.size is {size}: "
                "set augment.size to 32, or take another model."
            )
        return LeNet5(channels, outputs)


class LeNet5(nn.Module):
    """float32 [B, C, 32, 32] to logits [B, K]."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(channels, 6, 5)
        self.s2 = Subsampling(6)
        self.c3 = TableConv()
        self.s4 = Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, outputs)

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        maps = squash(self.s2(squash(self.c1(pictures))))  # [B, 6, 14, 14]
        maps = squash(self.s4(squash(self.c3(maps))))  # [B, 16, 5, 5]
        features = squash(self.f6(squash(self.c5(maps)).flatten(1)))
        logits: Tensor = self.output(features)
        return logits


class Subsampling(nn.Module):
    """The mean of each 2 x 2 square, times a weight, plus a bias, both of the map.

    The paper adds the four up; its weight is a quarter of ours, so both can say the same. Ours starts at 1.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(maps))
        self.bias = nn.Parameter(torch.zeros(maps))

    def forward(self, maps: Tensor) -> Tensor:
        """[B, M, H, W] to [B, M, H/2, W/2]."""
        return F.avg_pool2d(maps, 2) * self.weight[:, None, None] + self.bias[:, None, None]


class TableConv(nn.Module):
    """C3: a 5 x 5 convolution whose maps each see only some of the maps before, as `C3_INPUTS` says."""

    places: Tensor

    def __init__(self) -> None:
        super().__init__()
        pairs = [(output, seen) for output, row in enumerate(C3_INPUTS) for seen in row]
        # Only the 60 kernels that exist are weights; the rest of the [16, 6] table stays zero.
        self.register_buffer("places", torch.tensor([output * 6 + seen for output, seen in pairs]), persistent=False)
        bounds = torch.tensor([(len(C3_INPUTS[output]) * 25) ** -0.5 for output, _ in pairs])
        self.weight = nn.Parameter((torch.rand(len(pairs), 25) * 2 - 1) * bounds[:, None])
        self.bias = nn.Parameter(torch.zeros(len(C3_INPUTS)))

    def forward(self, maps: Tensor) -> Tensor:
        """[B, 6, 14, 14] to [B, 16, 10, 10]."""
        table = self.weight.new_zeros(len(C3_INPUTS) * 6, 25).index_copy(0, self.places, self.weight)
        return F.conv2d(maps, table.view(len(C3_INPUTS), 6, 5, 5), self.bias)


def squash(sums: Tensor) -> Tensor:
    """The paper's sigmoid, which maps 1 to 1 and -1 to -1 (its appendix A)."""
    return 1.7159 * torch.tanh(sums * (2 / 3))
