"""Semantic segmentation: one class for every pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from pipeline import frames, masks
from pipeline.annotations import Canvas, Drawn, Flaw, FlawKind, Runs, Thing
from pipeline.answering import Marks
from pipeline.answers.masks import MaskAnswers, marks
from pipeline.contracts import AnnotationRules, Output, Settled, Target, TaskConfig, Views
from pipeline.errors import UserError
from pipeline.tasks._names import natural_order
from pipeline.tasks._outlines import of_other_size, pixels

if TYPE_CHECKING:
    from pipeline.pooling import Pool

AT_ONCE = 4_000_000
"""Numbers of the maps that are laid over a picture at a time: 16 MB, and some times that on the way."""


class Told(NamedTuple):
    """What a network says of one picture."""

    mask: bytes
    """Class ids, as `masks.encode` has them, as large as the picture."""
    confidence: float
    """Mean over the pixels of the probability of their class."""


class Config(TaskConfig):
    """The class of every pixel; pixels without one are void, and count for nothing."""

    learns: ClassVar[Target] = Target.MASK
    reads: ClassVar[tuple[Target, ...]] = (Target.MASK,)
    needs: ClassVar[tuple[Output, ...]] = (Output.MAP,)
    unit: ClassVar[str] = "pixels"
    fields: ClassVar[Mapping[str, str]] = {}

    score: str = "mean_iou"
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""

    def settle(self, annotation: Canvas | Drawn, width: int, height: int, rules: AnnotationRules) -> Settled:
        """A mask as large as the picture, with nothing in it that has no class."""
        canvas = annotation if isinstance(annotation, Canvas) else drawn(annotation, width, height)
        problems = [(flaw, _rule(flaw.kind, rules)) for flaw in canvas.flaws]
        if canvas.id and (canvas.width, canvas.height) != (width, height):
            found = f"a mask of {canvas.width} x {canvas.height}; the picture is {width} x {height}"
            problems.append((Flaw(FlawKind.OTHER_SIZE, canvas.source, "", found), rules.other_size))
        left_out = not canvas.id or any(done == "reject" for _, done in problems)
        return Settled(None if left_out else canvas, tuple(problems))

    def tally(self, annotation: Canvas) -> dict[str, int]:
        """Pixels of each class."""
        return dict(annotation.counts)

    def classes(self, found: Iterable[str]) -> list[str]:
        """The distinct class names in natural order.

        Raises:
            UserError: fewer than two, or more than a mask can tell apart.
        """
        ordered = natural_order(found)
        if len(ordered) < 2:
            raise UserError(
                f"Segmentation needs pixels of two classes or more; the source has {ordered or 'none'}. Say what the "
                "values of its masks are: `data: {classes: {0: background, 1: cell}}`."
            )
        if len(ordered) > masks.MOST_CLASSES:
            raise UserError(f"{len(ordered)} classes of pixels; a mask tells {masks.MOST_CLASSES} apart.")
        return ordered

    def stratum(self, annotation: Canvas) -> str:
        """One for all: a picture holds pixels of many classes."""
        return ""

    def columns(self, annotation: Canvas, classes: Sequence[str]) -> dict[str, Any]:
        """None beside those of the mask."""
        return {}

    def pool(self, info: Any) -> Pool:
        """The mean of the probabilities, pixel by pixel."""
        from pipeline.pooling import softmaxes  # late: torch

        return softmaxes

    def told(self, outputs: np.ndarray, views: Views) -> list[Told]:
        """The most probable class of each pixel of the pictures, each from the view that shows it best."""
        firsts = np.searchsorted(views.images, np.arange(len(views.sizes) + 1))
        found = []
        for image, (width, height) in enumerate(views.sizes.tolist()):
            rows = slice(firsts[image], firsts[image + 1])
            mask = np.zeros((height, width), np.uint8)
            for maps, region, window in zip(
                outputs[rows], views.regions[rows], frames.windows(views.regions[rows], width, height), strict=True
            ):
                left, top, right, bottom = window
                step = max(1, AT_ONCE // (len(maps) * (right - left)))
                for start in range(top, bottom, step):
                    band = left, start, right, min(start + step, bottom)
                    mask[start : band[3], left:right] = frames.maps_back(maps, region, band).argmax(axis=0)
            found.append(Told(masks.encode(mask), _confidence(outputs[rows])))
        return found

    def answers(self, split: Any, told: Sequence[Told]) -> MaskAnswers:
        """See `TaskConfig.answers`."""
        truth = [split.mask(position) for position in range(len(split))]
        confidence = np.array([one.confidence for one in told], np.float64)
        return MaskAnswers(split.classes, truth, [one.mask for one in told], confidence)

    def blind(self, train: Any, split: Any) -> MaskAnswers:
        """The most frequent class for every pixel, as sure as its share of the training pixels."""
        counts = train.dataset.info.counts["train"]
        pixels_of = np.array([counts.get(name, 0) for name in train.classes], np.float64)
        best = int(pixels_of.argmax())
        sure = float(pixels_of[best] / max(1.0, pixels_of.sum()))
        blank = [masks.encode(np.full((height, width), best, np.uint8)) for width, height in split.sizes.tolist()]
        return self.answers(split, [Told(mask, sure) for mask in blank])

    def marks(self, told: Told, classes: Sequence[str]) -> Marks:
        """The mask, and the shares of its largest classes."""
        return marks(told.mask, classes)

    def plain(self, told: Told, classes: Sequence[str]) -> dict[str, Any]:
        """`mask`: a PNG of class ids; `classes`: their names; `shares`: of the pixels that are of each class."""
        from pipeline.images import encode_png

        mask = masks.decode(told.mask)
        counts = np.bincount(mask.ravel(), minlength=256)[: len(classes)] / max(1, mask.size)
        shares = dict(zip(classes, counts.tolist(), strict=True))
        return {"mask": encode_png(mask[:, :, None]), "classes": list(classes), "shares": shares}

    def truth(self, row: Mapping[str, Any], mask: bytes | None, classes: Sequence[str]) -> Marks:
        """The mask that a person painted."""
        return marks(mask, classes) if mask else Marks(words="", classes=classes)


def drawn(annotation: Drawn, width: int, height: int) -> Canvas:
    """Outlines as a mask: a later thing lies over those before it."""
    objects, ground = pixels(annotation.objects, width, height), annotation.background
    found = {thing.name for thing in objects.things} - annotation.void
    names = natural_order(found | ({ground} if ground else set()))
    values = {name: value for value, name in enumerate(names)}
    mask = np.full((height, width), values[ground] if ground else masks.VOID, np.uint8)
    flaws = []
    if other := of_other_size(objects, width, height):
        flaws.append(other)
    for thing in objects.things:
        try:
            inside = _filled(thing, width, height)
        except ValueError as error:
            flaws.append(Flaw(FlawKind.UNREADABLE, objects.source, thing.place or thing.name, str(error)))
            continue
        mask[inside] = values.get(thing.name, masks.VOID)
    pixels_of = np.bincount(mask.ravel(), minlength=256)
    counts = {name: int(pixels_of[value]) for name, value in values.items() if pixels_of[value]}
    data = masks.encode(mask)
    identity = hashlib.sha256(data).hexdigest()
    return Canvas(tuple(names), width, height, identity, data, counts, tuple(flaws), objects.source)


def _filled(thing: Thing, width: int, height: int) -> np.ndarray:
    """The pixels of one object."""
    if isinstance(thing.outline, Runs):
        if (thing.outline.width, thing.outline.height) != (width, height):
            raise ValueError(
                f"runs of {thing.outline.width} x {thing.outline.height}; the picture is {width} x {height}"
            )
        return masks.of_runs(thing.outline.lengths, width, height)
    if not thing.outline:
        raise ValueError("it has no outline")
    if not np.isfinite(np.concatenate([np.asarray(one, np.float64) for one in thing.outline])).all():
        raise ValueError("its outline is not finite")
    return masks.fill(thing.outline, width, height)


def _rule(kind: FlawKind, rules: AnnotationRules) -> str:
    done: str = getattr(rules, kind.value)
    return "void" if kind is FlawKind.UNKNOWN_CLASS and done == "drop" else done


def _confidence(outputs: np.ndarray) -> float:
    """The mean of the probability of the most probable class, of maps [v, K, P, P]; view by view, as there are many."""
    means = [(1 / np.exp(maps - maps.max(axis=0)).sum(axis=0)).mean(dtype=np.float64) for maps in outputs]
    return float(np.mean(means))
