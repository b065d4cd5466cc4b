"""What is asked of a policy: how training pictures are varied, and what of them a network sees."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.contracts.nouns import SMALLEST
from pipeline.contracts.options import Options


class Transform(Options):
    """One random change to a training picture, by its name in the augmentation library."""

    name: str
    """As the library has it: `HorizontalFlip`."""
    arguments: dict[str, Any] = Field({})
    """Of the library's, by their names there; what is left out is as there."""


class Frame(Options):
    """What of a picture a network sees, as squares of one size: see `pipeline.frames`."""

    name: Literal["crop", "pad", "stretch", "tiles"] = "crop"
    """crop: the middle, as large as fits; pad: all of it, with grey beside it or below it; stretch: all of it, out of
    proportion; tiles: all of it, piece by piece, for objects that are small in large pictures."""
    tile: int = Field(0, ge=0, le=30_000)
    """Side of a tile in pixels of the picture; 0 is that of the network's picture, so that nothing is shrunk."""
    overlap: float = Field(0.25, ge=0, le=0.9)
    """Share of a tile, at least, that it has in common with its neighbour."""

    @model_validator(mode="before")
    @classmethod
    def _by_its_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _fits(self) -> Frame:
        if self.name != "tiles" and (self.tile or self.overlap != 0.25):
            raise ValueError(
                f"tile and overlap are of the frame 'tiles', and the frame is {self.name!r}; leave them out"
            )
        return self


class PolicyConfig(Options):
    """How training pictures are varied: `pipeline/policies/<name>.py`."""

    size: int = Field(ge=SMALLEST, le=4096)
    """Side in pixels of the square pictures that the network sees."""
    frame: Frame = Frame.model_validate({})
    """What of a picture they show: crop, pad, stretch or tiles."""

    @property
    @abstractmethod
    def packed(self) -> int:
        """Side P >= size of the training pictures before augmentation."""

    @property
    def mosaic(self) -> float:
        """The share of training pictures that are put together from four: see `pipeline.mosaics`."""
        return 0.0

    @property
    def alternates(self) -> bool:
        """Whether pictures are mirrored left to right in every other epoch, and not by chance in each."""
        return False

    @abstractmethod
    def transforms(self, located: bool) -> list[Transform]:
        """From uint8 [P, P, C] to uint8 [S, S, C].

        Args:
            located: whether boxes or masks go with the pixels. Then nothing may be shown twice: what a mirror at the
                edge adds would be an object that nobody named.
        """
