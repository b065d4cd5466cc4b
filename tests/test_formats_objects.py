"""What the formats of objects share: files looked up by name, values from strangers, and one contract."""

from __future__ import annotations

import math
import tarfile
from pathlib import Path

import pytest
from object_sources import FORMS, PICTURE, Result, sources, tree

from pipeline.contracts import FormatConfig, Target
from pipeline.errors import UserError
from pipeline.formats import _values, _xml, _yaml
from pipeline.formats._files import Listing, Match, parsed
from pipeline.formats._names import folder_splits, resolved, split_of, splits
from pipeline.formats._values import class_name
from pipeline.plugin import config_class


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


# every format of objects


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


def test_names_that_differ_in_case_or_in_how_an_accent_is_written(tmp_path: Path):
    names = ["a/x1.png", "a/X1.png", "b/x2.png", "b/X2.png", "c/u\u0308.png"]
    listing = Listing.of(str(tree(tmp_path, dict.fromkeys(names))))
    assert listing.at("a/X1", listing.pictures) == "a/X1.png"
    assert listing.closest("q/b/x2", listing.pictures) == "b/x2.png"
    assert listing.find("q/X2.png").name == "b/X2.png"
    assert listing.find("c/\u00fc.png") == Match("c/u\u0308.png", False)


def test_a_class_is_one_however_its_accent_is_written(tmp_path: Path):
    assert class_name("u\u0308") == class_name(" \u00fc ") == "\u00fc"
    path = tree(tmp_path, {"train/u\u0308/1.png": None, "val/\u00fc/2.png": None, "val/b/3.png": None})
    read = config_class("formats", "folder")(path=str(path)).read()
    assert [item.annotation[Target.LABEL] for item in read] == ["\u00fc", "b", "\u00fc"]
