"""Checkpoints: a run that is killed at any point goes on to the same weights as one that nobody killed.

A checkpoint is written to a temporary name, flushed, then renamed, and the one before it is kept as well. Randomness
is counted (see `learner.counted`), so the position says all about it and no generator's state is stored.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file, save

from pipeline.files import code_digest, replacing, write_bytes
from pipeline.journal import trainings
from pipeline.train.machine import Arithmetic, Machine

GENERATIONS = ("checkpoint.pt", "checkpoint.old.pt")
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


class Checkpoints:
    """The checkpoints of one training: a folder named by the digest of everything that decides its weights."""

    def __init__(self, key: str) -> None:
        self.folder, self._lock = _claimed(key)
        self.journal = self.folder / "journal.jsonl"
        self._saved = time.monotonic()
        self._older_best = -1

    def save(self, machine: Machine, progress: Progress) -> None:
        """Keep the state after the last step; the checkpoint before it becomes the older one.

        Raises:
            UserError: the disk is full; the checkpoints that were there still are.
        """
        current, old = (self.folder / name for name in GENERATIONS)
        content = {
            "state": machine.state(),
            "progress": asdict(progress),
            "arithmetic": machine.arithmetic._asdict(),
        }
        new = self.folder / "checkpoint.new.pt"
        with replacing(new) as file:
            torch.save(content, file)
        if current.exists():
            current.replace(old)
        new.replace(current)
        for path in self.folder.glob("best-*.safetensors"):  # either generation may be gone back to
            if path not in (self._best(progress.best_epoch), self._best(self._older_best)):
                path.unlink()
        self._older_best = progress.best_epoch
        self._saved = time.monotonic()

    def due(self, seconds: float) -> bool:
        """Whether the last save is longer ago than this."""
        return time.monotonic() - self._saved > seconds

    def latest(self) -> Saved | None:
        """The newest checkpoint that can be read whole."""
        for name in ("checkpoint.new.pt", *GENERATIONS):
            try:
                content = torch.load(self.folder / name, map_location="cpu", weights_only=True)
                progress = Progress(**content["progress"])
                self._older_best = progress.best_epoch
                return Saved(content["state"], progress, Arithmetic(**content["arithmetic"]))
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 (torch raises several kinds on a damaged file)
                print(f"train: {name} cannot be read ({type(error).__name__}); trying the one before it")
        return None

    def keep_best(self, machine: Machine, epoch: int) -> None:
        """Keep the weights of the best epoch so far beside the checkpoints that may still need the one before."""
        weights = {name: tensor.cpu().contiguous() for name, tensor in machine.weights().items()}
        write_bytes(self._best(epoch), save(weights))

    def best(self, epoch: int) -> dict[str, torch.Tensor]:
        """The network's weights after `epoch`, kept by `keep_best`."""
        weights: dict[str, torch.Tensor] = load_file(self._best(epoch))
        return weights

    def clear(self) -> None:
        """Start over: nothing of this training is worth keeping."""
        for path in self.folder.iterdir():
            if path.name != LOCK:
                path.unlink()

    def _best(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch:05d}.safetensors"


@dataclass(frozen=True)
class Saved:
    """A checkpoint, read."""

    state: dict[str, Any]
    progress: Progress
    arithmetic: Arithmetic


def training_key(*about: str) -> str:
    """The digest of everything that decides the weights, this package's code included.

    A checkpoint of other code, data, params or libraries is thereby another training's, and never continued.
    """
    digest = hashlib.sha256()
    for text in (torch.__version__, code_digest(), *about):
        digest.update(f"{len(text)}:{text}".encode())
    return digest.hexdigest()[:32]


def remove_old_trainings() -> None:
    """Remove the checkpoints of all trainings but the latest few."""
    folders = sorted((path for path in trainings().iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in folders[:-KEPT_TRAININGS]:
        with (path / LOCK).open("a") as lock, contextlib.suppress(BlockingIOError):  # another tree's, at work
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)


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
            return folder, lock
        except BlockingIOError:
            lock.close()
    raise AssertionError
