"""Formats of objects, COCO, Pascal VOC, YOLO and labelme: by hand, with every flaw, hostile input, and real sets."""

from __future__ import annotations

import base64
import copy
import json
import math
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.annotations import Drawn, Flaw, FlawKind, Objects, Painted, Runs, Thing
from pipeline.contracts import FormatConfig, Found, LeftOut, Target
from pipeline.errors import UserError
from pipeline.formats import _coco_outlines, _values, _xml, _yaml
from pipeline.formats._files import Listing, Match, parsed
from pipeline.formats._labelme_shapes import placed
from pipeline.formats._names import folder_splits, resolved, split_of, splits
from pipeline.images import encode_png
from pipeline.masks import runs_of
from pipeline.plugin import config_class

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
PICTURE = encode_png(np.zeros((4, 5, 3), np.uint8))
FORMS = ("coco", "voc", "yolo", "labelme")
HOSTILE: list[Any] = [
    *(None, True, -1, 0.5, 1e308, math.nan, 10**400, "", "../../etc/passwd", "/etc/passwd"),
    *("\ud800", "a\x00b" * 2000, [], {}, [[]], [1, 2, 3, 4, 5]),
]


def tree(path: Path, files: Mapping[str, Any]) -> Path:
    """Files by name: pictures where nothing is given, text, bytes, or what becomes JSON."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            content = PICTURE
        elif isinstance(content, str):
            content = content.encode()
        (path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


class Result:
    """What a format reads of a source."""

    def __init__(self, form: str, path: Path | str, **options: Any) -> None:
        config = config_class("formats", form)(path=str(path), **options)
        assert isinstance(config, FormatConfig)
        self.items = list(config.read())
        self.found = {item.name: item for item in self.items if isinstance(item, Found)}
        self.left_out = {item.name: item.reason for item in self.items if isinstance(item, LeftOut)}
        self.flaws = [item for item in self.items if isinstance(item, Flaw)]
        self.flaws += [flaw for item in self.found.values() for flaw in item.flaws]
        assert len(self.found) + len(self.left_out) == sum(not isinstance(item, Flaw) for item in self.items)
        assert all(item.annotation.keys() <= config.gives for item in self.found.values())

    def things(self, name: str) -> tuple[Thing, ...]:
        objects = self.found[name].annotation[Target.OBJECTS]
        assert isinstance(objects, Objects)
        return objects.things

    def boxes(self) -> list[Thing]:
        return [
            thing for name, one in self.found.items() if Target.OBJECTS in one.annotation for thing in self.things(name)
        ]

    def kinds(self) -> dict[FlawKind, int]:
        return dict(Counter(flaw.kind for flaw in self.flaws))

    def told(self) -> list[tuple[str, str, str, str]]:
        return [(str(flaw.kind), flaw.source, flaw.place, flaw.found) for flaw in self.flaws]


# the files of a source


def test_names_are_looked_up_as_text(tmp_path: Path):
    names = ["a/lists/x.txt", "a/lists/1.png", "a/images/2.png", "a/images/3.png", "b/3.png", "b/Im/4.PNG", "5.png"]
    listing = Listing.of(str(tree(tmp_path, dict.fromkeys(names))))
    for said, found, exact in [
        ("1.png", "a/lists/1.png", True),  # beside the list
        ("./1.png", "a/lists/1.png", True),
        ("images/2.png", "a/images/2.png", True),  # from the folder around it
        ("..\\images\\2.png", "a/images/2.png", True),
        ("a/images/2.png", "a/images/2.png", True),  # from the top
        ("/home/me/images/2.png", "a/images/2.png", False),  # another machine's
        ("C:\\data\\images\\3.png", "a/images/3.png", False),
        ("../../../../images/3.png", "a/images/3.png", False),
        ("q/3.png", None, False),  # two could be meant
        ("im/4.png", "b/Im/4.PNG", False),
        ("6.png", None, False),
        ("", None, False),
        ("..", None, False),
        ("/", None, False),
        ("\x00", None, False),
    ]:
        assert listing.find(said, "a/lists/x.txt") == Match(found, exact), said
    assert listing.find("1.png", "a/lists/x.txt", {"5.png"}) == Match(None, False)
    assert listing.at("b/im/4", listing.pictures) == "b/Im/4.PNG" and listing.at("b/4", listing.pictures) is None
    assert listing.closest("q/images/3", listing.pictures) == "a/images/3.png"
    assert listing.closest("q/3", listing.pictures) is None


def test_a_listing_tells_what_lies_outside(tmp_path: Path):
    files = {"in/a/1.png": None, "in/.hidden.png": None, "out/2.png": None, "out/notes.txt": "abc", "Thumbs.db": "x"}
    listing = Listing.of(str(tree(tmp_path, files)), "./in//")
    assert listing.names == ("in/a/1.png",)
    assert listing.outside == ("out/2.png", "out/notes.txt")
    assert listing.pictures_outside == {"out/2.png"}
    assert listing.sizes == {"in/a/1.png": len(PICTURE), "out/2.png": len(PICTURE), "out/notes.txt": 3}
    reasons = {one.name: one.reason for one in listing.left_out}
    assert reasons["in/.hidden.png"] == "hidden"
    assert reasons["out/2.png"] == "outside data.inside (in)"
    assert sorted(reasons) == ["Thumbs.db", "in/.hidden.png", "out/2.png", "out/notes.txt"]
    assert dict(listing.texts(["out/notes.txt"])) == {"out/notes.txt": b"abc"}  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"has no folder 'in/b'\. Did you mean 'in/a'\?"):
        Listing.of(str(tmp_path), "in/b")


def test_splits_by_name():
    assert split_of("annotations/instances_train2017.json") == "train"
    assert split_of("valid/_annotations.coco.json") == "val"
    assert split_of("latest/trainer.json") is None
    names = ["test-set/a_train.json", "test-set/b_val.json", "test-set/c.json"]
    assert splits(names) == {"test-set/a_train.json": "train", "test-set/b_val.json": "val", "test-set/c.json": None}
    assert splits(["x/train/a", "x/train/b"]) == {"x/train/a": None, "x/train/b": None}, "one alone says nothing"
    assert folder_splits(["train/test.png", "val/train.png"]) == {"train/test.png": "train", "val/train.png": "val"}
    assert folder_splits([]) == {}
    assert [resolved("a/b", said) for said in ("../c", "../../../c", "/c", "D:/c", "./c")] == [
        "a/c",
        None,
        None,
        None,
        "a/b/c",
    ]


def test_json_from_strangers():
    assert parsed(b"\xef\xbb\xbf[1, NaN]", "x")[0] == 1
    twice = parsed(b'[{"a": 1, "b": 2, "a": 3}]', "x")[0]
    assert isinstance(twice, _values.Twice) and twice == {"b": 2} and twice.key == "a"
    for data in (b"[" * 100_000, b"{", b"\xff", b"[" + b"9" * 5000 + b"]"):
        with pytest.raises(UserError, match="^x is no JSON: "):
            parsed(data, "x")
    with pytest.raises(UserError, match="x: the key 'a' stands twice"):
        parsed(b'{"a": 1, "a": 2}', "x")


def test_values_from_strangers():
    assert [_values.number(v) for v in (1, 2.5, 10**400, -(10**400))] == [1, 2.5, math.inf, -math.inf]
    assert [_values.number(v) for v in (True, "1", None, [1])] == [None] * 4
    assert [_values.number_in(t) for t in ("1", " -2.5e1 ", ".5", "inf")] == [1, -25, 0.5, math.inf]
    assert [_values.number_in(t) for t in ("", "1_0", "0x1", "one", "1" * 65, None)] == [None] * 6
    assert [_values.whole(v) for v in (3, 3.0, 3.5, math.nan, math.inf, "3", False)] == [3, 3, *[None] * 5]
    assert [_values.class_name(v) for v in (" a b ", "", 3, "a\nb", "\ud800", "x" * 201)] == ["a b", *[None] * 5]
    assert len(_values.shown(["x" * 10**6] * 10**5)) < 500
    assert _values.shown("\ud800\n").isprintable()


def test_xml_from_strangers():
    assert _xml.parsed("<a>é</a>".encode("utf-16")).text == "é"
    laughs = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><a>&b;</a>'
    for data, words in [
        (laughs.encode(), "declares a document type or entities"),
        (laughs.encode("utf-16"), "declares a document type or entities"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "declares a document type"),
        (b"<a>&lol;</a>", "no XML: undefined entity"),
        (b"<a>" * 1000, "more than 32 elements within each other"),
        (b"<a><b></a>", "no XML: mismatched tag"),
        (b"", "no XML: no element found"),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', "no XML"),
        (b" " * 16_000_001, "16,000,001 bytes of XML; the limit is 16,000,000"),
    ]:
        with pytest.raises(ValueError, match=words):
            _xml.parsed(data)


def test_yaml_from_strangers():
    assert _yaml.parsed(b"names: [no, 1e3, 'x', ~]\nnc: 2") == {"names": ["no", "1e3", "x", "~"], "nc": "2"}
    assert _yaml.parsed(b"a: !!python/object/apply:os.system [ls]") == {"a": ["ls"]}
    for data, words in [
        (b"a: &x [1]\nb: *x", r"line 2: aliases \(\*name\) are not read"),
        (b"a: 1\na: 2", "a key stands twice"),
        (b"? [1]\n: 2", "a key stands twice, or is no text"),
        (b"a: [", "line 1"),
        (b"[" * 5000, "no YAML"),
        (b"\xff", "no YAML"),
        (b"#" * 1_000_001, "1,000,001 bytes of YAML"),
    ]:
        with pytest.raises(ValueError, match=words):
            _yaml.parsed(data)


# COCO

SQUARE = [1, 1, 3, 1, 3, 3, 1, 3]


def coco(**more: Any) -> dict[str, Any]:
    """Two classes, of which one is named and nowhere; one picture with two objects, and one without."""
    return {
        "categories": [{"id": 0, "name": "all"}, {"id": 7, "name": " cat "}],
        "images": [
            {"id": 1, "file_name": "a.png", "width": 5, "height": 4},
            {"id": 9, "file_name": "b.png", "width": 5.0, "height": 4},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 1, 2, 2.5], "segmentation": []},
            {"id": 2, "image_id": 1, "category_id": 7, "bbox": [0, 0, 5, 4], "segmentation": [], "iscrowd": 1},
        ],
        **more,
    }


def test_coco_by_hand(tmp_path: Path):
    files = {"x.json": coco(), "a.png": None, "b.png": None, "c.png": None, "logo/l.png": None, "README": "hello"}
    got = Result("coco", tree(tmp_path, files))
    assert got.found["a.png"].annotation == {
        Target.OBJECTS: Objects((Thing("cat", (1, 1, 3, 3.5)), Thing("cat", (0, 0, 5, 4), crowd=True)))
    }
    objects = got.found["a.png"].annotation[Target.OBJECTS]
    assert (objects.source, objects.said_size, objects.relative) == ("x.json", (5, 4), False)
    assert [thing.place for thing in objects.things] == ["annotation 1 (cat)", "annotation 2 (cat)"]
    assert got.found["b.png"].annotation == {Target.OBJECTS: Objects(())}, "listed without objects: there is none"
    assert got.found["c.png"].annotation == {}, "not listed: nothing is said"
    assert got.left_out == {
        "README": "neither a picture nor a file of annotations",
        "logo/l.png": "in a folder with no picture that a file of annotations names",
    }
    assert got.told() == [("empty_class", "x.json", "category 0", "all: nothing is of that class")]


def test_coco_masks_are_drawn_where_all_is_outlined(tmp_path: Path):
    square = {"image_id": 1, "category_id": 7, "bbox": [1, 1, 2, 2], "segmentation": [SQUARE, SQUARE]}
    crowd = {"image_id": 1, "category_id": 0, "bbox": [0, 0, 1, 4], "iscrowd": 1}
    crowd["segmentation"] = {"size": [4, 5], "counts": [0, 4, 16]}
    boxed = {"image_id": 9, "category_id": 7, "bbox": [1, 1, 2, 2]}
    unboxed = {"image_id": 1, "category_id": 7, "segmentation": [SQUARE]}
    source = tree(tmp_path, {"a.png": None, "b.png": None})
    got = Result("coco", tree(source, {"x.json": coco(annotations=[square, crowd, unboxed])}))
    things = got.things("a.png")
    assert things[0].outline == (tuple(map(float, SQUARE)),) * 2
    assert things[1].outline == Runs(4, 5, (0, 4, 16))
    assert things[2].box == (1, 1, 3, 3), "the extent of its outline, where no box is written"
    assert got.found["a.png"].annotation[Target.MASK] == Drawn(got.found["a.png"].annotation[Target.OBJECTS])
    assert got.found["b.png"].annotation[Target.MASK] == Drawn(Objects(())), "all background"
    got = Result("coco", tree(source, {"x.json": coco(annotations=[square, boxed])}))
    assert Target.MASK in got.found["a.png"].annotation and Target.MASK not in got.found["b.png"].annotation


def test_packed_runs_are_those_of_pycocotools():
    coder = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(0)
    for share in (0.0, 0.01, 0.5, 0.99, 1.0):
        mask = (generator.random((37, 61)) < share).astype(np.uint8)
        mask[:, 20:40] = 1  # long runs
        packed = coder.encode(np.asfortranarray(mask))
        runs = _coco_outlines.outline_of({"size": packed["size"], "counts": packed["counts"].decode()})
        assert isinstance(runs, Runs) and list(runs.lengths) == runs_of(mask.astype(bool))


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ("abc", "its segmentation is 'abc'; expected polygons or runs"),
        ([SQUARE, [1, 2, 3, 4]], "its polygon 2 holds 4 numbers; expected x, y of three corners or more"),
        ([[1, 2, 3, 4, 5, 6, 7]], "its polygon 1 holds 7 numbers"),
        ([[1, 2, 3, 4, 5, "6"]], "its polygon 1 holds what are no numbers"),
        ([7], "its polygon 1 is 7; expected a list"),
        ({"size": [4, 5]}, "its runs are None; expected lengths, or text"),
        ({"size": [4], "counts": []}, r"its runs are of the size \[4\]; expected height and width"),
        ({"size": [10**9, 10**9], "counts": []}, "its runs are of the size"),
        ({"size": [30_000, 30_000], "counts": []}, "900,000,000 pixels; the limit is 200,000,000"),
        ({"size": [4, 5], "counts": [21]}, "its runs do not fill 5 x 4 pixels"),
        ({"size": [4, 5], "counts": [-1, 21]}, "its runs do not fill 5 x 4 pixels"),
        ({"size": [4, 5], "counts": [20, "x"]}, "its runs do not fill 5 x 4 pixels"),
        ({"size": [4, 5], "counts": "\ud800"}, "no compressed text"),
        ({"size": [4, 5], "counts": "o" * 90}, "no compressed text"),
        ({"size": [4, 5], "counts": "P"}, "its runs end within a number"),
    ],
)
def test_outlines_that_cannot_be_understood(segmentation: Any, words: str):
    with pytest.raises(ValueError, match=words):
        _coco_outlines.outline_of(segmentation)


def test_coco_files_are_splits_by_name_or_folder(tmp_path: Path):
    one = coco(images=[{"id": 1, "file_name": "a.png"}])
    layouts = {
        "coco": ["ann/instances_train2017.json", "train2017/a.png", "ann/instances_val2017.json", "val2017/a.png"],
        "roboflow": ["train/_a.coco.json", "train/a.png", "valid/_a.coco.json", "valid/a.png"],
        "mmdet": ["test-7/train.json", "test-7/images/train/a.png", "test-7/val.json", "test-7/images/val/a.png"],
    }
    for layout, names in layouts.items():
        source = tree(tmp_path / layout, {name: one if name.endswith("json") else None for name in names})
        got = Result("coco", source)
        assert {name: item.split for name, item in got.found.items()} == {names[1]: "train", names[3]: "val"}
        assert got.kinds() == {FlawKind.EMPTY_CLASS: 1}, layout
        assert all(len(got.things(name)) == 2 for name in got.found)
        alone = Result("coco", source, annotations=names[0].rpartition("/")[2] if layout != "roboflow" else "train/*")
        assert alone.found[names[1]].split is None, "a split alone says nothing"
    both = coco(images=[{"id": 1, "file_name": "train/a.png"}, {"id": 2, "file_name": "val/a.png"}])
    got = Result("coco", tree(tmp_path / "one", {"x.json": both, "img/train/a.png": None, "img/val/a.png": None}))
    assert {name: item.split for name, item in got.found.items()} == {
        "img/train/a.png": "train",
        "img/val/a.png": "val",
    }


def test_coco_does_not_take_a_picture_of_another_split(tmp_path: Path):
    names = ["train/a.png", "val/a.png", "val/b.png"]
    one = coco(images=[{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}])
    got = Result("coco", tree(tmp_path, {"ann/train.json": one, **dict.fromkeys(names)}))
    assert sorted(got.found) == ["train/a.png"]
    assert ("no_picture", "ann/train.json", "image 2", "no picture, or more than one, is 'b.png'") in got.told()


NO_NAME = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"


def test_every_flaw_of_a_coco_file(tmp_path: Path):
    raw = {
        "categories": [
            {"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3}, 7,
            {"id": 4, "name": "bird"},
        ],
        "images": [
            {"id": 1, "file_name": "/home/me/old/a.png"},
            {"id": 1, "file_name": "b.png"},
            {"id": 2, "file_name": "img/b.png", "width": "5", "height": 4},
            {"id": 3, "file_name": "img/a.png"},
            {"id": 4, "file_name": "gone.png"},
            {"id": 5},
            None,
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]},
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]},
            {"id": 2, "image_id": 1, "category_id": 8, "bbox": [0, 0, 1, 1]},
            {"id": 3, "image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1]},
            {"id": 4, "image_id": 2, "category_id": 2, "bbox": [0, 0, 1]},
            {"id": 5, "image_id": 2, "category_id": 1, "bbox": [0, 0, math.nan, -1]},
            {"id": 6, "image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1], "iscrowd": "no"},
            {"id": 7, "image_id": 2, "bbox": [0, 0, 1, 1]},
            {"id": 8, "category_id": 1},
            "x",
        ],
    }  # fmt: skip
    files = {"x.json": raw, "broken.json": "{", "other.json": {"a": 1}, "img/a.png": None, "img/b.png": None}
    got = Result("coco", tree(tmp_path, files))
    assert sorted(got.told()) == sorted([
        ("unreadable", "broken.json", "", f"is no JSON: {NO_NAME}."),
        ("duplicate", "x.json", "category 1", "dog: cat has that id too"),
        ("duplicate", "x.json", "category 2", "a second class is named cat; they are taken for one"),
        ("unreadable", "x.json", "category 3", "it has the id 3 and the name None; expected a number and text"),
        ("unreadable", "x.json", "category at position 5", "7; expected an object with keys"),
        ("empty_class", "x.json", "category 4", "bird: nothing is of that class"),
        ("foreign_path", "x.json", "image 1", "'/home/me/old/a.png' was found as img/a.png"),
        ("duplicate", "x.json", "image 1", "'b.png': the id is that of '/home/me/old/a.png' too"),
        ("unreadable", "x.json", "image 2", "its width and height are '5' and 4; expected whole numbers"),
        ("duplicate", "x.json", "image 3", "'img/a.png': image 1 is that picture too"),
        ("no_picture", "x.json", "image 4", "no picture, or more than one, is 'gone.png'"),
        ("unreadable", "x.json", "image 5", "it has the id 5 and the file_name None; expected a number and text"),
        ("unreadable", "x.json", "image at position 7", "None; expected an object with keys"),
        ("duplicate", "x.json", "annotation 1", "another annotation has that id"),
        ("unknown_class", "x.json", "annotation 2", "it is of the category 8, which is not listed"),
        ("no_picture", "x.json", "annotation 3", "it is of the picture 99, which is not listed"),
        ("unreadable", "x.json", "annotation 4", "its bbox is [0, 0, 1]; expected x, y, width, height"),
        ("unreadable", "x.json", "annotation 6", "its iscrowd is 'no'; expected 0 or 1"),
        ("unreadable", "x.json", "annotation 7", "its category_id is None; expected the id of a category"),
        ("unreadable", "x.json", "annotation 8", "its image_id is None; expected the id of a picture"),
        ("unreadable", "x.json", "annotation at position 10", "'x'; expected an object with keys"),
    ])  # fmt: skip
    assert [thing.box for thing in got.things("img/a.png")] == [(0, 0, 1, 1)], "what is wrong is left out"
    assert [str(thing.box) for thing in got.things("img/b.png")] == ["(0.0, 0.0, nan, -1.0)"], "boxes are for the task"
    assert got.left_out == {"other.json": "JSON without a list of images beside annotations or categories"}
    where = {flaw.place for flaw in got.found["img/b.png"].flaws}
    assert where == {"image 2", "annotation 4", "annotation 6", "annotation 7"}, "flaws lie with their picture"


def test_a_key_that_stands_twice_spoils_its_annotation_alone(tmp_path: Path):
    text = json.dumps(coco()).replace('"iscrowd": 1', '"iscrowd": 1, "bbox": [0, 0, 1, 1]')
    got = Result("coco", tree(tmp_path, {"x.json": text, "a.png": None, "b.png": None}))
    assert len(got.things("a.png")) == 1
    assert ("unreadable", "x.json", "annotation 2", "the key 'bbox' stands twice") in got.told()


def test_panoptic_masks_are_painted_by_colour(tmp_path: Path):
    segments = [
        {"id": 1 + 256 * 2 + 65536 * 3, "category_id": 1, "bbox": [0, 0, 2, 2], "iscrowd": 0},
        {"id": 9, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        {"id": 5 * (1 + 256 + 65536), "category_id": 2, "bbox": [0, 2, 5, 2]},
        {"id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]},
        {"id": 10, "category_id": 3, "bbox": [0, 0, 1, 1]},
        {"id": 0, "category_id": 1, "bbox": [0, 0, 1, 1]},
        {"id": 12, "category_id": 1},
    ]
    raw = {
        "categories": [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}],
        "images": [{"id": k, "file_name": f"{k}.png"} for k in (1, 2, 3)],
        "annotations": [
            {"image_id": 1, "file_name": "1.png", "segments_info": segments},
            {"image_id": 1, "file_name": "1.png", "segments_info": segments},
            {"image_id": 2, "file_name": "gone.png", "segments_info": segments[:1]},
        ],
    }
    masks = ["ann/panoptic_val/1.png", "ann/panoptic_val/unused.png"]
    names = ["val/1.png", "val/2.png", "val/3.png", "val/4.png", *masks]
    got = Result("coco", tree(tmp_path, {"ann/panoptic_val.json": raw, **dict.fromkeys(names)}))
    first = got.found["val/1.png"].annotation
    assert first[Target.OBJECTS] == Objects((Thing("cat", (0, 0, 2, 2)), Thing("cat", (0, 0, 9, 9), crowd=True)))
    assert isinstance(first[Target.MASK], Painted)
    (layer,) = first[Target.MASK].layers
    assert (layer.name, layer.data) == (masks[0], PICTURE)
    assert layer.classes == {(1, 2, 3): "cat", (9, 0, 0): "cat", (5, 5, 5): "sky", 5: "sky"}, "grey may come as a level"
    assert layer.void == {(0, 0, 0), 0, (10, 0, 0), (12, 0, 0)}
    assert got.found["val/2.png"].annotation.keys() == {Target.OBJECTS}
    assert got.found["val/3.png"].annotation == got.found["val/4.png"].annotation == {}
    assert got.left_out[masks[1]] == "a mask of ann/panoptic_val.json, which does not name it or is not read"
    assert got.kinds() == {FlawKind.DUPLICATE: 2, FlawKind.UNKNOWN_CLASS: 1, FlawKind.UNREADABLE: 3}


def test_coco_files_that_say_of_the_same_picture_are_to_be_chosen(tmp_path: Path):
    panoptic = {**coco(), "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": []}]}
    captions = coco(annotations=[{"id": 1, "image_id": 1, "caption": "a cat"}])
    nothing = {key: value for key, value in coco().items() if key != "annotations"}
    files = {"instances_x.json": coco(), "panoptic_x.json": panoptic, "captions_x.json": captions}
    source = tree(tmp_path, {**files, "image_info_x.json": nothing, "a.png": None, "b.png": None})
    words = (
        r"several files say of the same 2 pictures, of a\.png for one: instances_x\.json, panoptic_x\.json\. "
        r"Set data\.annotations to those to read, as in 'instances_\*\.json'\."
    )
    with pytest.raises(UserError, match=words):
        Result("coco", source)
    got = Result("coco", source, annotations="instances_*.json")
    assert len(got.things("a.png")) == 2
    assert got.left_out["panoptic_x.json"] == "not among data.annotations (instances_*.json)"
    with pytest.raises(UserError, match=r"has no JSON file 'instance_x\.json'\. Did you mean 'instances_x\.json'\?"):
        Result("coco", source, annotations="instance_x.json")
    with pytest.raises(UserError, match=r"no COCO file was found.* captions_x\.json: captions, which no task learns"):
        Result("coco", source, annotations="cap*")
    got = Result("coco", source, annotations="image_info_x.json")
    assert [item.annotation for item in got.found.values()] == [{}, {}], "a list of pictures says nothing of them"


# Pascal VOC


def voc(*objects: str, head: str = "<filename>a.png</filename>") -> str:
    size = "<size><width>5</width><height>4</height><depth>3</depth></size>"
    return f"<annotation>{head}{size}{''.join(f'<object>{one}</object>' for one in objects)}</annotation>"


def one(name: str = "cat", corners: str = "1,2,3,4.5", more: str = "") -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), corners.split(","), strict=True)
    return f"<name> {name} </name>{more}<bndbox>{''.join(f'<{tag}>{v}</{tag}>' for tag, v in tags)}</bndbox>"


def test_voc_by_hand(tmp_path: Path):
    hard = one("dog", "0,0,9,9", "<difficult>1</difficult><part><name>head</name></part>")
    files = {"Annotations/a.xml": voc(one(), hard), "Annotations/b.xml": voc(head="")}
    files |= {"ImageSets/Main/train.txt": "a  1\n\n", "ImageSets/Main/val.txt": "b\nc\ngone\n", "LICENSE": "free"}
    files |= {"ImageSets/Main/trainval.txt": "a\nb", "ImageSets/Main/cat_train.txt": "a 1"}
    pictures = ["JPEGImages/a.png", "JPEGImages/b.png", "JPEGImages/c.png", "JPEGImages/d.png"]
    got = Result("voc", tree(tmp_path, {**files, **dict.fromkeys(pictures)}))
    objects = got.found["JPEGImages/a.png"].annotation[Target.OBJECTS]
    assert objects == Objects((Thing("cat", (1, 2, 3, 4.5)), Thing("dog", (0, 0, 9, 9), crowd=True)))
    assert (objects.said_size, objects.source) == ((5, 4), "Annotations/a.xml")
    assert [thing.place for thing in objects.things] == ["object 1 (cat)", "object 2 (dog)"]
    assert got.found["JPEGImages/b.png"].annotation == {Target.OBJECTS: Objects(())}
    assert got.found["JPEGImages/c.png"].annotation == got.found["JPEGImages/d.png"].annotation == {}
    assert [got.found[name].split for name in pictures] == ["train", "val", "val", None]
    assert got.told() == [("no_picture", "ImageSets/Main/val.txt", "line 3", "no picture is named 'gone'")]
    assert got.left_out == {
        "LICENSE": "neither a picture nor a file of annotations",
        "ImageSets/Main/trainval.txt": "train.txt and val.txt say more",
        "ImageSets/Main/cat_train.txt": "a list of the pictures of one class; the objects say more",
    }
    got = Result("voc", tmp_path, last_pixel="included")
    assert [thing.box for thing in got.things("JPEGImages/a.png")] == [(0, 1, 3, 4.5), (-1, -1, 9, 9)]


def test_every_flaw_of_voc_annotations(tmp_path: Path):
    path = "<path>/home/pi/JPEGImages/{}.png</path>"
    files = {
        "d/ann/a.xml": voc(one(), one(corners="1,2,x,4"), one(name=""), "<name>cat</name>", head=path.format("a")),
        "d/ann/b.xml": voc(one(more="<difficult>very</difficult>"), head="<filename>other.png</filename>"),
        "d/ann/c.xml": voc(one(), head="<filename>c</filename>").replace("<width>5", "<width>five"),
        "d/ann/e.xml": "<annotation>",
        "d/ann/f.xml": voc(one(), head="<path>../images/f.png</path>"),
        "d/ann/gone.xml": voc(one(), head="<filename>gone.png</filename>"),
        "d/more/a.xml": voc(one()),
        "d/ann/cvat.xml": "<annotations/>",
        "d/ann/tool.xml": "<annotation><object><polygon/></object></annotation>",
        "far/away/g.png": None,
        "d/ann/g.xml": voc(one(), head="<filename>g.png</filename>"),
        "d/ann/h.xml": voc(one(), head="<filename>real.png</filename>"),
        **dict.fromkeys(f"d/images/{name}.png" for name in ("a", "b", "c", "e", "f", "real")),
    }
    got = Result("voc", tree(tmp_path, files))
    corners = "its xmin, ymin, xmax, ymax are"
    assert sorted(got.told()) == sorted([
        ("foreign_path", "d/ann/a.xml", "path", "'/home/pi/JPEGImages/a.png' was found as d/images/a.png"),
        ("unreadable", "d/ann/a.xml", "object 2 (cat)", f"{corners} '1', '2', 'x', '4'; expected four numbers"),
        ("unreadable", "d/ann/a.xml", "object 3", "its name is '  '; expected that of a class"),
        ("unreadable", "d/ann/a.xml", "object 4 (cat)", f"{corners} None, None, None, None; expected four numbers"),
        ("foreign_path", "d/ann/b.xml", "filename", "'other.png'; by the name of this file it is of d/images/b.png"),
        ("unreadable", "d/ann/b.xml", "object 1 (cat)", "difficult is 'very'; expected 0 or 1"),
        ("unreadable", "d/ann/c.xml", "size", "width and height are 'five' and '4'; expected whole numbers"),
        ("unreadable", "d/ann/e.xml", "", "it is no XML: no element found: line 1, column 12"),
        ("no_picture", "d/ann/gone.xml", "", "no picture, or more than one, is named 'gone'"),
        ("duplicate", "d/more/a.xml", "", "another file says of d/images/a.png already"),
        ("foreign_path", "d/ann/g.xml", "", "its picture was found far away, as far/away/g.png"),
    ])  # fmt: skip
    assert got.found["d/images/e.png"].annotation == {}
    assert len(got.things("d/images/real.png")) == 1, "by the name in the file, where none has the file's own"
    assert {"d/ann/cvat.xml", "d/ann/tool.xml"} == got.left_out.keys()


def test_voc_masks_hold_indices(tmp_path: Path):
    names = [
        "d/JPEGImages/a.png",
        "d/SegmentationClass/a.png",
        "d/SegmentationObject/a.png",
        "d/SegmentationClass/z.png",
    ]
    source = tree(tmp_path, dict.fromkeys(names))
    got = Result("voc", source)
    (layer,) = got.found["d/JPEGImages/a.png"].annotation[Target.MASK].layers
    assert (layer.name, layer.data) == ("d/SegmentationClass/a.png", PICTURE)
    assert (layer.classes[0], layer.classes[15], layer.classes[20], len(layer.classes)) == (
        "background",
        "person",
        "tvmonitor",
        21,
    )
    assert layer.void == {255}
    assert got.kinds() == {FlawKind.NO_PICTURE: 1}
    assert got.left_out == {
        "d/SegmentationObject/a.png": "tells objects apart by number; classes are in SegmentationClass"
    }
    got = Result("voc", tree(source, {"d/class_names.txt": "_background_\ncell\n"}))
    (layer,) = got.found["d/JPEGImages/a.png"].annotation[Target.MASK].layers
    assert (layer.classes, layer.void) == ({0: "_background_", 1: "cell"}, {255})
    (source / "d/class_names.txt").unlink()
    colours = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncell:128,0,0::\nignored:224,224,192::\n"
    got = Result("voc", tree(source, {"d/labelmap.txt": colours}))
    (layer,) = got.found["d/JPEGImages/a.png"].annotation[Target.MASK].layers
    assert layer.classes == {(0, 0, 0): "background", 0: "background", (128, 0, 0): "cell", 1: "cell"}
    assert layer.void == {255, 2, (224, 224, 192)}


def test_voc_classes_that_a_list_names(tmp_path: Path):
    files = {"class_names.txt": "cat\nbird\n", "Annotations/a.xml": voc(one(), one("dog")), "JPEGImages/a.png": None}
    got = Result("voc", tree(tmp_path, files))
    assert got.told() == [
        ("empty_class", "class_names.txt", "bird", "bird: nothing is of that class"),
        ("unknown_class", "Annotations/a.xml", "object 2 (dog)", "dog is not in class_names.txt"),
    ]
    assert [thing.name for thing in got.things("JPEGImages/a.png")] == ["cat"]


# YOLO


def test_yolo_by_hand(tmp_path: Path):
    files = {
        "labels/train/a.txt": "0 0.5 0.5 0.5 0.25\n\n1 0 0 1 0 1 0.5\n",
        "labels/val/b.txt": "",
        "data.yaml": "path: /datasets/pets\ntrain: images/train\nval: images/val\nnames: {0: no, 1: dog, 2: bird}\n",
        **dict.fromkeys(["images/train/a.png", "images/val/b.png", "images/val/c.png"]),
        "README.txt": "These are pets.",
    }
    got = Result("yolo", tree(tmp_path, files))
    objects = got.found["images/train/a.png"].annotation[Target.OBJECTS]
    assert objects.relative and objects.source == "labels/train/a.txt"
    assert objects.things == (
        Thing("no", (0.25, 0.375, 0.75, 0.625)),
        Thing("dog", (0, 0, 1, 0.5), outline=((0, 0, 1, 0, 1, 0.5),)),
    )
    assert [thing.place for thing in objects.things] == ["line 1 (no)", "line 3 (dog)"]
    assert Target.MASK not in got.found["images/train/a.png"].annotation, "a row of it is no polygon"
    nothing = Objects((), relative=True)
    assert got.found["images/val/b.png"].annotation == {Target.OBJECTS: nothing, Target.MASK: Drawn(nothing)}
    assert got.found["images/val/c.png"].annotation == {}
    assert [got.found[f"images/{name}.png"].split for name in ("train/a", "val/b", "val/c")] == ["train", "val", "val"]
    assert got.told() == [("empty_class", "data.yaml", "class 2", "bird: nothing is of that class")]
    assert got.left_out == {"README.txt": "text without rows of a class and a box, and no picture has its name"}


@pytest.mark.parametrize(
    ("label", "picture", "split"),
    [
        ("labels/train/a.txt", "images/train/a.png", None),
        ("train/labels/a.txt", "train/images/a.png", None),
        ("Annotations/a.txt", "Images/a.png", None),
        ("obj_train_data/a.txt", "obj_train_data/a.png", None),
        ("a.txt", "a.png", None),
        ("labels/labels/train/a.txt", "labels/images/train/a.png", None),
    ],
)
def test_yolo_layouts(tmp_path: Path, label: str, picture: str, split: str | None):
    names = [picture, "other/deep/er/a.png"]
    got = Result("yolo", tree(tmp_path, {label: "3 0.5 0.5 1 1", **dict.fromkeys(names)}))
    assert [thing.name for thing in got.things(picture)] == ["3"], "numbers are names where nothing names them"
    assert got.flaws == []
    assert list(got.left_out) == names[1:]


def test_every_flaw_of_yolo_labels(tmp_path: Path):
    rows = ["0 0.5 0.5 0.5", "0 0.5 0.5 0.5 x", "cat 0.5 0.5 0.5 0.5", "7 0.5 0.5 0.5 0.5", "-1 0.5 0.5 0.5 0.5"]
    rows += ["0 1 2 3 4 5 6 7", "0 nan 0.5 0.5 1e308", "0.0 0.5 0.5 0.5 0.5"]
    files = {
        "classes.txt": "cat\ndog\n",
        "labels/a.txt": "\n".join(rows),
        "labels/gone.txt": "0 0.5 0.5 0.5 0.5",
        "labels/empty.txt": "",
        "labels/far.txt": "1 0.5 0.5 0.5 0.5",
        "more/labels/a.txt": "1 0.5 0.5 0.5 0.5",
        "images/a.png": None,
        "x/deep/far.png": None,
    }
    got = Result("yolo", tree(tmp_path, files))
    assert sorted(got.told()) == sorted([
        ("unreadable", "labels/a.txt", "line 1", "4 values; expected 5, or for a polygon an odd number from 7 on"),
        ("unreadable", "labels/a.txt", "line 2", "'x' is no number"),
        ("unreadable", "labels/a.txt", "line 3", "its class is 'cat'; expected a whole number"),
        ("unknown_class", "labels/a.txt", "line 4", "classes.txt names no class 7"),
        ("unknown_class", "labels/a.txt", "line 5", "classes.txt names no class -1"),
        ("unreadable", "labels/a.txt", "line 6", "8 values; expected 5, or for a polygon an odd number from 7 on"),
        ("no_picture", "labels/gone.txt", "", "no picture, or more than one, is named 'gone'"),
        ("no_picture", "labels/empty.txt", "", "no picture, or more than one, is named 'empty'"),
        ("foreign_path", "labels/far.txt", "", "its picture was expected as images/far, and found as x/deep/far.png"),
        ("duplicate", "more/labels/a.txt", "", "labels/a.txt says of images/a.png already"),
    ])  # fmt: skip
    assert [thing.place for thing in got.things("images/a.png")] == ["line 7 (cat)", "line 8 (cat)"]


def test_yolo_names_and_splits_that_are_wrong(tmp_path: Path):
    files = {"labels/a.txt": "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5", "images/a.png": None, "images/b.png": None}
    source = tree(tmp_path, files)
    bad = "names: {0: cat, 1: cat, x: dog, 3: [1], 4: }\ntrain: train.txt\nval: [val.txt, images]\nnc: 2"
    lists = {"train.txt": "./images/a.png\nimages/gone.png\n", "val.txt": "/home/me/images/b.png\nimages/a.png\n"}
    got = Result("yolo", tree(source, {"data.yaml": bad, **lists}))
    assert {name: item.split for name, item in got.found.items()} == {"images/a.png": "train", "images/b.png": "val"}
    assert got.told() == [
        ("duplicate", "data.yaml", "names 1", "a second class is named cat; they are taken for one"),
        ("unreadable", "data.yaml", "names", "'x': 'dog'; expected a number and the name of a class"),
        ("unreadable", "data.yaml", "names", "'3': ['1']; expected a number and the name of a class"),
        ("unreadable", "data.yaml", "names", "'4': ''; expected a number and the name of a class"),
        ("no_picture", "train.txt", "line 2", "no picture, or more than one, is 'images/gone.png'"),
        ("foreign_path", "val.txt", "line 1", "'/home/me/images/b.png' was found as images/b.png"),
        ("duplicate", "val.txt", "line 2", "images/a.png is in the list of train too, and is taken for that"),
    ]
    assert [flaw.source for flaw in got.found["images/a.png"].flaws] == ["val.txt"]
    got = Result(
        "yolo", tree(source, {"data.yaml": "a: &x 1\nb: *x", "obj.names": "cat\ndog", "obj.data": "names = x"})
    )
    assert got.told()[0][:3] == ("unreadable", "data.yaml", "")
    assert {thing.name for thing in got.things("images/a.png")} == {"cat", "dog"}
    with pytest.raises(
        UserError, match=r"2 files name different classes: q/data\.yaml, q/x/data\.yaml\. Set data\.inside"
    ):
        Result(
            "yolo", tree(source, {"data.yaml": "", "q/data.yaml": "names: [a, b]", "q/x/data.yaml": "names: [b, a]"})
        )


def test_yolo_boxes_with_keypoints(tmp_path: Path):
    files = {"labels/a.txt": "0 0.5 0.5 0.5 0.5" + " 0.1 0.1 2" * 3, "images/a.png": None}
    got = Result("yolo", tree(tmp_path, {**files, "data.yaml": "kpt_shape: [3, 3]\nnames: [cat]"}))
    assert got.things("images/a.png") == (Thing("cat", (0.25, 0.25, 0.75, 0.75)),)
    assert got.flaws == []


# labelme


def shape(kind: str, points: list[Any], label: Any = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def labelme(*shapes: Any, image: Any = "a.png", **more: Any) -> dict[str, Any]:
    base_ = {"version": "5", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": None}
    return {**base_, "imageHeight": 4, "imageWidth": 5, **more}


def png(mask: list[list[int]]) -> str:
    return base64.b64encode(encode_png(np.array(mask, np.uint8)[:, :, None])).decode()


TRIANGLE = [[0, 0], [4, 0], [0, 3]]


def test_labelme_by_hand(tmp_path: Path):
    shapes = [
        shape("polygon", TRIANGLE, group_id=1),
        shape("rectangle", [[4, 3], [1, 2]], "dog"),
        shape("circle", [[2, 2], [2, 3]]),
        shape("polygon", [[2, 2], [5, 2], [2, 4]], group_id=1),
        shape("polygon", [[2, 2], [5, 2], [2, 4]], "dog", group_id=1),
        shape("mask", [[1.6, 1.2], [3.6, 2.2]], mask=png([[0, 1, 1], [0, 0, 1]])),
    ]
    files = {"a.json": labelme(*shapes), "b.json": labelme(image="b.png"), "a.png": None, "b.png": None, "c.png": None}
    got = Result("labelme", tree(tmp_path, files))
    things = got.things("a.png")
    assert [thing.name for thing in things] == ["cat", "dog", "cat", "dog", "cat"]
    assert things[0].outline == ((0, 0, 4, 0, 0, 3), (2, 2, 5, 2, 2, 4)) and things[0].box == (0, 0, 5, 4)
    assert things[1].outline == ((1, 2, 4, 2, 4, 3, 1, 3),) and things[1].box == (1, 2, 4, 3)
    (circle,) = things[2].outline
    assert len(circle) == 128 and things[2].box == pytest.approx((1, 1, 3, 3))
    assert all(math.dist(corner, (2, 2)) == pytest.approx(1) for corner in zip(circle[::2], circle[1::2], strict=True))
    assert things[4].outline == Runs(
        4, 5, tuple(runs_of(np.pad(np.array([[0, 1, 1], [0, 0, 1]]) > 0, ((1, 1), (1, 1)))))
    )
    assert things[4].box == (2, 1, 4, 3), "of its pixels"
    assert got.found["a.png"].annotation[Target.MASK] == Drawn(got.found["a.png"].annotation[Target.OBJECTS])
    assert got.found["b.png"].annotation == {Target.OBJECTS: Objects(()), Target.MASK: Drawn(Objects(()))}
    assert got.found["c.png"].annotation == {}
    assert got.flaws == [] and got.left_out == {}


def test_a_mask_is_placed_as_one_of_the_whole_picture():
    generator = np.random.default_rng(0)
    for _ in range(500):
        height, width = generator.integers(1, 7, 2)
        down, across = generator.integers(1, height + 1), generator.integers(1, width + 1)
        top, left = generator.integers(0, height - down + 1), generator.integers(0, width - across + 1)
        mask = generator.random((down, across)) < generator.choice([0.2, 0.5, 0.9, 1])
        mask[0, 0] = True
        whole = np.zeros((height, width), bool)
        whole[top : top + down, left : left + across] = mask
        assert placed(mask, int(left), int(top), (int(width), int(height))) == (height, width, tuple(runs_of(whole)))


def test_labelme_rectangles_alone_draw_no_mask_and_flags_are_classes(tmp_path: Path):
    boxes = tree(tmp_path / "boxes", {"a.json": labelme(shape("rectangle", [[1, 1], [2, 2]])), "a.png": None})
    assert Result("labelme", boxes).found["a.png"].annotation.keys() == {Target.OBJECTS}
    flags = [{"cat": True, "dog": False}, {"cat": True, "dog": True}, {"cat": False}, {"__ignore__": True}, {"cat": 1}]
    files = {f"{k}.json": labelme(image=f"{k}.png", flags=one) for k, one in enumerate(flags)}
    got = Result("labelme", tree(tmp_path / "flags", {**files, **{f"{k}.png": None for k in range(5)}}))
    assert got.found["0.png"].annotation == {Target.LABEL: "cat"}
    assert all(got.found[f"{k}.png"].annotation == {} for k in range(1, 5))


def test_labelme_ignored_shapes_are_nobodys(tmp_path: Path):
    shapes = [shape("polygon", TRIANGLE), shape("polygon", TRIANGLE, "__ignore__")]
    got = Result("labelme", tree(tmp_path, {"a.json": labelme(*shapes), "a.png": None}))
    assert [thing.crowd for thing in got.things("a.png")] == [False, True]
    assert Target.MASK not in got.found["a.png"].annotation, "nobody knows what its pixels are"


def test_labelme_finds_its_picture_or_brings_it(tmp_path: Path):
    other = encode_png(np.full((4, 5, 3), 7, np.uint8))
    embedded = {"imageData": base64.b64encode(other).decode()}
    files = {
        "l/a.json": labelme(image="..\\images\\a.png"),
        "l/b.json": labelme(image="/home/me/b.png"),
        "l/c.json": labelme(image="gone.png", **embedded),
        "l/d.json": labelme(image="../images/d.png", **embedded),
        "l/e.json": labelme(image="missing.png"),
        "l/f.json": labelme(image="f.png", imageData="no base64"),
        "l/g.json": labelme(shape("rectangle", [[0, 0], [1, 1]]), image=None),
        "l/h.json": labelme(image="../images/a.png"),
        **dict.fromkeys(["images/a.png", "images/b.png", "images/d.png", "l/g.png"]),
    }
    got = Result("labelme", tree(tmp_path, files))
    assert sorted(got.found) == ["images/a.png", "images/b.png", "images/d.png", "l/c.json", "l/f.json", "l/g.png"]
    assert got.found["l/c.json"].data == other and got.found["images/d.png"].data == PICTURE
    assert got.found["l/f.json"].data == b"no base64", "the decoder will say that it is no picture"
    assert sorted(got.told()) == [
        ("duplicate", "l/h.json", "", "l/a.json says of images/a.png already"),
        ("foreign_path", "l/b.json", "imagePath", "'/home/me/b.png' was found as images/b.png"),
        ("foreign_path", "l/g.json", "imagePath", "'' was found as l/g.png"),
        ("no_picture", "l/e.json", "imagePath", "no picture, or more than one, is 'missing.png'"),
    ]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (7, "7; expected an object with a label and points"),
        (shape("polygon", TRIANGLE, None), "its label is None; expected the name of a class"),
        (shape("point", [[1, 1]]), "a point has no area"),
        (shape("line", [[1, 1], [2, 2]]), "a line has no area"),
        (shape("linestrip", TRIANGLE), "a linestrip has no area"),
        (
            shape("polygon", TRIANGLE[:2]),
            "2 points of a 'polygon'; expected polygon, rectangle, circle or mask with theirs",
        ),
        (shape("rectangle", TRIANGLE), "3 points of a 'rectangle'; expected"),
        (shape("sphere", TRIANGLE), "3 points of a 'sphere'; expected"),
        (shape("polygon", [[1, 2, 3]]), "one of its points is [1, 2, 3]; expected x and y"),
        (shape("polygon", [[1, "2"]]), "one of its points is [1, '2']; expected x and y"),
        (shape("polygon", []), "its points are []; expected a list of x and y"),
        (shape("polygon", TRIANGLE, group_id=[1]), "its group_id is [1]; expected a number"),
        (shape("mask", [[0, 0]]), "None, where a picture in base64 is expected"),
        (shape("mask", [[0, 0]], mask="???"), "it is no base64"),
        (shape("mask", [[0, 0]], mask="aGVsbG8="), "its mask is no PNG of up to 4,096 pixels a side"),
        (shape("mask", [[0, 0]], mask="A" * 6_000_000), "6,000,000 characters of base64; the limit is 4,000,000 bytes"),
        (shape("mask", [[0, 0]], mask=png([[1]] * 5)), "its mask of 1 x 5 at 0,0 reaches beyond 5 x 4 pixels"),
        (shape("mask", [[-1, 0]], mask=png([[1]])), "its mask of 1 x 1 at -1,0 reaches beyond"),
        (shape("mask", [[math.nan, 0]], mask=png([[1]])), "its mask of 1 x 1 at -1,0 reaches beyond"),
        (shape("mask", [[1, 1]], mask=png([[0]])), "its mask has no pixel"),
    ],
)
def test_labelme_shapes_that_cannot_be_understood(tmp_path: Path, entry: Any, words: str):
    got = Result("labelme", tree(tmp_path, {"a.json": labelme(shape("polygon", TRIANGLE), entry), "a.png": None}))
    (flaw,) = got.flaws
    assert (flaw.kind, flaw.source) == (FlawKind.UNREADABLE, "a.json") and flaw.place.startswith("shape 2")
    assert flaw.found.startswith(words)
    assert got.found["a.png"].annotation.keys() == {Target.OBJECTS}, "no mask, as a shape is left out"


def test_a_png_that_promises_to_be_huge_is_not_decoded(tmp_path: Path):
    data = bytearray(encode_png(np.zeros((1, 1, 1), np.uint8)))
    data[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    mask = shape("mask", [[0, 0]], mask=base64.b64encode(bytes(data)).decode())
    got = Result("labelme", tree(tmp_path, {"a.json": labelme(mask), "a.png": None}))
    assert got.told()[0][3] == "its mask is no PNG of up to 4,096 pixels a side"


# every format


def sources(path: Path) -> dict[str, Path]:
    """A small source of each format."""
    pictures = dict.fromkeys(["a.png", "b.png"])
    files: dict[str, dict[str, Any]] = {
        "coco": {"x.json": coco()},
        "voc": {"a.xml": voc(one()), "b.xml": voc()},
        "yolo": {"a.txt": "0 0.5 0.5 0.1 0.1", "b.txt": ""},
        "labelme": {"a.json": labelme(shape("polygon", TRIANGLE)), "b.json": labelme(image="b.png")},
    }
    return {form: tree(path / form, {**pictures, **files[form]}) for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_and_the_folder_in_it_give_the_same(tmp_path: Path, form: str):
    source = sources(tmp_path)[form]
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(source, "x")
    folder, packed = Result(form, source), Result(form, tmp_path / "x.tar.gz", inside="x")
    assert {f"x/{name}": one.annotation for name, one in folder.found.items()} == {
        name: one.annotation for name, one in packed.found.items()
    }
    assert folder.kinds() == packed.kinds()


@pytest.mark.parametrize("form", FORMS)
def test_a_format_knows_its_own_kind_alone(tmp_path: Path, form: str):
    config = config_class("formats", form)
    for name, path in sources(tmp_path).items():
        names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*"))
        known = config.recognise(names, lambda name, path=path: (path / name).read_bytes()[:65536])
        assert (known is not None) == (name == form), name


@pytest.mark.parametrize("form", FORMS)
def test_a_listing_is_a_line_for_each_picture_that_changes_with_its_labels(tmp_path: Path, form: str):
    source = sources(tmp_path)[form]
    config = config_class("formats", form)(path=str(source))
    assert isinstance(config, FormatConfig)
    before = sorted(config.listing())
    assert [line.split("\t")[0] for line in before] == ["a.png", "b.png"]
    for file in source.glob("a.[!p]*"):
        file.write_bytes(file.read_bytes() + b" ")
    changed = [line.split("\t")[0] for line in set(config.listing()) - set(before)]
    assert changed == ([] if form == "coco" else ["a.png"])


@pytest.mark.parametrize("form", FORMS)
def test_a_source_of_nothing_says_what_was_expected(tmp_path: Path, form: str):
    tree(tmp_path, {"a.png": None, "x.json": "[]", "x.xml": "<a/>", "x.txt": "hello"})
    with pytest.raises(UserError, match=r"was found\. Expected "):
        Result(form, tmp_path)


# hostile input: whatever stands in an entry, nothing but a UserError comes, and what comes can be stored


def sound(form: str, source: Path) -> None:
    """Everything that a format gives is of the promised kind, and every text can be stored and shown."""
    try:
        got = Result(form, source)
    except UserError as error:
        str(error).encode()
        return
    for flaw in got.flaws:
        assert isinstance(flaw.kind, FlawKind)
        for text in flaw[1:]:
            assert len(text) < 1500
            text.encode()
    for item in got.found.values():
        objects = item.annotation.get(Target.OBJECTS)
        assert isinstance(item.annotation.get(Target.LABEL, ""), str)
        for thing in objects.things if objects else ():
            thing.name.encode()
            assert thing.name.strip() == thing.name != ""
            assert len(thing.box) == 4 and all(type(value) is float for value in thing.box)
            assert type(thing.crowd) is bool
            if isinstance(thing.outline, Runs):
                assert sum(thing.outline.lengths) == thing.outline.width * thing.outline.height
            for polygon in () if isinstance(thing.outline, Runs) else thing.outline or ():
                assert all(type(value) is float for value in polygon)
        if objects and objects.said_size:
            assert all(type(side) is int for side in objects.said_size)


def mutants(value: Any) -> Iterator[Any]:
    """A document with each of its parts in turn taken out, or replaced by whatever is hostile."""
    root = [value]

    def places(where: Any) -> Iterator[tuple[Any, Any]]:
        for key in list(where) if isinstance(where, dict) else range(len(where)):
            yield where, key
            if isinstance(where[key], dict | list):
                yield from places(where[key])

    for where, key in list(places(root)):
        kept = copy.copy(where)
        for other in HOSTILE:
            where[key] = other
            yield root[0]
        del where[key]
        yield root[0] if root else None
        where.clear()
        where.update(kept) if isinstance(where, dict) else where.extend(kept)


def fuzzed(tmp_path: Path, form: str, name: str, value: Any) -> None:
    source = tree(tmp_path, {"a.png": None, "b.png": None})
    documents = [json.dumps(mutant) for mutant in mutants(value)]
    assert len(set(documents)) > 300
    for document in dict.fromkeys(documents):
        (source / name).write_text(document)
        sound(form, source)


def test_hostile_coco(tmp_path: Path):
    raw = coco()
    raw["annotations"][0]["segmentation"] = [SQUARE[:6]]
    raw["annotations"][1]["segmentation"] = {"size": [4, 5], "counts": [3, 17]}
    fuzzed(tmp_path, "coco", "x.json", raw)


def test_hostile_panoptic(tmp_path: Path):
    segments = [{"id": 3, "category_id": 7, "bbox": [0, 0, 1, 1], "iscrowd": 0}]
    annotations = [{"image_id": 1, "file_name": "b.png", "segments_info": segments}]
    images = [{"id": 1, "file_name": "a.png", "width": 5, "height": 4}]
    raw = {"categories": [{"id": 7, "name": "cat", "isthing": 1}], "images": images, "annotations": annotations}
    fuzzed(tmp_path, "coco", "x.json", raw)


def test_hostile_labelme(tmp_path: Path):
    shapes = [shape("polygon", TRIANGLE, group_id=1), shape("mask", [[0, 0], [1, 0]], mask=png([[1, 1]]))]
    fuzzed(tmp_path, "labelme", "a.json", labelme(*shapes, flags={"x": True}, imageData="aGVsbG8="))


WORDS = [
    "",
    " ",
    "nan",
    "-inf",
    "1e308",
    "1e999",
    "9" * 5000,
    "-1",
    "1_0",
    "x" * 5000,
    "../../etc/passwd",
    "/a.png",
    "&lt;b&gt;",
]


def test_hostile_voc(tmp_path: Path):
    source = tree(tmp_path, {"a.png": None})
    text = voc(one(more="<difficult>0</difficult>"), head="<filename>a.png</filename><path>/x/a.png</path>")
    pieces = [piece.partition(">") for piece in text.split("<")]
    for place, (tag, _, inner) in enumerate(pieces):
        if tag.startswith("/") or not tag:
            continue
        for word in WORDS:
            changed = [(tag, ">", word) if k == place else piece for k, piece in enumerate(pieces)]
            (source / "a.xml").write_text("<".join("".join(piece) for piece in changed))
            sound("voc", source)
        (source / "a.xml").write_text(text.replace(f"<{tag}>{inner}</{tag}>", ""))
        sound("voc", source)
    for cut in range(0, len(text), 7):
        (source / "a.xml").write_text(text[:cut])
        sound("voc", source)


def test_hostile_yolo(tmp_path: Path):
    source = tree(tmp_path, {"a.png": None, "b.png": None, "b.txt": "0 0.5 0.5 0.5 0.5"})
    rows = [["0", "0.5", "0.5", "0.5", "0.5"], ["1", "0", "0", "1", "0", "1", "1"]]
    for tokens, place in [(tokens, place) for tokens in rows for place in range(len(tokens))]:
        for word in [*WORDS, "1.5", "1e3", "\x00", "0.5 0.5"]:
            changed = [word if k == place else token for k, token in enumerate(tokens)]
            (source / "a.txt").write_text(" ".join(changed))
            sound("yolo", source)
    (source / "a.txt").write_bytes(bytes(range(256)) * 10)
    sound("yolo", source)
    for text in [
        "names: &a [1, 2]\nx: *a",
        "names: " + "[" * 3000,
        "names: 7",
        "names: {a: b}",
        "names: [[1], {}]",
        "- 1",
        "!!x",
    ]:
        (source / "data.yaml").write_text(text)
        sound("yolo", source)


def test_deep_and_broken_json_is_a_flaw_of_its_file(tmp_path: Path):
    files = {"a.json": "[" * 100_000, "b.json": '{"images": [', "c.json": b"\xff\xfe", "x.json": coco(), "a.png": None}
    got = Result("coco", tree(tmp_path, {**files, "b.png": None}))
    assert [flaw.source for flaw in got.flaws if flaw.kind is FlawKind.UNREADABLE] == ["a.json", "b.json", "c.json"]
    (tmp_path / "x.json").unlink()
    with pytest.raises(UserError, match=r"no COCO file was found\. .* a\.json is no JSON: "):
        Result("coco", tmp_path)


# real sets


def packed(name: str, form: str, **options: Any) -> Result:
    return Result(form, DATA / name / f"{name}.tar.gz", **options)


def per_split(got: Result, what: str) -> dict[str | None, int]:
    counts: Counter[str | None] = Counter()
    for name, item in got.found.items():
        things = got.things(name) if Target.OBJECTS in item.annotation else ()
        counts[item.split] += len(things) if what == "objects" else 1
    return dict(counts)


@needs_data
def test_bccd():
    got = packed("bccd-voc", "voc")
    assert per_split(got, "pictures") == {"train": 205, "val": 87, "test": 72}
    assert Counter(thing.name for thing in got.boxes()) == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert got.kinds() == {FlawKind.FOREIGN_PATH: 364}
    machines = Counter(flaw.found.split("/JPEG")[0] for flaw in got.flaws if flaw.found.startswith("'/home"))
    assert machines == {"'/home/pi/detection_dataset": 361}
    flat = {
        (name, thing.place): thing.box
        for name in got.found
        for thing in got.things(name)
        if thing.box[0] >= thing.box[2]
    }
    assert sorted(flat.values()) == [(181, 329, 181, 329), (504, 337, 504, 337)], "left to the task to judge"
    assert all(got.found[name].annotation[Target.OBJECTS].said_size == (640, 480) for name in got.found)


@needs_data
def test_raccoons():
    got = packed("raccoon-voc", "voc")
    assert len(got.found) == 200 and Counter(thing.name for thing in got.boxes()) == {"raccoon": 217}
    assert got.kinds() == {FlawKind.FOREIGN_PATH: 200}


@needs_data
def test_lunar_craters():
    got = packed("lunar-craters-coco", "coco")
    assert per_split(got, "pictures") == {"val": 200, "test": 100}
    assert per_split(got, "objects") == {"val": 4633, "test": 2146}
    assert {thing.name for thing in got.boxes()} == {"crater"}
    assert {item.annotation.keys() == {Target.OBJECTS} for item in got.found.values()} == {True}, "nothing is outlined"
    assert [(flaw.kind, flaw.place) for flaw in got.flaws] == [(FlawKind.EMPTY_CLASS, "category 0")]
    assert got.left_out["lunar-craters-coco/data/test/.DS_Store"] == "hidden"
    alone = packed("lunar-craters-coco", "coco", inside="lunar-craters-coco/data/valid")
    assert per_split(alone, "objects") == {None: 4633}, "a split alone says nothing"


@needs_data
def test_coco128_boxes():
    got = packed("coco128", "yolo", inside="coco128/data/object_detection")
    assert per_split(got, "pictures") == {"train": 128, "val": 128}
    assert per_split(got, "objects") == {"train": 941 - 12, "val": 898}, "12 are of the two labels without picture"
    home = "coco128/data/object_detection/labels/train2017/0000000006"
    assert [flaw.source for flaw in got.flaws if flaw.kind is FlawKind.NO_PICTURE] == [f"{home}56.txt", f"{home}59.txt"]
    silent = [name for name, item in got.found.items() if not item.annotation]
    assert silent == [f"coco128/data/images/train2017/000000000{k}.jpg" for k in (250, 508)]
    assert got.kinds() == {FlawKind.NO_PICTURE: 2, FlawKind.EMPTY_CLASS: 4, FlawKind.FOREIGN_PATH: 254}
    assert {thing.name for thing in got.things("coco128/data/images/train2017/000000000009.jpg")} >= {
        "bowl",
        "broccoli",
    }


@needs_data
def test_coco128_outlines():
    got = packed("coco128", "yolo", inside="coco128/data/instance_segmentation")
    assert {thing.name for thing in got.things("coco128/data/images/train2017/000000000009.jpg")} >= {
        "bowl",
        "broccoli",
    }
    assert sum(Target.MASK in item.annotation for item in got.found.values()) == 200
    nothing = Objects((), relative=True)
    for k in (250, 508):  # empty label files
        annotation = got.found[f"coco128/data/images/train2017/000000000{k}.jpg"].annotation
        assert annotation == {Target.OBJECTS: nothing, Target.MASK: Drawn(nothing)}
    assert sum(not item.annotation for item in got.found.values()) == 56, "28 of each split have no label file"


@needs_data
def test_coco128_panoptic():
    got = packed("coco128", "coco", inside="coco128/data/panoptic_segmentation")
    assert per_split(got, "pictures") == {"train": 128, "val": 128}
    painted = [item.annotation for item in got.found.values() if item.annotation]
    assert len(painted) == 200 and all(len(one[Target.MASK].layers) == 1 for one in painted)
    names = {name for one in painted for name in one[Target.MASK].layers[0].classes.values()}
    empty = [flaw for flaw in got.flaws if flaw.kind is FlawKind.EMPTY_CLASS]
    assert len(names) + len(empty) == 133 and got.kinds() == {FlawKind.EMPTY_CLASS: len(empty)}
    assert len(got.boxes()) == 1458 and all(thing.box[2] > thing.box[0] for thing in got.boxes())


@needs_data
def test_labelme_examples():
    home = "labelme-examples/data/examples"
    boxes = packed("labelme-examples", "labelme", inside=f"{home}/bbox_detection/data_annotated")
    voc_boxes = packed("labelme-examples", "voc", inside=f"{home}/bbox_detection/data_dataset_voc")
    assert Counter(thing.name for thing in boxes.boxes()) == {"person": 6, "bus": 2, "car": 1}
    assert sorted(thing.box for thing in boxes.boxes()) == sorted(thing.box for thing in voc_boxes.boxes())
    assert boxes.flaws == [] and voc_boxes.kinds() == {FlawKind.EMPTY_CLASS: 18}
    instances = packed("labelme-examples", "labelme", inside=f"{home}/instance_segmentation/data_annotated")
    exported = packed("labelme-examples", "coco", inside=f"{home}/instance_segmentation/data_dataset_coco")
    counted = Counter(thing.name for thing in instances.boxes() if not thing.crowd)
    assert counted == Counter(thing.name for thing in exported.boxes()), "the export leaves __ignore__ out"
    assert max(len(thing.outline) for thing in instances.boxes()) == 4, "several polygons of one sofa"
    primitives = packed("labelme-examples", "labelme", inside=f"{home}/primitives")
    assert [thing.name for thing in primitives.boxes()] == ["rectangle", "circle", "rectangle", "polygon", "octagon"]
    assert primitives.boxes()[4].box == (417, 305, 517, 405)
    assert [flaw.found for flaw in primitives.flaws] == [
        "a line has no area",
        "a point has no area",
        "a linestrip has no area",
    ]
    flags = packed("labelme-examples", "labelme", inside=f"{home}/classification")
    assert [item.annotation for item in flags.found.values()] == [{Target.LABEL: "cat"}, {Target.LABEL: "dog"}]
    for name in ("instance_segmentation", "semantic_segmentation"):
        masks = packed("labelme-examples", "voc", inside=f"{home}/{name}/data_dataset_voc")
        layers = [item.annotation[Target.MASK].layers[0] for item in masks.found.values()]
        assert len(layers) == 3 and all(layer.classes[15] == "person" for layer in layers)


KNOWN = {
    "coco": (
        *(
            "coco_dataset/coco",
            "coco_dataset/coco_image_info",
            "coco_dataset/coco_instances",
            "coco_dataset/coco_panoptic",
        ),
        *("coco_dataset/coco_person_keypoints", "coco_dataset/coco_roboflow", "coco_dataset/coco_stuff"),
        *("coco_dataset/mmdet_coco", "kaggle_dataset/relaxed_coco", "roboflow_dataset/coco"),
    ),
    "voc": (
        *("kaggle_dataset/relaxed_voc1", "kaggle_dataset/relaxed_voc2", "roboflow_dataset/voc"),
        *("voc_dataset/voc_dataset1", "voc_dataset/voc_dataset2", "voc_dataset/voc_dataset3"),
    ),
    "yolo": (
        *("kaggle_dataset/relaxed_yolo", "roboflow_dataset/yolo", "yolo_dataset/annotations", "yolo_dataset/labels"),
        "yolo_dataset/strict",
    ),
    "labelme": (),
}
"""Datumaro's fixtures that are of our formats."""


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("datumaro")
    with tarfile.open(DATA / "datumaro-assets/datumaro-assets.tar.gz") as archive:
        archive.extractall(path, filter="data")
    return path / "datumaro-assets/data/assets"


