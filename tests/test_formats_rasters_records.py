"""Pictures in records, shards and columns: IDX, CIFAR, LIBSVM, WebDataset, Parquet; broken and hostile ones too."""

from __future__ import annotations

import bz2
import gzip
import struct
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from raster_sources import (
    CAT_OR_DOG,
    PIXELS,
    ROWS,
    SAMPLES,
    TRAIN,
    as_parquet,
    hugging_face,
    idx,
    made,
    picture,
    put,
    read,
    recognised,
    records,
    refused,
    tarred,
)

from pipeline.annotations import Objects, Thing
from pipeline.contracts import Target
from pipeline.images import decode

# idx


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
        (gzip.compress(idx(PIXELS), mtime=0)[:-9], "it is damaged or cut short"),
        (gzip.compress(idx(PIXELS), mtime=0)[:30] + bytes(40), "it is damaged or cut short"),
        (b"\1\2\3", "by its name it is packed, but it begins with"),
        (gzip.compress(bytes(150_000_000), 9, mtime=0), "it unpacks to more than 100,000,000 bytes"),
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
    (tmp_path / home / "batches.meta.txt").write_text(names + "emu\n")
    assert read("cifar", path).every_flaw() == [("empty_class", f"{home}/batches.meta.txt", "")]


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
    hundred = put(tmp_path / "hundred", {"train": b"\x80\4", "test": b"\x80\4", "meta": b"\x80\4"})
    assert recognised("cifar", hundred) == 2
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


def test_a_shard(tmp_path: Path):
    path = tmp_path / "a.tar"
    path.write_bytes(tarred(SAMPLES))
    assert read("webdataset", str(path)).labels == {"0001.jpg": "1", "0002.png": "0"}
    assert read("webdataset", str(path), classes=["cat", "dog"]).labels == {"0001.jpg": "dog", "0002.png": "cat"}
    path.write_bytes(tarred({**SAMPLES, "classes.txt": "cat\ndog\nemu"}))
    told = read("webdataset", str(path))
    assert told.labels == {"0001.jpg": "dog", "0002.png": "cat"}
    assert told.every_flaw() == [("empty_class", "classes.txt", "")]
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
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(path, "a.tar")
    refused("webdataset", str(archive), r"^a\.tar: the files of its samples lie too far apart")


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


def test_hugging_face_labels(tmp_path: Path):
    images = [{"bytes": picture(at), "path": f"{at}.png"} for at in range(5)] + [{"bytes": None, "path": "x.png"}]
    train = hugging_face({"image": images, "label": [0, 1, -1, 7, 1, 0]}, {"label": {"names": ["cat", "dog", "emu"]}})
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
    assert told.every_flaw() == [
        ("empty_class", name, ""),
        ("no_picture", name, "row 5"),
        ("unknown_class", name, "row 3"),
    ]
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


def test_hostile_names_in_parquet(tmp_path: Path):
    image = [{"bytes": picture(), "path": None}]
    odd = hugging_face({"image": image, "label": [0]}, {"label": {"names": ["\ud800"]}})
    told = read("parquet", put(tmp_path, {"a.parquet": odd}))
    assert ("unreadable", "a.parquet", "row 0") in told.every_flaw() and not told.found[0].annotation
    text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(struct.pack("<2i", 0, 1)), pa.py_buffer(b"\xff")])
    refused("parquet", put(tmp_path, {"a.parquet": hugging_face({"image": image, "label": text}, {})}), "is damaged")
