"""YOLO of our own: boxes from places on three maps, in one look, without anchors.

Written from papers, which are named where each part is: `_yolo/layers.py` (CSPNet, SPP), `_yolo/trunk.py` (FPN, PAN),
`_yolo/head.py` (YOLOX, Generalized Focal Loss), `_yolo/assignment.py` (TOOD), `losses/detection.py` (CIoU, distribution
focal loss).

Weights, and multiplications and additions for a picture of 640 pixels with 80 classes, as torch.utils.flop_counter
counts them:

    n    1,953,632      6.7 billion
    s    7,771,696     26.3 billion
    m   22,646,976     72.9 billion
    l   49,456,592    154.5 billion
"""

from __future__ import annotations

from torch import nn

from pipeline.models._yolo.network import Yolo
from pipeline.models._yolo.options import YoloConfig


class Config(YoloConfig):
    """Every place says what it is at, and how likely each of its four sides is how far away."""

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the backbone or its weights do not fit, or the pictures are too small.
        """
        return Yolo(self, channels, outputs, size)
