"""Start a stage in several processes and stay until all have ended: torchrun, as far as one machine needs it.

This is the part of torchrun that starts processes, watches them, and stops the rest when one has failed. Its other
part, the rendezvous of machines, is left out: it listens on every address of this one and asks the network for its
name. The processes find each other by a file, and talk over the loopback interface alone.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std, start_processes
from torch.distributed.elastic.multiprocessing.api import PContext, RunProcsResult
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from pipeline import interrupts
from pipeline.files import STATE
from pipeline.train.processes.place import EXIT_LEFT_ALONE, MEETING, Ended

FOLDER = STATE / "processes"
"""What the processes need as long as they run."""
LOOPBACK = ("lo", "lo0")
TAIL = 20
"""Lines of what a process said last."""
TIMED_OUT = ("Timed out waiting", "collective operation timeout")
"""What gloo and NCCL say of a process that did not answer in time."""
STATUSES = (1, 69, 70)
"""Of a process that knows what is wrong: see `pipeline.__main__`."""


def together(stage: str, count: int) -> None:
    """Run a stage in so many processes.

    The first one speaks and writes; what another says is heard if it fails. A signal is passed on to all of them.

    Raises:
        Ended: one of them failed, or all were interrupted.
        KeyboardInterrupt: this process was told twice to stop.
    """
    interrupts.at_safe_points()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        with _quiet():
            ended = _watched(_started(stage, count))
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
    if ended.is_failed():
        raise _reason(stage, count, ended)


def _started(stage: str, count: int) -> PContext:
    theirs = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) for number in theirs}
    try:
        return start_processes(
            name=stage,
            entrypoint=sys.executable,
            args=dict.fromkeys(range(count), ("-m", "pipeline", stage)),
            envs={rank: _environment(rank, count) for rank in range(count)},
            logs_specs=DefaultLogsSpecs(str(FOLDER), dict.fromkeys(range(1, count), Std.ALL)),
        )
    except SignalException:  # between torch's handlers and ours
        raise KeyboardInterrupt from None
    finally:
        for number, handler in handlers.items():  # torch has put its own in their place
            signal.signal(number, handler)


def _environment(rank: int, count: int) -> dict[str, str]:
    names = [name for _, name in socket.if_nameindex() if name in LOOPBACK]
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        MEETING: str((FOLDER / "meeting").absolute()),
        interrupts.STAGE: str(os.getpid()),
        **{variable: names[0] for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if names},
    }


def _watched(processes: PContext) -> RunProcsResult:
    told = False
    try:
        while (ended := processes.wait(0)) is None:
            if interrupts.asked() and not told:
                told = True
                for number in processes.pids().values():
                    os.kill(number, signal.SIGINT)
            time.sleep(0.1)
        return ended
    except KeyboardInterrupt:
        processes.close(signal.SIGKILL)
        raise


def _reason(stage: str, count: int, ended: RunProcsResult) -> Ended:
    """Why they have ended: of the failures, in the order in which they were seen, that which is behind the others."""
    failures = ended.failures
    rank = min(failures, key=lambda rank: _weight(failures[rank]))
    failure = failures[rank]
    words, who = str(failure.message), f"process {rank + 1} of {count}"
    if failure.exitcode == interrupts.EXIT_CODE:
        return Ended(words, interrupts.EXIT_CODE)
    if interrupts.asked() and failure.exitcode < 0:
        return Ended(f"{stage}: stopped; the next run goes on from the last checkpoint.", interrupts.EXIT_CODE)
    if failure.exitcode in STATUSES:
        stuck = any(sign in words for sign in TIMED_OUT)
        hint = f"\n{stage}: {who} has waited for another, which is stuck; all were stopped." if stuck else ""
        return Ended(words + hint, failure.exitcode)
    hint = " (the system kills so when memory runs out)" if failure.exitcode == -signal.SIGKILL else ""
    how = f"by signal {failure.signal_name()}{hint}" if failure.exitcode < 0 else f"with status {failure.exitcode}"
    said = f"{words}\n" if failure.exitcode == EXIT_LEFT_ALONE else _last_words(ended.stderrs.get(rank, ""))
    return Ended(f"{said}{stage}: {who} ended {how}; the others were stopped.", STATUSES[-1])


def _weight(failure: ProcessFailure) -> int:
    """Smaller for what is rather the reason than what came of it."""
    if failure.exitcode in STATUSES:
        return STATUSES.index(failure.exitcode)
    if failure.exitcode in (EXIT_LEFT_ALONE, -signal.SIGTERM):
        return 5
    return 4 if failure.exitcode == interrupts.EXIT_CODE else 3


def _last_words(path: str) -> str:
    try:
        lines = Path(path).read_text(errors="replace").splitlines()[-TAIL:] if path else []
    except OSError:
        lines = []
    return "".join(f"{line}\n" for line in lines)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave it to us to say how the processes end."""
    logger = logging.getLogger("torch.distributed.elastic")
    logger.addHandler(nothing := logging.NullHandler())
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(nothing)
        logger.propagate = propagate
