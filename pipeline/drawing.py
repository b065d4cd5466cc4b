"""Pictures with what is known or said of them drawn on: boxes with class and score, masks in colours.

A class has the colour of its place among the classes, on every sheet, report and page. The colours are told apart by
people with any of the common kinds of colour blindness; the outlines of a mask, and the names beside boxes, say the
same without colour.

Sources: the first seven are those of Okabe, Ito. Color Universal Design, 2008; the others are from Krzywinski's palette
of twelve (Designing for Color Blindness, 2013).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.annotations import Runs
from pipeline.answering import MarkedBox, MarkedPoint, Marks
from pipeline.contracts import Target
from pipeline.masks import CROWD, VOID, box_of, runs_of

Colour = tuple[int, int, int]
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (132, 0, 205), (0, 252, 207), (164, 1, 34), (255, 178, 253), (0, 141, 249),
)  # fmt: skip
"""Of the classes by their places; after the last one it begins again."""
UNKNOWN: Colour = (140, 140, 140)
DARK, LIGHT = (20, 20, 20), (255, 255, 255)
SHARE = 0.45
"""Of a class's colour over the pixels that are of it."""
HATCH = 8
"""Pixels from one stripe over void to the next."""
DASH = 6
SHADOW = 110
"""Of 255, the opacity of what is dark around a line."""
NAMED = 100
"""Boxes at most that a picture names."""
CROWDED = 40
"""Boxes from which on their lines are thin."""
QUALITY = 90
"""Of JPEG: small letters stay legible."""


class Frame(NamedTuple):
    """A box as it lies on the canvas."""

    left: int
    top: int
    right: int
    bottom: int
    """All four are pixels of the box."""
    colour: Colour
    faint: bool
    texts: tuple[str, ...]
    """What could be written beside it, the longest first."""


