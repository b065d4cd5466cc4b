"""What detectors see with: the layers of a classifier, up to the last map that is wanted, and our own tiny one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import UserError
from pipeline.models._detection_weights import load_weights
from pipeline.models._library import known, refused

OWN = "tiny"
TIMM = "timm/"
PROBE = 128
"""Side of the blank picture that tells the strides of a classifier's layers."""
HEADS = ("avgpool", "fc", "classifier", "dropout", "head", "heads")


class Wanted(NamedTuple):
    """A backbone, as asked for."""

    name: str
    weights: str
    sha256: str
    channels: int
    size: int


def known_backbone(name: str) -> str:
    """The name, as it was given.

    Raises:
        ValueError: there is no such backbone; the message names the nearest.
    """
    if name == OWN:
        return name
    if name.startswith(TIMM):
        import timm  # late: seconds, and only for those who chose it

        known("timm", name.removeprefix(TIMM), timm.list_models())
        return name
    from torchvision import models

    return known("torchvision", name, [OWN, *models.list_models(module=models)])


def backbone(wanted: Wanted, strides: Sequence[int]) -> nn.Module:
    """A module from pictures [B, C, S, S] to a list of maps [B, ?, S/stride, S/stride], one for each of the strides.

    Raises:
        UserError: the classifier has no map of such a stride, or the weights do not fit.
    """
    if wanted.name == OWN:
        body: nn.Module = Tiny(wanted.channels, strides)
        load_weights(body, wanted.weights, wanted.sha256, set(Tiny(wanted.channels, (2, 4, 8, 16, 32)).state_dict()))
        return body
    try:
        made = of_timm if wanted.name.startswith(TIMM) else of_torchvision
        body, names = made(wanted.name.removeprefix(TIMM), strides)
    except LookupError as error:
        raise UserError(
            f"params.yaml: model.backbone: {wanted.name} has {error}; a detector needs one at each of the strides "
            f"{', '.join(map(str, strides))}. Take another backbone, such as resnet18."
        ) from None
    except Exception as error:  # the libraries raise whatever comes
        raise refused(wanted.name, wanted.size, error) from error
    load_weights(body, wanted.weights, wanted.sha256, names)
    return body if wanted.channels == 3 else nn.Sequential(OrderedDict(colour=GreyAsColour(), body=body))


def of_torchvision(name: str, strides: Sequence[int]) -> tuple[nn.Module, set[str]]:
    """The layers of a classifier of torchvision, and the names of all of its weights.

    Raises:
        LookupError: it has no map of such a stride.
    """
    from torchvision import models

    whole = models.get_model(name, weights=None)
    layers = getattr(whole, "features", whole)
    body = Layers({key: layer for key, layer in layers.named_children() if key not in HEADS}, strides)
    return body, set(layers.state_dict())


def of_timm(name: str, strides: Sequence[int]) -> tuple[nn.Module, set[str]]:
    """The layers of a classifier of timm, and the names of all of its weights.

    Raises:
        LookupError: it has no map of such a stride.
    """
    import timm

    with torch.device("meta"):
        names = set(timm.create_model(name, pretrained=False).state_dict())
        reductions = timm.create_model(name, features_only=True, feature_cls="getter").feature_info.reduction()
    places = [
        max(index for index, stride in enumerate(reductions) if stride == wanted)
        for wanted in strides
        if wanted in reductions
    ]
    if len(places) < len(strides):
        raise LookupError(f"maps of strides {', '.join(map(str, sorted(set(reductions))))}")
    return timm.create_model(name, features_only=True, feature_cls="getter", out_indices=tuple(places)), names


class Layers(nn.Module):
    """Layers that follow one another, as far as they are needed: [B, 3, S, S] to a list of maps.

    Of the maps of one stride, the last.
    """

    def __init__(self, layers: dict[str, nn.Module], strides: Sequence[int]) -> None:
        super().__init__()
        last: dict[int, str] = {}
        maps = torch.zeros(2, 3, PROBE, PROBE)
        with torch.no_grad():
            for name, layer in layers.items():
                maps = layer.eval()(maps)
                layer.train()
                last[PROBE // maps.shape[-1] if maps.ndim == 4 else 0] = name
        if missing := [stride for stride in strides if stride not in last]:
            raise LookupError(f"no map of stride {missing[0]}")
        self.given = [last[stride] for stride in strides]
        for name, layer in layers.items():
            self.add_module(name, layer)
            if name == self.given[-1]:
                break

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """See the class."""
        maps, given = pictures, []
        for name, layer in self.named_children():
            maps = layer(maps)
            if name in self.given:
                given.append(maps)
        return given


class Tiny(nn.Module):
    """A narrow residual network: [B, C, S, S] to maps of the strides that are asked for, each halving one stage."""

    def __init__(self, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.strides = tuple(strides)
        width, stride = channels, 1
        for wider in WIDTHS:
            stride *= 2
            self.stages.append(Stage(width, wider, residual=stride > 2))
            width = wider
            if stride == strides[-1]:
                break

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """See the class."""
        maps, stride, given = pictures, 1, []
        for stage in self.stages:
            maps, stride = stage(maps), 2 * stride
            if stride in self.strides:
                given.append(maps)
        return given


WIDTHS = (16, 32, 64, 128, 128)


class Stage(nn.Module):
    """Halving, and a residual block: [B, N, H, W] to [B, M, H/2, W/2], rounded up."""

    def __init__(self, inputs: int, outputs: int, residual: bool) -> None:
        super().__init__()
        self.halving = conv(inputs, outputs, stride=2)
        self.first = conv(outputs, outputs) if residual else None
        self.second = conv(outputs, outputs) if residual else None

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        maps = F.relu(self.halving(maps))
        if self.first is None or self.second is None:
            return maps
        return F.relu(maps + self.second(F.relu(self.first(maps))))


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution and batch normalisation: [B, N, H, W] to [B, M, H/stride, W/stride], rounded up."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs))


class GreyAsColour(nn.Module):
    """[B, 1, H, W] to [B, 3, H, W]: the libraries' classifiers, and weights for them, see three channels."""

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        return pictures.expand(-1, 3, -1, -1)
