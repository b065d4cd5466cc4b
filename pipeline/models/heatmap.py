"""A network of heatmaps: down a ladder of ever coarser maps, up again, and for each point how likely it is where.

Sources: Xiao, Wu, Wei. Simple Baselines for Human Pose Estimation and Tracking, 2018, section 2 (the way up, by
deconvolutions of 4 x 4); Lin et al. Feature Pyramid Networks for Object Detection, 2017, figure 3 (what was seen on the
way down is added on the way up); Sun, Xiao, Wei, Liang, Wei. Integral Human Pose Regression, 2018 (a place is the mean
of a map, which is not bound to the grid).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from pipeline.contracts import ModelConfig, Output
from pipeline.errors import UserError
from pipeline.models._library import known, refused
from pipeline.networks import Deciding, Pointing


class Config(ModelConfig):
    """Maps over a grid of cells of `stride` pixels; of each the softmax over the cells is where its point may be.

    The answer is the mean of the map around its surest cell, and the score the share of the map that lies there.
    """

    gives: ClassVar[Output] = Output.POINTS

    backbone: str = ""
    """The way down: timm's name of an architecture with maps, as `resnet18`; empty: our own, of a few residual blocks,
    for small pictures and few of them."""
    width: int = Field(32, ge=4, le=512)
    """Filters of the first level of our own; each lower one has twice as many."""
    depth: int = Field(4, ge=1, le=6)
    """How often our own halves the picture."""
    stride: Literal[2, 4, 8] = 4
    """Pixels of the picture per cell of the maps, along each axis."""
    features: int = Field(64, ge=4, le=1024)
    """Filters on the way up."""
    margin: int = Field(2, ge=0, le=16)
    """Cells of the maps beyond each edge of the picture: a point there can be told too, and one at the edge has room
    around it."""
    radius: int = Field(3, ge=1, le=64)
    """Cells around the surest one whose mean is the answer: three times `loss.sigma` hold a whole Gaussian. As many as
    the map has take the mean of all of it, as the losses of distances do."""

    @field_validator("backbone")
    @classmethod
    def _is_known(cls, backbone: str) -> str:
        if not backbone:
            return backbone
        import timm  # late: seconds, and only for those who chose it

        return known("timm", backbone, timm.list_models())

    @model_validator(mode="after")
    def _fits(self) -> Config:
        for name in ("width", "depth"):
            found = getattr(self, name)
            if self.backbone and found != type(self).model_fields[name].default:
                raise ValueError(f"{name} is {found}, which is of our own way down, and backbone is set; leave it out")
        return self

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the pictures are too small, or the backbone cannot be used.
        """
        if size < 2**self.depth and not self.backbone:
            raise UserError(
                f"params.yaml: model: a picture of {size} pixels cannot be halved {self.depth} times: set model.depth "
                "lower, or augment.size higher."
            )
        try:
            down = _library(self.backbone, channels, self.stride) if self.backbone else self._own(channels)
            widths = [maps.shape[1] for maps in _tried(down, channels, size + 2 * self.margin * self.stride)]
        except UserError:
            raise
        except Exception as error:  # whatever timm raises
            raise refused(self.backbone, size, error) from error
        return Heatmaps(down, widths, outputs, self)

    def _own(self, channels: int) -> nn.Module:
        levels = max(self.depth, self.stride.bit_length() - 1)
        return Ladder(channels, [self.width * 2**level for level in range(levels)], self.stride)


