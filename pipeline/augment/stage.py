"""The stage `augment`: dataset and policy options -> the policy file, with a sheet that shows what it does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline import drawing
from pipeline.clashes import of_policy
from pipeline.contracts import PolicyConfig, Target, Transform
from pipeline.dataset import Dataset, DatasetInfo, Split
from pipeline.errors import UserError
from pipeline.files import replacing_folder, write_bytes, write_json
from pipeline.images import center_crop, encode_png
from pipeline.mosaics import Mosaics
from pipeline.packed import TARGETS, packed, views
from pipeline.params import AugmentParams
from pipeline.policy import Policy
from pipeline.transforms import SIDED, Augmenter, mirrors, resolve, sample_seed

SHEET_PICTURES = 8
SHEET_VARIANTS = 7
CELL = 160
GAP = 4


def run(params: AugmentParams, dataset: Dataset, out: Path) -> Policy:
    """Resolve the transforms, measure the training pictures, draw the preview.

    Raises:
        UserError: a transform does not exist, refuses its arguments, or gives pictures of another size.
    """
    options, channels, learns = params.augment, dataset.info.channels, Target[dataset.info.learns]
    check_shown(options, learns, dataset.info.task)
    transforms = options.transforms(learns.located)
    check_mirror(transforms, learns, dataset.info)
    spec = resolve(transforms, options.packed, options.size, channels, learns)
    train = dataset.split("train")
    pictures = packed(train, options.frame, options.packed)
    mean, deviation = moments(pictures)
    policy = Policy(
        channels=channels,
        frame=options.frame,
        packed=options.packed,
        size=options.size,
        mean=mean,
        deviation=deviation,
        transforms=spec,
        mosaic=options.mosaic,
        alternates=options.alternates,
    )
    with replacing_folder(out) as folder:
        write_json(folder / "policy.json", policy.model_dump(mode="json"))
        write_bytes(folder / "preview.png", encode_png(sheet(policy, train, learns)))
    noun = "transform" if len(transforms) == 1 else "transforms"
    print(
        f"augment: {options.size} px, {options.frame.name}, {len(transforms)} {noun}, "
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


def check_shown(options: PolicyConfig, learns: Target, task: str) -> None:
    """Refuse pictures that do not show what is to be learnt: `dvc repro` asks this stage alone.

    Raises:
        UserError: in the words of the door.
    """
    for words in of_policy(options, learns, task):
        raise UserError(f"params.yaml: {words}")


def check_mirror(transforms: Sequence[Transform], learns: Target, info: DatasetInfo) -> None:
    """Refuse a mirror where nobody has said what is left and what is right.

    Raises:
        UserError: pictures are mirrored, and left ones would be learnt as right ones.
    """
    if learns in SIDED and len(info.classes) > 1 and not info.mirrored and mirrors(transforms):
        few = ", ".join(info.classes[:4])
        raise UserError(
            f"params.yaml: augment mirrors pictures, and nobody has said which of the {len(info.classes)} points "
            f"({few}, ...) is the left one of a pair: in a mirror the left eye is a right one. Set task.mirror to "
            "pairs by name, to ibug68 for the 68 points of a face, or to none if each stays itself; or do not mirror "
            "(augment.flip: false)."
        )


def sheet(policy: Policy, train: Split, learns: Target) -> np.ndarray:
    """A row for each of a few training pictures: as evaluation sees it, then as training may see it.

    What is known of their pixels is drawn on them: boxes, and masks in the colours of their classes.

    Args:
        policy: what to draw.
        train: the training split.
        learns: what is known of it.

    Returns:
        uint8 [rows * (CELL + GAP), (1 + SHEET_VARIANTS) * (CELL + GAP), C], or with 3 channels where things are drawn.
    """
    augment, frame = Augmenter(policy.transforms, learns), policy.frame
    chosen = np.linspace(0, len(train) - 1, min(SHEET_PICTURES, len(train))).astype(int)
    varied, of_varied = packed(train, frame, policy.packed), TARGETS[learns](train, frame, policy.packed)
    few = train.at(chosen.tolist())  # as evaluation sees them these alone are made: it never sees training pictures
    mosaics = Mosaics(varied, of_varied, learns, policy.mosaic)
    plain, of_plain = packed(few, frame, policy.plain), TARGETS[learns](few, frame, policy.plain)
    # The first square of each: of tiles there are several, and of another side another number.
    firsts = np.searchsorted(views(train, frame, policy.packed).images, chosen).tolist()
    plain_firsts = np.searchsorted(views(few, frame, policy.plain).images, np.arange(len(few))).tolist()
    rows = []
    for view, seen, identity in zip(firsts, plain_firsts, few.ids, strict=True):
        shown = [(center_crop(plain[seen], policy.size), of_plain[seen])]
        seeds = [sample_seed(0, variant, identity) for variant in range(SHEET_VARIANTS)]
        shown += [augment(*mosaics.seen(view, seed), seed) for seed in seeds]
        cells = [_cell(drawing.annotated(pixels, target, learns, train.classes)) for pixels, target in shown]
        rows.append(np.concatenate(cells, axis=1))
    return np.concatenate(rows, axis=0)


def _cell(picture: np.ndarray) -> np.ndarray:
    channels = picture.shape[2]
    image = Image.fromarray(picture[:, :, 0] if channels == 1 else picture)
    shrinks = picture.shape[0] > CELL
    way = Image.Resampling.BILINEAR if shrinks else Image.Resampling.NEAREST
    resized = np.asarray(image.resize((CELL, CELL), way)).reshape(CELL, CELL, channels)
    return np.pad(resized, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


def _listed(values: list[float]) -> str:
    return "[" + ", ".join(f"{value:.3f}" for value in values) + "]"
