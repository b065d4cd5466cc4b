"""What the epoch that begins learns from: pictures, or, where only the head of the network learns, kept features."""

from __future__ import annotations

from pipeline.train.assembly import Training
from pipeline.train.batches import plain_batches
from pipeline.train.frozen import FeatureBatches, Features, features_of, head_learner, why_not
from pipeline.train.losses_of_views import plain_views
from pipeline.train.sizes import side_of


def feed(training: Training) -> None:
    """Keep features from the first epoch on in which only the head learns, and let them go when others do.

    They are a function of the weights that rest, so a run that is killed computes them again, to the same bits.
    """
    machine = training.machine
    if training.features and not machine.freezer.head_alone:
        machine.learn_from_pictures()
        training.features = None
    elif machine.freezer.head_alone and not training.features and not training.unkept:
        training.unkept = _keep(training) or ""
        if training.unkept:
            print(f"train: the layers that rest are computed anew each epoch: {training.unkept}.", flush=True)


def _keep(training: Training) -> str | None:
    """Compute the features; in words why they cannot be kept, or None."""
    params, policy, machine = training.params, training.policy, training.machine
    size = params.train.batch_size
    if params.compute.processes > 1:
        return "several processes share the work"
    varied = _varies(training)
    example = next(plain_batches(training.val, policy, min(size, 2)))
    if reason := why_not(machine, policy, varied, example):
        return reason
    train = features_of(machine, plain_views(training), policy, size, "features of train")
    val = features_of(machine, training.val, policy, size, "features of val")
    if train is None or val is None:
        return "their features take more than a quarter of the memory"
    steps, count = training.batches.steps, training.batch_size
    training.features = Features(
        FeatureBatches(train, training.train.targets, count, steps),
        FeatureBatches(val, training.val.targets, count, steps),
    )
    machine.learn_from_features(head_learner(machine))
    return None


def _varies(training: Training) -> bool:
    """Whether pictures are blended, or seen at sizes that grow."""
    options, size = training.params.train, training.policy.size
    return training.params.mixing.blends or side_of(options, size, training.progress.epoch) != size
