"""What holds for every format of labels and masks, and what they find in real sets."""

from __future__ import annotations

import tarfile
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from raster_sources import FORMATS, Told, made, mask, needs_data, read, real, recognised, refused, small_source

from pipeline.annotations import Painted, Thing
from pipeline.contracts import Target
from pipeline.errors import UserError
from pipeline.images import decode, encode_png

# all of them


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


@cache
def mnist() -> Told:
    return read("table", real("mnist-test-png-csv"))


@needs_data
def test_mnist_as_pictures_and_a_table():
    told = mnist()
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
    pictures = {int(item.name[-15:-9]): item for item in mnist().found}
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
