"""Thumbnails of dataset images, by the digest of the dataset and the id of the image: a pair is one picture for ever.

They are shown as they are, with what is known of them drawn on, or with what a model said of them. Some megabytes of
the last ones are kept, and few are decoded at a time: memory stays flat whatever is asked.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from dashboard import datasets
from dashboard.opened import Away, Opened

if TYPE_CHECKING:
    from pipeline.answering import Marks

SIDE = 256
"""Of the longer side, in pixels."""
DRAWN = 320
"""Likewise of a picture with marks, whose names are to be read."""
LEGEND = 60
KEPT_BYTES = 24_000_000
AT_ONCE = 2
"""Pictures that are decoded at a time."""
DIGEST = re.compile("[0-9a-f]{64}")
MISSING = Markup(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 256 256" width="256" height="256" role="img">'
    '<title>{0}</title><rect width="256" height="256" fill="#8c867d" fill-opacity=".14"/>'
    '<path d="M92 84h72v54H92zM92 126l20-18 18 16 14-12 20 18M92 150l72-78" fill="none" stroke="#8c867d" '
    'stroke-width="4" stroke-linejoin="round" stroke-linecap="round"/>'
    '<text x="128" y="190" text-anchor="middle" font-family="sans-serif" font-size="18" fill="#8c867d">{0}</text></svg>'
)


class Thumbnail(NamedTuple):
    """A small picture."""

    data: bytes
    kind: str
    """Its media type."""


class Missing(Exception):
    """There is no such picture to show; the text says why in two or three words."""


Drawn = Callable[[Opened, Mapping[str, Any]], "Marks"]
"""From a version and the row of an image to what is to be drawn on it."""

_kept: OrderedDict[tuple[str, str, str], Thumbnail] = OrderedDict()
_size = 0
_lock = threading.Lock()
_decoding = threading.Semaphore(AT_ONCE)


def thumbnail(dataset: str, image: str) -> Thumbnail:
    """The image `image` of the version `dataset` of the data.

    Raises:
        Missing: there is none, or its file is not on this machine.
    """
    return _found(dataset, image, "", None)


def annotated(dataset: str, image: str) -> Thumbnail:
    """The same with what is known of it drawn on.

    Raises:
        Missing: likewise.
    """
    return _found(dataset, image, "known", known)


def answered(dataset: str, image: str, about: str, said: Drawn) -> Thumbnail:
    """The same with what somebody said of it drawn on.

    Args:
        dataset: digest of the version.
        image: its id.
        about: who said it: a name of its own.
        said: what.

    Raises:
        Missing: likewise.
    """
    return _found(dataset, image, about, said)


def legend(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Each class and its colour in drawings; nothing, if they are too many to tell apart."""
    from pipeline import drawing

    return drawing.legend(classes) if len(classes) <= LEGEND else []


def known(version: Opened, row: Mapping[str, Any]) -> Marks:
    """What is known of an image.

    Raises:
        Missing: this code does not know that kind, or it is damaged.
    """
    if version.task is None:
        raise Missing("of another kind")
    mask = version.mask(row)
    if mask is not None:
        fits(mask, row)
    return version.task.truth(row, mask, version.info.classes)


def fits(mask: bytes, row: Mapping[str, Any]) -> None:
    """Look whether an encoded mask is as large as its picture, before it is unpacked.

    Raises:
        Missing: it is not.
    """
    from pipeline import masks

    if len(mask) < 16 or masks.size(mask) != (row["width"], row["height"]):
        raise Missing("a mask of another size")


def _found(dataset: str, image: str, about: str, drawn: Drawn | None) -> Thumbnail:
    if not DIGEST.fullmatch(dataset) or not DIGEST.fullmatch(image):
        raise Missing("no such picture")
    key = dataset, image, about
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    made = _make(dataset, image, drawn)
    _keep(key, made)
    return made


def small(data: bytes, channels: int) -> Thumbnail:
    """An encoded picture that is none of a dataset's, made small.

    Raises:
        Missing: it cannot be shown.
    """
    from pipeline.images import ImageError, thumbnail

    try:
        with _decoding:
            return Thumbnail(*thumbnail(data, channels, SIDE))
    except ImageError:
        raise Missing("cannot be shown") from None


def placeholder(words: str) -> bytes:
    """An SVG to show where a picture is missing."""
    return MISSING.format(words).encode()


def _make(dataset: str, image: str, drawn: Drawn | None) -> Thumbnail:
    from pipeline.images import ImageError, thumbnail

    try:
        version = datasets.opened(dataset)
        data = version.picture(image)
        row = version.row(image) if drawn else None
        if data is None:
            raise Missing("no such picture")
        with _decoding:
            small = Thumbnail(*thumbnail(data, version.info.channels, DRAWN if drawn else SIDE))
            return _over(small, drawn(version, row), row) if drawn and row else small
    except Away:
        raise Missing("not on this machine") from None
    except ImageError:
        raise Missing("too large to show") from None
    except (LookupError, ValueError, TypeError):  # a row or a mask that other code wrote, or nobody
        raise Missing("cannot be drawn") from None


def _over(small: Thumbnail, marks: Marks, row: Mapping[str, Any]) -> Thumbnail:
    """Marks of a whole picture on its thumbnail: the picture itself need not be in memory for that."""
    from pipeline import drawing
    from pipeline.images import decode

    pixels = drawing.over(decode(small.data, 3), marks, (row["width"], row["height"]))
    return Thumbnail(drawing.encoded(pixels), "image/jpeg")


def _keep(key: tuple[str, str, str], made: Thumbnail) -> None:
    global _size
    with _lock:
        if key not in _kept:
            _kept[key] = made
            _size += len(made.data)
        while _size > KEPT_BYTES:
            _, oldest = _kept.popitem(last=False)
            _size -= len(oldest.data)
