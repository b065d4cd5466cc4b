"""Which mask belongs to which picture, by names alone.

A file is a mask if its folder says so (`masks`, `label`, `trainannot`, `SegmentationClass`), or if its name is that of
a picture and one of `_mask`, `_label`, `_L`, `_gt`. Its picture has the same name, without what marks either of them,
in the folder that is the same without these words: `train/images/1.jpg` and `train/masks/1_mask.png`. A folder with
one picture beside a folder of masks with other names holds a mask for each object. `7/image.png` has `7/mask.png`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import NamedTuple

from pipeline.errors import UserError
from pipeline.formats._mask_names import (
    MASK_END,
    MASK_START,
    MASK_WORDS,
    PICTURE_END,
    PICTURE_START,
    PICTURE_WORDS,
    SPLIT,
    Home,
    Place,
    places_of,
)
from pipeline.formats._names import folder, parent, stem, suffix

MOST_HOMES = 1000
"""Folders with a picture of one name, beyond which only a mask in the same folder is matched with it."""
_Index = dict[str, dict[Home, list[str]]]
"""Pictures by what is left of their name without words, then by their folders; "" for `image.png` and its like."""


class Pairs(NamedTuple):
    """The pictures of a source and their masks."""

    masks: dict[str, tuple[str, ...]]
    """Of each picture, sorted; none of one of which nothing is said."""
    alone: dict[str, str]
    """Masks without a picture, and what is wrong."""
    other: dict[str, str]
    """Files that are neither, and why."""
    by_object: bool
    """Whether each mask shows one object."""


def pair(names: Collection[str], pictures: str = "", masks: str = "") -> Pairs:
    """Sort the files of a source that are pictures by suffix.

    Args:
        names: of these files.
        pictures: the folder that pictures lie in; empty: found out.
        masks: the folder that masks lie in; empty: found out.

    Raises:
        UserError: a picture has masks in several folders.
    """
    places, other = places_of(names, folder(pictures), folder(masks))
    _by_stem(places)
    chosen = [name for name, place in places.items() if not place.mask]
    painted = [name for name, place in places.items() if place.mask]
    found: dict[str, dict[str, int]] = {name: {} for name in chosen}
    alone: dict[str, str] = {}
    by_object = False
    index = _index(chosen, places)
    homes: dict[Home, list[str]] = defaultdict(list)
    for name in chosen:
        homes[places[name].home].append(name)
    for name in sorted(painted):
        picture, apart, reason = _picture_of(name, places, index)
        home = places[name].home
        if picture is None and home and not re.fullmatch(SPLIT, home[-1]) and len(homes.get(home, ())) == 1:
            picture, by_object = homes[home][0], True  # a folder for each picture
        if picture is None:
            alone[name] = reason
        else:
            found[picture][name] = apart
    pairs: dict[str, tuple[str, ...]] = {}
    for picture, several in found.items():
        nearest = [name for name, apart in several.items() if apart == min(several.values())]
        other |= {name: f"another mask of {picture} lies nearer to it" for name in several if name not in nearest}
        if len(nearest) > 1:
            _one_folder(picture, nearest)
            by_object = True
        pairs[picture] = tuple(nearest)
    return Pairs(pairs, alone, other, by_object)


def _by_stem(places: dict[str, Place]) -> None:
    """Files in folders that say nothing are masks if they are named like another one and a word for masks."""
    stems = {(place.home, stem(name).lower()) for name, place in places.items() if not place.mask}
    for name, place in places.items():
        if place.mask is not None:
            continue
        own = stem(name).lower()
        match = MASK_END.fullmatch(own)
        if match and match[2] == "l" and suffix(name) in ("jpg", "jpeg"):
            continue  # a large version, and no mask
        others = [match[1] + ending for ending in ("", "_sat", "_leftimg8bit")] if match else []
        others += PICTURE_WORDS if own in MASK_WORDS else ()
        if any((place.home, other) in stems for other in others):
            places[name] = Place(True, place.home)


def _index(pictures: Collection[str], places: dict[str, Place]) -> _Index:
    index: _Index = defaultdict(lambda: defaultdict(list))
    for name in pictures:
        own = stem(name).lower()
        matches = [match[1] for pattern in (PICTURE_END, PICTURE_START) if (match := pattern.fullmatch(own))]
        for key in (own, *matches, *([""] if own in PICTURE_WORDS else [])):
            index[key][places[name].home].append(name)
    return index


def _picture_of(mask: str, places: dict[str, Place], index: _Index) -> tuple[str | None, int, str]:
    """The picture of a mask and how many folders they are apart, or why there is none."""
    reason = "no picture of that name"
    home = places[mask].home
    for own in _mask_stems(mask):
        homes = index.get(own, {})
        apart, best = 0, homes.get(home, [])
        if not best and len(homes) < MOST_HOMES:
            fitting = {
                other: abs(len(other) - len(home)) for other in homes if _within(home, other) or _within(other, home)
            }
            apart = min(fitting.values(), default=0)
            best = sorted(name for other, far in fitting.items() if far == apart for name in homes[other])
        if len(best) == 1:
            return best[0], apart, ""
        if best:
            reason = f"it could belong to {best[0]} and to {best[1]}"
    return None, 0, reason


def _mask_stems(mask: str) -> Iterator[str]:
    own = stem(mask).lower()
    yield own
    for pattern in (MASK_END, MASK_START):
        if match := pattern.fullmatch(own):
            yield match[1]
    if own in MASK_WORDS:
        yield ""


def _within(few: Home, many: Home) -> bool:
    """Whether the folders `few` stand among `many` in the same order."""
    left = iter(many)
    return all(part in left for part in few)


def _one_folder(picture: str, masks: list[str]) -> None:
    folders = sorted({parent(mask) or "." for mask in masks})
    if len(folders) > 1:
        raise UserError(
            f"{picture} has masks in {len(folders)} folders: {', '.join(folders[:4])}. Set data.masks to the one whose "
            "masks say the class of each pixel."
        )
