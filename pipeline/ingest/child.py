"""The process that decodes what nobody trusts yet. It is started by `decoding.py`, which holds the other end.

A batch comes in as a count, as many kinds and lengths, and the bytes. For each a line of JSON goes out: an answer, and
how many bytes of a mask follow it. The answer is [width, height, grey, look] of a picture, what `painting.paint` says
of a mask, or the reason why it is neither. The whole batch is read first, so that whoever writes it never waits. Memory
is limited for the process, processor time per picture: the kernel ends it at the limit, and the other end knows which
picture it was at.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import struct
import sys
from typing import IO, Any, NamedTuple

from pipeline.images import ImageError, examine

MEMORY_BYTES = 4 << 30
CPU_SECONDS = 30.0
MAX_REASON = 300
READY = b"ready\n"
"""The first line out."""


class Job(NamedTuple):
    """One thing to decode."""

    painted: bool
    """Whether it is a mask as `painting.packed` has it, and not a picture."""
    data: bytes


def main() -> None:
    """Answer batches until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    batches, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # libraries in C print warnings of their own
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere the limit on address space is not kept
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answers.write(READY)
    answers.flush()
    while batch := read_batch(batches):
        for job in batch:
            answer, mask = _answer(job)
            answers.write(json.dumps([answer, len(mask)]).encode() + b"\n" + mask)
            answers.flush()


def write_batch(stream: IO[bytes], batch: list[Job]) -> None:
    """Send some jobs."""
    heads = b"".join(struct.pack("<?Q", job.painted, len(job.data)) for job in batch)
    stream.write(struct.pack("<I", len(batch)) + heads + b"".join(job.data for job in batch))
    stream.flush()


def read_batch(stream: IO[bytes]) -> list[Job]:
    """Receive some jobs; none at the end."""
    head = stream.read(4)
    if len(head) < 4:
        return []
    (count,) = struct.unpack("<I", head)
    heads = list(struct.iter_unpack("<?Q", stream.read(9 * count)))
    return [Job(painted, stream.read(length)) for painted, length in heads]


def _answer(job: Job) -> tuple[list[Any] | str, bytes]:
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        if job.painted:
            from pipeline.ingest.painting import paint

            return paint(job.data)
        facts = examine(job.data)
        return [*facts[:3], base64.b64encode(facts.look).decode()], b""
    except ImageError as error:
        return str(error)[:MAX_REASON], b""
    except MemoryError:
        return f"takes more than {MEMORY_BYTES >> 30} GiB of memory to decode", b""
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main()
