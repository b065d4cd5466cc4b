"""Masks: which belongs to which picture, what their values mean, and files that name classes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from raster_sources import Files, made, mask, picture, put, read, recognised, refused

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import Target
from pipeline.errors import UserError
from pipeline.formats._class_lists import Names, parsed
from pipeline.formats._mask_pairs import pair

# masks: which mask is of which picture


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("images/1.jpg", "masks/1.png"),
        ("data/train/image/0.png", "data/train/label/0.png"),
        ("train/1.png", "trainannot/1.png"),
        ("train_images/1.jpg", "train_masks/1.gif"),
        ("images/train2017/1.jpg", "semantic_segmentation/masks/train2017/1.png"),
        ("JPEGImages/1.jpg", "SegmentationClass/1.png"),
        ("1.jpg", "1_mask.png"),
        ("0001TP_1.png", "0001TP_1_L.png"),
        ("images/1.png", "masks/1_label.png"),
        ("images/image_1.png", "masks/gt_1.png"),
        ("1_sat.jpg", "1_mask.png"),
        ("bottle/test/cut/0.png", "bottle/ground_truth/cut/0_mask.png"),
        ("leftImg8bit/val/a/a_1_leftImg8bit.png", "gtFine/val/a/a_1_gtFine_labelIds.png"),
        ("img/train/1.png", "annot/train/1.png"),
        ("7/image.png", "7/mask.png"),
    ],
)
def test_layouts_of_pictures_and_masks(tmp_path: Path, one: str, other: str):
    binary = mask([[0, 255]], form=other.rpartition(".")[2].upper())
    told = read("masks", put(tmp_path, {one: picture(), other: binary}))
    (item,) = told.found
    assert item.name == one
    (layer,) = item.annotation[Target.MASK].layers
    assert (layer.name, layer.data) == (other, binary), "as it lies there"
    assert not told.flaws and not told.left_out
    assert recognised("masks", str(tmp_path)) == 2


def test_files_that_are_neither_have_their_reason(tmp_path: Path):
    files = {
        "train/image/0.png": picture(),
        "train/label/0.png": mask([[0, 255]]),
        "train/label/9.png": mask([[0, 255]]),
        "train/instances/0.png": mask([[7]]),
        "test/0.png": picture(1),
        "test/0_predict.png": mask([[700]], "I;16"),
        "notes.md": "",
        "traffic_label.png": picture(2),
        ".DS_Store": "",
    }
    told = read("masks", put(tmp_path, files))
    assert {name: bool(found) for name, found in told.of(Target.MASK).items()} == {
        "train/image/0.png": True,
        "test/0.png": False,
        "traffic_label.png": False,
    }
    assert told.left_out == {
        ".DS_Store": "hidden",
        "notes.md": "by its suffix no picture",
        "test/0_predict.png": "by its name what a model said, not what is true",
        "train/instances/0.png": "by its name no picture and no mask of classes",
    }
    assert told.every_flaw() == [("no_picture", "train/label/9.png", "")]
    assert told.flaws[0].found == "no picture of that name"


def test_a_mask_is_not_given_to_the_picture_of_another_split(tmp_path: Path):
    files = {"train/images/1.png": picture(), "train/masks/1.png": mask([[0, 255]]), "test/images/2.png": picture()}
    told = read("masks", put(tmp_path, {**files, "train/masks/2.png": mask([[0, 255]])}))
    assert [item.name for item in told.found if item.annotation] == ["train/images/1.png"]
    assert told.every_flaw() == [("no_picture", "train/masks/2.png", "")]
    assert {item.name: item.split for item in told.found} == {
        "train/images/1.png": "train",
        "test/images/2.png": "test",
    }


def test_a_large_version_is_no_mask(tmp_path: Path):
    path = put(tmp_path, {"1.jpg": picture(form="JPEG"), "1_l.jpg": picture(7, form="JPEG")})
    assert recognised("masks", path) == 0


def test_many_pictures_of_one_name_are_sorted_out_in_time():
    names = [f"{at}/images/1.png" for at in range(3000)] + [f"x{at}/masks/1.png" for at in range(3000)]
    names += [f"{at}/masks/1.png" for at in range(3000)]
    pairs = pair(names)
    assert all(masks == (f"{name.partition('/')[0]}/masks/1.png",) for name, masks in pairs.masks.items())
    assert len(pairs.alone) == 3000


def test_a_mask_that_fits_two_pictures_says_so(tmp_path: Path):
    files = {"a/images/1.png": picture(), "b/images/1.png": picture(1), "masks/1.png": mask([[0, 255]])}
    refused("masks", put(tmp_path, files), r"masks/1\.png: it could belong to a/images/1\.png and to b/images/1\.png")


def test_folders_by_option(tmp_path: Path):
    files = {"x/tissue/1.png": picture(), "x/truth maps/1.png": mask([[0, 255]]), "x/truth maps/old/1.png": picture()}
    path = put(tmp_path, files)
    refused("masks", path, r"none of its 3 pictures has a mask\. .* set data\.pictures and data\.masks")
    told = read("masks", path, pictures="x/tissue/", masks="./x/truth maps")
    assert [item.name for item in told.found] == ["x/tissue/1.png"]
    assert told.left_out == {"x/truth maps/old/1.png": "another mask of x/tissue/1.png lies nearer to it"}
    assert read("masks", path, inside="x", pictures="tissue", masks="truth maps").found == told.found
    refused(
        "masks", path, r"data\.masks: .* has no folder 'x/tissu' with files\. Did you mean 'x/tissue'", masks="x/tissu"
    )
    refused("masks", path, r"data\.inside: .* has no folder 'y'", inside="y")


def test_masks_in_two_folders_are_not_guessed(tmp_path: Path):
    files = {"images/1.png": picture(), "masks/1.png": mask([[0, 255]]), "labels/1.png": mask([[0, 1]])}
    path = put(tmp_path, files)
    refused("masks", path, r"images/1\.png has masks in 2 folders: labels, masks\. Set data\.masks")
    assert recognised("masks", path) == 1
    assert len(read("masks", path, masks="labels").found) == 1


# masks: what their values mean


def meaning(tmp_path: Path, painted: Iterable[bytes], more: Files | None = None, **options: Any) -> tuple[Any, Any]:
    masks = {f"masks/{at}.png": data for at, data in enumerate(painted)}
    pictures = {f"images/{at}.png": picture(at) for at in range(len(masks))}
    told = read("masks", put(tmp_path, {**pictures, **masks, **(more or {})}), **options)
    layer = told.found[0].annotation[Target.MASK].layers[0]
    return dict(layer.classes), set(layer.void)


def test_two_values_are_background_and_object(tmp_path: Path):
    assert meaning(tmp_path, [mask([[0, 255]])]) == ({0: "background", 255: "object"}, set())
    assert meaning(tmp_path, [mask([[0, 255]])], classes=["membrane", "cell"])[0] == {0: "membrane", 255: "cell"}
    classes = {0: "membrane", 255: "other"}
    assert meaning(tmp_path, [mask([[0, 255]])], classes=classes) == (classes, set())


def test_two_values_by_palette_or_bits(tmp_path: Path):
    black_and_white = [255, 255, 255, 9, 9, 9, 0, 0, 0]
    found = meaning(tmp_path / "palette", [mask([[0, 2]], "P", black_and_white)])
    assert found == ({0: "object", 2: "background"}, {255})
    assert meaning(tmp_path / "bits", [mask([[0, 1]], "1")]) == ({0: "background", 1: "object"}, {255})


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_values_without_names_are_numbered(tmp_path: Path, mode: str):
    palette = [0, 0, 0, 128, 0, 0, 0, 128, 0] if mode == "P" else None
    classes, void = meaning(tmp_path, [mask([[0, 1, 2, 255]], mode, palette)])
    assert (classes[0], classes[2], void) == ("class 0", "class 2", {255})
    assert len(classes) == 254, "as many as a mask tells apart while it is put together"
    classes, void = meaning(tmp_path, [mask([[0, 1, 2]], mode, palette)], void=[11])
    assert 11 not in classes and void == {11}


@pytest.mark.parametrize(
    ("name", "text", "classes", "void"),
    [
        ("classes.txt", "sky\nroad\ncar\n", {0: "sky", 1: "road", 2: "car"}, {255}),
        ("labels.txt", "0: Void\n1: road\n7: car", {1: "road", 7: "car"}, {0, 255}),
        ("set.yaml", "classes:\n  0: unlabeled\n  1: road\n", {1: "road"}, {0, 255}),
        ("dataset_meta.json", '{"label_map": {"0": "sky", "1": "road"}}', {0: "sky", 1: "road"}, {255}),
    ],
)
def test_names_from_a_file(tmp_path: Path, name: str, text: str, classes: dict[int, str], void: set[int]):
    assert meaning(tmp_path, [mask([[0, 1, 2]])], {name: text}) == (classes, void)


def test_numbers_below_0_are_of_no_class_or_void(tmp_path: Path):
    out = io.BytesIO()
    Image.fromarray(np.array([[-1, 0, 1]], np.int32)).save(out, "TIFF")
    files = {"images/1.png": picture(), "masks/1.tif": out.getvalue(), "classes.txt": "sky\nroad\n"}
    layer = read("masks", put(tmp_path, files), void=[-1]).of(Target.MASK)["images/1.png"].layers[0]
    assert (dict(layer.classes), layer.void) == ({0: "sky", 1: "road"}, {-1})


COLOURS = "0 0 0 sky\n128 0 0 road\n9 9 9 Void\n"


def test_colours_where_a_file_says_them(tmp_path: Path):
    coloured = mask([[[0, 0, 0], [128, 0, 0]]])
    classes, void = meaning(tmp_path, [coloured], {"label_colors.txt": COLOURS})
    assert classes == {(0, 0, 0): "sky", (128, 0, 0): "road", 0: "sky"}, "a mask all in black is one of grey levels"
    assert void == {(9, 9, 9), 9, 255}


def test_a_palette_is_told_by_its_colours_and_counts_by_its_indices(tmp_path: Path):
    palette = [0, 0, 0, 9, 9, 9, 128, 0, 0, *[1] * 756, 224, 224, 192]
    painted = mask([[0, 1, 2, 255]], "P", palette)
    found = meaning(tmp_path, [painted], {"labelmap.txt": "# name:colour\nsky:0,0,0::\nroad:128,0,0::\nx:9,9,9::\n"})
    assert found == ({0: "sky", 1: "x", 2: "road"}, {255})
    found = meaning(tmp_path, [painted], {"labelmap.txt": "sky:5,0,0::\nroad:5,5,0::\nx:6,6,6::\n"})
    assert found == ({0: "sky", 1: "road", 2: "x"}, {255}), "these are the colours of something else"


def test_colours_without_a_file_are_left_to_ingest(tmp_path: Path):
    classes, _ = meaning(tmp_path, [mask([[[0, 0, 0], [128, 0, 0]]])])
    assert all(isinstance(value, int) for value in classes)


def test_a_value_cannot_be_void_and_a_class(tmp_path: Path):
    with pytest.raises(UserError, match=r"data\.void: 1 has the class 'road' too"):
        meaning(tmp_path, [mask([[0, 1]])], classes=["sky", "road"], void=[1])


def test_classes_of_options_have_names(tmp_path: Path):
    for classes in ({0: " "}, ["x" * 201], {"a": "b"}):
        with pytest.raises(ValidationError):
            made("masks", str(tmp_path), classes=classes)
    assert made("masks", str(tmp_path), classes={"0": " sky "}).classes == {0: "sky"}  # type: ignore[attr-defined]


def test_a_mask_for_each_object(tmp_path: Path):
    files = {
        **{f"d/{at}/images/{at}.png": picture(ord(at)) for at in "ab"},
        **{f"d/a/masks/{at}.png": mask([[0, 255]]) for at in "yxz"},
        "d/b/masks/q.png": mask([[255, 0]]),
    }
    told = read("masks", put(tmp_path, files))
    painted = told.of(Target.MASK)
    assert [layer.name for layer in painted["d/a/images/a.png"].layers] == [f"d/a/masks/{at}.png" for at in "xyz"]
    assert [layer.name for layer in painted["d/b/images/b.png"].layers] == ["d/b/masks/q.png"]
    for one in painted.values():
        assert one.background == "background"
        assert {(tuple(layer.classes.items()), layer.clear, layer.void) for layer in one.layers} == {
            (((255, "object"),), frozenset({0}), frozenset())
        }
    named = read("masks", str(tmp_path), classes={0: "glass", 255: "nucleus"}).found[0].annotation[Target.MASK]
    assert (named.background, dict(named.layers[0].classes)) == ("glass", {255: "nucleus"})
    (tmp_path / "d/b/masks/r.png").write_bytes(mask([[0, 1, 2]]))
    refused("masks", str(tmp_path), r"values 0, 1, 2, 255; a mask of one object has two\. Set data\.masks")


def test_several_masks_by_name_are_objects(tmp_path: Path):
    files = {"1.png": picture(), "1_mask.png": mask([[0, 255]]), "1_mask_1.png": mask([[255, 0]]), "2.png": picture()}
    told = read("masks", put(tmp_path, {**files, "2_mask.png": mask([[0, 0]])}))
    assert [len(item.annotation[Target.MASK].layers) for item in sorted(told.found, key=lambda i: i.name)] == [2, 1]


@pytest.mark.parametrize(
    ("painted", "words"),
    [
        (picture(7, "L", "JPEG"), r"the mask masks/0\.png is a JPEG, whose compression changes the values"),
        (b"", r"no mask can be read\. masks/0\.png: "),
        (mask([[0, 1]])[:45], r"no mask can be read\. masks/0\.png: "),
        (b"<html>", r"no mask can be read"),
    ],
)
def test_masks_that_cannot_be(tmp_path: Path, painted: bytes, words: str):
    with pytest.raises(UserError, match=words):
        meaning(tmp_path, [painted])


def test_a_huge_mask_is_not_decoded_for_a_look(tmp_path: Path):
    with pytest.raises(UserError, match=r"60000 x 60000 pixels are too many for a look"):
        meaning(tmp_path, [b"P5 60000 60000 255\n"])


def test_more_masks_than_memory_holds_take_another_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = {f"images/{at}.png": picture(at) for at in range(9)}
    path = put(tmp_path, {**files, **{f"masks/{at}.png": mask([[at % 2 * 255, 0]]) for at in range(9)}})
    whole = read("masks", path)
    monkeypatch.setattr("pipeline.formats._samples.HELD", 100)
    again = read("masks", path)
    assert sorted(map(repr, again.found)) == sorted(map(repr, whole.found))
    assert [item.annotation[Target.MASK].layers[0].data for item in again.found] == [
        mask([[int(item.name[7]) % 2 * 255, 0]]) for item in again.found
    ]


# files of classes


@pytest.mark.parametrize(
    ("name", "text", "by_value"),
    [
        ("classes.txt", "sky\n\n# no\nroad\n", {0: "sky", 1: "road"}),
        ("labels.txt", "__ignore__\n_background_\nperson\n", {0: "_background_", 1: "person"}),
        ("labels.txt", "1 dog\n2 red panda\n", {1: "dog", 2: "red panda"}),
        ("label_colors.txt", "64 128 64\t\tAnimal\n192 0 128\t\tArchway\n", {0: "Animal", 1: "Archway"}),
        ("class_dict.csv", "name,r,g,b\nsky,0,0,0\nroad side,1,1,1\n", {0: "sky", 1: "road side"}),
        ("obj.names", "cat\ndog", {0: "cat", 1: "dog"}),
        ("classes.txt", "\u0645\u06cc\u200c\u0631\u0648\nu\u0308", {0: "\u0645\u06cc\u200c\u0631\u0648", 1: "\u00fc"}),
        ("data.yaml", "nc: 2\nnames: [no, yes]\n", {0: "no", 1: "yes"}),
    ],
)
def test_files_of_classes(name: str, text: str, by_value: dict[int, str]):
    found = parsed(text.encode(), name)
    assert isinstance(found, Names)
    assert found.by_value == by_value


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("classes.txt", b"", "no list of classes"),
        ("classes.txt", b"\xff", "can't decode"),
        ("labels.csv", b"image,label\n1.jpg,2\n", "no list of classes"),
        ("label_colors.txt", b"1 2 300 x\n", "a colour beyond 255"),
        ("label_colors.txt", b"1 2 3 x\n1 2 3 y\n", "two classes of the colour"),
        ("classes.txt", b"a\x1bb\n", "a class is named"),
        ("classes.txt", b"1" + b" " * 900_000 + b"\n" + b"x" * 900, "a line of more than 800"),
        ("classes.txt", b"x\n" * 600_000, "1,200,000 bytes"),
        ("a.yaml", b"names: &a [x]\nclasses: *a\n", "aliases"),
        ("dataset_meta.json", b"[" * 100_000, "recursion"),
    ],
)
def test_files_that_are_no_list_of_classes(name: str, data: bytes, words: str):
    found = parsed(data, name)
    assert isinstance(found, Flaw) and found.kind is FlawKind.UNREADABLE
    assert words in found.found
    assert len(found.found) <= 200


def test_a_broken_file_of_classes_is_named(tmp_path: Path):
    files = {"images/1.png": picture(), "masks/1.png": mask([[0, 1]]), "classes.txt": b"\xff", "labels.csv": "a,b\n"}
    told = read("masks", put(tmp_path, files))
    assert told.every_flaw() == [("unreadable", "classes.txt", "")]
    assert set(told.left_out) == {"labels.csv"}
