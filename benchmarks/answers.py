"""How many pictures of a split are told apart rightly."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from pipeline.policy import Policy
from pipeline.train.batches import Material, plain_batches

Answering = Callable[[Tensor, Tensor], Tensor]
"""From pictures uint8 [B, S, S, C] and their classes to logits [B, K]."""
BATCH = 500


def accuracy(answering: Answering, unseen: Iterable[Material], policy: Policy, device: torch.device) -> float:
    """Share of the pictures of some splits whose class has the largest logit."""
    right, count = torch.zeros((), dtype=torch.int64, device=device), 0
    with torch.inference_mode():
        for material in unseen:
            for batch in plain_batches(material, policy, BATCH):
                pictures, targets = batch.pictures.to(device), batch.targets.to(device)
                right += (answering(pictures, targets).argmax(dim=1) == targets).sum()
                count += len(targets)
    return right.item() / count
