"""Where the parts of a `params.yaml`, each right by itself, do not fit each other: types meet, names do not."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipeline.contracts import Options, Output
from pipeline.errors import did_you_mean
from pipeline.params import Params, TrainParams, part_name
from pipeline.plugin import config_class, metrics_for, names
from pipeline.training import Course


def clashes(params: Options) -> Iterator[str]:
    """What does not fit in these sections, a text each; a stage that has some of them hears of those."""
    if isinstance(params, Params):
        yield from _of_parts(params)
        yield from _of_training(params)
    if isinstance(params, TrainParams):
        yield from _of_course(params)
        yield from _of_precision(params)
        yield from _of_rest(params)
        yield from _of_processes(params)


def _of_parts(params: Params) -> Iterator[str]:
    """Where what one part gives is not what another takes."""
    task, form, model, loss = params.task, params.data, params.model, params.loss
    if not set(task.reads) & form.gives:
        given, read = ", ".join(sorted(form.gives)), ", or ".join(task.reads)
        yield f"task {part_name(task)!r} learns from {read}, but format {part_name(form)!r} gives {given}."
    if model.gives not in task.needs:
        needed = ", or ".join(task.needs)
        yield f"task {part_name(task)!r} needs {needed}, but model {part_name(model)!r} gives {model.gives}."
    elif (model.gives, task.learns) not in loss.takes:
        yield (
            f"task {part_name(task)!r} compares {model.gives} with {task.learns}, which loss {part_name(loss)!r} "
            "does not take."
        )
    if task.learns.located and params.augment.frame.name == "crop":
        yield (
            f"task {part_name(task)!r} learns where things are in all of a picture, but augment.frame 'crop' shows its "
            "middle; set pad, stretch or tiles."
        )
    if params.augment.mosaic and not task.learns.joins:
        yield (
            f"augment {part_name(params.augment)!r} joins four pictures, with their objects or masks, but task "
            f"{part_name(task)!r} learns {task.learns}; set augment to another policy, such as standard."
        )
    if params.task.score not in (valid := metrics_for(task)):
        yield (
            f"task.score is {task.score!r}, but no metric of that name scores {task.learns}."
            f"{did_you_mean(task.score, valid)} pipeline/metrics/ has: {', '.join(valid)}."
        )


def _of_training(params: Params) -> Iterator[str]:
    """Where what is learnt does not fit the way in which it is trained."""
    task, order, mixing, options, size = params.task, params.order, params.mixing, params.train, params.augment.size
    if order.by_class and not task.learns.one_class:
        yield (
            f"order {part_name(order)!r} goes by the class of each picture, but task {part_name(task)!r} learns "
            f"{task.learns}; set order to shuffled."
        )
    if params.loss.compares:
        alone = {
            "train.accumulation": (options.accumulation, 1),
            "train.when_out_of_memory": (options.when_out_of_memory, "stop"),
            "compute.processes": (params.compute.processes, 1),
        }
        for option, (found, wanted) in alone.items():
            if found != wanted:
                yield (
                    f"loss {part_name(params.loss)!r} compares the pictures of a batch with each other, and {option}: "
                    f"{found} would let it see parts of a batch by themselves; set {option} to {wanted}."
                )
    if task.learns not in mixing.takes:
        fitting = [name for name in names("mixings") if task.learns in config_class("mixings", name).takes]  # type: ignore[attr-defined]
        yield (
            f"mixing {part_name(mixing)!r} does not blend {task.learns}, which task {part_name(task)!r} learns; set "
            f"mixing to {' or '.join(fitting)}."
        )
    if options.first_size >= size:
        yield (
            f"train.first_size is {options.first_size}, but pictures grow to augment.size, which is {size}; set less, "
            "or 0 to have all epochs see that size."
        )
    elif options.first_size and task.learns.located:
        yield (
            f"train.first_size is {options.first_size}, but task {part_name(task)!r} learns where things are, and "
            "those places do not shrink with the picture; set it to 0."
        )
    if params.ensemble.members > 1 and params.ensemble.join == "average" and not task.pools:
        yield (
            f"ensemble.join is 'average', but answers of task {part_name(task)!r} have no mean: {task.needs[0]}. Set "
            "ensemble to {by: seeds, join: soup}, or ensemble.members to 1."
        )
    if params.ensemble.by == "folds" and Output.EMBEDDING in task.needs:
        yield (
            f"ensemble.by is 'folds', but task {part_name(task)!r} needs {Output.EMBEDDING}, and directions of "
            "networks that learnt apart cannot be compared: no score and no threshold comes of all folds. Set "
            "ensemble.by to seeds."
        )


def _of_course(params: TrainParams) -> Iterator[str]:
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


def _of_precision(params: TrainParams) -> Iterator[str]:
    """Where a precision is asked for that a part cannot do with."""
    if params.optimizer.knows_every_gradient and params.compute.precision == "float16":
        yield (
            f"compute.precision is 'float16', which skips steps whose gradient overflows, but optimizer "
            f"{part_name(params.optimizer)!r} cannot; set compute.precision to bfloat16, float32 or auto."
        )


def _of_rest(params: TrainParams) -> Iterator[str]:
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


def _of_processes(params: TrainParams) -> Iterator[str]:
    """Where several processes cannot do together what one does alone."""
    train, count = params.train, params.compute.processes
    if count == 1:
        return
    if train.batch_size % count:
        yield (
            f"compute.processes is {count}, but train.batch_size is {train.batch_size}, which has no {count} equal "
            f"parts; set {_shareable(train.batch_size, count)}."
        )
    elif train.accumulation > (share := train.batch_size // count):
        yield (
            f"train.accumulation is {train.accumulation}, but {share} pictures of a batch fall to each of {count} "
            f"processes; set it to at most {share}, or compute.processes to less."
        )
    if train.when_diverging == "rollback":
        yield "train.when_diverging 'rollback' works in one process; set it to stop, or compute.processes to 1."
    if train.when_out_of_memory == "halve":
        yield "train.when_out_of_memory 'halve' works in one process; set it to stop, or compute.processes to 1."
    if params.compute.sharded:
        for why, instead in _of_shards(params):
            yield (
                f"compute.sharded shares tensors out among the processes, but {why}; set {instead}, or compute.sharded "
                "to false."
            )


def _shareable(size: int, count: int) -> str:
    """What could be set so that processes get equal parts of a batch: as many as there are wanted, or a few less."""
    divisors = [str(number) for number in range(1, min(size, count) + 1) if size % number == 0]
    words = f"compute.processes to {' or '.join(divisors[-3:])}"
    return words if size < count else f"{words}, or train.batch_size to {size - size % count}"


def _of_shards(params: TrainParams) -> Iterator[tuple[str, str]]:
    """Why weights cannot be shared out, and what to set instead."""
    train, layers, compute = params.train, params.layers, params.compute
    if any(params.order.measures(epoch, train.epochs) for epoch in range(train.epochs)):
        yield f"order {part_name(params.order)!r} asks the network in between", "order to shuffled"
    if 0 < layers.frozen_epochs < train.epochs or layers.thawing_epochs:
        yield "layers that rest at first stay as they are", "layers.frozen_epochs and thawing_epochs to 0"
    if compute.precision == "float16":
        yield "float16 needs to know every gradient", "compute.precision to bfloat16"
    if compute.compile == "always":
        yield "the compiler takes whole tensors", "compute.compile to never"
