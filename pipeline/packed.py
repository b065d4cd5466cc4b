"""The packed cache: decoded, resized uint8 pixels of a split in one memory-mapped array, and likewise masks.

Derived from the dataset, local, never versioned, safe to delete. (Measured on one core, by
benchmarks/first_epoch.py and input_path.py: 479 images/s from JPEG, 7,100 from a packed cache.)

Beside them what is known of the pictures, as it lies in their squares: `TARGETS` says how for each kind.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from pipeline import frames, images, masks
from pipeline.boxes import VISIBLE, area, clip
from pipeline.contracts import Frame, Target, Views
from pipeline.dataset import Split
from pipeline.files import shared
from pipeline.host import cores
from pipeline.numbers import encoded
from pipeline.progress import track
from pipeline.room import explained

KEPT = 8
"""Arrays kept; the ones longest unused beyond that are removed."""
AT_ONCE = 16
"""Pictures that a thread packs before it tells of it: to change threads costs a twentieth of a picture."""
PADDING = -1.0
"""Class id of rows that hold no object."""
Squares = Callable[[int, Sequence[int]], Iterator[np.ndarray]]
"""From a picture and its rows to the squares of those rows, uint8 each."""


def views(split: Split, frame: Frame, side: int) -> Views:
    """The squares of P = `side` that a network sees of a split."""
    return frames.views(frame, split.sizes, side)


def packed(split: Split, frame: Frame, side: int) -> np.ndarray:
    """The pictures of a split as the squares that a network sees.

    Args:
        split: whose pictures.
        frame: what of them.
        side: P, in pixels.

    Returns:
        uint8 [V, P, P, C], read-only, memory-mapped.

    Raises:
        UserError: the disk is full.
    """
    channels, seen = split.dataset.info.channels, views(split, frame, side)

    def squares(position: int, rows: Sequence[int]) -> Iterator[np.ndarray]:
        pixels = images.decode_accepted(split.read(position), channels)
        return (images.cut(pixels, seen.regions[row], side) for row in rows)

    key = _key(split.ids, f"pictures {channels} {images.libraries()}", Path(images.__file__), frame, side)
    return _cached(key, (len(seen.images), side, side, channels), seen, squares)


def packed_masks(split: Split, frame: Frame, side: int) -> np.ndarray:
    """The masks of a split, as `packed` has its pictures: uint8 [V, P, P], 255 where nothing is said."""
    seen = views(split, frame, side)

    def squares(position: int, rows: Sequence[int]) -> Iterator[np.ndarray]:
        mask = masks.decode(split.mask(position))
        return (frames.mask_into(mask, seen.regions[row], side, masks.VOID) for row in rows)

    ids = split.samples.column("mask").to_pylist()
    return _cached(
        _key(ids, "masks", Path(frames.__file__), frame, side), (len(seen.images), side, side), seen, squares
    )


def packed_objects(split: Split, frame: Frame, side: int) -> np.ndarray:
    """The objects of a split in the squares of its pictures: float32 [V, M, 6], rows of class -1 after the last.

    An object is in a square if enough of it is: see `boxes.VISIBLE`. Of others no part is learnt, found or not: they
    are crowds there.
    """
    seen = views(split, frame, side)
    found = [_objects_in(split.objects(image), seen.regions[row], side) for row, image in enumerate(seen.images)]
    most = max(1, max((len(rows) for rows in found), default=1))
    table = np.full((len(found), most, 6), PADDING, np.float32)
    for row, of_view in enumerate(found):
        table[row, : len(of_view)] = of_view
    return table


def packed_labels(split: Split, frame: Frame, side: int) -> np.ndarray:
    """The class of each square, which is that of its picture: int64 [V]."""
    labels: np.ndarray = split.labels[views(split, frame, side).images]
    return labels


def packed_label_sets(split: Split, frame: Frame, side: int) -> np.ndarray:
    """The classes of each square, which are those of its picture: uint8 [V, K]."""
    sets: np.ndarray = split.label_sets[views(split, frame, side).images]
    return sets.astype(np.uint8)


def packed_numbers(split: Split, frame: Frame, side: int) -> np.ndarray:
    """What is learnt of the numbers of each square's picture: float32 [V, T'], nan where one is not known."""
    learnt: np.ndarray = encoded(split.numbers, split.dataset.info.scales)[views(split, frame, side).images]
    return learnt


def packed_counts(split: Split, frame: Frame, side: int) -> np.ndarray:
    """How many of each class each square's picture holds: float32 [V, K]."""
    counts: np.ndarray = split.numbers[views(split, frame, side).images]
    return counts.astype(np.float32)


