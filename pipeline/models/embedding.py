"""An embedding of each picture: any classifier, whose last layer gives directions instead of classes.

Source: the last layer is linear with batch normalisation after it, as option E of Deng, Guo, Xue, Zafeiriou. ArcFace:
Additive Angular Margin Loss for Deep Face Recognition, 2019, section 3.2.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import ModelConfig, Output
from pipeline.models._convnet import Layout, convnet
from pipeline.models._library import known_timm, known_torchvision, of_timm, of_torchvision
from pipeline.networks import Deciding

OWN = "convnet"
LIBRARIES = {"timm": known_timm, "torchvision": known_torchvision}


class Config(ModelConfig):
    """The length of an embedding is an option of the task: `task.embedding`."""

    gives: ClassVar[Output] = Output.EMBEDDING

    backbone: str = OWN
    """`convnet`, or an architecture of a library: `timm/resnet18`, `torchvision/mobilenet_v3_small`."""
    width: int | None = Field(None, ge=1, le=1024)
    """Of the convnet alone: filters of its first layer; null is 32."""
    depth: int | None = Field(None, ge=0, le=64)
    """Of the convnet alone: residual blocks after each halving; null is 1."""

    @field_validator("backbone")
    @classmethod
    def _is_known(cls, backbone: str) -> str:
        library, slash, architecture = backbone.partition("/")
        if backbone == OWN:
            return backbone
        if not slash or library not in LIBRARIES:
            raise ValueError(f"expected {OWN}, timm/NAME or torchvision/NAME; found {backbone!r}")
        LIBRARIES[library](architecture)
        return backbone

    @model_validator(mode="after")
    def _fits(self) -> Config:
        if self.backbone != OWN and (self.width, self.depth) != (None, None):
            raise ValueError(f"width and depth are of the backbone {OWN}, and it is {self.backbone!r}; leave them out")
        return self

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the architecture does not take pictures of this size.
        """
        library, _, architecture = self.backbone.partition("/")
        if library == "timm":
            return Embedding(of_timm(architecture, channels, outputs, size, {}), outputs)
        if library == "torchvision":
            return Embedding(of_torchvision(architecture, channels, outputs, size), outputs)
        width, depth = self.width or 32, 1 if self.depth is None else self.depth
        layers, features = convnet(channels, size, Layout(width, depth))
        # The normalisation after it has the bias.
        return Embedding(nn.Sequential(*layers, nn.Linear(features, outputs, bias=False)), outputs)


class Embedding(Deciding):
    """Pictures float32 [B, C, S, S] to directions float32 [B, E]; learnt from before they are at length 1."""

    def __init__(self, network: nn.Module, outputs: int) -> None:
        """From a network that gives E = `outputs` numbers of a picture."""
        super().__init__()
        self.network = network
        self.norm = nn.BatchNorm1d(outputs)

    def raw(self, pictures: Tensor) -> Tensor:
        """See `Deciding.raw`: of any length."""
        numbers: Tensor = self.norm(self.network(pictures))
        return numbers

    def answer(self, raw: Tensor) -> Tensor:
        """See `Deciding.answer`: at length 1."""
        return F.normalize(raw.float())
