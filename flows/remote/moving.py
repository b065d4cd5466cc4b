"""Data and models on their way to the DVC remote and back, and the small files that lie beside them there.

DVC moves what `dvc.lock` names. Records of runs are no outputs of a stage, so they lie in a folder of their own,
`convoy/`, which is reached through the same file system with the same credentials.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from flows.remote.access import Access, Say, opened
from pipeline.errors import UserError, did_you_mean
from pipeline.files import write_bytes

if TYPE_CHECKING:
    from dvc.data_cloud import Remote
    from dvc.repo import Repo

FOLDER = "convoy"
"""Of the remote, beside DVC's own `files`."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
PROBE = ".writable"
"""What `check` writes; no published name begins with a dot."""
PAUSES = (2.0, 10.0)
"""Seconds before the second and the third try; where nothing listens, S3's client spends 3 to 9 more on each."""
LIMIT = 60.0
"""Seconds after which `check` gives up on a remote that says nothing."""
REMEDY = "`dvc push` where they were made sends them there; `dvc repro` here makes them again."


@dataclass(frozen=True)
class Moved:
    """What was pushed or fetched; what was there already does not count."""

    files: int
    bytes: int

    def __str__(self) -> str:
        size = f"{self.bytes / 1e6:,.1f} MB" if self.bytes >= 100_000 else f"{self.bytes:,} bytes"
        return f"{_files(self.files)} ({size})"


def push(root: Path, say: Say = print, pauses: Sequence[float] = PAUSES) -> Moved:
    """Push every output that the `dvc.lock` of `root` names to the default remote.

    Args:
        root: a project, or a git worktree of one.
        say: takes one line per try that failed, and one at the end.
        pauses: seconds before each further try.

    Raises:
        UserError: there is no remote, it cannot be reached or refuses, or files are in neither cache nor remote.
    """
    with opened(root, say, pauses) as access:
        status = access.tried(lambda: _status(access, None))
        if status.new:
            access.tried(access.repo.push)
        pushed = _moved(access.repo, status.new)
    say(f"Pushed {pushed} to {access.where}." if pushed.files else f"Nothing to push: {access.where} has everything.")
    return pushed


def fetch(root: Path, targets: Sequence[str] = (), say: Say = print, pauses: Sequence[float] = PAUSES) -> Moved:
    """Bring outputs that the `dvc.lock` of `root` names from the default remote into DVC's cache and the tree.

    Args:
        root: a project, or a git worktree of one.
        targets: outputs, or files in them, by their paths in `root`; all outputs, if none is given.
        say: as for `push`.
        pauses: as for `push`.

    Raises:
        UserError: as for `push`; or a target is no output; or a file in the tree is in the way that DVC has not
            saved, and stays.
    """
    with opened(root, say, pauses) as access:
        wanted = [_output(access, target) for target in targets] or None
        status = access.tried(lambda: _status(access, wanted))
        access.tried(lambda: access.repo.pull(wanted))
        fetched = _moved(access.repo, status.deleted)
    say(f"Fetched {fetched} from {access.where}." if fetched.files else "Nothing to fetch: DVC's cache has everything.")
    return fetched


def publish(root: Path, name: str, data: bytes, say: Say = print, pauses: Sequence[float] = PAUSES) -> None:
    """Put a small file into the remote under `name` (`runs/1f2e.json`), in place of one that is there.

    A reader finds the old file or the new one, whole, in a local folder and on S3; elsewhere perhaps a part of it.

    Raises:
        UserError: there is no remote, or it cannot be reached or written.
    """
    _check_name(name)
    with opened(root, say, pauses) as access:
        access.tried(lambda: _write(access.remote, name, data))


def published(root: Path, name: str, say: Say = print, pauses: Sequence[float] = PAUSES) -> bytes | None:
    """The file that was published under `name`, or None.

    Raises:
        UserError: there is no remote, or it cannot be reached or read.
    """
    _check_name(name)
    with opened(root, say, pauses) as access:
        return access.tried(lambda: _read(access.remote, name))


