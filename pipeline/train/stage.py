"""The stage `train`: dataset + policy -> the model of the epoch that is best on validation."""

from __future__ import annotations

from pathlib import Path

from pipeline import interrupts
from pipeline.dataset import Dataset
from pipeline.params import TrainParams
from pipeline.policy import Policy
from pipeline.train.assembly import Training, assemble
from pipeline.train.checkpoint import remove_old_trainings
from pipeline.train.epochs import finish_epochs
from pipeline.train.outputs import write_bundle, write_notes


def run(params: TrainParams, dataset: Dataset, policy: Policy, bundle: Path, notes: Path) -> None:
    """Fit the network to the training split; keep the epoch that is best on validation.

    Same commit, params, data and machine: the same weights, bit for bit, also when the run was killed in between.

    Raises:
        UserError: the device is not there, the network does not fit the pictures, or the loss is no number any more.
        Interrupted: the run was asked to stop; a checkpoint holds all that is done.
    """
    interrupts.at_safe_points()
    training = assemble(params, dataset, policy)
    try:
        finish_epochs(training)
    finally:
        training.close()
    if interrupts.asked():
        raise interrupts.Interrupted("train: stopped after the last epoch; the next run writes the model.")
    keep_best(training, bundle, notes)
    remove_old_trainings()


def keep_best(training: Training, bundle: Path, notes: Path) -> None:
    """Write the stage's outputs: the model of the best epoch, and the course of the training."""
    params, machine, progress = training.params, training.machine, training.progress
    machine.learner.network.load_state_dict(training.checkpoints.best(progress.best_epoch))
    machine.average = None  # these are the weights that it kept
    if params.task.undecided:
        params = params.model_copy(update={"task": params.task.tuned(training.validated().answers)})
    write_bundle(bundle, params, training.dataset, training.policy, machine)
    write_notes(notes, training.checkpoints, progress, machine, params.task.score)
    print(
        f"train: kept epoch {progress.best_epoch + 1} of {progress.epoch}, {machine.parameters():,} parameters, "
        f"{machine.arithmetic.precision}, {machine.arithmetic.memory_format}, "
        f"{machine.arithmetic.execution}"
    )
