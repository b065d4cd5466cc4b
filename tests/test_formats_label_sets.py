"""Several classes of one picture, as tables, lists and Parquet files have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raster_sources import Told, picture, put, read, recognised, refused

from pipeline.contracts import Target
from pipeline.errors import UserError
from pipeline.formats._label_sets import flagged, separator

THREE = {f"images/{at}.png": picture(at) for at in range(3)}


def table(tmp_path: Path, *lines: str, name: str = "labels.csv", **options: Any) -> Told:
    put(tmp_path, {**THREE, name: "\n".join(lines) + "\n"})
    return read("table", str(tmp_path), **options)


def sets(told: Told) -> list[Any]:
    found = told.of(Target.LABELS)
    return [None if found[name] is None else sorted(found[name]) for name in sorted(found)]


@pytest.mark.parametrize("cells", [("cat;dog", "dog", "cat ; bird"), ("cat|dog", "dog", "cat|bird")])
def test_several_classes_in_one_cell(tmp_path: Path, cells: tuple[str, ...]):
    told = table(tmp_path, "file,label", *(f"{at}.png,{cell}" for at, cell in enumerate(cells)))
    assert sets(told) == [["cat", "dog"], ["dog"], ["bird", "cat"]]
    assert list(told.labels.values()) == list(cells)  # as a single class they stay what they are
    assert recognised("table", str(tmp_path)) == 2


def test_a_comma_parts_classes_where_nothing_else_does(tmp_path: Path):
    told = table(tmp_path, "file,tags", '0.png,"cat, dog"', "1.png,dog", "2.png,")
    assert sets(told) == [["cat", "dog"], ["dog"], None]
    told = table(tmp_path / "other", "file,tags", '0.png,"cat, small;dog"', "1.png,dog", '2.png,"cat, small"')
    assert sets(told) == [["cat, small", "dog"], ["dog"], ["cat, small"]]


def test_a_separator_that_is_named(tmp_path: Path):
    told = table(tmp_path, "file,tags", "0.png,cat dog", "1.png,dog", "2.png,a;b", separator=" ")
    assert sets(told) == [["cat", "dog"], ["dog"], ["a;b"]]


def test_one_class_in_each_cell_is_no_set(tmp_path: Path):
    told = table(tmp_path, "file,label", "0.png,cat", "1.png,dog", "2.png,cat")
    assert all(item.annotation.keys() == {Target.LABEL} for item in told.found)


def test_columns_of_zeros_and_ones(tmp_path: Path):
    lines = ("file,cat,dog,age,camera", "0.png,1,1,3,a", "1.png,0,1.0,4,b", "2.png,0,0,5,a")
    told = table(tmp_path, *lines)
    assert sets(told) == [["cat", "dog"], ["dog"], []]
    assert all(item.annotation.keys() == {Target.LABELS} for item in told.found)
    assert told.found[0].metadata == {"age": "3", "camera": "a"}
    assert recognised("table", str(tmp_path)) == 2
    told = table(tmp_path, *lines, labels=["dog"])
    assert sets(told) == [["dog"], ["dog"], []]
    refused(
        "table", str(tmp_path), r"data\.labels: labels\.csv has no column 'dogg'\. Did you mean 'dog'", labels=["dogg"]
    )


def test_one_hot_columns_are_a_class_too(tmp_path: Path):
    told = table(tmp_path, "image,MEL,NV,BKL", "0,1.0,0.0,0.0", "1,0.0,1.0,0.0", "2,0.0,0.0,1.0")
    assert list(told.labels.values()) == ["MEL", "NV", "BKL"]
    assert sets(told) == [["MEL"], ["NV"], ["BKL"]]


def test_a_column_of_classes_goes_before_zeros_and_ones(tmp_path: Path):
    told = table(tmp_path, "file,label,night,rain", "0.png,cat,1,0", "1.png,dog,0,1", "2.png,cat,0,0")
    assert list(told.labels.values()) == ["cat", "dog", "cat"] and sets(told) == [None] * 3
    assert told.found[0].metadata == {"night": "1", "rain": "0"}


def test_a_cell_that_says_neither_yes_nor_no_is_named(tmp_path: Path):
    lines = ("file,cat,dog", "0.png,1,maybe", "1.png,0,1", "2.png,,")
    told = table(tmp_path, *lines, labels=["cat", "dog"])
    assert told.every_flaw() == [("unreadable", "labels.csv", "line 2")]
    assert told.found[0].flaws[0].found == "dog is 'maybe'; expected 0 or 1"
    assert sets(told) == [None, ["dog"], None]


def test_lists_in_the_cells_of_json(tmp_path: Path):
    rows = [
        {"file": "0.png", "labels": ["cat", "dog"]},
        {"file": "1.png", "labels": []},
        {"file": "2.png", "labels": [3]},
    ]
    told = table(tmp_path, *map(json.dumps, rows), name="labels.jsonl")
    assert sets(told) == [["cat", "dog"], [], ["3"]]
    assert set(told.labels.values()) == {None}


def test_rows_of_one_picture_come_apart_as_classes_and_together_as_sets(tmp_path: Path):
    told = table(tmp_path, "file,label", "0.png,cat", "0.png,dog;bird", "1.png,cat", "2.png,cat")
    assert [(item.annotation[Target.LABEL], sorted(item.annotation[Target.LABELS])) for item in told.found[:2]] == [
        ("cat", ["bird", "cat", "dog"]),
        ("dog;bird", ["bird", "cat", "dog"]),
    ]


def test_another_set_is_another_sample(tmp_path: Path):
    from raster_sources import made

    put(tmp_path, {**THREE, "labels.csv": "file,cat,dog\n0.png,1,1\n1.png,0,1\n"})
    before = list(made("table", str(tmp_path)).listing())
    put(tmp_path, {"labels.csv": "file,cat,dog\n0.png,1,1\n1.png,1,1\n"})
    after = list(made("table", str(tmp_path)).listing())
    assert len(set(before) ^ set(after)) == 2


def test_lists_with_several_classes(tmp_path: Path):
    told = read("lists", put(tmp_path, {**THREE, "all.txt": "0.png cat;dog\n1.png dog\n2.png cat\n"}))
    assert sets(told) == [["cat", "dog"], ["dog"], ["cat"]]
    assert list(told.labels.values()) == ["cat;dog", "dog", "cat"]
    told = read("lists", put(tmp_path, {"all.txt": "0.png cat\n1.png dog\n2.png big cat\n"}))
    assert sets(told) == [None] * 3 and list(told.labels.values()) == ["cat", "dog", "big cat"]


def test_lists_with_several_numbers_of_classes(tmp_path: Path):
    files = {"classes.txt": "cat\ndog\nbird, small\n", "all.txt": "0.png 0,2\n1.png bird, small\n2.png 1,7\n"}
    told = read("lists", put(tmp_path, {**THREE, **files}))
    assert sets(told) == [["bird, small", "cat"], ["bird, small"], ["dog"]]
    assert told.labels == {"images/0.png": None, "images/1.png": "bird, small", "images/2.png": None}
    assert told.every_flaw() == [("unknown_class", "all.txt", "line 3")]


def parquet(tmp_path: Path, kind: pa.DataType, cells: list[Any], names: list[str], column: str = "labels") -> Told:
    features = {"image": {"_type": "Image"}, column: {"feature": {"names": names, "_type": "ClassLabel"}}}
    schema = pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), column: kind})
    if names:
        schema = schema.with_metadata({b"huggingface": json.dumps({"info": {"features": features}}).encode()})
    images = [{"bytes": picture(at), "path": None} for at in range(len(cells))]
    (tmp_path / "data").mkdir()
    pq.write_table(
        pa.table({"image": images, column: cells}, schema=schema), tmp_path / "data/train-00000-of-00001.parquet"
    )
    return read("parquet", str(tmp_path))


def test_lists_of_numbers_in_parquet(tmp_path: Path):
    told = parquet(tmp_path, pa.list_(pa.int64()), [[0, 2], [], None, [1, 9], [1]], ["cat", "dog", "bird"])
    assert sets(told) == [["bird", "cat"], [], None, None, ["dog"]]
    assert told.every_flaw() == [("unknown_class", "data/train-00000-of-00001.parquet", "row 3")]


def test_lists_of_names_in_parquet(tmp_path: Path):
    told = parquet(tmp_path, pa.list_(pa.string()), [["cat", "dog"], ["dog"]], [], "tags")
    assert sets(told) == [["cat", "dog"], ["dog"]]
    assert set(told.labels.values()) == {None}


def test_lists_of_numbers_that_are_no_classes(tmp_path: Path):
    told = parquet(tmp_path, pa.list_(pa.int64()), [[0, 2, 5, 5]], [], "bbox")
    assert told.found[0].annotation == {}


def test_parts_by_hand():
    assert separator(["a", "b,c", "d|e"]) == "|" and separator(["a", "b"]) == "" and separator(["a b"], " ") == " "
    assert flagged({"a": "", "b": ""}) is None
    assert flagged({"a": "TRUE", "b": "no", "c": ""}) == {"a"}
    with pytest.raises(ValueError, match="a is '2'; expected 0 or 1"):
        flagged({"a": "2"})


def test_a_table_of_several_classes_without_any_column_is_refused(tmp_path: Path):
    put(tmp_path, {**THREE, "labels.csv": "file,night\n0.png,1\n1.png,0\n"})
    with pytest.raises(UserError, match="seems to be one of classes, boxes or masks"):
        read("table", str(tmp_path))