def packed_points(split: Split, frame: Frame, side: int) -> np.ndarray:
    """The points of a split in the squares of its pictures: float32 [V, J, 4].

    Of each its x and y, whether they are known (1 or 0, then x and y are 0), and which point it becomes in a mirror.
    """
    seen, partners = views(split, frame, side), split.dataset.info.mirrored
    table = np.zeros((len(seen.images), len(split.classes), 4), np.float32)
    table[:, :, 3] = partners or np.arange(len(split.classes))
    for row, (image, region) in enumerate(zip(seen.images, seen.regions, strict=True)):
        places = frames.points_into(split.points[image], region, side)
        known = np.isfinite(places).all(axis=1)
        table[row, known, :2], table[row, known, 2] = places[known], 1
    return table


def packed_instances(split: Split, frame: Frame, side: int) -> np.ndarray:
    """The objects of a split, pixel by pixel, in the squares of its pictures: uint8 [V, P, P, 3].

    Of each pixel the class of the object that it is of, or `masks.CROWD`, or 255 where it is of none; and the number of
    that object in its square, from 0, as its lower and its upper byte. Where objects overlap the smallest is seen.
    """
    seen = views(split, frame, side)

    def squares(position: int, rows: Sequence[int]) -> Iterator[np.ndarray]:
        painted, labels, areas = _painted(split, position)
        for row in rows:
            scale = float(np.prod(frames.scale(seen.regions[row], side)))
            shown = frames.mask_into(painted, seen.regions[row], side, 0)
            yield _numbered(shown, labels, areas * scale)

    about = f"instances {split.dataset.info.digest}"
    key = _key(split.ids, about, Path(__file__), frame, side)
    return _cached(key, (len(seen.images), side, side, 3), seen, squares)


TARGETS: dict[Target, Callable[[Split, Frame, int], np.ndarray]] = {
    Target.LABEL: packed_labels,
    Target.GRADE: packed_labels,
    Target.IDENTITY: packed_labels,
    Target.LABELS: packed_label_sets,
    Target.NUMBERS: packed_numbers,
    Target.COUNTS: packed_counts,
    Target.POINTS: packed_points,
    Target.MASK: packed_masks,
    Target.OBJECTS: packed_objects,
    Target.INSTANCES: packed_instances,
}
"""What is learnt from the squares of a split, one entry per square."""


def cache() -> Path:
    """Where the arrays lie."""
    return shared() / "cache" / "packed"


def _objects_in(objects: np.ndarray, region: np.ndarray, side: int) -> np.ndarray:
    moved = objects.copy()
    moved[:, :4] = frames.boxes_into(objects[:, :4], region, side)
    whole = area(moved[:, :4])
    moved[:, :4] = clip(moved[:, :4], side, side)
    left = area(moved[:, :4]) / np.where(whole > 0, whole, 1)
    moved[left < VISIBLE, 5] = 1
    return moved[left > 0]


