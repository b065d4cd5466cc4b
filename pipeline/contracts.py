"""The nouns that every room shares: axis letters, what a part gives and takes, and the base of each part's options.

Axis letters, in shapes everywhere:
    B  images of a batch          N  images of a split        K  classes
    C  channels (1 or 3)          H  height, W  width         P  side of a packed picture
    R  resamples of a bootstrap   S  side of the picture that a network sees
    M  objects of a picture that there are, D  that a network says there are
    V  views: what a network sees of a picture, one or, cut into tiles, several

This module imports no torch: the door checks a `params.yaml` without it wherever it can.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from pipeline.annotations import Flaw

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from torch import nn
    from torch.optim import Optimizer

SPLITS = ("train", "val", "test")


class Target(StrEnum):
    """What is known about an image, and so what can be learnt from it."""

    LABEL = "one class per image, int64 [B]"
    OBJECTS = "boxes with classes per image, float32 [B, M, 6]"
    MASK = "one class per pixel, uint8 [B, H, W]"


class Output(StrEnum):
    """What a network says about an image."""

    VECTOR = "one vector per image [B, K]"
    BOXES = "boxes with score and class per image [B, D, 6]"
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
    """What the source says of it: under LABEL the name of its class, under OBJECTS `annotations.Objects`, under MASK
    `annotations.Painted` or `annotations.Drawn`. Nothing under a target: the source says nothing of that."""
    split: str | None = None
    """`train`, `val` or `test` where the source says so."""
    group: str | None = None
    """Pictures of one group (a person, a patient) are never parted between splits."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What else is known of it, to slice the scores by: text under each name, empty where nothing is known."""
    flaws: tuple[Flaw, ...] = ()
    """What the format saw to be wrong with its annotation; what is about one object is without that object here."""


@dataclass(frozen=True)
class LeftOut:
    """One file of the source that is no sample, and why."""

    name: str
    reason: str


class AnnotationRules(Options):
    """What becomes of an annotation with a flaw. Each flaw is named in `problems.parquet`, whatever becomes of it.

    keep: nothing changes; clip: the box is cut to the picture; drop: the object, or the second of two, is left out;
    void: the pixels count for nothing; reject: the picture is left out; stop: nothing is ingested until it is mended.
    """

    bad_box: Literal["drop", "reject", "stop"] = "drop"
    """A box without area, inverted, or not finite."""
    outside: Literal["clip", "drop", "reject", "stop"] = "clip"
    """A box that reaches beyond the picture; one that lies outside of it altogether is dropped where others are clipped."""
    unknown_class: Literal["drop", "reject", "stop"] = "reject"
    """An object, or pixels, of a class that the source does not name; pixels that are dropped are void."""
    no_picture: Literal["keep", "stop"] = "keep"
    """Something is said of a picture that is not there."""
    no_annotation: Literal["reject", "keep", "stop"] = "reject"
    """A picture of which nothing is said; kept, it is one without objects."""
    other_size: Literal["reject", "stop"] = "reject"
    """A mask, or a size that is written down, is not that of the picture."""
    colour_mask: Literal["reject", "stop"] = "reject"
    """A mask in colours where the source promises classes."""
    empty_class: Literal["keep", "stop"] = "keep"
    """A class of which there is nothing; it is not learnt either way."""
    foreign_path: Literal["keep", "reject", "stop"] = "keep"
    """A picture that is named in another place than it lies in."""
    duplicate: Literal["drop", "reject", "stop"] = "drop"
    """The second of two with one id, or of two that say the same."""
    unreadable: Literal["reject", "stop"] = "reject"
    """A file of annotations, or an entry of one, that cannot be understood: what it is about is left out."""


class Recognised(NamedTuple):
    """Why a source seems to be of a format."""

    certainty: int
    """3: files that only this format has; 2: names and places as it has them; 1: it could be."""
    why: str
    """What was seen: `annotations.json holds images, annotations and categories`."""
    options: Mapping[str, Any] = {}
    """Of the format, beside its path."""


class FormatConfig(Options):
    """A dataset format: `pipeline/formats/<name>.py`."""

    gives: ClassVar[frozenset[Target]]

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """Whether a source of these files is of this format; None if it is not.

        Args:
            names: of its files, sorted; for an archive, of the files in it.
            peek: from such a name to the first 64 KB of that file.
        """
        return None

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
    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Every file of the source once, in any order, and what is wrong with its annotations beside those of a picture.

        A file of annotations that was read is neither found nor left out.

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
            A module from float32 [B, C, S, S] to what `gives` says: logits, or boxes. One that learns from something
            else than it answers is a `networks.Deciding`.
        """


class LossConfig(Options):
    """A loss: `pipeline/losses/<name>.py`."""

    takes: ClassVar[frozenset[tuple[Output, Target]]]

    @abstractmethod
    def build(self, counts: Sequence[int]) -> nn.Module:
        """A module from (what the network gives to learn from, targets) to the mean loss of the batch, a scalar.

        Args:
            counts: of each class, K of them, in the training split: images, objects or pixels; weights come from here.
        """


class MetricConfig(Options):
    """A score of answers against the truth: `pipeline/metrics/<name>.py`."""

    takes: ClassVar[Target]
    title: ClassVar[str]
    """As a person reads it: `Balanced accuracy`."""
    higher_is_better: ClassVar[bool]

    @abstractmethod
    def score(self, answers: Any, weights: np.ndarray) -> np.ndarray:
        """The score under each of R weightings of the images: a bootstrap is a weighting by counts.

        Args:
            answers: to N images, of the kind in `pipeline/answers/` that goes with `takes`. What is needed of an image
                is computed once and kept there: the method is called many times with the same answers.
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
