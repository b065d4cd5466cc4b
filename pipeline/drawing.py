"""Pictures with what is known or said of them drawn on: boxes, objects and masks in colours, points.

A class has the colour of its place among the classes, on every sheet, report and page. The outlines of what is tinted,
and the names beside boxes and points, say the same without colour. How lines and colours come about is in
`pipeline.strokes`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from pipeline.annotations import Runs
from pipeline.answering import MarkedBox, MarkedPoint, Marks
from pipeline.contracts import Target
from pipeline.masks import CROWD, VOID
from pipeline.strokes import boxes, pixels, points
from pipeline.strokes.colours import colour

QUALITY = 90
"""Of JPEG: small letters stay legible."""


def legend(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Each class with its colour as `#rrggbb`."""
    return [(name, "#{:02x}{:02x}{:02x}".format(*colour(place))) for place, name in enumerate(classes)]


def annotated(picture: np.ndarray, target: np.ndarray, learns: Target, classes: Sequence[str]) -> np.ndarray:
    """A picture as training sees it, with what is to be learnt from it.

    Args:
        picture: uint8 [S, S, C].
        target: of the kind that `learns` says, as `transforms.Augmenter` gives it.
        learns: what is known of the picture.
        classes: K names.

    Returns:
        uint8 [S, S, 3]; the same picture, if it is known as a whole.
    """
    if learns not in TARGETS:
        return picture
    size = (picture.shape[1], picture.shape[0])
    return over(picture, TARGETS[learns](target, classes), size, named=False)


def _of_mask(target: np.ndarray, classes: Sequence[str]) -> Marks:
    return Marks("", mask=target, classes=classes)


def _of_objects(target: np.ndarray, classes: Sequence[str]) -> Marks:
    named = [(row, classes[int(row[4])]) for row in target.tolist() if 0 <= row[4] < len(classes)]
    found = [MarkedBox((row[0], row[1], row[2], row[3]), name, faint=row[5] != 0) for row, name in named]
    return Marks("", boxes=found, classes=classes)


def _of_instances(target: np.ndarray, classes: Sequence[str]) -> Marks:
    """Each object of uint8 [S, S, 3] with its pixels, and the box around them."""
    height, width = target.shape[:2]
    labels, low, high = target.transpose(2, 1, 0).reshape(3, -1).astype(np.int64)  # column by column, as runs are
    where = np.flatnonzero(labels != VOID)
    where = where[np.argsort(low[where] + 256 * high[where], kind="stable")]
    numbers = low[where] + 256 * high[where]
    found = []
    for inside in np.split(where, np.flatnonzero(np.diff(numbers)) + 1) if len(where) else ():
        columns, rows = np.divmod(inside, height)
        ends = np.flatnonzero(np.diff(inside, append=height * width + 1) > 1)
        bounds = np.stack([inside[np.append(0, ends[:-1] + 1)], inside[ends] + 1], axis=1).ravel()
        runs = Runs(height, width, tuple(np.diff(bounds, prepend=0, append=height * width).tolist()))
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        label = int(labels[inside[0]])
        name = classes[label] if label < len(classes) else ""
        x1, y1, x2, y2 = map(float, box)
        found.append(MarkedBox((x1, y1, x2, y2), name, faint=label == CROWD, inside=runs))
    return Marks("", boxes=found, classes=classes)


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


def marked(picture: np.ndarray, marks: Marks, side: int) -> np.ndarray:
    """A whole picture as a small one, with marks on it.

    Args:
        picture: uint8 [H, W, C].
        marks: in pixels of this picture.
        side: of the longer one; a picture of less than half of it is enlarged by a whole factor.

    Returns:
        uint8 [h, w, 3].
    """
    height, width = picture.shape[:2]
    small = Image.fromarray(_coloured(picture))
    if (factor := side // max(width, height)) > 1:
        small = small.resize((width * factor, height * factor), Image.Resampling.NEAREST)
    else:
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return over(np.asarray(small), marks, (width, height))


def over(picture: np.ndarray, marks: Marks, size: tuple[int, int], named: bool = True) -> np.ndarray:
    """Marks drawn on a picture that is shown larger or smaller than it is.

    Args:
        picture: as it is shown, uint8 [h, w, C].
        marks: in pixels of the picture; a box or point that is none, or lies outside, is passed over.
        size: width and height of the picture.
        named: whether class and score are written beside boxes, and names beside points, where there is room.

    Returns:
        uint8 [h, w, 3].
    """
    shown = _coloured(picture)
    canvas = (shown.shape[1], shown.shape[0])
    places = {name: place for place, name in enumerate(marks.classes)}
    if marks.mask is not None and marks.mask.size:
        shown = pixels.paint_mask(shown, marks.mask)
    frames = boxes.frames(marks.boxes, places, size, canvas)
    dots = points.dots(marks.points, places, size, canvas)
    if not frames and not dots:
        return shown
    shown, bare = pixels.paint_objects(shown, frames, size)
    drawn = Image.fromarray(shown)
    draw = ImageDraw.Draw(drawn, "RGBA")
    thick = 2 if max(canvas) >= 160 and len(frames) < boxes.CROWDED else 1
    for frame in bare:
        boxes.outline(draw, frame, thick)
    if dots:
        drawn = Image.fromarray(points.paint(np.asarray(drawn), dots))
        draw = ImageDraw.Draw(drawn, "RGBA")
    if named:
        boxes.name(draw, frames, canvas)
        points.name(draw, dots, canvas)
    return np.asarray(drawn)


def encoded(picture: np.ndarray) -> bytes:
    """uint8 [h, w, C] as JPEG."""
    out = io.BytesIO()
    Image.fromarray(_coloured(picture)).save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()


def _coloured(picture: np.ndarray) -> np.ndarray:
    """uint8 [h, w, C] as [h, w, 3]."""
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))
