"""Letters on pictures, and names that people can read."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Place = tuple[int, int, int, int]
"""Left, top, right and bottom of some letters."""


def shown(name: str) -> str:
    """A name for people to read: what cannot be seen, or would turn the text around it, is replaced."""
    joiners = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"  # some scripts and emoji are spelt with them
    visible = "".join(c if c.isprintable() or c in joiners else "\N{REPLACEMENT CHARACTER}" for c in name)
    return visible if visible.strip(joiners + " ") else "(blank)"


@cache
def font(size: int) -> Font:
    """DejaVu Sans (Latin, Greek, Cyrillic, Hebrew, Arabic), which MLflow's matplotlib brings, else Pillow's own."""
    spec = find_spec("matplotlib")
    path = Path(spec.origin or "").parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if spec else Path("none")
    if path.is_file():
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.load_default(size)


def sized(canvas: tuple[int, int]) -> tuple[Font, int]:
    """Letters that suit a canvas of that width and height, and how high a line of them is."""
    return (font(13), 16) if max(canvas) >= 300 else (font(11), 14)


def meet(one: Place, other: Place) -> bool:
    """Whether two places have a pixel in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
