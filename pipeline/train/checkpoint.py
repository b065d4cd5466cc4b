"""Checkpoints: a run that is killed at any point goes on to the same weights as one that nobody killed.

A checkpoint is copied at once and written beside the steps that follow, to a temporary name, flushed, then renamed; the
one before it is kept as well. Randomness is counted (see `learner.counted`), so the position says all about it and no
generator's state is stored.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from pipeline.failpoints import TrainingPoint, passing
from pipeline.files import replacing, sync_file, sync_folder, write_bytes, write_text
from pipeline.journal import JOURNAL, folder_of, read, standing
from pipeline.train import seen
from pipeline.train.copies import bytes_of
from pipeline.train.folders import LOCK, claimed, remove
from pipeline.train.machine import Arithmetic, Machine
from pipeline.train.shortage import ran_out

NEW = "checkpoint.new.pt"
"""Written whole, and not yet given its name."""
CURRENT, OLD = "checkpoint.pt", "checkpoint.old.pt"
FINISHED = "finished"
"""Says that the model has been written."""


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
    """Of the gradient of the training's first step, by layer: see `pipeline.train.norms`. Steps whose gradient is no
    number, which float16 skips, do not count."""
    norms: list[dict[str, float]] = field(default_factory=list)
    """Of this epoch's steps so far that were measured, but for that one."""
    warned: bool = False
    """Whether it was said that the gradient vanishes or explodes."""
    rollbacks: list[list[int]] = field(default_factory=list)
    """Epoch and step, 0-based, of each time that it diverged and went back."""
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


class CheckpointFolder(ABC):
    """The checkpoints of one training, as each of its processes sees them: all read them, and the first one writes."""

    home: Path
    """Of the training, named by the digest of everything that it learns from."""
    folder: Path
    """Of its checkpoints: the members of an ensemble have one each."""
    journal: Path
    seen: Path
    environment: dict[str, str]
    """That checkpoints are marked with."""

    @abstractmethod
    def save(self, machine: Machine, progress: Progress) -> None:
        """Keep the state after the last step; the checkpoint before it becomes the older one.

        It is on disk once `wait` has returned.

        Raises:
            UserError: the disk is full; the checkpoints that were there still are.
        """

    @abstractmethod
    def keep_best(self, machine: Machine, epoch: int) -> None:
        """Keep the weights of the best epoch so far; they are written with the next checkpoint."""

    @abstractmethod
    def wait(self) -> None:
        """Until everything that was saved is on disk.

        Raises:
            UserError: the disk is full; the checkpoints that were there still are.
        """

    @abstractmethod
    def due(self, seconds: float) -> bool:
        """Whether another one has to be begun, so that a kill costs no more than these seconds of work.

        Raises:
            UserError: the last one could not be written: the disk is full.
        """

    @abstractmethod
    def finish(self) -> None:
        """Note that the model has been written."""

    @abstractmethod
    def clear(self) -> None:
        """Start over: nothing of this training is worth keeping."""

    @abstractmethod
    def close(self) -> None:
        """Let the folder go, once what was saved is on disk."""

    def latest(self, steps: int) -> Saved | None:
        """The newest checkpoint that can be read whole, and of whose way all is noted.

        One that is too large for the memory there is now is not taken for damaged: that error goes on.

        Args:
            steps: of an epoch.
        """
        found = self._newest(steps)
        return found[1] if found else None

    def best(self, epoch: int) -> dict[str, Tensor]:
        """The network's weights after `epoch`, kept by `keep_best`."""
        weights: dict[str, Tensor] = load_file(self._weights_of(epoch))
        return weights

    @property
    def finished(self) -> bool:
        """Whether the model has been written."""
        return (self.home / FINISHED).exists()

    def _newest(self, steps: int) -> tuple[str, Saved] | None:
        """See `latest`; with the name of its file."""
        for name in (NEW, CURRENT, OLD):
            try:
                found = opened(self.folder / name)
                progress = found.progress
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 (torch raises several kinds on a damaged file)
                if ran_out(error):
                    raise
                print(f"train: {name} cannot be read ({type(error).__name__}); trying the one before it")
                continue
            if missing := self._missing(progress, steps):
                print(f"train: {name} cannot be used without {missing}; trying the one before it")
                continue
            return name, found
        return None

    def _missing(self, progress: Progress, steps: int) -> str:
        """What a checkpoint cannot do without and is not there; nothing: all is."""
        done = steps * progress.epoch + progress.step
        if sum(row.series == "step" for row in standing(read(self.journal, 0)[0])) < done:
            return "the journal of its steps"
        if seen.steps_in(self.seen) < done:
            return "the log of what its steps have seen"
        weights = self._weights_of(progress.best_epoch)
        return "" if progress.best_epoch < 0 or weights.exists() else weights.name

    def _weights_of(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch:05d}.safetensors"


