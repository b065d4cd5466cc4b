"""What a dataset format gives, and what becomes of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from pipeline.annotations import Flaw
from pipeline.contracts.nouns import Target
from pipeline.contracts.options import Options


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
