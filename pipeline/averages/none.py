"""No average: the weights of the last step are validated and kept."""

from __future__ import annotations

from torch import nn

from pipeline.training import Average, AverageConfig


class Config(AverageConfig):
    """Nothing to choose."""

    def build(self, network: nn.Module, steps: int) -> Average | None:
        """See `AverageConfig.build`."""
        return None
