"""A first layer that nobody has to learn: the directions in which small patches of the training pictures vary.

Source: Jordan. 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, section 3.2, after David
Page's How to Train Your ResNet, 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.networks import Informed

EPSILON = 5e-4
"""Added to variances, so that what hardly varies is not blown up."""
AT_ONCE = 256
"""Pictures whose patches are laid out at a time."""


class Whitening(Informed):
    """Pictures [B, C, S, S] to maps [B, 2 C n^2, S - n + 1, S - n + 1], for patches of n x n pixels.

    Each direction has two maps, of one sign and of the other, so that what follows may cut off what is negative. Before
    it has seen pictures, it gives the pixels of patches as they are.
    """

    def __init__(self, channels: int, side: int = 2) -> None:
        super().__init__()
        pixels = torch.eye(channels * side**2).view(-1, channels, side, side)
        self.filters = nn.Buffer(torch.cat([pixels, -pixels]))
        self.bias = nn.Parameter(torch.zeros(len(self.filters)))

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        return F.conv2d(pictures, self.filters, self.bias)

    def learn_from(self, pictures: Tensor) -> None:
        """See `Informed.learn_from`."""
        half, side = len(self.filters) // 2, self.filters.shape[-1]
        products, count = torch.zeros(half, half, dtype=torch.float64), 0
        for some in torch.split(pictures, AT_ONCE):
            patches = F.unfold(some.double(), side).transpose(1, 2).reshape(-1, half)
            products += patches.T @ patches
            count += len(patches)
        variances, directions = torch.linalg.eigh(products / count)
        filters = (directions / (variances + EPSILON).sqrt()).T.view(half, -1, side, side)
        self.filters.copy_(torch.cat([filters, -filters]))
