"""The classes of Pascal VOC, and what pixels of its masks stand for.

Source: Everingham, Winn. The PASCAL Visual Object Classes Challenge 2012 Development Kit, 2012, section 6.2 and
`VOClabelcolormap.m`; https://docs.cvat.ai/docs/manual/advanced/formats/format-voc/ for `labelmap.txt`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.annotations import Colour, Flaw, FlawKind, Layer, Painted, Pieces
from pipeline.formats._class_lists import Names
from pipeline.formats._files import Listing
from pipeline.formats._names import base, parent
from pipeline.formats._said import class_lists

LISTS = ("class_names.txt", "labelmap.txt")
"""Of labelme's and of CVAT's exports, beside the folders of annotations and masks."""
VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""In the order of their indices in a mask."""
VOID = 255
BORDER: Colour = (224, 224, 192)
"""The colour of void: index 255 in the devkit's palette."""
VOIDS = frozenset({"ignored", "ignore", "void", "__ignore__"})
"""Names of what is no class, in lists that hold one."""


@dataclass(frozen=True)
class Classes:
    """The classes of one data set."""

    file: str
    """That names them; empty where none does."""
    objects: frozenset[str]
    """Names that objects may have; empty where nothing restricts them."""
    values: dict[int | Colour, str]
    """Of pixels, by index and by colour; empty where the file that names them cannot be understood."""
    void: frozenset[int | Colour]

    def painted(self, name: str, data: bytes) -> Painted:
        """One mask."""
        return Painted((Layer(name, data, self.values, self.void),))

    def pieces(self, name: str, data: bytes, objects: str, numbers: bytes) -> Pieces:
        """A mask of classes, and one that tells objects apart; 0 and black are background in both."""
        ground = frozenset[int | Colour]({0, (0, 0, 0)})
        values = {value: kind for value, kind in self.values.items() if value not in ground}
        void = frozenset[int | Colour]({VOID, BORDER})
        layer = Layer(objects, numbers, {}, void, ground)
        return Pieces((layer,), kinds=Layer(name, data, values, self.void, ground))


def voc_classes(listing: Listing, homes: set[str]) -> tuple[Classes, list[Flaw]]:
    """The classes that a file names, or VOC's own.

    Args:
        listing: of the source.
        homes: the folders of annotations and masks; the file lies beside one of them or in it.
    """
    near = homes | {parent(home) for home in homes}
    flaws: list[Flaw] = []
    lists = [name for name in listing.names if base(name).lower() in LISTS and parent(name) in near]
    for name, found in class_lists(listing, lists).items():
        if isinstance(found, Flaw):
            flaws.append(found)
        else:
            return _named(name, found), flaws
    own = dict[int | Colour, str](enumerate(VOC)) if not flaws else {}
    return Classes("", frozenset(), own, frozenset({VOID})), flaws


def unknown(classes: Classes, file: str, place: str, name: str) -> Flaw | None:
    """The flaw of an object whose class the list of the data set does not hold."""
    if not classes.objects or name in classes.objects:
        return None
    return Flaw(FlawKind.UNKNOWN_CLASS, file, place, f"{name} is not in {classes.file}")


def _named(file: str, names: Names) -> Classes:
    """By index in the order of the list, and by colour where it holds colours; a grey one may be decoded as a level."""
    values: dict[int | Colour, str] = {}
    for colour, name in names.by_colour.items():
        values |= {colour: name, colour[0]: name} if len(set(colour)) == 1 else {colour: name}
    for index, name in names.by_value.items():
        values[index] = name
    void = {key for key, name in values.items() if name.lower() in VOIDS} | {VOID}
    void |= {BORDER} - values.keys() if names.by_colour else set()
    real = {key: name for key, name in values.items() if key not in void}
    return Classes(file, frozenset(names.by_value.values()) - VOIDS, real, frozenset(void))
