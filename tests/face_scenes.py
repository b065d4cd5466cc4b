"""Scenes composed of faces that are cut out: pasted on noise of all sizes, with boxes as COCO writes them.

From them a detector learns, and a model of faces from the faces themselves; then people whom neither has seen are put
into a gallery by one scene each and looked for in others.

    .venv/bin/python tests/face_scenes.py FOLDER_OF_PEOPLE   trains both and prints what comes of it
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from flows.edits import edited, merged  # noqa: E402
from pipeline.images import encode_png  # noqa: E402

SIDE = 96
"""Of a scene."""
Faces = Mapping[str, Sequence[np.ndarray]]
"""By person, uint8 [h, w] each."""


class Scene(NamedTuple):
    """Faces on a ground."""

    pixels: np.ndarray
    """uint8 [SIDE, SIDE, 1]."""
    people: list[str]
    boxes: list[tuple[int, int, int, int]]
    """Of each x, y, width and height."""


class Found(NamedTuple):
    """What came of people looked for in scenes."""

    faces: int
    """In all scenes."""
    found: int
    """Of them, by the detector: with an overlap of a half or more."""
    right: int
    """Of them, taken for the right person by the nearest face of the gallery."""
    people: int
    """In the gallery."""
    seconds: float


def compose(shown: Sequence[tuple[str, np.ndarray]], random: np.random.Generator) -> Scene:
    """Faces side by side where there is room, each up to twice as large and under another light."""
    ground = np.zeros((SIDE, SIDE))
    for grain in (4, 12, 24):
        noise = random.uniform(-1, 1, (SIDE // grain + 2, SIDE // grain + 2))
        coarse = Image.fromarray(noise.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        ground += np.asarray(coarse) * random.uniform(10, 45)
    pixels = ground + random.uniform(70, 180)
    people, boxes = [], []
    half = SIDE // len(shown)
    for place, (person, face) in enumerate(shown):
        scale = random.uniform(1.0, min(2.0, (half - 2) / face.shape[1], (SIDE - 2) / face.shape[0]))
        width, height = round(face.shape[1] * scale), round(face.shape[0] * scale)
        x = half * place + int(random.integers(0, half - width + 1))
        y = int(random.integers(0, SIDE - height + 1))
        larger = Image.fromarray(face).resize((width, height), Image.Resampling.BILINEAR)
        pixels[y : y + height, x : x + width] = np.asarray(larger, float) * random.uniform(0.85, 1.1)
        people.append(person)
        boxes.append((x, y, width, height))
    return Scene(pixels.clip(0, 255).astype(np.uint8)[:, :, None], people, boxes)


def scenes(faces: Faces, count: int, seed: int) -> list[Scene]:
    """Of one face or two, in turn."""
    random, names = np.random.default_rng(seed), sorted(faces)
    found = []
    for number in range(count):
        chosen = random.choice(names, 1 + number % 2, replace=False)
        found.append(compose([(name, faces[name][random.integers(len(faces[name]))]) for name in chosen], random))
    return found


def write_coco(root: Path, shown: Sequence[Scene]) -> None:
    """As a source of the format `coco`, with one class."""
    images, annotations = [], []
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    for number, scene in enumerate(shown, 1):
        (root / "images" / f"{number}.png").write_bytes(encode_png(scene.pixels))
        images.append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        for box in scene.boxes:
            known = {"image_id": number, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, **known})
    whole = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "face"}]}
    (root / "annotations" / "instances.json").write_text(json.dumps(whole))


def write_people(root: Path, faces: Faces) -> None:
    """As a folder for each person."""
    for name, shown in faces.items():
        (root / name).mkdir(parents=True)
        for number, face in enumerate(shown):
            (root / name / f"{number}.png").write_bytes(encode_png(np.ascontiguousarray(face[:, :, None])))


def read_people(root: Path) -> Faces:
    """From a folder for each person, of grey pictures."""
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    return {
        folder.name: [np.asarray(Image.open(path).convert("L")) for path in sorted(folder.iterdir()) if path.suffix]
        for folder in folders
    }


def trained(work: Path, ready: str, source: Path, changes: Sequence[str]) -> Path:
    """The model that a file of params/ with a few changes learns from a source: the folder of its bundle."""
    from pipeline.augment import stage as augment
    from pipeline.dataset import Dataset
    from pipeline.door import parse
    from pipeline.ingest import stage as ingest
    from pipeline.params import Params
    from pipeline.policy import Policy
    from pipeline.train import stage as train

    path = ROOT / "params" / f"{ready}.yaml"
    text = merged(path.read_text(), (ROOT / "params.yaml").read_text(), str(path))
    fixed = ("compute.threads=1", "compute.loader_threads=1", "compute.device=cpu", "compute.precision=float32")
    params = parse(Params, edited(text, [f"data.path={source}", *changes, *fixed, "compute.memory_format=contiguous"]))
    for folder in ("out/policy", "out/model", "out/training"):
        (work / folder).mkdir(parents=True)
    with inside(work):
        ingest.run(params, Path("out/dataset"))
        augment.run(params, Dataset.open(), Path("out/policy"))
        train.run(params, Dataset.open(), Policy.open(), Path("out/model"), Path("out/training"))
    return work / "out" / "model"


def looked_for(detector: Path, recogniser: Path, enrolled: Sequence[Scene], asked: Sequence[Scene]) -> Found:
    """Who is found in scenes, once each person of the gallery was enrolled by the only face of a scene."""
    from pipeline.boxes import iou
    from pipeline.bundle import Bundle
    from pipeline.faces import Finder, embedded, matched

    start, finder, model = time.perf_counter(), Finder(Bundle.open(detector)), Bundle.open(recogniser)
    finder.check()
    crops = {scene.people[0]: finder.faces(encode_png(scene.pixels))[:1] for scene in enrolled}
    names = [name for name, seen in crops.items() if seen]
    known = embedded(model, [crops[name][0].crop for name in names])
    faces = found = right = 0
    for scene in asked:
        seen = finder.faces(encode_png(scene.pixels))
        matches = matched(embedded(model, [face.crop for face in seen]), names, known, below=3)
        for person, (x, y, width, height) in zip(scene.people, scene.boxes, strict=True):
            faces += 1
            boxes = np.array([face.box for face in seen], float).reshape(-1, 4)
            overlaps = iou(np.array([[x, y, x + width, y + height]], float), boxes)[0]
            if len(overlaps) and overlaps.max() >= 0.5:
                found += 1
                right += matches[int(overlaps.argmax())].person == person
    return Found(faces, found, right, len(names), time.perf_counter() - start)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main(folder: str) -> None:
    """With 40 people: the detector and the model of faces learn from 28 of them, 12 are looked for."""
    import tempfile

    faces = read_people(Path(folder))
    names = sorted(faces)
    known = {name: faces[name] for name in names[: 7 * len(names) // 10]}
    strangers = {name: faces[name] for name in names if name not in known}
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        write_coco(root / "scenes", scenes(known, 240, 0))
        write_people(root / "people", known)
        detector = trained(root / "a", "detection-coco", root / "scenes", DETECTING)
        recogniser = trained(root / "b", "faces-folder", root / "people", RECOGNISING)
        random = np.random.default_rng(1)
        enrolled = [compose([(name, shown[0])], random) for name, shown in strangers.items()]
        later = {name: shown[1:] for name, shown in strangers.items()}
        print(looked_for(detector, recogniser, enrolled, scenes(later, 200, 2)))


DETECTING = (
    *(f"augment={{name: none, size: {SIDE}, frame: pad}}", "model={name: fcos, width: 32}", "train.epochs=12"),
    *("train.batch_size=8", "optimizer.lr=0.003"),
)
RECOGNISING = ("augment={name: light, size: 28, frame: pad}", "train.epochs=20")

if __name__ == "__main__":
    main(sys.argv[1])
