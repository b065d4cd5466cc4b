"""Single files of many pictures: unpacked within limits, where they are packed with gzip, bzip2 or xz, and listed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.annotations import Flaw
from pipeline.contracts import Found, LeftOut, Target

OPENERS: dict[bytes, Callable[[io.BytesIO], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
SUFFIX = re.compile(r"\.(gz|bz2|xz)$", re.IGNORECASE)
FREE_BYTES = 100_000_000
"""Up to so many unpacked bytes the ratio does not matter."""
RATIO = 200
MOST_BYTES = 2_000_000_000


def unpacked(data: bytes, promised: bool = False) -> bytes:
    """The contents of a file, packed or not, by how it begins.

    Args:
        data: as it lies in the source.
        promised: whether its name says that it is packed.

    Raises:
        ValueError: it is empty, a web page, damaged, cut short, or unpacks beyond the limits; the text says which.
    """
    if not data:
        raise ValueError("it is empty, so its download may have failed; fetch it again")
    if data[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise ValueError("it holds a web page, so its download went wrong; fetch it again")
    opener = next((opener for magic, opener in OPENERS.items() if data.startswith(magic)), None)
    if opener is None:
        if promised:
            raise ValueError(f"by its name it is packed, but it begins with {data[:4]!r}; fetch it again")
        return data
    most = min(MOST_BYTES, max(FREE_BYTES, RATIO * len(data)))
    try:
        with opener(io.BytesIO(data)) as file:
            found: bytes = file.read(most + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise ValueError(f"it is damaged or cut short ({reason}); fetch it again") from None
    if len(found) > most:
        raise ValueError(f"it unpacks to more than {most:,} bytes")
    return found


def checksums(items: Iterable[Found | LeftOut | Flaw]) -> Iterator[str]:
    """Lines of `FormatConfig.listing` for files that hold many pictures: a checksum of each, and its label."""
    for item in items:
        if isinstance(item, Found):
            yield f"{item.name}\t{zlib.crc32(item.data)}\t{item.annotation.get(Target.LABEL, '')}"


def bare(name: str) -> str:
    """A file's name without the suffix of its packing."""
    return SUFFIX.sub("", name)
