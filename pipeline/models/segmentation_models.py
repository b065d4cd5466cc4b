"""The architectures of segmentation-models-pytorch, each over one of some 60 encoders of its own or those of timm.

Source: Iakubovskii. Segmentation Models PyTorch, 2019, https://github.com/qubvel-org/segmentation_models.pytorch.
Nothing is ever downloaded: weights are fresh, or come from a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import field_validator
from torch import nn

from pipeline.contracts import Output
from pipeline.errors import UserError, did_you_mean
from pipeline.models._detection.weights import COUNTER, fitted, read
from pipeline.models._library import refused
from pipeline.models._weights import Weighted

ENCODER, LAST = "encoder.", "segmentation_head."


class Config(Weighted):
    """One architecture over one encoder, which is a classifier without its end.

    The weights of a file may be those of the whole network or of the encoder alone.
    """

    gives: ClassVar[Output] = Output.MAP

    architecture: str = "unet"
    """`unet`, `unetplusplus`, `fpn`, `deeplabv3`, `deeplabv3plus`, `segformer`, `linknet`, `manet`, `pan`, `pspnet`,
    `upernet` or `dpt`. Most want `augment.size` to be a multiple of 32; those that look at the picture as a whole
    (`deeplabv3`, `deeplabv3plus`, `pan`, `upernet`) want a `train.batch_size` of 2 or more."""
    encoder: str = "resnet18"
    """`resnet18`, `mobilenet_v2`, `efficientnet-b0`, `mit_b0` (which SegFormer was made with), or one of timm's as
    `tu-convnext_atto`."""

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, architecture: str) -> str:
        import segmentation_models_pytorch as library  # late: seconds, and only for those who chose it

        return _known("architecture", architecture, list(library.MODEL_ARCHITECTURES_MAPPING))

    @field_validator("encoder")
    @classmethod
    def _is_known_too(cls, encoder: str) -> str:
        import segmentation_models_pytorch as library
        import timm

        # Those that begin with `timm-` are old names of some of timm's.
        own = [name for name in library.encoders.get_encoder_names() if not name.startswith("timm-")]
        return _known("encoder", encoder, [*own, *(f"tu-{name}" for name in timm.list_models())])

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the architecture does not take pictures of this size, or this encoder; the file of weights is
                not there, is another one, or is of another network.
        """
        import segmentation_models_pytorch as library

        try:
            network: nn.Module = library.create_model(
                self.architecture, self.encoder, encoder_weights=None, in_channels=channels, classes=outputs
            )
            with torch.no_grad():
                answer = network.eval()(torch.zeros(2, channels, size, size))
        except Exception as error:  # the library raises whatever comes, and refuses a size only when it sees it
            raise refused(f"{self.architecture} over {self.encoder}", size, error) from error
        if answer.shape != (2, outputs, size, size):
            raise UserError(
                f"params.yaml: model: {self.architecture} over {self.encoder} gives a map of {list(answer.shape[2:])} "
                f"for pictures of {[size, size]}. Take another size, architecture or encoder."
            )
        if self.weights:
            take_over(network, self.weights, self.weights_sha256)
        return network.train()


def take_over(network: nn.Module, path: str, sha256: str) -> None:
    """Give a network the weights of a file: all of them, or those of the encoder.

    What more the file holds, as the end of a classifier, is left there. The last layer keeps its own weights where the
    file's are of another shape: its classes are others.

    Args:
        network: of the library; changed in place.
        path: of the file.
        sha256: of the file.

    Raises:
        UserError: the file cannot be read, is another one, or is of another network.
    """
    found, own = read(path, sha256), network.state_dict()
    if not any(name.startswith(ENCODER) for name in found):
        found = {ENCODER + name: weights for name, weights in found.items()}
        own = {name: weights for name, weights in own.items() if name.startswith(ENCODER)}
    # Old files lack the counters of steps, which change nothing.
    fitting, problems = fitted(own, found, lambda name: name.startswith(LAST) or name.endswith(COUNTER))
    if problems:
        raise UserError(
            f"params.yaml: model.weights: {path} is of another network: {'; '.join(problems)}. Take the "
            "architecture and encoder that it was made with, and pictures of as many channels."
        )
    network.load_state_dict(fitting, strict=False)


def _known(kind: str, name: str, valid: Sequence[str]) -> str:
    """The name, as it was given.

    Raises:
        ValueError: the library has no such one; the message names the nearest, or some.
    """
    if name not in valid:
        some = did_you_mean(name, valid) or f" It has {', '.join(valid[:12])}{', ...' if len(valid) > 12 else ''}"
        raise ValueError(f"no {kind} of segmentation_models_pytorch named {name!r}.{some}")
    return name
