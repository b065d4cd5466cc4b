"""Small sources of objects as COCO, Pascal VOC, YOLO and labelme write them, and what is read of one."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.annotations import Flaw, FlawKind, Objects, Runs, Thing
from pipeline.contracts import FormatConfig, Found, LeftOut, Target
from pipeline.errors import UserError
from pipeline.images import encode_png
from pipeline.plugin import config_class

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
PICTURE = encode_png(np.zeros((4, 5, 3), np.uint8))
FORMS = ("coco", "voc", "yolo", "labelme")


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


def voc(*objects: str, head: str = "<filename>a.png</filename>") -> str:
    size = "<size><width>5</width><height>4</height><depth>3</depth></size>"
    return f"<annotation>{head}{size}{''.join(f'<object>{one}</object>' for one in objects)}</annotation>"


def one(name: str = "cat", corners: str = "1,2,3,4.5", more: str = "") -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), corners.split(","), strict=True)
    return f"<name> {name} </name>{more}<bndbox>{''.join(f'<{tag}>{v}</{tag}>' for tag, v in tags)}</bndbox>"


def shape(kind: str, points: list[Any], label: Any = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def labelme(*shapes: Any, image: Any = "a.png", **more: Any) -> dict[str, Any]:
    base_ = {"version": "5", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": None}
    return {**base_, "imageHeight": 4, "imageWidth": 5, **more}


def png(mask: list[list[int]]) -> str:
    return base64.b64encode(encode_png(np.array(mask, np.uint8)[:, :, None])).decode()


TRIANGLE = [[0, 0], [4, 0], [0, 3]]


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
