"""The one place where encoded pictures become pixels, so that training and serving see the same.

Pillow decodes, because it refuses damaged files that OpenCV reads without a word (74 of 184 truncated ones). What
differs between decoders is settled here, once: EXIF orientation is applied, 16-bit grey is scaled to 8, palettes are
resolved, transparency lies on white, CMYK becomes RGB, and of an animation the first frame counts.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_SIDE = 30_000
MAX_PIXELS = 200_000_000
MAX_SHOWN = 50_000_000
"""Of a picture that a page shows: decoding it must not take the server's memory."""
LOOK_SIDE = 16
LOOK = LOOK_SIDE**2
GREY = 114
"""Beside a picture that does not fill its square: about the mean of photographs."""
GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N", "I"})

Image.MAX_IMAGE_PIXELS = None  # our own limit is an error; Pillow's only warns up to twice its value


class ImageError(Exception):
    """The bytes are no picture that can be used; the text says why."""


class Facts(NamedTuple):
    """What is known of a picture once it is decoded."""

    width: int
    height: int
    grey: bool
    look: bytes = b""
    """Its grey levels at 16 x 16, row by row: LOOK bytes."""


def libraries() -> str:
    """The versions of those that pixels come from."""
    return " ".join([PIL.__version__, *(version(name) for name in ("opencv-python-headless", "torch"))])


def examine(data: bytes) -> Facts:
    """Decode the whole picture and say what it is.

    Raises:
        ImageError: empty, no picture, damaged, truncated, or too large.
    """
    picture = _open(data)
    grey = picture.mode in GREY_MODES
    pixels = _settled(picture, 1 if grey else 3)
    whole = Image.fromarray(pixels[:, :, 0] if grey else pixels)
    look = whole.convert("L").resize((LOOK_SIDE, LOOK_SIDE), Image.Resampling.BOX).tobytes()
    return Facts(width=pixels.shape[1], height=pixels.shape[0], grey=grey, look=look)


def decode(data: bytes, channels: int) -> np.ndarray:
    """The pixels of an encoded picture.

    Args:
        data: the encoded bytes.
        channels: C, 1 for grey or 3 for RGB.

    Returns:
        uint8 [H, W, C].

    Raises:
        ImageError: empty, no picture, damaged, truncated, or too large.
    """
    return _settled(_open(data), channels)


def decode_accepted(data: bytes, channels: int) -> np.ndarray:
    """The pixels of a picture that `examine` has accepted: those of `decode`, and of plain JPEG files in half the time.

    OpenCV decodes these, by the same libjpeg-turbo, straight into RGB (500 x 375 pixels: 0.6 ms of a core instead of
    1.2, as Pillow goes by four bytes a pixel). Of what nobody has examined it would read damaged files as well.

    Args:
        data: the encoded bytes.
        channels: C, 1 for grey or 3 for RGB.

    Returns:
        uint8 [H, W, C].

    Raises:
        ImageError: as `decode`.
    """
    size = _plain_jpeg(data, channels)
    if size:
        import cv2

        kind = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), kind | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is not None and pixels.shape[1::-1] == size:
            return pixels.reshape(size[1], size[0], channels)
    return decode(data, channels)


def values(data: bytes) -> np.ndarray:
    """The numbers that the pixels of an encoded mask hold, without any of them changed: indices of a palette, grey
    levels of up to 16 bits, and 0 and 1 of two-level pictures; of a colour picture the colours.

    A GIF has a palette whether it wants one or not, so one whose colours are all grey gives grey levels.

    Returns:
        int32 [H, W], or uint8 [H, W, 3] of a colour picture.

    Raises:
        ImageError: as `decode`.
    """
    picture = _open(data)
    mode = picture.mode
    if picture.format == "GIF" and mode == "P":
        colours = np.asarray(picture.convert("RGB"))
        if (colours == colours[:, :, :1]).all():
            return colours[:, :, 0].astype(np.int32)
    if mode in ("1", "L", "P") or mode.startswith("I"):
        return np.asarray(picture).astype(np.int32)
    if mode in ("LA", "PA"):
        return np.asarray(picture)[:, :, 0].astype(np.int32)
    if mode in ("RGB", "RGBA"):
        colours = np.asarray(picture)[:, :, :3]
        grey = (colours == colours[:, :, :1]).all()
        return colours[:, :, 0].astype(np.int32) if grey else colours
    raise ImageError(f"a mask in the mode {mode}; expected values or colours of 8 or 16 bits")


def cut(pixels: np.ndarray, region: Sequence[float], side: int) -> np.ndarray:
    """A rectangle of a picture as a square (antialiased bilinear); what lies beyond the picture is grey.

    Args:
        pixels: uint8 [H, W, C].
        region: x1, y1, x2, y2; it may reach beyond the picture to the right and below, see `pipeline.frames`.
        side: P.

    Returns:
        uint8 [P, P, C].
    """
    height, width, channels = pixels.shape
    x1, y1, x2, y2 = max(region[0], 0.0), max(region[1], 0.0), region[2], region[3]
    across, down = side / (x2 - x1), side / (y2 - y1)
    # Whole pixels of the square only: the last one may lie in the picture by a part, and would shift all others.
    shown = (_whole((width - x1) * across, side), _whole((height - y1) * down, side))
    box = (x1, y1, min(x1 + shown[0] / across, float(width)), min(y1 + shown[1] / down, float(height)))
    whole = x1 == int(x1) and y1 == int(y1)
    if whole and across == down == 1:
        resized = pixels[int(y1) : int(y1) + shown[1], int(x1) : int(x1) + shown[0]]
    elif whole and max(across, down) <= 1:
        resized = _shrunk(pixels, box, shown)
    else:
        picture = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
        resized = np.asarray(picture.resize(shown, Image.Resampling.BILINEAR, box=box)).reshape(*shown[::-1], channels)
    if shown == (side, side):
        return resized
    square = np.full((side, side, channels), GREY, np.uint8)
    square[: shown[1], : shown[0]] = resized
    return square


