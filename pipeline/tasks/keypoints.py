"""Keypoints: where each of several named points lies, as the corners of the eyes in a picture of one face."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, field_validator

from pipeline.annotations import Flaw, FlawKind, Place, Points
from pipeline.answering import Marks
from pipeline.answers.points import PointAnswers, marks
from pipeline.boxes import SLACK
from pipeline.contracts import AnnotationRules, Output, Settled, Target, TaskConfig, Views
from pipeline.errors import UserError, did_you_mean
from pipeline.tasks._mirrors import IBUG68, partner
from pipeline.tasks._names import natural_order

if TYPE_CHECKING:
    from torch import nn

    from pipeline.pooling import Pool

BEYOND = 0.25
"""Of the width or the height of a picture: further outside of it, a point is no more where it is said to be."""


def _in_text(given: Any) -> Any:
    """Names that YAML takes for numbers, as text."""
    if isinstance(given, dict):
        return {str(key): str(value) for key, value in given.items()}
    return [str(value) for value in given] if isinstance(given, list | tuple) else given


class Config(TaskConfig):
    """The same named points in every picture, each of which may be unknown in some.

    A point outside of its picture that is clipped keeps its place: a face is cut off, and its chin is below the edge.
    One that lies further out than a quarter of the picture is dropped where others are clipped. One that is dropped is
    unknown, and a picture without a known point is as one of which nothing is said.
    """

    learns: ClassVar[Target] = Target.POINTS
    reads: ClassVar[tuple[Target, ...]] = (Target.POINTS,)
    needs: ClassVar[tuple[Output, ...]] = (Output.POINTS, Output.VECTOR)
    unit: ClassVar[str] = "points"
    fields: ClassVar[Mapping[str, str]] = {"points": "points"}

    score: str = "normalised_mean_error"
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""
    mirror: Annotated[Literal["names", "ibug68", "none"] | dict[str, str], BeforeValidator(_in_text)] = "names"
    """Which point becomes which in a mirror. `names`: those that differ in left and right, as `left_eye` and
    `right_eye`; `ibug68`: as in the 68 points of a face of 300-W; `none`: each stays itself; or pairs by name, as
    {left_eye: right_eye}, and the others stay themselves."""
    normalise: Annotated[Literal["box", "picture"] | tuple[str, str], BeforeValidator(_in_text)] = "box"
    """What distances are shares of, in scores. `box`: the root of the area of the box around the true points;
    `picture`: that of the picture; or the distance of two points by name, as [36, 45] for the outer corners of the eyes
    among 68 points of a face."""

    @field_validator("mirror")
    @classmethod
    def _are_pairs(cls, mirror: str | dict[str, str]) -> str | dict[str, str]:
        partners: dict[str, str] = {}
        for pair in mirror.items() if isinstance(mirror, dict) else ():
            for one, other in (pair, pair[::-1]):
                if partners.setdefault(one, other) != other:
                    raise ValueError(
                        f"{one!r} is paired with {partners[one]!r} and with {other!r}; a mirror makes one point of it"
                    )
        return mirror

    @field_validator("normalise")
    @classmethod
    def _are_two(cls, normalise: str | tuple[str, str]) -> str | tuple[str, str]:
        if isinstance(normalise, tuple) and normalise[0] == normalise[1]:
            raise ValueError(f"expected two points, which lie apart; found {normalise[0]!r} twice")
        return normalise

    def settle(self, annotation: Points, width: int, height: int, rules: AnnotationRules) -> Settled:
        """Places that are finite and near the picture; every other point is unknown."""
        problems: list[tuple[Flaw, str]] = []
        places: dict[str, Place | None] = {}
        for name, place in annotation.places.items():
            known = place if place and all(map(math.isfinite, place)) else None
            if known and annotation.relative:
                known = Place(known.x * width, known.y * height)
            flaw, done = _judged(name, known, annotation, (width, height), rules) if known else (None, "")
            if flaw:
                problems.append((flaw, done))
            places[name] = None if done == "drop" else known
        settled = Points(places, annotation.source, annotation.place)
        left_out = any(done == "reject" for _, done in problems)
        if not left_out and not any(places.values()):
            flaw = Flaw(FlawKind.NO_ANNOTATION, annotation.source, annotation.place, "no point of it is known")
            problems.append((flaw, "reject" if rules.no_annotation == "keep" else rules.no_annotation))
            left_out = True
        return Settled(None if left_out else settled, tuple(problems))

    def tally(self, annotation: Points) -> dict[str, int]:
        """One of each point that is known."""
        return {name: 1 for name, place in annotation.places.items() if place}

    def classes(self, found: Iterable[str]) -> list[str]:
        """The distinct names of the points in natural order.

        Raises:
            UserError: there is none, or an option names one that there is not.
        """
        ordered = natural_order(found)
        if not ordered:
            raise UserError("Keypoints needs points; the source names none in any usable picture.")
        named: dict[str, tuple[str, ...]] = {
            "normalise": self.normalise if isinstance(self.normalise, tuple) else (),
            "mirror": (*self.mirror, *self.mirror.values()) if isinstance(self.mirror, dict) else (),
        }
        for option, names in named.items():
            for name in names:
                if name not in ordered:
                    hint = did_you_mean(name, ordered) or f" It has: {', '.join(ordered[:12])}."
                    raise UserError(f"params.yaml: task.{option}: the source has no point named {name!r}.{hint}")
        if self.mirror == "ibug68" and len(ordered) != len(IBUG68):
            raise UserError(
                f"params.yaml: task.mirror: ibug68 is about {len(IBUG68)} points in their order, and the source has "
                f"{len(ordered)}. Write the pairs out by name, or set names or none."
            )
        return ordered

    def stratum(self, annotation: Points) -> str:
        """One for all: every picture has the same points."""
        return ""

    def joined(self, annotations: Sequence[Points]) -> Points | None:
        """The first, if all say the same."""
        first = annotations[0]
        return first if all(one == first for one in annotations) else None

    def about(self, annotations: Sequence[Points], classes: Sequence[str]) -> dict[str, Any]:
        """`mirrored`; nothing where names say nothing of left and right: then nobody has said it."""
        if self.mirror == "ibug68":
            return {"mirrored": list(IBUG68)}
        if isinstance(self.mirror, dict):
            pairs = {**self.mirror, **{other: one for one, other in self.mirror.items()}}
        else:
            pairs = partner(classes) if self.mirror == "names" else {}
            if self.mirror == "names" and not pairs:
                return {}
        positions = {name: position for position, name in enumerate(classes)}
        return {"mirrored": [positions[pairs.get(name, name)] for name in classes]}

    def columns(self, annotation: Points, classes: Sequence[str]) -> dict[str, Any]:
        """`points`, in the order of `classes`."""
        places = [annotation.places.get(name) for name in classes]
        return {"points": [{"x": float(place.x), "y": float(place.y)} if place else None for place in places]}

    def outputs(self, info: Any, gives: Output) -> int:
        """J of a network of places; of a vector two numbers for each."""
        count: int = len(info.classes)
        return 2 * count if gives is Output.VECTOR else count

    def answering(self, network: nn.Module, info: Any) -> nn.Module:
        """A network of vectors as one that tells places: see `_placing`."""
        from pipeline.networks import Deciding  # late: the door needs no torch
        from pipeline.tasks._placing import Placing

        return network if isinstance(network, Deciding) else Placing(network)

    def pool(self, info: Any) -> Pool:
        """The mean of the places and of the scores."""
        from pipeline.pooling import values  # late: torch

        return values

    def told(self, outputs: np.ndarray, views: Views) -> list[np.ndarray]:
        """x, y, score of each point in pixels of the picture, float64 [J, 3]; of several views that with the best."""
        told = outputs.astype(np.float64)
        scales = views.side / (views.regions[:, 2:] - views.regions[:, :2])
        told[:, :, :2] = told[:, :, :2] / scales[:, None] + views.regions[:, None, :2]
        if len(views.images) == len(views.sizes):
            return list(told)
        bounds = np.searchsorted(views.images, np.arange(len(views.sizes) + 1))
        points = np.arange(told.shape[1])
        return [
            told[start + told[start:end, :, 2].argmax(axis=0), points]
            for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        ]

    def answers(self, split: Any, told: Sequence[np.ndarray]) -> PointAnswers:
        """See `TaskConfig.answers`."""
        stacked = np.stack(told) if len(told) else np.zeros((0, len(split.classes), 3))
        normalise: Any = self.normalise
        if isinstance(normalise, tuple):
            normalise = tuple(list(split.classes).index(name) for name in normalise)
        return PointAnswers(split.classes, split.points, stacked, split.sizes, normalise)

    def blind(self, train: Any, split: Any) -> PointAnswers:
        """The mean place of each point in the training pictures, as shares of them; as sure as it is often known."""
        known = np.isfinite(train.points).all(axis=2)
        shares = np.where(known[:, :, None], train.points / train.sizes[:, None], 0).sum(axis=0)
        counts = known.sum(axis=0)
        shares = np.where(counts[:, None] > 0, shares / np.maximum(counts, 1)[:, None], 0.5)
        scores = counts[:, None] / max(1, len(train))
        return self.answers(split, [np.concatenate([shares * size, scores], axis=1) for size in split.sizes])

    def marks(self, told: np.ndarray, classes: Sequence[str]) -> Marks:
        """Every point."""
        return marks(told, classes)

    def plain(self, told: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
        """`points`: of each by its name x, y and the score."""
        return {"points": dict(zip(classes, told.tolist(), strict=True))}

    def truth(self, row: Mapping[str, Any], mask: bytes | None, classes: Sequence[str]) -> Marks:
        """The points that are known."""
        unknown = (math.nan, math.nan)
        places = [(point["x"], point["y"]) if point else unknown for point in row["points"]]
        return marks(np.array(places, np.float64).reshape(-1, 2), classes)


def _judged(
    name: str, place: Place, annotation: Points, size: tuple[int, int], rules: AnnotationRules
) -> tuple[Flaw | None, str]:
    """What is wrong with a place, and what the rules make of it."""
    beyond = [max(-at, at - side) for at, side in zip(place, size, strict=True)]
    if max(beyond) <= SLACK:
        return None, ""
    where = f"{annotation.place}, {name}" if annotation.place else name
    found = f"the point {place.x:g},{place.y:g} lies outside of the {size[0]} x {size[1]} picture"
    flaw = Flaw(FlawKind.OUTSIDE, annotation.source, where, found)
    if rules.outside != "clip":
        return flaw, rules.outside
    far = any(by > BEYOND * side for by, side in zip(beyond, size, strict=True))
    return flaw, "drop" if far else "keep"
