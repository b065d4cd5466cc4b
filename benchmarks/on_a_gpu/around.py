"""What surrounds a step on a GPU, with logging and checkpoints on, beside a bare loop and Lightning."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
from around_a_step import Ready, convoy, lightning
from bench import Bench, Found
from made_up import prepared
from turns import ratios, taking_turns

from pipeline.train.assembly import Training
from pipeline.train.batches import Batch
from pipeline.train.compilation import step_begins


def around(bench: Bench) -> Iterator[Found]:
    """Microseconds of a step of a tiny network: eager, then compiled and launched as graphs."""
    steps = bench.size(1600, 100)
    for compiled in ("never", "always"):
        training = prepared(
            steps,
            8,
            "model={name: convnet, width: 1, depth: 0}",
            "train.batch_size=1",
            f"compute={{precision: float32, memory_format: contiguous, compile: {compiled}}}",
            *bench.where,
            "compute.pictures=device",
        )
        order = np.arange(steps)
        batches = [Batch(each[0].clone(), each[1].clone(), each.views) for each in training.batches.epoch(0, 0, order)]
        training.batches = Ready(batches)  # type: ignore[assignment]
        works: dict[str, Callable[[], object]] = {"bare": lambda: _bare_loop(training, batches)}  # noqa: B023
        works["convoy"] = convoy(training, batches)
        if compiled == "never":
            works["lightning"] = lightning(training, batches)
        sides = {name: _per_step(bench, work, steps) for name, work in works.items()}
        for turn in sides.values():
            turn()
        found = taking_turns(sides, bench.pairs)
        training.close()
        yield {
            "compile": compiled,
            **{f"us, {name}": statistics.median(times) for name, times in found.items()},
            **{
                f"us that {name} adds": statistics.median(np.subtract(times, found["bare"]))
                for name, times in found.items()
                if name != "bare"
            },
            "convoy / bare": ratios(found, "convoy", "bare"),
        }


def _bare_loop(training: Training, batches: list[Batch]) -> None:
    """An epoch in the fewest lines, on what the engine calls too."""
    machine = training.machine
    machine.learn()
    for batch in batches:
        machine.optimizer.zero_grad(set_to_none=True)
        step_begins()
        loss = machine.module(*machine.learner.prepared(batch.pictures, batch.targets))[0]
        loss.backward()
        machine.optimizer.step()


def _per_step(bench: Bench, work: Callable[[], object], steps: int) -> Callable[[], float]:
    def turn() -> float:
        bench.wait()
        start = time.perf_counter()
        work()
        bench.wait()
        return (time.perf_counter() - start) / steps * 1e6

    return turn
