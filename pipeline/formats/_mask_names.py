"""What the names of files and folders say of pictures and masks."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from pipeline.formats._names import below, parent, stem

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


class Place(NamedTuple):
    """Of a file, by its folders."""

    mask: bool | None
    """None where the folders say nothing."""
    home: Home


def places_of(names: Collection[str], pictures: str, masks: str) -> tuple[dict[str, Place], dict[str, str]]:
    """Where each file lies, and those that are out of the question.

    Args:
        names: of files that are pictures by suffix.
        pictures: the folder that pictures lie in; empty: found out.
        masks: the folder that masks lie in; empty: found out.
    """
    known = frozenset(names)
    places: dict[str, Place] = {}
    other: dict[str, str] = {}
    for name in sorted(known):
        place = _place(parent(name))
        if masks and below(name, masks):
            places[name] = Place(True, _place(parent(name)[len(masks) + 1 :]).home)
        elif pictures and below(name, pictures):
            places[name] = Place(False, _place(parent(name)[len(pictures) + 1 :]).home)
        elif OTHER_FOLDER.fullmatch(parent(name).rpartition("/")[2]) or OTHER_STEM.fullmatch(stem(name)):
            other[name] = "by its name no picture and no mask of classes"
        elif "labelTrainIds" in name and name.replace("labelTrainIds", "labelIds") in known:
            other[name] = "the same with other numbers is in labelIds"
        elif PREDICTED.fullmatch(stem(name)):
            other[name] = "by its name what a model said, not what is true"
        elif (pictures and not (place.mask and not masks)) or (masks and place.mask):
            other[name] = "outside data.pictures and data.masks"
        else:
            places[name] = place
    return places, other


@lru_cache(maxsize=4096)
def _place(folders: str) -> Place:
    mask: bool | None = None
    home = []
    for part in folders.split("/") if folders else ():
        marked, rest = _marked(part)
        mask = mask if marked is None else marked
        home += [rest.lower()] if rest else []
    return Place(mask, tuple(home))


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
