"""What every source is: names, and the contents behind them in a single pass."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from pipeline.contracts import LeftOut
from pipeline.errors import UserError

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # controls, line ends, bytes not UTF-8
MAX_NAME = 1000


@dataclass(frozen=True)
class Limits:
    """What a source may cost; beyond it stands an error, not a full disk."""

    file_bytes: int = 256_000_000
    total_bytes: int = 1_000_000_000_000
    """Of all files, and of an archive that is fetched."""
    files: int = 5_000_000
    ratio: int = 200
    """Unpacked to packed bytes of a whole archive; pictures come to about 1, blank bitmaps to 100."""
    free_bytes: int = 100_000_000
    """Up to so many unpacked bytes the ratio does not matter."""


class Entry(NamedTuple):
    """One file of a source."""

    name: str
    """With forward slashes, relative to the source."""
    size: int
    modified_ns: int
    """0 where the file has no time of its own: within an archive that of the archive counts."""
    checksum: int = 0
    """Of the contents, in a zip; of what stands for them, in a store; else 0."""


@dataclass(frozen=True)
class Source(ABC):
    """Where pictures come from."""

    in_one_pass: ClassVar[bool] = False
    """Whether reading one file costs a walk over all, as in an archive."""
    shown: str
    """What to call it: a path, or an address without what is secret in it."""
    limits: Limits

    @abstractmethod
    def entries(self) -> Iterator[Entry | LeftOut]:
        """Every file once, without its contents; no name twice.

        Raises:
            UserError: the source is damaged or beyond a limit.
        """

    @abstractmethod
    def stream(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes] | LeftOut]:
        """The contents of the files named in `wanted`, each once, in one pass; one that has gone is left out.

        Raises:
            UserError: the source is damaged or beyond a limit.
        """

    @abstractmethod
    def heads(self, wanted: Collection[str], size: int) -> Iterator[tuple[str, bytes]]:
        """The first `size` bytes of the files named in `wanted`, in one pass; files that cannot be read are missing.

        Raises:
            UserError: the source is damaged or beyond a limit.
        """

    @abstractmethod
    def fingerprint(self) -> Iterator[str]:
        """`name, size, time` of each file of a folder, or of the archive: equal lines, equal contents."""

    @staticmethod
    def _gone(names: Collection[str]) -> Iterator[LeftOut]:
        """Files that were there when the source was listed."""
        yield from (LeftOut(name, "it has just gone") for name in sorted(names))

    def _limit(self, found: int, limit: int, what: str) -> None:
        if found > limit:
            raise UserError(f"{self.shown}: {found:,} {what}; the limit is {limit:,}. Make the source smaller.")


def printable(name: str) -> str:
    """A name that can be shown and stored, whatever is in it."""
    name = UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", name)
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def check_writable(path: str) -> None:
    """Raise where no `params.yaml` can name a path.

    Raises:
        UserError: there are bytes in it that are not UTF-8, or control characters.
    """
    if UNPRINTABLE.search(path):
        raise UserError(
            f"{printable(path)} holds control characters or bytes that are not UTF-8: no params.yaml can name it. "
            "Rename it."
        )


def quoted(value: Any) -> str:
    """A value as YAML reads it again: as JSON, which writes some characters as two that YAML takes for two, if asked to
    keep to ASCII."""
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if UNPRINTABLE.search(text) else text


def fault(name: str) -> str | None:
    """Why a name cannot be that of a sample, if so."""
    if UNPRINTABLE.search(name):
        return "its name holds control characters or is not UTF-8"
    return f"its name is longer than {MAX_NAME} characters" if len(name) > MAX_NAME else None


def member_name(raw: str) -> tuple[str, str | None]:
    """The name of an archive's or a store's member with forward slashes, and why it is refused, if it is."""
    name = raw.replace("\\", "/")
    if name.startswith("/"):
        return name, "its name is an absolute path"
    if re.match("[A-Za-z]:", name):
        return name, "its name begins with a drive letter"
    parts = name.split("/")
    if ".." in parts:
        return name, "its name climbs out of the archive (..)"
    name = "/".join(part for part in parts if part not in ("", "."))
    return name, fault(name) if name else "it has no name"
