"""The process that decodes what nobody trusts yet. It is started by `decoding.py`, which holds the other end.

A batch comes in as a count, as many lengths, and the pictures; one line of JSON goes out per picture: [width, height,
grey], or the reason why it is none. The whole batch is read first, so that whoever writes it never waits for a picture.
Memory is limited for the process, processor time per picture: the kernel ends it at the limit, and the other end
knows which picture it was at.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
from typing import IO

from pipeline.images import ImageError, examine

MEMORY_BYTES = 4 << 30
CPU_SECONDS = 30.0
MAX_REASON = 300
READY = b"ready\n"
"""The first line out."""


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
        for data in batch:
            answers.write(json.dumps(_answer(data)).encode() + b"\n")
            answers.flush()


def write_batch(stream: IO[bytes], batch: list[bytes]) -> None:
    """Send some pictures."""
    stream.write(struct.pack(f"<I{len(batch)}Q", len(batch), *map(len, batch)) + b"".join(batch))
    stream.flush()


def read_batch(stream: IO[bytes]) -> list[bytes]:
    """Receive some pictures; none at the end."""
    head = stream.read(4)
    if len(head) < 4:
        return []
    (count,) = struct.unpack("<I", head)
    return [stream.read(length) for length in struct.unpack(f"<{count}Q", stream.read(8 * count))]


def _answer(data: bytes) -> list[int | bool] | str:
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        return list(examine(data))
    except ImageError as error:
        return str(error)[:MAX_REASON]
    except MemoryError:
        return f"takes more than {MEMORY_BYTES >> 30} GiB of memory to decode"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main()
