"""What every kind of change gives: its draws, and how it is done on the host and on a device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from pipeline.variations.sight import Sight

Spec = Mapping[str, Any]
"""The arguments of one transform in Albumentations' serialised form."""


class Given(NamedTuple):
    """What comes in at a step."""

    side: int
    channels: int
    located: bool
    """Whether something moves with the pixels."""


class Drawn(NamedTuple):
    """What a step does to each of B pictures."""

    happens: np.ndarray
    """Whether it happens at all, bool [B]."""
    values: np.ndarray
    """How, as the step itself reads it, [B, ...]."""


class Step(ABC):
    """One change of pictures, with its options."""

    moves: ClassVar[bool] = False
    """Whether pixels go elsewhere, and masks, boxes and points with them."""
    mirrors: ClassVar[bool] = False
    """Whether left becomes right."""

    side: int
    """Of the square pictures that come out."""

    @property
    @abstractmethod
    def takes(self) -> int:
        """How many numbers it draws for a picture."""

    @abstractmethod
    def drawn(self, random: np.ndarray) -> Drawn:
        """What happens, from numbers of [0, 1), float64 [B, takes]."""

    @abstractmethod
    def on_host(self, pixels: np.ndarray, how: np.ndarray, room: np.ndarray) -> np.ndarray:
        """One picture, changed as Albumentations changes it.

        Args:
            pixels: uint8 [P, P, C], not changed in place.
            how: the values drawn for it.
            room: uint8 [side, side, C], of other memory.

        Returns:
            The room, filled; or a part of the pixels, as they lie.
        """

    @abstractmethod
    def on_device(self, sight: Sight, happens: Tensor, values: Tensor) -> Sight:
        """Many pictures, likewise."""

    def mask_on_host(self, mask: np.ndarray, how: np.ndarray, room: np.ndarray) -> np.ndarray:
        """A mask [P, P, ...], which moves by nearest neighbours; what comes in from outside is void."""
        return self.on_host(mask, how, room)

    def placed(self, places: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Where places of the pictures go, x and y in float64 [B, n, 2], from the values drawn for them."""
        return places


def agrees(spec: Spec, **expected: object) -> bool:
    """Whether arguments of a transform are these; one that the transform does not have is not."""
    return all(name in spec and spec[name] == value for name, value in expected.items())


def always(random: np.ndarray, values: np.ndarray) -> Drawn:
    """Of a step that happens to every picture."""
    return Drawn(np.ones(len(random), bool), values)
