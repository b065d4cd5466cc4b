"""The nouns that every room shares: axis letters, what a part gives and takes, and the base of each part's options.

Axis letters, in shapes everywhere:
    B  images of a batch          N  images of a split        K  classes
    C  channels (1 or 3)          H  height, W  width         P  side of a packed picture
    R  resamples of a bootstrap   S  side of the picture that a network sees
    M  objects of a picture that there are, D  that a network says there are
    V  views: what a network sees of a picture, one or, cut into tiles, several
    T  numbers that are told of a picture        J  named points of a picture
    E  length of an embedding                    m  side of the small mask of an object

This module imports no torch: the door checks a `params.yaml` without it wherever it can.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from pipeline.annotations import Flaw
from pipeline.answering import Answers, Marks

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

SPLITS = ("train", "val", "test")
SMALLEST = 4
"""Pixels: the least side of pictures that a network sees."""


class Target(StrEnum):
    """What is known about an image, and so what can be learnt from it: in words, as users read them in errors."""

    LABEL = "one class per image"
    """int64 [B]"""
    GRADE = "one of ordered classes per image"
    """int64 [B]"""
    LABELS = "any number of classes per image"
    """uint8 [B, K]"""
    NUMBERS = "numbers per image"
    """float32 [B, T]"""
    COUNTS = "how many of each class per image"
    """float32 [B, K]"""
    POINTS = "named points per image"
    """float32 [B, J, 4]"""
    IDENTITY = "who is shown"
    """int64 [B]"""
    OBJECTS = "boxes with classes per image"
    """float32 [B, M, 6]"""
    INSTANCES = "the object that each pixel is of"
    """uint8 [B, H, W, 3]"""
    MASK = "one class per pixel"
    """uint8 [B, H, W]"""

    @property
    def located(self) -> bool:
        """Whether it lies somewhere in the picture, moves with its pixels, and asks for all of them."""
        return self in (Target.POINTS, Target.OBJECTS, Target.INSTANCES, Target.MASK)

    @property
    def joins(self) -> bool:
        """Whether what is known of four pictures can be put together to what is known of their mosaic."""
        return self in (Target.OBJECTS, Target.INSTANCES, Target.MASK)

    @property
    def one_class(self) -> bool:
        """Whether it is one class of each image."""
        return self in (Target.LABEL, Target.GRADE, Target.IDENTITY)

    @property
    def named(self) -> tuple[str, str]:
        """What the classes of a dataset are, one and many of them: of faces they are people."""
        others = {
            Target.GRADE: ("grade", "grades"),
            Target.NUMBERS: ("number", "numbers"),
            Target.POINTS: ("point", "points"),
            Target.IDENTITY: ("person", "people"),
        }
        return others.get(self, ("class", "classes"))


class Output(StrEnum):
    """What a network says about an image."""

    VECTOR = "one vector per image [B, K]"
    EMBEDDING = "the direction of a vector per image [B, E]"
    POINTS = "places with a score per image [B, J, 3]"
    BOXES = "boxes with score and class per image [B, D, 6]"
    INSTANCES = "boxes with score, class and a small mask per image [B, D, 6 + m * m]"
    MAP = "one vector per pixel [B, K, H, W]"


class Views(NamedTuple):
    """The squares that a network sees of N pictures, V of them: image after image, and of each at least one."""

    images: np.ndarray
    """The picture that each shows, int64 [V], 0..N-1 and never falling."""
    regions: np.ndarray
    """x1, y1, x2, y2 of each in its picture, float64 [V, 4]; a region may reach beyond it."""
    sizes: np.ndarray
    """Width and height of the pictures, int64 [N, 2]."""
    side: int
    """P of the squares."""


class Options(BaseModel):
    """Options of a part or a section of `params.yaml`: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_truth_value(cls, given: Any, about: ValidationInfo) -> Any:
        """Refuse true and false where numbers are expected: Python takes them for 1 and 0."""
        field = cls.model_fields[about.field_name or ""]
        if any(isinstance(check, BeforeValidator) for check in field.metadata):  # which words what it refuses
            return given
        for value in _within(given, set()) if _is_of_numbers(field.annotation) else ():
            if isinstance(value, bool):
                found, words = ("true", "yes and on") if value else ("false", "no and off")
                raise ValueError(f"expected a number; found {found}, which YAML also makes of {words}")
        return given


