"""The stage `ingest`: files of any format -> a dataset on disk, checked, split and digested.

The same source gives the same files, byte for byte, whatever the order, time and packing of its files.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.contracts import SPLITS
from pipeline.files import STATE, replacing_folder, write_json
from pipeline.ingest import fingerprint
from pipeline.progress import track

if TYPE_CHECKING:
    from pipeline.ingest.shards import Spool
    from pipeline.ingest.sifting import Picture, Rejected
    from pipeline.params import IngestParams


@dataclass(frozen=True)
class Ingested:
    """What the stage came to: the main lines of `dataset.json`."""

    new: bool
    """False where the outputs were up to date and have been left alone."""
    images: int
    classes: int
    splits: dict[str, int]
    """Images of each split."""
    rejected: int
    digest: str


def run(params: IngestParams, out: Path) -> Ingested:
    """Make the dataset in the folder `out`, unless it is up to date.

    Raises:
        UserError: the source cannot be read, or is no basis for training.
    """
    inputs = fingerprint.look(params)
    new = not fingerprint.unchanged(inputs, out)
    if new:
        _make(params, out, inputs)
    ingested = _ingested(out, new)
    print(_summary(ingested, out))
    return ingested


def unchanged(params: IngestParams, out: Path) -> bool:
    """Whether `run` would find nothing to do.

    Raises:
        UserError: the source is missing.
    """
    return fingerprint.unchanged(fingerprint.look(params), out)


def _make(params: IngestParams, out: Path, inputs: fingerprint.Inputs) -> None:
    from pipeline.ingest.decoding import remembered
    from pipeline.ingest.shards import Spool
    from pipeline.ingest.sifting import sift
    from pipeline.ingest.splits import assign

    total = inputs.files if inputs.files > 1 else None
    with Spool(STATE / "ingest") as spool:
        with remembered() as verdicts, track("ingest", total) as advance:
            pictures, rejected = sift(params.data.read(), params.task.learns, spool, verdicts, advance)
        classes = params.task.classes([picture.annotation for picture in pictures])
        splits = assign(pictures, params.split, params.task.stratum)
        with replacing_folder(out) as folder:
            _write(folder, params, classes, pictures, splits, rejected, spool)
    fingerprint.remember(inputs, out)


def _write(
    folder: Path,
    params: IngestParams,
    classes: list[str],
    pictures: Sequence[Picture],
    splits: dict[str, str],
    rejected: Sequence[Rejected],
    spool: Spool,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.dataset import REJECTED_COLUMNS, DatasetInfo
    from pipeline.ingest.shards import write_shards
    from pipeline.params import part_name

    ids = [picture.id for picture in pictures]
    places = write_shards(spool, ids, folder / "shards")
    targets = [params.task.columns(picture.annotation, classes) for picture in pictures]
    pq.write_table(_samples(pictures, splits, places, targets), folder / "samples.parquet")
    reasons = {name: [getattr(row, name) for row in rejected] for name in REJECTED_COLUMNS}
    pq.write_table(pa.table(reasons, schema=pa.schema(REJECTED_COLUMNS)), folder / "rejected.parquet")
    strata = Counter((splits[picture.id], params.task.stratum(picture.annotation)) for picture in pictures)
    names = list(dict.fromkeys([*classes, *sorted(stratum for _, stratum in strata)]))
    info = DatasetInfo(
        task=part_name(params.task),
        format=part_name(params.data),
        classes=classes,
        channels=1 if all(picture.grey for picture in pictures) else 3,
        counts={split: {name: strata[split, name] for name in names} for split in SPLITS},
        images=len(pictures),
        bytes=sum(map(spool.size, ids)),
        rejected=len(rejected),
        digest=_digest(classes, ids, splits, targets),
    )
    write_json(folder / "dataset.json", info.model_dump(mode="json"))


def _samples(
    pictures: Sequence[Picture], splits: dict[str, str], places: list[tuple[int, int]], targets: list[dict[str, Any]]
) -> Any:
    import pyarrow as pa

    from pipeline.dataset import SAMPLE_COLUMNS

    values = {
        "id": [picture.id for picture in pictures],
        "split": [splits[picture.id] for picture in pictures],
        "group": [picture.group for picture in pictures],
        "width": [picture.width for picture in pictures],
        "height": [picture.height for picture in pictures],
        "source": [picture.name for picture in pictures],
        "shard": [shard for shard, _ in places],
        "row": [row for _, row in places],
    }
    columns = {name: pa.array(values[name], kind) for name, kind in SAMPLE_COLUMNS.items()}
    return pa.table({**columns, **{name: [target[name] for target in targets] for name in targets[0]}})


def _digest(classes: list[str], ids: list[str], splits: dict[str, str], targets: list[dict[str, Any]]) -> str:
    """sha256 over classes, ids, splits and annotations."""
    digest = hashlib.sha256(json.dumps(classes).encode())
    for content, target in zip(ids, targets, strict=True):
        digest.update(f"\n{content} {splits[content]} {json.dumps(target, sort_keys=True)}".encode())
    return digest.hexdigest()


def _ingested(out: Path, new: bool) -> Ingested:
    """Read `dataset.json` as plain JSON: its class would import what an unchanged source does not need."""
    info = json.loads((out / "dataset.json").read_bytes())
    splits = {split: sum(info["counts"][split].values()) for split in SPLITS}
    return Ingested(new, info["images"], len(info["classes"]), splits, info["rejected"], info["digest"])


def _summary(ingested: Ingested, out: Path) -> str:
    splits = ", ".join(f"{split} {count:,}" for split, count in ingested.splits.items())
    rejected = f"{ingested.rejected:,} rejected" + (f" (why: {out / 'rejected.parquet'})" if ingested.rejected else "")
    state = "" if ingested.new else "nothing new; "
    return f"ingest: {state}{ingested.images:,} images of {ingested.classes} classes; {splits}; {rejected}"
