"""Choose precision and memory format by trying them, because rules of thumb are wrong.

(Measured on 2 AVX-512 cores: bfloat16 makes a ResNet-18 step 1.35 times slower than float32.)

A choice changes the last bits of the weights, so it is remembered for this machine, and every later run of the same
network on it uses the same one. To carry a choice to another machine, write it into `compute`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch

from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.params import TrainParams, described
from pipeline.train.batches import Batch
from pipeline.train.learner import Learner
from pipeline.train.loop import Arithmetic, Machine
from pipeline.train_options import ComputeOptions

BUDGET = 10.0
"""Seconds, at most, but for the one step of each candidate."""
ROUNDS = 5
CHOSEN = "CONVOY_PROBE_CHOSE"
MARGIN = 1.15
"""The plainer one wins unless another is faster by this factor: a close race is no reason to differ."""


def choose(params: TrainParams, learner: Learner, batch: Batch, device: torch.device) -> Arithmetic:
    """The arithmetic that params fix, or the fastest of what they leave open."""
    candidates = _candidates(params.compute, device)
    if len(candidates) == 1:
        return candidates[0]
    if (given := _given()) in candidates:
        assert given is not None
        return given
    memory = _memory(params, batch, device)
    remembered = _recall(memory)
    if remembered in candidates:
        assert remembered is not None
        return remembered
    seconds = _race(params, learner, batch, device, candidates)
    chosen = candidates[0]
    for arithmetic in candidates[1:]:
        if seconds[chosen] > MARGIN * seconds[arithmetic]:
            chosen = arithmetic
    write_json(memory, {**chosen._asdict(), "seconds": {" ".join(key): value for key, value in seconds.items()}})
    return chosen


def _given() -> Arithmetic | None:
    """What whoever reruns a recorded run says that the probe chose then, as `bfloat16 channels_last`."""
    words = os.environ.get(CHOSEN, "").split()
    return Arithmetic(*words) if len(words) == len(Arithmetic._fields) else None


def _candidates(compute: ComputeOptions, device: torch.device) -> list[Arithmetic]:
    """The plain one first."""
    precisions = ["float32", "bfloat16"] + (["float16"] if device.type == "cuda" else [])
    formats = ["contiguous", "channels_last"]
    return [
        Arithmetic(precision, memory_format)
        for precision in ([compute.precision] if compute.precision != "auto" else precisions)
        for memory_format in ([compute.memory_format] if compute.memory_format != "auto" else formats)
    ]


def _race(
    params: TrainParams, learner: Learner, batch: Batch, device: torch.device, candidates: list[Arithmetic]
) -> dict[Arithmetic, float]:
    """Median seconds of a step of each candidate; infinite where it fails."""
    machines, seconds = {}, {}
    for arithmetic in candidates:
        try:
            machine = Machine.assemble(params, copy.deepcopy(learner).to(device), device, arithmetic, steps=1)
            machine.learner.train()
            _timed(machine, batch)  # the first step allocates and picks kernels
            machines[arithmetic] = machine
            seconds[arithmetic] = [_timed(machine, batch)]
        except (
            RuntimeError,
            NotImplementedError,
            UserError,
        ):  # no such kernel on this device, or an optimizer that objects
            seconds[arithmetic] = [float("inf")]
    ends = time.perf_counter() + BUDGET - sum(map(sum, (times for times in seconds.values() if times[0] < BUDGET)))
    for _ in range(ROUNDS - 1):  # in turn, so that a slow moment of the machine hits all alike
        for arithmetic, machine in machines.items():
            if time.perf_counter() < ends and seconds[arithmetic][0] < 3 * min(map(min, seconds.values())):
                seconds[arithmetic].append(_timed(machine, batch))
    return {arithmetic: statistics.median(times) for arithmetic, times in seconds.items()}


def _timed(machine: Machine, batch: Batch) -> float:
    start = time.perf_counter()
    machine.step(batch, 0, 0).item()  # waits for the device
    return time.perf_counter() - start


def _memory(params: TrainParams, batch: Batch, device: torch.device) -> Path:
    """Where this machine remembers the choice for this network and batch."""
    about = [
        described(params)["model"],
        list(batch.pictures.shape),
        [arithmetic._asdict() for arithmetic in _candidates(params.compute, device)],
        torch.__version__,
        torch.get_num_threads(),
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}",
        torch.backends.cpu.get_cpu_capability(),
    ]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "convoy" / "probe" / f"{key}.json"


def _recall(memory: Path) -> Arithmetic | None:
    try:
        noted = json.loads(memory.read_text())
        return Arithmetic(noted["precision"], noted["memory_format"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