def _within(given: Any, entered: set[int]) -> Iterator[Any]:
    """A value, or all that a list or mapping holds of them.

    Args:
        given: as YAML has it: by aliases a file of a few lines holds one list a billion times.
        entered: ids of lists and mappings that were looked into, and are not again.
    """
    if not isinstance(given, dict | list | tuple):
        yield given
    elif id(given) not in entered:
        entered.add(id(given))
        for value in given.values() if isinstance(given, dict) else given:
            yield from _within(value, entered)


def _is_of_numbers(annotation: Any) -> bool:
    """Whether a number can stand somewhere in it, and neither true nor false."""
    leaves = list(_leaves(annotation))
    truth = any(leaf in (bool, Any) or isinstance(leaf, bool) for leaf in leaves)
    return not truth and any(leaf in (int, float) or isinstance(leaf, int) for leaf in leaves)


def _leaves(annotation: Any) -> Iterator[Any]:
    """The types of which a type is put together, and the values that are to choose from."""
    inner = get_args(annotation)
    for part in inner:
        yield from _leaves(part)
    if not inner:
        yield annotation


@dataclass(frozen=True)
class Shaped:
    """For an option that is text of one shape: `name: Annotated[str, Shaped("[a-z]+", "small letters")]`."""

    pattern: str
    """Regular expression of the whole text."""
    expected: str
    """What fits it, in words for whoever wrote something else."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Checked once the value is known to be text."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Of its form the words are told, not the pattern."""
        return {**handler(schema), "format": self.expected}

    def _check(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"expected {self.expected}; found {text!r}")
        return text


@dataclass(frozen=True)
class Found:
    """One file that a format found in the source."""

    name: str
    """Where it lies in the source, with forward slashes: `train/cat/1.jpg`."""
    data: bytes
    """The encoded picture, as it lies there."""
    annotation: Mapping[Target, Any]
    """What the source says of it: under LABEL the name of its class, under LABELS a frozenset of them, under NUMBERS a
    dict of floats by name, under POINTS `annotations.Points`, under OBJECTS `annotations.Objects`, under INSTANCES the
    same with outlines or `annotations.Pieces`, under MASK `annotations.Painted` or `annotations.Drawn`. Nothing under a
    target: the source says nothing of that."""
    split: str | None = None
    """`train`, `val` or `test` where the source says so."""
    group: str | None = None
    """Pictures of one group (a person, a patient) are never parted between splits."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What else is known of it, to slice the scores by: text under each name, empty where nothing is known."""
    flaws: tuple[Flaw, ...] = ()
    """What the format saw to be wrong with its annotation; what is about one object is without that object here."""


@dataclass(frozen=True)
class LeftOut:
    """One file of the source that is no sample, and why."""

    name: str
    reason: str


class AnnotationRules(Options):
    """What becomes of an annotation with a flaw. Each flaw is named in `problems.parquet`, whatever becomes of it.

    keep: nothing changes; clip: the box is cut to the picture; drop: the object, or the second of two, is left out;
    void: the pixels count for nothing; reject: the picture is left out; stop: nothing is ingested until it is mended.
    """

    bad_box: Literal["drop", "reject", "stop"] = "drop"
    """A box without area, inverted, or not finite."""
    outside: Literal["clip", "drop", "reject", "stop"] = "clip"
    """A box that reaches beyond the picture; one that lies outside altogether is dropped where others are clipped. A
    point outside of it: clipped, it keeps its place, as that of a chin below the edge; one far outside is dropped."""
    unknown_class: Literal["drop", "reject", "stop"] = "reject"
    """An object, or pixels, of a class that the source does not name; pixels that are dropped are void."""
    no_picture: Literal["keep", "stop"] = "keep"
    """Something is said of a picture that is not there."""
    no_annotation: Literal["reject", "keep", "stop"] = "reject"
    """A picture of which nothing is said; kept, it is one without objects."""
    other_size: Literal["reject", "stop"] = "reject"
    """A mask, or a size that is written down, is not that of the picture."""
    colour_mask: Literal["reject", "stop"] = "reject"
    """A mask in colours where the source promises classes."""
    empty_class: Literal["keep", "stop"] = "keep"
    """A class of which there is nothing; it is not learnt either way."""
    foreign_path: Literal["keep", "reject", "stop"] = "keep"
    """A picture that is named in another place than it lies in."""
    duplicate: Literal["drop", "reject", "stop"] = "drop"
    """The second of two with one id, or of two that say the same."""
    unreadable: Literal["reject", "stop"] = "reject"
    """A file of annotations, or an entry of one, that cannot be understood: what it is about is left out."""
    same_picture: Literal["keep", "drop", "reject", "stop"] = "keep"
    """A picture that another file holds too, with the same pixels or nearly so. Kept, both are in one split; drop
    leaves out all but one, reject all of them."""
    shared_name: Literal["keep", "stop"] = "keep"
    """Pictures of several splits have their names in common, but for a number: one person or scene may be in both."""
    other_shape: Literal["keep", "reject", "stop"] = "reject"
    """A picture of another shape than nearly all, of a task whose pictures are crops: faces."""


