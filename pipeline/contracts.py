"""The nouns that every room shares: axis letters, what a part gives and takes, and the base of each part's options.

Axis letters, in shapes everywhere:
    B  images of a batch          N  images of a split        K  classes
    C  channels (1 or 3)          H  height, W  width         P  side of a packed picture
    R  resamples of a bootstrap   S  side of the picture that a network sees

This module imports no torch: the door checks a `params.yaml` without it wherever it can.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from torch import nn
    from torch.optim import Optimizer

SPLITS = ("train", "val", "test")


class Target(StrEnum):
    """What is known about an image, and so what can be learnt from it."""

    LABEL = "one class per image, int64 [B]"
    MASK = "one class per pixel, int64 [B, H, W]"


class Output(StrEnum):
    """What a network says about an image."""

    VECTOR = "one vector per image [B, K]"
    MAP = "one vector per pixel [B, K, H, W]"


class Options(BaseModel):
    """Options of a part or a section of `params.yaml`: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True)


@dataclass(frozen=True)
class Found:
    """One file that a format found in the source."""

    name: str
    """Where it lies in the source, with forward slashes: `train/cat/1.jpg`."""
    data: bytes
    """The encoded picture, as it lies there."""
    annotation: Mapping[Target, Any]
    """What the source says of it: the class name under `Target.LABEL`."""
    split: str | None = None
    """`train`, `val` or `test` where the source says so."""
    group: str | None = None
    """Pictures of one group (a person, a patient) are never parted between splits."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What else is known of it, to slice the scores by: text under each name, empty where nothing is known."""


@dataclass(frozen=True)
class LeftOut:
    """One file of the source that is no sample, and why."""

    name: str
    reason: str


class FormatConfig(Options):
    """A dataset format: `pipeline/formats/<name>.py`."""

    gives: ClassVar[frozenset[Target]]

    @abstractmethod
    def fingerprint(self) -> Iterator[str]:
        """One line per file of the source (name, size, time), cheap: a walk over the names, no file is read.

        Raises:
            UserError: the source is missing, or is not of this format.
        """

    def listing(self) -> Iterator[str]:
        """One line per sample, which changes when the sample does: for counting how many are new.

        What `fingerprint` gives, where that is one line per sample and no more.

        Raises:
            UserError: the source is missing, damaged, or is not of this format.
        """
        yield from self.fingerprint()

    @abstractmethod
    def read(self) -> Iterator[Found | LeftOut]:
        """Every file of the source once, in any order.

        Raises:
            UserError: the source is missing, empty, or is not of this format.
        """


class TaskConfig(Options):
    """A vision task: `pipeline/tasks/<name>.py`."""

    learns: ClassVar[Target]
    needs: ClassVar[Output]
    score: str
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""

    @abstractmethod
    def classes(self, annotations: Iterable[Any]) -> list[str]:
        """The class names, in the order of their ids."""

    @abstractmethod
    def columns(self, annotation: Any, classes: Sequence[str]) -> dict[str, Any]:
        """The columns of `samples.parquet` that hold one annotation."""

    @abstractmethod
    def stratum(self, annotation: Any) -> str:
        """What the splits are balanced over."""

    @abstractmethod
    def targets(self, samples: pa.Table) -> np.ndarray:
        """What the network learns from, one entry per row: int64 [N] for labels."""

    @abstractmethod
    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Raw outputs float32 [N, K] to probabilities float64 [N, K]."""

    @abstractmethod
    def baseline(self, train_targets: np.ndarray, classes: int, count: int) -> np.ndarray:
        """The answers of a model that never looks at a picture: probabilities float64 [count, K]."""


class ModelConfig(Options):
    """A network architecture, or one library's family of them: `pipeline/models/<name>.py`."""

    gives: ClassVar[Output]

    @abstractmethod
    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """A fresh network, initialised from torch's global generator.

        Args:
            channels: C of the pictures, 1 or 3.
            outputs: K.
            size: S, the side in pixels of the square pictures it will see.

        Returns:
            A module from float32 [B, C, S, S] to logits, as `gives` says.
        """


class LossConfig(Options):
    """A loss: `pipeline/losses/<name>.py`."""

    takes: ClassVar[frozenset[tuple[Output, Target]]]

    @abstractmethod
    def build(self, counts: Sequence[int]) -> nn.Module:
        """A module from (logits, targets) to the mean loss of the batch, a scalar.

        Args:
            counts: training images of each class, K of them; weights come from here.
        """


class MetricConfig(Options):
    """A score of probabilities against labels: `pipeline/metrics/<name>.py`."""

    takes: ClassVar[Target]
    title: ClassVar[str]
    """As a person reads it: `Balanced accuracy`."""
    higher_is_better: ClassVar[bool]

    @abstractmethod
    def score(self, probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The score under each of R weightings of the images: a bootstrap is a weighting by counts.

        Args:
            probabilities: float64 [N, K], rows sum to 1.
            labels: int64 [N], each in 0..K-1.
            weights: float64 [R, N], >= 0; a row of ones is the plain score.

        Returns:
            float64 [R]; nan where a weighting leaves the score undefined.
        """


class OptimizerConfig(Options):
    """An optimizer: `pipeline/optimizers/<name>.py`."""

    lr: float

    @abstractmethod
    def build(self, groups: list[dict[str, Any]]) -> Optimizer:
        """The optimizer over parameter groups, as torch's optimizers take them.

        Args:
            groups: filters and matrices as {"params": [...]}, which take every option of this part, and norms and
                biases as {"params": [...], "weight_decay": 0.0}, which never decay. A group without weights is left
                out, so there may be one alone.
        """


class ScheduleConfig(Options):
    """How the learning rate moves: `pipeline/schedules/<name>.py`."""

    @abstractmethod
    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """What the base learning rate is multiplied by at optimizer step `step` (0-based)."""


class Transform(Options):
    """One random change to a training picture, by its name in the augmentation library."""

    name: str
    arguments: dict[str, Any] = {}


class PolicyConfig(Options):
    """How training pictures are varied: `pipeline/policies/<name>.py`."""

    size: int = Field(ge=4, le=4096)
    """Side in pixels of the square pictures that the network sees."""

    @property
    @abstractmethod
    def packed(self) -> int:
        """Side P >= size of the pictures before augmentation; evaluation crops their centre."""

    @abstractmethod
    def transforms(self) -> list[Transform]:
        """From uint8 [P, P, C] to uint8 [S, S, C]."""
