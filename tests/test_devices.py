"""What a step seeds, and what is filled for nobody."""

from __future__ import annotations

import pytest
import torch
from imagined_gpu import imagined

from pipeline.devices import reseed, set_up


def test_reseeding_gives_the_numbers_of_manual_seed_and_leaves_nothing_behind() -> None:
    for seed in (0, 7, 2**63 - 1):
        torch.manual_seed(seed)
        expected = torch.rand(5), torch.randn(3), torch.randperm(9)
        reseed(torch.device("cpu"), seed)
        assert all(map(torch.equal, expected, (torch.rand(5), torch.randn(3), torch.randperm(9))))
    waiting = len(torch.cuda._queued_calls)
    for seed in range(100):
        reseed(torch.device("cpu"), seed)
    assert len(torch.cuda._queued_calls) == waiting  # manual_seed adds one each time, with a stack


def test_every_operation_is_repeatable_and_no_new_memory_is_filled() -> None:
    try:
        assert set_up("cpu", 1).type == "cpu"
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
        assert torch.get_num_threads() == 1
    finally:
        torch.set_deterministic_debug_mode("default")


def test_the_gpu_that_params_name_is_the_one_that_torch_means(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        for wanted, index in (("cuda:1", 1), ("cuda", 0)):  # one after the other in a process
            with imagined():
                monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
                torch.cuda.set_device(torch.device("cuda", 1 - index))
                assert set_up(wanted, 1) == torch.device("cuda", index)
                assert torch.cuda.current_device() == index
    finally:
        torch.set_deterministic_debug_mode("default")
