"""The checkpoints of one training as each of its processes sees them: the newest, and the one before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from pipeline.journal import read, standing
from pipeline.train import seen
from pipeline.train.machine import Machine
from pipeline.train.saved import Progress, Saved, opened
from pipeline.train.shortage import ran_out

NEW = "checkpoint.new.pt"
"""Written whole, and not yet given its name."""
CURRENT, OLD = "checkpoint.pt", "checkpoint.old.pt"
FINISHED = "finished"
"""Says that the model has been written."""


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
