"""What a step moves, and how it is taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.devices import reseed
from pipeline.errors import UserError
from pipeline.params import TrainParams, part_name
from pipeline.train.batch_norms import unnoted
from pipeline.train.batches import Batch
from pipeline.train.compilation import Compiled, step_begins
from pipeline.train.layers import Freezer, shares
from pipeline.train.learner import Compared, Learner, counted, parameter_groups
from pipeline.train.processes.ranks import Ranks
from pipeline.train.processes.sharing import Sharing
from pipeline.training import Ascending, Average

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Arithmetic(NamedTuple):
    """How a step is computed."""

    precision: str
    memory_format: str
    execution: str = "eager"
    """eager: operation by operation; compiled: as one program, made when the first step is taken."""

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, DTYPES[self.precision])


UNUSED = np.random.Generator(np.random.PCG64(0))
"""In place of one that nobody draws from: to seed one takes 30 microseconds."""


class Pace(NamedTuple):
    """What a step is taken with."""

    rate: float
    """The learning rate; of a group of weights, times its `share`."""
    momentum: float | None = None
    """That of the optimizer, or its first beta; None: as its options say."""
    step: int = 0
    """Which one it is, of the whole training, 0-based."""
    seed: int = 0
    """Of all that is random in it: dropout, blends."""


@dataclass
class Machine:
    """What a step moves: the weights, their average, the optimizer and its loss scale, on one device."""

    learner: Learner
    feed: Learner
    """What makes of a batch what `module` takes: the learner, or, of cached features, their head."""
    module: nn.Module
    """What a step calls: `feed`, or the same as several processes share it or a compiler has made it."""
    freezer: Freezer
    optimizer: Optimizer
    average: Average | None
    device: torch.device
    arithmetic: Arithmetic
    scaler: torch.amp.GradScaler
    accumulation: int
    """Parts in which a batch is computed: as params say at first, more where memory has run out."""
    clip_norm: float
    """Of the gradient over all weights, at most; 0: any."""
    sharing: Sharing
    """With the processes that it learns with."""

    def __post_init__(self) -> None:
        # Asked once: whether an object keeps a protocol takes 50 microseconds to find out.
        self._ascend = self.optimizer.ascend if isinstance(self.optimizer, Ascending) else None
        self._called = self.module
        self._graphed = self.arithmetic.execution == "compiled" and self.device.type == "cuda"
        self._moved: list[nn.Parameter] = [each for group in self.optimizer.param_groups for each in group["params"]]

    @classmethod
    def assemble(
        cls,
        params: TrainParams,
        learner: Learner,
        device: torch.device,
        arithmetic: Arithmetic,
        steps: int,
        sharing: Sharing | None = None,
    ) -> Machine:
        """Lay the learner out as `arithmetic` says, and put beside it what a training of so many steps needs.

        Args:
            params: of the training.
            learner: which goes to the device.
            device: to compute on.
            arithmetic: how.
            steps: of the training.
            sharing: with the processes that do the same; None: it learns alone.

        Raises:
            UserError: the optimizer needs to know every gradient, which half precision may overflow.
        """
        sharing = sharing or Sharing(Ranks())
        arithmetic = sharing.able(arithmetic)
        sharing.arrange(learner, MEMORY_FORMATS[arithmetic.memory_format], device)
        rates = shares(learner.network, params.layers.rate_decay)
        freezer = Freezer(learner.network, params.layers)
        if params.layers.frozen_epochs >= params.train.epochs:
            freezer.enter(0)  # what never learns needs no room in the optimizer
        optimizer = params.optimizer.build(parameter_groups(learner, rates))
        scaler = torch.amp.GradScaler(device.type, enabled=arithmetic.precision == "float16")
        if scaler.is_enabled() and isinstance(optimizer, Ascending):
            raise UserError(
                f"params.yaml: optimizer {part_name(params.optimizer)!r} cannot skip a step, as float16 asks of one "
                "whose gradient overflows. Set compute.precision to bfloat16 or float32."
            )
        module = sharing.called(Compiled(learner, device) if arithmetic.execution == "compiled" else learner, device)
        average = params.average.build(learner.network, steps)
        options = params.train
        return cls(
            learner,
            learner,
            module,
            freezer,
            optimizer,
            average,
            device,
            arithmetic,
            scaler,
            options.accumulation,
            options.clip_norm,
            sharing,
        )

    def learn_from_features(self, head: Learner) -> None:
        """Have steps learn from kept features, with the head alone."""
        self.feed = self.module = head

    def learn_from_pictures(self) -> None:
        """Have steps learn from pictures again."""
        self.feed, self.module = self.learner, self._called

    def go_on_with(self, learner: Learner) -> None:
        """Have a learner, this one or another on the same device, that is asked, and learns no more.

        What only learning needs is let go of: gradients, what the optimizer remembers, the average, a compiled program.
        """
        self.learner.zero_grad()
        self.optimizer.state.clear()
        self.average = None
        self.learner = self.feed = self.module = self._called = learner

    def parameters(self) -> int:
        """Weights of the network that training moves."""
        moved = set(self._moved)
        return sum(weights.numel() for weights in self.learner.network.parameters() if weights in moved)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, but for the position; see `Sharing.whole`."""
        return self.sharing.whole(
            {
                "learner": self.learner.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "accumulation": self.accumulation,
                "average": self.average.state_dict() if self.average else {},
            }
        )

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        share_out = self.sharing.shared_out
        self.learner.load_state_dict(share_out(state["learner"], self.learner.state_dict()))
        fused = [group.get("fused") for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(self.sharing.optimizer_shared_out(state["optimizer"], self.optimizer))
        for group, mine in zip(self.optimizer.param_groups, fused, strict=True):
            if "fused" in group:
                group["fused"] = mine  # a question of what the weights are here, not there
        self._lay_out_states()
        # A new one: the old one may have been left in the middle of a step.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.scaler.is_enabled())
        self.scaler.load_state_dict(state["scaler"])
        self.accumulation = state["accumulation"]
        if self.average:
            self.average.load_state_dict(share_out(state["average"], self.average.state_dict()))

    def _lay_out_states(self) -> None:
        """Have what the optimizer remembers of weights lie in memory as they do, whoever wrote it: fused kernels take
        that for granted."""
        for weights, state in self.optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == weights.shape and value.stride() != weights.stride():
                    state[name] = torch.empty_like(weights, dtype=value.dtype).copy_(value)

    def weights(self) -> dict[str, Tensor]:
        """The network's state that is validated and kept: averaged, where there is an average; see `Sharing.whole`."""
        averaged = self.average.weights() if self.average else None
        return self.sharing.whole(self.learner.network.state_dict() if averaged is None else averaged)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the network have the weights that are kept, for as long as this lasts."""
        averaged = self.average.weights() if self.average else None
        if averaged is None:
            yield
            return
        network = self.learner.network
        own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(averaged)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def enter(self, epoch: int) -> bool:
        """Let those layers learn that do in this epoch (0-based); whether these are others than before."""
        return self.freezer.enter(epoch)

    def learn(self) -> None:
        """Go from answering to learning; layers that rest do not."""
        self.learner.train()
        self.freezer.rest()

    def step(self, batch: Batch, pace: Pace) -> Tensor:
        """Learn from one batch; the mean loss, a scalar left on the device."""
        loss = self.backward(batch, pace.seed)
        self.move(pace)
        return loss

    def backward(self, batch: Batch, seed: int) -> Tensor:
        """The first half of a step: leave the gradient that it follows with the weights; the mean loss.

        Args:
            batch: what to learn from.
            seed: see `Pace.seed`.
        """
        pictures, targets = batch.on(self.device)
        loss = self.gradient(pictures, targets, seed)
        if self._ascend:
            self._ascend()
            with unnoted(self.learner):  # statistics are those of the weights that are kept
                self.gradient(pictures, targets, seed)
        self.scaler.unscale_(self.optimizer)
        return loss

    def move(self, pace: Pace) -> None:
        """The second half: move the weights along the gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = pace.rate * group.get("share", 1.0)
            if pace.momentum is not None:
                if "betas" in group:
                    group["betas"] = (pace.momentum, *group["betas"][1:])
                else:
                    group["momentum"] = pace.momentum
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self._moved, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update(self.learner.network, pace.step)

    def reseed(self, seed: int) -> None:
        """Seed what the network draws in a step, see `Pace.seed`; dropout differs between the processes."""
        rank = self.sharing.ranks.rank
        reseed(self.device, counted(seed, "process", rank) if rank else seed)

    def parts(self, pictures: Tensor, targets: Tensor, seed: int) -> Iterator[tuple[Tensor, Compared]]:
        """The parts in which a batch is computed, each as `module` takes it, with its share of the loss of the whole.

        Args:
            pictures: uint8 [B, S, S, C], on the device.
            targets: of each.
            seed: see `Pace.seed`; processes that learn together blend alike.
        """
        feed, ranks, count = self.feed, self.sharing.ranks, self.parts_of(pictures)
        blends = feed.mixing.blends
        random = np.random.Generator(np.random.PCG64(seed)) if blends else UNUSED
        if count == 1 and not (feed.weighing and ranks.count > 1):
            yield feed.prepared(pictures, targets, random)
            return
        whole: Compared = [(targets, 1.0)]
        if blends:  # with any other picture of the batch, as it is in one part
            pictures, whole = feed.prepared(pictures, targets, random)
        weights = [ranks.mean_weight(feed.weight(each)) for each, _ in whole]
        for number in range(count):
            rows = slice(len(targets) * number // count, len(targets) * (number + 1) // count)
            seen = pictures[rows] if blends else feed.prepared(pictures[rows], targets[rows], random)[0]
            shares = [
                share * feed.weight(each[rows]) / weight for (each, share), weight in zip(whole, weights, strict=True)
            ]
            yield seen, [(each[rows], share) for (each, _), share in zip(whole, shares, strict=True)]

    def parts_of(self, pictures: Tensor) -> int:
        """How many parts a batch is computed in; none is empty."""
        return min(self.accumulation, len(pictures))

    def gradient(self, pictures: Tensor, targets: Tensor, seed: int) -> Tensor:
        """Leave the gradient of a batch's mean loss with the weights; that loss, a scalar left on the device.

        Args:
            pictures: uint8 [B, S, S, C], on the device.
            targets: of each.
            seed: see `Pace.seed`.
        """
        count = self.parts_of(pictures)
        self.reseed(seed)
        for weights in self._moved:
            weights.grad = None  # what `zero_grad` does too, 20 us later
        if self._graphed:
            step_begins()
        losses = []
        for number, part in enumerate(self.parts(pictures, targets, seed), start=1):
            with self.sharing.part(self.module, number == count):
                with self.arithmetic.autocast(self.device):
                    loss: Tensor = self.module(*part)[0]
                torch.autograd.backward(self.scaler.scale(loss))
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
