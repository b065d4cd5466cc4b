"""Colours of classes, told apart by people with any of the common kinds of colour blindness.

Sources: the first seven are those of Okabe, Ito. Color Universal Design, 2008; the others are from Krzywinski's palette
of twelve (Designing for Color Blindness, 2013).
"""

from __future__ import annotations

Colour = tuple[int, int, int]
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (132, 0, 205), (0, 252, 207), (164, 1, 34), (255, 178, 253), (0, 141, 249),
)  # fmt: skip
"""Of the classes by their places; after the last one it begins again."""
UNKNOWN: Colour = (140, 140, 140)
DARK: Colour = (20, 20, 20)
LIGHT: Colour = (255, 255, 255)
SHADES = (0.0, 0.45, -0.4, 0.7, -0.65)
"""Of one colour, for objects of a class that lie side by side: how far each is on the way to white, or to black."""


def colour(place: int) -> Colour:
    """Of the class at that place."""
    return PALETTE[place % len(PALETTE)]


def shaded(given: Colour, shade: float) -> Colour:
    """A colour nearer to white, or, of a negative share, to black."""
    end = 255 if shade > 0 else 0
    red, green, blue = (round(part + (end - part) * abs(shade)) for part in given)
    return red, green, blue


def ink(ground: Colour) -> Colour:
    """Letters that can be read on a colour."""
    red, green, blue = ground
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else LIGHT