def list_published(root: Path, prefix: str = "", say: Say = print, pauses: Sequence[float] = PAUSES) -> list[str]:
    """The names under which files were published that begin with `prefix`, sorted.

    Raises:
        UserError: there is no remote, or it cannot be reached or read.
    """
    with opened(root, say, pauses) as access:
        names = access.tried(lambda: list(_names(access.remote)))
    return sorted(name for name in names if name.startswith(prefix) and NAME.fullmatch(name))


def check(root: Path, limit: float = LIMIT) -> None:
    """See that there is a remote that can be written, at the start of a run rather than after hours.

    Raises:
        UserError: there is none, it cannot be reached or refuses, or it says nothing for `limit` seconds.
    """
    ended: SimpleQueue[Exception | None] = SimpleQueue()

    def probe() -> None:
        try:
            with opened(root, lambda _: None, ()) as access:
                access.tried(lambda: _write(access.remote, PROBE, b"convoy writes here\n"))
        except Exception as error:
            ended.put(error)
        else:
            ended.put(None)

    threading.Thread(target=probe, name="check of the remote", daemon=True).start()
    try:
        problem = ended.get(timeout=limit)
    except Empty:
        raise UserError(f"The DVC remote says nothing for {limit:g} s. Is it up, and the network?") from None
    if problem:
        raise problem


def _status(access: Access, targets: list[str] | None) -> Any:
    """Which files are in the cache alone (`new`), in the remote alone (`deleted`), in both (`ok`), nowhere."""
    repo = access.repo
    access.remote.fs.exists(access.remote.path)  # DVC swallows why it cannot have the listing of a folder
    for stage, chosen in repo.index.collect_targets(targets):
        for output in stage.filter_outs(chosen):
            # Without its listing DVC would ask at the terminal whether to go on without the folder.
            if output.use_cache and output.hash_info and output.is_dir_checksum and output.get_dir_cache() is None:
                raise UserError(f"Neither DVC's cache nor {access.where} has the files of {output}. {REMEDY}")
    used = repo.used_objs(targets, push=targets is None)
    status = repo.cloud.status({item for items in used.values() for item in items})
    if status.missing:
        lost = f"{_files(len(status.missing))} that dvc.lock names"
        raise UserError(f"Neither DVC's cache nor {access.where} has {lost}. {REMEDY}")
    return status


def _output(access: Access, target: str) -> str:
    """The whole path of an output: DVC takes a relative one from the working folder of this process."""
    root = Path(access.repo.root_dir)
    outputs = [Path(output.fs_path) for output in access.repo.index.outs]
    wanted = Path(os.path.normpath(root / target))
    if not any(wanted.is_relative_to(output) for output in outputs):
        known = sorted(str(output.relative_to(root)) for output in outputs if output.is_relative_to(root))
        raise UserError(
            f"{target!r} is no output of a stage.{did_you_mean(target, known)} dvc.yaml has: {', '.join(known)}."
        )
    return str(wanted)


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def _moved(repo: Repo, items: Iterable[Any]) -> Moved:
    caches = {"md5": repo.cache.local, "md5-dos2unix": repo.cache.legacy}
    files = [item for item in items if not item.isdir]  # the listing of a folder is DVC's own
    sizes = [Path(caches[item.name].oid_to_path(item.value)).stat().st_size for item in files]
    return Moved(len(sizes), sum(sizes))


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise UserError(f"Nothing can be published as {name!r}: letters, digits and . _ - make a name, / a folder.")


def _write(remote: Remote, name: str, data: bytes) -> None:
    path = remote.fs.join(remote.path, FOLDER, *name.split("/"))
    if remote.fs.protocol == "local":
        write_bytes(Path(path), data)
    else:
        remote.fs.pipe_file(path, data)


def _read(remote: Remote, name: str) -> bytes | None:
    try:
        return bytes(remote.fs.cat_file(remote.fs.join(remote.path, FOLDER, *name.split("/"))))
    except FileNotFoundError as error:
        if "NoSuchBucket" in repr(error.__cause__):
            raise
        return None


def _names(remote: Remote) -> Iterator[str]:
    base = remote.fs.join(remote.path, FOLDER)
    try:
        for path in remote.fs.find(base):
            yield "/".join(remote.fs.relparts(path, base))
    except FileNotFoundError:  # nothing was published yet
        return
