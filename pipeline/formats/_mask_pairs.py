"""Which mask belongs to which picture, by names alone.

A file is a mask if its folder says so (`masks`, `label`, `trainannot`, `SegmentationClass`), or if its name is that of
a picture and one of `_mask`, `_label`, `_L`, `_gt`. Its picture has the same name, without what marks either of them,
in the folder that is the same without these words: `train/images/1.jpg` and `train/masks/1_mask.png`. A folder with
one picture beside a folder of masks with other names holds a mask for each object.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import NamedTuple

from pipeline.errors import UserError
from pipeline.formats._files import below, folder, parent, stem

SPLIT = r"(?:train|training|val|valid|validation|test|testing|trainval)\d{0,4}"
MASK_WORDS = frozenset(
    (
        *("mask", "masks", "label", "labels", "annot", "annotation", "annotations", "gt", "groundtruth", "ground"),
        *("truth", "seg", "segmentation", "segmentations", "semantic", "semseg", "segmentationclass", "trimaps"),
        *("segmentationclassraw", "gtleft", "gtright", "gtfine", "gtcoarse"),
    )
)
PICTURE_WORDS = frozenset(
    (
        *("image", "images", "img", "imgs", "jpegimages", "picture", "pictures", "photo", "photos", "input", "inputs"),
        *("rgb", "rgbleft", "rgbright", "leftimg8bit"),
    )
)
GLUED = re.compile(rf"({SPLIT})(annot|annotations?|masks?|labels?|gt)", re.IGNORECASE)
IDLE = frozenset(("prepped",))
OTHER_FOLDER = re.compile(r"(panoptic|instances?|depth)([_\-]?\w*)?|segmentationobject", re.IGNORECASE)
OTHER_STEM = re.compile(r".*[_\-](instances?|instanceids|panoptic|gtfine_colou?r|parts_\d+|depth)", re.IGNORECASE)
PREDICTED = re.compile(r".*[_\-](predict|predicted|prediction|pred)", re.IGNORECASE)
MASK_END = re.compile(
    r"(.+?)[ _\-](gtfine_label(?:train)?ids|label(?:train)?ids|masks?(?:[_\-]\d+)?|labels?|l|gt|seg|segmentation|annot"
    r"|annotation|anno|manual1)",
    re.IGNORECASE,
)
MASK_START = re.compile(r"(?:gt|mask|label|seg)[_\-](.+)", re.IGNORECASE)
PICTURE_END = re.compile(r"(.+)[_\-](leftimg8bit|sat|image|img|orig|rgb|training|test)", re.IGNORECASE)
PICTURE_START = re.compile(r"(?:image|img|sat|rgb)[_\-](.+)", re.IGNORECASE)

Home = tuple[str, ...]
"""The folders of a file, without the words that say what lies in them."""


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


class _Place(NamedTuple):
    mask: bool | None
    """None where the folders say nothing."""
    home: Home


def pair(names: Collection[str], pictures: str = "", masks: str = "") -> Pairs:
    """Sort the files of a source that are pictures by suffix.

    Args:
        names: of these files.
        pictures: the folder that pictures lie in; empty: found out.
        masks: the folder that masks lie in; empty: found out.

    Raises:
        UserError: a picture has masks in several folders.
    """
    places, other = _places(names, folder(pictures), folder(masks))
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


def _places(names: Collection[str], pictures: str, masks: str) -> tuple[dict[str, _Place], dict[str, str]]:
    """Where each file lies, and those that are out of the question."""
    places: dict[str, _Place] = {}
    other: dict[str, str] = {}
    for name in sorted(names):
        place = _place(parent(name))
        if masks and below(name, masks):
            places[name] = _Place(True, _place(parent(name)[len(masks) + 1 :]).home)
        elif pictures and below(name, pictures):
            places[name] = _Place(False, _place(parent(name)[len(pictures) + 1 :]).home)
        elif OTHER_FOLDER.fullmatch(parent(name).rpartition("/")[2]) or OTHER_STEM.fullmatch(stem(name)):
            other[name] = "by its name no picture and no mask of classes"
        elif name.replace("labelTrainIds", "labelIds") in names and "labelTrainIds" in name:
            other[name] = "the same with other numbers is in labelIds"
        elif PREDICTED.fullmatch(stem(name)):
            other[name] = "by its name what a model said, not what is true"
        elif (pictures and not (place.mask and not masks)) or (masks and place.mask):
            other[name] = "outside data.pictures and data.masks"
        else:
            places[name] = place
    return places, other


def _place(folders: str) -> _Place:
    mask: bool | None = None
    home = []
    for part in folders.split("/") if folders else ():
        marked, rest = _marked(part)
        mask = mask if marked is None else marked
        home += [rest.lower()] if rest else []
    return _Place(mask, tuple(home))


def _marked(part: str) -> tuple[bool | None, str]:
    """Whether a folder holds masks, or pictures, by its name, and what is left of the name without that word."""
    if match := GLUED.fullmatch(part):
        return True, match[1]
    words = re.split(r"[ _\-]+", part.lower())
    says = {word in MASK_WORDS for word in words if word in MASK_WORDS or word in PICTURE_WORDS}
    rest = [word for word in words if word not in MASK_WORDS and word not in PICTURE_WORDS and word not in IDLE]
    if len(says) != 1 or len(rest) > 1 or (rest and not re.fullmatch(SPLIT, rest[0])):
        return None, part
    return says.pop(), "".join(rest)


def _by_stem(places: dict[str, _Place]) -> None:
    """Files in folders that say nothing are masks if they are named like another one and a word for masks."""
    stems = {(place.home, stem(name).lower()) for name, place in places.items() if not place.mask}
    for name, place in places.items():
        match = MASK_END.fullmatch(stem(name)) if place.mask is None else None
        if match and any((place.home, match[1].lower() + ending) in stems for ending in ("", "_sat", "_leftimg8bit")):
            places[name] = _Place(True, place.home)


def _index(pictures: Collection[str], places: dict[str, _Place]) -> dict[str, dict[str, Home]]:
    """Pictures by their own name, and by what is left of it."""
    index: dict[str, dict[str, Home]] = defaultdict(dict)
    for name in pictures:
        own = stem(name).lower()
        for pattern in (None, PICTURE_END, PICTURE_START):
            match = pattern.fullmatch(own) if pattern else None
            if match or pattern is None:
                index[match[1] if match else own][name] = places[name].home
    return index


def _picture_of(mask: str, places: dict[str, _Place], index: dict[str, dict[str, Home]]) -> tuple[str | None, int, str]:
    """The picture of a mask and how many folders they are apart, or why there is none."""
    reason = "no picture of that name"
    for own in _mask_stems(mask):
        home = places[mask].home
        fitting = {
            name: abs(len(other) - len(home))
            for name, other in index.get(own, {}).items()
            if _within(home, other) or _within(other, home)
        }
        best = [name for name, apart in fitting.items() if apart == min(fitting.values())]
        if len(best) == 1:
            return best[0], fitting[best[0]], ""
        if best:
            reason = f"it could belong to {best[0]} and to {best[1]}"
    return None, 0, reason


def _mask_stems(mask: str) -> Iterator[str]:
    own = stem(mask).lower()
    yield own
    for pattern in (MASK_END, MASK_START):
        if match := pattern.fullmatch(own):
            yield match[1]


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
