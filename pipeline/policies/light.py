"""Small shifts, turns and changes of scale: for characters, digits, and whatever has a right way up and a left side."""

from __future__ import annotations

from pydantic import Field

from pipeline.contracts import PolicyConfig, Transform

CONSTANT = 0  # BORDER_CONSTANT: where things have places, nothing may be shown twice
REPLICATE = 1  # OpenCV's name for it is BORDER_REPLICATE: what lies outside looks like the nearest edge, black or white


class Config(PolicyConfig):
    """No flips, no colours: a mirrored 2 is no 2."""

    shift: float = Field(0.08, ge=0, le=0.5)
    """Furthest move along each axis, as a share of the side."""
    scale: float = Field(0.1, ge=0, lt=1)
    """Largest growth or shrinkage along each axis, as a share of the side."""
    rotate: float = Field(10, ge=0, le=180)
    """Largest turn either way, in degrees."""

    @property
    def packed(self) -> int:
        """S: there is nothing to crop."""
        return self.size

    def transforms(self, located: bool) -> list[Transform]:
        """One affine map of the whole picture."""
        arguments = {
            "scale": [1 - self.scale, 1 + self.scale],
            "translate_percent": [-self.shift, self.shift],
            "rotate": [-self.rotate, self.rotate],
            "border_mode": CONSTANT if located else REPLICATE,
            "p": 1.0,
        }
        return [Transform(name="Affine", arguments=arguments)]
