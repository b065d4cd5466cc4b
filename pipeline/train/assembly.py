"""Everything that a training works with, put together: fresh, or as its latest checkpoint left it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch

from pipeline.dataset import Dataset
from pipeline.journal import Journal
from pipeline.packed import views
from pipeline.params import TrainParams, described, part_name
from pipeline.plugin import metric_named
from pipeline.policy import Policy
from pipeline.train.allocation import keep_memory
from pipeline.train.batches import Material, TrainingBatches, plain_batch, slices
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.environment import WHERE, differences, environment, way
from pipeline.train.folders import training_key
from pipeline.train.frozen import FeatureBatches, Features
from pipeline.train.generations import CheckpointFolder
from pipeline.train.informing import inform
from pipeline.train.learner import Learner, build_learner
from pipeline.train.loop import Score, Validation, validate
from pipeline.train.machine import Arithmetic, Machine
from pipeline.train.members import Member, members_of
from pipeline.train.orders import check_column, epoch_order, known_of
from pipeline.train.probe import choose
from pipeline.train.processes.fitting import check_alike, check_average, joined, unmeasured
from pipeline.train.processes.followers import Notes, SeenNotes, Unwritten, UnwrittenSeen, followed
from pipeline.train.processes.ranks import Ranks
from pipeline.train.processes.sharing import sharing_of
from pipeline.train.recompute import blocks_of
from pipeline.train.resident import ResidentBatches, open_batches
from pipeline.train.saved import Progress, Saved
from pipeline.train.seen import SeenLog
from pipeline.train.sizes import check_sides
from pipeline.training import Known


@dataclass
class Training:
    """Everything a training works with; assembled once, then moved step by step."""

    params: TrainParams
    dataset: Dataset
    policy: Policy
    member: Member
    train: Material
    known: Known
    val: Material
    batches: TrainingBatches | ResidentBatches
    machine: Machine
    checkpoints: CheckpointFolder
    progress: Progress
    journal: Notes
    seen: SeenNotes
    features: Features | None = None
    """What the head learns from where it alone does, in place of pictures."""
    unkept: str = ""
    """Why features cannot be kept."""

    def validated(self) -> Validation:
        """What the network is worth on the validation split, with the weights that are kept."""
        params, policy, split = self.params, self.policy, self.member.val
        if self.features:  # which one process alone has
            batches = ((batch, True) for batch in self.features.val.plain())
        else:
            dealt = self.ranks.dealt(slices(len(self.val), params.train.batch_size))
            batches = ((plain_batch(self.val, policy, part), counts) for part, counts in dealt)
        seen = views(split, policy.frame, policy.plain)
        with self.machine.averaged():
            return validate(self.machine, batches, split, seen, Score(params.task, metric_named(params.task.score)))

    @property
    def source(self) -> TrainingBatches | ResidentBatches | FeatureBatches:
        """What it learns from now: pictures, or features of them."""
        return self.features.train if self.features else self.batches

    @property
    def batch_size(self) -> int:
        """Images behind one step: as many as params say, or all that there are."""
        return min(self.params.train.batch_size, len(self.train))

    @property
    def ranks(self) -> Ranks:
        """The processes that train together."""
        return self.machine.sharing.ranks

    def flush(self) -> None:
        """Let readers see all that it noted.

        Raises:
            UserError: the disk is full.
        """
        self.journal.flush()
        self.seen.flush()

    def close(self) -> None:
        """End its threads, once what was saved is on disk, and let readers see all that it noted."""
        self.checkpoints.close()
        self.batches.close()
        self.seen.close()
        self.journal.close()


def assemble(params: TrainParams, dataset: Dataset, policy: Policy, member: Member | None = None) -> Training:
    """Build everything, and go back to the latest checkpoint if this training has one.

    Args:
        params: of the run.
        dataset: to learn from.
        policy: by which pictures are varied.
        member: of an ensemble; None: the first one, or the only one.

    Raises:
        UserError: params do not fit this machine, or each other; or the training was begun elsewhere.
    """
    member = member or members_of(params, dataset)[0]
    key = _key(params, dataset, policy)
    check_column(params.order, member.train)
    ranks, device = joined(params)
    check_alike(ranks, f"{key} {params.train.checkpoint_seconds} {params.compute}")
    keep_memory(device)
    learner = build_learner(params.model_copy(update={"seed": member.weights_seed}), member.dataset, policy)
    params = params.model_copy(update={"seed": member.seed})
    check_sides(learner.network, policy.channels, policy.size, params.train, part_name(params.model))
    if params.train.recompute and not blocks_of(learner.network) and member.number < 2:
        print(
            f"train: train.recompute is true, but model {part_name(params.model)!r} has no block of several layers "
            "that could forget: it changes nothing",
            flush=True,
        )
    # What is packed for the first time is packed by one process, and read by the others.
    train = ranks.in_turn(lambda: Material.of(member.train, policy.frame, policy.packed))
    known = known_of(member.train, train)
    val = ranks.in_turn(lambda: Material.of(member.val, policy.frame, policy.plain))
    batches = open_batches(params, train, policy, device, ranks)
    where = environment(device, params.compute)
    checkpoints = followed(ranks, lambda: Checkpoints(key, where, member.number))
    saved = ranks.in_turn(lambda: _taken_up(checkpoints, batches.steps))
    if saved is None:
        inform(learner, train, policy)
    arithmetic = saved.arithmetic if saved else ranks.found(lambda: _probe(params, learner, batches, known, device))
    sharing = sharing_of(params.compute, ranks)
    machine = Machine.assemble(params, learner, device, arithmetic, batches.steps * params.train.epochs, sharing)
    check_average(params, machine.average)
    progress = saved.progress if saved else Progress()
    if saved:
        machine.restore(saved.state)
        print(
            f"train: {member.title}goes on from epoch {progress.epoch + 1}, step {progress.step} of {batches.steps}",
            flush=True,
        )
    journal = Journal(checkpoints.home, member.number) if ranks.first else Unwritten()
    done = batches.steps * progress.epoch + progress.step
    seen = SeenLog(checkpoints.seen, done) if ranks.first else UnwrittenSeen()
    if saved and saved.environment != checkpoints.environment:
        checkpoints.save(machine, progress)  # what was allowed once need not be allowed again
    return Training(
        params, dataset, policy, member, train, known, val, batches, machine, checkpoints, progress, journal, seen
    )


def _taken_up(checkpoints: CheckpointFolder, steps: int) -> Saved | None:
    """The latest checkpoint if the training goes on from there; else it starts over.

    Args:
        checkpoints: of the training.
        steps: of an epoch.

    Raises:
        UserError: the training was begun elsewhere, and nobody has allowed to go on here.
    """
    saved = checkpoints.latest(steps)
    if saved:
        progress, differing = saved.progress, differences(saved.environment, checkpoints.environment)
        at = f"epoch {progress.epoch}"
        if progress.step:
            at = f"epoch {progress.epoch + 1}, step {progress.step} of {steps}"
        if way(at, differing, checkpoints.finished) == "go on":
            progress.moves += [f"after {at}: {name}: {words}" for name, words in differing.items()]
            return saved
    checkpoints.clear()
    return None


def _probe(
    params: TrainParams,
    learner: Learner,
    batches: TrainingBatches | ResidentBatches,
    known: Known,
    device: torch.device,
) -> Arithmetic:
    """How to compute: what params fix, or what this process finds to be fastest by itself."""
    if params.compute.sharded:
        return unmeasured(params.compute, device)
    first = batches.epoch(0, 0, epoch_order(params.order, params.seed, 0, params.train.epochs, known))
    arithmetic = choose(params, learner, next(first), device, batches.steps * params.train.epochs)
    first.close()  # type: ignore[attr-defined]
    return arithmetic


def _key(params: TrainParams, dataset: Dataset, policy: Policy) -> str:
    """What is learnt, and not where: see `pipeline.train.environment`."""
    about = described(params)
    about["train"].pop("checkpoint_seconds")
    for name in WHERE:
        about["compute"].pop(name)
    return training_key(json.dumps(about, sort_keys=True), dataset.info.digest, policy.model_dump_json())
