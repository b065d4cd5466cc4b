"""The one module that imports Albumentations, so that another library can take its place here.

Albumentations is pinned at 2.0.8, the last release under the MIT licence. Its own random streams are not used: it
gives every worker the same stream and repeats it each epoch. Here the randomness of a picture is a function of (run
seed, epoch, sample id) alone, so pixels are the same for any number of threads, any batch size and any resume point.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import random
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from pipeline.boxes import VISIBLE
from pipeline.contracts import Target, Transform
from pipeline.errors import UserError, did_you_mean
from pipeline.masks import VOID

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import asks the network for a newer version otherwise
# What makes tensors is not used, and imports torch, which would take half of the stage `augment`: not installed.
sys.modules["albumentations.pytorch"] = None  # type: ignore[assignment]
import albumentations  # noqa: E402

cv2.setNumThreads(0)  # our own threads share the processor; OpenCV's would fight them
cv2.ocl.setUseOpenCL(False)

MASK_64 = 2**64 - 1
EVEN = 0.5
"""The share of pictures that are mirrored, if mirrors alternate."""


def resolve(transforms: Sequence[Transform], packed: int, size: int, channels: int, carries: Target) -> dict[str, Any]:
    """Transforms by name, built, tried on a picture, and in Albumentations' own serialised form.

    Args:
        transforms: names and arguments; a transform that holds others takes them as {name, arguments} too.
        packed: P of the pictures that come in.
        size: S of the pictures that must come out.
        channels: C.
        carries: what goes with the pixels.

    Raises:
        UserError: no such transform, an argument that it refuses, or pictures of another shape come out.
    """
    compose = albumentations.Compose([_build(transform) for transform in transforms])
    spec: dict[str, Any] = albumentations.to_dict(compose)
    _forget_padding(spec["transform"])
    augmenter = Augmenter(spec, carries)
    for shade in (0, 128, 255):
        try:
            result, _ = augmenter(
                np.full((packed, packed, channels), shade, np.uint8), EXAMPLES[carries](packed), shade
            )
        except Exception as error:  # whatever a transform raises on these arguments
            raise UserError(
                f"params.yaml: augment: the transforms fail on a {packed} x {packed} picture with {channels} "
                f"channel(s): {' '.join(str(error).split())}"
            ) from error
        if result.shape != (size, size, channels) or result.dtype != np.uint8:
            raise UserError(
                f"params.yaml: augment: the transforms give {result.dtype} {list(result.shape)}, but the network "
                f"sees uint8 {[size, size, channels]}; end the list with one that crops or resizes to {size}."
            )
    return spec


def sample_seed(run_seed: int, epoch: int, sample_id: str) -> int:
    """128 bits that depend on all three and nothing else."""
    text = f"{run_seed}/{epoch}/{sample_id}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")


class Augmenter:
    """Serialised transforms, ready to run. Each thread needs its own."""

    def __init__(self, spec: dict[str, Any], carries: Target = Target.LABEL) -> None:
        self._compose = albumentations.from_dict(spec)
        if carries in PARAMETERS and self._compose.transforms:
            self._compose = albumentations.Compose(self._compose.transforms, **PARAMETERS[carries])
        _resize_from_corners(self._compose)
        flips = (each for each in self._compose.transforms if isinstance(each, albumentations.HorizontalFlip))
        self._flips = [flip for flip in flips if flip.p == EVEN]
        self._carry = CARRIERS[carries]
        self._bits = np.random.PCG64(0)
        self._random = random.Random(0)  # noqa: S311 (augmentation, not secrets)
        # Every transform holds these two objects, so reseeding them in place reseeds all. Measured on one transform:
        # 8 us a picture, against 27 us for `set_random_seed`, which builds two generators and walks the transforms.
        self._compose.set_random_state(np.random.Generator(self._bits), self._random)

    def __call__(
        self, pixels: np.ndarray, target: np.ndarray, seed: int, mirror: bool | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A picture and what is known of it, varied alike, by the seed.

        Args:
            pixels: uint8 [P, P, C].
            target: what is known of it.
            seed: 128 bits.
            mirror: whether a mirror from left to right that shows half of all pictures shows this one; None: by chance.

        Returns:
            uint8 [S, S, C], and what is known of that.
        """
        for flip in self._flips:
            flip.p = EVEN if mirror is None else float(mirror)
        self._random.seed(seed)
        self._bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": seed, "inc": (seed >> 64 | seed << 64) & (MASK_64 << 64 | MASK_64) | 1},
            "has_uint32": 0,
            "uinteger": 0,
        }
        return self._carry(self._compose, pixels, target)


