"""From encoded bytes to pixels: what differs between decoders is settled, and what is damaged is refused."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.contracts import Frame
from pipeline.frames import regions
from pipeline.images import FORMATS, ImageError, center_crop, cut, decode, decode_accepted, encode_png, examine

DATA = Path(__file__).parents[2] / "shared" / "data"
RAMP = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4) * 10  # [H=6, W=4]
COLOURS = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=2)


def saved(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("form", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("WEBP", {"lossless": True})]
)
def test_lossless_formats_give_the_pixels_that_went_in(form: str, options: dict[str, Any]):
    data = saved(Image.fromarray(COLOURS), form, **options)
    np.testing.assert_array_equal(decode(data, 3), COLOURS)
    assert examine(data)[:3] == (4, 6, False)


def test_every_format_that_the_errors_name_is_read():
    for form in FORMATS:
        data = saved(Image.fromarray(RAMP), form)
        assert examine(data)[:2] == (4, 6)
        assert np.abs(decode(data, 1)[:, :, 0].astype(int) - RAMP).max() <= 8  # JPEG and WebP lose a little


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int):
    # the matrix that each value of the EXIF tag asks for, by its definition (row 0 / column 0 of what is stored)
    wanted = {
        1: COLOURS, 2: COLOURS[:, ::-1], 3: COLOURS[::-1, ::-1], 4: COLOURS[::-1],
        5: COLOURS.swapaxes(0, 1), 6: np.rot90(COLOURS, -1),
        7: np.rot90(COLOURS, 2).swapaxes(0, 1), 8: np.rot90(COLOURS),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(COLOURS), exif=exif)
    np.testing.assert_array_equal(decode(data, 3), wanted)
    facts = examine(data)
    assert (facts.height, facts.width) == wanted.shape[:2]


def test_a_damaged_exif_block_is_an_image_error_or_ignored():
    whole = saved(Image.fromarray(noise(32, 32)), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    try:
        assert decode(whole, 3).shape == (32, 32, 3)
    except ImageError:
        pass


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_to_eight(form: str):
    wide = np.array([[0, 128, 129, 257], [1000, 32768, 65406, 65535]], dtype=np.uint16)
    data = saved(Image.fromarray(wide), form)
    # v / 257 to the nearest: 128/257 = 0.498, 129/257 = 0.502, 1000/257 = 3.89, 32768/257 = 127.502
    np.testing.assert_array_equal(decode(data, 1)[:, :, 0], [[0, 0, 1, 1], [4, 128, 254, 255]])
    np.testing.assert_array_equal(decode(data, 3)[:, :, 2], [[0, 0, 1, 1], [4, 128, 254, 255]])
    assert examine(data).grey


def test_sixteen_bits_in_the_other_byte_order():
    wide = np.array([[0, 257, 65535]], dtype=">u2")
    tiff = struct.pack(">2sHI H", b"MM", 42, 8, 8)
    tags = [(256, 3, 3 << 16), (257, 3, 1 << 16), (258, 3, 16 << 16), (259, 3, 1 << 16)]
    tags += [(262, 3, 1 << 16), (273, 4, 200), (278, 3, 1 << 16), (279, 4, 6)]
    tiff += b"".join(struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in tags) + bytes(4)
    data = tiff.ljust(200, b"\0") + wide.tobytes()
    np.testing.assert_array_equal(decode(data, 1)[:, :, 0], [[0, 1, 255]])


def test_a_palette_is_resolved():
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for form in ("PNG", "GIF"):
        pixels = decode(saved(picture, form), 3)
        assert pixels.tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]]
        assert not examine(saved(picture, form)).grey


def test_transparency_lies_on_white():
    clear = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [100, 0, 0, 128]]], np.uint8)
    # half of red 100 on white: 100*128/255 + 255*127/255 = 177.2, and 0 + 127 for the others
    assert decode(saved(Image.fromarray(clear)), 3).tolist() == [[[10, 20, 30], [255, 255, 255], [177, 127, 127]]]
    grey = np.array([[[50, 255], [50, 0]]], np.uint8)
    assert decode(saved(Image.fromarray(grey, "LA")), 1)[:, :, 0].tolist() == [[50, 255]]
    assert examine(saved(Image.fromarray(grey, "LA"))).grey
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([9, 9, 9, 200, 0, 0])
    assert decode(saved(palette, transparency=1), 3).tolist() == [[[9, 9, 9], [255, 255, 255]]]


def test_cmyk_becomes_rgb():
    ink = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)
    pixels = decode(saved(Image.fromarray(ink, "CMYK"), "TIFF"), 3)
    assert pixels.tolist() == [[[255, 255, 255], [0, 255, 255], [0, 0, 0]]]
    assert decode(saved(Image.fromarray(np.tile(ink, (8, 8, 1)), "CMYK"), "JPEG"), 3).shape == (8, 24, 3)


def test_one_bit_and_one_channel():
    bits = Image.fromarray(np.array([[0, 255, 255]], np.uint8)).convert("1")
    assert decode(saved(bits), 1)[:, :, 0].tolist() == [[0, 255, 255]]
    assert examine(saved(bits)).grey
    # grey of a colour, ITU-R 601-2: 0.299 R + 0.587 G + 0.114 B of (200, 100, 50) = 124.2
    assert decode(saved(Image.new("RGB", (1, 1), (200, 100, 50))), 1).tolist() == [[[124]]]
    assert decode(saved(Image.new("L", (1, 1), 77)), 3).tolist() == [[[77, 77, 77]]]


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, 3)[0, 0].tolist() == [255, 0, 0]


def test_floating_point_is_refused():
    with pytest.raises(ImageError, match="floating-point pixels have no agreed range; save the picture as 8 or 16 bit"):
        examine(saved(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM"])
def test_a_picture_cut_anywhere_is_refused(form: str):
    data = saved(Image.fromarray(noise(40, 60)), form)
    end = len(data) - {"JPEG": 2, "PNG": 24, "WEBP": 1, "TIFF": 200}.get(form, 0)  # checksums, tags: no pixels
    lengths = {*range(1, 40), *(end * k // 60 for k in range(1, 60)), end - 1}
    survivors = []
    for length in sorted(lengths):
        try:
            examine(data[:length])
            survivors.append(length)
        except ImageError as error:
            assert str(error).startswith(("not a picture", "damaged: "))
    assert survivors == []


def test_flipped_bits_raise_nothing_but_image_errors():
    rng = random.Random(0)
    for form in FORMATS:
        whole = saved(Image.fromarray(noise(24, 24)), form)
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(3):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            try:
                assert examine(bytes(data)).width > 0
            except ImageError:
                pass


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"hello, this is a text\n" * 100, r"not a picture \(JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM are read\)"),
        (b"<!DOCTYPE html><html></html>", "not a picture"),
        (b"\x00" * 1000, "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),  # Pillow would run Ghostscript
    ],
)
def test_what_is_no_picture(data: bytes, words: str):
    for look in (examine, lambda data: decode(data, 3)):
        with pytest.raises(ImageError, match=words):
            look(data)


@pytest.mark.parametrize(("width", "height"), [(30_001, 1), (1, 30_001), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_huge_pictures_are_refused_before_they_are_decoded(width: int, height: int):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )
    with pytest.raises(
        ImageError, match=rf"{width} x {height} pixels; the limit is 30000 a side and 200 million in all"
    ):
        examine(data)


def test_a_large_picture_within_the_limits_is_read():
    facts = examine(saved(Image.new("1", (30_000, 20))))
    assert (facts.width, facts.height) == (30_000, 20)


# The middle of a picture, and center_crop


def shrink(pixels: np.ndarray, side: int) -> np.ndarray:
    """The frame `crop`."""
    region = regions(Frame.model_validate("crop"), pixels.shape[1], pixels.shape[0], side)[0]
    return cut(pixels, region, side)


def test_shrink_halves_by_hand():
    # to half the size with a triangle of two source pixels on each side: of a constant picture it is the constant,
    # of a linear ramp the values at the centres of the new pixels, except at the borders
    ramp = np.tile(np.arange(16, dtype=np.uint8) * 8, (16, 1))[:, :, None]
    small = shrink(ramp, 8)
    assert small.shape == (8, 8, 1)
    np.testing.assert_array_equal(small[:, 1:-1, 0], np.tile(np.arange(1, 7) * 16 + 4, (8, 1)))


def test_shrink_is_resize_then_crop_of_the_centre():
    pixels = noise(60, 100)
    # the shorter side 60 to 30, so the longer 100 to 50, of which columns 10..39 are the middle
    whole = np.asarray(Image.fromarray(pixels).resize((50, 30), Image.Resampling.BILINEAR))
    inner = np.abs(shrink(pixels, 30).astype(int) - whole[:, 10:40].astype(int))
    assert inner[:, 2:-2].max() <= 1
    for turned in (pixels, pixels.swapaxes(0, 1)):
        assert shrink(turned, 30).shape == (30, 30, 3)
    straight, turned = shrink(pixels, 30), shrink(pixels.swapaxes(0, 1), 30).swapaxes(0, 1)
    assert np.abs(straight.astype(int) - turned).max() <= 1  # rounded to bytes between the two axes


def test_shrink_leaves_a_picture_of_that_size_as_it_is():
    pixels = noise(32, 32)
    np.testing.assert_array_equal(shrink(pixels, 32), pixels)
    np.testing.assert_array_equal(shrink(noise(32, 40), 32), noise(32, 40)[:, 4:36])


@pytest.mark.parametrize(("height", "width"), [(90, 140), (257, 300), (1200, 800)])
@pytest.mark.parametrize("channels", [1, 3])
def test_shrink_is_as_exact_as_bytes_can_be(height: int, width: int, channels: int):
    # against Pillow's own resampling of floating-point pixels; rounded twice, once for each axis
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, channels), dtype=np.uint8)
    middle = shrink(pixels, min(height, width))
    exact = [Image.fromarray(middle[:, :, k].astype(np.float32)) for k in range(channels)]
    expected = [np.asarray(band.resize((64, 64), Image.Resampling.BILINEAR)) for band in exact]
    assert np.abs(shrink(pixels, 64) - np.stack(expected, axis=2)).max() < 1.1


def test_cut_depends_on_pixels_alone_and_not_on_how_they_lie_in_memory():
    pixels = noise(60, 100)
    region = (3.0, 5.0, 53.0, 55.0)
    turned = np.array(pixels.swapaxes(0, 1), order="C").swapaxes(0, 1)
    pixels.flags.writeable = False
    np.testing.assert_array_equal(cut(turned, region, 20), cut(pixels, region, 20))


@pytest.mark.parametrize(
    ("height", "width", "side"), [(1, 1, 8), (1, 1000, 4), (7, 3, 5), (333, 1001, 224), (2, 30_000, 3)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_shrink_of_any_shape_gives_a_square(height: int, width: int, side: int, channels: int):
    pixels = np.full((height, width, channels), 90, np.uint8)
    assert (shrink(pixels, side) == 90).all()
    assert shrink(pixels, side).shape == (side, side, channels)


def test_center_crop_by_hand():
    pixels = np.arange(2 * 5 * 5, dtype=np.uint8).reshape(2, 5, 5, 1)
    assert center_crop(pixels, 3)[0, :, :, 0].tolist() == [[6, 7, 8], [11, 12, 13], [16, 17, 18]]
    assert center_crop(pixels, 2)[1, :, :, 0].tolist() == [[31, 32], [36, 37]]
    assert center_crop(pixels[0], 5).shape == (5, 5, 1)


# Of what ingest has accepted


def photograph(height: int, width: int) -> np.ndarray:
    """Soft colours and some noise."""
    soft = Image.fromarray(noise(5, 7)).resize((width, height), Image.Resampling.BICUBIC)
    return (np.asarray(soft) // 2 + noise(height, width) // 4).astype(np.uint8)


SHAPES = ((1, 1), (9, 7), (33, 50), (120, 161))


@pytest.mark.parametrize(
    "options",
    [
        *({"subsampling": one, "progressive": two} for one in ("4:4:4", "4:2:2", "4:2:0") for two in (False, True)),
        {"restart_marker_blocks": 3},
        {"optimize": True, "comment": "x" * 70},
        {"keep_rgb": True},
    ],
    ids=str,
)
def test_jpeg_files_that_were_accepted_give_the_same_pixels(options: dict[str, Any]):
    for quality in (5, 50, 90, 100):
        for shape in SHAPES:
            picture = Image.fromarray(photograph(*shape))
            for data in (saved(picture, "JPEG", quality=quality, **options), saved(picture.convert("L"), "JPEG")):
                for channels in (1, 3):
                    np.testing.assert_array_equal(decode_accepted(data, channels), decode(data, channels))


@pytest.mark.parametrize("factors", [0x411111, 0x221111, 0x211111, 0x121111], ids=hex)
def test_jpeg_files_of_other_writers_that_were_accepted_give_the_same_pixels(factors: int):
    for shape in SHAPES:
        _, data = cv2.imencode(".jpg", photograph(*shape), [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors])
        np.testing.assert_array_equal(decode_accepted(data.tobytes(), 3), decode(data.tobytes(), 3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_files_that_were_accepted_are_turned_as_others_are(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(photograph(20, 33)), "JPEG", exif=exif)
    assert decode_accepted(data, 3).shape == ((20, 33, 3) if orientation < 5 else (33, 20, 3))
    np.testing.assert_array_equal(decode_accepted(data, 3), decode(data, 3))


def test_what_else_was_accepted_gives_the_same_pixels_too():
    colours, clear = Image.fromarray(photograph(20, 33)), Image.fromarray(noise(8, 32).reshape(8, 24, 4))
    files = [saved(colours, form) for form in FORMATS]
    files += [saved(colours.convert("CMYK"), "JPEG"), saved(clear), saved(colours.convert("P")), saved(clear, "WEBP")]
    files.append(saved(Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100)))
    for data in files:
        for channels in (1, 3):
            np.testing.assert_array_equal(decode_accepted(data, channels), decode(data, channels))
    with pytest.raises(ImageError, match="not a picture"):
        decode_accepted(b"hello", 3)


def test_whatever_is_accepted_though_bits_are_flipped_gives_the_same_pixels(capfd: pytest.CaptureFixture[str]):
    rng, accepted = random.Random(1), 0
    for options in ({}, {"progressive": True}):
        whole = saved(Image.fromarray(photograph(60, 80)), "JPEG", **options)
        for _ in range(200):
            data = bytearray(whole)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            try:
                examine(bytes(data))
            except ImageError:
                continue
            accepted += 1
            np.testing.assert_array_equal(decode_accepted(bytes(data), 3), decode(bytes(data), 3))
    assert accepted > 200
    capfd.readouterr()  # libjpeg's own words on damage that it mends


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_real_photographs_that_were_accepted_give_the_same_pixels():
    from pipeline.contracts import LeftOut
    from pipeline.source import open_source

    source = open_source(str(DATA / "hymenoptera/hymenoptera.tar.gz"))
    names = [entry.name for entry in source.entries() if not isinstance(entry, LeftOut)]
    wanted = {*names[::8], *(name for name in names if name.endswith(".gif"))}
    files = [item[1] for item in source.stream(wanted) if not isinstance(item, LeftOut)]
    assert len(files) > 40
    for data in files:
        np.testing.assert_array_equal(decode_accepted(data, 3), decode(data, 3))


def test_encode_png_is_exact_and_stored():
    for pixels in (COLOURS, RAMP[:, :, None]):
        np.testing.assert_array_equal(decode(encode_png(pixels), pixels.shape[2]), pixels)
    assert len(encode_png(np.zeros((100, 100, 3), np.uint8))) > 30_000


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_real_pictures_cut_at_many_lengths():
    from pipeline.contracts import LeftOut
    from pipeline.source import open_source

    source = open_source(str(DATA / "hymenoptera/hymenoptera.tar.gz"))
    names = [entry.name for entry in source.entries() if not isinstance(entry, LeftOut)]
    wanted = {*names[:3], *(name for name in names if name.endswith(".gif"))}
    files = [item[1] for item in source.stream(wanted) if not isinstance(item, LeftOut)]
    assert len(files) == 4
    for data in files:
        examine(data)
        for k in range(1, 24):
            with pytest.raises(ImageError):
                examine(data[: len(data) * k // 25])
