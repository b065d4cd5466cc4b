"""The first epoch from JPEG files beside Pillow, torchvision and a `DataLoader`: images a second on one core.

    .venv/bin/python benchmarks/first_epoch.py --pairs 5
    .venv/bin/python benchmarks/first_epoch.py --pictures ~/photographs      # JPEG files of your own, at any depth

800 made-up photographs of 500 x 375 pixels, which are read from the disk, decoded, cut at random to 224 x 224, mirrored
and normalised. Ours packs them first (decoded and resized to 256 x 256 in the cache, which is emptied before each turn)
and then varies what is packed; its batches are bytes, which are made floats on the device. The peer is what examples
of torchvision do: RandomResizedCrop, RandomHorizontalFlip, ToTensor, Normalize in a `DataLoader` with one worker. All
run on one core and take turns (A B, B A, ...); the figures are medians over pairs, of the ratio also the smallest and
the largest. Processor time is that of the process and of its worker. From the second epoch on ours decodes nothing:
input_path.py.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flows.edits import edited  # noqa: E402
from pipeline.__main__ import ingest  # noqa: E402
from pipeline.contracts import Frame, Target  # noqa: E402
from pipeline.dataset import Dataset  # noqa: E402
from pipeline.packed import cache  # noqa: E402
from pipeline.plugin import config_class  # noqa: E402
from pipeline.policy import Policy  # noqa: E402
from pipeline.train.batches import Material, TrainingBatches  # noqa: E402
from pipeline.transforms import resolve  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
COUNT, WIDTH, HEIGHT, QUALITY = 800, 500, 375, 90
SIZE, BATCH = 224, 32
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Found(NamedTuple):
    """What a side did in its turn."""

    rate: float
    """Images a second."""
    cost: float
    """Milliseconds of processor time for an image."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="of turns (default 5)")
    parser.add_argument("--count", type=int, default=COUNT, help=f"made-up photographs (default {COUNT})")
    parser.add_argument("--pictures", type=Path, help="a folder of JPEG files instead")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = gathered(options.pictures, options.count, Path(folder, "pictures"))
        os.chdir(folder)
        text = edited((ROOT / "params.yaml").read_text(), ["data={name: folder, path: pictures}"])
        Path("params.yaml").write_text(text)
        ingest()
        split = Dataset.open().split("train")
        split = split.at(range(len(split) // BATCH * BATCH))  # a batch that is not full is left out by both
        read = [Path("pictures", source) for source in split.samples.column("source").to_pylist()]
        size = statistics.mean(path.stat().st_size for path in read) / 1000
        print(f"{len(read)} of {files} files, {size:.0f} kB each; one of {os.cpu_count()} cores, {_load()}")
        sides: dict[str, Callable[[], int]] = {"ours": lambda: _ours(split), "theirs": lambda: _theirs(read)}
        for side in sides.values():
            side()  # all is imported then, and in the memory of the system
        found: dict[str, list[Found]] = {"ours": [], "theirs": []}
        for number in range(options.pairs):
            for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
                found[name].append(_turn(sides[name]))
        for name, turns in found.items():
            rate, cost = (statistics.median(column) for column in zip(*turns, strict=True))
            print(f"{name:<8}{rate:8.0f} images/s{cost:8.2f} ms of the processor each")
        pairs = list(zip(found["ours"], found["theirs"], strict=True))
        print(f"ratio   {_spread([mine.rate / peer.rate for mine, peer in pairs])} in images a second")
        print(
            f"        {_spread([peer.cost / mine.cost for mine, peer in pairs])} in images per second of the processor"
        )
        print(_load())


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"


def _turn(side: Callable[[], int]) -> Found:
    start, used = time.perf_counter(), _used()
    images = side()
    return Found(images / (time.perf_counter() - start), 1000 * (_used() - used) / images)


def _used() -> float:
    """Seconds of processor time so far, of this process and of workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _ours(split: Any) -> int:
    for path in cache().glob("*.npy"):
        path.unlink()
    options = config_class("policies", "standard").model_validate({"size": SIZE})
    spec = resolve(options.transforms(False)[:2], options.packed, SIZE, 3, Target.LABEL)  # crop and mirror
    frame = Frame.model_validate("crop")
    policy = Policy(
        channels=3, frame=frame, packed=options.packed, size=SIZE, mean=MEAN, deviation=DEVIATION, transforms=spec
    )
    material = Material.of(split, frame, options.packed)
    batches = TrainingBatches(material, policy, 0, BATCH, 1)
    images = 0
    for batch in batches.epoch(0, 0, np.random.default_rng(0).permutation(len(material))):
        images += len(batch.pictures)
    batches.close()
    return images


def _theirs(files: list[Path]) -> int:
    loader = torch.utils.data.DataLoader(_Pictures(files), BATCH, shuffle=True, num_workers=1, drop_last=True)
    return sum(len(pictures) for pictures, _ in loader)


class _Pictures(torch.utils.data.Dataset[Any]):
    """As torchvision's `ImageFolder` reads them."""

    def __init__(self, files: list[Path]) -> None:
        from torchvision import transforms

        self.files = files
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIZE),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, DEVIATION),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        with self.files[row].open("rb") as file:
            return self.transform(Image.open(file).convert("RGB")), row


def gathered(given: Path | None, count: int, folder: Path) -> int:
    """Put JPEG files of two classes into the folder; how many."""
    found = _photographs(count) if given is None else _files(given)
    number = 0
    for number, data in enumerate(found, 1):
        path = folder / ("odd", "even")[number % 2] / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return number


def _files(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg"):
            yield path.read_bytes()


def _photographs(count: int) -> Iterator[bytes]:
    """Soft areas of colour, edges, and texture of several sizes, as large a file as photographs are."""
    with ThreadPoolExecutor() as pool:
        yield from pool.map(_photograph, range(count))


def _photograph(number: int) -> bytes:
    chance, numbers = random.Random(number), np.random.default_rng(number)
    soft = numbers.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    scene = Image.fromarray(soft).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    for _ in range(12):  # things in front of it
        width, height = chance.randint(20, 200), chance.randint(20, 200)
        colour = tuple(chance.randrange(256) for _ in range(3))
        scene.paste(colour, (x := chance.randrange(WIDTH), y := chance.randrange(HEIGHT), x + width, y + height))
    pixels = np.asarray(scene.filter(ImageFilter.GaussianBlur(1))).astype(np.float32)
    for cell, strength in ((8, 14), (4, 12), (2, 12), (1, 8)):
        grain = numbers.normal(0, 1, (HEIGHT // cell + 1, WIDTH // cell + 1)).astype(np.float32)
        texture = Image.fromarray(grain).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        pixels += strength * np.asarray(texture)[:, :, None]
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


if __name__ == "__main__":
    main()
