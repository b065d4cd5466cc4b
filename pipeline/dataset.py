"""The dataset on disk: what `ingest` writes and everyone after it reads.

    samples.parquet   one row per image, sorted by id
    shards/*.arrow    the encoded bytes, as given, memory-mapped: random access without copies
    masks/*.arrow     likewise the masks of a task that learns from pixels, as `pipeline.masks` encodes them
    dataset.json      task, classes, counts, channels, digest
    rejected.parquet  each file left out, and why
    problems.parquet  each thing that is wrong with an annotation, where, and what became of it

The same source gives the same files, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.files import DATASET
from pipeline.numbers import Scale

SAMPLE_COLUMNS = {
    "id": pa.string(),  # sha256 of the encoded bytes, hexadecimal
    "split": pa.string(),
    "group": pa.string(),  # null where the source names none
    "together": pa.string(),  # the same for all that no split and no fold parts; null where an image is by itself
    "width": pa.int32(),
    "height": pa.int32(),
    "source": pa.string(),  # where it came from
    "shard": pa.int32(),
    "row": pa.int32(),
}
"""Columns of every task; the task's own (`label`) follow them, and then the metadata of the source, if it has any."""
MASK_COLUMNS = {"mask": pa.string(), "mask_shard": pa.int32(), "mask_row": pa.int32()}
"""Of tasks that learn from pixels: sha256 of the encoded mask, and where it lies in `masks/`."""
OBJECT = pa.struct(
    {
        "label": pa.int32(),
        **dict.fromkeys(("x1", "y1", "x2", "y2"), pa.float64()),  # see `pipeline.boxes`
        "crowd": pa.bool_(),
        "outline": pa.list_(pa.list_(pa.float64())),  # polygons of x, y, x, y, ...; null where none is known
    }
)
INSTANCE = pa.struct(
    {
        "label": pa.int32(),
        **dict.fromkeys(("x1", "y1", "x2", "y2"), pa.float64()),  # around its pixels
        "crowd": pa.bool_(),
        "runs": pa.list_(pa.int32()),  # its pixels, as COCO has them: see `masks.of_runs`
    }
)
FIELDS = {
    "int64": pa.int64(),
    "labels": pa.list_(pa.int32()),
    "numbers": pa.list_(pa.float64()),  # null where one is not known
    "points": pa.list_(pa.struct({"x": pa.float64(), "y": pa.float64()})),  # null likewise
    "objects": pa.list_(OBJECT),
    "instances": pa.list_(INSTANCE),
}
"""Types of the columns that hold annotations, by the names that tasks give them."""
REJECTED_COLUMNS = {"source": pa.string(), "reason": pa.string()}
PROBLEM_COLUMNS = {
    "source": pa.string(),  # the file that says it
    "place": pa.string(),  # where in it
    "problem": pa.string(),  # the rule in params.yaml that it falls under, as `bad_box`
    "found": pa.string(),  # in words
    "done": pa.string(),  # keep, clip, drop, void or reject
}
SHARD_COLUMNS = {"id": pa.string(), "data": pa.large_binary()}


