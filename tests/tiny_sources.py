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


def table(root: Path) -> None:
    rows = ["file,label"]
    for scene in scenes():
        put(root, f"images/{scene.name}.png", scene.encoded())
        rows.append(f"images/{scene.name}.png,{CLASSES[scene.label]}")
    put(root, "labels.csv", "\n".join(rows) + "\n")


def table_of_boxes(root: Path) -> None:
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for scene in scenes():
        put(root, f"images/{scene.name}.png", scene.encoded())
        rows += [f"{scene.name}.png,{WIDTH},{HEIGHT},{CLASSES[k]},{a},{b},{c},{d}" for a, b, c, d, k in scene.boxes]
    put(root, "labels.csv", "\n".join(rows) + "\n")


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


def _coco(root: Path, outlines: bool) -> None:
    images, annotations = [], []
    for number, scene in enumerate(scenes(), 1):
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
    "classification-cifar": cifar,
    "classification-folder": folder,
    "classification-idx": idx,
    "classification-libsvm": libsvm,
    "classification-parquet": parquet,
    "classification-table": table,
    "classification-webdataset": webdataset,
    "detection-coco": coco,
    "detection-labelme": labelme,
    "detection-table": table_of_boxes,
    "detection-tiles": coco,
    "detection-voc": voc,
    "detection-yolo": yolo,
    "segmentation-coco": coco_outlines,
    "segmentation-labelme": labelme,
    "segmentation-lists": lists,
    "segmentation-masks": masks,
    "segmentation-voc": voc_masks,
}
"""What writes a source for each file of `params/`."""
