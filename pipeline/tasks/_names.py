"""The order of class names."""

from __future__ import annotations

import re
from collections.abc import Iterable


def natural_order(names: Iterable[str]) -> list[str]:
    """The distinct names in natural order, that of class ids whatever a source has: `2` comes before `10`."""
    return sorted(set(names), key=natural)


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


def once_each(names: tuple[str, ...], what: str) -> tuple[str, ...]:
    """The same names, as options have them.

    Raises:
        ValueError: one stands there twice; `what` it names.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the {what} {twice[0]!r} stands there twice; name each once")
    return names
