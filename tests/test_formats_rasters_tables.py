"""Lists and tables of pictures, with every flaw, by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raster_sources import ROWS, Told, as_csv, as_parquet, mask, picture, put, read, recognised, refused

from pipeline.annotations import Objects, Thing
from pipeline.contracts import Target
from pipeline.dataset import MASK_COLUMNS, SAMPLE_COLUMNS
from pipeline.errors import UserError
from pipeline.formats._table_columns import TAKEN
from pipeline.plugin import config_class, names

# lists


def test_lists_with_paths_of_another_machine(tmp_path: Path):
    files = {
        **{f"set/train/{at}.png": picture(at) for at in (1, 2)},
        **{f"set/trainannot/{at}.png": mask([[0, 1, 11]]) for at in (1, 2, 8)},
        "set/val/3.png": picture(3),
        "set/valannot/3.png": mask([[0, 1]]),
        "set/train.txt": "".join(f"/SegNet/set/train/{at}.png /SegNet/set/trainannot/{at}.png\n" for at in (1, 2)),
        "set/val.txt": "val/3.png valannot/3.png\n/SegNet/set/val/4.png /SegNet/set/valannot/4.png\n",
        "set/readme.txt": "pictures of roads\n",
    }
    path = put(tmp_path, files)
    told = read("lists", path, void=[11], classes=["sky", "road"])
    assert {item.name: item.split for item in told.found} == {
        "set/train/1.png": "train",
        "set/train/2.png": "train",
        "set/val/3.png": "val",
    }
    layer = told.of(Target.MASK)["set/train/1.png"].layers[0]
    assert (layer.name, dict(layer.classes), layer.void) == ("set/trainannot/1.png", {0: "sky", 1: "road"}, {11})
    assert told.every_flaw() == [
        ("foreign_path", "set/train.txt", "line 1"),
        ("foreign_path", "set/train.txt", "line 2"),
        ("no_picture", "set/val.txt", "line 2"),
    ]
    assert told.left_out == {
        "set/readme.txt": "no list of pictures and masks or classes",
        "set/trainannot/8.png": "it lies among the masks, and no list names it",
    }
    assert recognised("lists", path) == 3


def test_a_list_is_not_led_to_a_mask_for_a_picture(tmp_path: Path):
    files = {"train/1.png": picture(), "trainannot/1.png": mask([[0, 1]]), "trainannot/2.png": mask([[0, 1]])}
    lists = "train/1.png trainannot/1.png\ntrain/2.png trainannot/2.png\n"
    told = read("lists", put(tmp_path, {**files, "train.txt": lists}))
    assert [item.name for item in told.found] == ["train/1.png"]
    assert told.every_flaw() == [("no_picture", "train.txt", "line 2")]


def test_a_list_whose_mask_is_not_there(tmp_path: Path):
    files = {"a/1.png": picture(), "a/2.png": picture(2), "m/2.png": mask([[0, 1]])}
    told = read("lists", put(tmp_path, {**files, "all.txt": "a/1.png m/1.png\na/2.png m/2.png\n"}))
    assert {item.name: bool(item.annotation) for item in told.found} == {"a/1.png": False, "a/2.png": True}
    assert told.every_flaw() == [("unreadable", "all.txt", "line 1")]


@pytest.mark.parametrize(
    "lines", ["1.png cat\n2.png dog\n", "1 cat\n2 dog\n", "1.png,cat\n2.png, dog", "1.png\tcat\r\n2.png\t dog"]
)
def test_lists_of_classes(tmp_path: Path, lines: str):
    path = put(tmp_path, {"images/1.png": picture(1), "images/2.png": picture(2), "ann.txt": lines})
    told = read("lists", path)
    assert told.labels == {"images/1.png": "cat", "images/2.png": "dog"}
    assert not told.every_flaw(), "a bare name names no place"
    assert recognised("lists", path) == 2


def test_lists_of_class_numbers(tmp_path: Path):
    files = {f"{at}.png": picture(at) for at in range(5)}
    lines = "0.png 0\n1.png 1\n2.png 7\n3.png fish\n4.png cat\n9.png 0\n0.png 0\n"
    path = put(tmp_path, {**files, "list.txt": lines, "synsets.txt": "cat\ndog\nemu\n"})
    told = read("lists", path)
    assert told.labels == {"0.png": "cat", "1.png": "dog", "2.png": None, "3.png": None, "4.png": "cat"}
    assert told.every_flaw() == [
        ("duplicate", "list.txt", "line 7"),
        ("empty_class", "synsets.txt", ""),
        ("no_picture", "list.txt", "line 6"),
        ("unknown_class", "list.txt", "line 3"),
        ("unknown_class", "list.txt", "line 4"),
    ]
    assert read("lists", path, classes={7: "ox"}).labels["2.png"] == "ox"


def test_a_picture_in_two_lists(tmp_path: Path):
    files = {f"{at}.png": picture(at) for at in range(3)}
    lists = {"train.txt": "0.png cat\n1.png cat\n", "test.txt": "1.png cat\n2.png dog\n", "all.txt": "2.png dog\n"}
    told = read("lists", put(tmp_path, {**files, **lists}))
    assert {item.name: item.split for item in told.found} == {"0.png": "train", "1.png": "test", "2.png": "test"}
    assert told.every_flaw() == [("duplicate", "train.txt", "")]


def test_lists_that_contradict_each_other_give_both(tmp_path: Path):
    told = read("lists", put(tmp_path, {"1.png": picture(), "2.png": picture(), "a.txt": "1.png cat\n1.png dog\n"}))
    assert [(item.name, item.annotation.get(Target.LABEL)) for item in told.found] == [
        ("1.png", "cat"),
        ("1.png", "dog"),
        ("2.png", None),
    ]


def test_lists_that_are_none(tmp_path: Path):
    path = put(tmp_path, {"1.png": picture(), "labels/1.txt": "0 0.1 0.2 0.3 0.4\n", "ImageSets/a.txt": "1 -1\n"})
    refused(
        "lists", path, r"no text file in it lists pictures\. Expected lines such as 'train/1\.jpg trainannot/1\.png'"
    )
    assert recognised("lists", path) == 0
    refused(
        "lists",
        path,
        r"data\.lists: .* has no file 'label/1\.txt'\. Did you mean 'labels/1\.txt'",
        lists=["label/1.txt"],
    )
    told = read("lists", put(tmp_path, {"b.txt": "1.png cat\n1.png\n1.png 0.1 0.2\n" + "x" * 5000}), lists=["b.txt"])
    assert told.every_flaw() == [("unreadable", "b.txt", f"line {at}") for at in (2, 3, 4)]
    (tmp_path / "b.txt").write_text("1.png cat\n" * 30 + "1.png\n" * 2000)
    refused("lists", path, r"b\.txt has 2,030 lines or more, and 2,000 cannot be understood; .* The first: line 31")


# table


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", as_csv(ROWS)),
        ("t.csv", "\ufeff" + as_csv(ROWS, ";").replace("\n", "\r\n")),
        ("t.tsv", as_csv(ROWS, "\t")),
        ("t.jsonl", "\n".join(json.dumps(row | {"target": int(row["target"])}) for row in ROWS)),
        ("t.parquet", as_parquet([row | {"target": float(row["target"])} for row in ROWS])),
    ],
)
def test_tables_of_every_kind(tmp_path: Path, name: str, data: bytes | str):
    pictures = {f"images/{at}.png": picture(at) for at in range(5)}
    path = put(tmp_path, {**pictures, name: data, "README": ""})
    told = read("table", path)
    assert told.labels == {**{f"images/{at}.png": str(at % 2) for at in range(4)}, "images/4.png": None}
    assert told.found[0].metadata == {"camera": "north"}
    assert not told.every_flaw()
    assert set(told.left_out) == {"README"}
    assert recognised("table", path) == 2


def table(tmp_path: Path, text: str, **options: Any) -> Told:
    pictures = {f"images/{at}.png": picture(at) for at in range(4)}
    return read("table", put(tmp_path, {**pictures, "t.csv": text}), **options)


def test_what_is_wrong_with_rows_is_named(tmp_path: Path):
    text = (
        "image,label\nimages/0.png,cat\nimages/9.png,cat\nhttps://host/images/1.png,cat\nC:\\x\\images\\1.png,dog\n"
        '../images/2.png,dog\nimages/0.png,cat\n,cat\nimages/3.png,cat,more\n"images/3.png"x,cat\nimages/3.png,\n'
    )
    told = table(tmp_path, text)
    assert told.labels == {"images/0.png": "cat", "images/1.png": "dog", "images/2.png": "dog", "images/3.png": None}
    assert told.every_flaw() == [
        ("duplicate", "t.csv", "line 7"),
        ("foreign_path", "t.csv", "line 5"),
        ("foreign_path", "t.csv", "line 6"),
        ("no_picture", "t.csv", "line 3"),
        ("no_picture", "t.csv", "line 4"),
        ("unreadable", "t.csv", "line 10"),
        ("unreadable", "t.csv", "line 8"),
        ("unreadable", "t.csv", "line 9"),
    ]
    assert any("nothing is fetched" in flaw.found for flaw in told.flaws)


def test_rows_that_contradict_each_other_give_both(tmp_path: Path):
    told = table(tmp_path, "image,label\nimages/0.png,cat\nimages/0.png,dog\n")
    assert [item.annotation.get(Target.LABEL) for item in told.found if item.name == "images/0.png"] == ["cat", "dog"]


def test_boxes_in_a_table(tmp_path: Path):
    text = (
        "filename,width,height,class,xmin,ymin,xmax,ymax,difficult\n0.png,5,4,cat,0,0,2.5,3,0\n0.png,5,4,dog,1,1,1,1,1\n"
        "0.png,5,4,cat,0,0,2.5,3,0\n1.png,5,4,,,,,,\n2.png,5,4,cat,0,0,x,3,0\n2.png,5,4,,0,0,1,3,0\n"
    )
    told = table(tmp_path, text)
    objects = told.of(Target.OBJECTS)
    assert objects["images/0.png"].things == (Thing("cat", (0, 0, 2.5, 3)), Thing("dog", (1, 1, 1, 1), crowd=True))
    assert objects["images/0.png"].said_size == (5, 4) and not objects["images/0.png"].relative
    assert [thing.place for thing in objects["images/0.png"].things] == ["line 2 (cat)", "line 3 (dog)"]
    assert objects["images/1.png"] == Objects(()), "a row without a box says that there is none"
    assert objects["images/2.png"] == Objects(())
    assert objects["images/3.png"] is None
    assert told.every_flaw() == [
        ("duplicate", "t.csv", "line 4 (cat)"),
        ("unreadable", "t.csv", "line 6"),
        ("unreadable", "t.csv", "line 7"),
    ]


@pytest.mark.parametrize(
    ("header", "row", "box", "relative"),
    [
        ("image,label,x,y,w,h", "0.png,a,1,2,3,4", (1, 2, 4, 6), False),
        ("image,label,x1,y1,x2,y2", "0.png,a,1,2,3,4", (1, 2, 3, 4), False),
        ("ImageID,LabelName,XMin,XMax,YMin,YMax", "0,a,0.25,0.5,0.5,1", (0.25, 0.5, 0.5, 1), True),
        ("image,cell_type,x,y,width,height", "0.png,a,-1,inf,1e300,4", (-1, np.inf, 1e300, np.inf), False),
    ],
)
def test_boxes_in_other_columns(tmp_path: Path, header: str, row: str, box: Any, relative: bool):
    objects = table(tmp_path, f"{header}\n{row}\n").of(Target.OBJECTS)["images/0.png"]
    assert [thing.box for thing in objects.things] == [box], "whether it is one is for the task to say"
    assert objects.relative is relative


def test_objects_in_json_lines(tmp_path: Path):
    row = {"file_name": "0.png", "objects": {"bbox": [[1, 2, 3, 4], [1, 2, 3]], "categories": ["cat", "cat"]}}
    told = read("table", put(tmp_path, {"0.png": picture(), "metadata.jsonl": json.dumps(row)}))
    assert told.of(Target.OBJECTS)["0.png"].things == (Thing("cat", (1, 2, 4, 6)),)
    assert told.every_flaw() == [("unreadable", "metadata.jsonl", "line 1, object 2")]


def test_masks_in_a_table(tmp_path: Path):
    files = {"a/1.png": picture(), "m/1.png": mask([[0, 255]]), "a/2.png": picture(), "m/9.png": mask([[0, 255]])}
    path = put(tmp_path, {**files, "t.csv": "image,label\na/1.png,m/1.png\na/2.png,m/2.png\n"})
    told = read("table", path)
    assert dict(told.of(Target.MASK)["a/1.png"].layers[0].classes) == {0: "background", 255: "object"}
    assert told.of(Target.MASK)["a/2.png"] is None
    assert told.every_flaw() == [("unreadable", "t.csv", "line 3")]
    assert set(told.left_out) == {"m/9.png"}


def test_splits_groups_and_metadata(tmp_path: Path):
    long = "x" * 201
    text = f"image,label,split,group,age,note,id\n0.png,a,TRAIN,g1,3,{long},1\n1.png,a,dev,,4,,2\n2.png,a,tets,,,,3\n"
    told = table(tmp_path, text)
    found = {item.name: item for item in told.found}
    assert [found[f"images/{at}.png"].split for at in range(3)] == ["train", "val", None]
    assert [found[f"images/{at}.png"].group for at in range(2)] == ["g1", None]
    assert found["images/0.png"].metadata == {"age": "3"}, "no long texts, and no column that datasets have themselves"
    assert not found["images/2.png"].annotation, "or a test image might be learnt"
    (flaw,) = found["images/2.png"].flaws
    assert flaw.found == "no split is named 'tets'. Did you mean 'test'?"


def test_no_column_of_a_dataset_is_metadata_of_a_table():
    tasks = [config_class("tasks", name) for name in names("tasks")]
    own = {*SAMPLE_COLUMNS, *MASK_COLUMNS, *(field for task in tasks for field in task.fields)}
    assert own - {"split", "group"} == TAKEN, "these two count as such"


def test_a_table_for_each_split_and_one_of_all(tmp_path: Path):
    rows = {"train_labels.csv": (0, 1), "test_labels.csv": (2,), "all_labels.csv": (0, 1, 2)}
    tables = {name: "image,label\n" + "".join(f"{at}.png,c\n" for at in some) for name, some in rows.items()}
    path = put(tmp_path, {**{f"{at}.png": picture(at) for at in range(3)}, **tables})
    told = read("table", path)
    assert {item.name: item.split for item in told.found} == {"0.png": "train", "1.png": "train", "2.png": "test"}
    assert told.left_out == {"all_labels.csv": "a table of all; test_labels.csv says the splits"}
    assert {item.split for item in read("table", path, table="test_labels.csv").found} == {None}
    (tmp_path / "test_boxes.csv").write_text("image,x1,y1,x2,y2\n0.png,0,0,1,1\n")
    refused("table", path, r"3 tables name pictures: test_boxes\.csv, test_labels\.csv, .*\. Set data\.table")
    refused("table", path, r"data\.table: .* has no file 'x\.csv'\. Its tables: ", table="x.csv")
    refused("table", path, r"data\.label: all_labels\.csv has no column 'lable'", table="all_labels.csv", label="lable")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "has no table of pictures"),
        (b"image,label\n\xff,1\n", r"t\.csv is not UTF-8 \(byte 12\)\. Save it as UTF-8"),
        (",".join(f"c{at}" for at in range(2000)), r"t\.csv has 2,000 columns; the limit is 1,000"),
        ("a\x1bb,label\n", r"a column is named 'a\\x1bb'"),
        ("image,label\n" + "images/0.png\n" * 2000, r"2,000 of its rows cannot be understood, the first in line 2"),
        ("image,note\n0.png,1\n", r"none of its columns \(image, note\) seems to be one of classes, boxes or masks"),
        ("image,label\nx.png,1\n", "seems to be one of pictures here; set data.image"),
        ("image,label,label\nimages/0.png,a,b\n", r"t\.csv: two columns are named 'label'\. Keep one\."),
        ('"' + "x" * 200_000, "t.csv is no CSV: line 1: field larger than field limit"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: bytes | str, words: str):
    path = put(tmp_path, {"images/0.png": picture(), "t.csv": text})
    with pytest.raises(UserError, match=words):
        read("table", path)
    assert recognised("table", path) <= 2


@pytest.mark.parametrize("data", [b"PAR1", b"PAR1" + bytes(100) + b"PAR1", as_parquet(ROWS)[:-30]])
def test_parquet_that_is_damaged(tmp_path: Path, data: bytes):
    path = put(tmp_path, {"images/0.png": picture(), "t.parquet": data})
    refused("table", path, r"t\.parquet is no Parquet table: ")
    refused("parquet", path, r"t\.parquet is damaged or no Parquet file: ")


def test_text_in_json_lines_may_hold_other_line_ends(tmp_path: Path):
    rows = [{"file": f"{at}.png", "label": "cat", "note": "a\u2028b\u0085c"} for at in range(2)]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    told = read("table", put(tmp_path, {"0.png": picture(), "1.png": picture(1), "t.jsonl": text}))
    assert told.labels == {"0.png": "cat", "1.png": "cat"} and not told.every_flaw()


@pytest.mark.parametrize("label", ["a\nb", "\ud800", "x\x00", "y" * 201])
def test_what_cannot_be_the_name_of_a_class(tmp_path: Path, label: str):
    row = {"file": "0.png", "label": label}
    for one in (row, {"file": "0.png", "labels": [label, "b"]}, row | {"x1": 0, "y1": 0, "x2": 5, "y2": 4}):
        told = read("table", put(tmp_path, {"0.png": picture(), "t.jsonl": json.dumps(one)}))
        assert told.every_flaw() == [("unreadable", "t.jsonl", "line 1")]
        assert "the class is " in told.found[0].flaws[0].found and not told.labels["0.png"]


def test_a_group_that_cannot_be_stored_parts_nothing(tmp_path: Path):
    row = {"file": "0.png", "label": "cat", "group": "\ud800"}
    told = read("table", put(tmp_path, {"0.png": picture(), "t.jsonl": json.dumps(row)}))
    assert told.every_flaw() == [("unreadable", "t.jsonl", "line 1")] and not told.found[0].annotation


def test_json_lines_that_say_two_things_or_none(tmp_path: Path):
    lines = ['{"file": "1.png", "label": "c"}', '{"file": "0.png", "label": "a", "label": "b"}', "[]"]
    lines.append('{"file": "0.png", "label": {"a": 1}}\n')
    told = read("table", put(tmp_path, {"0.png": picture(), "1.png": picture(1), "t.jsonl": "\n".join(lines)}))
    assert told.labels == {"0.png": None, "1.png": "c"}
    assert sorted(flaw.found for flaw in (*told.flaws, *(flaw for item in told.found for flaw in item.flaws))) == [
        "it is no JSON object",
        "the class is {'a': 1}; expected text or a number",
        "the key 'label' stands twice. Keep one.",
    ]


def test_numbers_whose_squares_are_infinite(tmp_path: Path):
    told = table(tmp_path, "image,v\n0.png,1e99\n1.png,-1e200\n", numbers=["v"])
    assert told.of(Target.NUMBERS)["images/0.png"] == {"v": 1e99}
    assert told.of(Target.NUMBERS)["images/1.png"] is None and told.every_flaw() == [("unreadable", "t.csv", "line 3")]


def test_nan_is_nothing(tmp_path: Path):
    rows = [{"file": "0.png", "label": math.nan}, {"file": "1.png", "label": 7.0}]
    text = "\n".join(map(json.dumps, rows))
    told = read("table", put(tmp_path, {"0.png": picture(), "1.png": picture(1), "t.jsonl": text}))
    assert told.labels == {"0.png": None, "1.png": "7"}


def test_classes_without_end_are_none(tmp_path: Path):
    row = {"file_name": "0.png", "objects": {"bbox": [[1, 2, 3, 4]] * 2, "category": [math.inf, 3]}}
    told = read("table", put(tmp_path, {"0.png": picture(), "t.jsonl": json.dumps(row)}))
    assert told.of(Target.OBJECTS)["0.png"].things == (Thing("3", (1, 2, 4, 6)),)
    assert told.every_flaw() == [("unreadable", "t.jsonl", "line 1, object 1")]


def test_shares_are_shares_though_one_is_rounded_or_none(tmp_path: Path):
    boxes = "image,class,x,y,w,h\n0.png,a,0.7,0,0.30000001,1\n1.png,a,0.5,0.5,0.2,0.2\n2.png,a,nan,0,1,1\n"
    assert all(objects.relative for objects in table(tmp_path, boxes).of(Target.OBJECTS).values() if objects)
    points = "image,a_x,a_y,b_x,b_y\n0.png,0.1,0.2,nan,nan\n1.png,0.1,0.2,1.0000001,0.4\n"
    assert all(points.relative for points in table(tmp_path, points).of(Target.POINTS).values() if points)
    pixels = "image,class,x,y,w,h\n0.png,a,0,0,1,1\n1.png,a,0,0,2,2\n"
    assert not any(objects.relative for objects in table(tmp_path, pixels).of(Target.OBJECTS).values() if objects)


def test_the_number_of_a_row_counts_rows_and_not_lines(tmp_path: Path):
    files = {f"{at}_a.png": picture(at) for at in range(1, 4)}
    for name, text in {
        "t.csv": 'note,price\n"two\nlines",10\n\n1,2,3\nx,30\n',
        "t.jsonl": '\n{"note": 1, "price": 10}\n\nbroken\n{"note": 1, "price": 30}\n',
    }.items():
        path = put(tmp_path / name.replace(".", "_"), {**files, name: text})
        told = read("table", path, image="{row}_*.png", numbers=["price"])
        numbers = {name: numbers and numbers["price"] for name, numbers in told.of(Target.NUMBERS).items()}
        assert numbers == {"1_a.png": 10, "2_a.png": None, "3_a.png": 30}, "the second row cannot be understood"
