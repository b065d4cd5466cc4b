"""Choose precision, memory format and compilation by trying them, because rules of thumb are wrong.

(Measured on 2 AVX-512 cores: bfloat16 makes a ResNet-18 step 1.35 times slower than float32. On 2 cores with matrix
units, AMX, it makes one twice as fast, and compiling takes 42 s and makes it slower.)

A choice changes the last bits of the weights, so it is remembered for this machine, and every later run on it whose
steps are the same, and that is as well worth compiling, uses the same one. To carry a choice to another machine, write
it into `compute`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.params import TrainParams, described, part_name
from pipeline.train.batches import Batch
from pipeline.train.learner import Learner
from pipeline.train.machine import Arithmetic, Machine, Pace
from pipeline.train.shortage import ran_out
from pipeline.train_options import ComputeOptions

BUDGET = 10.0
"""Seconds of trying, at most, but for compiling; where eight pictures take longer, each candidate sees them twice."""
SHARE = 0.02
"""Of a run that may be spent on compiling, to see whether that is worth it."""
COMPILING = 60.0
"""Seconds that it takes, about: a ResNet-18 on two cores 42."""
ROUNDS = 9
CHOSEN = "CONVOY_PROBE_CHOSE"
MARGIN = 1.03
"""The plainer one wins unless another is faster by this factor: a closer race is decided by noise."""

Seconds = dict[Arithmetic, float]


class Remembered(NamedTuple):
    """What an earlier run on this machine chose."""

    arithmetic: Arithmetic
    seconds: float
    """Of its step."""


FIRST, COMPILING_TRIED = "chosen", "chosen_with_compiling_tried"
"""Under which a choice is remembered: a short run goes by the first one, also after a long one has tried more."""


def choose(params: TrainParams, learner: Learner, batch: Batch, device: torch.device, steps: int) -> Arithmetic:
    """The arithmetic that params fix, or the fastest of what they leave open.

    Args:
        params: of the run.
        learner: with fresh weights; they are not moved.
        batch: to try it with.
        device: to compute on.
        steps: of the whole training; a long one may try more.
    """
    candidates = _candidates(params.compute, device)
    given = _given()
    if given is not None and given in [*candidates, *map(_compiled, candidates)]:
        return given
    if len(candidates) == 1 and not _worth_compiling(params, BUDGET / ROUNDS, steps):
        return candidates[0]
    memory = _memory(params, batch, device)

    def chosen(kind: str, among: list[Arithmetic]) -> Remembered:
        known = _recall(memory, kind)
        if known is None:
            seconds = _race(params, learner, batch, device, among)
            # Of two runs that measure at the same time, both go by the first.
            known = _recall(memory, kind) or Remembered(best := _fastest(among, seconds), seconds[best])
            if math.isfinite(known.seconds):  # else none could take a step: the first one of the training says why
                _remember(memory, kind, known, seconds)
        return known

    known = chosen(FIRST, candidates)
    if math.isfinite(known.seconds) and _worth_compiling(params, known.seconds, steps):
        known = chosen(COMPILING_TRIED, [known.arithmetic, _compiled(known.arithmetic)])
    return known.arithmetic


def _given() -> Arithmetic | None:
    """What whoever reruns a recorded run says that the probe chose then, as `bfloat16 channels_last eager`."""
    words = os.environ.get(CHOSEN, "").split()
    return Arithmetic(*words) if 2 <= len(words) <= len(Arithmetic._fields) else None


def _candidates(compute: ComputeOptions, device: torch.device) -> list[Arithmetic]:
    """The plain one first; all of them compiled, if params say so, and else none."""
    precisions = ["float32", "bfloat16"] + (["float16"] if device.type == "cuda" else [])
    formats = ["contiguous", "channels_last"]
    return [
        Arithmetic(precision, memory_format, "compiled" if compute.compile == "always" else "eager")
        for precision in ([compute.precision] if compute.precision != "auto" else precisions)
        for memory_format in ([compute.memory_format] if compute.memory_format != "auto" else formats)
    ]


def _compiled(arithmetic: Arithmetic) -> Arithmetic:
    return arithmetic._replace(execution="compiled")


def _worth_compiling(params: TrainParams, seconds: float, steps: int) -> bool:
    """Whether compiling takes a small share only of a training whose steps take `seconds` each."""
    return params.compute.compile == "auto" and SHARE * seconds * steps > COMPILING


def _fastest(candidates: list[Arithmetic], seconds: Seconds) -> Arithmetic:
    chosen = candidates[0]
    for arithmetic in candidates[1:]:
        if seconds[chosen] > MARGIN * seconds[arithmetic]:
            chosen = arithmetic
    return chosen


def _race(
    params: TrainParams, learner: Learner, batch: Batch, device: torch.device, candidates: list[Arithmetic]
) -> Seconds:
    """Seconds of a step of each candidate, in the median; infinite where it fails.

    Where steps are slow, all take a part of the batch, and the seconds are those of a whole one, estimated.
    """
    seconds, crowded = _side_by_side(params, learner, batch, device, candidates)
    for arithmetic in crowded:
        seconds |= _side_by_side(params, learner, batch, device, [arithmetic])[0]
    return seconds


def _side_by_side(
    params: TrainParams, learner: Learner, batch: Batch, device: torch.device, candidates: list[Arithmetic]
) -> tuple[Seconds, list[Arithmetic]]:
    """See `_race`; and those for which there is no memory beside the others."""
    machines: dict[Arithmetic, Machine] = {}
    spent: dict[Arithmetic, list[float]] = {}
    crowded: list[Arithmetic] = []
    part, began = batch, time.perf_counter()
    for arithmetic in candidates:
        try:
            machine = Machine.assemble(params, copy.deepcopy(learner).to(device), device, arithmetic, steps=1)
            machine.learn()
            if not machines and arithmetic.execution == "eager":
                part = _affordable(machine, batch, len(candidates))
            _timed(machine, part)  # allocates, picks kernels, compiles
            machines[arithmetic], spent[arithmetic] = machine, [_timed(machine, part)]
        # No such kernel, no memory, too few pictures for batch normalisation, or an optimizer that objects.
        except (RuntimeError, MemoryError, ValueError, UserError) as error:
            spent[arithmetic] = [float("inf")]
            if machines and ran_out(error):
                crowded.append(arithmetic)
    ends = began + BUDGET if all(each.execution == "eager" for each in candidates) else time.perf_counter() + BUDGET
    for _ in range(ROUNDS - 1):  # in turn, so that a slow moment of the machine hits all alike
        for arithmetic, machine in machines.items():
            if time.perf_counter() < ends and spent[arithmetic][0] < 3 * min(map(min, spent.values())):
                spent[arithmetic].append(_timed(machine, part))
    whole = len(batch.targets) / len(part.targets)
    return {arithmetic: statistics.median(times) * whole for arithmetic, times in spent.items()}, crowded


def _affordable(machine: Machine, batch: Batch, candidates: int) -> Batch:
    """As many pictures of a batch as can be tried three times with each candidate, and two for each part at least.

    They are found by doubling: what a whole batch takes is not known, and a share of it tells little of a GPU.

    Args:
        machine: of the first candidate.
        batch: a whole one.
        candidates: how many.
    """
    most, count = BUDGET / (3 * candidates), max(8, 2 * machine.accumulation)
    part = _first(batch, count)
    if count < len(batch.targets):
        _timed(machine, part)  # allocates, picks kernels
    while count < len(batch.targets) and 2 * _timed(machine, part) <= most:
        count *= 2
        part = _first(batch, count)
    return part


def _first(batch: Batch, count: int) -> Batch:
    return Batch(batch.pictures[:count], batch.targets[:count])


def _timed(machine: Machine, batch: Batch) -> float:
    start = time.perf_counter()
    machine.step(batch, Pace(0.0)).item()  # waits for the device
    return time.perf_counter() - start


def _memory(params: TrainParams, batch: Batch, device: torch.device) -> Path:
    """Where this machine remembers the choice for this network and batch.

    Of the other parts of a step names are enough: a run with another learning rate goes by the same choice.
    """
    about = [
        described(params)["model"],
        [part_name(part) for part in (params.loss, params.optimizer, params.mixing)],
        [params.train.recompute, params.train.accumulation],
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


def _remember(memory: Path, kind: str, known: Remembered, seconds: Seconds) -> None:
    tried = {" ".join(arithmetic): value for arithmetic, value in seconds.items()}
    write_json(
        memory, {**_noted(memory), kind: {**known.arithmetic._asdict(), "step": known.seconds, "seconds": tried}}
    )


def _recall(memory: Path, kind: str) -> Remembered | None:
    try:
        noted = _noted(memory)[kind]
        return Remembered(Arithmetic(*(str(noted[field]) for field in Arithmetic._fields)), float(noted["step"]))
    except (ValueError, KeyError, TypeError):
        return None


def _noted(memory: Path) -> dict[str, Any]:
    """All that is remembered for a network and batch; what cannot be read is measured again."""
    try:
        noted = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}
