"""Pascal VOC: what is read of small sources, by hand, and every flaw in them."""

from __future__ import annotations

from pathlib import Path

from object_sources import PICTURE, Result, one, tree, voc

from pipeline.annotations import FlawKind, Objects, Thing
from pipeline.contracts import Target


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
    assert got.left_out == {}
    pieces = got.found["d/JPEGImages/a.png"].annotation[Target.INSTANCES]
    assert pieces.layers[0].name == "d/SegmentationObject/a.png" and pieces.kinds.name == "d/SegmentationClass/a.png"
    assert (pieces.layers[0].classes, len(pieces.kinds.classes)) == ({}, 20)
    alone = Result("voc", tree(tmp_path / "alone", dict.fromkeys([*names[:2], "d/SegmentationObject/b.png"])))
    assert alone.left_out["d/SegmentationObject/b.png"].endswith("no mask in SegmentationClass says what they are")
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


def test_masks_mean_nothing_where_the_list_of_classes_is_broken(tmp_path: Path):
    files = {"labelmap.txt": b"\xff", "JPEGImages/a.png": None, "SegmentationClass/a.png": None}
    got = Result("voc", tree(tmp_path, files))
    assert got.found["JPEGImages/a.png"].annotation == {}
    assert [(flaw.kind, flaw.source) for flaw in got.flaws] == [
        (FlawKind.UNREADABLE, "labelmap.txt"),
        (FlawKind.UNREADABLE, "SegmentationClass/a.png"),
    ]


def test_a_list_of_one_endless_line_is_read(tmp_path: Path):
    line = "a" + " b" * 500_000  # nothing in it is a mark, and looking for one must not take its square
    files = {"a.xml": voc(one()), "a.png": PICTURE, "ImageSets/Main/train.txt": f"a -1\n{line}\n"}
    got = Result("voc", tree(tmp_path, files))
    assert got.kinds() == {FlawKind.NO_PICTURE: 1}
