"""Every file in pipeline/policies/ meets one contract: the transforms exist, and do what the options say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.contracts import PolicyConfig, Target
from pipeline.errors import UserError
from pipeline.plugin import config_class, names
from pipeline.transforms import Augmenter, resolve

NEEDED: dict[str, dict[str, Any]] = {
    "custom": {"transforms": [{"name": "RandomCrop", "arguments": {"height": 32, "width": 32}}], "from_size": 40}
}
PLAIN = {"smallest_crop": 1.0, "flip": False, "brightness": 0.0, "contrast": 0.0}
"""Of `standard` and `strong`: nothing but the crop is left."""


def policy(name: str, **options: object) -> PolicyConfig:
    return config_class("policies", name).model_validate({"size": 32, **NEEDED.get(name, {}), **options})


NOTHING = np.zeros((), np.int64)
"""What goes with the pixels here; what moves with them is in tests/test_geometry.py."""


def augmenter(part: PolicyConfig, channels: int) -> Callable[[np.ndarray, int], np.ndarray]:
    augment = Augmenter(resolve(part.transforms(located=False), part.packed, part.size, channels, Target.LABEL))
    return lambda pixels, seed: augment(pixels, NOTHING, seed)[0]


def picture(side: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(side, side, channels), dtype=np.uint8)


def varied(part: PolicyConfig, pixels: np.ndarray, count: int = 40) -> list[np.ndarray]:
    augment = augmenter(part, pixels.shape[2])
    return [augment(pixels, seed) for seed in range(count)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", names("policies"))
def test_pictures_come_out_as_the_network_takes_them(name: str, channels: int) -> None:
    part = policy(name)
    assert part.packed >= part.size == 32
    for pixels in varied(part, picture(part.packed, channels)):
        assert pixels.shape == (32, 32, channels)
        assert pixels.dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", names("policies"))
def test_the_same_seed_gives_the_same_pixels_in_any_order(name: str, channels: int) -> None:
    part = policy(name)
    augment, pixels = augmenter(part, channels), picture(part.packed, channels)
    forward = [augment(pixels, seed) for seed in range(30)]
    backward = [augment(pixels, seed) for seed in reversed(range(30))][::-1]
    assert all(np.array_equal(one, other) for one, other in zip(forward, backward, strict=True))


@pytest.mark.parametrize("name", sorted(set(names("policies")) - {"none"}))
def test_pictures_vary(name: str) -> None:
    part = policy(name)
    assert len({pixels.tobytes() for pixels in varied(part, picture(part.packed, 3))}) > 20


@pytest.mark.parametrize("size", [8, 28, 97, 224])
@pytest.mark.parametrize("name", sorted(set(names("policies")) - {"custom"}))
def test_any_size_will_do(name: str, size: int) -> None:
    part = policy(name, size=size)
    assert augmenter(part, 3)(picture(part.packed, 3), seed=1).shape == (size, size, 3)


@pytest.mark.parametrize("size", [0, -32, 5000])
@pytest.mark.parametrize("name", names("policies"))
def test_sizes_that_make_no_picture_are_refused(name: str, size: int) -> None:
    with pytest.raises(ValidationError, match="size"):
        policy(name, size=size)


def test_none_leaves_a_picture_as_it_is() -> None:
    pixels = picture(32, 3)
    assert policy("none").packed == 32
    assert np.array_equal(varied(policy("none"), pixels, 1)[0], pixels)


def test_light_shifts_no_further_than_it_says() -> None:
    pixels = np.zeros((40, 40, 1), np.uint8)
    pixels[18:22, 18:22] = 255
    moves = []
    for shifted in varied(policy("light", size=40, shift=0.1, scale=0, rotate=0), pixels, 100):
        rows, columns = np.nonzero(shifted[:, :, 0])
        moves += [np.average(axis, weights=shifted[rows, columns, 0]) - 19.5 for axis in (rows, columns)]
    assert set(np.abs(moves)) == {0, 1, 2, 3}  # whole pixels, less than 4 of them
    assert {3, -3} <= set(moves)


def test_light_turns_no_further_than_it_says() -> None:
    pixels = np.zeros((65, 65, 1), np.uint8)
    pixels[31:34, 8:57] = 255
    turns = []
    for turned in varied(policy("light", size=65, shift=0, scale=0, rotate=10), pixels, 100):
        rows, columns = np.nonzero(turned[:, :, 0] > 128)
        turns.append(np.degrees(np.arctan(np.polyfit(columns, rows, 1)[0])))
    assert max(map(abs, turns)) <= 10.5
    assert max(turns) > 7
    assert min(turns) < -7


@pytest.mark.parametrize("shade", [0, 255])
def test_light_brings_no_border_of_another_colour(shade: int) -> None:
    pixels = np.full((32, 32, 3), shade, np.uint8)
    assert all((moved == shade).all() for moved in varied(policy("light"), pixels))


@pytest.mark.parametrize(("size", "packed"), [(224, 256), (32, 37), (8, 9)])
@pytest.mark.parametrize("name", ["standard", "strong"])
def test_pictures_are_kept_an_eighth_larger(name: str, size: int, packed: int) -> None:
    assert policy(name, size=size).packed == packed


def test_standard_without_its_changes_only_resizes() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 64)[None, :, None], (64, 64, 3)).astype(np.uint8)
    part = policy("standard", size=56, **PLAIN)
    for pixels in varied(part, ramp, 10):
        assert np.allclose(pixels[:, :, 0], np.linspace(0, 255, 56)[None], atol=3)


def test_standard_mirrors_half_of_the_pictures() -> None:
    ramp = np.broadcast_to(np.arange(64)[None, :, None] * 4, (64, 64, 1)).astype(np.uint8)
    seen = varied(policy("standard", size=56, **{**PLAIN, "flip": True}), ramp, 200)
    mirrored = sum(pixels[0, 0, 0] > pixels[0, -1, 0] for pixels in seen)
    assert 70 <= mirrored <= 130  # 100 +- 4 deviations of a fair coin


@pytest.mark.parametrize("name", ["standard", "strong"])
def test_flip_false_never_mirrors(name: str) -> None:
    ramp = np.broadcast_to(np.arange(64)[None, :, None] * 4, (64, 64, 1)).astype(np.uint8)
    part = policy(name, size=56, flip=False, **({"holes": False} if name == "strong" else {}))
    for pixels in varied(part, ramp, 100):
        assert pixels[:, -8:].mean() > pixels[:, :8].mean()


def test_shifted_moves_by_whole_pixels_and_continues_by_the_mirror_image() -> None:
    pixels = picture(32, 3)
    framed = np.pad(pixels, ((3, 3), (3, 3), (0, 0)), mode="reflect")
    places = {framed[y : y + 32, x : x + 32].tobytes(): (y, x) for y in range(7) for x in range(7)}
    seen = [places[shifted.tobytes()] for shifted in varied(policy("shifted", shift=3, flip=False), pixels, 300)]
    assert set(seen) >= {(0, 0), (0, 6), (6, 0), (6, 6), (3, 3)}  # 300 of 49 places: one is left out 1 in 400 times
    located = policy("shifted", shift=3).transforms(located=True)[0].arguments
    assert located["border_mode"] == 0  # nothing may be shown twice where things have places


def test_shifted_leaves_something_in_sight() -> None:
    with pytest.raises(ValidationError, match="shift is 32, and a picture has only 32 pixels; lower it"):
        policy("shifted", shift=32)


@pytest.mark.parametrize("name", ["standard", "strong", "shifted", "mosaic"])
def test_mirrors_are_by_chance_or_alternate_or_are_not(name: str) -> None:
    def mirror(flip: object) -> tuple[bool, bool]:
        made = policy(name, flip=flip)
        return made.alternates, any(each.name == "HorizontalFlip" for each in made.transforms(located=False))

    assert [mirror(flip) for flip in (True, "alternating", False)] == [(False, True), (True, True), (False, False)]
    with pytest.raises(ValidationError, match="Input should be True, False or 'alternating'"):
        policy(name, flip="sometimes")
    assert not policy("none").alternates


def test_erase_covers_a_rectangle_of_some_pictures() -> None:
    grey = np.full((32, 32, 3), 60, np.uint8)
    covered = np.stack(varied(policy("shifted", shift=0, erase=0.5), grey, 200)) != 60
    shares = covered.any(axis=3).mean(axis=(1, 2))
    assert 70 <= (shares > 0).sum() <= 130  # 100 +- 4 deviations of a fair coin
    assert 0.015 < shares[shares > 0].min() < shares.max() < 0.32
    assert not [each for each in policy("standard").transforms(located=False) if each.name == "Erasing"]


def test_strong_leaves_grey_grey() -> None:
    pixels = np.repeat(picture(37, 1), 3, axis=2)
    for changed in varied(policy("strong", holes=False), pixels):
        assert np.ptp(changed.astype(int), axis=2).max() <= 1


def test_strong_changes_colours_and_covers_patches_only_when_told() -> None:
    plain = {**PLAIN, "rotate": 0}
    red = np.zeros((37, 37, 3), np.uint8)
    red[:, :, 0] = 200
    assert all(
        (pixels == red[:32, :32]).all() for pixels in varied(policy("strong", colour=0, holes=False, **plain), red)
    )
    coloured = varied(policy("strong", holes=False, **plain), red)
    assert len({tuple(pixels[16, 16]) for pixels in coloured}) > 5
    covered = [np.ptp(pixels, axis=(0, 1)).max() > 0 for pixels in varied(policy("strong", colour=0, **plain), red)]
    assert 2 <= sum(covered) <= 20  # a quarter of 40


def test_custom_passes_its_transforms_on() -> None:
    part = policy("custom", transforms=[{"name": "VerticalFlip", "arguments": {"p": 1.0}}], from_size=None)
    pixels = picture(32, 3)
    assert part.packed == 32
    assert np.array_equal(varied(part, pixels, 1)[0], pixels[::-1])


def test_custom_must_end_at_the_size_of_the_network() -> None:
    part = policy("custom", transforms=[{"name": "VerticalFlip"}])
    with pytest.raises(UserError, match="end the list with one that crops or resizes to 32"):
        augmenter(part, 3)


def test_custom_cannot_start_smaller_than_it_ends() -> None:
    with pytest.raises(ValidationError, match="from_size is 24, which is less than size, 32; raise it or leave it out"):
        policy("custom", from_size=24)
