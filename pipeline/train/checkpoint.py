"""Checkpoints: a run that is killed at any point goes on to the same weights as one that nobody killed.

A checkpoint is copied at once and written beside the steps that follow, to a temporary name, flushed, then renamed; the
one before it is kept as well. Randomness is counted (see `learner.counted`), so the position says all about it and no
generator's state is stored.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import hashlib
import itertools
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from pipeline.failpoints import TrainingPoint, passing
from pipeline.files import code_digest, replacing, sync_file, sync_folder, write_bytes, write_text
from pipeline.journal import JOURNAL, read, standing, trainings
from pipeline.train import seen
from pipeline.train.machine import Arithmetic, Machine

NEW = "checkpoint.new.pt"
"""Written whole, and not yet given its name."""
CURRENT, OLD = "checkpoint.pt", "checkpoint.old.pt"
FINISHED = "finished"
"""Says that the model has been written."""
LOCK = "lock"
KEPT_TRAININGS = 3
"""Folders kept in all; those longest untouched are removed."""


@dataclass
class Progress:
    """How far a training is, and what it knows so far."""

    epoch: int = 0
    step: int = 0
    """Steps done within the epoch."""
    best_epoch: int = -1
    best_score: float = float("-inf")
    """Larger is better, whatever the metric."""
    best_loss: float = float("inf")
    """Validation loss; decides between equal scores."""
    losses: list[float] = field(default_factory=list)
    """Of this epoch's steps so far."""
    worths: list[float] = field(default_factory=list)
    """The validation score after each epoch, turned so that larger is better."""
    first_norms: dict[str, float] = field(default_factory=dict)
    """Of the gradient of the training's first step, by layer: see `pipeline.train.norms`."""
    norms: list[dict[str, float]] = field(default_factory=list)
    """Of this epoch's steps so far that were measured."""
    warned: bool = False
    """Whether it was said that the gradient vanishes or explodes."""
    rollbacks: list[list[int]] = field(default_factory=list)
    """Epoch and step, 0-based, of each time that it diverged and went back."""
    accumulation: int = 0
    """Parts in which a batch is computed; 0: as params say."""
    view_losses: torch.Tensor | None = None
    """What each training view last cost, float64 [V]; None: no order has asked for it."""
    moves: list[str] = field(default_factory=list)
    """Where it was taken up elsewhere than it was begun, and what differs there."""

    @property
    def rate_scale(self) -> float:
        """What the learning rate is multiplied by: halved each time that it went back."""
        return float(0.5 ** len(self.rollbacks))


@dataclass(frozen=True)
class Saved:
    """A checkpoint, read."""

    state: dict[str, Any]
    progress: Progress
    arithmetic: Arithmetic
    environment: dict[str, str]
    """See `pipeline.train.environment`."""


