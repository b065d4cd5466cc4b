"""The one module that imports Albumentations, so that another library can take its place here.

Albumentations is pinned at 2.0.8, the last release under the MIT licence. Its own random streams are not used: it
gives every worker the same stream and repeats it each epoch. Here the randomness of a picture is a function of (run
seed, epoch, sample id) alone, so pixels are the same for any number of threads, any batch size and any resume point.
"""

from __future__ import annotations

import hashlib
import os
import random
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import asks the network for a newer version otherwise
import albumentations
import cv2

from pipeline.contracts import Transform
from pipeline.errors import UserError, did_you_mean

cv2.setNumThreads(0)  # our own threads share the processor; OpenCV's would fight them
cv2.ocl.setUseOpenCL(False)

MASK_64 = 2**64 - 1


def resolve(transforms: Sequence[Transform], packed: int, size: int, channels: int) -> dict[str, Any]:
    """Transforms by name, built, tried on a picture, and in Albumentations' own serialised form.

    Args:
        transforms: names and arguments; a transform that holds others takes them as {name, arguments} too.
        packed: P of the pictures that come in.
        size: S of the pictures that must come out.
        channels: C.

    Raises:
        UserError: no such transform, an argument that it refuses, or pictures of another shape come out.
    """
    compose = albumentations.Compose([_build(transform) for transform in transforms])
    spec: dict[str, Any] = albumentations.to_dict(compose)
    augmenter = Augmenter(spec)
    for shade in (0, 128, 255):
        try:
            result = augmenter(np.full((packed, packed, channels), shade, np.uint8), seed=shade)
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

    def __init__(self, spec: dict[str, Any]) -> None:
        self._compose = albumentations.from_dict(spec)
        self._bits = np.random.PCG64(0)
        self._random = random.Random(0)  # noqa: S311 (augmentation, not secrets)
        # Every transform holds these two objects, so reseeding them in place reseeds all. Measured on one transform:
        # 8 us a picture, against 27 us for `set_random_seed`, which builds two generators and walks the transforms.
        self._compose.set_random_state(np.random.Generator(self._bits), self._random)

    def __call__(self, pixels: np.ndarray, seed: int) -> np.ndarray:
        """uint8 [P, P, C] to uint8 [S, S, C], the same for the same seed."""
        self._random.seed(seed)
        self._bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": seed, "inc": (seed >> 64 | seed << 64) & (MASK_64 << 64 | MASK_64) | 1},
            "has_uint32": 0,
            "uinteger": 0,
        }
        result: np.ndarray = self._compose(image=pixels)["image"]
        return result


def _build(transform: Transform) -> Any:
    known = [name for name in dir(albumentations) if _is_transform(getattr(albumentations, name))]
    if transform.name not in known:
        raise UserError(
            f"params.yaml: augment: Albumentations {albumentations.__version__} has no transform named "
            f"{transform.name!r}.{did_you_mean(transform.name, known)}"
        )
    arguments = dict(transform.arguments)
    if isinstance(nested := arguments.get("transforms"), list):  # OneOf, SomeOf, Sequential
        arguments["transforms"] = [_build(Transform.model_validate(inner)) for inner in nested]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # an unknown argument is only a warning there
            return getattr(albumentations, transform.name)(**arguments)
    except Exception as error:  # its validation raises several kinds
        raise UserError(
            f"params.yaml: augment: {transform.name} refuses {arguments}: {' '.join(str(error).split())}"
        ) from error


def _is_transform(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(
        candidate, albumentations.BasicTransform | albumentations.BaseCompose
    )
