"""A small source in each format: rectangles and discs on a noisy ground, drawn here, so that they can be learnt."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

WIDTH, HEIGHT = 64, 48
CLASSES = ("disc", "square")
COUNT = 24
PEOPLE = ("ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal")


class Scene(NamedTuple):
    """One picture and all that is true of it."""

    name: str
    pixels: np.ndarray
    """uint8 [H, W, 3]."""
    boxes: list[tuple[int, int, int, int, int]]
    """x1, y1, x2, y2, class."""
    mask: np.ndarray
    """uint8 [H, W]: 0 ground, 1 and 2 the classes."""

    @property
    def label(self) -> int:
        """The class of the first object."""
        return self.boxes[0][4]

    def encoded(self, kind: str = "PNG") -> bytes:
        return png(self.pixels, kind)

    def with_objects(self, boxes: list[tuple[int, int, int, int, int]]) -> Scene:
        """With some of its objects; the others are grey."""
        pixels, mask = self.pixels.copy(), self.mask.copy()
        for x1, y1, x2, y2, _ in set(self.boxes) - set(boxes):
            pixels[y1:y2, x1:x2], mask[y1:y2, x1:x2] = 80, 0
        return self._replace(pixels=pixels, boxes=boxes, mask=mask)


def scenes(count: int = COUNT) -> list[Scene]:
    return [_scene(number) for number in range(count)]


def _scene(number: int) -> Scene:
    random = np.random.default_rng(number)
    pixels = random.integers(60, 100, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    mask, boxes = np.zeros((HEIGHT, WIDTH), np.uint8), []
    for place in range(2):
        side, kind = int(random.integers(12, 22)), (number + place) % 2
        x1, y1 = 32 * place + int(random.integers(0, 32 - side)), int(random.integers(0, HEIGHT - side))
        ys, xs = np.mgrid[:side, :side]
        inside = (xs - side / 2 + 0.5) ** 2 + (ys - side / 2 + 0.5) ** 2 <= (side / 2) ** 2 if kind == 0 else xs >= 0
        pixels[y1 : y1 + side, x1 : x1 + side][inside] = [(230, 40, 40), (40, 90, 230)][kind]
        mask[y1 : y1 + side, x1 : x1 + side][inside] = kind + 1
        boxes.append((x1, y1, x1 + side, y1 + side, kind))
    return Scene(f"{number:04}", pixels, boxes, mask)


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=kind)
    return out.getvalue()


def put(root: Path, name: str, data: bytes | str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def folder(root: Path) -> None:
    for scene in scenes():
        put(root, f"{CLASSES[scene.label]}/{scene.name}.png", scene.encoded())


def folders_of_several(root: Path) -> None:
    """Every sixth picture lies in the folders of both classes."""
    for number, scene in enumerate(scenes()):
        for label in (0, 1) if number % 6 == 0 else (scene.label,):
            put(root, f"{CLASSES[label]}/{scene.name}.png", scene.encoded())


def folders_of_people(root: Path) -> None:
    """Eight of them, in three pictures each: a face is stripes of its own direction and width, under another light."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    for number in range(COUNT):
        person, random = number % 8, np.random.default_rng(number)
        turn = np.pi * person / 8
        stripes = np.sin((xs * np.cos(turn) + ys * np.sin(turn)) / (2 + person % 3) + random.uniform(0, 1))
        pixels = 120 + random.uniform(40, 90) * stripes + random.uniform(-20, 20, (HEIGHT, WIDTH))
        put(root, f"{PEOPLE[person]}/{number}.png", png(pixels.clip(0, 255).astype(np.uint8)))


def folders_of_grades(root: Path) -> None:
    """By the size of the first object."""
    for scene in scenes():
        side = scene.boxes[0][2] - scene.boxes[0][0]
        put(root, f"{1 + (side > 14) + (side > 18)}/{scene.name}.png", scene.encoded())


def table(root: Path) -> None:
    rows = ["file,label"]
    for scene in scenes():
        put(root, f"images/{scene.name}.png", scene.encoded())
        rows.append(f"images/{scene.name}.png,{CLASSES[scene.label]}")
    put(root, "labels.csv", "\n".join(rows) + "\n")


def table_of_rows(root: Path) -> None:
    """Two pictures for each row of numbers, named by the row."""
    rows = ["rooms,price"]
    for number, scene in enumerate(scenes()):
        put(root, f"{number // 2 + 1}_{'ab'[number % 2]}.png", scene.encoded())
        if number % 2 == 0:
            side = scene.boxes[0][2] - scene.boxes[0][0]
            rows.append(f"{scene.label + 1},{20_000 * side}")
    put(root, "houses.csv", "\n".join(rows) + "\n")


