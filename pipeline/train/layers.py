"""The layers of a network from the first to the last: which of them learn in an epoch, and how fast.

Sources: Howard, Ruder. Universal Language Model Fine-tuning for Text Classification, 2018, section 3.2 (rates that fall
from layer to layer, gradual unfreezing); Bao et al. BEiT, 2021, which decays rates likewise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn
from torch.nn import Parameter

from pipeline.train_options import LayersOptions


@dataclass(frozen=True)
class Layer:
    """A part of a network that learns as one."""

    name: str
    """Of its first module within the network."""
    modules: tuple[nn.Module, ...]
    loose: tuple[Parameter, ...] = ()
    """Weights of it that belong to none of its modules."""

    def parameters(self) -> Iterator[Parameter]:
        """Its weights."""
        yield from self.loose
        for module in self.modules:
            yield from module.parameters()


def layers_of(network: nn.Module) -> list[Layer]:
    """The layers of any network, in the order in which it defines them; the last one is its head.

    A module is taken apart into its children where it is a plain sequence, or holds more than half of all weights. A
    normalisation belongs to the layer before it; weights that the network holds itself, as a position embedding, belong
    to the first.
    """
    found: list[Layer] = []
    for name, module in _parts("", network, sum(weights.numel() for weights in network.parameters()) / 2):
        if found and all(weights.ndim <= 1 for weights in module.parameters()):
            found[-1] = replace(found[-1], modules=(*found[-1].modules, module))
        else:
            found.append(Layer(name, (module,)))
    held = {weights for layer in found for weights in layer.parameters()}
    loose = tuple(weights for weights in network.parameters() if weights not in held)
    return [replace(found[0], loose=loose), *found[1:]] if found else []


def _parts(name: str, module: nn.Module, large: float) -> Iterator[tuple[str, nn.Module]]:
    holders = [(inner, child) for inner, child in module.named_children() if any(True for _ in child.parameters())]
    sequence = isinstance(module, nn.Sequential | nn.ModuleList)
    if holders and (sequence or not name or sum(weights.numel() for weights in module.parameters()) > large):
        for inner, child in holders:
            yield from _parts(f"{name}.{inner}" if name else inner, child, large)
    else:
        yield name, module


def learning(options: LayersOptions, epoch: int, count: int) -> int:
    """How many of so many layers learn in an epoch (0-based), counted from the last.

    The head alone at first; while the others thaw, they follow evenly; then all do.
    """
    thawed = epoch - options.frozen_epochs + 1
    if thawed <= 0:
        return 1
    if thawed > options.thawing_epochs:
        return count
    return 1 + (count - 1) * thawed // (options.thawing_epochs + 1)


class Freezer:
    """Layers of a network, some of which rest for some epochs: their weights and their statistics stay."""

    def __init__(self, network: nn.Module, options: LayersOptions) -> None:
        self._options = options
        self._layers = layers_of(network)
        # What the network itself holds fixed is never let go.
        self._resting: list[Layer] = []
        self._learns = [[weights for weights in layer.parameters() if weights.requires_grad] for layer in self._layers]

    @property
    def head_alone(self) -> bool:
        """Whether nothing but the last layer learns."""
        return 0 < len(self._resting) == len(self._layers) - 1

    @property
    def head(self) -> Layer:
        """The last layer."""
        return self._layers[-1]

    def enter(self, epoch: int) -> bool:
        """Let those layers learn that do in this epoch (0-based); whether these are others than before."""
        resting = len(self._layers) - learning(self._options, epoch, len(self._layers))
        changed = False
        for place, of_layer in enumerate(self._learns):
            for weights in of_layer:
                changed |= weights.requires_grad != (place >= resting)
                weights.requires_grad_(place >= resting)
                if place < resting:
                    weights.grad = None
        self._resting = self._layers[:resting]
        return changed

    def rest(self) -> None:
        """Have the layers that rest answer as they would in use; to be called after `network.train()`."""
        for layer in self._resting:
            for module in layer.modules:
                module.eval()


def shares(network: nn.Module, decay: float) -> dict[Parameter, float]:
    """By what the learning rate of each weight of a network is multiplied; those of no layer are left out.

    Args:
        network: whose weights.
        decay: the rate of a layer, as a share of that of the next.
    """
    layers = layers_of(network)
    return {
        weights: decay ** (len(layers) - 1 - place)
        for place, layer in enumerate(layers)
        for weights in layer.parameters()
    }