def _painted(split: Split, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which object each pixel of a picture is of, from 1, int32 [H, W]; of each its class or CROWD, and its area."""
    width, height = split.sizes[position].tolist()
    objects = split.objects(position)
    insides = [masks.of_runs(runs, width, height) for runs in split.runs(position)]
    areas = np.array([inside.sum() for inside in insides], np.float64)
    painted = np.zeros((height, width), np.int32)
    for place in np.argsort(-areas, kind="stable"):
        painted[insides[place]] = place + 1
    labels = np.where(objects[:, 5] > 0, masks.CROWD, objects[:, 4]).astype(np.uint8)
    return painted, labels, areas


def _numbered(shown: np.ndarray, labels: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """The objects of a square, numbered anew; those of which too little is seen are crowds: uint8 [P, P, 3]."""
    present, numbers, pixels = np.unique(shown, return_inverse=True, return_counts=True)
    table = np.full((len(present), 3), masks.VOID, np.uint8)
    for number, place in enumerate(present[present > 0] - 1):
        row = number + int(present[0] == 0)
        cut_off = pixels[row] < VISIBLE * areas[place]
        table[row] = masks.CROWD if cut_off else labels[place], number % 256, number // 256
    square: np.ndarray = table[numbers.reshape(shown.shape)]
    return square


def _key(ids: Sequence[str], about: str, code: Path, frame: Frame, side: int) -> str:
    """Of everything that the pixels depend on: which pictures, how many channels, which squares, which decoder."""
    digest = hashlib.sha256(code.read_bytes() + Path(frames.__file__).read_bytes())
    digest.update(f"{about} {frame.model_dump_json()} {side}".encode())
    for identity in ids:
        digest.update(bytes.fromhex(identity))
    return digest.hexdigest()[:24]


def _cached(key: str, shape: tuple[int, ...], seen: Views, squares: Squares) -> np.ndarray:
    """The array of that key; made picture by picture, if it is not there."""
    path = cache() / f"{key}.npy"
    while True:
        try:
            os.utime(path)
            array: np.ndarray = np.load(path, mmap_mode="r")
            return array
        except FileNotFoundError:  # nobody has made it, or another run has just taken its room
            _make(path, shape, seen, squares)


def _make(path: Path, shape: tuple[int, ...], seen: Views, squares: Squares) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size, step = int(np.prod(shape)), int(np.prod(shape[1:]))
    needed = size
    _make_room(path.parent, size)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.npy")
    firsts = np.searchsorted(seen.images, np.arange(len(seen.sizes) + 1))

    def work(positions: range) -> int:
        for position in positions:
            rows = range(firsts[position], firsts[position + 1])
            for row, square in zip(rows, squares(position, rows), strict=True):
                # Not assigned in a memory map: there a disk that fills up would kill the process with a bus error.
                if os.pwrite(file.fileno(), np.ascontiguousarray(square).data, start + row * step) < step:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(positions)

    try:
        header = np.lib.format.header_data_from_array_1_0(np.empty((0, *shape[1:]), np.uint8))
        header["shape"] = shape
        with temporary.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # others see that somebody is at work on it; the kernel frees it
            np.lib.format.write_array_header_1_0(file, header)
            start = file.tell()
            needed = start + size
            file.flush()
            if hasattr(os, "posix_fallocate"):  # room is claimed first: a full disk is told at once
                os.posix_fallocate(file.fileno(), start, max(1, size))
            else:
                file.truncate(start + size)
            images, threads = len(seen.sizes), cores()
            some = max(1, min(AT_ONCE, images // threads))
            with ThreadPoolExecutor(max_workers=threads) as pool, track("packing", images) as advance:
                for done in pool.map(work, (range(images)[begin : begin + some] for begin in range(0, images, some))):
                    advance(done)
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise explained(error, path, needed) from error
    finally:
        temporary.unlink(missing_ok=True)


def _make_room(folder: Path, needed: int) -> None:
    """Remove what killed runs have left half made, and the arrays longest unused: all but a few, and more where the
    disk is short. What another run is making stays."""
    used: dict[Path, float] = {}
    for path in folder.glob("*.npy"):
        with suppress(FileNotFoundError):  # another run removes them too
            if path.name.startswith("."):
                _remove_left(path)
            else:
                used[path] = path.stat().st_mtime
    oldest_first = sorted(used, key=used.__getitem__)
    while oldest_first and (len(oldest_first) >= KEPT or shutil.disk_usage(folder).free < 2 * needed):
        oldest_first.pop(0).unlink(missing_ok=True)


def _remove_left(temporary: Path) -> None:
    """Remove a half-made array, unless a run is at work on it: an empty one may be about to be locked."""
    with temporary.open("rb+") as file, suppress(BlockingIOError):  # NFS lets a writer alone have it to itself
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if temporary.stat().st_size:
            temporary.unlink()
