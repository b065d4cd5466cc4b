"""Classification: one class per image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipeline.contracts import Output, Target, TaskConfig
from pipeline.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


class Config(TaskConfig):
    """One class per image, learnt from its name."""

    learns: ClassVar[Target] = Target.LABEL
    needs: ClassVar[Output] = Output.VECTOR

    score: str = "accuracy"
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""

    def classes(self, annotations: Iterable[str]) -> list[str]:
        """The distinct class names in natural order: `2` comes before `10`.

        Raises:
            UserError: fewer than two classes; there is nothing to tell apart.
        """
        found = sorted(set(annotations), key=natural)
        if len(found) < 2:
            names = repr(found[0]) if found else "none"
            raise UserError(
                f"Classification needs images of two classes or more; the source has {len(found)} ({names}). "
                "Add images of another class, or check that `data` names the folder above the classes."
            )
        return found

    def columns(self, annotation: str, classes: Sequence[str]) -> dict[str, int]:
        """`label`: the position of the image's class in `classes`."""
        return {"label": classes.index(annotation)}

    def stratum(self, annotation: str) -> str:
        """The class: every split gets its share of each."""
        return annotation

    def targets(self, samples: pa.Table) -> np.ndarray:
        """The class ids, int64 [N], each in 0..K-1."""
        labels: np.ndarray = samples.column("label").to_numpy().astype(np.int64)
        return labels

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """The softmax of logits [N, K] in float64 [N, K]; rows sum to 1."""
        logits = outputs.astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))  # the largest is 1: nothing overflows
        shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
        return shares

    def baseline(self, train_targets: np.ndarray, classes: int, count: int) -> np.ndarray:
        """The majority class for every image, as sure as its share of the training images: float64 [count, classes]."""
        shares = np.bincount(train_targets, minlength=classes) / len(train_targets)
        return np.tile(shares, (count, 1))


def natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """A key that sorts runs of digits by their number and other text by its characters.

    Numbers compare by length, then digit by digit, so that none is too long. Names that differ only in
    leading zeros keep a fixed order by the name itself.
    """
    parts = []
    for digits, text in re.findall(r"([0-9]+)|([^0-9]+)", name):
        number = digits.lstrip("0")
        parts.append((bool(text), len(number), number or text))  # numbers before text, shorter numbers first
    return parts, name
