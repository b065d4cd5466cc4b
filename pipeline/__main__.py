"""`python -m pipeline <stage>`: the commands of `dvc.yaml`.

A mistake that the user can mend ends with its words and status 1; an interruption with status 130 and nothing lost.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline import interrupts
from pipeline.errors import UserError
from pipeline.files import DATASET, STATE
from pipeline.progress import copied

EXIT_MISTAKE = 1
DEVICE_LOCK = "CONVOY_DEVICE_LOCK"
"""Variable by which a flow names a lock file that its stages hold beside their own."""
EXIT_DEFECT = 70
"""Neither a mistake of the user nor an interruption: whoever runs stages may try it again."""


def ingest() -> None:
    from pipeline.door import load
    from pipeline.ingest.stage import run
    from pipeline.params import IngestParams

    run(load(IngestParams), DATASET)


def augment() -> None:
    from pipeline.augment.stage import run
    from pipeline.dataset import Dataset
    from pipeline.door import load
    from pipeline.params import AugmentParams
    from pipeline.policy import POLICY

    run(load(AugmentParams), Dataset.open(), POLICY.parent)


def train() -> None:
    from pipeline.bundle import BUNDLE
    from pipeline.dataset import Dataset
    from pipeline.door import load
    from pipeline.params import TrainParams
    from pipeline.policy import Policy
    from pipeline.train.outputs import NOTES
    from pipeline.train.stage import run

    run(load(TrainParams), Dataset.open(), Policy.open(), BUNDLE, NOTES)


def evaluate() -> None:
    from pipeline.bundle import Bundle
    from pipeline.dataset import Dataset
    from pipeline.door import load
    from pipeline.evaluate.stage import EVALUATION, run
    from pipeline.params import EvaluateParams

    run(load(EvaluateParams), Dataset.open(), Bundle.open(), EVALUATION)


STAGES: dict[str, Callable[[], object]] = {
    "ingest": ingest,
    "augment": augment,
    "train": train,
    "evaluate": evaluate,
}


def main(arguments: list[str]) -> int:
    """Run one stage in the current folder; the exit status."""
    if len(arguments) != 1 or arguments[0] not in STAGES:
        print(f"Usage: python -m pipeline {{{'|'.join(STAGES)}}}", file=sys.stderr)
        return 2
    interrupts.listen()
    with copied():
        return _run(arguments[0])


def _run(stage: str) -> int:
    try:
        with alone():
            STAGES[stage]()
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_MISTAKE
    except interrupts.Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return interrupts.EXIT_CODE
    except KeyboardInterrupt:
        print(f"{stage}: stopped; nothing half-written is left.", file=sys.stderr)
        return interrupts.EXIT_CODE
    except Exception as error:
        if full := _full(error):
            print(f"{stage}: cannot write: {full}. Make room, then run again; nothing is lost.", file=sys.stderr)
            return EXIT_MISTAKE
        traceback.print_exc()
        return EXIT_DEFECT
    return interrupts.EXIT_CODE if interrupts.asked() else 0


def _full(error: BaseException | None) -> str | None:
    """The system's words where a full disk, a quota or a limit is behind an error, however it is wrapped."""
    while error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            return os.strerror(error.errno)
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def alone() -> Iterator[None]:
    """Let one stage at a time work in this folder; the kernel frees the lock of one that is killed.

    A flow names a second lock, of the device that it computes on: a stage that outlives its killed flow by a moment
    holds it, and that of the next flow waits.
    """
    STATE.mkdir(exist_ok=True)
    of_device = os.environ.get(DEVICE_LOCK)
    with ExitStack() as held:
        for path in (STATE / "stage.lock", *([Path(of_device)] if of_device else [])):
            lock = held.enter_context(path.open("a+"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                print(f"Another stage is at work here (process {lock.read().strip()}); waiting for it.", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        yield


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # all is written, and taking torch apart would take the interpreter another 0.4 to 0.8 s