Carrier = Callable[[Any, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
BOXES = albumentations.BboxParams(format="pascal_voc", label_fields=["rows"], min_visibility=VISIBLE, clip=True)
"""A box of which too little is left is dropped, one that is partly left is cut: see `pipeline.boxes`."""


def _alone(compose: Any, pixels: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is known of a picture as a whole does not move."""
    return compose(image=pixels)["image"], target


def _with_mask(compose: Any, pixels: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mask uint8 [P, P] moves by nearest neighbours; what comes in from outside is void."""
    moved = compose(image=pixels, mask=target)
    return moved["image"], moved["mask"]


def _with_objects(compose: Any, pixels: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float32 [M, 6] move; those that are gone leave rows of class -1 at the end."""
    if not compose.transforms:
        return pixels, target
    real = target[target[:, 4] >= 0]
    moved = compose(image=pixels, bboxes=real[:, :4], rows=np.arange(len(real)))
    table = np.full_like(target, -1)
    boxes = np.asarray(moved["bboxes"], np.float32).reshape(-1, 4)
    table[: len(boxes), :4] = boxes
    table[: len(boxes), 4:] = real[np.asarray(moved["rows"], np.int64).reshape(-1), 4:]
    return moved["image"], table


def _with_points(compose: Any, pixels: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points float32 [J, 4] move, those that leave the picture too; in a mirror each becomes its partner.

    Whether the picture is mirrored is seen by three places that move along: they turn the other way round then. To
    Albumentations the middle of the first pixel is 0, and to us half a pixel.
    """
    if not compose.transforms:
        return pixels, target
    moved = compose(image=pixels, keypoints=np.concatenate([target[:, :2], CORNER]) - 0.5)
    places = np.asarray(moved["keypoints"], np.float32).reshape(-1, 2) + 0.5
    along, down = places[-2:] - places[-3]
    table = target.copy()
    table[:, :2] = places[:-3] * target[:, 2:3]
    if along[0] * down[1] - along[1] * down[0] < 0:
        table = table[target[:, 3].astype(np.int64)]
        table[:, 3] = target[:, 3]
    return moved["image"], table


def _resize_from_corners(compose: Any) -> None:
    """Have the transforms that resize do so from the corner of the first pixel, as they do with its picture.

    Of points they take its middle for it, unlike all others. (Measured with dots painted at points: a picture enlarged
    from 65 to 130 pixels puts them half a pixel beside the dots.)
    """
    for transform in compose.transforms:
        if isinstance(transform, albumentations.BaseCompose):
            _resize_from_corners(transform)
        elif isinstance(transform, RESIZING):
            transform._key2func["keypoints"] = functools.partial(_from_corner, transform.apply_to_keypoints)


def _from_corner(move: Callable[..., np.ndarray], points: np.ndarray, **how: Any) -> np.ndarray:
    half = np.zeros(points.shape[1], points.dtype)
    half[:2] = 0.5
    moved: np.ndarray = move(points + half, **how) - half
    return moved


RESIZING = (
    *(albumentations.Resize, albumentations.RandomScale, albumentations.LongestMaxSize, albumentations.SmallestMaxSize),
    *(albumentations.RandomResizedCrop, albumentations.RandomSizedCrop, albumentations.CropAndPad),
    albumentations.RandomSizedBBoxSafeCrop,
)
MIRRORING = frozenset({"HorizontalFlip", "VerticalFlip", "Transpose", "D4", "SquareSymmetry"})
"""Names of transforms that turn left into right."""
SIDED = frozenset({Target.POINTS})
"""Kinds of what is learnt of which a left one is a right one in a mirror."""
CORNER = np.array([[0, 0], [8, 0], [0, 8]], np.float32)
"""A place, and one to the right of it and one below it."""
CARRIERS: dict[Target, Carrier] = {
    Target.LABEL: _alone,
    Target.GRADE: _alone,
    Target.LABELS: _alone,
    Target.NUMBERS: _alone,
    Target.COUNTS: _alone,
    Target.IDENTITY: _alone,
    Target.POINTS: _with_points,
    Target.MASK: _with_mask,
    Target.INSTANCES: _with_mask,
    Target.OBJECTS: _with_objects,
}
"""How what is learnt goes with the pixels, for each kind of it."""
PARAMETERS: dict[Target, dict[str, Any]] = {
    Target.OBJECTS: {"bbox_params": BOXES},
    Target.POINTS: {"keypoint_params": albumentations.KeypointParams(format="xy", remove_invisible=False)},
}
"""What Albumentations is told of it."""
EXAMPLES: dict[Target, Callable[[int], np.ndarray]] = {
    **dict.fromkeys(Target, lambda side: np.zeros((), np.int64)),  # noqa: ARG005
    Target.POINTS: lambda side: np.array([[side / 2, side / 2, 1, 0]], np.float32),
    Target.MASK: lambda side: np.zeros((side, side), np.uint8),
    Target.INSTANCES: lambda side: np.zeros((side, side, 3), np.uint8),
    Target.OBJECTS: lambda side: np.array([[0, 0, side, side, 0, 0]], np.float32),
}
"""Something to try transforms on, by the side of the picture."""


def _build(transform: Transform) -> Any:
    known = [name for name in dir(albumentations) if _is_transform(getattr(albumentations, name))]
    if transform.name not in known:
        raise UserError(
            f"params.yaml: augment: Albumentations {albumentations.__version__} has no transform named "
            f"{transform.name!r}.{did_you_mean(transform.name, known)}"
        )
    kind, arguments = getattr(albumentations, transform.name), dict(transform.arguments)
    if isinstance(nested := arguments.get("transforms"), list):  # OneOf, SomeOf, Sequential
        arguments["transforms"] = [_build(Transform.model_validate(inner)) for inner in nested]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # an unknown argument is only a warning there
            return kind(**_voided(kind, arguments))
    except Exception as error:  # its validation raises several kinds
        raise UserError(
            f"params.yaml: augment: {transform.name} refuses {arguments}: {' '.join(str(error).split())}"
        ) from error


def _forget_padding(spec: dict[str, Any]) -> None:
    """Take out of a serialised transform what Albumentations puts in and warns of when it reads it again."""
    if spec["__class_fullname__"] == "PadIfNeeded":
        spec.pop("padding", None)
    for inner in spec.get("transforms", ()):
        _forget_padding(inner)


def mirrors(transforms: Sequence[Transform]) -> bool:
    """Whether any of them, or of those within them, turns left into right."""
    return any(
        transform.name in MIRRORING
        or mirrors([Transform.model_validate(inner) for inner in transform.arguments.get("transforms", ())])
        for transform in transforms
    )


def _voided(kind: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments with which what comes into a mask from outside of it is void, and not of the first class."""
    accepted = inspect.signature(kind.__init__).parameters.get("fill_mask")
    if accepted is None or accepted.default is None or "fill_mask" in arguments:
        return arguments
    return {**arguments, "fill_mask": VOID}


def _is_transform(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(
        candidate, albumentations.BasicTransform | albumentations.BaseCompose
    )
