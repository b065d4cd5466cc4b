"""Writing the dataset: `samples.parquet`, the shards, `dataset.json` and `rejected.parquet`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.contracts import SPLITS
from pipeline.dataset import REJECTED_COLUMNS, SAMPLE_COLUMNS, DatasetInfo
from pipeline.files import write_json
from pipeline.ingest.metadata import Columns, columns
from pipeline.ingest.shards import Spool, write_shards
from pipeline.ingest.sifting import Picture, Rejected
from pipeline.params import IngestParams, part_name


def write(
    folder: Path, params: IngestParams, pictures: Sequence[Picture], rejected: Sequence[Rejected], spool: Spool
) -> None:
    """Write a dataset into a new folder.

    Args:
        folder: empty.
        params: for the task, and for the names of the parts.
        pictures: by id, each with its split.
        rejected: by name.
        spool: holds the bytes of the pictures.

    Raises:
        UserError: the pictures are no basis for the task; the disk is full.
    """
    classes = params.task.classes([picture.annotation for picture in pictures])
    targets = [params.task.columns(picture.annotation, classes) for picture in pictures]
    metadata = columns(pictures, taken={*SAMPLE_COLUMNS, *targets[0]})
    places = write_shards(spool, [picture.id for picture in pictures], folder / "shards")
    pq.write_table(_samples(pictures, places, targets, metadata), folder / "samples.parquet")
    reasons = {name: [getattr(row, name) for row in rejected] for name in REJECTED_COLUMNS}
    pq.write_table(pa.table(reasons, schema=pa.schema(REJECTED_COLUMNS)), folder / "rejected.parquet")
    info = DatasetInfo(
        task=part_name(params.task),
        format=part_name(params.data),
        classes=classes,
        channels=1 if all(picture.grey for picture in pictures) else 3,
        counts=_counts(pictures, params, classes),
        images=len(pictures),
        bytes=sum(spool.size(picture.id) for picture in pictures),
        rejected=len(rejected),
        digest=_digest(classes, pictures, targets, metadata),
        metadata=list(metadata),
    )
    # Without metadata the file is what it was before there was any: nothing is learnt again for an empty list.
    write_json(folder / "dataset.json", info.model_dump(mode="json", exclude_defaults=True))


def _samples(
    pictures: Sequence[Picture], places: list[tuple[int, int]], targets: list[dict[str, Any]], metadata: Columns
) -> pa.Table:
    values = {
        "id": [picture.id for picture in pictures],
        "split": [picture.split for picture in pictures],
        "group": [picture.group for picture in pictures],
        "width": [picture.width for picture in pictures],
        "height": [picture.height for picture in pictures],
        "source": [picture.name for picture in pictures],
        "shard": [shard for shard, _ in places],
        "row": [row for _, row in places],
    }
    fixed = {name: pa.array(values[name], kind) for name, kind in SAMPLE_COLUMNS.items()}
    return pa.table({**fixed, **{name: [target[name] for target in targets] for name in targets[0]}, **metadata})


def _counts(pictures: Sequence[Picture], params: IngestParams, classes: list[str]) -> dict[str, dict[str, int]]:
    strata = Counter((picture.split, params.task.stratum(picture.annotation)) for picture in pictures)
    names = dict.fromkeys([*classes, *sorted(stratum for _, stratum in strata)])
    return {split: {name: strata[split, name] for name in names} for split in SPLITS}


def _digest(classes: list[str], pictures: Sequence[Picture], targets: list[dict[str, Any]], metadata: Columns) -> str:
    """sha256 over classes, ids, splits and annotations; over groups and metadata, where the source has any."""
    digest = hashlib.sha256(json.dumps(classes).encode())
    for picture, target in zip(pictures, targets, strict=True):
        digest.update(f"\n{picture.id} {picture.split} {json.dumps(target, sort_keys=True)}".encode())
    known = {name: column.to_pylist() for name, column in metadata.items()}
    groups = [picture.group for picture in pictures]
    if known or any(group is not None for group in groups):
        digest.update(f"\n{json.dumps([groups, known], sort_keys=True)}".encode())
    return digest.hexdigest()
