"""What a place that is no disk of this machine must be able to do."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Stored(NamedTuple):
    """One object of a store."""

    key: str
    """By which the store knows it."""
    name: str
    """Below the folder that is the source; as the store has it, not to be trusted."""
    size: int | None
    """None where the store does not say it."""
    version: str
    """Changes when the contents do: an ETag, a digest, or the time of the last change."""

    @property
    def weight(self) -> int:
        """The size, or a guess at it."""
        return 1_000_000 if self.size is None else self.size

    @property
    def stamp(self) -> int:
        """The version as a number."""
        return zlib.crc32(self.version.encode())


class Store(ABC):
    """A folder somewhere."""

    @abstractmethod
    def files(self) -> Iterator[Stored]:
        """Every object below the folder.

        Raises:
            UserError: it cannot be reached, or refuses.
        """

    @abstractmethod
    def find(self, name: str) -> Stored | None:
        """One object by its name below the folder, without a walk over all; None if there is none.

        Raises:
            UserError: as `files`.
        """

    @abstractmethod
    def read(self, stored: Stored, size: int) -> bytes:
        """The first `size` bytes of an object, or all, where it has less. Called from several threads.

        Raises:
            UserError: as `files`; it has just gone.
        """


class Passing(Exception):
    """What may succeed a little later: the network, a server that starts anew. The text says what went wrong."""


class Blob(ABC):
    """A file somewhere that is fetched whole."""

    shown: str
    """What to call it."""
    address: str
    """Where it is: two of one address are versions of one file."""
    version: str
    """Changes when the contents do."""
    sha256: str = ""
    """Of the contents, hexadecimal, where it is known beforehand."""

    @abstractmethod
    def chunks(self, start: int) -> Iterator[tuple[int, int | None, bytes]]:
        """The contents from byte `start` on, as (where the chunk begins, size of the whole if it is known, bytes).

        A server that cannot begin in the middle begins at 0.

        Raises:
            Passing: the connection broke, or was never made.
            UserError: the file is not there, or the server refuses.
        """

    def copy(self) -> Path | None:
        """The whole of it on a disk of this machine, where there is that: then nothing is fetched."""
        return None

    def changed(self) -> bool:
        """Whether there is another version by now."""
        return False
