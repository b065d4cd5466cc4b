"""Where the parts of a `params.yaml`, each right by itself, do not fit each other."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.clashes.course import of_course, of_ensemble, of_precision, of_rest
from pipeline.clashes.parts import of_parts, of_source
from pipeline.clashes.pictures import of_comparing, of_growth, of_pictures, of_policy
from pipeline.clashes.processes import of_processes
from pipeline.contracts import Options
from pipeline.params import Params, TrainParams, part_name

__all__ = ["clashes", "of_growth", "of_policy"]


def clashes(params: Options) -> Iterator[str]:
    """What does not fit in these sections, a text each; a stage that has some of them hears of those."""
    if isinstance(params, Params):
        yield from of_source(params)
        yield from of_policy(params.augment, params.task.learns, part_name(params.task))
        yield from of_growth(params.train, params.augment.size)
    if isinstance(params, TrainParams):
        yield from of_parts(params)
        yield from of_pictures(params)
        yield from of_comparing(params)
        yield from of_ensemble(params)
        yield from of_course(params)
        yield from of_precision(params)
        yield from of_rest(params)
        yield from of_processes(params)
