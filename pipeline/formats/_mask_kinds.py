"""What the values of masks mean: from a look at a few of them, from files that name classes, and from options.

    1. `classes` of params.yaml decides.
    2. Else a file of the source (`_class_files`): by colour where masks are in colours, by the palette where they
       have one, else by number.
    3. Else masks of two values, 0 and 255 or black and white, are `background` and `object`.
    4. Else the value k is `class k`.

255 is void, unless it has a class; so is whatever a file names `void`, `ignore` or `unlabelled`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.annotations import Colour, Layer, Painted, Pieces
from pipeline.errors import UserError
from pipeline.formats._class_lists import Names
from pipeline.formats._mask_look import BLACK, WHITE, Look

NUMBERED = 254
"""Classes that are named by their number: as many as a mask tells apart while it is put together."""
ABSENT = frozenset(("void", "ignore", "ignored", "__ignore__", "_ignore_", "unlabelled", "unlabeled", "don't care"))
"""Names, in lower case, of what is no class."""

Values = dict[int | Colour, str]
"""The class of each pixel value."""


@dataclass(frozen=True)
class Meaning:
    """What the pixel values of a source's masks stand for."""

    classes: Mapping[int | Colour, str]
    void: frozenset[int | Colour]
    clear: frozenset[int | Colour] = frozenset()
    """The lower of two values: where each object has a mask of its own, what is below is seen through it."""

    def painted(self, names: Sequence[str], masks: Sequence[bytes]) -> Painted:
        """One mask as it stands, or several that each show an object, over one background."""
        if len(masks) == 1 and not self.clear:
            return Painted((Layer(names[0], masks[0], self.classes, self.void),))
        classes = {value: name for value, name in self.classes.items() if value not in self.clear}
        layers = [Layer(name, data, classes, self.void, self.clear) for name, data in zip(names, masks, strict=True)]
        background = next((self.classes[value] for value in sorted(self.clear) if value in self.classes), "background")
        return Painted(tuple(layers), background)

    def pieces(self, names: Sequence[str], masks: Sequence[bytes]) -> Pieces:
        """Masks that each show an object."""
        classes = {value: name for value, name in self.classes.items() if value not in self.clear}
        layers = [Layer(name, data, classes, self.void, self.clear) for name, data in zip(names, masks, strict=True)]
        return Pieces(tuple(layers))


def meaning(
    seen: Look, named: Names, classes: Mapping[int, str] | Sequence[str], void: Sequence[int] | None
) -> Meaning:
    """What values mean.

    Args:
        seen: of the masks.
        named: by a file of the source.
        classes: of the options, by value or in order; empty if not said.
        void: likewise; None if not said.

    Raises:
        UserError: a value is void and has a class.
    """
    pair = _pair(seen)
    found: Values = _said(classes, pair) or _named(named, seen, pair)
    if not found and pair:
        found = {pair[0]: "background", pair[1]: "object"}
    if void and (both := sorted(set(void) & set(found))):
        raise UserError(f"data.void: {both[0]} has the class {found[both[0]]!r} too. Take it out of one of them.")
    nothing: set[int | Colour] = {value for value, name in found.items() if not classes and name.lower() in ABSENT}
    nothing |= set(void) if void is not None else {255} - set(found)
    if not found:
        found = {value: f"class {value}" for value in range(256) if value not in nothing}
        found = dict(list(found.items())[:NUMBERED])
    kept = {value: name for value, name in found.items() if value not in nothing}
    return Meaning(kept, frozenset(nothing))


def by_object(found: Meaning, seen: Look) -> Meaning:
    """The meaning of masks that each show one object: their lower value is clear.

    Raises:
        UserError: they have more than two values.
    """
    lowest = min(seen.values, default=0) if len(seen.values) == 2 else 0
    pair = _pair(seen) or (lowest, max(seen.values, default=255))
    if len(seen.values) > 2 or seen.coloured:
        raise UserError(
            f"Each picture has several masks, which hold the values {_listed(seen.values)}; a mask of one object has "
            "two. Set data.masks to the folder whose masks hold all classes of a picture."
        )
    upper = found.classes.get(pair[1], "object")
    lower = found.classes.get(pair[0], "background")
    if lower == "class 0":  # values are 0 and 1, and nobody names them
        lower, upper = "background", "object"
    return Meaning({pair[0]: lower, pair[1]: upper}, frozenset(), frozenset({pair[0]}))


def _pair(seen: Look) -> tuple[int, int] | None:
    """The values of background and object of masks that hold no others: 0 and 255, or black and white by a palette."""
    if seen.coloured or not seen.values:
        return None
    if seen.values <= {0, 255} and not seen.palette:
        return 0, 255
    colours = {value: seen.palette[value] for value in seen.values if 0 <= value < len(seen.palette)}
    if seen.palette and set(colours.values()) == {BLACK, WHITE} and len(colours) == 2:
        black, white = sorted(colours, key=lambda value: colours[value])
        return black, white
    return None


def _said(classes: Mapping[int, str] | Sequence[str], pair: tuple[int, int] | None) -> Values:
    if isinstance(classes, Mapping):
        return dict(classes.items())
    return dict(zip(pair, classes, strict=True)) if pair and len(classes) == 2 else dict(enumerate(classes))


def _named(named: Names, seen: Look, pair: tuple[int, int] | None) -> Values:
    """By the file of names, as these masks need it."""
    if seen.coloured and named.by_colour:
        coloured: Values = {}
        for colour, name in named.by_colour.items():
            coloured[colour] = name
            if len(set(colour)) == 1:  # a mask all in grey colours is told by its levels
                coloured[colour[0]] = name
        return coloured
    if named.by_colour and seen.palette:
        found = {value: named.by_colour.get(colour) for value, colour in enumerate(seen.palette)}
        told: Values = {value: name for value, name in found.items() if name is not None}
        if 2 * len(seen.values & told.keys()) > len(seen.values):  # and not a palette of other colours
            return told
    if pair and len(named.by_value) == 2:
        return dict(zip(pair, named.by_value.values(), strict=True))
    return dict(named.by_value.items())


def _listed(values: Iterable[int]) -> str:
    ordered = [str(value) for value in sorted(values)]
    return ", ".join(ordered[:8]) + (f" and {len(ordered) - 8} more" if len(ordered) > 8 else "")
