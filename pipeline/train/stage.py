"""The stage `train`: dataset + policy -> the model of the epoch that is best on validation."""

from __future__ import annotations

import gc
from pathlib import Path

from pipeline import interrupts
from pipeline.dataset import Dataset
from pipeline.failpoints import TrainingPoint, passing
from pipeline.packed import views
from pipeline.params import TrainParams
from pipeline.policy import Policy
from pipeline.train.assembly import assemble
from pipeline.train.ensemble import Trained, kept, whole
from pipeline.train.epochs import finish_epochs
from pipeline.train.folders import remove_old_trainings
from pipeline.train.members import Member, members_of
from pipeline.train.outputs import write_bundle, write_notes
from pipeline.train.remarks import remarks
from pipeline.train.shortage import enough_for


def run(params: TrainParams, dataset: Dataset, policy: Policy, bundle: Path, notes: Path) -> None:
    """Fit the network to the training split; keep the epoch that is best on validation.

    Same commit, params, data and machine: the same weights, bit for bit, also when the run was killed in between.

    Raises:
        UserError: the device is not there, the network does not fit the pictures, or the loss is no number any more.
        Interrupted: the run was asked to stop; a checkpoint holds all that is done.
    """
    interrupts.at_safe_points()
    members = members_of(params, dataset)
    for remark in remarks(params, policy, len(views(members[0].train, policy.frame, policy.packed).images)):
        print(f"train: {remark}", flush=True)
    trained = [train(params, dataset, policy, member) for member in members]
    if not trained[0].training.ranks.first:
        return  # of several processes one writes
    passing(TrainingPoint.EPOCHS_DONE)
    write(params, trained, bundle, notes)
    passing(TrainingPoint.NOTES_WRITTEN)
    trained[0].training.checkpoints.finish()
    remove_old_trainings()


def train(params: TrainParams, dataset: Dataset, policy: Policy, member: Member) -> Trained:
    """One training from where it stands to its end."""
    if member.title:
        print(f"train: {member.title}learns from {len(member.train):,} images", flush=True)
    with enough_for("what a training begins with", "Take a smaller model, train.batch_size or augment.size."):
        training = assemble(params, dataset, policy, member)
    # What has been imported stays; walking through it for garbage, now and then, took 130 us a step.
    gc.freeze()
    try:
        finish_epochs(training)
    finally:
        gc.unfreeze()
        training.close()
    if any(training.ranks.most(interrupts.asked())):
        raise interrupts.Interrupted(
            f"train: {member.title}stopped after the last epoch; the next run goes on from there."
        )
    return kept(training)


def write(params: TrainParams, trained: list[Trained], bundle: Path, notes: Path) -> None:
    """Write the stage's outputs: the model, and the course of the training."""
    first = trained[0].training
    network, facts, answers = trained[0].network, trained[0].facts, None
    if len(trained) > 1:
        together = whole(params, trained)
        network, facts, answers = together.network, together.facts, together.answers
    task = params.task
    if task.undecided:
        answers = answers or first.validated().answers
        assert answers is not None
        task = task.tuned(answers)
    params = params.model_copy(update={"task": task})
    info = write_bundle(bundle, params, first.dataset, first.policy, network, facts["learnt"])
    passing(TrainingPoint.MODEL_WRITTEN)
    write_notes(notes, first.checkpoints.home, params.task.score, facts)
    arithmetic = ", ".join(first.machine.arithmetic)
    shared = f", {facts['processes']} processes" if "processes" in facts else ""
    print(f"train: kept {_which(trained)}, {info.sized}, {arithmetic}{shared}", flush=True)


def _which(trained: list[Trained]) -> str:
    epochs = [f"{one.facts['best_epoch'] + 1} of {one.facts['epochs']}" for one in trained]
    return f"epoch {epochs[0]}" if len(epochs) == 1 else f"of {len(epochs)} members the epochs {', '.join(epochs)}"
