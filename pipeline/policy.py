"""The policy file: how training pictures are varied and every picture is normalised, with nothing left to resolve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.contracts import Frame, Options
from pipeline.errors import UserError

POLICY = Path("out/policy/policy.json")


class Policy(Options):
    """`policy.json`."""

    channels: int
    frame: Frame
    """What of a picture is seen."""
    packed: int
    """P: training pictures come in with this side."""
    size: int
    """S: and go to the network with this one."""
    mean: list[float]
    """Of each channel over the packed training pictures, in 0..1."""
    deviation: list[float]
    """Of each channel, likewise."""
    transforms: dict[str, Any]
    """In Albumentations' own serialised form."""
    mosaic: float = 0
    """Share of training pictures that are put together from four before that."""
    alternates: bool = False
    """Whether a picture that is mirrored left to right in an epoch is not in the next; else half are, by chance."""

    @property
    def plain(self) -> int:
        """Side of the pictures that are not varied: of a crop the middle of P x P is seen, of other frames all."""
        return self.packed if self.frame.name == "crop" else self.size

    @classmethod
    def open(cls, path: Path = POLICY) -> Policy:
        """Read the policy.

        Raises:
            UserError: there is none.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise UserError(f"No augmentation policy can be read in {path}: {error}. `convoy run` makes it.") from error
