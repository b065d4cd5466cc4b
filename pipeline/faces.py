"""Faces in pictures: found by a detector, cut out, set upright by their eyes, and told apart by their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pipeline.alignment import EYES, moved, similarity
from pipeline.answers._likeness import distances
from pipeline.bundle import Bundle
from pipeline.contracts import Target
from pipeline.errors import UserError
from pipeline.images import decode, encode_png

SIDE = 112
"""Of an aligned face, in pixels."""
LARGEST = 512
"""Of the longer side of a face that is cut out: larger ones are shrunk."""
PORTION = 64
"""Faces that are looked at together."""
Box = tuple[float, float, float, float]


class Face(NamedTuple):
    """A face in a picture."""

    crop: bytes
    """PNG: what a model of faces is shown, now and whenever another takes its place."""
    box: Box | None
    """Where it is, in pixels of the picture; None: it is the picture."""
    score: float | None
    """How sure the detector is."""


class Match(NamedTuple):
    """Who a face is taken for."""

    person: str | None
    """None: nobody, all are as far as the threshold or farther."""
    distance: float | None
    """Of the nearest face in the gallery; None: it is empty."""


@dataclass(frozen=True)
class Finder:
    """How faces come out of pictures."""

    detector: Bundle | None = None
    """Model of boxes; without one a picture is a face already cut out."""
    points: Bundle | None = None
    """Model of points, the eyes among them, in a face cut out; without one faces are not set upright."""
    margin: float = 0.0
    """Added on each side of a box, in shares of its longer side."""
    square: bool = False
    """Whether boxes are made square, around the same middle."""

    def check(self) -> None:
        """Refuse models that are for something else.

        Raises:
            UserError: one of them is.
        """
        wanted = (("--detector", self.detector, Target.OBJECTS), ("--points", self.points, Target.POINTS))
        for option, bundle, target in wanted:
            if bundle and bundle.task.learns is not target:
                raise UserError(
                    f"{option} {bundle.root}: that model learns {bundle.task.learns.partition(',')[0]}, and "
                    f"{target.partition(',')[0]} are needed."
                )
        if self.points:
            eyes(self.points.info.classes)

    def faces(self, data: bytes) -> list[Face]:
        """The faces in an encoded picture, the largest first.

        Raises:
            ImageError: the bytes are no picture.
        """
        pixels = decode(data, 3)
        height, width = pixels.shape[:2]
        found: list[tuple[Box | None, float | None]] = [(None, None)]
        if self.detector:
            told = self.detector.answer([self.detector.prepare(data)])[0]
            boxes = self.detector.task.marks(told, self.detector.info.classes).boxes
            ordered = sorted(boxes, key=lambda one: -(one.box[2] - one.box[0]) * (one.box[3] - one.box[1]))
            found = [(one.box, one.score) for one in ordered]
        faces = []
        for box, score in found:
            window = self._window(box, width, height) if box else (0, 0, width, height)
            faces.append(Face(self._cut(pixels, window), box, score))
        return faces

    def _window(self, box: Box, width: int, height: int) -> tuple[int, int, int, int]:
        """The pixels around a box that are cut out: within the picture, and moved there rather than made smaller."""
        x1, y1, x2, y2 = box
        margin = self.margin * max(x2 - x1, y2 - y1)
        across, down = x2 - x1 + 2 * margin, y2 - y1 + 2 * margin
        if self.square:
            across = down = max(across, down)
        columns, rows = max(1, min(round(across), width)), max(1, min(round(down), height))
        left = min(max(0, round((x1 + x2 - columns) / 2)), width - columns)
        top = min(max(0, round((y1 + y2 - rows) / 2)), height - rows)
        return left, top, left + columns, top + rows

    def _cut(self, pixels: np.ndarray, window: tuple[int, int, int, int]) -> bytes:
        left, top, right, bottom = window
        face = np.ascontiguousarray(pixels[top:bottom, left:right])
        if self.points:
            told = self.points.answer([self.points.prepare(encode_png(face))])[0]
            marked = {point.name: point for point in self.points.task.marks(told, self.points.info.classes).points}
            pair = [marked[name] for name in eyes(self.points.info.classes) if name in marked]
            if len(pair) == 2 and (pair[0].x, pair[0].y) != (pair[1].x, pair[1].y):
                # By where they are, not by their names: whose left is meant differs from set to set.
                places = np.array(sorted((point.x + left, point.y + top) for point in pair))
                return encode_png(moved(pixels, similarity(places, EYES * SIDE), SIDE))
        factor = LARGEST / max(face.shape[:2])
        if factor < 1:
            size = np.array([[factor, 0, 0], [0, factor, 0]])
            high, wide = (max(1, round(length * factor)) for length in face.shape[:2])
            face = moved(face, size, LARGEST)[:high, :wide]
        return encode_png(np.ascontiguousarray(face))


def eyes(names: Sequence[str]) -> tuple[str, str]:
    """The names of the middles of both eyes among those of points.

    Raises:
        UserError: there are none, or more than two that could be.
    """
    others = ("brow", "inner", "outer", "corner", "lid", "top", "bottom")
    found = [name for name in names if "eye" in name.lower() and not any(part in name.lower() for part in others)]
    if len(found) != 2:
        raise UserError(
            "--points: a model with two points for the middles of the eyes is needed, such as left_eye and right_eye; "
            f"this one has {', '.join(names)}."
        )
    return found[0], found[1]


def embedded(recogniser: Bundle, crops: Sequence[bytes]) -> np.ndarray:
    """The embeddings of faces that are cut out, float64 [n, E]."""
    told: list[np.ndarray] = []
    for start in range(0, len(crops), PORTION):
        told += recogniser.answer([recogniser.prepare(crop) for crop in crops[start : start + PORTION]])
    return np.stack(told) if told else np.zeros((0, 0))


def threshold(recogniser: Bundle) -> float:
    """The distance below which two faces are one person.

    Raises:
        UserError: the model is for something else, or has none.
    """
    task: Any = recogniser.task
    if task.learns is not Target.IDENTITY:
        raise UserError(
            f"The champion learns {task.learns.partition(',')[0]}, not faces: set `task: {{name: face_recognition}}` "
            "in params.yaml, as params/faces-folder.yaml has it."
        )
    if task.threshold is None:
        raise UserError(
            "The champion has no threshold: its validation split had no two pictures of one person, or only one "
            "person. Set task.threshold in params.yaml, or add pictures, and train again."
        )
    chosen: float = task.threshold
    return chosen


def matched(asked: np.ndarray, people: Sequence[str], known: np.ndarray, below: float) -> list[Match]:
    """The nearest person of each face.

    Args:
        asked: embeddings float64 [n, E].
        people: who the faces in the gallery are, m of them.
        known: their embeddings float64 [m, E].
        below: the distance from which on nobody is recognised.
    """
    if not len(people) or not len(asked):
        return [Match(None, None)] * len(asked)
    apart = distances(asked, known)
    found = []
    for row in apart:
        nearest = int(row.argmin())
        distance = float(row[nearest])
        found.append(Match(people[nearest] if distance < below else None, distance))
    return found
