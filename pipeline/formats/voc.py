"""Pascal VOC: an XML file of boxes for each picture, masks by class, and lists that say the split.

    Annotations/2007_000001.xml  JPEGImages/2007_000001.jpg  SegmentationClass/2007_000001.png
    ImageSets/Main/train.txt     ImageSets/Main/val.txt      ImageSets/Main/test.txt
    train/a.xml                  train/a.jpg                 Roboflow's, in folders of splits
    class_names.txt              labelmap.txt                of labelme's and CVAT's exports: the classes there are

An annotation is of the picture of its own name, beside it or in a neighbouring folder; where `<filename>` or `<path>`
lead elsewhere, that is a flaw. `difficult` makes a crowd. A mask holds indices of the classes in VOC's order, or in
that of the list, 255 is void, and its palette does not matter. In `SegmentationObject` each number is an object, of the
class that most of its pixels are of in `SegmentationClass`.

Source: Everingham, Winn. The PASCAL Visual Object Classes Challenge 2012 Development Kit, 2012.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.errors import UserError
from pipeline.formats._files import Listing
from pipeline.formats._names import base, folder_splits, parent
from pipeline.formats._said import Said, deliver, heads, sample_lines
from pipeline.formats._values import shown
from pipeline.formats._voc_annotation import Annotation, annotation
from pipeline.formats._voc_classes import Classes, voc_classes
from pipeline.formats._voc_pictures import Gathered, gather
from pipeline.formats._voc_splits import Lists, lists
from pipeline.formats._xml import MAX_BYTES
from pipeline.source import open_source

MASKS = "segmentationclass"
INSTANCES = "segmentationobject"


class Config(FormatConfig):
    """Options of a source in the layout of Pascal VOC."""

    gives: ClassVar[frozenset[Target]] = frozenset({Target.OBJECTS, Target.INSTANCES, Target.MASK})

    path: str = Field(min_length=1)
    """A folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets; pictures may lie outside of it."""
    last_pixel: Literal["excluded", "included"] = "excluded"
    """Whether boxes reach to xmax, ymax, or, as the devkit counts from 1, include that pixel: x1 is then xmin - 1."""

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """By the tags of its XML files, or by its folder of masks."""
        for name, head in heads(names, peek, "xml"):
            if b"<annotation" in head and b"<bndbox>" in head and b"<polygon>" not in head:
                return Recognised(3, f"{name} holds objects with a bndbox below annotation")
        for name in names:
            if base(parent(name)).lower() == MASKS and name.lower().endswith(".png"):
                return Recognised(2, f"{name} is a mask in a folder of VOC's name")
        return None

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each file, or of the archive."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """Name, size and time of each picture and its annotation."""
        masks = {MASKS, INSTANCES}
        for line in sample_lines(self.path, self.inside, "xml"):
            if base(parent(line.split("\t")[0])).lower() not in masks:
                yield line

    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Every file of the source once, and what is wrong with its annotations."""
        listing = Listing.of(self.path, self.inside)
        folders = {name: base(parent(name)).lower() for name in sorted(listing.pictures)}
        masks = [name for name, home in folders.items() if home == MASKS]
        instances = [name for name, home in folders.items() if home == INSTANCES]
        annotations, reasons = self._annotations(listing)
        if not annotations and not masks:
            raise UserError(
                f"{listing.source.shown}: no annotation of Pascal VOC was found. Expected XML files with boxes "
                "(bndbox) below <annotation>, or masks in SegmentationClass."
            )
        reasons |= dict.fromkeys(
            instances, "tells objects apart by number, and no mask in SegmentationClass says what they are"
        )
        homes = {parent(name) for name in (*masks, *(one.file for one in annotations))}
        classes, flaws = voc_classes(listing, homes)
        yield from flaws
        gathered, missing = gather(listing, annotations, masks, instances)
        yield from missing
        if not masks:  # what lies in masks is not known yet
            yield from _empty_classes(classes, annotations)
        told = lists(listing)
        for name in sorted(listing.pictures - {*gathered, *masks, *instances}):
            if told.key(name) in told.lines:
                gathered[name] = Gathered()
        yield from _missing(told, {*gathered, *(one.file for one in annotations)})
        said = _split(gathered, classes, told)
        read = {*masks, *told.read, classes.file, *(one.file for one in annotations), *(flaw.source for flaw in flaws)}
        yield from deliver(listing, said, read, reasons | told.reasons)

    def _annotations(self, listing: Listing) -> tuple[list[Annotation], dict[str, str]]:
        """What the XML files say, and why some are left out."""
        names = listing.with_suffix("xml")
        large = {name for name in names if listing.sizes[name] > MAX_BYTES}
        found = [Annotation(name, flaws=[_too_large(listing, name)]) for name in large]
        reasons: dict[str, str] = {}
        for item in listing.contents(set(names) - large):
            if isinstance(item, LeftOut):
                reasons[item.name] = item.reason
            elif (one := annotation(*item, self.last_pixel == "included")) is None:
                reasons[item[0]] = "XML, but no annotation of Pascal VOC"
            else:
                found.append(one)
        return sorted(found, key=lambda one: one.file), reasons


def _split(gathered: Mapping[str, Gathered], classes: Classes, told: Lists) -> dict[str, Said]:
    """What is said of each picture, with its split: by the lists, or where there are none by its folder."""
    by_folder = folder_splits(gathered)
    said = {}
    for name, one in gathered.items():
        key = told.key(name)
        one.flaws += told.flaws.get(key, [])
        split = told.splits.get(key) if told.read else by_folder[name]
        said[name] = Said(partial(one.tell, classes), split, tuple(filter(None, (one.mask, one.pieces))))
    return said


def _missing(told: Lists, names: Collection[str]) -> Iterator[Flaw]:
    """The flaws of names in lists that no picture has, and no annotation, which would say so too."""
    known = {told.key(name) for name in names}
    for key, (file, place) in told.lines.items():
        if key not in known:
            yield Flaw(FlawKind.NO_PICTURE, file, place, f"no picture is named {shown(key[1])}")


def _empty_classes(classes: Classes, annotations: Iterable[Annotation]) -> Iterator[Flaw]:
    present = {thing.name for one in annotations if one.objects for thing in one.objects.things}
    for name in sorted(classes.objects - present):
        yield Flaw(FlawKind.EMPTY_CLASS, classes.file, name, f"{name}: nothing is of that class")


def _too_large(listing: Listing, name: str) -> Flaw:
    found = f"{listing.sizes[name]:,} bytes of XML; the limit is {MAX_BYTES:,}"
    return Flaw(FlawKind.UNREADABLE, name, "", found)