class DatasetInfo(Options):
    """`dataset.json`."""

    task: str
    format: str
    classes: list[str]
    channels: int
    """1 if every picture is grey, else 3."""
    counts: dict[str, dict[str, int]]
    """How much of each class each split holds, in `unit`."""
    unit: str = "images"
    """What is counted of a class: `images`, `objects` or `pixels`."""
    splits: dict[str, int]
    """Images of each split."""
    learns: str = "LABEL"
    """Name of the `contracts.Target` that its annotations are."""
    images: int
    bytes: int
    rejected: int
    digest: str
    """sha256 over ids, splits, annotations, metadata and what is kept together: equal digests are equal datasets."""
    problems: dict[str, int] = Field(default_factory=dict)
    """Things that are wrong with annotations, by the rule that they fall under."""
    scales: list[Scale] = Field(default_factory=list)
    """How its numbers are learnt."""
    mirrored: list[int] = Field(default_factory=list)
    """Of each named point the one that it becomes in a mirror: the left eye is a right one there."""
    metadata: list[str] = Field(default_factory=list)
    """Columns of `samples.parquet` that the source adds: float64 where each value is a number, else text."""


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk, opened. Threads may share it."""

    root: Path
    info: DatasetInfo
    samples: pa.Table

    @classmethod
    def open(cls, root: Path = DATASET) -> Dataset:
        """Open the dataset in `root`.

        Raises:
            UserError: there is none, or it was written by another version.
        """
        try:
            info = DatasetInfo.model_validate_json((root / "dataset.json").read_bytes())
            return cls(root=root, info=info, samples=pq.read_table(root / "samples.parquet"))
        except (OSError, ValidationError, pa.ArrowInvalid) as error:
            raise UserError(f"No dataset can be read in {root}: {error}. `convoy run` makes it.") from error

    def split(self, name: str) -> Split:
        """The images of `train`, `val` or `test`, in the order of their ids."""
        return Split(self, self.samples.filter(pc.field("split") == name))

    def read(self, shard: int, row: int) -> bytes:
        """The encoded bytes of one image."""
        data: bytes = self._shards[shard][row].as_py()
        return data

    def read_mask(self, shard: int, row: int) -> bytes:
        """The encoded mask of one image."""
        data: bytes = self._masks[shard][row].as_py()
        return data

    @cached_property
    def _shards(self) -> list[pa.ChunkedArray]:
        return self._opened("shards", "shard")

    @cached_property
    def _masks(self) -> list[pa.ChunkedArray]:
        return self._opened("masks", "mask_shard")

    def _opened(self, folder: str, column: str) -> list[pa.ChunkedArray]:
        """Every shard.

        Raises:
            UserError: one is missing, so that the next would take its place, or damaged.
        """
        paths = sorted((self.root / folder).glob("*.arrow"))
        last = pc.max(self.samples.column(column)).as_py()
        try:
            if last is not None and last >= len(paths):
                raise FileNotFoundError(f"{len(paths)} of {last + 1} files are there")
            return [pa.ipc.open_file(pa.memory_map(str(path))).read_all().column("data") for path in paths]
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(
                f"The dataset cannot be read: {self.root / folder}: {error}. Remove {self.root}; `convoy run` makes it."
            ) from error


@dataclass(frozen=True)
class Split:
    """Some images of a dataset, by position 0..N-1."""

    dataset: Dataset
    samples: pa.Table

    def __len__(self) -> int:
        count: int = self.samples.num_rows
        return count

    @cached_property
    def ids(self) -> Sequence[str]:
        """sha256 of each image."""
        ids: list[str] = self.samples.column("id").to_pylist()
        return ids

    @cached_property
    def sizes(self) -> np.ndarray:
        """Width and height of each image, int64 [N, 2]."""
        columns = [self.samples.column(name).to_numpy() for name in ("width", "height")]
        return np.stack(columns, axis=1).astype(np.int64).reshape(-1, 2)

    @property
    def classes(self) -> list[str]:
        """K names, in the order of their ids."""
        return self.dataset.info.classes

    @cached_property
    def labels(self) -> np.ndarray:
        """Of a dataset that has them: the class id of each image, int64 [N]."""
        labels: np.ndarray = self.samples.column("label").to_numpy().astype(np.int64)
        return labels

    @cached_property
    def label_sets(self) -> np.ndarray:
        """Of a dataset that has them: whether each class is in each image, bool [N, K]."""
        sets = np.zeros((len(self), len(self.classes)), bool)
        for row, labels in enumerate(self.samples.column("labels").to_pylist()):
            sets[row, labels] = True
        return sets

    @cached_property
    def numbers(self) -> np.ndarray:
        """Of a dataset that has them: what is told of each image, float64 [N, T]; nan where it is not known."""
        column = self.samples.column("numbers").combine_chunks()
        flat: np.ndarray = pc.fill_null(column.flatten(), float("nan")).to_numpy(zero_copy_only=False)
        return flat.reshape(len(self), len(self.classes))

    @cached_property
    def points(self) -> np.ndarray:
        """Of a dataset that has them: x and y of each named point of each image, float64 [N, J, 2]; nan likewise."""
        column = self.samples.column("points").combine_chunks().flatten()
        flat = [pc.fill_null(pc.struct_field(column, name), float("nan")) for name in ("x", "y")]
        places: np.ndarray = np.stack([one.to_numpy(zero_copy_only=False) for one in flat], axis=1)
        return places.reshape(len(self), len(self.classes), 2)

    @cached_property
    def groups(self) -> list[str | None]:
        """The group of each image, where it has one."""
        groups: list[str | None] = self.samples.column("group").to_pylist()
        return groups

    @cached_property
    def together(self) -> list[str]:
        """For each image what names all that it is never parted from, itself if there is no other."""
        names: list[str] = pc.coalesce(self.samples.column("together"), self.samples.column("id")).to_pylist()
        return names

    @cached_property
    def units(self) -> np.ndarray:
        """The same in numbers that count up from 0 as they come, int64 [N]: see `bootstrap.Units`."""
        numbers: np.ndarray = pa.array(self.together).dictionary_encode().indices.to_numpy().astype(np.int64)
        return numbers

    def runs(self, position: int) -> list[list[int]]:
        """Of a dataset that has them: the pixels of each object in an image, in the order of `objects`, as runs."""
        return [thing["runs"] for thing in self.samples.column("objects")[position].as_py()]

    def objects(self, position: int) -> np.ndarray:
        """Of a dataset that has them: x1, y1, x2, y2, class id, crowd of each object in an image, float64 [M, 6]."""
        starts, table = self._objects
        found: np.ndarray = table[starts[position] : starts[position + 1]]
        return found

    def mask(self, position: int) -> bytes:
        """Of a dataset that has them: the encoded mask of an image, see `pipeline.masks`."""
        shards, rows = self._mask_places
        return self.dataset.read_mask(shards[position], rows[position])

    def at(self, positions: Sequence[int]) -> Split:
        """Some of the images."""
        return Split(self.dataset, self.samples.take(pa.array(positions, pa.int64())))

    @cached_property
    def _objects(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the objects of each image begin, int64 [N + 1], and all of them."""
        column = self.samples.column("objects").combine_chunks()
        starts = np.concatenate([[0], np.cumsum(pc.list_value_length(column).to_numpy(zero_copy_only=False))])
        things = column.flatten()
        fields = [
            things.field(name).to_numpy(zero_copy_only=False) for name in ("x1", "y1", "x2", "y2", "label", "crowd")
        ]
        return starts.astype(np.int64), np.stack(fields, axis=1).astype(np.float64).reshape(-1, 6)

    @cached_property
    def _mask_places(self) -> tuple[list[int], list[int]]:
        return self.samples.column("mask_shard").to_pylist(), self.samples.column("mask_row").to_pylist()

    @cached_property
    def _places(self) -> tuple[list[int], list[int]]:
        return self.samples.column("shard").to_pylist(), self.samples.column("row").to_pylist()

    def read(self, position: int) -> bytes:
        """The encoded bytes of the image at `position`."""
        shards, rows = self._places
        return self.dataset.read(shards[position], rows[position])