def legend(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Each class with its colour as `#rrggbb`."""
    return [(name, "#{:02x}{:02x}{:02x}".format(*_colour(place))) for place, name in enumerate(classes)]


def annotated(pixels: np.ndarray, target: np.ndarray, learns: Target, classes: Sequence[str]) -> np.ndarray:
    """A picture as training sees it, with what is to be learnt from it.

    Args:
        pixels: uint8 [S, S, C].
        target: of the kind that `learns` says, as `transforms.Augmenter` gives it.
        learns: what is known of the picture.
        classes: K names.

    Returns:
        uint8 [S, S, 3]; the same picture, if it is known as a whole.
    """
    if learns not in TARGETS:
        return pixels
    size = (pixels.shape[1], pixels.shape[0])
    return over(pixels, TARGETS[learns](target, classes), size, named=False)


def _of_mask(target: np.ndarray, classes: Sequence[str]) -> Marks:
    return Marks("", mask=target, classes=classes)


def _of_objects(target: np.ndarray, classes: Sequence[str]) -> Marks:
    named = [(row, classes[int(row[4])]) for row in target.tolist() if 0 <= row[4] < len(classes)]
    boxes = [MarkedBox((row[0], row[1], row[2], row[3]), name, faint=row[5] != 0) for row, name in named]
    return Marks("", boxes=boxes, classes=classes)


def _of_instances(target: np.ndarray, classes: Sequence[str]) -> Marks:
    """Each object of uint8 [S, S, 3] with its pixels, and the box around them."""
    labels, numbers = target[:, :, 0], target[:, :, 1].astype(np.int64) + 256 * target[:, :, 2].astype(np.int64)
    boxes = []
    for number in np.unique(numbers[labels != VOID]).tolist():
        inside = (numbers == number) & (labels != VOID)
        label, box = int(labels[inside][0]), box_of(inside)
        if box:
            name = classes[label] if label < len(classes) else ""
            runs = Runs(inside.shape[0], inside.shape[1], tuple(runs_of(inside)))
            boxes.append(MarkedBox(box, name, faint=label == CROWD, inside=runs))
    return Marks("", boxes=boxes, classes=classes)


def _of_points(target: np.ndarray, classes: Sequence[str]) -> Marks:
    known = [(row, name) for row, name in zip(target.tolist(), classes, strict=True) if row[2]]
    return Marks("", points=[MarkedPoint(row[0], row[1], name) for row, name in known], classes=classes)


TARGETS: dict[Target, Callable[[np.ndarray, Sequence[str]], Marks]] = {
    Target.MASK: _of_mask,
    Target.OBJECTS: _of_objects,
    Target.INSTANCES: _of_instances,
    Target.POINTS: _of_points,
}
"""What is drawn of a target as training sees it, for each kind that lies in the picture."""


def marked(pixels: np.ndarray, marks: Marks, side: int) -> np.ndarray:
    """A whole picture as a small one, with marks on it.

    Args:
        pixels: uint8 [H, W, C].
        marks: in pixels of this picture.
        side: of the longer one; a picture of less than half of it is enlarged by a whole factor.

    Returns:
        uint8 [h, w, 3].
    """
    height, width = pixels.shape[:2]
    picture = Image.fromarray(_coloured(pixels))
    if (factor := side // max(width, height)) > 1:
        picture = picture.resize((width * factor, height * factor), Image.Resampling.NEAREST)
    else:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return over(np.asarray(picture), marks, (width, height))


def over(pixels: np.ndarray, marks: Marks, size: tuple[int, int], named: bool = True) -> np.ndarray:
    """Marks drawn on a picture that is shown larger or smaller than it is.

    Args:
        pixels: as it is shown, uint8 [h, w, C].
        marks: in pixels of the picture; a box that is none, or lies outside, is passed over.
        size: width and height of the picture.
        named: whether class and score are written beside boxes where there is room.

    Returns:
        uint8 [h, w, 3].
    """
    shown = _coloured(pixels)
    if marks.mask is not None and marks.mask.size:
        shown = _painted(shown, marks.mask)
    frames = _frames(marks, size, (shown.shape[1], shown.shape[0]))
    if not frames:
        return shown
    picture = Image.fromarray(shown)
    draw = ImageDraw.Draw(picture, "RGBA")
    thick = 2 if max(picture.size) >= 160 and len(frames) < CROWDED else 1
    for frame in frames:
        _outlined(draw, frame, thick)
    if named:
        _write(draw, frames, picture.size)
    return np.asarray(picture)


def encoded(pixels: np.ndarray) -> bytes:
    """uint8 [h, w, 3] as JPEG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()


def shown(name: str) -> str:
    """A name for people to read: what cannot be seen, or would turn the text around it, is replaced."""
    joiners = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"  # some scripts and emoji are spelt with them
    visible = "".join(c if c.isprintable() or c in joiners else "\N{REPLACEMENT CHARACTER}" for c in name)
    return visible if visible.strip(joiners + " ") else "(blank)"


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans (Latin, Greek, Cyrillic, Hebrew, Arabic), which MLflow's matplotlib brings, else Pillow's own."""
    spec = find_spec("matplotlib")
    path = Path(spec.origin or "").parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if spec else Path("none")
    if path.is_file():
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.load_default(size)


def _colour(place: int) -> Colour:
    return PALETTE[place % len(PALETTE)]


def _coloured(pixels: np.ndarray) -> np.ndarray:
    """uint8 [h, w, C] as [h, w, 3]."""
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _painted(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A mask of any size over uint8 [h, w, 3]: classes in their colours, darker where another begins; void hatched."""
    height, width = pixels.shape[:2]
    rows, columns = ((np.arange(n) * of) // n for n, of in ((height, mask.shape[0]), (width, mask.shape[1])))
    values = mask[rows[:, None], columns[None, :]]
    table = np.array([_colour(value) for value in range(256)], np.float64)
    colours, void = table[values], (values == VOID)[:, :, None]
    painted = pixels * (1 - SHARE) + colours * SHARE
    painted = np.where(_edges(values)[:, :, None], colours, painted)
    stripe = ((np.arange(height)[:, None] + np.arange(width)) % HATCH)[:, :, None]
    hatched = np.where(stripe < HATCH // 4, pixels * 0.5 + 127, np.where(stripe < HATCH // 2, pixels * 0.5, pixels))
    return np.where(void, hatched, painted).round().astype(np.uint8)


def _edges(values: np.ndarray) -> np.ndarray:
    """Where a neighbour above, below, to the left or to the right is of another class: bool [h, w]."""
    edges = np.zeros(values.shape, bool)
    down, right = values[1:] != values[:-1], values[:, 1:] != values[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= right
    edges[:, :-1] |= right
    return edges


def _frames(marks: Marks, size: tuple[int, int], canvas: tuple[int, int]) -> list[Frame]:
    """The boxes that can be seen, the largest first, so that none hides another."""
    places = {name: place for place, name in enumerate(marks.classes)}
    limits = np.array([*canvas, *canvas], np.float64)
    found = []
    for box in marks.boxes:
        with np.errstate(all="ignore"):
            corners = np.array(box.box, np.float64) * limits / np.array([*size, *size], np.float64)
        if not np.isfinite(corners).all():
            continue
        low, high = np.minimum(corners[:2], corners[2:]), np.maximum(corners[:2], corners[2:])
        if (low >= limits[:2]).any() or (high <= 0).any():
            continue
        left, top = np.floor(np.maximum(low, 0)).astype(int).tolist()
        right, bottom = (np.ceil(np.minimum(high, limits[:2])) - 1).astype(int).tolist()
        place = places.get(box.name)
        colour = UNKNOWN if place is None else _colour(place)
        found.append(Frame(left, top, max(left, right), max(top, bottom), colour, box.faint, _texts(box)))
    return sorted(found, key=lambda frame: (frame.left - frame.right) * (frame.bottom - frame.top))


def _texts(box: MarkedBox) -> tuple[str, ...]:
    name = shown(box.name[:60])
    if box.faint:
        return ()
    return (name,) if box.score is None or not np.isfinite(box.score) else (f"{name} {box.score:.0%}", name)


def _outlined(draw: ImageDraw.ImageDraw, frame: Frame, thick: int) -> None:
    """A line in the class's colour with a dark one around it, so that it is seen on any ground; of a crowd dashes."""
    left, top, right, bottom = frame[:4]
    if frame.faint:
        draw.rectangle([left, top, right, bottom], outline=DARK)
        for x in range(left, right + 1, DASH):
            end = min(x + DASH // 2, right)
            draw.line([(x, top), (end, top)], frame.colour)
            draw.line([(x, bottom), (end, bottom)], frame.colour)
        for y in range(top, bottom + 1, DASH):
            end = min(y + DASH // 2, bottom)
            draw.line([(left, y), (left, end)], frame.colour)
            draw.line([(right, y), (right, end)], frame.colour)
        return
    if min(right - left, bottom - top) > 8 * thick:
        draw.rectangle([left - 1, top - 1, right + 1, bottom + 1], outline=(*DARK, SHADOW))
    draw.rectangle([left, top, right, bottom], outline=frame.colour, width=thick)


def _write(draw: ImageDraw.ImageDraw, frames: Sequence[Frame], size: tuple[int, int]) -> None:
    """Class and score above each box, or in it, where they fit and hide no others."""
    letters = font(13 if max(size) >= 300 else 11)
    high = 16 if max(size) >= 300 else 14
    taken: list[tuple[int, int, int, int]] = []
    for frame in frames:
        for text in frame.texts if len(taken) < NAMED else ():
            wide = int(letters.getlength(text)) + 4
            left = min(frame.left, size[0] - wide)
            top = frame.top - high if frame.top >= high else frame.top
            place = (left, top, left + wide, top + high)
            fits = left >= 0 and place[3] <= size[1] and wide <= 1.4 * (frame.right - frame.left)
            if fits and not any(_meet(place, other) for other in taken):
                taken.append(place)
                draw.rectangle([place[0], place[1], place[2] - 1, place[3] - 1], fill=frame.colour)
                draw.text((left + 2, top + 1), text, _ink(frame.colour), letters)
                break


def _meet(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _ink(ground: Colour) -> Colour:
    """Letters that can be read on a colour."""
    red, green, blue = ground
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else LIGHT