def table_of_boxes(root: Path) -> None:
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for scene in scenes():
        put(root, f"images/{scene.name}.png", scene.encoded())
        rows += [f"{scene.name}.png,{WIDTH},{HEIGHT},{CLASSES[k]},{a},{b},{c},{d}" for a, b, c, d, k in scene.boxes]
    put(root, "labels.csv", "\n".join(rows) + "\n")


def table_of_points(root: Path) -> None:
    """The middles of both objects, of which one is at the left; of some pictures one is not known."""
    rows = ["file,left_x,left_y,right_x,right_y"]
    for number, scene in enumerate(scenes()):
        put(root, f"images/{scene.name}.png", scene.encoded())
        middles = [((a + c) / 2, (b + d) / 2) for a, b, c, d, _ in scene.boxes]
        told = [f"{x},{y}" for x, y in middles]
        told[1] = "," if number % 8 == 3 else told[1]
        rows.append(",".join([f"{scene.name}.png", *told]))
    put(root, "points.csv", "\n".join(rows) + "\n")


def parquet(root: Path) -> None:
    features = {"image": {"_type": "Image"}, "label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    of_image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    images = [{"bytes": scene.encoded(), "path": f"{scene.name}.png"} for scene in scenes()]
    schema = pa.schema({"image": of_image, "label": pa.int64()}).with_metadata(
        {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    )
    columns = pa.table({"image": images, "label": [scene.label for scene in scenes()]}, schema=schema)
    (root / "data").mkdir(parents=True)
    pq.write_table(columns, root / "data" / "train-00000-of-00001.parquet")


def webdataset(root: Path) -> None:
    root.mkdir(parents=True)
    with tarfile.open(root / "shard-000000.tar", "w") as archive:
        for scene in scenes():
            for name, data in ((f"{scene.name}.png", scene.encoded()), (f"{scene.name}.cls", b"%d" % scene.label)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    put(root, "classes.txt", "\n".join(CLASSES) + "\n")


def idx(root: Path) -> None:
    pictures = np.stack([np.asarray(Image.fromarray(s.pixels).convert("L").resize((28, 28))) for s in scenes()])
    labels = np.array([scene.label for scene in scenes()], np.uint8)
    put(root, "train-images-idx3-ubyte.gz", gzip.compress(struct.pack(">4I", 2051, COUNT, 28, 28) + pictures.tobytes()))
    put(root, "train-labels-idx1-ubyte", struct.pack(">2I", 2049, COUNT) + labels.tobytes())


def cifar(root: Path) -> None:
    records = b""
    for scene in scenes():
        small = np.asarray(Image.fromarray(scene.pixels).resize((32, 32)))
        records += bytes([scene.label]) + small.transpose(2, 0, 1).tobytes()
    put(root, "data_batch_1.bin", records)
    put(root, "batches.meta.txt", "\n".join(CLASSES) + "\n")


def libsvm(root: Path) -> None:
    lines = []
    for scene in scenes():
        small = np.asarray(Image.fromarray(scene.pixels).convert("L").resize((16, 16))).ravel() / 127.5 - 1
        values = " ".join(f"{place}:{value:.4f}" for place, value in enumerate(small, 1))
        lines.append(f"{scene.label + 1} {values}")
    put(root, "shapes", "\n".join(lines) + "\n")


def _coco(root: Path, outlines: bool, shown: list[Scene] | None = None) -> None:
    images, annotations = [], []
    for number, scene in enumerate(shown or scenes(), 1):
        put(root, f"images/{scene.name}.png", scene.encoded())
        images.append({"id": number, "file_name": f"{scene.name}.png", "width": WIDTH, "height": HEIGHT})
        for a, b, c, d, kind in scene.boxes:
            shape = [[a, b, c, b, c, d, a, d]] if outlines else []
            known = {"image_id": number, "category_id": kind + 1, "bbox": [a, b, c - a, d - b], "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "area": (c - a) * (d - b), "segmentation": shape, **known})
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    put(root, "annotations/instances.json", json.dumps(whole))


def coco(root: Path) -> None:
    _coco(root, outlines=False)


def coco_of_some(root: Path) -> None:
    """The left object alone, the right one alone, both, and none, in turn."""
    shown = [
        scene.with_objects([box for place, box in enumerate(scene.boxes) if number % 4 in ((0, 2), (1, 2))[place]])
        for number, scene in enumerate(scenes())
    ]
    _coco(root, outlines=False, shown=shown)


def coco_outlines(root: Path) -> None:
    _coco(root, outlines=True)


def voc(root: Path) -> None:
    for scene in scenes():
        put(root, f"JPEGImages/{scene.name}.png", scene.encoded())
        objects = "".join(
            f"<object><name>{CLASSES[k]}</name><difficult>0</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
            f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
            for a, b, c, d, k in scene.boxes
        )
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{scene.name}.png</filename>{size}{objects}</annotation>"
        put(root, f"Annotations/{scene.name}.xml", text)


def voc_masks(root: Path) -> None:
    palette = np.random.default_rng(0).integers(0, 255, 768).tolist()
    for scene in scenes():
        put(root, f"JPEGImages/{scene.name}.png", scene.encoded())
        image, out = Image.fromarray(scene.mask), io.BytesIO()
        image.putpalette(palette)
        image.save(out, format="PNG")
        put(root, f"SegmentationClass/{scene.name}.png", out.getvalue())
    put(root, "class_names.txt", "\n".join(("ground", *CLASSES)) + "\n")


def yolo(root: Path) -> None:
    for scene in scenes():
        put(root, f"images/{scene.name}.png", scene.encoded())
        rows = [
            f"{k} {(a + c) / 2 / WIDTH} {(b + d) / 2 / HEIGHT} {(c - a) / WIDTH} {(d - b) / HEIGHT}"
            for a, b, c, d, k in scene.boxes
        ]
        put(root, f"labels/{scene.name}.txt", "\n".join(rows) + "\n")
    put(root, "data.yaml", f"names: [{', '.join(CLASSES)}]\n")


def yolo_outlines(root: Path) -> None:
    for scene in scenes():
        put(root, f"images/{scene.name}.png", scene.encoded())
        rows = [
            f"{k} " + " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in ((a, b), (c, b), (c, d), (a, d)))
            for a, b, c, d, k in scene.boxes
        ]
        put(root, f"labels/{scene.name}.txt", "\n".join(rows) + "\n")
    put(root, "data.yaml", f"names: [{', '.join(CLASSES)}]\n")


def labelme(root: Path) -> None:
    for scene in scenes():
        put(root, f"{scene.name}.png", scene.encoded())
        shapes = [
            {"label": CLASSES[k], "points": [[a, b], [c, b], [c, d], [a, d]], "shape_type": "polygon", "group_id": None}
            for a, b, c, d, k in scene.boxes
        ]
        about = {"imagePath": f"{scene.name}.png", "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}
        put(root, f"{scene.name}.json", json.dumps({"version": "5", "flags": {}, "shapes": shapes, **about}))


def masks(root: Path) -> None:
    for scene in scenes():
        put(root, f"images/{scene.name}.png", scene.encoded())
        put(root, f"masks/{scene.name}.png", png(scene.mask))
    put(root, "classes.txt", "\n".join(("ground", *CLASSES)) + "\n")


def masks_of_objects(root: Path) -> None:
    for scene in scenes():
        put(root, f"{scene.name}/images/{scene.name}.png", scene.encoded())
        for number, (a, b, c, d, _) in enumerate(scene.boxes):
            inside = np.zeros((HEIGHT, WIDTH), np.uint8)
            inside[b:d, a:c] = 255 * (scene.mask[b:d, a:c] > 0)
            put(root, f"{scene.name}/masks/{number}.png", png(inside))


def lists(root: Path) -> None:
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, scene in enumerate(scenes()):
        split = "test" if number % 4 == 0 else "val" if number % 4 == 1 else "train"
        put(root, f"{split}/{scene.name}.png", scene.encoded())
        put(root, f"{split}annot/{scene.name}.png", png(np.where(scene.mask == 0, 11, scene.mask - 1).astype(np.uint8)))
        lines[split].append(f"/SegNet/Shapes/{split}/{scene.name}.png /SegNet/Shapes/{split}annot/{scene.name}.png")
    for split, rows in lines.items():
        put(root, f"{split}.txt", "\n".join(rows) + "\n")


SOURCES: dict[str, Callable[[Path], None]] = {
    "cifar10-speedrun": cifar,
    "counting": coco,
    "keypoints-table": table_of_points,
    "keypoints-vector": table_of_points,
    "regression-table": table_of_rows,
    "classification-cifar": cifar,
    "classification-folder": folder,
    "classification-idx": idx,
    "classification-libsvm": libsvm,
    "classification-parquet": parquet,
    "classification-table": table,
    "classification-webdataset": webdataset,
    "detection-coco": coco,
    "detection-labelme": labelme,
    "detection-mosaic": voc,
    "detection-table": table_of_boxes,
    "detection-tiles": coco,
    "detection-voc": voc,
    "detection-yolo": yolo,
    "multi-label-folder": folders_of_several,
    "multi-label-objects": coco_of_some,
    "ordinal": folders_of_grades,
    "faces-folder": folders_of_people,
    "instances-coco": coco_outlines,
    "instances-labelme": labelme,
    "instances-masks": masks_of_objects,
    "instances-yolo": yolo_outlines,
    "segmentation-coco": coco_outlines,
    "segmentation-labelme": labelme,
    "segmentation-lists": lists,
    "segmentation-masks": masks,
    "segmentation-voc": voc_masks,
}
"""What writes a source for each file of `params/`."""
