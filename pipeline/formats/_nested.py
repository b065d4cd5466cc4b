"""One file of a source as a file on disk, for what can only be read from there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.formats._files import Listing
from pipeline.sources.folder import FolderSource


@contextmanager
def on_disk(listing: Listing, name: str) -> Iterator[Path]:
    """Where a file lies: itself, in a folder of this machine, or else a copy that lives as long as the context.

    Args:
        listing: of the source.
        name: of a file in it.

    Raises:
        UserError: it has just gone, or is larger than 1 GB and would have to be copied.
    """
    if isinstance(listing.source, FolderSource):
        yield listing.source.path / name
        return
    with tempfile.TemporaryDirectory(prefix="convoy-") as folder:
        copy = Path(folder, "file")
        copy.write_bytes(listing.text(name))
        yield copy
