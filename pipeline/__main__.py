"""`python -m pipeline <stage>`: the commands of `dvc.yaml`.

A mistake that the user can mend ends with its words and status 1, what passes by itself, as a full disk, with 69; an
interruption with status 130 and nothing lost.
"""

from __future__ import annotations

import fcntl
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path

from pipeline import interrupts
from pipeline.errors import TemporaryFailure, UserError
from pipeline.files import DATASET, STATE, opened_lock, write_text
from pipeline.progress import copied
from pipeline.room import closed, explained, full

EXIT_MISTAKE = UserError.status
EXIT_TEMPORARY = TemporaryFailure.status
"""The same may simply go on once the machine or the network has what it lacks now."""
DEVICE_LOCK = "CONVOY_DEVICE_LOCK"
"""Variable by which a flow names a lock file that its stages hold beside their own."""
LAST_WORDS = "CONVOY_LAST_WORDS"
"""Variable by which a flow names a file for why a stage stops: the flow prints it, once, and keeps it."""
PROCESSES = ".processes"
"""What the name of a lock ends with that the processes of a stage share, if it has several."""
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
    from pipeline.door import load
    from pipeline.params import TrainParams
    from pipeline.train.processes.place import place

    params = load(TrainParams)
    if params.compute.processes > 1 and not place():
        from pipeline.train.processes.launch import together

        return together("train", params.compute.processes)

    from pipeline.bundle import BUNDLE
    from pipeline.dataset import Dataset
    from pipeline.policy import Policy
    from pipeline.train.outputs import NOTES
    from pipeline.train.stage import run

    return run(params, Dataset.open(), Policy.open(), BUNDLE, NOTES)


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
    from pipeline.train.processes.place import leave_word, place

    if len(arguments) != 1 or arguments[0] not in STAGES:
        print(f"Usage: python -m pipeline {{{'|'.join(STAGES)}}}", file=sys.stderr)
        return 2
    interrupts.listen()
    here = place()
    if here:  # before torch is loaded: a warning that no weight was left out of a step
        os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"
    with unheard() if here and here.rank else copied():
        status, words = _ending(arguments[0])
        if words and here:
            leave_word(words)
        elif words and not (status in (EXIT_MISTAKE, EXIT_TEMPORARY) and _left_to_flow(words)):
            print(words, file=sys.stderr)
    return status


def _left_to_flow(words: str) -> bool:
    """Whether a flow runs this stage, which says the words itself."""
    try:
        write_text(Path(os.environ[LAST_WORDS]), words)
    except (KeyError, OSError, UserError):  # nobody asks, or the disk is full: then they are printed here
        return False
    return True


def _ending(stage: str) -> tuple[int, str]:
    """Run a stage; the exit status, and what there is to say about it."""
    from pipeline.train.processes.place import EXIT_LEFT_ALONE, Ended, left_alone

    try:
        with _at_work(stage):
            STAGES[stage]()
    except UserError as error:
        return error.status, str(error)
    except interrupts.Interrupted as stopped:
        return interrupts.EXIT_CODE, str(stopped)
    except Ended as ended:
        return ended.status, str(ended)
    except KeyboardInterrupt:
        return interrupts.EXIT_CODE, f"{stage}: stopped; nothing half-written is left."
    except Exception as error:
        if words := full(error):
            return EXIT_TEMPORARY, f"{stage}: cannot write: {words}. Make room, then run again; nothing is lost."
        if words := closed(error):
            return EXIT_MISTAKE, f"{stage}: {words}. Give yourself the right to it, then run again; nothing is lost."
        return EXIT_LEFT_ALONE if left_alone() else EXIT_DEFECT, traceback.format_exc().rstrip()
    return interrupts.EXIT_CODE if interrupts.asked() else 0, ""


def _at_work(stage: str) -> AbstractContextManager[None]:
    """What a stage is done in; of several processes the first one has its locks, or whoever started them.

    Raises:
        UserError: torchrun has started several of a stage that is one process.
    """
    from pipeline.train.processes.place import by_torchrun, place

    here = place()
    if here is None:
        return alone()
    if not by_torchrun():
        return beside()
    if stage != "train":
        raise UserError(f"{stage}: is done by one process; run it without torchrun, by python -m pipeline {stage}.")
    return alone() if here.rank == 0 else nullcontext()


@contextmanager
def unheard() -> Iterator[None]:
    """Say nothing: the first one of several processes speaks for all."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def alone() -> Iterator[None]:
    """Let one stage at a time work in this folder; the kernel frees the lock of one that is killed.

    A flow names a second lock, of the device that it computes on: a stage that outlives its killed flow by a moment
    holds it, and that of the next flow waits. Likewise for the processes of a stage that outlive it: see `beside`.
    """
    STATE.mkdir(exist_ok=True)
    with ExitStack() as held:
        for path in _locks():
            lock = held.enter_context(opened_lock(path))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                print(f"Another stage is at work here (process {lock.read().strip()}); waiting for it.", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            lock.truncate(0)
            process = str(os.getpid()).encode()
            try:
                os.write(lock.fileno(), process)
            except OSError as error:
                raise explained(error, path, len(process)) from error
            with opened_lock(path.with_suffix(PROCESSES)) as theirs:
                fcntl.flock(theirs, fcntl.LOCK_EX)
        yield


@contextmanager
def beside() -> Iterator[None]:
    """Work as one of the processes of a stage, which holds its locks for all of them as long as it lives itself."""
    with ExitStack() as held:
        for path in _locks():
            fcntl.flock(held.enter_context(opened_lock(path.with_suffix(PROCESSES))), fcntl.LOCK_SH)
        yield


def _locks() -> list[Path]:
    of_device = os.environ.get(DEVICE_LOCK)
    return [STATE / "stage.lock", *([Path(of_device)] if of_device else [])]


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # all is written, and taking torch apart would take the interpreter another 0.4 to 0.8 s
