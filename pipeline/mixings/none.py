"""No blending: each picture is learnt as it is."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from pipeline.contracts import Target
from pipeline.training import MixingConfig


class Config(MixingConfig):
    """Nothing to choose."""

    takes: ClassVar[frozenset[Target]] = frozenset(Target)
    blends: ClassVar[bool] = False

    def mixed(
        self, pictures: Tensor, targets: Tensor, random: np.random.Generator
    ) -> tuple[Tensor, list[tuple[Tensor, float]]]:
        """See `MixingConfig.mixed`: the same."""
        return pictures, [(targets, 1.0)]