class Checkpoints(CheckpointFolder):
    """The checkpoints of one training for the process that writes them, beside the steps that follow."""

    def __init__(self, key: str, environment: dict[str, str], member: int = 0) -> None:
        """Take the folder for this process.

        Args:
            key: see `training_key`.
            environment: that checkpoints are marked with.
            member: of an ensemble, 1-based; 0: there is one training alone.
        """
        self.home, self._lock = claimed(key)
        self.folder = folder_of(self.home, member)
        self.folder.mkdir(exist_ok=True)
        self.journal, self.seen = self.folder / JOURNAL, self.folder / seen.SEEN
        self._first = member <= 1
        self.environment = environment
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[float] | None = None
        self._took = 0.0
        self._saved = time.monotonic()
        self._best: tuple[int, dict[str, Tensor]] | None = None
        self._older_best = -1

    def save(self, machine: Machine, progress: Progress) -> None:
        """See `CheckpointFolder.save`."""
        self.wait()
        content = {
            "state": machine.state(),
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
        """See `CheckpointFolder.keep_best`."""
        # Put in order, as safetensors wants them, here: the writer's thread must not compute. It would start threads of
        # its own beside this one's, and where they are more than the cores, OpenMP no longer waits awake: each step
        # from then on takes up to half as long again. (Two cores, a convnet of width 24 at 40 px: 37 ms, then 58.)
        self._best = epoch, {name: each.contiguous() for name, each in machine.weights().items()}

    def wait(self) -> None:
        """See `CheckpointFolder.wait`."""
        writing, self._writing = self._writing, None
        if writing:
            self._took = writing.result()

    def due(self, seconds: float) -> bool:
        """See `CheckpointFolder.due`.

        None has while the last one is being written: on a disk that takes longer than that, a kill costs what it takes,
        and training does not wait for it. Of 0 seconds it waits: every step is to have its checkpoint.
        """
        if self._writing:
            if seconds and not self._writing.done():
                return False
            self.wait()
        return time.monotonic() - self._saved > max(seconds - self._took, seconds / 2)

    def latest(self, steps: int) -> Saved | None:
        """See `CheckpointFolder.latest`; what a kill has left without its name gets it."""
        self.wait()
        found = self._newest(steps)
        if found is None:
            return None
        name, saved = found
        if name == NEW:
            self._shift()
        self._older_best = saved.progress.best_epoch
        return saved

    def best(self, epoch: int) -> dict[str, Tensor]:
        """See `CheckpointFolder.best`."""
        self.wait()
        return super().best(epoch)

    def finish(self) -> None:
        """See `CheckpointFolder.finish`."""
        write_text(self.home / FINISHED, "")

    def clear(self) -> None:
        """See `CheckpointFolder.clear`.

        Of an ensemble the first member clears those after it as well: what was made elsewhere all of them made there.
        """
        for path in (self.home if self._first else self.folder).iterdir():
            if path.name != LOCK:
                remove(path)
        self.folder.mkdir(exist_ok=True)
        self._older_best = -1

    def close(self) -> None:
        """See `CheckpointFolder.close`; the thread ends with it."""
        self._writer.shutdown()
        self._lock.close()

    def _write(self, content: dict[str, Any], best: tuple[int, dict[str, Tensor]] | None, needed: set[Path]) -> float:
        """Write a checkpoint, and the best weights before it; the seconds that this takes."""
        start = time.monotonic()
        if best:
            epoch, weights = best
            write_bytes(self._weights_of(epoch), _encoded(weights))
            passing(TrainingPoint.BEST_KEPT)
        for path in (self.journal, self.seen):  # no checkpoint is ahead of them, also after a power cut
            sync_file(path)
        with replacing(self.folder / NEW, bytes_of(content)) as file:
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


def _encoded(weights: dict[str, Tensor]) -> bytes:
    """Weights as safetensors has them.

    Raises:
        MemoryError: there is no room for that; Rust panics where Python raises this.
    """
    try:
        return save(weights)
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of a module that cannot be imported, and no `Exception`
            raise MemoryError(str(error)) from error
        raise


def opened(path: Path) -> Saved:
    """The checkpoint in a file; torch raises several kinds of errors where it is damaged."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    progress, arithmetic = Progress(**content["progress"]), Arithmetic(**content["arithmetic"])
    return Saved(content["state"], progress, arithmetic, dict(content["environment"]))
