"""The stage `augment`: dataset and policy options -> the policy file, with a sheet that shows what it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.dataset import Dataset, Split
from pipeline.files import replacing_folder, write_bytes, write_json
from pipeline.images import center_crop, encode_png
from pipeline.packed import packed
from pipeline.params import AugmentParams
from pipeline.policy import Policy
from pipeline.transforms import Augmenter, resolve, sample_seed

SHEET_PICTURES = 8
SHEET_VARIANTS = 7
CELL = 96
GAP = 4


def run(params: AugmentParams, dataset: Dataset, out: Path) -> Policy:
    """Resolve the transforms, measure the training pictures, draw the preview.

    Raises:
        UserError: a transform does not exist, refuses its arguments, or gives pictures of another size.
    """
    channels, side, size = dataset.info.channels, params.augment.packed, params.augment.size
    spec = resolve(params.augment.transforms(), side, size, channels)
    train = dataset.split("train")
    pictures = packed(train, side)
    mean, deviation = moments(pictures)
    policy = Policy(channels=channels, packed=side, size=size, mean=mean, deviation=deviation, transforms=spec)
    with replacing_folder(out) as folder:
        write_json(folder / "policy.json", policy.model_dump(mode="json"))
        write_bytes(folder / "preview.png", encode_png(sheet(policy, train, pictures)))
    print(
        f"augment: {params.augment.size} px, {len(params.augment.transforms())} transforms, "
        f"mean {_listed(mean)}, deviation {_listed(deviation)}"
    )
    return policy


def moments(pictures: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in 0..1, from exact integer sums.

    Args:
        pictures: uint8 [N, P, P, C].

    Returns:
        C means and C deviations. A channel that never changes has deviation 1, so that it can be divided by.
    """
    channels = pictures.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for picture in pictures:  # one at a time: the array may be larger than memory
        for channel in range(channels):
            counts[channel] += np.bincount(picture[:, :, channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ levels
    deviation = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0))
    return [round(float(m), 6) for m in mean], [round(float(d), 6) or 1.0 for d in deviation]


def sheet(policy: Policy, split: Split, pictures: np.ndarray) -> np.ndarray:
    """A row for each of a few training pictures: as evaluation sees it, then as training may see it.

    Args:
        policy: what to draw.
        split: the training split.
        pictures: its packed pictures, uint8 [N, P, P, C].

    Returns:
        uint8 [rows * (CELL + GAP), (1 + SHEET_VARIANTS) * (CELL + GAP), C].
    """
    augment = Augmenter(policy.transforms)
    rows = []
    for position in np.linspace(0, len(split) - 1, min(SHEET_PICTURES, len(split))).astype(int):
        variants = [center_crop(pictures[position], policy.size)]
        variants += [
            augment(pictures[position], sample_seed(0, variant, split.ids[position]))
            for variant in range(SHEET_VARIANTS)
        ]
        rows.append(np.concatenate([_cell(variant) for variant in variants], axis=1))
    return np.concatenate(rows, axis=0)


def _cell(picture: np.ndarray) -> np.ndarray:
    channels = picture.shape[2]
    image = Image.fromarray(picture[:, :, 0] if channels == 1 else picture)
    enlarged = np.asarray(image.resize((CELL, CELL), Image.Resampling.NEAREST)).reshape(CELL, CELL, channels)
    return np.pad(enlarged, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


def _listed(values: list[float]) -> str:
    return "[" + ", ".join(f"{value:.3f}" for value in values) + "]"
