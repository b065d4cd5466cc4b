"""YOLO text: a label file for each picture, with a row for each object; boxes and polygons, also mixed.

    images/train/a.jpg   labels/train/a.txt    data.yaml
    train/images/a.jpg   train/labels/a.txt    data.yaml                   Roboflow's
    obj_train_data/a.jpg obj_train_data/a.txt  obj.names obj.data train.txt   darknet's
    a.jpg                a.txt                 classes.txt

An empty label file says that there is nothing in its picture; none says nothing. Where no file names the classes, the
numbers are their names. Pictures that lie elsewhere, as where a link to them was lost, are found if just one has the
name. The box of a polygon is its extent. Where a source draws polygons, objects are told apart pixel by pixel, and a
picture has a mask if all its rows are polygons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar

from pydantic import Field

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.errors import UserError
from pipeline.formats._files import Listing
from pipeline.formats._names import PICTURES, base, clutter, parent, stem, suffix
from pipeline.formats._said import PEEKED, Said, Story, deliver, sample_lines
from pipeline.formats._yolo_names import LISTS, config, splits
from pipeline.formats._yolo_pictures import LABELS, Label, assign, label_files
from pipeline.formats._yolo_rows import Classes, looks, story
from pipeline.source import open_source


class Config(FormatConfig):
    """Options of a source with YOLO label files."""

    gives: ClassVar[frozenset[Target]] = frozenset({Target.OBJECTS, Target.INSTANCES, Target.MASK})

    path: str = Field(min_length=1)
    """A folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets; pictures may lie outside of it."""

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """By rows of shares in text files that are named like pictures, or lie in a folder of labels."""
        names = [name for name in names if not clutter(name)]
        stems = {stem(name) for name in names if suffix(name) in PICTURES}
        texts = [name for name in names if suffix(name) == "txt"]
        at_home = {name for name in texts if not set(LABELS).isdisjoint(parent(name).lower().split("/"))}
        settings = any(base(name) in LISTS or suffix(name) in ("yaml", "yml", "names") for name in names)
        for name in [name for name in texts if name in at_home or stem(name) in stems][:PEEKED]:
            row = next(filter(None, map(str.split, peek(name).decode("utf-8", "replace").split("\n"))), [])
            if looks(row):
                sure = settings or name in at_home
                return Recognised(3 if sure else 2, f"{name} holds rows of a class and shares of a picture")
        return None

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each file, or of the archive."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """Name, size and time of each picture and its label file."""
        yield from sample_lines(self.path, self.inside, "txt")

    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Every file of the source once, and what is wrong with its annotations."""
        listing = Listing.of(self.path, self.inside)
        found = config(listing)
        labels, reasons = label_files(listing, found.read, found.classes.keypoints)
        if not any(one.survey.numeric for one in labels.values()):
            raise UserError(
                f"{listing.source.shown}: no label file of YOLO was found. Expected a text file with the name of each "
                "picture, with rows such as '0 0.5 0.5 0.2 0.4'."
            )
        yield from found.flaws
        yield from _empty_classes(found.classes, labels.values())
        outlined = any(one.survey.outlined for one in labels.values())
        pictures, missing = assign(labels)
        homes = {parent(name) for name in pictures}
        every = {*listing.pictures, *(name for name in listing.pictures_outside if parent(name) in homes)}
        by_picture, more = splits(listing, found, every)
        for name, flaw in more:
            of_label = labels[pictures[name]].flaws if name in pictures else missing
            of_label.append(flaw)
        yield from missing
        said = {
            name: Said(partial(_tell, label, labels[label], found.classes, outlined), by_picture[name])
            for name, label in pictures.items()
        }
        reasons = {name: why for name, why in reasons.items() if name not in found.read}
        yield from deliver(listing, said, {*labels, *found.read}, reasons, by_picture)


def _tell(name: str, label: Label, classes: Classes, outlined: bool, masks: Mapping[str, bytes]) -> Story:
    annotation, flaws = story(name, label.data, classes, outlined)
    return annotation, [*label.flaws, *flaws]


def _empty_classes(classes: Classes, labels: Iterable[Label]) -> Iterator[Flaw]:
    present = {classes.names.get(number) for label in labels for number in label.survey.numbers}
    for number, name in classes.names.items():
        if name not in present:
            present.add(name)
            yield Flaw(FlawKind.EMPTY_CLASS, classes.file, f"class {number}", f"{name}: nothing is of that class")
