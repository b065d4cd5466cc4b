"""First weights that come from training pictures, for the parts of a network that are made so."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.images import center_crop
from pipeline.networks import Informed
from pipeline.policy import Policy
from pipeline.train.batches import Material
from pipeline.train.learner import Learner

PIXELS = 5000 * 32 * 32
"""Of all pictures that are looked at together: those of 5,000 of 32 x 32, as in the speed run of CIFAR-10."""


def inform(learner: Learner, train: Material, policy: Policy) -> None:
    """Let each such part of a fresh network see some pictures, plain and normalised; the same ones each time.

    They are the first by their ids, which are digests: a choice as good as any drawn at random.

    Args:
        learner: on the processor; its `networks.Informed` are moved in place.
        train: what it will learn from.
        policy: how its pictures are normalised, and what the network sees of them.
    """
    parts = [part for part in learner.network.modules() if isinstance(part, Informed)]
    if not parts:
        return
    count = max(1, PIXELS // policy.size**2)
    first = np.sort(np.argsort(np.array(train.ids), kind="stable")[:count])  # in order of the disk
    pictures = torch.from_numpy(np.array(center_crop(train.pictures[first], policy.size)))
    with torch.no_grad():
        seen = learner.normalise(pictures)
        for part in parts:
            part.learn_from(seen)
