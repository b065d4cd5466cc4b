"""Real sets through ingest: each defect that their SOURCE.md lists is named with its place, and goes by the rules."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import masks
from pipeline.dataset import Dataset, DatasetInfo
from pipeline.door import parse
from pipeline.ingest import stage
from pipeline.params import IngestParams

DATA = Path(__file__).parents[2] / "shared" / "data"
pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here"),
    pytest.mark.slow,
]


class Ingested(NamedTuple):
    """What a set comes to."""

    dataset: Dataset
    problems: list[dict[str, str]]
    rejected: dict[str, str]

    @property
    def info(self) -> DatasetInfo:
        return self.dataset.info

    @property
    def kinds(self) -> Counter[tuple[str, str]]:
        """How many problems of each kind there are, by what became of them."""
        return Counter((row["problem"], row["done"]) for row in self.problems)

    def of(self, kind: str) -> list[tuple[str, str, str]]:
        """Where the problems of one kind are, and what they are."""
        return [(row["source"], row["place"], row["found"]) for row in self.problems if row["problem"] == kind]


@pytest.fixture
def ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def run(name: str, form: str, task: str, split: str = "{}", **options: Any) -> Ingested:
        data = {"name": form, "path": str(DATA / name / f"{name}.tar.gz"), **options}
        text = f"data: {json.dumps(data)}\nannotations: {{}}\nsplit: {split}\ntask: {{name: {task}}}\n"
        stage.run(parse(IngestParams, text), Path("out"))
        rows = [pq.read_table(f"out/{kind}.parquet").to_pylist() for kind in ("problems", "rejected")]
        return Ingested(Dataset.open(Path("out")), rows[0], {row["source"]: row["reason"] for row in rows[1]})

    return run


def test_bccd_has_two_boxes_without_area_and_paths_of_another_machine(ingest: Any) -> None:
    found = ingest("bccd-voc", "voc", "object_detection")
    assert found.info.splits == {"train": 205, "val": 87, "test": 72}
    assert found.kinds == {("bad_box", "drop"): 2, ("foreign_path", "keep"): 364}
    home = "bccd-voc/data/BCCD/Annotations"
    assert found.of("bad_box") == [
        (f"{home}/BloodImage_00338.xml", "object 13 (RBC)", "the box 504,337,504,337 has no area"),
        (f"{home}/BloodImage_00343.xml", "object 4 (RBC)", "the box 181,329,181,329 has no area"),
    ]
    total = Counter[str]()
    for split in found.info.counts.values():
        total.update(split)
    assert total == {"RBC": 4155 - 2, "WBC": 372, "Platelets": 361}


def test_raccoon_has_four_pictures_twice_with_other_boxes(ingest: Any) -> None:
    found = ingest("raccoon-voc", "voc", "object_detection")
    twice = {name: reason for name, reason in found.rejected.items() if "the same bytes" in reason}
    assert {int(name.rpartition("-")[2].removesuffix(".jpg")) for name in twice} == {11, 116, 120, 83, 52, 74, 65, 98}
    assert all(reason.startswith("annotated otherwise than") for reason in twice.values())
    assert found.info.images == 200 - 8 and found.info.channels == 3
    assert found.kinds == {("foreign_path", "keep"): 200}


def test_lunar_has_a_class_of_nothing_and_no_training_split(ingest: Any) -> None:
    found = ingest("lunar-craters-coco", "coco", "object_detection", "{train: val}")
    assert len(found.info.classes) == 1
    assert found.of("empty_class")[0][1] == "category 0"
    assert found.info.splits["test"] == 100 and found.info.splits["train"] + found.info.splits["val"] == 200
    objects = {split: sum(counts.values()) for split, counts in found.info.counts.items()}
    assert objects["test"] == 2146 and objects["train"] + objects["val"] == 4633
    assert found.rejected["lunar-craters-coco/data/test/.DS_Store"] == "hidden"


def test_coco128_has_labels_without_picture_and_pictures_without_label(ingest: Any) -> None:
    found = ingest("coco128", "yolo", "object_detection", inside="coco128/data/object_detection")
    missing = [source.rpartition("/")[2] for source, _, _ in found.of("no_picture")]
    assert missing == ["000000000656.txt", "000000000659.txt"]
    unlabelled = [source.rpartition("/")[2] for source, _, _ in found.of("no_annotation")]
    assert unlabelled == ["000000000250.jpg", "000000000508.jpg"]
    assert found.kinds["foreign_path", "keep"] == 254 == found.info.images  # its links to the pictures were lost
    assert len(found.info.classes) + found.kinds["empty_class", "keep"] == 80


def test_coco128_has_pictures_without_masks(ingest: Any) -> None:
    found = ingest("coco128", "coco", "semantic_segmentation")
    assert found.kinds["no_annotation", "reject"] == 2 * 28
    assert found.info.images == 200
    assert len(found.info.classes) + found.kinds["empty_class", "keep"] == 133


def test_camvid_has_void_and_list_files_of_another_machine(ingest: Any) -> None:
    found = ingest("camvid", "lists", "semantic_segmentation", void=[11])
    assert found.info.splits == {"train": 367, "val": 51, "test": 117}
    assert len(found.info.classes) == 11
    assert found.kinds == {("foreign_path", "keep"): 535}
    test = found.dataset.split("test")
    void = np.mean([(masks.decode(test.mask(n)) == masks.VOID).mean() for n in range(len(test))])
    assert 0.017 <= void < 0.0415  # 1.7 to 4.0 % are said of the splits


def test_isbi_has_pictures_to_be_answered_among_those_to_learn_from(ingest: Any) -> None:
    classes = {"0": "membrane", "255": "inside"}
    found = ingest("isbi2012-membrane", "masks", "semantic_segmentation", classes=classes, void=[])
    assert found.info.images == 30 and found.info.classes == ["inside", "membrane"]
    assert all("/test/" in source for source, _, _ in found.of("no_annotation"))
    assert len(found.of("no_annotation")) == 8
    pixels = Counter[str]()
    for split in found.info.counts.values():
        pixels.update(split)
    assert pixels["inside"] / pixels.total() == pytest.approx(0.78, abs=0.005)