@needs_data
@pytest.mark.parametrize("form", FORMS)
def test_fixtures_of_many_formats(fixtures: Path, form: str):
    config = config_class("formats", form)
    for folder in sorted(path for path in fixtures.glob("**/") if len(path.relative_to(fixtures).parts) in (1, 2)):
        names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
        known = config.recognise(names, lambda name, folder=folder: (folder / name).read_bytes()[:65536])
        place = folder.relative_to(fixtures).as_posix()
        if place in KNOWN[form]:
            assert known and known.certainty >= 2, place
            got = Result(form, folder, **known.options)
            assert got.found or place == "voc_dataset/voc_dataset2", place  # its pictures are not there
            told = {
                *got.found,
                *got.left_out,
                *(name for name in names if name.endswith((".json", ".xml", ".txt", ".names", ".yaml", ".data"))),
            }
            masks = {name for name in names if "panoptic" in name or "SegmentationClass" in name}
            assert set(names) <= told | masks, f"{place}: every file is told of"
        sound(form, folder)  # known or not, it does not crash


@needs_data
def test_fixtures_by_hand(fixtures: Path):
    stuff = Result("coco", fixtures / "coco_dataset/coco_stuff").found["images/train/a.jpg"]
    (thing,) = stuff.annotation[Target.OBJECTS].things
    assert (thing.name, thing.box, thing.crowd) == ("a", (2, 0, 6, 4), True)
    assert thing.outline == Runs(5, 10, (10, 10, 5, 10, 15))
    voc1 = Result("voc", fixtures / "voc_dataset/voc_dataset1")
    assert {name: item.split for name, item in voc1.found.items()} == {
        "JPEGImages/2007_000001.jpg": "train",
        "JPEGImages/2007_000002.jpg": "test",
    }
    assert voc1.things("JPEGImages/2007_000001.jpg") == (Thing("cat", (1, 2, 3, 4)), Thing("person", (4, 5, 6, 7)))
    strict = Result("yolo", fixtures / "yolo_dataset/strict")
    assert strict.found["obj_train_data/1.jpg"].split is None or strict.found["obj_train_data/1.jpg"].split == "train"
    assert [thing.name for thing in strict.things("obj_train_data/1.jpg")] == ["label_2", "label_4"]
    assert strict.things("obj_train_data/1.jpg")[0].box == pytest.approx((-5e-7, 0.2, 0.2666665, 0.4))
