"""Real sets as several classes per picture, and as classes with an order: what ingest makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.dataset import Dataset
from pipeline.door import parse
from pipeline.ingest import stage
from pipeline.params import IngestParams

DATA = Path(__file__).parents[2] / "shared" / "data"
pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here"),
    pytest.mark.slow,
]


def ingested(shared: str, task: dict[str, Any], rules: dict[str, str], **options: Any) -> Dataset:
    """The data set that comes of a shared set, in the working directory."""
    data = {"name": "auto", "path": str(DATA / shared / f"{shared}.tar.gz"), **options}
    sections = {"data": data, "annotations": rules, "split": {}, "task": task}
    stage.run(parse(IngestParams, json.dumps(sections)), Path("out"))
    return Dataset.open(Path("out"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_clothing_has_one_picture_in_two_folders_that_becomes_one_of_two_classes() -> None:
    dataset = ingested("clothing-small", {"name": "multi_label"}, {"same_picture": "drop"})
    assert dataset.info.splits == {"train": 3067, "val": 341, "test": 372}
    several = [row for row in dataset.samples.to_pylist() if len(row["labels"]) != 1]
    assert [[dataset.info.classes[label] for label in row["labels"]] for row in several] == [["shorts", "skirt"]]
    assert dataset.info.counts["train"]["skirt"] == 112 and dataset.info.counts["train"]["t-shirt"] == 795
    (other,) = [row for row in pq.read_table("out/problems.parquet").to_pylist() if row["problem"] == "same_picture"]
    assert "637a56e4-" in other["source"] and "6075b4a5-" in other["found"]


def test_coco128_says_of_boxes_which_classes_are_in_a_picture() -> None:
    options = {"name": "yolo", "inside": "coco128/data/object_detection"}
    dataset = ingested("coco128", {"name": "multi_label"}, {"no_annotation": "keep"}, **options)
    sets = {split: dataset.split(split).label_sets for split in ("train", "val", "test")}
    assert sum(map(len, sets.values())) == 256
    assert sum(int((~one.any(axis=1)).sum()) for one in sets.values()) == 2  # the two pictures without a label
    person = dataset.info.classes.index("person")
    assert sum(int(one[:, person].sum()) for one in sets.values()) == sum(
        counts["person"] for counts in dataset.info.counts.values()
    )


def test_bccd_is_graded_by_the_number_of_its_platelets() -> None:
    task = {"name": "ordinal", "counts": [1, 2], "of": "Platelets"}
    dataset = ingested("bccd-voc", task, {})
    assert dataset.info.classes == ["0", "1", "2+"]
    assert sum(counts["0"] for counts in dataset.info.counts.values()) == 163
    assert sum(counts["1"] for counts in dataset.info.counts.values()) == 96
    assert dataset.info.problems["bad_box"] == 2
