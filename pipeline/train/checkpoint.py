"""Checkpoints: a run that is killed at any point goes on to the same weights as one that nobody killed.

A checkpoint is copied at once and written beside the steps that follow, to a temporary name, flushed, then renamed; the
one before it is kept as well. Randomness is counted (see `learner.counted`), so the position says all about it and no
generator's state is stored.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from pipeline.failpoints import TrainingPoint, passing
from pipeline.files import replacing, sync_file, sync_folder, write_bytes, write_text
from pipeline.journal import JOURNAL, folder_of
from pipeline.train import seen
from pipeline.train.copies import bytes_of
from pipeline.train.folders import LOCK, claimed, remove
from pipeline.train.generations import CURRENT, FINISHED, NEW, OLD, CheckpointFolder
from pipeline.train.machine import Machine
from pipeline.train.saved import Progress, Saved


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
