"""The members of a zip or tar archive, one by one, in the order in which they lie there.

Stricter than the standard library, which takes a tar that was cut between two members for a whole one, reads headers
of any length into memory, and goes in circles on a negative size (CVE-2025-8194).
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self

from pipeline.errors import UserError

COMPRESSIONS: dict[str, tuple[bytes, Callable[[BinaryIO], Any]]] = {
    "": (b"", lambda file: file),
    "gz": (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    "bz2": (b"BZh", bz2.BZ2File),
    "xz": (b"\xfd7zXZ\x00", lzma.LZMAFile),
}
"""Of tar archives: what each begins with, and how it is opened."""
SAYS_UTF8 = 0x800
"""A flag of a zip's members."""
HEADER_BYTES = 1_000_000
"""Of one tar member: its name and extended attributes; honest ones take a few hundred."""
DIGITS = re.compile(rb"[0-9]{200}")
"""No honest header has so many in a row."""
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError),  # unknown methods, headers nested without end
)


@dataclass(frozen=True)
class Member:
    """One file in an archive."""

    name: str
    """As it stands there, not to be trusted."""
    size: int
    refusal: str | None
    """Why it is not read, whatever its name."""
    read: Callable[[int], bytes]
    """The first so many bytes of its contents; to be called once, before the next member is asked for."""
    checksum: int = 0
    """CRC-32 of the contents, as a zip says; a tar says none."""


@contextmanager
def explained(shown: str) -> Iterator[None]:
    """Any of the errors that a damaged archive makes, as one that a user can act on."""
    try:
        yield
    except DAMAGE as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise UserError(
            f"{shown}: the archive is damaged or cut short ({reason}). Fetch it again, or pack it again."
        ) from None


def zip_members(path: Path, check_unpacked: Callable[[int], None]) -> Iterator[Member]:
    """The files of a zip archive.

    Args:
        path: the archive.
        check_unpacked: called with the bytes that the archive unpacks to, before any is; raises to stop.
    """
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.filename.replace("\\", "/").endswith("/")]
        check_unpacked(sum(info.file_size for info in infos))
        for info in infos:
            refusal = None
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                refusal = "a link or a device"
            elif info.flag_bits & 1:
                refusal = "encrypted"
            yield Member(_zip_name(info), info.file_size, refusal, partial(_zip_read, archive, info), info.CRC)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name of a member. Those of macOS are UTF-8 and do not say so; by the standard they would be CP437."""
    if info.flag_bits & SAYS_UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename


def _zip_read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> bytes:
    """The checksum is looked at where the whole member is read."""
    with archive.open(info) as file:
        data = file.read(size)
        if size == info.file_size:
            data += file.read(1)  # of a member that is longer than it says; at its end the checksum stands
    if len(data) != size:
        raise EOFError(f"{info.filename} has not the {info.file_size:,} bytes that it says")
    return data


def tar_members(path: Path, compression: str, check_unpacked: Callable[[int], None]) -> Iterator[Member]:
    """The files of a tar archive.

    Args:
        path: the archive.
        compression: a key of `COMPRESSIONS`.
        check_unpacked: called with the bytes unpacked so far, before they are; raises to stop.
    """
    with path.open("rb") as raw, COMPRESSIONS[compression][1](raw) as unpacked:
        meter = _Meter(unpacked)
        with tarfile.open(fileobj=meter, mode="r:", tarinfo=_StrictInfo) as archive:
            place = -1
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or it keeps every one
                if archive.offset <= place:
                    raise tarfile.ReadError("a header that points backwards")
                place = archive.offset
                meter.left = HEADER_BYTES
                check_unpacked(place)
                if not member.isdir():
                    yield Member(member.name, member.size, _tar_refusal(member), partial(_read, meter, member))
                    meter.left = HEADER_BYTES
        while compression and (rest := unpacked.read(1 << 20)):  # to the end, where the checksum stands
            place += len(rest)
            check_unpacked(place)


def _tar_refusal(member: tarfile.TarInfo) -> str | None:
    if not member.isreg():
        return "a link or a device"
    return "a sparse file" if member.issparse() else None


def _read(meter: _Meter, member: tarfile.TarInfo, size: int) -> bytes:
    data = meter.contents(member.offset_data, size)
    if len(data) != size:
        raise EOFError(f"{member.name} ends early")
    return data


class _Meter(io.RawIOBase):
    """A stream that hands out `left` bytes, and is then an error: what stands between members cannot be a bomb.

    Nor may so many digits stand there that tarfile, which looks for a number at each of them, never ends
    (CVE-2024-6232).
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self.left = HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self.left:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        self.left -= size
        data = self._stream.read(size)
        if DIGITS.search(data):
            raise tarfile.ReadError("a header of digits without end")
        return data

    def contents(self, offset: int, size: int) -> bytes:
        """Of a member."""
        self._stream.seek(offset)
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


class _StrictInfo(tarfile.TarInfo):
    """A tar header; anything but a proper one, or the proper end, is an error."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None
