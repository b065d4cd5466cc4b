"""Where a training would not come to what is asked of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipeline.contracts import Output
from pipeline.params import TrainParams, part_name
from pipeline.plugin import config_class, names
from pipeline.training import Course


def of_ensemble(params: TrainParams) -> Iterator[str]:
    """Where several trainings do not make one model."""
    task, ensemble = params.task, params.ensemble
    if ensemble.members > 1 and ensemble.join == "average" and not task.pools:
        yield (
            f"ensemble.join is 'average', but answers of task {part_name(task)!r} have no mean: {task.needs[0]}. Set "
            "ensemble to {by: seeds, join: soup}, or ensemble.members to 1."
        )
    if ensemble.by == "folds" and Output.EMBEDDING in task.needs:
        yield (
            f"ensemble.by is 'folds', but task {part_name(task)!r} needs {Output.EMBEDDING}, and directions of "
            "networks that learnt apart cannot be compared: no score and no threshold comes of all folds. Set "
            "ensemble.by to seeds."
        )


def of_course(params: TrainParams) -> Iterator[str]:
    """Where a training is too short for what is to come in it, or one part moves what another does not have."""
    options, layers, average = params.train, params.layers, params.average
    if idle := params.order.idle(options.epochs):
        yield f"order {part_name(params.order)!r} {idle}."
    thawed = layers.frozen_epochs + layers.thawing_epochs
    if layers.thawing_epochs and thawed >= options.epochs:
        yield (
            f"layers.frozen_epochs {layers.frozen_epochs} and layers.thawing_epochs {layers.thawing_epochs} make "
            f"{thawed}, but train.epochs is {options.epochs}: the first layer would never learn; set train.epochs to "
            f"{thawed + 1} or more, or layers.thawing_epochs to 0."
        )
    begins = average.begins * options.epochs
    if options.patience and options.patience + 1 < begins:
        yield (
            f"train.patience is {options.patience} and may end the training after {options.patience + 1} epochs, but "
            f"average {part_name(average)!r} begins after {begins:.3g} of {options.epochs}; set train.patience to "
            f"{math.ceil(begins) - 1} or more, or to 0 to never stop early."
        )
    if params.schedule.momentum(Course(0, 1, options.epochs)) is not None and params.optimizer.carried == 0:
        yield (
            f"schedule {part_name(params.schedule)!r} moves the momentum, or first beta, and optimizer "
            f"{part_name(params.optimizer)!r} has none (0); set schedule.momenta to null, or give the optimizer one."
        )


def of_precision(params: TrainParams) -> Iterator[str]:
    """Where a precision is asked for that a part cannot do with."""
    if params.optimizer.knows_every_gradient and params.compute.precision == "float16":
        yield (
            f"compute.precision is 'float16', which skips steps whose gradient overflows, but optimizer "
            f"{part_name(params.optimizer)!r} cannot; set compute.precision to bfloat16, float32 or auto."
        )


def of_rest(params: TrainParams) -> Iterator[str]:
    """Where layers are to rest on weights that nothing has taught them: what learns above them learns from noise."""
    layers, model = params.layers, params.model
    if not model.begins_random:
        return
    asked = {f"layers.{name}": getattr(layers, name) for name in ("frozen_epochs", "thawing_epochs")}
    asked = {name: epochs for name, epochs in asked.items() if epochs}
    if not asked:
        return
    remedy = "set model.weights to a file of weights, or "
    if not hasattr(model, "weights"):
        able = [name for name in names("models") if _begins_with_weights(name, model.gives)]
        remedy = f"take a model that begins with those of a file ({', '.join(able)}), or set " if able else "set "
    yield (
        f"{' and '.join(f'{name} is {epochs}' for name, epochs in asked.items())}, but model {part_name(model)!r} "
        "starts from random weights, and layers that rest keep them: the last layer would learn from what those make "
        f"of a picture; {remedy}{' and '.join(asked)} to 0."
    )


def _begins_with_weights(name: str, gives: Output) -> bool:
    found = config_class("models", name)
    return "weights" in found.model_fields and found.gives is gives  # type: ignore[attr-defined]
