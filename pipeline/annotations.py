"""What a source says of a picture, as formats give it: objects, painted masks, and what is wrong with them.

Nothing here is trusted or checked yet, and no picture is decoded: a task settles an annotation once the size of its
picture is known, by the rules of `params.yaml` (`contracts.AnnotationRules`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2: see `pipeline.boxes` for where pixels lie."""
Polygon = tuple[float, ...]
"""x, y, x, y, ...: three corners or more, closed by itself."""
Colour = tuple[int, int, int]


class FlawKind(StrEnum):
    """What can be wrong with an annotation; each has a rule of the same name in `annotations` of `params.yaml`."""

    BAD_BOX = "bad_box"
    """Without area, inverted, or not finite."""
    OUTSIDE = "outside"
    """Reaches beyond the picture, or lies outside of it."""
    UNKNOWN_CLASS = "unknown_class"
    """An object of a class that the source does not name, or a pixel value without class."""
    NO_PICTURE = "no_picture"
    """Something is said of a picture that is not there."""
    NO_ANNOTATION = "no_annotation"
    """A picture of which nothing is said, in a source that says something of others."""
    OTHER_SIZE = "other_size"
    """A mask, or the size that is written down, is not that of the picture."""
    COLOUR_MASK = "colour_mask"
    """A mask whose palette was read as colours, so that its values are no classes any more."""
    EMPTY_CLASS = "empty_class"
    """A class that the source names, and no object or pixel is of it."""
    FOREIGN_PATH = "foreign_path"
    """The picture is named in another folder or on another machine, and was found by the end of that name."""
    DUPLICATE = "duplicate"
    """The second of two with one id, or of two that say the same."""
    UNREADABLE = "unreadable"
    """A file of annotations, or an entry of one, that cannot be understood."""
    SAME_PICTURE = "same_picture"
    """Another file holds the same picture."""
    SHARED_NAME = "shared_name"
    """Pictures of several splits have their names in common, but for a number."""
    OTHER_SHAPE = "other_shape"
    """A picture that is no crop as the others are."""


class Flaw(NamedTuple):
    """One thing that is wrong with an annotation."""

    kind: FlawKind
    source: str
    """The file that says it, with forward slashes: `Annotations/12.xml`."""
    place: str
    """Where in that file, as a person finds it: `object 3 (RBC)`, `annotation 17`, `line 4`; empty for the whole."""
    found: str
    """In words: `the box 504,337,504,337 has no area`."""


class Runs(NamedTuple):
    """A mask as COCO writes it: lengths of runs in column order, of background and object in turn."""

    height: int
    width: int
    lengths: Sequence[int]


@dataclass(frozen=True)
class Thing:
    """One object that a source names in a picture."""

    name: str
    """Of its class."""
    box: Corners
    """As given; nobody has looked whether it has an area, or lies in the picture."""
    place: str = field(default="", compare=False)
    """See `Flaw.place`."""
    crowd: bool = False
    """Many at once, or too hard to see (COCO `iscrowd`, VOC `difficult`): finding it is neither right nor wrong."""
    outline: tuple[Polygon, ...] | Runs | None = None
    """Its shape, where the source draws it: polygons, or runs."""


@dataclass(frozen=True)
class Objects:
    """The objects of one picture; none of them is an answer too: there is nothing to find."""

    things: tuple[Thing, ...]
    source: str = field(default="", compare=False)
    """The file that says so."""
    relative: bool = False
    """Whether x and y are shares of the picture's width and height, as YOLO has them, and not pixels."""
    said_size: tuple[int, int] | None = field(default=None, compare=False)
    """Width and height that the source says the picture has."""
    flaws: tuple[Flaw, ...] = field(default=(), compare=False)
    """What was seen to be wrong when `Pieces` were decoded; these become objects with runs."""


@dataclass(frozen=True)
class Layer:
    """One encoded picture whose pixels say what the pixels of another are."""

    name: str = field(compare=False)
    """Its file."""
    data: bytes = field(repr=False)
    """Encoded, as given."""
    classes: Mapping[int | Colour, str]
    """Of each pixel value: an index of a palette, a grey level, or, only where the source says so, a colour."""
    void: frozenset[int | Colour] = frozenset()
    """Values that say nothing of a pixel."""
    clear: frozenset[int | Colour] = frozenset()
    """Values through which the layers below are seen: 0 where each object has a mask of its own."""


@dataclass(frozen=True)
class Painted:
    """The class of every pixel, as one layer or several: a later one lies over those before it."""

    layers: tuple[Layer, ...]
    background: str | None = None
    """Class of the pixels that every layer leaves clear; None: they are void."""


@dataclass(frozen=True)
class Drawn:
    """The class of every pixel, by outlines: a later thing lies over those before it."""

    objects: Objects
    background: str | None = "background"
    """Class of the pixels outside of every outline; None: they are void."""
    void: frozenset[str] = frozenset()
    """Names of things that are no class: their pixels are void."""


class Place(NamedTuple):
    """Where a named point is, in pixels; see `pipeline.boxes`."""

    x: float
    y: float


@dataclass(frozen=True)
class Points:
    """The named points of one picture, all of them in the order in which the source names them."""

    places: Mapping[str, Place | None]
    """None: nobody knows, or it cannot be seen."""
    source: str = field(default="", compare=False)
    """The file that says so."""
    place: str = field(default="", compare=False)
    """See `Flaw.place`."""
    relative: bool = False
    """Whether x and y are shares of the picture's width and height, and not pixels."""


@dataclass(frozen=True)
class Pieces:
    """The objects of one picture as a mask for each: of a layer every value that has a class is one object."""

    layers: tuple[Layer, ...]
    crowds: frozenset[int | Colour] = frozenset()
    """Values of many objects at once."""
    kinds: Layer | None = None
    """The class of every pixel, where values tell objects apart and nothing else: then each that is not void or clear
    is an object, of the class that most of its pixels are of."""


@dataclass(frozen=True)
class Canvas:
    """A mask as it will be learnt, made of `Painted` or `Drawn` once its picture is decoded."""

    names: tuple[str, ...]
    """Classes by the value of their pixels: 0 is the first."""
    width: int
    height: int
    id: str
    """sha256 of `mask`; empty where there is none, for a reason that `flaws` tell."""
    mask: bytes = field(repr=False, compare=False)
    """`masks.encode` of those values, 255 where it is void; may be dropped once it is stored under its id."""
    counts: Mapping[str, int] = field(compare=False)
    """Pixels of each class that has any."""
    flaws: tuple[Flaw, ...] = field(default=(), compare=False)
    source: str = field(default="", compare=False)
    """The file, or the first of the files, that it was made from."""
