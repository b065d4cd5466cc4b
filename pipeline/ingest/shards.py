"""The encoded bytes of the pictures: first in the order in which they come, then in shards, in the order of their ids.

A picture's shard follows from the first bits of its id, so that one more picture changes one shard, and DVC stores
one file again and not all.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Self

from pipeline.files import creating
from pipeline.room import explained

SHARD_BYTES = 128_000_000
"""Of a shard on average, at most; half of it at least, where there are several."""
MAX_BITS = 16
BATCH_BYTES = 4_000_000
"""Of a record batch: what a reader of one picture may have to page in."""
BATCH_ROWS = 1024


class Spool:
    """Pictures on disk, in the order in which they came, so that memory holds only where each lies.

    The file has no name; the kernel removes it whatever happens to this process.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed on exit)
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk; what is not written is not needed any more
            self._file.close()

    def __contains__(self, content: str) -> bool:
        return content in self._places

    def add(self, content: str, data: bytes) -> None:
        """Append a picture under its content id.

        Raises:
            UserError: the disk is full.
        """
        try:
            self._file.write(data)
        except OSError as error:
            raise explained(error, self._folder / "spool", self._end + len(data)) from error
        self._places[content] = (self._end, len(data))
        self._end += len(data)

    def size(self, content: str) -> int:
        """Bytes of one picture."""
        return self._places[content][1]

    def read(self, content: str) -> bytes:
        """One picture.

        Raises:
            UserError: the disk is full.
        """
        self._flush()
        offset, size = self._places[content]
        return os.pread(self._file.fileno(), size, offset)

    def _flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            raise explained(error, self._folder / "spool", self._end) from error


def shard_bits(total: int) -> int:
    """The number of leading bits of an id that name its shard, for `total` bytes in all."""
    bits = 0
    while total / 2**bits > SHARD_BYTES and bits < MAX_BITS:
        bits += 1
    return bits


def write_shards(spool: Spool, ids: Sequence[str], folder: Path) -> list[tuple[int, int]]:
    """Write `folder/00000.arrow` and so on.

    Args:
        spool: where the bytes are.
        ids: sorted.
        folder: new.

    Returns:
        Shard and row of each id.
    """
    import pyarrow as pa

    from pipeline.dataset import SHARD_COLUMNS

    folder.mkdir()
    bits = shard_bits(sum(map(spool.size, ids)))
    shards = {shard: list(group) for shard, group in groupby(ids, lambda content: int(content[:4], 16) >> 16 - bits)}
    places = []
    for shard in range(2**bits):
        members = shards.get(shard, [])
        path, schema = folder / f"{shard:05}.arrow", pa.schema(SHARD_COLUMNS)
        with creating(path, sum(map(spool.size, members))) as file, pa.ipc.new_file(file, schema) as writer:
            for batch in _batches(spool, members):
                columns = [batch, [spool.read(content) for content in batch]]
                arrays = [pa.array(values, kind) for values, kind in zip(columns, SHARD_COLUMNS.values(), strict=True)]
                writer.write_batch(pa.record_batch(arrays, names=list(SHARD_COLUMNS)))
        places += [(shard, row) for row in range(len(members))]
    return places


def _batches(spool: Spool, ids: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for content in ids:
        if batch and (size + spool.size(content) > BATCH_BYTES or len(batch) == BATCH_ROWS):
            yield batch
            batch, size = [], 0
        batch.append(content)
        size += spool.size(content)
    if batch:
        yield batch
