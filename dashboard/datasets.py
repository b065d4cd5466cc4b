"""The files of a version of the data, if they are on this machine: opened, and few of them at a time.

A version is known by its digest. Its files are those of out/dataset, if that is the one, or lie in DVC's cache, where a
run that learnt from it says how to find them. The remote is never asked: a look must not take minutes.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from dashboard import versions
from dashboard.versions import INFO
from pipeline.errors import UserError
from pipeline.files import DATASET

if TYPE_CHECKING:
    from pipeline.dataset import DatasetInfo

OPENED = 2
"""Versions that are open at a time."""
ASKED = 20
"""Runs whose records are asked where the files of a version are: each takes some milliseconds."""
LOOK_AGAIN = 10.0
"""Seconds for which files that are not here are not looked for again."""
READERS = 2
"""Whole tables in memory at a time."""
HEAD = 16
"""Characters of an id by which an image is found; its whole id is that of its bytes."""
SAMPLES, REJECTED, SHARDS = "samples.parquet", "rejected.parquet", "shards/"


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
        try:
            found: bytes = self._shard(place[0])[place[1]].as_py()
        except (OSError, ValueError, IndexError) as error:  # pyarrow's errors are ValueErrors
            raise Away(f"The file that holds this picture cannot be read: {error}.") from None
        if hashlib.sha256(found).hexdigest() != image:
            raise Away("The file that holds this picture is damaged: its bytes are not those of its id.")
        return found

    def table(self, name: str, columns: Sequence[str] | None = None) -> Any:
        """The pyarrow table in `samples.parquet` or `rejected.parquet`; of `columns`, those that it has.

        Raises:
            Away: the file is gone or damaged.
        """
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.files[name], memory_map=True) as file:
                known = file.schema_arrow.names
                return file.read([column for column in columns if column in known] if columns is not None else None)
        except (OSError, ValueError, KeyError) as error:
            raise Away(f"{name} of this version cannot be read: {error}.") from None

    @cached_property
    def _places(self) -> Places:
        with reading():
            return Places(self.table(SAMPLES, ("id", "shard", "row")))

    def _shard(self, number: int) -> Any:
        """The bytes of one shard, memory-mapped."""
        import pyarrow as pa

        name = sorted(name for name in self.files if name.startswith(SHARDS))[number]
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
    """Where each image lies, in 24 bytes of memory each: the table itself takes ten times that."""

    def __init__(self, table: Any) -> None:
        """From the columns `id`, `shard` and `row` of `samples.parquet`."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        heads = pc.utf8_slice_codeunits(table.column("id"), 0, HEAD).combine_chunks().cast(pa.binary())
        found = np.frombuffer(heads.cast(pa.binary(HEAD)).buffers()[1], f"S{HEAD}", len(heads))
        order = np.argsort(found, kind="stable")  # ingest sorts them; somebody else may not
        self._heads = found[order]
        self._shards, self._rows = (table.column(name).to_numpy()[order] for name in ("shard", "row"))

    def find(self, image: str) -> tuple[int, int] | None:
        """Shard and row of the image with that id."""
        head = image[:HEAD].encode()
        at = int(self._heads.searchsorted(head))
        if at == len(self._heads) or self._heads[at] != head:
            return None
        return int(self._shards[at]), int(self._rows[at])


_opened: OrderedDict[str, Opened] = OrderedDict()
_away: dict[str, tuple[float, Away]] = {}
"""Versions whose files were not here, when that was seen, and why: a page asks for many pictures of one."""
_opening = threading.Lock()


def opened(digest: str) -> Opened:
    """The version with that digest.

    Raises:
        Away: its files are not here.
    """
    with _opening:
        found = _opened.get(digest)
        if found is None or _stamp(found.files[INFO]) != found.stamp:
            _opened.pop(digest, None)
            found = _opened[digest] = _find(digest)
        _opened.move_to_end(digest)
        while len(_opened) > OPENED:
            _opened.popitem(last=False)
        return found


def _find(digest: str) -> Opened:
    now = time.monotonic()
    for old in [old for old, (when, _) in _away.items() if now - when > LOOK_AGAIN]:
        del _away[old]
    if digest in _away:
        raise _away[digest][1]
    if (found := _in_tree(digest) or _in_cache(digest)) is not None:
        return found
    problem = Away(
        "Its files are not in DVC's cache on this machine. `dvc fetch` with the dvc.lock of a run that learnt from it "
        "brings them from the remote."
        if versions.uses(digest)
        else "No run that is recorded here has learnt from this version of the data."
    )
    _away[digest] = now, problem
    raise problem


def _in_tree(digest: str) -> Opened | None:
    mine = versions.here()
    if mine is None or mine.digest != digest:
        return None
    return _open({path.relative_to(DATASET).as_posix(): path for path in DATASET.rglob("*") if path.is_file()}, digest)


def _in_cache(digest: str) -> Opened | None:
    """By the record of one of the last runs that learnt from it."""
    found = (_open(_cached(use.run), digest) for use in versions.uses(digest)[:ASKED])
    return next((one for one in found if one is not None), None)


def _cached(run: str) -> dict[str, Path]:
    """The files of the dataset of a run in DVC's cache."""
    from flows.records import outputs
    from pipeline.registry import runs

    record = runs.read(run)
    try:
        return outputs.in_cache(record, DATASET.as_posix()) if record else {}
    except UserError:  # its dvc.lock cannot be read
        return {}


def _open(files: Mapping[str, Path], digest: str) -> Opened | None:
    """These files, if they are the version with that digest."""
    from pipeline.dataset import DatasetInfo

    if not {INFO, SAMPLES} <= files.keys():
        return None
    try:
        stamp = _stamp(files[INFO])
        info = DatasetInfo.model_validate_json(files[INFO].read_bytes())
    except (OSError, ValidationError):
        return None
    return Opened(info, files, stamp) if info.digest == digest else None


def _stamp(path: Path) -> int:
    """Time of a file; 0 if it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
