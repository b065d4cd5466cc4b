"""How much each class counts in a loss: the option, and the numbers that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator
from torch import Tensor

from pipeline.errors import UserError


def _worded(value: Any) -> Any:
    """Refuse anything but the three forms, in one message instead of one per form."""
    numbers = isinstance(value, list | tuple) and all(
        isinstance(weight, int | float) and not isinstance(weight, bool) and 0 < weight < float("inf")
        for weight in value
    )
    if not numbers and value not in ("none", "balanced"):
        raise ValueError(
            f"expected none, balanced, or a list of one weight > 0 per class, as in [1, 2.5]; found {value!r}"
        )
    return value


ClassWeights = Annotated[Literal["none", "balanced"] | tuple[float, ...], BeforeValidator(_worded)]


def class_weights(
    choice: Literal["none", "balanced"] | tuple[float, ...], counts: Sequence[int], option: str = "class_weights"
) -> Tensor | None:
    """The weight of each class.

    `balanced` is N / (K * count) as in scikit-learn's `compute_class_weight`: every class has the same say in all,
    however few its images. A class without any training image gets 1, the weight of a class of average size.

    Args:
        choice: the option.
        counts: training images of each class, K of them.
        option: its name, for errors.

    Returns:
        float32 [K], or None where all classes count alike.

    Raises:
        UserError: a list of another length than K.
    """
    if choice == "none":
        return None
    if choice == "balanced":
        images = sum(counts)
        return torch.tensor([images / (len(counts) * count) if count else 1.0 for count in counts])
    if len(choice) != len(counts):
        raise UserError(
            f"params.yaml: loss.{option}: {len(choice)} weights for {len(counts)} classes: give one per class, "
            "in the order of the classes in out/dataset/dataset.json."
        )
    return torch.tensor(choice, dtype=torch.float32)
