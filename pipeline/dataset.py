"""The dataset on disk: what `ingest` writes and everyone after it reads.

    samples.parquet   one row per image, sorted by id
    shards/*.arrow    the encoded bytes, as given, memory-mapped: random access without copies
    dataset.json      task, classes, counts, channels, digest
    rejected.parquet  each file left out, and why

The same source gives the same files, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.files import DATASET

SAMPLE_COLUMNS = {
    "id": pa.string(),  # sha256 of the encoded bytes, hexadecimal
    "split": pa.string(),
    "group": pa.string(),  # null where the source names none
    "width": pa.int32(),
    "height": pa.int32(),
    "source": pa.string(),  # where it came from
    "shard": pa.int32(),
    "row": pa.int32(),
}
"""Columns of every task; the task's own (`label`) follow them, and then the metadata of the source, if it has any."""
REJECTED_COLUMNS = {"source": pa.string(), "reason": pa.string()}
SHARD_COLUMNS = {"id": pa.string(), "data": pa.large_binary()}


class DatasetInfo(Options):
    """`dataset.json`."""

    task: str
    format: str
    classes: list[str]
    channels: int
    """1 if every picture is grey, else 3."""
    counts: dict[str, dict[str, int]]
    """Images of each class in each split."""
    images: int
    bytes: int
    rejected: int
    digest: str
    """sha256 over ids, splits, annotations and metadata: equal digests are equal datasets."""
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

    @cached_property
    def _shards(self) -> list[pa.ChunkedArray]:
        paths = sorted((self.root / "shards").glob("*.arrow"))
        return [pa.ipc.open_file(pa.memory_map(str(path))).read_all().column("data") for path in paths]

    def read(self, shard: int, row: int) -> bytes:
        """The encoded bytes of one image."""
        data: bytes = self._shards[shard][row].as_py()
        return data


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
    def _places(self) -> tuple[list[int], list[int]]:
        return self.samples.column("shard").to_pylist(), self.samples.column("row").to_pylist()

    def read(self, position: int) -> bytes:
        """The encoded bytes of the image at `position`."""
        shards, rows = self._places
        return self.dataset.read(shards[position], rows[position])
