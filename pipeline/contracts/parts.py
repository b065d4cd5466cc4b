"""What is asked of a model, a loss and a metric."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.contracts.nouns import Output, Target
from pipeline.contracts.options import Options

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


class ModelConfig(Options):
    """A network architecture, or one library's family of them: `pipeline/models/<name>.py`."""

    gives: ClassVar[Output]

    @property
    def begins_random(self) -> bool:
        """Whether training begins with random weights: those of a file are an option of some models."""
        return not getattr(self, "weights", "")

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
    compares: ClassVar[bool] = False
    """Whether it compares the pictures of a batch with each other: learnt from in parts, it would be another loss."""

    @abstractmethod
    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """A module from (what the network gives to learn from, targets) to the mean loss of the batch, a scalar.

        It is `training.Weighing` if the mean is not the plain one over the pictures.

        It may hold weights, which are learnt with those of the network and kept in checkpoints, not in the model.

        Args:
            counts: of each class, K of them, in the training split: images, objects or pixels; weights come from here.
            outputs: that the network is built for: see `TaskConfig.outputs`.
        """


class MetricConfig(Options):
    """A score of answers against the truth: `pipeline/metrics/<name>.py`."""

    takes: ClassVar[frozenset[Target]]
    title: ClassVar[str]
    """As a person reads it: `Balanced accuracy`."""
    higher_is_better: ClassVar[bool]
    measured: ClassVar[bool] = False
    """Whether it is in the unit of what is measured, as dollars or pixels, and no share."""

    def turned(self, value: float) -> float:
        """A score turned so that larger is better, and back."""
        return value if self.higher_is_better else -value

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
