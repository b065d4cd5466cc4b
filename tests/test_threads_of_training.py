"""The threads beside a training's own: more of them that compute than there are cores would make each step slower."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from engine_project import inside, params_of, prepare, training_of

from pipeline.train.saved import Progress

__all__ = ["inside"]

WIDE = ("model={name: convnet, width: 64}", "compute.threads=2", "compute.memory_format=channels_last")
"""Its filters are large enough for torch to share the work on one out to several threads."""


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_whoever_writes_a_checkpoint_computes_nothing(inside: Path, two_threads: None) -> None:
    prepare(inside, *WIDE)
    with training_of(params_of(inside, *WIDE)) as training:
        machine, process = training.machine, psutil.Process()
        filters = max(machine.learner.network.parameters(), key=torch.Tensor.numel)
        assert filters.numel() > 2**16 and not filters.is_contiguous()
        filters.detach().contiguous()  # this thread has its own ones now
        next(training.batches.epoch(0, 0, np.arange(len(training.train))))  # and the input path
        before = process.num_threads()
        for epoch in range(2):
            training.checkpoints.keep_best(machine, epoch)
            training.checkpoints.save(machine, Progress(epoch=epoch + 1, best_epoch=epoch))
            training.checkpoints.wait()
        assert process.num_threads() == before + 1
