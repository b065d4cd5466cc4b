"""The augmentation backend: randomness is a function of (seed, epoch, sample), whatever ran before and wherever."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.contracts import Target, Transform
from pipeline.errors import UserError
from pipeline.transforms import Augmenter, resolve, sample_seed

RANDOM = [
    Transform(name="Affine", arguments={"translate_percent": [-0.1, 0.1], "rotate": [-20, 20]}),
    Transform(
        name="OneOf",
        arguments={
            "transforms": [
                {"name": "GaussNoise", "arguments": {"p": 1.0}},
                {"name": "CoarseDropout", "arguments": {"p": 1.0}},
            ],
            "p": 0.8,
        },
    ),
    Transform(name="HorizontalFlip"),
]


@pytest.fixture(scope="module")
def spec():
    return resolve(RANDOM, packed=24, size=24, channels=3, carries=Target.LABEL)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), dtype=np.uint8)


def augmented(spec, pictures, order, epoch=0):
    augment = Augmenter(spec)
    return {i: augment(pictures[i], np.array(i), sample_seed(7, epoch, f"id{i}"))[0].copy() for i in order}


def test_pixels_do_not_depend_on_what_was_augmented_before(spec, pictures):
    forwards = augmented(spec, pictures, range(40))
    backwards = augmented(spec, pictures, reversed(range(40)))
    alone = {i: augmented(spec, pictures, [i])[i] for i in range(5)}
    assert all(np.array_equal(forwards[i], backwards[i]) for i in range(40))
    assert all(np.array_equal(forwards[i], alone[i]) for i in alone)


def test_threads_do_not_share_randomness(spec, pictures):
    expected = augmented(spec, pictures, range(40))
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda start: augmented(spec, pictures, range(start, 40, 4)), range(4)))
    assert all(np.array_equal(part[i], expected[i]) for part in parts for i in part)


def test_epochs_and_samples_differ(spec, pictures):
    same = np.repeat(pictures[:1], 40, axis=0)
    first, second = augmented(spec, same, range(40)), augmented(spec, same, range(40), epoch=1)
    assert sum(np.array_equal(first[i], second[i]) for i in range(40)) < 3
    assert len({first[i].tobytes() for i in range(40)}) > 35


def test_sample_seeds_are_spread():
    seeds = {sample_seed(seed, epoch, "a" * 64) for seed in range(50) for epoch in range(50)}
    assert len(seeds) == 2500
    assert abs(np.mean([seed >> 127 for seed in seeds]) - 0.5) < 0.05


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        ([Transform(name="HorizontlFlip")], "no transform named 'HorizontlFlip'. Did you mean 'HorizontalFlip'?"),
        ([Transform(name="os")], "no transform named 'os'"),
        ([Transform(name="GaussNoise", arguments={"sigma": 3})], "GaussNoise refuses {'sigma': 3}"),
        ([Transform(name="RandomCrop", arguments={"height": 8, "width": 8})], r"the network sees uint8 \[24, 24, 3\]"),
        ([Transform(name="RandomCrop", arguments={"height": 80, "width": 80})], "the transforms fail on a 24 x 24"),
    ],
)
def test_what_cannot_work_is_said_at_once(transforms, words):
    with pytest.raises(UserError, match=words.replace("{", r"\{").replace("}", r"\}").replace("?", r"\?")):
        resolve(transforms, packed=24, size=24, channels=3, carries=Target.LABEL)


def test_a_mirror_can_be_said_from_outside():
    spec = resolve([Transform(name="HorizontalFlip")], packed=24, size=24, channels=1, carries=Target.LABEL)
    pixels, known, augment = np.arange(576, dtype=np.uint8).reshape(24, 24, 1), np.array(0), Augmenter(spec)
    for seed in range(5):
        assert np.array_equal(augment(pixels, known, seed, mirror=True)[0], pixels[:, ::-1])
        assert np.array_equal(augment(pixels, known, seed, mirror=False)[0], pixels)
    by_chance = [np.array_equal(augment(pixels, known, seed)[0], pixels) for seed in range(40)]
    assert 8 <= sum(by_chance) <= 32  # and half again, when nobody says


def test_what_albumentations_would_warn_of_is_not_written_down():
    framed = {"name": "PadIfNeeded", "arguments": {"min_height": 24, "min_width": 24}}
    outer = Transform(name="Sequential", arguments={"transforms": [framed], "p": 1.0})
    spec = resolve([outer], packed=24, size=24, channels=1, carries=Target.LABEL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Augmenter(spec)