class Recognised(NamedTuple):
    """Why a source seems to be of a format."""

    certainty: int
    """3: files that only this format has; 2: names and places as it has them; 1: it could be."""
    why: str
    """What was seen: `annotations.json holds images, annotations and categories`."""
    options: Mapping[str, Any] = {}
    """Of the format, beside its path."""


class FormatConfig(Options):
    """A dataset format: `pipeline/formats/<name>.py`."""

    gives: ClassVar[frozenset[Target]]

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """Whether a source of these files is of this format; None if it is not.

        Args:
            names: of its files, sorted; for an archive, of the files in it.
            peek: from such a name to the first 64 KB of that file.
        """
        return None

    @abstractmethod
    def fingerprint(self) -> Iterator[str]:
        """One line per file of the source (name, size, time), cheap: a walk over the names, no file is read.

        Raises:
            UserError: the source is missing, or is not of this format.
        """

    def listing(self) -> Iterator[str]:
        """One line per sample, which changes when the sample does: for counting how many are new.

        What `fingerprint` gives, where that is one line per sample and no more.

        Raises:
            UserError: the source is missing, damaged, or is not of this format.
        """
        yield from self.fingerprint()

    @abstractmethod
    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Every file of the source once, in any order, and what is wrong that belongs to none of its pictures.

        A file of annotations that was read is neither found nor left out.

        Raises:
            UserError: the source is missing, empty, or is not of this format.
        """


class Settled(NamedTuple):
    """What became of one annotation once its picture was decoded."""

    annotation: Any
    """Of the kind that the task learns from; None: the picture is left out."""
    problems: tuple[tuple[Flaw, str], ...] = ()
    """Each flaw, and what the rules make of it: `keep`, `clip`, `drop`, `void`, `reject` or `stop`."""


class TaskConfig(Options):
    """A vision task: `pipeline/tasks/<name>.py`. All that stages, gate and page need to know of one.

    Annotations, targets and answers go through the stages unseen; whatever looks into them is here, or in what goes
    with the kind of target: `pipeline/answers/`, `transforms.py`, `packed.py`.
    """

    learns: ClassVar[Target]
    reads: ClassVar[tuple[Target, ...]]
    """What of a source's annotation that can be learnt from, the first that it has."""
    needs: ClassVar[tuple[Output, ...]]
    """What of a network it can make sense of."""
    alike: ClassVar[bool] = False
    """Whether its pictures are crops of one shape: the rule `other_shape` is about one that is not."""
    unit: ClassVar[str]
    """What `tally` counts, in the plural: `images`, `objects`, `pixels`."""
    fields: ClassVar[Mapping[str, str]]
    """Columns of `samples.parquet` that hold one annotation, each with its type as pyarrow writes it."""
    nothing: ClassVar[Any] = None
    """What a picture is taken for of which nothing is said and that is kept; None: it cannot be."""
    score: str
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""

    @abstractmethod
    def settle(self, annotation: Any, width: int, height: int, rules: AnnotationRules) -> Settled:
        """Check an annotation against its picture.

        Args:
            annotation: as the format gave it, a painted one as `annotations.Canvas`.
            width: W of the picture.
            height: H.
            rules: what becomes of flaws.
        """

    @abstractmethod
    def tally(self, annotation: Any) -> Mapping[str, int]:
        """How much of each class a settled annotation holds; classes that it does not hold are left out."""

    @abstractmethod
    def classes(self, found: Iterable[str]) -> list[str]:
        """The class names in the order of their ids, from all that were found.

        Raises:
            UserError: there are too few or too many of them.
        """

    @abstractmethod
    def stratum(self, annotation: Any) -> str:
        """What the splits are balanced over: each stratum gets a picture in each split; one for all asks nothing."""

    def joined(self, annotations: Sequence[Any]) -> Any:
        """One settled annotation of several that files with the same picture have; None: they contradict each other."""
        return None

    def group(self, annotation: Any, group: str | None) -> str | None:
        """Which pictures are never parted between splits: those of one group of the source, if it names any."""
        return group

    def about(self, annotations: Sequence[Any], classes: Sequence[str]) -> dict[str, Any]:
        """What else is to be known of the dataset to learn from it: fields of `dataset.DatasetInfo` by their names.

        Args:
            annotations: settled, of the training pictures.
            classes: in the order of their ids.
        """
        return {}

    @abstractmethod
    def columns(self, annotation: Any, classes: Sequence[str]) -> dict[str, Any]:
        """The values of `fields` for one settled annotation; of pixels, what is not in `masks/`."""

    def outputs(self, info: Any, gives: Output) -> int:
        """What a network is built for: K of a vector or map, J of points, E of an embedding.

        Args:
            info: `dataset.DatasetInfo`.
            gives: what the network gives.
        """
        count: int = len(info.classes)
        return count

    def answering(self, network: nn.Module, info: Any) -> nn.Module:
        """The network with what else turns what it learns into what it answers, as part of it."""
        return network

    pools: ClassVar[bool] = True
    """Whether the answers of several networks have a mean."""

    def pool(self, info: Any) -> Callable[[Tensor], Tensor]:
        """From the answers of n networks, [n, B, ...], to one of them all, [B, ...]: see `pipeline.pooling`.

        Args:
            info: `dataset.DatasetInfo`.
        """
        raise NotImplementedError

    @property
    def undecided(self) -> bool:
        """Whether `tuned` has anything to choose; the validation split is answered once more for it."""
        return False

    def tuned(self, answers: Any) -> Self:
        """The same task with what was left open chosen by its answers to the validation split, such as a threshold."""
        return self

    @abstractmethod
    def told(self, outputs: np.ndarray, views: Views) -> list[Any]:
        """What a network's raw outputs mean, one entry per image.

        Args:
            outputs: float32 [V, ...] as one of `needs` says, of the views of whole images.
            views: what the network saw.
        """

    @abstractmethod
    def answers(self, split: Any, told: Sequence[Any]) -> Answers:
        """What was told beside what is true.

        Args:
            split: `dataset.Split` of N images.
            told: N entries of `told`.
        """

    @abstractmethod
    def blind(self, train: Any, split: Any) -> Answers:
        """The answers of a model that never looks at a picture, but knows the training split, to the images of another.

        Args:
            train: `dataset.Split`, or what is known of it.
            split: likewise.
        """

    @abstractmethod
    def marks(self, told: Any, classes: Sequence[str]) -> Marks:
        """One entry of `told` as people look at it."""

    @abstractmethod
    def plain(self, told: Any, classes: Sequence[str]) -> dict[str, Any]:
        """One entry of `told` for programs, in plain values: text, numbers, bytes, lists and dicts of them."""

    @abstractmethod
    def truth(self, row: Mapping[str, Any], mask: bytes | None, classes: Sequence[str]) -> Marks:
        """What is true of one image of a dataset, as people look at it.

        Args:
            row: of `samples.parquet`.
            mask: its encoded mask, where it has one.
            classes: of the dataset.
        """


