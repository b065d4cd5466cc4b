"""What is said of a training before it begins: it is allowed, and hardly ever what somebody wants."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.host import cores
from pipeline.params import TrainParams, part_name
from pipeline.train.processes.fitting import device_of
from pipeline.train.processes.place import place


def remarks(params: TrainParams) -> Iterator[str]:
    """Each in a line.

    Raises:
        UserError: there are fewer GPUs than processes.
    """
    layers, model = params.layers, params.model
    weights = getattr(model, "weights", None)  # an option of those models that can bring some along
    if layers.frozen_epochs and not weights:
        bring = "take a model that brings weights" if weights is None else "set model.weights to a file"
        yield (
            f"layers.frozen_epochs is {layers.frozen_epochs}, but model {part_name(model)!r} starts from random "
            f"weights, and its last layer learns from what those make of a picture; {bring}, or layers.frozen_epochs "
            "to 0"
        )
    here = place()
    if here and here.of > cores() and device_of(params.compute, here) == "cpu":
        yield (
            f"compute.processes is {here.of}, but there are {cores()} cores of the processor, for which they wait in "
            "turn: fewer are faster"
        )
