"""Activation checkpointing: blocks of a network forget what they compute, and compute it again for the gradient.

A network then holds what goes into each of its blocks, and the insides of one block at a time: of n layers in blocks of
the root of n that is about twice the root of what they would hold, for one more forward pass.

Source: Chen, Xu, Zhang, Guestrin. Training Deep Nets with Sublinear Memory Cost, 2016; as `torch.utils.checkpoint`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

SMALLEST = 2
"""Layers with weights that a block has at least: of a single one only what goes in is held anyway."""


class Block(NamedTuple):
    """What is computed anew at a time: a module, or some that follow each other in a sequence."""

    names: tuple[str, ...]
    modules: tuple[nn.Module, ...]
    sequence: nn.Sequential | None = None
    """Where they follow each other; None: it is one module."""


def recompute(network: nn.Module) -> None:
    """Let the blocks of a network forget while it learns; losses, gradients and statistics are as without.

    The names of its weights stay, and so does what it answers where no gradient is asked for.
    """
    runs: dict[nn.Sequential, list[Block]] = {}
    for block in blocks_of(network):
        if block.sequence is None:
            (module,) = block.modules
            if not isinstance(module.forward, Forgetful):  # one that stands in several places
                module.forward = Forgetful(block, module.forward)
        else:
            runs.setdefault(block.sequence, []).append(block)
    for sequence, blocks in runs.items():
        sequence.forward = InRuns(sequence, blocks)  # type: ignore[method-assign]


def blocks_of(network: nn.Module) -> list[Block]:
    """The blocks of any network: the outermost modules with at most the root of all layers, and two at least.

    So a residual network is taken apart into its residual blocks, a transformer into its layers, and a long sequence of
    single layers into runs.
    """
    most = max(SMALLEST, math.isqrt(max(0, _layers(network) - 1)) + 1)
    return list(_inside("", network, most))


def _inside(name: str, module: nn.Module, most: int) -> Iterator[Block]:
    """The blocks among the children of a module that is none itself."""
    sequence = module if type(module) is nn.Sequential else None
    run: list[tuple[str, nn.Module]] = []
    for inner, child in module._modules.items():  # also one that comes again
        if child is None:
            continue
        path, single = f"{name}.{inner}" if name else inner, _layers(child) < SMALLEST
        if run and (not single or sum(_layers(each) for _, each in run) == most):
            yield from _run(run, sequence)
            run = []
        if single and sequence is not None:
            run.append((path, child))
        # A list or table of modules is never called: who holds it calls those that are in it.
        elif _layers(child) <= most and type(child).forward is not nn.Module.forward and not single:
            yield Block((path,), (child,))
        else:
            yield from _inside(path, child, most)
    yield from _run(run, sequence)


def _run(run: Sequence[tuple[str, nn.Module]], sequence: nn.Sequential | None) -> Iterator[Block]:
    if sum(_layers(module) for _, module in run) >= SMALLEST:
        names, modules = zip(*run, strict=True)
        yield Block(names, modules, sequence)


def _layers(module: nn.Module) -> int:
    """How many modules in it hold weights themselves."""
    return sum(any(True for _ in inner.parameters(recurse=False)) for inner in module.modules())


class Run:
    """Modules of a sequence, one after the other, as they are when it is called: some may have been replaced.

    So is batch normalisation, where several processes learn together.
    """

    def __init__(self, sequence: nn.Sequential, names: Sequence[str]) -> None:
        self.sequence, self.names = sequence, names

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Those that the sequence has now."""
        return tuple(getattr(self.sequence, name) for name in self.names)

    def __call__(self, value: Any) -> Any:
        """What the last one answers."""
        for module in self.modules:
            value = module(value)
        return value


class Forgetful:
    """In place of the `forward` of a block."""

    def __init__(self, block: Block | Run, plain: Callable[..., Any]) -> None:
        self.block, self.plain = block, plain
        inner = [each for module in block.modules for each in module.modules()]
        self._in_place = [each for each in inner if getattr(each, "inplace", False) is True]

    def __call__(self, *given: Any, **named: Any) -> Any:
        """What the block answers."""
        # Lists are copied: who gave one may add to it, as a densely connected network does.
        given = tuple(map(_as_it_is, given))
        if named or not given or not self.block.modules[0].training or not torch.is_grad_enabled():
            return self.plain(*given, **named)
        if torch.compiler.is_compiling():  # a compiled program notes once what it computes twice
            return checkpoint(self.plain, *given, use_reentrant=False)

        def answer(*again: Any) -> Any:
            with _out_of_place(self._in_place):
                return self.plain(*again)

        return checkpoint(answer, *given, use_reentrant=False, context_fn=self._contexts)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _apart(self.block.modules)


class InRuns:
    """In place of the `forward` of a sequence: runs of its modules are blocks."""

    def __init__(self, sequence: nn.Sequential, blocks: Sequence[Block]) -> None:
        runs = [Run(sequence, [name.rpartition(".")[2] for name in block.names]) for block in blocks]
        self.sequence = sequence
        self.begun = {run.names[0]: Forgetful(run, run) for run in runs}
        self.later = {name for run in runs for name in run.names[1:]}

    def __call__(self, value: Any) -> Any:
        """What the sequence answers."""
        for name, module in self.sequence._modules.items():
            if name not in self.later:
                value = self.begun.get(name, module)(value)
        return value


@contextmanager
def _out_of_place(activations: Sequence[Any]) -> Iterator[None]:
    """Let activations leave alone what goes into them: it may have gone into the block, and be needed once more."""
    for each in activations:
        each.inplace = False
    try:
        yield
    finally:
        for each in activations:
            each.inplace = True


@contextmanager
def _apart(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Let what modules note in buffers, such as the statistics of batch normalisation, go into copies of them."""
    inner = [each for module in modules for each in module.modules() if each._buffers]
    held = [(module, dict(module._buffers)) for module in inner]
    try:
        for module, buffers in held:
            module._buffers.update({name: None if own is None else own.clone() for name, own in buffers.items()})
        yield
    finally:
        for module, buffers in held:
            module._buffers.update(buffers)


def _as_it_is(value: Any) -> Any:
    return type(value)(map(_as_it_is, value)) if type(value) in (list, tuple) else value
