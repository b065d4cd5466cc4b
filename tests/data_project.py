"""A project whose data has changed thrice: two versions in DVC's cache, one that went with it, and one in out/dataset.

    made = data_project.make(tmp_path / "project")
    with page_project.serve(made.root) as url: ...

The pictures are tiny, ingested by `pipeline.ingest` and committed by DVC; names of classes and files are hostile.
"""

from __future__ import annotations

import io
import json
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import page_project
from page_project import EVIL
from PIL import Image, ImageDraw

from pipeline.dataset import DatasetInfo
from pipeline.door import parse
from pipeline.files import write_bytes, write_json, write_text
from pipeline.ingest import stage
from pipeline.params import IngestParams

OUT = Path("out/dataset")
GONE = "e" * 64
CLASSES = ("amber", "b<i>ue", EVIL.replace("/", ""))
DVC = "stages:\n  ingest:\n    cmd: python -m pipeline ingest\n    outs:\n      - out/dataset\n"


@dataclass
class Made:
    """What was made."""

    root: Path
    cached: list[str] = field(default_factory=list)
    """Digests of the versions in DVC's cache, oldest first."""
    here: str = ""
    """Digest of the one in out/dataset, from which no run has learnt."""
    runs: list[list[str]] = field(default_factory=list)
    """Runs that learnt from each of `cached`."""
    gone: str = ""
    """A run whose data are on no disk."""


def make(root: Path, per_class: int = 20) -> Made:
    """Fill the empty folder `root`; each version has more pictures of each class than the one before."""
    project = page_project.make(root, runs=6)
    made = Made(root, runs=[project.finished[:2], project.finished[2:4]], gone=project.finished[4])
    with chdir(root):
        write_text(Path("dvc.yaml"), DVC)
        write_text(Path(".dvc/config"), "[core]\n    no_scm = true\n")
        for number in range(3):
            lay(range(number * per_class, (number + 1) * per_class))
            digest = ingest()
            if number == 2:
                made.here = digest
                break
            made.cached.append(digest)
            lock = _commit()
            for run in made.runs[number]:
                _learnt(run, digest, lock)
        _learnt(made.gone, GONE, lock.replace("md5: ", "md5: f"))
    return made


def lay(numbers: range) -> None:
    """Pictures into `source/`, their metadata, and some files that are none."""
    lines = ["file,site,angle\n"]
    for number in numbers:
        for kind, name in enumerate(CLASSES):
            path = Path("source", name, f"{number:03d}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(kind, number))
    for path in sorted(Path("source").rglob("[0-9]*.png")):
        site = ("north", "south", EVIL)[int(path.stem) % 3]
        lines.append(f"{path.relative_to('source').as_posix()},{site},{int(path.stem) / 4}\n")
    write_text(Path("source/facts.csv"), "".join(lines))
    write_bytes(Path("source") / CLASSES[0] / "broken <b>.png", b"no picture")
    write_bytes(Path("source") / CLASSES[0] / "copy.png", picture(0, 0))


def picture(kind: int, number: int) -> bytes:
    """A disc, a square or a triangle of 12 pixels, a little different each time."""
    dice = np.random.default_rng([kind, number])
    image = Image.fromarray(dice.integers(200, 240, (12, 12, 3)).astype(np.uint8))
    draw, corner = ImageDraw.Draw(image), tuple(int(one) for one in dice.integers(1, 4, 2))
    ink = ((200, 130, 20), (40, 80, 170), (30, 120, 60))[kind]
    box = [corner, (corner[0] + 7, corner[1] + 7)]
    if kind == 0:
        draw.ellipse(box, fill=ink)
    elif kind == 1:
        draw.rectangle(box, fill=ink)
    else:
        draw.polygon([(corner[0], corner[1] + 7), (corner[0] + 7, corner[1] + 7), (corner[0] + 3, corner[1])], fill=ink)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def ingest(data: str = "{name: folder, path: source, metadata: facts.csv}") -> str:
    """Make out/dataset from `source/`; the digest."""
    text = f"data: {data}\nannotations: {{}}\nsplit: {{val: 0.2, test: 0.25}}\ntask: {{name: classification}}\n"
    return stage.run(parse(IngestParams, text), OUT).digest


def _commit() -> str:
    """out/dataset into DVC's cache; the text of dvc.lock."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        repo.commit("ingest", force=True)
    return Path("dvc.lock").read_text()


def _learnt(run: str, digest: str, lock: str) -> None:
    """Let a run have learnt from out/dataset as it lies there."""
    path = Path(".convoy/runs", run, "record.json")
    info = DatasetInfo.model_validate_json((OUT / "dataset.json").read_bytes())
    record = json.loads(path.read_text()) | {"lock_text": lock}
    record["data"] = {
        "digest": digest,
        "origin": {"name": "folder", "path": "source", "metadata": "facts.csv"},
        "images": info.images,
        "classes": info.classes,
        "splits": info.splits,
        "rejected": info.rejected,
    }
    write_json(path, record)