class Heatmaps(Deciding):
    """float32 [B, C, S, S] to places and scores [B, J, 3], by maps [B, J, h, w]."""

    def __init__(self, down: nn.Module, widths: Sequence[int], outputs: int, options: Config) -> None:
        super().__init__()
        self.radius = options.radius
        self.margin = options.margin * options.stride
        self.down = down
        self.first = _convolution(widths[-1], options.features, 1)
        self.up = nn.ModuleList(_growing(options.features) for _ in widths[1:])
        self.across = nn.ModuleList(nn.Conv2d(width, options.features, 1) for width in reversed(widths[:-1]))
        self.joined = nn.ModuleList(_convolution(options.features, options.features, 3) for _ in widths[1:])
        self.last = nn.Conv2d(options.features, outputs, 1)
        nn.init.normal_(self.last.weight, std=0.01)  # at first every cell is as likely as any other

    def raw(self, pictures: Tensor) -> Pointing:
        """See `Deciding.raw`."""
        *above, maps = self.down(nn.functional.pad(pictures, [self.margin] * 4))
        maps = self.first(maps)
        for grow, across, joined in zip(self.up, self.across, self.joined, strict=True):
            seen = above.pop()
            maps = joined(grow(maps)[:, :, : seen.shape[2], : seen.shape[3]] + across(seen))
        logits = self.last(maps).float()
        shares = logits.flatten(2).softmax(dim=2).view_as(logits)
        side = pictures.shape[-1]
        return Pointing(_mean(shares, side, self.margin), side, logits, self.margin)

    def answer(self, raw: Pointing) -> Tensor:
        """See `Deciding.answer`."""
        assert raw.maps is not None
        width = raw.maps.shape[3]
        shares = raw.maps.flatten(2).softmax(dim=2)
        surest = shares.argmax(dim=2)
        near = [
            (torch.arange(count, device=surest.device) - at[..., None]).abs() <= self.radius
            for at, count in ((surest // width, raw.maps.shape[2]), (surest % width, width))
        ]
        around = shares.view_as(raw.maps) * near[0][..., :, None] * near[1][..., None, :]
        scores = around.sum(dim=(2, 3))
        places = _mean(around / scores[..., None, None], raw.side, raw.margin)
        return torch.cat([places, scores[..., None]], dim=2)


class Ladder(nn.Module):
    """float32 [B, C, S, S] to maps of every level from `stride` on, each half as large as the one before."""

    def __init__(self, channels: int, widths: Sequence[int], stride: int) -> None:
        super().__init__()
        befores = [channels, *widths]
        self.levels = nn.ModuleList(
            nn.Sequential(_convolution(before, width, 3, stride=2), Residual(width))
            for before, width in zip(befores, widths, strict=False)
        )
        self.kept = stride.bit_length() - 2

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """See the class."""
        maps, found = pictures, []
        for level in self.levels:
            maps = level(maps)
            found.append(maps)
        return found[self.kept :]


class Residual(nn.Module):
    """Maps [B, N, H, W] and what two convolutions add to them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width, 3)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        added: Tensor = (maps + self.second(self.first(maps))).relu()
        return added


def _mean(shares: Tensor, side: int, margin: int) -> Tensor:
    """Where the mean of maps [B, J, h, w], each of which sums to 1, lies in pixels of the picture: [B, J, 2]."""
    places = []
    for axis, count in ((2, shares.shape[3]), (3, shares.shape[2])):
        cells = torch.arange(count, device=shares.device, dtype=shares.dtype)
        middles = (cells + 0.5) * ((side + 2 * margin) / count) - margin
        places.append((shares.sum(dim=axis) * middles).sum(dim=2))
    return torch.stack(places, dim=2)


def _convolution(before: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, width, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())


def _growing(width: int) -> nn.Sequential:
    """Maps twice as large."""
    return nn.Sequential(
        nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )


def _library(backbone: str, channels: int, stride: int) -> nn.Module:
    """timm's network without its head: the maps of its levels from `stride` on."""
    import timm

    whole = timm.create_model(backbone, pretrained=False, in_chans=channels, features_only=True)
    steps: list[int] = whole.feature_info.reduction()  # type: ignore[union-attr, operator]
    chosen = [place for place, step in enumerate(steps) if step >= stride]
    if not chosen or steps[chosen[0]] != stride:
        found = ", ".join(map(str, steps))
        raise UserError(
            f"params.yaml: model.stride: {backbone} has no map of {stride} pixels a cell, but of {found}. Take one of "
            "these, or another backbone."
        )
    return timm.create_model(backbone, pretrained=False, in_chans=channels, features_only=True, out_indices=chosen)


def _tried(down: nn.Module, channels: int, size: int) -> list[Tensor]:
    """The maps of two blank pictures."""
    with torch.no_grad():
        maps: list[Tensor] = list(down.eval()(torch.zeros(2, channels, size, size)))
    down.train()
    return maps
