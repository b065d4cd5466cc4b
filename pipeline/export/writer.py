"""What every format is written from, and what it must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pipeline.contracts import Target
from pipeline.files import creating

if TYPE_CHECKING:
    import numpy as np

    from pipeline.dataset import Dataset

MAGIC = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    *((head, "tif") for head in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((head, "pbm") for head in (b"P1", b"P4")),
    *((head, "pgm") for head in (b"P2", b"P5")),
    *((head, "ppm") for head in (b"P3", b"P6")),
)
BATCH = 256
SHORT = 16
"""Digits of an id that name a picture."""


class Box(NamedTuple):
    """One object of a picture."""

    label: int
    x1: float
    y1: float
    x2: float
    y2: float
    crowd: bool
    outline: Sequence[Sequence[float]] | None
    """Polygons of x, y, x, y, ..."""
    runs: Sequence[int] | None = None
    """Its pixels, as `pipeline.masks.of_runs` has them."""


@dataclass(frozen=True)
class Row:
    """One picture with what is known of it."""

    name: str
    """Of its file: the beginning of its id, and a suffix for what it is."""
    data: bytes
    """Encoded, as given."""
    split: str
    group: str | None
    width: int
    height: int
    metadata: Mapping[str, Any]
    label: int | None = None
    objects: tuple[Box, ...] | None = None
    mask: np.ndarray | None = None
    """uint8 [H, W]."""

    @property
    def stem(self) -> str:
        """The name without suffix."""
        return self.name.rpartition(".")[0]


@dataclass
class Notes:
    """What the format cannot hold."""

    lost: dict[str, int] = field(default_factory=dict)
    """Sentences, and how many things each is about."""

    def add(self, sentence: str, count: int = 1) -> None:
        """Some more of which that is true; `{count}` in the sentence stands for how many."""
        self.lost[sentence] = self.lost.get(sentence, 0) + count


class Writer(ABC):
    """A format: `pipeline/export/<name>.py`."""

    takes: ClassVar[frozenset[Target]]
    outlines: ClassVar[bool] = False
    """Whether it holds shapes of objects."""
    details: ClassVar[bool] = False
    """Whether it holds groups and metadata."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        """For a dataset of these classes, into an empty folder.

        Raises:
            UserError: a class has a name that the format cannot hold.
        """
        self.folder = folder
        self.classes = classes
        self.notes = Notes()

    @abstractmethod
    def add(self, row: Row) -> None:
        """Write one picture."""

    @abstractmethod
    def finish(self) -> Mapping[str, str]:
        """Write what is left; options beside its path with which the format is read again."""

    def write(self, name: str, data: bytes) -> None:
        """A file below the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with creating(path, len(data)) as file:
            file.write(data)


def rows(dataset: Dataset) -> Iterator[Row]:
    """Every picture of a dataset, in the order of their ids; a few are held at a time."""
    from pipeline import masks

    table = dataset.samples
    ids = table.column("id").to_pylist()
    short = SHORT if len({one[:SHORT] for one in ids}) == len(ids) else None
    for batch in table.to_batches(max_chunksize=BATCH):
        for row in batch.to_pylist():
            data = dataset.read(row["shard"], row["row"])
            mask = row.get("mask_shard")
            yield Row(
                name=f"{row['id'][:short]}.{suffix(data)}",
                data=data,
                split=row["split"],
                group=row["group"],
                width=row["width"],
                height=row["height"],
                metadata={name: row[name] for name in dataset.info.metadata},
                label=row.get("label"),
                objects=tuple(_box(one) for one in row["objects"]) if "objects" in row else None,
                mask=None if mask is None else masks.decode(dataset.read_mask(mask, row["mask_row"])),
            )


def _box(one: Mapping[str, Any]) -> Box:
    corners = one["x1"], one["y1"], one["x2"], one["y2"]
    return Box(one["label"], *corners, one["crowd"], one.get("outline"), one.get("runs"))


def suffix(data: bytes) -> str:
    """What a file of these contents is called."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((name for head, name in MAGIC if data.startswith(head)), "jpg")