class ModelConfig(Options):
    """A network architecture, or one library's family of them: `pipeline/models/<name>.py`."""

    gives: ClassVar[Output]

    @property
    def begins_random(self) -> bool:
        """Whether training begins with random weights: those of a file are an option of some models."""
        return not getattr(self, "weights", "")

    @abstractmethod
    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """A fresh network, initialised from torch's global generator.

        Args:
            channels: C of the pictures, 1 or 3.
            outputs: K.
            size: S, the side in pixels of the square pictures it will see.

        Returns:
            A module from float32 [B, C, S, S] to what `gives` says: logits, or boxes. One that learns from something
            else than it answers is a `networks.Deciding`.
        """


class LossConfig(Options):
    """A loss: `pipeline/losses/<name>.py`."""

    takes: ClassVar[frozenset[tuple[Output, Target]]]
    compares: ClassVar[bool] = False
    """Whether it compares the pictures of a batch with each other: learnt from in parts, it would be another loss."""

    @abstractmethod
    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """A module from (what the network gives to learn from, targets) to the mean loss of the batch, a scalar.

        It is `training.Weighing` if the mean is not the plain one over the pictures.

        It may hold weights, which are learnt with those of the network and kept in checkpoints, not in the model.

        Args:
            counts: of each class, K of them, in the training split: images, objects or pixels; weights come from here.
            outputs: that the network is built for: see `TaskConfig.outputs`.
        """


