"""What tasks of numbers share: views of one image, images of one group, and the middle of many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.contracts import Views
from pipeline.numbers import Scale, decoded, learnt


def of_images(outputs: np.ndarray, views: Views) -> list[np.ndarray]:
    """Outputs [V, T] by image: float64 [v, T] each."""
    firsts = np.searchsorted(views.images, np.arange(1, len(views.sizes)))
    return np.split(outputs.astype(np.float64), firsts) if len(views.sizes) else []


def mean(told: np.ndarray, scales: Sequence[Scale]) -> np.ndarray:
    """The mean of what was told of the views of one image, as it is learnt: float64 [v, T] to [T]."""
    one: np.ndarray = told[0] if len(told) == 1 else decoded(learnt(told, scales).mean(axis=0)[None], scales)[0]
    return one


def middle(values: np.ndarray, scales: Sequence[Scale]) -> np.ndarray:
    """The median of what is known of each number, round a circle the mean direction: float64 [N, T] to [T]."""
    found = np.zeros(values.shape[1])
    for column, scale in enumerate(scales):
        known = values[~np.isnan(values[:, column]), column]
        if scale.kind == "circular" and len(known):
            found[column] = decoded(learnt(known[:, None], [scale]).mean(axis=0)[None], [scale])[0, 0]
        else:
            found[column] = np.median(known) if len(known) else scale.mean
    return found


def places(groups: Sequence[str | None]) -> np.ndarray:
    """The group of each image as a number, int64 [N]; an image without one is a group by itself."""
    numbers: dict[str | int, int] = {}
    return np.array(
        [
            numbers.setdefault(position if group is None else group, len(numbers))
            for position, group in enumerate(groups)
        ],
        np.int64,
    )