def _shrunk(pixels: np.ndarray, box: tuple[float, float, float, float], shown: tuple[int, int]) -> np.ndarray:
    """A box that begins at a whole pixel, smaller: by torch's kernel for bytes, Pillow's method in vector instructions.

    From 375 x 375 to 256 x 256 in colour it takes 0.3 ms of a core, and Pillow 1.0. Where there is nothing to gain,
    because a small picture is enlarged, Pillow does it: importing torch takes a second.
    """
    import torch

    left, top, right, bottom = (math.ceil(place - 1e-6) for place in box)
    seen = torch.from_numpy(np.array(pixels[top:bottom, left:right], order="C"))[None].permute(0, 3, 1, 2)
    # A scale that falls short by rounding would lose the last pixel.
    factors = tuple(
        min(1.0, length / (end - start) * (1 + 1e-6))
        for length, start, end in ((shown[1], box[1], box[3]), (shown[0], box[0], box[2]))
    )
    smaller = torch.nn.functional.interpolate(seen, scale_factor=factors, mode="bilinear", antialias=True)
    kept: np.ndarray = smaller.permute(0, 2, 3, 1)[0, : shown[1], : shown[0]].numpy()  # laid out like the pixels
    return kept


def _whole(length: float, side: int) -> int:
    return min(max(int(length + 1e-6), 1), side)


def center_crop(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle of each picture: uint8 [..., P, P, C] to [..., S, S, C]."""
    top = (pixels.shape[-3] - side) // 2
    left = (pixels.shape[-2] - side) // 2
    return pixels[..., top : top + side, left : left + side, :]


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, C] as PNG, stored without compression: the same bytes whatever zlib is installed."""
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    out = io.BytesIO()
    picture.save(out, format="PNG", compress_level=0)
    return out.getvalue()


def thumbnail(data: bytes, channels: int, side: int) -> tuple[bytes, str]:
    """A picture for a page to show.

    Args:
        data: the encoded bytes.
        channels: C, 1 for grey or 3 for RGB.
        side: of the longer one, in pixels; a picture of less than half of it is enlarged by a whole factor, so that
            each of its pixels is a square.

    Returns:
        The encoded bytes, PNG if they were enlarged and else JPEG, and their media type.

    Raises:
        ImageError: as `decode`; larger than `MAX_SHOWN` pixels.
    """
    pixels = _settled(_open(data, MAX_SHOWN), channels)
    picture = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    factor, out = side // max(picture.size), io.BytesIO()
    if factor > 1:
        picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST).save(
            out, format="PNG", compress_level=1
        )
        return out.getvalue(), "image/png"
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    picture.save(out, format="JPEG", quality=85)
    return out.getvalue(), "image/jpeg"


def _plain_jpeg(data: bytes, channels: int) -> tuple[int, int] | None:
    """Width and height of a JPEG file that is stored upright and either in grey or, if colours are wanted, in colour.

    Of colours Pillow and OpenCV make different greys, and nothing but orientation and mode is settled for a JPEG file.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG",))  # the header alone
        upright = picture.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except Exception:  # `decode` says what is wrong
        return None
    plain = picture.format == "JPEG" and picture.mode in (("L",) if channels == 1 else ("L", "RGB"))
    return picture.size if upright and plain else None


def _open(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    if not data:
        raise ImageError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters is raised below
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = picture.size
            if max(width, height) > MAX_SIDE or width * height > max_pixels:
                raise ImageError(
                    f"{width} x {height} pixels; the limit is {MAX_SIDE} a side and {max_pixels // 10**6} million "
                    "in all"
                )
            picture.load()
    except ImageError:
        raise
    except PIL.UnidentifiedImageError:
        raise ImageError(f"not a picture ({', '.join(FORMATS)} are read)") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged input
        raise ImageError(f"damaged: {str(error) or type(error).__name__}") from None
    return picture


def _settled(picture: Image.Image, channels: int) -> np.ndarray:
    try:
        picture = ImageOps.exif_transpose(picture)
        mode = picture.mode
        if mode.startswith("I"):  # 16-bit grey, 0..65535 to 0..255
            wide = np.asarray(picture).astype(np.float64)
            picture = Image.fromarray(np.clip(np.rint(wide / 257), 0, 255).astype(np.uint8))
        elif mode == "F":
            raise ImageError("floating-point pixels have no agreed range; save the picture as 8 or 16 bit")
        elif picture.has_transparency_data:
            clear = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
        picture = picture.convert("L" if channels == 1 else "RGB")
    except ImageError:
        raise
    except Exception as error:  # a damaged EXIF block or palette
        raise ImageError(f"damaged: {str(error) or type(error).__name__}") from None
    pixels = np.asarray(picture)
    return pixels.reshape(pixels.shape[0], pixels.shape[1], channels)
