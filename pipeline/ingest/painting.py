"""Masks as sources paint them, made into arrays of class numbers: in the decoding process, on untrusted bytes."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from pipeline import masks
from pipeline.annotations import Canvas, Flaw, FlawKind, Objects, Painted, Pieces
from pipeline.images import ImageError, values
from pipeline.ingest import pieces
from pipeline.ingest.layers import codes, framed, listed, shown, unframed, unknown

UNKNOWN = 254
"""While layers are put together: a pixel whose value is of no class."""
CLEAR = 256
"""Likewise: a pixel through which the layers below are seen."""
TABLE = 65_536
"""Values that are looked up; a TIFF of 32 bits may hold others, and -1 where there is nothing."""


def packed(painted: Painted | Pieces) -> bytes:
    """A painted annotation as bytes to send."""
    if isinstance(painted, Pieces):
        return framed(pieces.tables(painted), pieces.layers_of(painted))
    names = class_names(painted)
    numbers = {name: number for number, name in enumerate(names)}
    layers = []
    for layer in painted.layers:
        pairs: list[tuple[list[int], int]] = [(listed(value), numbers[name]) for value, name in layer.classes.items()]
        pairs += [(listed(value), masks.VOID) for value in layer.void]
        pairs += [(listed(value), -1) for value in layer.clear]
        layers.append(pairs)
    background = masks.VOID if painted.background is None else numbers[painted.background]
    return framed(
        {"count": len(names), "background": background, "tables": layers}, [one.data for one in painted.layers]
    )


def class_names(painted: Painted) -> list[str]:
    """The classes of a painted annotation, in the order of their numbers."""
    found = {name for layer in painted.layers for name in layer.classes.values()}
    return sorted(found | ({painted.background} if painted.background is not None else set()))


def paint(job: bytes) -> tuple[list[Any], bytes]:
    """Decode and put together all layers; or say what `pieces.cut` says of masks of objects.

    Returns:
        [width, height, pixels by number, values without class and their pixels by layer], and the encoded mask; or
        [reason, number of the layer], and nothing.
    """
    head, layers = unframed(job)
    if isinstance(head, list):
        return pieces.cut(head, layers)
    count: int = head["count"]
    if count > UNKNOWN:
        return [f"{count} classes of pixels; {UNKNOWN} can be told apart", 0], b""
    mask: np.ndarray | None = None
    strange: dict[int, dict[str, int]] = {}
    for number, (table, data) in enumerate(zip(head["tables"], layers, strict=True)):
        try:
            pixels = values(data)
            coloured = pixels.ndim == 3
            if coloured and not any(len(value) == 3 for value, _ in table):
                return ["in colours; expected one value per pixel", number, "colour"], b""
            told, odd = _told(pixels, table)
        except ImageError as error:
            return [str(error), number], b""
        if odd:
            strange[number] = odd
        if mask is None:
            mask = np.full(told.shape, head["background"], np.uint8)
        if told.shape != mask.shape:
            found = "{} x {}".format(*told.shape[::-1])
            return [
                f"{found} pixels, while the first of its masks has {mask.shape[1]} x {mask.shape[0]}",
                number,
                "size",
            ], b""
        seen = told != CLEAR
        mask[seen] = told[seen].astype(np.uint8)
    assert mask is not None
    mask[mask == UNKNOWN] = masks.VOID
    pixels_of = np.bincount(mask.ravel(), minlength=256)[:count].tolist()
    return [mask.shape[1], mask.shape[0], pixels_of, strange], masks.encode(mask)


def canvas(painted: Painted, answer: list[Any], mask: bytes) -> Canvas:
    """What the process answered about a painted annotation; without a mask, if it could not be painted."""
    names, source = class_names(painted), painted.layers[0].name
    if isinstance(answer[0], str):
        layer = painted.layers[answer[1]]
        if len(answer) > 2:
            kind = FlawKind.COLOUR_MASK if answer[2] == "colour" else FlawKind.OTHER_SIZE
            return unpainted(Flaw(kind, layer.name, "", answer[0]))
        return unpainted(Flaw(FlawKind.UNREADABLE, layer.name, "", answer[0]))
    width, height, pixels_of, odd = answer
    flaws = tuple(unknown(painted.layers[int(number)].name, strange) for number, strange in odd.items())
    counts = {name: count for name, count in zip(names, pixels_of, strict=True) if count}
    return Canvas(tuple(names), width, height, hashlib.sha256(mask).hexdigest(), mask, counts, flaws, source)


def made(painted: Painted | Pieces, answer: list[Any], data: bytes) -> Canvas | Objects:
    """What the process answered about either kind."""
    if isinstance(painted, Pieces):
        return pieces.objects(painted, answer, data)
    return canvas(painted, answer, data)


def unmade(painted: Painted | Pieces, found: str) -> Canvas | Objects:
    """What comes of either kind if the process says nothing of it but why."""
    flaw = Flaw(FlawKind.UNREADABLE, painted.layers[0].name, "", found)
    return Objects((), flaw.source, flaws=(flaw,)) if isinstance(painted, Pieces) else unpainted(flaw)


def unpainted(flaw: Flaw) -> Canvas:
    """What comes of a mask that cannot be painted."""
    return Canvas((), 0, 0, "", b"", {}, (flaw,), flaw.source)


def _told(pixels: np.ndarray, table: list[Any]) -> tuple[np.ndarray, dict[str, int]]:
    """The number of each pixel, `CLEAR` and `UNKNOWN` among them, and how many pixels have each value without class."""
    coloured = pixels.ndim == 3
    known = {
        codes(np.array(value)).item(): CLEAR if number == -1 else number
        for value, number in table
        if (len(value) == 3) == coloured
    }
    if coloured or pixels.min() < 0 or pixels.max() >= TABLE:
        found, where, counts = np.unique(codes(pixels), return_inverse=True, return_counts=True)
        present = zip(found.tolist(), counts.tolist(), strict=True)
        numbers = np.array([known.get(code, UNKNOWN) for code in found.tolist()], np.int16)[where]
    else:  # by a table: sorting every pixel takes ten times as long
        tallied = np.bincount(pixels.ravel())
        found = np.flatnonzero(tallied)
        present = zip(found.tolist(), tallied[found].tolist(), strict=True)
        lookup = np.full(len(tallied), UNKNOWN, np.int16)
        lookup[[code for code in known if code < len(tallied)]] = [
            n for code, n in known.items() if code < len(tallied)
        ]
        numbers = lookup[pixels]
    odd = {shown(code, coloured): count for code, count in present if code not in known}
    return numbers.reshape(pixels.shape[:2]), odd
