"""Which files are pictures: each is decoded once, whole, in a process that may die of it.

What was decided of the contents of a file holds for these contents, so it is kept beside the project.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from pipeline.files import shared, write_text
from pipeline.host import cores
from pipeline.ingest.child import CPU_SECONDS, READY, Job, write_batch
from pipeline.plugin import HOME

BATCH_PICTURES = 64
BATCH_BYTES = 4_000_000
MAX_CHILDREN = 16


class Verdict(NamedTuple):
    """What decoding a file came to: a picture, or the reason why not."""

    width: int = 0
    height: int = 0
    grey: bool = False
    reason: str | None = None
    lasting: bool = True
    """False where the machine may be at fault and not the picture."""
    look: bytes = b""
    """See `images.Facts`."""
    painted: tuple[Any, bytes] | None = None
    """Of a mask: what `painting.paint` answered."""


@contextmanager
def remembered() -> Iterator[dict[str, Verdict]]:
    """Verdicts by content id, from earlier runs; what is added is kept, even if the run fails."""
    key = hashlib.sha256((HOME / "images.py").read_bytes() + _pillow_version().encode()).hexdigest()
    path = shared() / "ingest" / "verdicts.json"
    verdicts: dict[str, Verdict] = {}
    try:
        kept = json.loads(path.read_bytes())
        if kept["decoder"] == key:
            verdicts = {content: _verdict(answer) for content, answer in kept["verdicts"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass  # there is none, or it is damaged: everything is decoded anew
    before = len(verdicts)
    try:
        yield verdicts
    finally:
        if len(verdicts) != before:
            answers = {content: _said(v) for content, v in verdicts.items() if v.lasting and not v.painted}
            write_text(path, json.dumps({"decoder": key, "verdicts": answers}))


def decode_all(jobs: Iterable[tuple[str, Job]], children: int | None = None) -> Iterator[tuple[str, Verdict]]:
    """The verdict on each (content id, job), in the same order; a few batches are held in memory.

    Args:
        jobs: what to decode.
        children: processes; None is one per processor core.
    """
    count = children or min(cores(), MAX_CHILDREN)
    crew = [_Child() for _ in range(count)]
    free: queue.SimpleQueue[_Child] = queue.SimpleQueue()
    for child in crew:
        free.put(child)

    def work(batch: list[Job]) -> list[Verdict]:
        child = free.get()
        try:
            return child.decode(batch)
        finally:
            free.put(child)

    pool = ThreadPoolExecutor(count)
    pending: deque[tuple[list[str], Future[list[Verdict]]]] = deque()
    try:
        for ids, batch in _batches(jobs):
            pending.append((ids, pool.submit(work, batch)))
            if len(pending) > 2 * count:
                ids, future = pending.popleft()
                yield from zip(ids, future.result(), strict=True)
        for ids, future in pending:
            yield from zip(ids, future.result(), strict=True)
    finally:
        for child in crew:
            child.stop()
        pool.shutdown(cancel_futures=True)
        for child in crew:
            child.close()


def _batches(jobs: Iterable[tuple[str, Job]]) -> Iterator[tuple[list[str], list[Job]]]:
    ids: list[str] = []
    batch: list[Job] = []
    size = 0
    for content, job in jobs:
        ids.append(content)
        batch.append(job)
        size += len(job.data)
        if len(batch) == BATCH_PICTURES or size >= BATCH_BYTES:
            yield ids, batch
            ids, batch, size = [], [], 0
    if batch:
        yield ids, batch


class _Child:
    """A decoding process, started when first needed and again after it has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def decode(self, batch: list[Job]) -> list[Verdict]:
        """The verdicts on a batch, whatever it does to the process."""
        verdicts: list[Verdict] = []
        while len(verdicts) < len(batch):
            verdicts += self._attempt(batch[len(verdicts) :])
            if len(verdicts) < len(batch):  # the process died at the next one
                verdicts.append(self._once_more(batch[len(verdicts)], self._bury()))
        return verdicts

    def stop(self) -> None:
        """End the process; a batch at work ends without verdicts."""
        self._stopped = True
        if process := self._process:
            process.kill()

    def close(self) -> None:
        """Let go of the process, once nobody uses it."""
        self.stop()
        if self._process:
            self._bury()

    def _once_more(self, job: Job, status: int) -> Verdict:
        """The verdict on the picture that the process died of: a kernel short of memory may have picked any process."""
        if status != -signal.SIGPROF:
            if verdicts := self._attempt([job]):
                return verdicts[0]
            status = self._bury()
        if status == -signal.SIGPROF:
            return Verdict(reason=f"takes more than {CPU_SECONDS:.0f} s to decode", lasting=False)
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return Verdict(reason=f"the decoder died of it: it {how}", lasting=False)

    def _attempt(self, batch: list[Job]) -> list[Verdict]:
        """The verdicts up to the picture at which the process died, if it did."""
        if self._stopped:
            raise RuntimeError("the decoding process was stopped")
        self._process = self._process or _start()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        verdicts = []
        try:
            write_batch(stdin, batch)
        except BrokenPipeError:  # it died while reading, before the first picture
            return []
        for job in batch:
            line = stdout.readline()
            if not line.endswith(b"\n"):
                break
            answer, length = json.loads(line)
            mask = stdout.read(length)
            if len(mask) < length:
                break
            verdicts.append(Verdict(painted=(answer, mask)) if job.painted else _verdict(answer))
        return verdicts

    def _bury(self) -> int:
        """Wait for the end of the process; its exit status."""
        process, self._process = self._process, None
        assert process
        process.kill()  # if its end of the pipe is closed it is dying already, and keeps its status
        with contextlib.suppress(BrokenPipeError), process:
            pass
        return process.returncode


def _start() -> subprocess.Popen[bytes]:
    """A new decoding process. It imports `pipeline.images` and no more, which takes a quarter of a second."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.ingest.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **one_thread, "PYTHONPATH": str(HOME.parent)},
    )
    assert process.stdout
    if process.stdout.readline() != READY:
        with process:
            process.kill()
        raise RuntimeError("a decoding process cannot start; `python -m pipeline.ingest.child` shows why")
    return process


def _verdict(answer: object) -> Verdict:
    """From what the child says of a picture and the file keeps: [width, height, grey, look], or a reason."""
    if isinstance(answer, str):
        return Verdict(reason=answer)
    if not isinstance(answer, list):
        raise TypeError(f"no verdict: {answer!r}")
    width, height, grey, look = answer
    return Verdict(int(width), int(height), bool(grey), look=base64.b64decode(look))


def _said(verdict: Verdict) -> str | list[Any]:
    """`_verdict` backwards."""
    return verdict.reason or [*verdict[:3], base64.b64encode(verdict.look).decode()]


def _pillow_version() -> str:
    from PIL import __version__

    return __version__
