"""Small sources for the tests of formats, and what a format says of them."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.annotations import Flaw
from pipeline.contracts import FormatConfig, Found, LeftOut, Target
from pipeline.errors import UserError
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


ROWS = [{"file": f"images/{at}.png", "target": str(at % 2), "camera": "north"} for at in range(4)]


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    return "".join(delimiter.join(map(str, row)) + "\n" for row in [list(rows[0]), *(r.values() for r in rows)])


def as_parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, **options), out)
    return out.getvalue()


def idx(values: np.ndarray, code: int = 8) -> bytes:
    return bytes((0, 0, code, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
TRAIN = {
    "train-images-idx3-ubyte.gz": gzip.compress(idx(PIXELS)),
    "train-labels.idx1-ubyte": idx(np.arange(6, dtype=np.uint8)),
}
TRAIN["train-labels-idx1-ubyte"] = TRAIN.pop("train-labels.idx1-ubyte")


def records(count: int, labels: int) -> tuple[bytes, np.ndarray]:
    pixels = np.random.default_rng(count).integers(0, 256, (count, 3, 32, 32), np.uint8)
    heads = [bytes((at % 10 + 10 * place) for place in range(labels)) for at in range(count)]
    return b"".join(head + one.tobytes() for head, one in zip(heads, pixels, strict=True)), pixels


SAMPLES: Files = {"0001.jpg": picture(1), "0001.cls": "1", "0002.png": picture(2), "0002.cls": b"0\n"}


def hugging_face(columns: dict[str, Any], features: dict[str, Any]) -> bytes:
    meta = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    out = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(meta), out, row_group_size=2)
    return out.getvalue()


CAT_OR_DOG = {"names": ["cat", "dog"], "_type": "ClassLabel"}


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


def real(name: str) -> str:
    return str(DATA / name / f"{name}.tar.gz")
