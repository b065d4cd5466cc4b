"""Masks of single objects, made into runs: in the decoding process, on untrusted bytes.

A mask holds one object, or a number for each of several.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.annotations import Flaw, FlawKind, Layer, Objects, Pieces, Runs, Thing
from pipeline.images import ImageError, values
from pipeline.ingest.layers import codes, listed, shown, unknown

COLOURED = "in colours; expected one value per pixel"
NOTHING = -1
"""The number of a value that is no object."""


def tables(pieces: Pieces) -> list[Any]:
    """Of each layer its values, each with the number of its object in the layer, and of `kinds` with that of its class;
    and whether there are `kinds`."""
    layers = [*pieces.layers, *([pieces.kinds] if pieces.kinds else [])]
    return [[_table(layer) for layer in layers], pieces.kinds is not None]


def layers_of(pieces: Pieces) -> list[bytes]:
    """The masks that go with `tables`."""
    return [layer.data for layer in (*pieces.layers, *([pieces.kinds] if pieces.kinds else []))]


def cut(about: Sequence[Any], layers: Sequence[bytes]) -> tuple[list[Any], bytes]:
    """Decode the layers and find the objects in each.

    Args:
        about: what `tables` says of them.
        layers: encoded masks.

    Returns:
        Of each layer the reason why it cannot be used, or [width, height, [number, runs] of each object, values without
        class and their pixels]; and the lengths of all runs.
    """
    answers: list[Any] = []
    lengths: list[np.ndarray] = []
    read = [_read(table, data) for table, data in zip(about[0], layers, strict=True)]
    kinds = read.pop() if about[1] else None
    for pixels, known, coloured in read:
        wrong = pixels if isinstance(pixels, str) else ""
        if kinds and not wrong:
            wrong = kinds[0] if isinstance(kinds[0], str) else ""
            wrong = wrong or ("" if kinds[0].shape == pixels.shape else "of another size than the mask of classes")
        if wrong:
            answers.append(wrong)
            continue
        found: list[list[int]] = []
        odd: dict[str, int] = {}
        for code, runs in _by_value(pixels):
            number = known.get(code)
            if number is None and kinds:
                number = _most(kinds[0][pixels == code], kinds[1])
            if number is None:
                odd[shown(code, coloured)] = int(runs[1::2].sum())
            elif number != NOTHING:
                found.append([number, len(runs)])
                lengths.append(runs)
        answers.append([pixels.shape[1], pixels.shape[0], found, odd])
    return answers, np.concatenate([np.zeros(0, np.int32), *lengths]).astype("<i4").tobytes()


def objects(pieces: Pieces, answers: list[Any], lengths: bytes) -> Objects:
    """What the process answered about the masks of a picture; masks that cannot be used are flaws of it."""
    things: list[Thing] = []
    flaws: list[Flaw] = []
    start = 0
    for layer, answer in zip(pieces.layers, answers, strict=True):
        if isinstance(answer, str):
            kind = FlawKind.COLOUR_MASK if answer == COLOURED else FlawKind.UNREADABLE
            flaws.append(Flaw(kind, layer.name, "", answer))
            continue
        width, height, found, odd = answer
        classes = list((pieces.kinds or layer).classes.items())
        for position, (number, count) in enumerate(found, start=1):
            value, name = classes[number]
            end = start + 4 * count
            runs = Runs(height, width, array("i", np.frombuffer(lengths[start:end], "<i4").astype(np.int32).tobytes()))
            where = f"object {position}" if pieces.kinds else f"value {value}"
            place = f"{layer.name} ({name})" if len(pieces.layers) > 1 else f"{where} ({name})"
            things.append(Thing(name, (0.0, 0.0, 0.0, 0.0), place, value in pieces.crowds, runs))
            start = end
        if odd:
            flaws.append(unknown(layer.name, odd))
        elif not found and len(pieces.layers) > 1:
            flaws.append(Flaw(FlawKind.BAD_BOX, layer.name, "", "no pixel of this mask is of an object"))
    return Objects(tuple(things), pieces.layers[0].name if pieces.layers else "", flaws=tuple(flaws))


def _table(layer: Layer) -> list[tuple[list[int], int]]:
    pairs = [(listed(value), number) for number, value in enumerate(layer.classes)]
    return pairs + [(listed(value), NOTHING) for value in layer.void | layer.clear]


def _read(table: Any, data: bytes) -> tuple[Any, dict[int, int], bool]:
    """The numbers of the pixels of a mask, or why there are none; what they mean; and whether it is in colours."""
    try:
        pixels = values(data)
    except ImageError as error:
        return str(error), {}, False
    coloured = pixels.ndim == 3
    if coloured and not any(len(value) == 3 for value, _ in table):
        return COLOURED, {}, True
    known = {codes(np.array(value)).item(): number for value, number in table if (len(value) == 3) == coloured}
    return codes(pixels), known, coloured


def _most(pixels: np.ndarray, known: dict[int, int]) -> int | None:
    """The number of the class that most of some pixels are of; None if they are of none."""
    found, counts = np.unique(pixels, return_counts=True)
    real = [(-count, known[code]) for code, count in zip(found.tolist(), counts.tolist(), strict=True) if code in known]
    real = [pair for pair in real if pair[1] != NOTHING]
    return min(real)[1] if real else None


def _by_value(pixels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Every value of numbers [H, W], and its pixels as runs down the columns: int32 [r]."""
    # Turning columns into rows takes a fifth of the time in bytes.
    narrow = np.promote_types(*(np.min_scalar_type(int(one)) for one in (pixels.min(), pixels.max())))
    flat = pixels.astype(narrow).T.ravel()
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    ends = np.append(starts[1:], flat.size)
    order = np.argsort(flat[starts], kind="stable")
    present, firsts = np.unique(flat[starts][order], return_index=True)
    edges = np.column_stack([starts, ends])[order]
    found = []
    for value, own in zip(present.tolist(), np.split(edges, firsts[1:]), strict=True):
        lengths = np.diff(own.ravel(), prepend=0, append=flat.size).astype(np.int32)
        found.append((value, lengths if lengths[-1] else lengths[:-1]))
    return found
