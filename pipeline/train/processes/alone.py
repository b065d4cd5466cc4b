"""What is left to do when several processes have trained together: one of them does it."""

from __future__ import annotations

from pipeline.train.assembly import Training
from pipeline.train.learner import build_learner
from pipeline.train.processes.ranks import Ranks
from pipeline.train.processes.sharing import Sharing


def go_on_alone(training: Training) -> None:
    """Have a training ended by this process, with a network that it has whole, as if it had never been shared."""
    machine = training.machine
    machine.sharing.free(machine.learner)
    learner = build_learner(training.params, training.dataset, training.policy).to(machine.device)
    learner.arrange(machine.learner.memory_format)
    machine.go_on_with(learner)
    machine.sharing = Sharing(Ranks())
