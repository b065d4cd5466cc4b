"""Where what is learnt does not fit the pictures, the way in which they come, or their company in a batch."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.contracts import PolicyConfig, Target
from pipeline.params import TrainParams, part_name
from pipeline.plugin import config_class, names
from pipeline.train_options import TrainOptions


def of_policy(augment: PolicyConfig, learns: Target, task: str) -> Iterator[str]:
    """Where training pictures do not show what is to be learnt; the stage `augment` knows the task by its data set.

    Args:
        augment: how pictures are varied.
        learns: what is learnt of them.
        task: by which name.
    """
    if learns.located and augment.frame.name == "crop":
        yield (
            f"task {task!r} learns where things are in all of a picture, but augment.frame 'crop' shows its middle; "
            "set pad, stretch or tiles."
        )
    if augment.mosaic and not learns.joins:
        yield (
            f"augment {part_name(augment)!r} joins four pictures, with their objects or masks, but task {task!r} "
            f"learns {learns}; set augment to another policy, such as standard."
        )


def of_growth(options: TrainOptions, size: int) -> Iterator[str]:
    """Where pictures of side S = `size` are to grow from larger ones; the stage `train` knows it by its policy."""
    if options.first_size >= size:
        yield (
            f"train.first_size is {options.first_size}, but pictures grow to augment.size, which is {size}; set less, "
            "or 0 to have all epochs see that size."
        )


def of_pictures(params: TrainParams) -> Iterator[str]:
    """Where what is learnt does not fit the way in which pictures come."""
    task, order, mixing, options = params.task, params.order, params.mixing, params.train
    if order.by_class and not task.learns.one_class:
        yield (
            f"order {part_name(order)!r} goes by the class of each picture, but task {part_name(task)!r} learns "
            f"{task.learns}; set order to shuffled."
        )
    if task.learns not in mixing.takes:
        fitting = [name for name in names("mixings") if task.learns in config_class("mixings", name).takes]  # type: ignore[attr-defined]
        yield (
            f"mixing {part_name(mixing)!r} does not blend {task.learns}, which task {part_name(task)!r} learns; set "
            f"mixing to {' or '.join(fitting)}."
        )
    elif mixing.blends and options.batch_size < 2 * (count := params.compute.processes):
        here = f" in each of {count} processes" if count > 1 else ""
        yield (
            f"mixing {part_name(mixing)!r} blends a picture with another of its batch, but train.batch_size "
            f"{options.batch_size} leaves none beside it{here}; set train.batch_size to {2 * count} or more, or mixing "
            "to none."
        )
    if options.first_size and task.learns.located:
        yield (
            f"train.first_size is {options.first_size}, but task {part_name(task)!r} learns where things are, and "
            "those places do not shrink with the picture; set it to 0."
        )


def of_comparing(params: TrainParams) -> Iterator[str]:
    """Where a loss that compares the pictures of a batch with each other would not see those that it compares."""
    if not params.loss.compares:
        return
    loss, size, order = f"loss {part_name(params.loss)!r}", params.train.batch_size, params.order
    alone = {
        "train.accumulation": (params.train.accumulation, 1),
        "train.when_out_of_memory": (params.train.when_out_of_memory, "stop"),
        "compute.processes": (params.compute.processes, 1),
    }
    for option, (found, wanted) in alone.items():
        if found != wanted:
            yield (
                f"{loss} compares the pictures of a batch with each other, and {option}: {found} would let it see "
                f"parts of a batch by themselves; set {option} to {wanted}."
            )
    if order.in_a_row % size == 0:
        of_one = "a single picture" if size == 1 else f"{size} pictures of one class (order {part_name(order)!r})"
        yield (
            f"{loss} compares pictures of several classes, but train.batch_size {size} makes batches of {of_one}, from "
            f"which nothing is learnt; set train.batch_size to {2 * max(2, order.in_a_row)} or more."
        )
