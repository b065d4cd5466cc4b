"""One version of the data whose files lie here: its tables, its pictures and their masks, read piece by piece.

Tables are read by column, few at a time; pictures and masks through memory maps: whatever is asked, memory stays flat.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.contracts import TaskConfig
    from pipeline.dataset import DatasetInfo

READERS = 2
"""Whole tables in memory at a time."""
HEAD = 16
"""Characters of an id by which an image is found; its whole id is that of its bytes."""
SAMPLES, REJECTED, PROBLEMS = "samples.parquet", "rejected.parquet", "problems.parquet"
SHARDS, MASKS = "shards/", "masks/"
OUTLINE = ".outline."
"""In the path of a column that nobody shows, and that is larger than all others together."""
RUNS = ".runs."
"""Likewise of one that is read row by row: the pixels of objects."""


class Away(UserError):
    """The files of a version are not on this machine."""


@dataclass(frozen=True)
class Opened:
    """A version whose files lie here. Threads may share it."""

    info: DatasetInfo
    files: Mapping[str, Path]
    """By their names in the dataset."""
    stamp: int
    """Time of `dataset.json`."""
    _shards: dict[str, Any] = field(default_factory=dict, repr=False)

    def picture(self, image: str) -> bytes | None:
        """The encoded bytes of the image with that id; None if this version has none.

        Raises:
            Away: the file that holds it is gone, or holds something else.
        """
        if (place := self._places.find(image)) is None:
            return None
        return self._bytes(SHARDS, place[0], place[1], image)

    def row(self, image: str) -> dict[str, Any] | None:
        """What `samples.parquet` says of the image with that id, but for outlines; None if this version has none.

        Only the part of the file that holds it is read.

        Raises:
            Away: the file is gone or damaged.
        """
        import pyarrow.parquet as pq

        if (place := self._places.find(image)) is None:
            return None
        try:
            with reading(), pq.ParquetFile(self.files[SAMPLES], memory_map=True) as file:
                position, group = place[2], 0
                while position >= (rows := file.metadata.row_group(group).num_rows):
                    position, group = position - rows, group + 1
                table = file.read_row_group(group, list(self.leaves), use_threads=False)
                found: dict[str, Any] = table.slice(position, 1).to_pylist()[0]
        except (OSError, ValueError, LookupError) as error:
            raise Away(f"{SAMPLES} of this version cannot be read: {error}.") from None
        return found

    def mask(self, row: Mapping[str, Any]) -> bytes | None:
        """The encoded mask that a row of `samples.parquet` names; None if it names none.

        Raises:
            Away: the file that holds it is gone, or holds something else.
        """
        if not row.get("mask"):
            return None
        return self._bytes(MASKS, row["mask_shard"], row["mask_row"], row["mask"])

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """Paths of the columns of `samples.parquet`, as parquet has them: of objects one for each of their fields.

        Raises:
            Away: the file is gone or damaged.
        """
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.files[SAMPLES], memory_map=True) as file:
                paths = (file.schema.column(number).path for number in range(len(file.schema)))
                return tuple(path for path in paths if OUTLINE not in path)
        except (OSError, ValueError, KeyError) as error:
            raise Away(f"{SAMPLES} of this version cannot be read: {error}.") from None

    @cached_property
    def task(self) -> TaskConfig | None:
        """The task that it was made for; None if this code has none of that name."""
        return task_named(self.info.task)

    @property
    def located(self) -> bool:
        """Whether what is known of its pictures lies somewhere in them, and can be drawn."""
        return self.task is not None and self.task.learns.located

    @property
    def named(self) -> tuple[str, str]:
        """What its classes are, one and many of them: see `contracts.Target.named`."""
        return self.task.learns.named if self.task else ("class", "classes")

    def table(self, name: str, columns: Sequence[str] | None = None) -> Any:
        """The pyarrow table in one of its parquet files; of `columns`, those that it has.

        Raises:
            Away: the file is gone or damaged.
        """
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.files[name], memory_map=True) as file:
                known = {*file.schema_arrow.names, *(self.leaves if name == SAMPLES else ())}
                return file.read([column for column in columns if column in known] if columns is not None else None)
        except (OSError, ValueError, KeyError) as error:
            raise Away(f"{name} of this version cannot be read: {error}.") from None

    @cached_property
    def _places(self) -> Places:
        with reading():
            return Places(self.table(SAMPLES, ("id", "shard", "row")))

    def _bytes(self, folder: str, shard: int, row: int, identity: str) -> bytes:
        """An entry of a shard, if it is the one with that sha256."""
        try:
            found: bytes = self._shard(folder, shard)[row].as_py()
        except (OSError, ValueError, IndexError) as error:  # pyarrow's errors are ValueErrors
            raise Away(f"The file that holds this picture cannot be read: {error}.") from None
        if hashlib.sha256(found).hexdigest() != identity:
            raise Away("The file that holds this picture is damaged: its bytes are not those of its id.")
        return found

    def _shard(self, folder: str, number: int) -> Any:
        """The bytes of one shard, memory-mapped."""
        import pyarrow as pa

        name = sorted(name for name in self.files if name.startswith(folder))[number]
        if name not in self._shards:
            self._shards[name] = pa.ipc.open_file(pa.memory_map(str(self.files[name]))).read_all().column("data")
        return self._shards[name]


_readers = threading.Semaphore(READERS)


@contextmanager
def reading() -> Iterator[None]:
    """For work with whole tables: few at a time, and the memory goes back to the system, not into pyarrow's keeping."""
    import pyarrow as pa

    with _readers:
        try:
            yield
        finally:
            pa.default_memory_pool().release_unused()


class Places:
    """Where each image lies, in 28 bytes of memory each: the table itself takes ten times that."""

    def __init__(self, table: Any) -> None:
        """From the columns `id`, `shard` and `row` of `samples.parquet`."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        heads = pc.utf8_slice_codeunits(table.column("id"), 0, HEAD).combine_chunks().cast(pa.binary())
        found = np.frombuffer(heads.cast(pa.binary(HEAD)).buffers()[1], f"S{HEAD}", len(heads))
        order = np.argsort(found, kind="stable")  # ingest sorts them; somebody else may not
        self._heads, self._positions = found[order], order.astype(np.int32)
        self._shards, self._rows = (table.column(name).to_numpy()[order] for name in ("shard", "row"))

    def find(self, image: str) -> tuple[int, int, int] | None:
        """Shard and row of the image with that id, and its position among all."""
        head = image[:HEAD].encode()
        at = int(self._heads.searchsorted(head))
        if at == len(self._heads) or self._heads[at] != head:
            return None
        return int(self._shards[at]), int(self._rows[at]), int(self._positions[at])


def task_named(name: str) -> TaskConfig | None:
    """The task in `pipeline/tasks/`, with its options as usual; None if there is none."""
    from pipeline import plugin
    from pipeline.contracts import TaskConfig

    if name not in plugin.names("tasks"):
        return None
    task = plugin.config_class("tasks", name)()
    return task if isinstance(task, TaskConfig) else None


def told(data: bytes) -> DatasetInfo:
    """What `dataset.json` says; where only images were counted, it need not say how many are in each split.

    Raises:
        ValueError: it is none.
    """
    from pipeline.dataset import DatasetInfo

    given = json.loads(data)
    splits = {split: sum(of_split.values()) for split, of_split in given["counts"].items()} if "counts" in given else {}
    return DatasetInfo.model_validate({"splits": splits, **given})
