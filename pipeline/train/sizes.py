"""Progressive resizing: training begins with small pictures, which cost less, and ends with pictures of full size.

What is learnt from small pictures is nearly right for larger ones, in which everything is larger too; the last epochs,
at the size that the network is used at, put the rest right.

Source: Tan, Le. EfficientNetV2: Smaller Models and Faster Training, 2021, section 4; that the last epochs are what
matters, Touvron, Vedaldi, Douze, Jegou. Fixing the train-test resolution discrepancy, 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.clashes import of_growth
from pipeline.errors import UserError
from pipeline.networks import answered, learnt_from
from pipeline.train_options import TrainOptions

FEWEST = 4
"""Pixels by which a side grows at once, at least; a compiled network is compiled again for each side."""


def side_of(options: TrainOptions, size: int, epoch: int) -> int:
    """The side of the pictures in an epoch, at most S = `size`.

    It grows evenly from the first side to S, which it has in the last epoch at the latest. Sides between these
    are multiples of the largest power of two in a seventh of S: of 32 where S is 224, and of 4 where it is 32.

    Args:
        options: with the first side, and when it has grown.
        size: S.
        epoch: 0-based.
    """
    grown = min(options.full_size_from * options.epochs, options.epochs - 1)
    if not options.first_size or epoch >= grown:
        return size
    stride = max(FEWEST, 1 << ((size // 7).bit_length() - 1)) if size >= 7 else FEWEST
    side = options.first_size + (size - options.first_size) * epoch / grown
    return max(options.first_size, int(side) // stride * stride)


def smaller(pictures: Tensor, side: int | None) -> Tensor:
    """Pictures float32 [B, C, S, S] at another side, each pixel the mean of those that it stands for; None: as is."""
    if side in (None, pictures.shape[-1]):
        return pictures
    return F.interpolate(pictures, size=(side, side), mode="bilinear", antialias=True)


def check_sides(network: nn.Module, channels: int, size: int, options: TrainOptions, model: str) -> None:
    """Let the network see a blank picture of each side that it will be trained at, and leave it as it was.

    Args:
        network: on any device.
        channels: C.
        size: S.
        options: of the training.
        model: what params call the network.

    Raises:
        UserError: it cannot take one of them, or they do not grow.
    """
    for words in of_growth(options, size):
        raise UserError(f"params.yaml: {words}")
    sides = sorted({side_of(options, size, epoch) for epoch in range(options.epochs)} - {size})
    training = {module: module.training for module in network.modules()}
    device = next(network.parameters()).device
    network.eval()  # statistics of batch normalisation stay as they are
    try:
        for side in sides:
            with torch.no_grad():
                answered(network, learnt_from(network, torch.zeros(1, channels, side, side, device=device)))
    except Exception as error:  # a matrix that does not fit is a RuntimeError, timm's own checks are assertions
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"params.yaml: train.first_size is {options.first_size}, but model {model!r}, built for pictures of "
            f"{size} pixels a side, cannot take any of {side} ({reason}).\n"
            "Set train.first_size to 0, or take a model that averages over the whole picture, such as convnet."
        ) from error
    finally:
        for module, mode in training.items():
            module.training = mode
