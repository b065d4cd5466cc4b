"""What a recorded run wrote, by the digests of its `dvc.lock`: from DVC's cache, the working tree, or the remote.

A file is read into memory and its digest checked; cache and working tree stay as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.dataset import DatasetInfo
from pipeline.errors import UserError
from pipeline.files import DATASET
from pipeline.registry.proof import entries
from pipeline.registry.runs import RunRecord

Fetch = Callable[[str], bytes | None]
"""From the md5 of a file, as `dvc.lock` has it, to its bytes, or None where it is not."""


def read(record: RunRecord, path: str, remote: bool = True) -> bytes:
    """The file `path` (`out/dataset/samples.parquet`) as the run left it.

    Args:
        record: of the run.
        path: as `dvc.yaml` names it, or a file in a folder that it names.
        remote: whether the DVC remote is asked for what is not here.

    Raises:
        UserError: it is neither here nor in the remote, or the record names no such file.
    """
    config = _config()
    cached = _cache(_cache_folder(config))
    md5, inside = _place(record, Path(path))
    found = _through(cached, md5, inside) or _from_tree(record, Path(path), "" if inside else md5)
    if found is None and not remote:
        raise UserError(f"{path} of run {record.id[:8]} is not in DVC's cache.")
    if found is None and not config.get("core", {}).get("remote"):
        raise UserError(f"{path} of run {record.id[:8]} is not in DVC's cache, and no DVC remote is configured.")
    return found or _from_remote(record, path, cached)


def in_cache(record: RunRecord, folder: str) -> dict[str, Path]:
    """Where DVC's cache has the files of the folder `folder` (`out/dataset`) as the run left it, by their names in it.

    For files too large to be read whole: their digests are not checked.

    Returns:
        Nothing, unless all of them are there.

    Raises:
        UserError: the record names no such output.
    """
    home = _cache_folder(_config())
    md5, inside = _place(record, Path(folder))
    listed = _listing(_cache(home)(md5) or b"")
    prefix = f"{inside}/" if inside else ""
    wanted = {name.removeprefix(prefix): _in(home, md5) for name, md5 in listed.items() if name.startswith(prefix)}
    return wanted if all(path.is_file() for path in wanted.values()) else {}


def _config() -> Any:
    from dvc.config import Config

    return Config(".dvc", validate=False)


def _cache_folder(config: Any) -> Path:
    return Path(config.get("cache", {}).get("dir") or ".dvc/cache")


def _in(cache: Path, md5: str) -> Path:
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def _place(record: RunRecord, path: Path) -> tuple[str, str]:
    """The md5 of an output, and what to take of it if it is a folder."""
    for stage in entries(record.lock_text).values():
        for out in stage.get("outs", []):
            if Path(out["path"]) in (path, *path.parents) and out.get("md5"):
                inside = path.relative_to(out["path"])
                return str(out["md5"]), "" if inside == Path() else inside.as_posix()
    raise UserError(f"The record of run {record.id[:8]} names no output {path}.")


def _through(fetch: Fetch, md5: str, inside: str) -> bytes | None:
    data = fetch(md5)
    if data is None or not inside:
        return data
    listed = _listing(data)
    return fetch(listed[inside]) if inside in listed else None


def _listing(data: bytes) -> dict[str, str]:
    """The md5 of each file of a folder, by its name in it; nothing, if these bytes are some other file."""
    try:
        return {file["relpath"]: str(file["md5"]) for file in json.loads(data)}
    except (ValueError, LookupError, TypeError):
        return {}


def _cache(folder: Path) -> Fetch:
    def cached(md5: str) -> bytes | None:
        with suppress(OSError):
            data = _in(folder, md5).read_bytes()
            return data if _is(data, md5) else None
        return None

    return cached


def _from_tree(record: RunRecord, path: Path, md5: str) -> bytes | None:
    """From the working tree, if it holds that very file, or a file of that very dataset."""
    with suppress(OSError, ValidationError):
        if md5:
            data = path.read_bytes()
            return data if _is(data, md5) else None
        if DATASET in path.parents:
            info = DatasetInfo.model_validate_json((DATASET / "dataset.json").read_bytes())
            return path.read_bytes() if info.digest == record.data.digest else None
    return None


def _from_remote(record: RunRecord, path: str, cached: Fetch) -> bytes:
    from flows.remote.access import opened

    with opened(Path.cwd(), lambda _: None, ()) as access:
        remote = access.remote

        def fetch(md5: str) -> bytes | None:
            if (data := cached(md5)) is not None:
                return data
            with suppress(FileNotFoundError):
                data = bytes(remote.fs.cat_file(remote.odb.oid_to_path(md5)))
                return data if _is(data, md5) else None
            return None

        found: bytes | None = access.tried(lambda: _through(fetch, *_place(record, Path(path))))
        if found is None:
            raise UserError(f"{path} of run {record.id[:8]} is neither in DVC's cache nor in {access.where}.")
    return found


def _is(data: bytes, md5: str) -> bool:
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == md5.removesuffix(".dir")
