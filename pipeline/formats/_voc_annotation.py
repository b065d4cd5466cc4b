"""One annotation of Pascal VOC: the objects in it, and the picture that it says it is of."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from pipeline.annotations import Corners, Flaw, FlawKind, Objects, Thing
from pipeline.formats._values import class_name, number_in, shown, whole
from pipeline.formats._xml import parsed

CORNERS = ("xmin", "ymin", "xmax", "ymax")
WEBTOOL = ("imagesize", "object/polygon", "object/segm")
"""What the LabelMe of MIT writes below the same root."""
HARD = {"": False, "0": False, "false": False, "1": True, "true": True}
"""What stands in `difficult`, in lower case."""


@dataclass(frozen=True)
class Annotation:
    """What one file says."""

    file: str
    objects: Objects | None = None
    """None where the file cannot be read."""
    filename: str = ""
    """Of the picture, as it stands there; empty where nothing does."""
    path: str = ""
    """Likewise, with the folders of the machine it was made on."""
    flaws: list[Flaw] = field(default_factory=list)


def annotation(file: str, data: bytes, last_pixel: bool) -> Annotation | None:
    """Read one file; None if it is XML of another kind.

    Args:
        file: its name.
        data: its contents.
        last_pixel: whether corners count pixels from 1 and include the last one.
    """
    try:
        root = parsed(data)
    except ValueError as error:
        return Annotation(file, flaws=[Flaw(FlawKind.UNREADABLE, file, "", str(error))])
    if root.tag != "annotation" or any(root.find(path) is not None for path in WEBTOOL):
        return None
    flaws: list[Flaw] = []
    things: list[Thing] = []
    for position, element in enumerate(root.findall("object"), start=1):
        name = class_name(element.findtext("name"))
        place = f"object {position}" + (f" ({name})" if name else "")
        try:
            things.append(_thing(element, name, place, last_pixel))
        except ValueError as error:
            flaws.append(Flaw(FlawKind.UNREADABLE, file, place, str(error)))
    size = _size(root, file, flaws)
    filename, path = ((root.findtext(tag) or "").strip() for tag in ("filename", "path"))
    return Annotation(file, Objects(tuple(things), file, said_size=size), filename, path, flaws)


def _thing(element: Element, name: str | None, place: str, last_pixel: bool) -> Thing:
    if name is None:
        raise ValueError(f"its name is {shown(element.findtext('name'))}; expected that of a class")
    said = (element.findtext("difficult") or "").strip().lower()
    if said not in HARD:
        raise ValueError(f"difficult is {shown(said)}; expected 0 or 1")
    return Thing(name, _box(element.find("bndbox"), last_pixel), place, HARD[said])


def _box(element: Element | None, last_pixel: bool) -> Corners:
    """Corners, in the plane of `pipeline.boxes`."""
    texts = [None if element is None else element.findtext(corner) for corner in CORNERS]
    x1, y1, x2, y2 = map(number_in, texts)
    if x1 is None or y1 is None or x2 is None or y2 is None:
        raise ValueError(f"its {', '.join(CORNERS)} are {', '.join(map(shown, texts))}; expected four numbers")
    return (x1 - 1, y1 - 1, x2, y2) if last_pixel else (x1, y1, x2, y2)


def _size(root: Element, file: str, flaws: list[Flaw]) -> tuple[int, int] | None:
    """Width and height, where the file says them."""
    texts = [(root.findtext(f"size/{side}") or "").strip() for side in ("width", "height")]
    width, height = (whole(number_in(text)) for text in texts)
    if width is not None and height is not None:
        return width, height
    if any(texts):
        found = f"width and height are {shown(texts[0])} and {shown(texts[1])}; expected whole numbers"
        flaws.append(Flaw(FlawKind.UNREADABLE, file, "size", found))
    return None
