"""Formats of labels and masks, by hand: small sources with every flaw, hostile input, and what real sets hold."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.annotations import Flaw, FlawKind, Objects, Painted, Thing
from pipeline.contracts import FormatConfig, Found, LeftOut, Target
from pipeline.errors import UserError
from pipeline.formats._class_lists import Names, parsed
from pipeline.images import decode, encode_png
from pipeline.plugin import config_class
from pipeline.source import Entry, open_source

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
FORMATS = ("masks", "lists", "table", "idx", "cifar", "libsvm", "webdataset", "parquet")

Files = Mapping[str, bytes | str]


class Told(NamedTuple):
    """What a format gave."""

    found: list[Found]
    left_out: dict[str, str]
    flaws: list[Flaw]

    def of(self, target: Target) -> dict[str, Any]:
        return {item.name: item.annotation.get(target) for item in self.found}

    @property
    def labels(self) -> dict[str, Any]:
        return self.of(Target.LABEL)

    def every_flaw(self) -> list[tuple[str, str, str]]:
        """Kind, file and place of all flaws, those of pictures too."""
        flaws = [*self.flaws, *(flaw for item in self.found for flaw in item.flaws)]
        return sorted((flaw.kind.value, flaw.source, flaw.place) for flaw in flaws)


def picture(level: int = 0, mode: str = "RGB", form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("L", (5, 4), level % 256).convert(mode).save(out, form)
    return out.getvalue()


def mask(values: Any, mode: str = "L", palette: list[int] | None = None, form: str = "PNG") -> bytes:
    pixels = np.array(values, np.uint16 if mode == "I;16" else np.uint8)
    painted = Image.fromarray(pixels * 255).convert("1", dither=Image.Dither.NONE) if mode == "1" else None
    if painted is None:
        painted = Image.fromarray(pixels, mode) if mode in ("P",) else Image.fromarray(pixels)
    if palette:
        painted.putpalette(palette)
    out = io.BytesIO()
    painted.save(out, form)
    return out.getvalue()


def put(root: Path, files: Files) -> str:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return str(root)


def tarred(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            raw = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return out.getvalue()


def made(form: str, path: str, **options: Any) -> FormatConfig:
    config = config_class("formats", form)(path=path, **options)
    assert isinstance(config, FormatConfig)
    return config


def read(form: str, path: str, **options: Any) -> Told:
    """What a format says; every file of the source has its place in it."""
    items = list(made(form, path, **options).read())
    told = Told(
        [item for item in items if isinstance(item, Found)],
        {item.name: item.reason for item in items if isinstance(item, LeftOut)},
        [item for item in items if isinstance(item, Flaw)],
    )
    assert not {item.name for item in told.found} & told.left_out.keys()
    assert all(told.left_out.values())
    assert all(item.annotation.keys() <= config_class("formats", form).gives for item in told.found)  # type: ignore[attr-defined]
    return told


def recognised(form: str, path: str) -> int:
    """How sure a format is of a source."""
    source = open_source(path)
    names = sorted(entry.name for entry in source.entries() if isinstance(entry, Entry))

    def peek(name: str) -> bytes:
        return dict(source.heads({name}, 65536))[name]

    config = config_class("formats", form)
    assert issubclass(config, FormatConfig)
    found = config.recognise(names, peek)
    return found.certainty if found else 0


def refused(form: str, path: str, words: str, **options: Any) -> None:
    with pytest.raises(UserError, match=words):
        read(form, path, **options)


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
    path = put(tmp_path, {**files, "list.txt": lines, "synsets.txt": "cat\ndog\n"})
    told = read("lists", path)
    assert told.labels == {"0.png": "cat", "1.png": "dog", "2.png": None, "3.png": None, "4.png": "cat"}
    assert told.every_flaw() == [
        ("duplicate", "list.txt", "line 7"),
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


# table

ROWS = [{"file": f"images/{at}.png", "target": str(at % 2), "camera": "north"} for at in range(4)]


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    return "".join(delimiter.join(map(str, row)) + "\n" for row in [list(rows[0]), *(r.values() for r in rows)])


def as_parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, **options), out)
    return out.getvalue()


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


# idx


def idx(values: np.ndarray, code: int = 8) -> bytes:
    return bytes((0, 0, code, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
TRAIN = {
    "train-images-idx3-ubyte.gz": gzip.compress(idx(PIXELS)),
    "train-labels.idx1-ubyte": idx(np.arange(6, dtype=np.uint8)),
}
TRAIN["train-labels-idx1-ubyte"] = TRAIN.pop("train-labels.idx1-ubyte")


def test_idx_plain_and_packed(tmp_path: Path):
    path = put(tmp_path, {f"raw/{name}": data for name, data in TRAIN.items()})
    told = read("idx", path)
    assert told.labels == {f"raw/train-images-idx3-ubyte/0000{at}.png": str(at) for at in range(6)}
    for item, pixels in zip(told.found, PIXELS, strict=True):
        np.testing.assert_array_equal(decode(item.data, 1)[:, :, 0], pixels)
    assert {item.split for item in told.found} == {None}, "a lone split leaves them to be taken"
    assert recognised("idx", path) == 3
    assert set(read("idx", path, classes=["a", "b", "c", "d", "e", "f"]).labels.values()) == set("abcdef")
    told = read("idx", path, classes=["a", "b", "c", "d", "e"])
    assert told.every_flaw() == [("unknown_class", "raw/train-labels-idx1-ubyte", "label 5")]


def test_idx_with_splits_and_what_is_too_much(tmp_path: Path):
    test = {name.replace("train", "t10k"): data for name, data in TRAIN.items()}
    more = {"t10k-labels-idx1-ubyte.gz": b"", "extra-labels-idx1-ubyte": TRAIN["train-labels-idx1-ubyte"], "notes": ""}
    told = read("idx", put(tmp_path, {**TRAIN, **test, **more}))
    assert Counter(item.split for item in told.found) == {"train": 6, "test": 6}
    assert told.left_out == {
        "extra-labels-idx1-ubyte": "labels of pictures that are not here",
        "notes": "by its name no IDX file",
        "t10k-labels-idx1-ubyte.gz": "the same as t10k-labels-idx1-ubyte, which is read",
    }


def test_idx_reads_the_packed_file_where_the_plain_one_is_broken(tmp_path: Path):
    told = read("idx", put(tmp_path, {**TRAIN, "train-images-idx3-ubyte": b""}))
    assert len(told.found) == 6
    assert told.left_out == {"train-images-idx3-ubyte": "it is empty, so its download may have failed; fetch it again"}


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (b"", "train-images-idx3-ubyte: it is empty"),
        (b"  <!DOCTYPE html><html>", "it holds a web page"),
        (b"\1\2\3\4" * 20, "it is no IDX file: it begins with"),
        (idx(PIXELS, code=13), "it holds numbers of type 13 in 3 dimensions; expected 8 in 3"),
        (idx(PIXELS[0]), "it holds numbers of type 8 in 2 dimensions"),
        (idx(PIXELS)[:-1], r"it promises 6 x 5 x 4 bytes and holds 119; fetch it again"),
        (idx(PIXELS) + b"x", r"and holds 121"),
        (b"\0\0\10\3" + b"\xff" * 12, r"its pictures have 4,294,967,295 x 4,294,967,295 pixels"),
        (b"\0\0\10\3" + struct.pack(">III", 2**31, 28, 28), "it promises 2,147,483,648 x 28 x 28 bytes and holds 0"),
        (idx(PIXELS[:5]), r"train-images-idx3-ubyte holds 5 pictures, but train-labels-idx1-ubyte holds 6 labels"),
    ],
)
def test_idx_that_is_broken(tmp_path: Path, images: bytes, words: str):
    labels = TRAIN["train-labels-idx1-ubyte"]
    refused("idx", put(tmp_path, {"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels}), words)


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (gzip.compress(idx(PIXELS))[:-9], "it is damaged or cut short"),
        (gzip.compress(idx(PIXELS))[:30] + bytes(40), "it is damaged or cut short"),
        (b"\1\2\3", "by its name it is packed, but it begins with"),
        (gzip.compress(bytes(150_000_000), 9), "it unpacks to more than 100,000,000 bytes"),
    ],
)
def test_idx_packed_badly(tmp_path: Path, packed: bytes, words: str):
    labels = TRAIN["train-labels-idx1-ubyte"]
    refused("idx", put(tmp_path, {"train-images-idx3-ubyte.gz": packed, "train-labels-idx1-ubyte": labels}), words)


def test_idx_labels_without_pictures(tmp_path: Path):
    path = put(tmp_path, {"train-labels-idx1-ubyte": TRAIN["train-labels-idx1-ubyte"]})
    refused("idx", path, "no pictures in IDX with their labels. Expected files such as train-images-idx3-ubyte")
    assert recognised("idx", path) == 0


# cifar


def records(count: int, labels: int) -> tuple[bytes, np.ndarray]:
    pixels = np.random.default_rng(count).integers(0, 256, (count, 3, 32, 32), np.uint8)
    heads = [bytes((at % 10 + 10 * place) for place in range(labels)) for at in range(count)]
    return b"".join(head + one.tobytes() for head, one in zip(heads, pixels, strict=True)), pixels


def test_cifar_10(tmp_path: Path):
    data, pixels = records(12, 1)
    names = "\n".join(f"class{at}" for at in range(10)) + "\n\n"
    home = "cifar-10-batches-bin"
    files = {"data_batch_1.bin": data, "test_batch.bin": data[:3073], "batches.meta.txt": names, "readme.html": ""}
    path = put(tmp_path, {f"{home}/{name}": one for name, one in files.items()})
    told = read("cifar", path)
    found = {item.name: item for item in told.found}
    assert Counter(item.split for item in told.found) == {"train": 12, "test": 1}
    item = found[f"{home}/data_batch_1.bin/00011.png"]
    assert item.annotation == {Target.LABEL: "class1"}
    np.testing.assert_array_equal(decode(item.data, 3), pixels[11].transpose(1, 2, 0))
    assert told.left_out == {f"{home}/readme.html": "no file of CIFAR's binary version"}
    assert recognised("cifar", path) == 3
    (tmp_path / home / "batches.meta.txt").write_text("only\n")
    assert Counter(kind for kind, _, _ in read("cifar", path).every_flaw()) == {"unknown_class": 10}


def test_cifar_100(tmp_path: Path):
    data, _ = records(3, 2)
    fine = "\n".join(f"fine{at}" for at in range(100))
    path = put(tmp_path, {"train.bin": data, "fine_label_names.txt": fine, "coarse_label_names.txt": "x\ny\nz\n"})
    told = read("cifar", path)
    assert [item.annotation[Target.LABEL] for item in told.found] == ["fine10", "fine11", "fine12"]
    assert [item.metadata for item in told.found] == [{"coarse": "x"}, {"coarse": "y"}, {"coarse": "z"}]
    assert list(read("cifar", path, labels="coarse").labels.values()) == ["x", "y", "z"]


def test_cifar_that_is_broken_or_pickled(tmp_path: Path):
    data, _ = records(2, 1)
    refused(
        "cifar",
        put(tmp_path / "cut", {"data_batch_1.bin": data[:-1]}),
        "data_batch_1.bin: its 6,145 bytes are no whole",
    )
    refused("cifar", put(tmp_path / "empty", {"data_batch_1.bin": b""}), "data_batch_1.bin: it is empty")
    refused("cifar", put(tmp_path / "none", {"a.bin": data}), "no data_batch_1.bin and no train.bin")
    pickled = put(tmp_path / "pickled", {"data_batch_1": b"\x80\4", "batches.meta": b"\x80\4"})
    refused("cifar", pickled, "a set of pickles, which may run any code as they are read. Fetch the binary version")
    assert recognised("cifar", pickled) == 2


# libsvm


def test_libsvm_by_hand(tmp_path: Path):
    path = put(tmp_path, {"set/usps": "1 1:-1 2:0 3:0.5 4:1\n\n10 1:1 2:1 3:-1 4:-1 # seen\n", "set/LICENSE": "free\n"})
    told = read("libsvm", path)
    assert told.labels == {"set/usps/00001.png": "1", "set/usps/00003.png": "10"}
    np.testing.assert_array_equal(decode(told.found[0].data, 1)[:, :, 0], [[0, 128], [191, 255]])
    assert told.left_out == {"set/LICENSE": "its first line is not '<label> 1:<value> 2:<value> ...'"}
    assert recognised("libsvm", path) == 2
    assert set(read("libsvm", path, shift=-1).labels.values()) == {"0", "9"}
    wide = read("libsvm", path, low=-3, high=1).found[0]
    np.testing.assert_array_equal(decode(wide.data, 1)[:, :, 0], [[128, 191], [223, 255]])


@pytest.mark.parametrize(("ending", "packer"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress)])
def test_libsvm_packed_sparse_and_split(tmp_path: Path, ending: str, packer: Any):
    files = {f"usps{ending}": packer(b"+1 2:2 5:4\n-1 3:4\n"), f"usps.t{ending}": packer(b"1 1:4\n")}
    path = put(tmp_path, files)
    told = read("libsvm", path)
    assert {item.name: item.split for item in told.found} == {
        "usps/00001.png": None,
        "usps/00002.png": None,
        "usps.t/00001.png": "test",
    }
    first = next(item for item in told.found if item.name == "usps/00001.png")
    np.testing.assert_array_equal(decode(first.data, 1)[:, :, 0], [[0, 128, 0], [0, 255, 0], [0, 0, 0]])
    assert recognised("libsvm", path) == 2


def test_libsvm_lines_that_are_wrong(tmp_path: Path):
    lines = [
        "1 1:0 2:1",
        "1 2:1 1:0",
        "1 0:1",
        "1 x",
        "1 1:nan",
        "1 1:1e999",
        "1,2 1:1",
        "1",
        "1 1:1 99999999:1",
        "a 1:1",
    ]
    told = read("libsvm", put(tmp_path, {"set": "\n".join(lines)}))
    assert list(told.labels) == ["set/00001.png"]
    assert told.every_flaw() == sorted(("unreadable", "set", f"line {at}") for at in range(2, 11))


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (b"1 1:2\n", {}, "all values are 2, so there is nothing to see"),
        (b"hello\n", {}, "no file in LIBSVM's text. Expected lines such as"),
        (b"", {}, "no file in LIBSVM's text"),
        (b"1.5 1:2 2:1\n", {"shift": 1}, r"set, line 1: the label '1\.5' is no whole number\. Leave data\.shift out"),
    ],
)
def test_libsvm_that_cannot_be(tmp_path: Path, data: bytes, options: dict[str, Any], words: str):
    refused("libsvm", put(tmp_path, {"set": data}), words, **options)


def test_libsvm_that_is_cut_short(tmp_path: Path):
    path = put(tmp_path, {"usps": b"1 1:1 2:0\n", "usps.t.bz2": bz2.compress(b"1 1:1 2:0\n" * 99)[:-9]})
    refused("libsvm", path, r"usps\.t\.bz2: it is damaged or cut short")
    with pytest.raises(ValueError, match=r"low \(2\) is not below high \(1\)"):
        made("libsvm", path, low=2, high=1)


# webdataset

SAMPLES: Files = {"0001.jpg": picture(1), "0001.cls": "1", "0002.png": picture(2), "0002.cls": b"0\n"}


def test_a_shard(tmp_path: Path):
    path = tmp_path / "a.tar"
    path.write_bytes(tarred(SAMPLES))
    assert read("webdataset", str(path)).labels == {"0001.jpg": "1", "0002.png": "0"}
    assert read("webdataset", str(path), classes=["cat", "dog"]).labels == {"0001.jpg": "dog", "0002.png": "cat"}
    path.write_bytes(tarred({**SAMPLES, "classes.txt": "cat\ndog"}))
    assert read("webdataset", str(path)).labels == {"0001.jpg": "dog", "0002.png": "cat"}
    assert recognised("webdataset", str(path)) == 3
    assert len(list(made("webdataset", str(path)).listing())) == 2


def test_what_says_the_class(tmp_path: Path):
    files = {
        **{f"{at}.jpg": picture(ord(at)) for at in "abcdefg"},
        "a.json": '{"label": "cat", "n": 1}',
        "b.json": "3",
        "c.txt": " dog \n",
        "d.json": '{"caption": "x"}',
        "d.txt": "cat",
        "e.txt": "two\nlines",
        "f.json": "{",
        "g.cls": "cat",
        "g.json": '{"label": "dog"}',
        "h.cls": "1",
        "a.npy": b"",
        "a.seg.png": picture(9),
        "a.old.json": "{}",
    }
    told = read("webdataset", put(tmp_path, {"train-0.tar": tarred(files)}))
    names = {
        f"train-0.tar/{at}.jpg": label
        for at, label in zip("abcdefg", ["cat", "3", "dog", "cat", None, None, "cat"], strict=True)
    }
    assert told.labels == names
    assert told.every_flaw() == [
        ("no_picture", "train-0.tar/h.cls", ""),
        ("unreadable", "train-0.tar/e.txt", ""),
        ("unreadable", "train-0.tar/f.json", ""),
    ]
    assert told.left_out == {
        "train-0.tar/a.npy": "nothing reads a .npy",
        "train-0.tar/a.seg.png": "a further .png of its sample",
        "train-0.tar/a.old.json": "a further .json of its sample",
    }


def test_shards_in_a_folder_and_in_an_archive(tmp_path: Path):
    shards = {"s/train-0.tar": tarred(SAMPLES), "s/test-0.tar.gz": gzip.compress(tarred(SAMPLES)), "s/x.md": ""}
    path = put(tmp_path / "folder", shards)
    told = read("webdataset", path, classes=["cat"])
    assert Counter((item.split, item.annotation.get(Target.LABEL)) for item in told.found) == Counter(
        [("train", "cat"), ("train", None), ("test", "cat"), ("test", None)]
    )
    assert told.every_flaw() == [
        ("unknown_class", f"s/{name}/0001.cls", "") for name in ("test-0.tar.gz", "train-0.tar")
    ]
    assert told.left_out == {"s/x.md": "no shard"}
    assert recognised("webdataset", path) == 3
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name, data in shards.items():
            packed.writestr(name, data)
    assert sorted(map(repr, read("webdataset", str(archive), classes=["cat"]).found)) == sorted(map(repr, told.found))


def test_samples_whose_files_lie_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    apart = sorted(SAMPLES, key=lambda name: name.rpartition(".")[2])
    path = tmp_path / "a.tar"
    path.write_bytes(tarred({name: SAMPLES[name] for name in apart}))
    assert read("webdataset", str(path)).labels == {"0001.jpg": "1", "0002.png": "0"}
    monkeypatch.setattr("pipeline.formats._web_samples.HELD", 1)
    refused("webdataset", str(path), "the files of its samples lie too far apart")


def test_shards_that_are_hostile(tmp_path: Path):
    names = {"../up.jpg": picture(), "/abs.jpg": picture(), "ok.jpg": picture(), "ok.cls": "1"}
    told = read("webdataset", put(tmp_path / "names", {"a.tar": tarred(names)}))
    assert told.labels == {"a.tar/ok.jpg": "1"}
    assert told.left_out == {
        "a.tar/../up.jpg": "its name climbs out of the archive (..)",
        "a.tar//abs.jpg": "its name is an absolute path",
    }
    cut = put(tmp_path / "cut", {"a.tar": tarred(SAMPLES)[:700]})
    refused("webdataset", cut, r"a\.tar: the archive is damaged or cut short")
    refused("webdataset", put(tmp_path / "html", {"a.tar": "<html>"}), r"'a\.tar' is no archive: it holds a web page")
    refused("webdataset", put(tmp_path / "none", {"a.txt": "x"}), "no samples of WebDataset")
    assert recognised("webdataset", str(tmp_path / "html")) == 0


# parquet


def hugging_face(columns: dict[str, Any], features: dict[str, Any]) -> bytes:
    meta = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    out = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(meta), out, row_group_size=2)
    return out.getvalue()


CAT_OR_DOG = {"names": ["cat", "dog"], "_type": "ClassLabel"}


def test_hugging_face_labels(tmp_path: Path):
    images = [{"bytes": picture(at), "path": f"{at}.png"} for at in range(5)] + [{"bytes": None, "path": "x.png"}]
    train = hugging_face({"image": images, "label": [0, 1, -1, 7, 1, 0]}, {"label": CAT_OR_DOG})
    test = hugging_face({"img": [picture(9)], "text": ["dog"]}, {})
    files = {"data/train-00000-of-00001.parquet": train, "data/test-00000-of-00001.parquet": test, "README.md": ""}
    path = put(tmp_path, files)
    told = read("parquet", path)
    name = "data/train-00000-of-00001.parquet"
    assert told.labels == {
        "data/test-00000-of-00001.parquet/0000000": None,
        **{f"{name}/000000{at}": label for at, label in enumerate(["cat", "dog", None, None, "dog"])},
    }
    assert Counter(item.split for item in told.found) == {"train": 5, "test": 1}
    assert told.every_flaw() == [("no_picture", name, "row 5"), ("unknown_class", name, "row 3")]
    assert [item.data for item in told.found][1:] == [image["bytes"] for image in images[:5]]
    assert set(told.left_out) == {"README.md"}
    assert len(list(made("parquet", path).listing())) == 7
    assert recognised("parquet", path) == 3
    refused("parquet", path, r"data\.label: .*test-.* has no column 'lable'", label="lable")
    (tmp_path / name).unlink()
    assert set(read("parquet", path, label="text").labels.values()) == {"dog"}


@pytest.mark.parametrize("nested", [False, True])
def test_hugging_face_objects(tmp_path: Path, nested: bool):
    rows = [[([1.0, 2.0, 3.0, 4.0], 1), ([0.0, 0.0, 0.0, 5.0], 0)], [], [([1.0], 0), ([1.0, 2.0, 3.0, 4.0], 5)]]
    objects: list[Any] = [[{"bbox": box, "category": kind} for box, kind in row] for row in rows]
    if not nested:
        objects = [{"bbox": [box for box, _ in row], "category": [kind for _, kind in row]} for row in rows]
    features = {"objects": {"feature": {"bbox": {}, "category": CAT_OR_DOG}}}
    images = [{"bytes": picture(at), "path": None} for at in range(3)]
    path = put(tmp_path, {"a.parquet": hugging_face({"image": images, "objects": objects}, features)})
    told = read("parquet", path)
    assert list(told.of(Target.OBJECTS).values()) == [
        Objects((Thing("dog", (1, 2, 4, 6)), Thing("cat", (0, 0, 0, 5)))),
        Objects(()),
        Objects(()),
    ]
    assert told.every_flaw() == [
        ("unknown_class", "a.parquet", "row 2, object 2"),
        ("unreadable", "a.parquet", "row 2, object 1"),
    ]
    archive = tmp_path.parent / f"{tmp_path.name}.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(tmp_path / "a.parquet", "a.parquet")
    assert read("parquet", str(archive)) == told


def test_a_table_without_pictures_in_it(tmp_path: Path):
    path = put(tmp_path, {"t.parquet": as_parquet(ROWS)})
    refused("parquet", path, "no Parquet file in it holds pictures. .* is of the format `table`")
    assert recognised("parquet", path) == 0


# all of them


def small_source(form: str, root: Path) -> str:
    pairs = {f"images/{at}.png": picture(at) for at in range(3)} | {
        f"masks/{at}.png": mask([[0, 255]]) for at in range(3)
    }
    images = [{"bytes": picture(at), "path": None} for at in range(3)]
    sources: dict[str, Files] = {
        "masks": pairs,
        "lists": pairs | {"all.txt": "".join(f"images/{at}.png masks/{at}.png\n" for at in range(3))},
        "table": {f"{at}.png": picture(at) for at in range(3)} | {"t.csv": "file,label\n0.png,a\n1.png,b\n2.png,b\n"},
        "idx": TRAIN,
        "cifar": {"data_batch_1.bin": records(3, 1)[0]},
        "libsvm": {"set": "1 1:0 2:1\n2 1:1 2:0\n"},
        "webdataset": {"a.tar": tarred(SAMPLES)},
        "parquet": {"a.parquet": hugging_face({"image": images, "label": [0, 1, 1]}, {"label": CAT_OR_DOG})},
    }
    return put(root, sources[form])


@pytest.mark.parametrize("form", FORMATS)
def test_a_listing_has_a_line_per_sample_which_changes_with_it(tmp_path: Path, form: str):
    path = small_source(form, tmp_path)
    before = list(made(form, path).listing())
    assert len(set(before)) == len(before) == len(read(form, path).found)
    assert not any("\n" in line or path in line for line in before)
    if form in ("masks", "lists"):
        (tmp_path / "masks/1.png").write_bytes(mask([[0, 255, 0]]))
        assert len(set(made(form, path).listing()) - set(before)) == 1
    if form == "table":
        (tmp_path / "t.csv").write_text("file,label\n0.png,a\n1.png,a\n2.png,b\n")
        assert len(set(made(form, path).listing()) - set(before)) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_a_source_comes_from_an_archive_too(tmp_path: Path, form: str):
    path = small_source(form, tmp_path / "source")
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as packed:
        packed.add(path, "x")
    told = read(form, str(tmp_path / "all.tar.gz"), inside="x")
    assert {item.name.removeprefix("x/"): item.data for item in told.found} == {
        item.name: item.data for item in read(form, path).found
    }


@pytest.mark.parametrize("form", FORMATS)
def test_no_format_takes_the_sources_of_others_for_its_own(tmp_path: Path, form: str):
    sure = {other: recognised(form, small_source(other, tmp_path / other)) for other in FORMATS}
    assert max(sure, key=lambda other: (sure[other], other == form)) == form


# real sets


def real(name: str) -> str:
    return str(DATA / name / f"{name}.tar.gz")


@needs_data
def test_camvid():
    told = read("lists", real("camvid"), void=[11])
    assert Counter(item.split for item in told.found) == {"train": 367, "val": 51, "test": 117}
    assert Counter(kind for kind, _, _ in told.every_flaw()) == {"foreign_path": 535}
    assert all(item.annotation[Target.MASK].layers[0].void == {11} for item in told.found)
    assert not told.left_out
    by_folder = read("masks", real("camvid"), void=[11])
    assert by_folder.of(Target.MASK) == told.of(Target.MASK)
    assert {item.name: item.split for item in by_folder.found} == {item.name: item.split for item in told.found}
    assert recognised("lists", real("camvid")) == 3 and recognised("masks", real("camvid")) == 2


@needs_data
def test_isbi2012_membrane():
    told = read("masks", real("isbi2012-membrane"), classes={0: "membrane", 255: "other"})
    annotated = [item for item in told.found if item.annotation]
    assert len(told.found) == 38 and len(annotated) == 30
    assert {item.split for item in annotated} == {"train"}
    layer = annotated[0].annotation[Target.MASK].layers[0]
    assert (dict(layer.classes), layer.void) == ({0: "membrane", 255: "other"}, frozenset())
    assert all("/test/" in item.name for item in told.found if not item.annotation)


@needs_data
def test_nuclei():
    told = read("masks", real("nuclei-dsb2018"))
    painted = told.of(Target.MASK)
    assert len(painted) == 149 and sum(len(one.layers) for one in painted.values()) == 5250
    assert {one.background for one in painted.values()} == {"background"}
    assert set(told.left_out) == {"nuclei-dsb2018/data/README.rst", "nuclei-dsb2018/derived_split.csv"}
    assert not told.every_flaw()


@needs_data
def test_the_masks_of_coco128():
    told = read("masks", real("coco128"))
    assert Counter((item.split, bool(item.annotation)) for item in told.found) == {
        ("train", True): 100,
        ("train", False): 28,
        ("val", True): 100,
        ("val", False): 28,
    }
    layer = next(item.annotation[Target.MASK].layers[0] for item in told.found if item.annotation)
    assert (len(layer.classes), layer.classes[176], layer.void) == (129, "wall-tile", {0, 255})


@needs_data
def test_palette_masks_of_labelme_examples():
    home = "labelme-examples/data/examples/semantic_segmentation/data_dataset_voc"
    told = read("masks", real("labelme-examples"), inside=home)
    layer = next(iter(told.of(Target.MASK).values())).layers[0]
    assert len(told.found) == 3
    assert (layer.classes[0], layer.classes[15], layer.void) == ("_background_", "person", {255})


@needs_data
def test_mnist_as_pictures_and_a_table():
    told = read("table", real("mnist-test-png-csv"))
    assert len(told.found) == 10_000 and not told.every_flaw()
    assert Counter(told.labels.values())["1"] == 1135
    assert all(item.name[-5] == item.annotation[Target.LABEL] for item in told.found)
    assert {item.split for item in told.found} == {None}


@needs_data
def test_mnist_as_idx_is_the_same_as_the_pictures():
    told = read("idx", real("mnist-t10k-idx"))
    assert len(told.found) == 10_000
    assert told.left_out == {
        "mnist-t10k-idx/data/t10k-labels-idx1-ubyte.gz": (
            "the same as mnist-t10k-idx/data/t10k-labels-idx1-ubyte, which is read"
        ),
        "mnist-t10k-idx/data/train-labels-idx1-ubyte.gz": "labels of pictures that are not here",
    }
    pictures = {int(item.name[-15:-9]): item for item in read("table", real("mnist-test-png-csv")).found}
    for at in range(0, 10_000, 500):
        assert told.found[at].annotation == pictures[at].annotation
        apart = decode(told.found[at].data, 1).astype(int) - decode(pictures[at].data, 1)
        assert np.abs(apart).max() <= 1, "the set has 1,021 pictures that are off by one level"


@needs_data
def test_raccoons_in_a_table():
    told = read("table", real("raccoon-voc"))
    objects = told.of(Target.OBJECTS)
    assert Counter(item.split for item in told.found) == {"train": 160, "test": 40}
    assert sum(len(one.things) for one in objects.values()) == 217
    first = objects["raccoon-voc/data/images/raccoon-1.jpg"]
    assert (first.things, first.said_size) == ((Thing("raccoon", (81, 88, 522, 408)),), (650, 417))
    assert not told.every_flaw()


@needs_data
def test_usps():
    told = read("libsvm", real("usps-libsvm"), shift=-1)
    assert len(told.found) == 2007
    assert Counter(told.labels.values())["0"] == 359
    pixels = decode(told.found[0].data, 1)
    assert pixels.shape == (16, 16, 1)
    assert int(pixels[0, 7, 0]) == round((0.001891 + 1) / 2 * 255)


@needs_data
def test_broken_downloads():
    path = real("broken-downloads")
    home = "broken-downloads/data"
    refused(
        "idx",
        path,
        "it holds a web page, so its download went wrong; fetch it again",
        inside=f"{home}/html-instead-of-gz",
    )
    words = r"t10k-images-idx3-ubyte: it is empty.* t10k-images|t10k-images-idx3-ubyte\.gz: it is damaged or cut short"
    refused("idx", path, words, inside=f"{home}/truncated-idx")
    for form in FORMATS:
        with pytest.raises(UserError):
            read(form, path)


@needs_data
def test_no_fixture_of_datumaro_is_more_than_an_error(tmp_path: Path):
    with tarfile.open(real("datumaro-assets")) as packed:
        packed.extractall(tmp_path, filter="data")
    homes = [tmp_path, *sorted((tmp_path / "datumaro-assets/data/assets").iterdir())]
    counts: Counter[str] = Counter()
    for home in homes:
        for form in FORMATS:
            try:
                counts[form] += len(read(form, str(home)).found) > 0
                list(made(form, str(home)).listing())
            except UserError as error:
                assert len(str(error)) < 2000
            recognised(form, str(home))
    assert counts["masks"] >= 10 and counts["lists"] > 2 and counts["table"] >= 1
    told = read("masks", str(tmp_path / "datumaro-assets/data/assets/synthia_dataset/rand_custom_labelmap"))
    layer = told.found[0].annotation[Target.MASK]
    assert isinstance(layer, Painted) and layer.layers[0].classes[128, 0, 64] == "person"


def test_pictures_made_of_numbers_are_the_same_bytes_everywhere():
    assert encode_png(np.zeros((1, 1, 1), np.uint8))[:8] == b"\x89PNG\r\n\x1a\n"
