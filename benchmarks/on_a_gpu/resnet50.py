"""A ResNet-50 on made-up pictures of 224 pixels, bfloat16: what Convoy's probe chooses beside the best of others."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from bench import Bench, Found
from lightning_loop import steps_of_lightning
from machines import LR, Work, machine, work
from torch import Tensor, nn
from torch.nn import functional as F
from turns import ratios, taking_turns

from pipeline.train.compilation import step_begins
from pipeline.train.machine import Arithmetic
from pipeline.train.probe import choose

STEPS = 10
"""Of each turn."""
CLASSES = 1000
LONG = 100_000
"""Steps of a training that is well worth compiling."""


def resnet50(bench: Bench) -> Iterator[Found]:
    """Images a second of each side, best eager and best compiled."""
    count, side = bench.size((256, 224), (2, 32))
    model = bench.size("{name: torchvision, architecture: resnet50}", "{name: convnet, width: 4}")
    given = work(bench, (count, side), CLASSES, f"model={model}", "optimizer={name: sgd, lr: 0.1}")
    os.environ["XDG_CACHE_HOME"] = str(Path.cwd())  # the choice is not remembered
    start = time.perf_counter()
    chosen = choose(given.params, given.learner, given.batch, bench.device, bench.size(LONG, 1))
    yield {"what": "probe", "chose": " ".join(chosen), "seconds": time.perf_counter() - start}
    steps = bench.size(STEPS, 1)
    ours = {
        "convoy, eager": Arithmetic("bfloat16", "channels_last"),
        "convoy, compiled": Arithmetic("bfloat16", "channels_last", "compiled"),
    }
    mine = next((name for name, arithmetic in ours.items() if arithmetic == chosen), "convoy, as chosen")
    ours[mine] = chosen
    sides = {name: bench.seconds(machine(bench, given, arithmetic), steps) for name, arithmetic in ours.items()}
    sides |= _theirs(bench, given, steps)
    found = taking_turns(sides, bench.pairs)
    for name, times in found.items():
        yield {"side": name, "images/s": count / statistics.median(times)}
    for kind in ("eager", "compiled"):
        rivals = {name: times for name, times in found.items() if name not in ours and name.endswith(f", {kind}")}
        best = min(rivals, key=lambda name: statistics.median(rivals[name]))
        for name in sorted({mine, f"convoy, {kind}"}):
            yield {"what": f"speed, {name} / {best}", "ratio": ratios(found, best, name)}


def _theirs(bench: Bench, given: Work, steps: int) -> dict[str, Callable[[], float]]:
    """Plain loops and Lightning's, as torch comes."""
    import timm
    import torchvision

    networks: dict[str, Build] = {
        "torchvision": lambda: torchvision.models.resnet50(num_classes=CLASSES),
        "timm": lambda: timm.create_model("resnet50", num_classes=CLASSES),
    }
    if bench.rehearsing:
        networks = dict.fromkeys(networks, lambda: given.params.model.build(3, CLASSES, given.batch.pictures.shape[1]))
    seen = given.learner.prepared(*given.batch[:2])[0].contiguous(memory_format=torch.channels_last)
    batch = (seen, given.batch.targets)
    sides: dict[str, Callable[[], float]] = {}
    for kind, compiler in COMPILERS.items():
        for library, build in networks.items():
            if kind == GRAPHS and library != "torchvision":
                continue  # half a minute more, for the same kernels

            def plain(build: Build = build, compiler: Compiler = compiler) -> Callable[[], float]:
                return bench.seconds(_plain_step(bench, build(), compiler, batch), steps)

            sides[f"{library}, {kind}"] = bench.as_it_comes(plain)

    for kind in ("eager", "compiled"):

        def theirs(compiler: Compiler = COMPILERS[kind]) -> Callable[[], float]:
            return _lightning(bench, networks["torchvision"](), compiler, batch, steps)

        sides[f"lightning, {kind}"] = bench.as_it_comes(theirs)
    return sides


GRAPHS = "launched as graphs, compiled"
Build = Callable[[], nn.Module]
Compiler = Callable[[nn.Module], Any]
COMPILERS: dict[str, Compiler] = {
    "eager": lambda network: network,
    "compiled": torch.compile,
    GRAPHS: lambda network: torch.compile(network, mode="reduce-overhead"),
}


def _plain_step(
    bench: Bench, network: nn.Module, compiler: Compiler, batch: tuple[Tensor, Tensor]
) -> Callable[[], object]:
    network = network.to(bench.device, memory_format=torch.channels_last).train()
    optimizer, program = _sgd(network), compiler(network)

    def step() -> None:
        step_begins()  # graphs of this process that are told so by one must be told so by all
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(bench.device.type, torch.bfloat16):
            loss = F.cross_entropy(program(batch[0]), batch[1])
        loss.backward()
        optimizer.step()

    return step


def _lightning(
    bench: Bench, network: nn.Module, compiler: Compiler, batch: tuple[Tensor, Tensor], steps: int
) -> Callable[[], float]:
    network = network.to(bench.device, memory_format=torch.channels_last).train()
    program = compiler(network)
    turn = steps_of_lightning(
        network, lambda given: F.cross_entropy(program(given[0]), given[1]), lambda: _sgd(network), batch, steps
    )
    turn()
    return turn


def _sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), LR, momentum=0.9, weight_decay=0.0005, fused=True)
