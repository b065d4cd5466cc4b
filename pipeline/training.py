"""What the parts of a training give and take: optimizers, schedules, orders, mixings, averages.

This module imports no torch, like `contracts`, which has the nouns and the axis letters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from pipeline.contracts import Options, Target

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from torch.optim import Optimizer


class OptimizerConfig(Options):
    """An optimizer: `pipeline/optimizers/<name>.py`."""

    lr: float
    knows_every_gradient: ClassVar[bool] = False
    """Whether no step may be skipped, as float16 asks of one whose gradient overflows."""

    @property
    def carried(self) -> float | None:
        """The momentum, or first beta, which a schedule may move; None: there is neither."""
        betas: tuple[float, ...] = getattr(self, "betas", ())
        return betas[0] if betas else getattr(self, "momentum", None)

    @abstractmethod
    def build(self, groups: list[dict[str, Any]]) -> Optimizer:
        """The optimizer over parameter groups, as torch's optimizers take them.

        Args:
            groups: filters and matrices as {"params": [...]}, which take every option of this part, and norms and
                biases as {"params": [...], "weight_decay": 0.0}, which never decay; of each kind there may be several,
                or none. A group may hold `share`, by which its rate is multiplied: the loop sets each group's `lr`.
        """


class Course(NamedTuple):
    """How far a training is at one of its steps."""

    step: int
    """Of the whole training, 0-based."""
    steps_per_epoch: int
    epochs: int
    """That there will be, if nothing ends the training early."""
    worths: Sequence[float] = ()
    """The validation score after each epoch so far, turned so that larger is better; -inf where it is undefined."""


class ScheduleConfig(Options):
    """How the learning rate moves: `pipeline/schedules/<name>.py`."""

    @property
    def falls_at(self) -> float:
        """The share of the training after which the rate falls, in 0..1: half of that is the longest warm-up."""
        return 1.0

    def idle(self, epochs: int, patience: int) -> str:
        """Why it never moves the rate after the warm-up, and what to set, in words after its name; empty: it does.

        Args:
            epochs: that there will be.
            patience: those without a better score after which the training ends; 0: it does not.
        """
        return ""

    @abstractmethod
    def factor(self, at: Course) -> float:
        """What the base learning rate is multiplied by for this step."""

    def momentum(self, at: Course) -> float | None:
        """The momentum, or first beta, of the optimizer for this step; None: as its own options say."""
        return None


@dataclass(frozen=True)
class Known:
    """What is known of the V views of the training split, for an order to go by."""

    count: int
    """V."""
    classes: np.ndarray | None
    """The class of each, int64 [V]; None: a view is not of one class."""
    column: Callable[[str], np.ndarray]
    """From the name of a column of numbers in `samples.parquet` to its values, float64 [V].

    Raises:
        UserError: there is no such column, or it holds no numbers.
    """
    losses: np.ndarray | None = None
    """What each last cost, float64 [V]; None where `OrderConfig.measures` has not asked for it."""


class OrderConfig(Options):
    """Which training pictures come when: `pipeline/orders/<name>.py`."""

    @property
    def by_class(self) -> bool:
        """Whether it goes by the class of each picture, and needs that each has one."""
        return False

    @property
    def in_a_row(self) -> int:
        """How many pictures of one class follow each other, as far as there are so many."""
        return 1

    def idle(self, epochs: int) -> str:
        """Why it changes nothing in a training of so many epochs, and what to set, in words after its name; empty: it
        does."""
        return ""

    def measures(self, epoch: int, epochs: int) -> bool:
        """Whether the loss of every training picture is measured before this epoch begins (0-based)."""
        return False

    @abstractmethod
    def order(self, random: np.random.Generator, epoch: int, epochs: int, known: Known) -> np.ndarray:
        """The views of an epoch in their order, int64 [V], each in 0..V-1; what fills no batch at its end is left out.

        Args:
            random: seeded for this epoch; nothing else decides beside the other arguments.
            epoch: 0-based.
            epochs: that there will be.
            known: of the views.
        """


class MixingConfig(Options):
    """How the pictures of a batch are blended with each other: `pipeline/mixings/<name>.py`."""

    takes: ClassVar[frozenset[Target]]
    blends: ClassVar[bool] = True
    """Whether it changes any picture."""

    @abstractmethod
    def mixed(
        self, pictures: Tensor, targets: Tensor, random: np.random.Generator
    ) -> tuple[Tensor, list[tuple[Tensor, float]]]:
        """The batch that is learnt from.

        Args:
            pictures: normalised, float32 [B, C, S, S]; not changed in place.
            targets: B entries, as one of `takes` says.
            random: seeded for this step.

        Returns:
            Pictures of the same shape, and the targets that they are compared with, each with the share of its loss;
            shares add up to 1.
        """


class Average(ABC):
    """Weights that follow those of the network in training, and may be better than they are."""

    refreshes: ClassVar[bool] = False
    """Whether the statistics of batch normalisation do not fit these weights, and are measured anew for them."""

    @abstractmethod
    def update(self, network: nn.Module, step: int) -> None:
        """Follow the network after optimizer step `step` (0-based, of the whole training); it may be moved too."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor] | None:
        """What is validated and kept: the network's state with averaged weights; None: the network's own, so far."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, in tensors and plain values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state."""


class AverageConfig(Options):
    """Weights that follow those in training: `pipeline/averages/<name>.py`."""

    @property
    def begins(self) -> float:
        """The share of the training after which there is an average, in 0..1."""
        return 0.0

    def idle(self, steps: int) -> str:
        """Why it changes nothing in a training of so many steps, and what to set, in words after its name; empty: it
        does."""
        return ""

    @abstractmethod
    def build(self, network: nn.Module, steps: int) -> Average | None:
        """What follows `network`, on its device, through a training of so many steps; None: nothing does."""


@runtime_checkable
class Weighing(Protocol):
    """A loss whose mean over a batch is not the plain one over its pictures: some weigh more, some nothing."""

    def total_weight(self, targets: Tensor) -> Tensor | float:
        """The sum of the weights over which the mean is taken, >= 0, a scalar; where it is 0, the loss is 0 too.

        So a batch may be learnt from in parts: the losses of the parts, each times its share of the weight of all, add
        up to the loss of the whole.
        """


@runtime_checkable
class Ascending(Protocol):
    """An optimizer that learns from the gradient at another place than it stands.

    It is asked for two gradients a step: after the first, `ascend` moves the weights to where the second is wanted;
    `step` takes that move back and learns from the second.
    """

    def ascend(self) -> None:
        """Move along the gradient."""
