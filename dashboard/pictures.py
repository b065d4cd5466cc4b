"""Thumbnails of dataset images, by the digest of the dataset and the id of the image: a pair is one picture for ever.

Some megabytes of the last ones are kept, and few are decoded at a time: memory stays flat whatever is asked.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import NamedTuple

from markupsafe import Markup

from dashboard import datasets

SIDE = 256
"""Of the longer side, in pixels."""
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


_kept: OrderedDict[tuple[str, str], Thumbnail] = OrderedDict()
_size = 0
_lock = threading.Lock()
_decoding = threading.Semaphore(AT_ONCE)


def thumbnail(dataset: str, image: str) -> Thumbnail:
    """The image `image` of the version `dataset` of the data.

    Raises:
        Missing: there is none, or its file is not on this machine.
    """
    if not DIGEST.fullmatch(dataset) or not DIGEST.fullmatch(image):
        raise Missing("no such picture")
    key = dataset, image
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    made = _make(dataset, image)
    _keep(key, made)
    return made


def placeholder(words: str) -> bytes:
    """An SVG to show where a picture is missing."""
    return MISSING.format(words).encode()


def _make(dataset: str, image: str) -> Thumbnail:
    from pipeline.images import ImageError, thumbnail

    try:
        version = datasets.opened(dataset)
        data = version.picture(image)
    except datasets.Away:
        raise Missing("not on this machine") from None
    if data is None:
        raise Missing("no such picture")
    try:
        with _decoding:
            return Thumbnail(*thumbnail(data, version.info.channels, SIDE))
    except ImageError:
        raise Missing("too large to show") from None


def _keep(key: tuple[str, str], made: Thumbnail) -> None:
    global _size
    with _lock:
        if key not in _kept:
            _kept[key] = made
            _size += len(made.data)
        while _size > KEPT_BYTES:
            _, oldest = _kept.popitem(last=False)
            _size -= len(oldest.data)