class MetricConfig(Options):
    """A score of answers against the truth: `pipeline/metrics/<name>.py`."""

    takes: ClassVar[frozenset[Target]]
    title: ClassVar[str]
    """As a person reads it: `Balanced accuracy`."""
    higher_is_better: ClassVar[bool]
    measured: ClassVar[bool] = False
    """Whether it is in the unit of what is measured, as dollars or pixels, and no share."""

    def turned(self, value: float) -> float:
        """A score turned so that larger is better, and back."""
        return value if self.higher_is_better else -value

    @abstractmethod
    def score(self, answers: Any, weights: np.ndarray) -> np.ndarray:
        """The score under each of R weightings of the images: a bootstrap is a weighting by counts.

        Args:
            answers: to N images, of the kind in `pipeline/answers/` that goes with `takes`. What is needed of an image
                is computed once and kept there: the method is called many times with the same answers.
            weights: float64 [R, N], >= 0; a row of ones is the plain score.

        Returns:
            float64 [R]; nan where a weighting leaves the score undefined.
        """


class Transform(Options):
    """One random change to a training picture, by its name in the augmentation library."""

    name: str
    """As the library has it: `HorizontalFlip`."""
    arguments: dict[str, Any] = {}
    """Of the library's, by their names there; what is left out is as there."""


class Frame(Options):
    """What of a picture a network sees, as squares of one size: see `pipeline.frames`."""

    name: Literal["crop", "pad", "stretch", "tiles"] = "crop"
    """crop: the middle, as large as fits; pad: all of it, with grey beside it or below it; stretch: all of it, out of
    proportion; tiles: all of it, piece by piece, for objects that are small in large pictures."""
    tile: int = Field(0, ge=0, le=30_000)
    """Side of a tile in pixels of the picture; 0 is that of the network's picture, so that nothing is shrunk."""
    overlap: float = Field(0.25, ge=0, le=0.9)
    """Share of a tile, at least, that it has in common with its neighbour."""

    @model_validator(mode="before")
    @classmethod
    def _by_its_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _fits(self) -> Frame:
        if self.name != "tiles" and (self.tile or self.overlap != 0.25):
            raise ValueError(
                f"tile and overlap are of the frame 'tiles', and the frame is {self.name!r}; leave them out"
            )
        return self


class PolicyConfig(Options):
    """How training pictures are varied: `pipeline/policies/<name>.py`."""

    size: int = Field(ge=SMALLEST, le=4096)
    """Side in pixels of the square pictures that the network sees."""
    frame: Frame = Frame.model_validate({})
    """What of a picture they show: crop, pad, stretch or tiles."""

    @property
    @abstractmethod
    def packed(self) -> int:
        """Side P >= size of the training pictures before augmentation."""

    @property
    def mosaic(self) -> float:
        """The share of training pictures that are put together from four: see `pipeline.mosaics`."""
        return 0.0

    @property
    def alternates(self) -> bool:
        """Whether pictures are mirrored left to right in every other epoch, and not by chance in each."""
        return False

    @abstractmethod
    def transforms(self, located: bool) -> list[Transform]:
        """From uint8 [P, P, C] to uint8 [S, S, C].

        Args:
            located: whether boxes or masks go with the pixels. Then nothing may be shown twice: what a mirror at the
                edge adds would be an object that nobody named.
        """
