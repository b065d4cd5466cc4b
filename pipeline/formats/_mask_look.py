"""A look at a few masks of a source: which values they hold, and whether they are in colours."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.annotations import Colour
from pipeline.errors import UserError
from pipeline.formats._files import Listing

LOOKED_AT = 20
"""Masks of a source that are decoded to find out what kind they are."""
LARGEST = 4_000_000
"""Bytes of one that is looked at."""
MOST_PIXELS = 50_000_000
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True)
class Look:
    """What was seen of a few masks."""

    values: frozenset[int] = frozenset()
    """Of those that hold one value per pixel."""
    coloured: bool = False
    """Whether any is in colours."""
    palette: tuple[Colour, ...] = ()
    """Of those that have one, where all have the same."""
    lossy: str = ""
    """The first that is a JPEG."""


def look(listing: Listing, masks: Iterable[str]) -> Look:
    """Decode a few masks, evenly spread over all.

    Raises:
        UserError: none of them can be decoded, or they are JPEGs, whose values are not what was painted.
    """
    ordered = sorted(masks)
    step = max(1, len(ordered) // LOOKED_AT)
    chosen = ordered[::step][:LOOKED_AT]
    seen, reason = [], ""
    for item in listing.contents(chosen):
        if isinstance(item, tuple) and len(item[1]) <= LARGEST:
            found = _seen(item[1])
            seen += [found] if isinstance(found, Look) else []
            reason = reason or (found if isinstance(found, str) else "")
            if isinstance(found, Look) and found.lossy:
                raise UserError(
                    f"{listing.path}: the mask {item[0]} is a JPEG, whose compression changes the values of pixels. "
                    "Save the masks as PNG, with the values that were meant."
                )
    if not seen and reason:
        raise UserError(f"{listing.path}: no mask can be read. {chosen[0]}: {reason}. Mend the masks.")
    palettes = {one.palette for one in seen if one.palette}
    return Look(
        frozenset().union(*(one.values for one in seen)),
        any(one.coloured for one in seen),
        palettes.pop() if len(palettes) == 1 else (),
    )


def _seen(data: bytes) -> Look | str:
    """One mask, or why it cannot be decoded."""
    from PIL import Image, UnidentifiedImageError

    from pipeline.images import FORMATS

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            if picture.width * picture.height > MOST_PIXELS:
                return f"{picture.width} x {picture.height} pixels are too many for a look"
            picture.load()
        return _values(picture)
    except UnidentifiedImageError:
        return "it is no picture"
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged input
        return " ".join((str(error) or type(error).__name__).split())


def _values(picture: Any) -> Look:
    import numpy as np

    pixels = np.asarray(picture)
    lossy = "JPEG" if picture.format == "JPEG" else ""
    if picture.mode in ("RGB", "RGBA") and not (pixels[:, :, :3] == pixels[:, :, :1]).all():
        return Look(coloured=True, lossy=lossy)
    flat = pixels[:, :, 0] if pixels.ndim == 3 else pixels
    levels = picture.getpalette("RGB") or [] if picture.mode == "P" else []
    palette = tuple((levels[at], levels[at + 1], levels[at + 2]) for at in range(0, len(levels) - 2, 3))
    palette = (BLACK, WHITE) if picture.mode == "1" else palette
    return Look(frozenset(int(value) for value in np.unique(flat)), palette=palette, lossy=lossy)
