"""Small datasets of objects and of masks, and what a network says of them: every number can be found by hand.

    dataset = located_sets.objects(root)    eight test images of two classes
    dataset = located_sets.masks(root)      four test images of two classes

The pictures are grey, 32 x 32: dark on the left, bright on the right. Names of classes and files are hostile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import masks as runs
from pipeline.contracts import SPLITS
from pipeline.dataset import (
    FIELDS,
    MASK_COLUMNS,
    PROBLEM_COLUMNS,
    REJECTED_COLUMNS,
    SAMPLE_COLUMNS,
    SHARD_COLUMNS,
    Dataset,
    DatasetInfo,
)
from pipeline.files import write_json
from pipeline.images import encode_png

SIDE = 32
EVIL = "<script>document.title='owned'</script>"
CLASSES = ["cell", EVIL]
BOX = (8.0, 8.0, 24.0, 24.0)
OTHER = (0.0, 26.0, 6.0, 32.0)
SCORE = 0.75
SAID_BOXES = np.array([[*BOX, SCORE, 0], [0] * 6], np.float32)
SAID_MAPS = np.stack([np.tile(np.where(np.arange(SIDE) < SIDE // 2, s, -s), (SIDE, 1)) for s in (4, -4)]).astype("f4")
"""Logits of both classes, float32 [2, 32, 32]."""
PROBLEMS = [
    ("a.xml", "object 2 (cell)", "bad_box", "the box 3,3,3,9 has no area", "drop"),
    ("a.xml", "object 3 (cell)", "outside", f"the box -4,0,9,9 reaches beyond the picture {EVIL}", "clip"),
    (f"{EVIL}.xml", "", "outside", "the box 0,0,99,9 reaches beyond the picture of 32 x 32", "clip"),
]


def objects(root: Path) -> Dataset:
    """Of four images: one cell; one of the other class, in its place; none; two cells.

    The network says that `BOX` is a cell, whatever it sees: `SAID_BOXES`.
    """

    def things(place: int) -> list[dict[str, Any]]:
        kinds = ([(0, BOX)], [(1, BOX)], [], [(0, BOX), (0, OTHER)])[place % 4]
        names = ("x1", "y1", "x2", "y2")
        return [
            {"label": label, **dict(zip(names, box, strict=True)), "crowd": False, "outline": None}
            for label, box in kinds
        ]

    def column(found: list[tuple[str, int]]) -> dict[str, Any]:
        return {"objects": pa.array([things(place) for _, place in found], FIELDS["objects"])}

    def count(place: int, label: int) -> int:
        return sum(thing["label"] == label for thing in things(place))

    info = {"task": "object_detection", "unit": "objects", "learns": "OBJECTS"}
    return _write(root, {"train": 4, "val": 4, "test": 8}, column, count, info)


def masks(root: Path) -> Dataset:
    """Of four images: left and right; the same, void in the last eight rows; left everywhere; as the second.

    The network says what it sees, left and right: `SAID_MAPS`.
    """

    def mask(place: int) -> np.ndarray:
        found = np.zeros((SIDE, SIDE), np.uint8)
        found[:, SIDE // 2 :] = place % 4 != 2
        found[24:] = runs.VOID if place % 2 else found[24:]
        return found

    def column(found: list[tuple[str, int]]) -> dict[str, Any]:
        encoded = [runs.encode(mask(place)) for _, place in found]
        ids = [hashlib.sha256(data).hexdigest() for data in encoded]
        kept = dict(sorted(zip(ids, encoded, strict=True)))
        _shard(root / "masks", list(kept), list(kept.values()))
        rows = [list(kept).index(one) for one in ids]
        values = dict(zip(MASK_COLUMNS, (ids, [0] * len(ids), rows), strict=True))
        return {name: pa.array(values[name], kind) for name, kind in MASK_COLUMNS.items()}

    def count(place: int, label: int) -> int:
        return int((mask(place) == label).sum())

    info = {"task": "semantic_segmentation", "unit": "pixels", "learns": "MASK"}
    return _write(root, {"train": 4, "val": 4, "test": 4}, column, count, info)


def _write(root: Path, sizes: dict[str, int], column: Any, count: Any, about: dict[str, Any]) -> Dataset:
    places = [(split, place) for split in SPLITS for place in range(sizes[split])]
    blobs = [_picture(number) for number in range(len(places))]
    ids = [hashlib.sha256(blob).hexdigest() for blob in blobs]
    number = len(ids)
    values = {
        "id": ids,
        "split": [split for split, _ in places],
        "group": [None] * number,
        "together": [None] * number,
        "width": [SIDE] * number,
        "height": [SIDE] * number,
        "source": [f"{split}/{place}.png" for split, place in places],
        "shard": [0] * number,
        "row": list(range(number)),
    }
    _shard(root / "shards", ids, blobs)
    fixed = {name: pa.array(values[name], kind) for name, kind in SAMPLE_COLUMNS.items()}
    pq.write_table(pa.table({**fixed, **column(places)}).sort_by("id"), root / "samples.parquet")
    pq.write_table(pa.schema(REJECTED_COLUMNS).empty_table(), root / "rejected.parquet")
    problems = dict(zip(PROBLEM_COLUMNS, zip(*PROBLEMS, strict=True), strict=True))
    pq.write_table(pa.table({name: list(found) for name, found in problems.items()}), root / "problems.parquet")
    counts = {
        split: {name: sum(count(place, label) for place in range(sizes[split])) for label, name in enumerate(CLASSES)}
        for split in SPLITS
    }
    info = DatasetInfo(
        **about, format="coco", classes=CLASSES, channels=1, counts=counts, splits=sizes, images=number,
        bytes=sum(map(len, blobs)), rejected=0, digest=hashlib.sha256(about["task"].encode()).hexdigest(),
        problems={"bad_box": 1, "outside": 2},
    )  # fmt: skip
    write_json(root / "dataset.json", info.model_dump(mode="json"))
    return Dataset.open(root)


def _picture(number: int) -> bytes:
    pixels = np.full((SIDE, SIDE, 1), 40, np.uint8)
    pixels[:, SIDE // 2 :] = 220
    pixels[0, 0] = number  # so that no two are the same
    return encode_png(pixels)


def _shard(folder: Path, ids: Sequence[str], blobs: Sequence[bytes]) -> None:
    folder.mkdir(parents=True)
    table = pa.table({"id": list(ids), "data": list(blobs)}, pa.schema(list(SHARD_COLUMNS.items())))
    with pa.OSFile(str(folder / "00000.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
