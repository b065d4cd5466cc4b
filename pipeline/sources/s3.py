"""Folders and archives on S3, or what speaks like it: `s3://bucket/pets`, `s3://bucket/pets.zip`.

Credentials, region and address come from where Amazon's own tools take them: AWS_PROFILE, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, ~/.aws. They never stand in `data.path`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.errors import UserError
from pipeline.sources.ahead import in_order
from pipeline.sources.s3_errors import worded
from pipeline.sources.store import Blob, Passing, Store, Stored

TIMEOUTS = {"connect_timeout": 10, "read_timeout": 30}
"""Seconds; S3's client would wait 60."""
PIECE = 8 << 20
"""Bytes that one request brings."""
PAGE = 1000
"""Names that one request brings; S3 gives no more."""
ADDRESS = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,254})(?:/(.*))?", re.DOTALL)
CHECKSUM = re.compile(r"(.*)#sha256=([^#]*)", re.DOTALL)


def opened(path: str) -> S3Folder | S3File:
    """What lies at an address: an object of this name, or a folder.

    Raises:
        UserError: nothing does, or S3 cannot be asked.
    """
    checksum = ""
    if said := CHECKSUM.fullmatch(path):
        path, checksum = said[1], said[2].lower()
        if not re.fullmatch("[0-9a-f]{64}", checksum):
            raise UserError(
                f"data.path: {path}#sha256= is followed by {checksum[:80]!r}; expected 64 hexadecimal digits."
            )
    match = ADDRESS.fullmatch(path)
    if not match:
        raise UserError(
            f"data.path: expected an address such as s3://bucket/folder or s3://bucket/set.zip; found {_shown(path)!r}."
        )
    client = Client(match[1], f"s3://{match[1]}/{match[2] or ''}")
    key = match[2] or ""
    if key and not key.endswith("/"):
        facts = client.head(key)
        if facts:
            return S3File(client, key, facts, checksum)
    if checksum:
        raise UserError(f"{client.shown}: there is no such object, and a folder has no checksum. Is the address right?")
    folder = S3Folder(client, key.rstrip("/") + "/" if key.strip("/") else "")
    if next(folder.files(), None) is None:
        raise UserError(f"data.path: {client.shown}: the bucket has no such object or folder. Is the address right?")
    return folder


class Client:
    """Requests to one bucket, and words for what goes wrong."""

    def __init__(self, bucket: str, shown: str) -> None:
        import fsspec  # type: ignore[import-untyped]

        self.bucket = bucket
        self.shown = shown
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
        # A listing that was kept would hide what has come since. fsspec keeps one client for equal options.
        options: dict[str, Any] = {"endpoint_url": endpoint, "use_listings_cache": False, "config_kwargs": TIMEOUTS}
        with self._worded():
            self._fs = fsspec.filesystem("s3", **options)

    def head(self, key: str) -> Stored | None:
        """One object; None if there is none."""
        with self._worded():
            try:
                facts = self._fs.call_s3("head_object", Bucket=self.bucket, Key=key)
            except FileNotFoundError:
                return None
        return Stored(key, "", int(facts["ContentLength"]), _version(facts))

    def listing(self, prefix: str) -> Iterator[Stored]:
        """The objects below a prefix, page by page: fsspec's own would hold all of them at once."""
        more: dict[str, Any] = {"MaxKeys": PAGE}
        while True:
            with self._worded():
                page = self._fs.call_s3("list_objects_v2", Bucket=self.bucket, Prefix=prefix, **more)
            for facts in page.get("Contents", ()):
                if not facts["Key"].endswith("/"):  # what some tools put where a folder is
                    yield Stored(facts["Key"], facts["Key"][len(prefix) :], int(facts["Size"]), _version(facts))
            if not page.get("NextContinuationToken"):
                return
            more["ContinuationToken"] = page["NextContinuationToken"]

    def read(self, key: str, start: int, end: int) -> bytes:
        """Some bytes of an object, `end` not among them."""
        if end <= start:
            return b""  # of an empty range S3 says that it is none
        with self._worded():
            data: bytes = self._fs.cat_file(f"{self.bucket}/{key}", start=start, end=end)
        return data

    @contextmanager
    def _worded(self) -> Iterator[None]:
        """Errors of any of the three layers below as one that a user can act on, or that passes."""
        try:
            yield
        except (UserError, KeyboardInterrupt):
            raise
        except Exception as error:
            raise worded(error, self.shown, self.bucket) from error


class S3Folder(Store):
    """The objects below a prefix."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.shown = client.shown
        self._client = client
        self._prefix = prefix

    def files(self) -> Iterator[Stored]:
        """See `Store.files`."""
        yield from self._client.listing(self._prefix)

    def find(self, name: str) -> Stored | None:
        """See `Store.find`."""
        found = self._client.head(self._prefix + name)
        return found and found._replace(name=name)

    def read(self, stored: Stored, size: int) -> bytes:
        """See `Store.read`."""
        return self._client.read(stored.key, 0, min(size, stored.size or 0))


class S3File(Blob):
    """One object."""

    def __init__(self, client: Client, key: str, facts: Stored, checksum: str) -> None:
        self.shown = client.shown
        self.address = client.shown
        self.size = facts.size or 0
        self.version = checksum or facts.version
        self.sha256 = checksum
        self._client = client
        self._facts = facts._replace(key=key)

    def chunks(self, start: int) -> Iterator[tuple[int, int | None, bytes]]:
        """See `Blob.chunks`."""
        begins = range(start, self.size, PIECE)
        if not begins:
            yield start, self.size, b""
        for begin, data in in_order(begins, self._piece, lambda _: PIECE):
            expected = min(PIECE, self.size - begin)
            yield begin, self.size, data
            if len(data) != expected:
                raise Passing(f"S3 promised {expected:,} bytes and sent {len(data):,}")

    def _piece(self, begin: int) -> bytes:
        return self._client.read(self._facts.key, begin, min(begin + PIECE, self.size))

    def changed(self) -> bool:
        """See `Blob.changed`."""
        return self._client.head(self._facts.key) != self._facts


def _version(facts: dict[str, Any]) -> str:
    """The ETag of an object, which follows from its contents; else when it was last written."""
    return str(facts.get("ETag") or facts.get("LastModified", "")).strip('"')


def _shown(path: str) -> str:
    """An address without what stands before an @: keys do not belong there, and still less into a log."""
    return re.sub("//.*@", "//...@", path)
