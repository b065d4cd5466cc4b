"""What detectors see with: the layers of a classifier, up to the last map that is wanted, or our own tiny network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.models._detection.tiny import STRIDES, Tiny
from pipeline.models._detection.weights import load_weights
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
        load_weights(body, wanted.weights, wanted.sha256, set(Tiny(wanted.channels, STRIDES).state_dict()))
        return body
    try:
        if wanted.name.startswith(TIMM):
            body, layers, names = of_timm(wanted.name.removeprefix(TIMM), strides)
        else:
            body, layers, names = of_torchvision(wanted.name, strides)
    except LookupError as error:
        raise UserError(
            f"params.yaml: model.backbone: {wanted.name} has {error}; a detector needs maps of the strides "
            f"{', '.join(map(str, strides))}. Take another backbone, such as resnet18."
        ) from None
    except Exception as error:  # the libraries raise whatever comes
        raise refused(wanted.name, wanted.size, error) from error
    load_weights(layers, wanted.weights, wanted.sha256, names)
    return body if wanted.channels == 3 else nn.Sequential(OrderedDict(colour=GreyAsColour(), body=body))


def of_torchvision(name: str, strides: Sequence[int]) -> tuple[nn.Module, nn.Module, set[str]]:
    """The backbone, its layers as torchvision names them, and the names of all weights of that classifier.

    Raises:
        LookupError: it has no map of such a stride.
    """
    from torchvision import models

    whole = models.get_model(name, weights=None)
    layers = getattr(whole, "features", whole)
    body = Layers({key: layer for key, layer in layers.named_children() if key not in HEADS}, strides)
    return body, body, set(layers.state_dict())


def of_timm(name: str, strides: Sequence[int]) -> tuple[nn.Module, nn.Module, set[str]]:
    """The backbone, its layers as timm names them, and the names of all weights of that classifier.

    Raises:
        LookupError: it has no map of such a stride.
    """
    import timm

    with torch.device("meta"):
        names = set(timm.create_model(name, pretrained=False).state_dict())
        seen: list[int] = maps_of_timm(name).feature_info.reduction()
    if missing := [stride for stride in strides if stride not in seen]:
        raise LookupError(f"no map of stride {missing[0]}")
    places = [max(place for place, stride in enumerate(seen) if stride == wanted) for wanted in strides]
    body = maps_of_timm(name, out_indices=places)
    return body, body.model, names


def maps_of_timm(name: str, **more: Any) -> Any:
    """A classifier of timm that gives its maps, with fresh weights."""
    import timm

    return timm.create_model(name, pretrained=False, features_only=True, feature_cls="getter", **more)


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


class GreyAsColour(nn.Module):
    """[B, 1, H, W] to [B, 3, H, W]: the libraries' classifiers, and weights for them, see three channels."""

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        return pictures.expand(-1, 3, -1, -1)
