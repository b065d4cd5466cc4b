"""Which named point becomes which in a mirror, where names or a known order say so."""

from __future__ import annotations

import re
from collections.abc import Sequence

SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}
WHOLE = re.compile(r"left|right", re.IGNORECASE)
LETTER = re.compile(r"(?<![A-Za-z])[lr](?![A-Za-z])", re.IGNORECASE)
"""Alone, as in `l_eye` and `hip_R`."""


def _ibug68() -> tuple[int, ...]:
    """The jaw, the brows, the nostrils, the eyes, the outer and the inner lips; the ridge of the nose stays itself."""
    order = list(range(68))

    def swap(first: Sequence[int], second: Sequence[int]) -> None:
        for one, other in zip(first, second, strict=True):
            order[one], order[other] = other, one

    swap(range(8), range(16, 8, -1))
    swap(range(17, 22), range(26, 21, -1))
    swap((31, 32), (35, 34))
    swap(range(36, 42), (45, 44, 43, 42, 47, 46))
    swap((48, 49, 50), (54, 53, 52))
    swap((59, 58), (55, 56))
    swap((60, 61), (64, 63))
    swap((67,), (65,))
    return tuple(order)


IBUG68 = _ibug68()
"""Of the 68 points of a face of Sagonas et al. 300 Faces In-the-Wild Challenge, 2016, figure 1, numbered from 0."""


def partner(names: Sequence[str]) -> dict[str, str]:
    """Of each name that says left or right, and whose other side is a name too, that one."""
    known = set(names)
    return {name: other for name in names if (other := _other(name)) != name and other in known}


def _other(name: str) -> str:
    """The name of the same on the other side; itself, if it says no side."""
    pattern = WHOLE if WHOLE.search(name) else LETTER
    return pattern.sub(lambda found: _as(SIDES[found[0].lower()], found[0]), name)


def _as(word: str, like: str) -> str:
    if like.isupper():
        return word.upper()
    return word.capitalize() if like[0].isupper() else word
