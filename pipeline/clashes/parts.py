"""Where what one part gives is not what another takes: types meet, names do not."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.errors import did_you_mean
from pipeline.params import Params, TrainParams, part_name
from pipeline.plugin import metrics_for


def of_source(params: Params) -> Iterator[str]:
    """Where the source does not say what is to be learnt."""
    task, form = params.task, params.data
    if not set(task.reads) & form.gives:
        given, read = ", ".join(sorted(form.gives)), ", or ".join(task.reads)
        yield f"task {part_name(task)!r} learns from {read}, but format {part_name(form)!r} gives {given}."


def of_parts(params: TrainParams) -> Iterator[str]:
    """Where what one part gives is not what another takes."""
    task, model, loss = params.task, params.model, params.loss
    if model.gives not in task.needs:
        needed = ", or ".join(task.needs)
        yield f"task {part_name(task)!r} needs {needed}, but model {part_name(model)!r} gives {model.gives}."
    elif (model.gives, task.learns) not in loss.takes:
        yield (
            f"task {part_name(task)!r} compares {model.gives} with {task.learns}, which loss {part_name(loss)!r} "
            "does not take."
        )
    if task.score not in (valid := metrics_for(task)):
        yield (
            f"task.score is {task.score!r}, but no metric of that name scores {task.learns}."
            f"{did_you_mean(task.score, valid)} pipeline/metrics/ has: {', '.join(valid)}."
        )
