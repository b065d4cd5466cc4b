"""The learner as one program for its device, made by torch's compiler when the first step is taken."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.train.learner import Compared, Learner


class Compiled(nn.Module):
    """A learner that calls its compiled self; the weights are those of the learner.

    On a GPU the program's kernels are launched as one graph, and its outputs lie in memory that is used again once
    `step_begins` is called: the loss is copied out of it.
    """

    def __init__(self, learner: Learner, device: torch.device) -> None:
        super().__init__()
        self.graphed = device.type == "cuda"
        self.program = torch.compile(learner, mode="reduce-overhead" if self.graphed else "default")

    def forward(self, seen: Tensor, compared: Compared) -> tuple[Tensor, Any]:
        """See `Learner.forward`; what was learnt from is valid until the next step."""
        loss, learnt = self.program(seen, compared)
        return loss.clone() if self.graphed else loss, learnt


def step_begins() -> None:
    """Let graphs use the memory again that they gave gradients in: nobody has any of the last step.

    Said once for a step, and not for each part of a batch: until the last part, the gradients of the others are added
    to.
    """
    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
