"""Faster R-CNN: a first stage proposes regions that may hold an object, a second one says what is in them.

Source: Ren, He, Girshick, Sun. Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, 2015;
see `_detection/two_stages.py`.
"""

from __future__ import annotations

from torch import nn

from pipeline.models._detection.two_stages import TwoStageConfig


class Config(TwoStageConfig):
    """One size of anchors on each map, in three shapes."""

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the backbone or its weights do not fit, or the pictures are too small.
        """
        return self.two_stages(channels, outputs, size)