class Checkpoints:
    """The checkpoints of one training: a folder named by the digest of everything that it learns from.

    The members of an ensemble have one journal, in which their steps follow each other, and a folder in it each.
    """

    def __init__(self, key: str, environment: dict[str, str], member: int = 0, first_step: int = 0) -> None:
        """Take the folder for this process.

        Args:
            key: see `training_key`.
            environment: that checkpoints are marked with.
            member: of an ensemble, 0-based.
            first_step: of this member, in the journal.
        """
        self.home, self._lock = _claimed(key)
        self.folder = self.home / f"member-{member + 1}" if member else self.home
        self.folder.mkdir(exist_ok=True)
        self.journal, self.seen = self.home / JOURNAL, self.folder / seen.SEEN
        self._first_step = first_step
        self.environment = environment
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[float] | None = None
        self._took = 0.0
        self._saved = time.monotonic()
        self._best: tuple[int, dict[str, Tensor]] | None = None
        self._older_best = -1

    def save(self, machine: Machine, progress: Progress) -> None:
        """Keep the state after the last step; the checkpoint before it becomes the older one.

        It is on disk once `wait` has returned.

        Raises:
            UserError: the disk is full; the checkpoints that were there still are.
        """
        self.wait()
        content = {
            "state": _copied(machine.state()),
            "progress": asdict(progress),
            "arithmetic": machine.arithmetic._asdict(),
            "environment": self.environment,
        }
        # Either generation may be gone back to.
        needed = {self._weights_of(epoch) for epoch in (progress.best_epoch, self._older_best)}
        self._older_best = progress.best_epoch
        best, self._best = self._best, None
        self._saved = time.monotonic()
        self._writing = self._writer.submit(self._write, content, best, needed)

    def keep_best(self, machine: Machine, epoch: int) -> None:
        """Keep the weights of the best epoch so far; they are written with the next checkpoint."""
        self._best = epoch, _copied(machine.weights())

    def wait(self) -> None:
        """Until everything that was saved is on disk.

        Raises:
            UserError: the disk is full; the checkpoints that were there still are.
        """
        writing, self._writing = self._writing, None
        if writing:
            self._took = writing.result()

    def due(self, seconds: float) -> bool:
        """Whether another one has to be begun, so that a kill costs no more than these seconds of work.

        Raises:
            UserError: the last one could not be written: the disk is full.
        """
        if self._writing and self._writing.done():
            self.wait()
        return time.monotonic() - self._saved > max(seconds - self._took, seconds / 2)

    def latest(self, steps: int) -> Saved | None:
        """The newest checkpoint that can be read whole, and of whose way all is noted.

        Args:
            steps: of an epoch.
        """
        self.wait()
        for name in (NEW, CURRENT, OLD):
            try:
                found = opened(self.folder / name)
                progress = found.progress
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 (torch raises several kinds on a damaged file)
                print(f"train: {name} cannot be read ({type(error).__name__}); trying the one before it")
                continue
            if missing := self._missing(progress, steps):
                print(f"train: {name} cannot be used without {missing}; trying the one before it")
                continue
            if name == NEW:
                self._shift()
            self._older_best = progress.best_epoch
            return found
        return None

    def best(self, epoch: int) -> dict[str, Tensor]:
        """The network's weights after `epoch`, kept by `keep_best`."""
        self.wait()
        weights: dict[str, Tensor] = load_file(self._weights_of(epoch))
        return weights

    @property
    def finished(self) -> bool:
        """Whether the model has been written."""
        return (self.home / FINISHED).exists()

    def finish(self) -> None:
        """Note that the model has been written."""
        write_text(self.home / FINISHED, "")

    def clear(self) -> None:
        """Start over: nothing of this training is worth keeping."""
        for path in self.folder.iterdir():
            if path.name != LOCK:
                _remove(path)
        self._older_best = -1

    def close(self) -> None:
        """End the thread, once it has written what was saved, and let the folder go."""
        self._writer.shutdown()
        self._lock.close()

    def _write(self, content: dict[str, Any], best: tuple[int, dict[str, Tensor]] | None, needed: set[Path]) -> float:
        """Write a checkpoint, and the best weights before it; the seconds that this takes."""
        start = time.monotonic()
        if best:
            epoch, weights = best
            write_bytes(self._weights_of(epoch), save({name: one.contiguous() for name, one in weights.items()}))
            passing(TrainingPoint.BEST_KEPT)
        for path in (self.journal, self.seen):  # no checkpoint is ahead of them, also after a power cut
            sync_file(path)
        with replacing(self.folder / NEW, _bytes_of(content)) as file:
            try:
                torch.save(content, file)
            except RuntimeError as error:  # torch hides what the file said
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from error
                raise
            passing(TrainingPoint.CHECKPOINT_BEGUN)
        passing(TrainingPoint.CHECKPOINT_WRITTEN)
        self._shift()
        passing(TrainingPoint.CHECKPOINT_NAMED)
        for path in self.folder.glob("best-*.safetensors"):
            if path not in needed:
                path.unlink()
        return time.monotonic() - start

    def _shift(self) -> None:
        """Give a new checkpoint its name, and the one before it the older one's."""
        current = self.folder / CURRENT
        if current.exists():
            current.replace(self.folder / OLD)
            passing(TrainingPoint.CHECKPOINT_SHIFTED)
        (self.folder / NEW).replace(current)
        sync_folder(self.folder)

    def _missing(self, progress: Progress, steps: int) -> str:
        """What a checkpoint cannot do without and is not there; nothing: all is."""
        done = steps * progress.epoch + progress.step
        rows = standing(read(self.journal, 0)[0])
        if sum(row.series == "step" and row.step >= self._first_step for row in rows) < done:
            return "the journal of its steps"
        if seen.steps_in(self.seen) < done:
            return "the log of what its steps have seen"
        weights = self._weights_of(progress.best_epoch)
        return "" if progress.best_epoch < 0 or weights.exists() else weights.name

    def _weights_of(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch:05d}.safetensors"


def opened(path: Path) -> Saved:
    """The checkpoint in a file; torch raises several kinds of errors where it is damaged."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    progress, arithmetic = Progress(**content["progress"]), Arithmetic(**content["arithmetic"])
    return Saved(content["state"], progress, arithmetic, dict(content["environment"]))


def training_key(*about: str) -> str:
    """The digest of everything that a training learns from, this package's code included.

    A checkpoint of other code, data or params is thereby another training's, and never continued.
    """
    digest = hashlib.sha256()
    for text in (code_digest(), *about):
        digest.update(f"{len(text)}:{text}".encode())
    return digest.hexdigest()[:32]


def remove_old_trainings() -> None:
    """Remove the checkpoints of all trainings but the latest few."""
    folders = sorted((path for path in trainings().iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in folders[:-KEPT_TRAININGS]:
        with (path / LOCK).open("a") as lock, contextlib.suppress(BlockingIOError):  # another tree's, at work
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)


def _copied(value: Any) -> Any:
    """The same on the processor, in memory of its own: the next step changes the tensors of this one."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        made = copy.copy(value)  # with what torch notes beside a state: the versions of its modules
        made.update((key, _copied(each)) for key, each in value.items())
        return made
    return type(value)(map(_copied, value)) if isinstance(value, list | tuple) else value


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors(each)


def _bytes_of(content: dict[str, Any]) -> int:
    """Of its numbers: a file of them is a little larger."""
    return sum(tensor.nbytes for tensor in _tensors(content))


def _claimed(key: str) -> tuple[Path, IO[str]]:
    """The folder of a training, and the lock on it that the kernel frees with this process.

    Two trees may train the same at the same time: the second one takes a folder of its own.
    """
    for number in itertools.count(1):
        folder = trainings() / (key if number == 1 else f"{key}-{number}")
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        for left in folder.rglob(".*.tmp"):  # of a process that was killed while it wrote
            _remove(left)
        return folder, lock
    raise AssertionError


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
