"""Hostile files of objects: nothing but a UserError comes of them, and what comes can be stored."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from object_sources import SQUARE, TRIANGLE, Result, coco, labelme, one, png, shape, sound, tree, voc

from pipeline.annotations import FlawKind
from pipeline.errors import UserError

HOSTILE: list[Any] = [
    *(None, True, -1, 0.5, 1e308, math.nan, 10**400, "", "../../etc/passwd", "/etc/passwd"),
    *("\ud800", "a\x00b" * 2000, [], {}, [[]], [1, 2, 3, 4, 5]),
]


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
    for tokens, place in [(row, place) for row in rows for place in range(len(row))]:
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
