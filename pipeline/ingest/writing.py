"""Writing the dataset: `samples.parquet`, the shards, `dataset.json` and `rejected.parquet`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import masks
from pipeline.annotations import Canvas
from pipeline.contracts import SPLITS, TaskConfig
from pipeline.dataset import (
    FIELDS,
    MASK_COLUMNS,
    PROBLEM_COLUMNS,
    REJECTED_COLUMNS,
    SAMPLE_COLUMNS,
    DatasetInfo,
)
from pipeline.files import creating, write_json
from pipeline.ingest.metadata import Columns, columns
from pipeline.ingest.shards import Spool, write_shards
from pipeline.ingest.sifting import Picture, Sifted
from pipeline.ingest.splits import of_group
from pipeline.params import IngestParams, part_name

ROWS = 8192
"""Of a group of samples.parquet."""


def write(folder: Path, params: IngestParams, sifted: Sifted, spool: Spool) -> None:
    """Write a dataset into a new folder.

    Args:
        folder: empty.
        params: for the task, and for the names of the parts.
        sifted: pictures by id, each with its split; what was left out; what was wrong.
        spool: holds the bytes of pictures and masks.

    Raises:
        UserError: the pictures are no basis for the task; the disk is full.
    """
    task, pictures = params.task, sifted.pictures
    tallies = [task.tally(picture.annotation) for picture in pictures]
    classes = task.classes({name for tally in tallies for name in tally})
    targets = [task.columns(picture.annotation, classes) for picture in pictures]
    painted = _masks(pictures, classes, spool, folder)
    for target, mask in zip(targets, painted or [], strict=False):
        target |= mask
    taken = {*SAMPLE_COLUMNS, *task.fields, *(MASK_COLUMNS if painted else ())}
    metadata = columns(pictures, taken=taken)
    places = write_shards(spool, [picture.id for picture in pictures], folder / "shards")
    with creating(folder / "samples.parquet") as file:
        samples = _samples(pictures, places, _annotations(targets, task), metadata)
        pq.write_table(samples, file, row_group_size=ROWS)  # the page reads one row of a million without the rest
    _write_rows(folder / "rejected.parquet", sifted.rejected, REJECTED_COLUMNS)
    _write_rows(folder / "problems.parquet", sifted.problems, PROBLEM_COLUMNS)
    counts = {split: Counter[str](dict.fromkeys(classes, 0)) for split in SPLITS}
    for picture, tally in zip(pictures, tallies, strict=True):
        counts[str(picture.split)].update(tally)
    splits = Counter(picture.split for picture in pictures)
    about = task.about([picture.annotation for picture in pictures if picture.split == "train"], classes)
    info = DatasetInfo(
        task=part_name(task),
        format=part_name(params.data),
        classes=classes,
        channels=1 if all(picture.grey for picture in pictures) else 3,
        counts={split: dict(of_split) for split, of_split in counts.items()},
        unit=task.unit,
        splits={split: splits[split] for split in SPLITS},
        learns=task.learns.name,
        images=len(pictures),
        bytes=sum(spool.size(picture.id) for picture in pictures),
        rejected=len(sifted.rejected),
        digest=_digest(classes, pictures, targets, metadata),
        problems=dict(sorted(Counter(problem.problem for problem in sifted.problems).items())),
        metadata=list(metadata),
        **about,
    )
    # What is as it is by default is left out: nothing is learnt again for an option that nobody uses.
    write_json(folder / "dataset.json", info.model_dump(mode="json", exclude_defaults=True))


def _masks(
    pictures: Sequence[Picture], classes: Sequence[str], spool: Spool, folder: Path
) -> list[dict[str, Any]] | None:
    """Store the masks of pictures that have one, their values the ids of classes; the values of `MASK_COLUMNS`."""
    canvases = [picture.annotation for picture in pictures if isinstance(picture.annotation, Canvas)]
    if not canvases:
        return None
    ids, known = [], {name: number for number, name in enumerate(classes)}
    for canvas in canvases:
        table = np.full(256, masks.VOID, np.uint8)
        for value, name in enumerate(canvas.names):
            table[value] = known.get(name, masks.VOID)  # a name that no pixel has is no class
        data = masks.relabelled(spool.read(canvas.id), table)
        ids.append(hashlib.sha256(data).hexdigest())
        if ids[-1] not in spool:
            spool.add(ids[-1], data)
    places = dict(zip(sorted(set(ids)), write_shards(spool, sorted(set(ids)), folder / "masks"), strict=True))
    return [{"mask": one, "mask_shard": places[one][0], "mask_row": places[one][1]} for one in ids]


def _annotations(targets: Sequence[dict[str, Any]], task: TaskConfig) -> dict[str, pa.Array]:
    kinds = {**{name: FIELDS[kind] for name, kind in task.fields.items()}, **MASK_COLUMNS}
    return {name: pa.array([target[name] for target in targets], kinds[name]) for name in targets[0]}


def _write_rows(path: Path, rows: Sequence[Any], schema: dict[str, pa.DataType]) -> None:
    values = {name: [getattr(row, name) for row in rows] for name in schema}
    with creating(path) as file:
        pq.write_table(pa.table(values, schema=pa.schema(schema)), file)


def _samples(
    pictures: Sequence[Picture], places: list[tuple[int, int]], annotations: dict[str, pa.Array], metadata: Columns
) -> pa.Table:
    values = {
        "id": [picture.id for picture in pictures],
        "split": [picture.split for picture in pictures],
        "group": [picture.group for picture in pictures],
        "together": [picture.together for picture in pictures],
        "width": [picture.width for picture in pictures],
        "height": [picture.height for picture in pictures],
        "source": [picture.name for picture in pictures],
        "shard": [shard for shard, _ in places],
        "row": [row for _, row in places],
    }
    fixed = {name: pa.array(values[name], kind) for name, kind in SAMPLE_COLUMNS.items()}
    return pa.table({**fixed, **annotations, **metadata})


def _digest(classes: list[str], pictures: Sequence[Picture], targets: list[dict[str, Any]], metadata: Columns) -> str:
    """sha256 over classes, ids, splits and annotations; over groups and metadata, where the source has any; and over
    what is kept together, where that is more than groups say.

    Of a mask its own id counts, which is that of its pixels, and not where it is kept.
    """
    digest = hashlib.sha256(json.dumps(classes).encode())
    for picture, target in zip(pictures, targets, strict=True):
        said = {name: value for name, value in target.items() if name not in ("mask_shard", "mask_row")}
        digest.update(f"\n{picture.id} {picture.split} {json.dumps(said, sort_keys=True, default=list)}".encode())
    known = {name: column.to_pylist() for name, column in metadata.items()}
    groups = [picture.group for picture in pictures]
    if known or any(group is not None for group in groups):
        digest.update(f"\n{json.dumps([groups, known], sort_keys=True)}".encode())
    together = [picture.together for picture in pictures]
    implied = [None if group is None else of_group(group) for group in groups]
    if any(name not in (None, of_its_group) for name, of_its_group in zip(together, implied, strict=True)):
        digest.update(f"\n{json.dumps(together)}".encode())
    return digest.hexdigest()
