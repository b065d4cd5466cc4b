"""What is known of a picture, what a network says of it, and which of its squares a network sees."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "val", "test")
SMALLEST = 4
"""Pixels: the least side of pictures that a network sees."""


class Target(StrEnum):
    """What is known about an image, and so what can be learnt from it: in words, as users read them in errors."""

    LABEL = "one class per image"
    """int64 [B]"""
    GRADE = "one of ordered classes per image"
    """int64 [B]"""
    LABELS = "any number of classes per image"
    """uint8 [B, K]"""
    NUMBERS = "numbers per image"
    """float32 [B, T]"""
    COUNTS = "how many of each class per image"
    """float32 [B, K]"""
    POINTS = "named points per image"
    """float32 [B, J, 4]"""
    IDENTITY = "who is shown"
    """int64 [B]"""
    OBJECTS = "boxes with classes per image"
    """float32 [B, M, 6]"""
    INSTANCES = "the object that each pixel is of"
    """uint8 [B, H, W, 3]"""
    MASK = "one class per pixel"
    """uint8 [B, H, W]"""

    @property
    def located(self) -> bool:
        """Whether it lies somewhere in the picture, moves with its pixels, and asks for all of them."""
        return self in (Target.POINTS, Target.OBJECTS, Target.INSTANCES, Target.MASK)

    @property
    def joins(self) -> bool:
        """Whether what is known of four pictures can be put together to what is known of their mosaic."""
        return self in (Target.OBJECTS, Target.INSTANCES, Target.MASK)

    @property
    def one_class(self) -> bool:
        """Whether it is one class of each image."""
        return self in (Target.LABEL, Target.GRADE, Target.IDENTITY)

    @property
    def named(self) -> tuple[str, str]:
        """What the classes of a dataset are, one and many of them: of faces they are people."""
        others = {
            Target.GRADE: ("grade", "grades"),
            Target.NUMBERS: ("number", "numbers"),
            Target.POINTS: ("point", "points"),
            Target.IDENTITY: ("person", "people"),
        }
        return others.get(self, ("class", "classes"))


class Output(StrEnum):
    """What a network says about an image."""

    VECTOR = "one vector per image [B, K]"
    EMBEDDING = "the direction of a vector per image [B, E]"
    POINTS = "places with a score per image [B, J, 3]"
    BOXES = "boxes with score and class per image [B, D, 6]"
    INSTANCES = "boxes with score, class and a small mask per image [B, D, 6 + m * m]"
    MAP = "one vector per pixel [B, K, H, W]"


class Views(NamedTuple):
    """The squares that a network sees of N pictures, V of them: image after image, and of each at least one."""

    images: np.ndarray
    """The picture that each shows, int64 [V], 0..N-1 and never falling."""
    regions: np.ndarray
    """x1, y1, x2, y2 of each in its picture, float64 [V, 4]; a region may reach beyond it."""
    sizes: np.ndarray
    """Width and height of the pictures, int64 [N, 2]."""
    side: int
    """P of the squares."""
