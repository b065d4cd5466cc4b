"""Pictures that grow while training goes on, beside pictures of one size: the time of each, and what it comes to.

    .venv/bin/python benchmarks/progressive.py clothes --pairs 5
    .venv/bin/python benchmarks/progressive.py clothes --pairs 1 --epochs 2     # to see that it works

Three sides take turns, with another seed in every round: `fixed`, all epochs at full size; `growing`, as many epochs,
with `train.first_size`; `shorter`, at full size again, with as many epochs as fit into the time of the second. The
accuracy is that on validation and test images together, after the last epoch. Growing pictures are worth it if they are
as accurate as the first and better than the third.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from answers import accuracy  # noqa: E402
from learning import ROOT, clothes, unpacked  # noqa: E402
from turns import machine, ratios, taking_turns  # noqa: E402

from flows.edits import edited, merged  # noqa: E402
from pipeline.augment import stage as augment  # noqa: E402
from pipeline.dataset import Dataset  # noqa: E402
from pipeline.door import parse  # noqa: E402
from pipeline.files import DATASET  # noqa: E402
from pipeline.ingest import stage as ingest  # noqa: E402
from pipeline.params import Params  # noqa: E402
from pipeline.policy import POLICY, Policy  # noqa: E402
from pipeline.train.assembly import Training, assemble  # noqa: E402
from pipeline.train.batches import Material  # noqa: E402
from pipeline.train.epochs import finish_epochs  # noqa: E402
from pipeline.train.members import members_of  # noqa: E402
from pipeline.train.sizes import side_of  # noqa: E402


class Recipe(NamedTuple):
    """What to learn, and how."""

    prepare: Callable[[Path], None]
    """Put the source into a folder."""
    changes: tuple[str, ...]
    """Of params/classification-folder.yaml."""
    growing: tuple[str, ...]
    """What is changed beyond these where pictures grow."""


def small_pictures(folder: Path) -> None:
    """cifar10-jpg as it is."""
    unpacked("cifar10-jpg", folder)


RECIPES = {
    "clothes": Recipe(
        clothes,
        ("augment.size=96", "model={name: convnet, width: 24}", "train.epochs=10", "train.batch_size=32"),
        ("train.first_size=40", "train.full_size_from=0.9"),
    ),
    "cifar": Recipe(
        small_pictures,
        ("augment={name: light, size: 32}", "model={name: convnet, width: 16, stride: 1}", "train.epochs=6"),
        ("train.first_size=16", "train.full_size_from=0.85"),
    ),
}
FIXED = "compute={device: cpu, precision: float32, memory_format: channels_last, compile: never}"


class Run(NamedTuple):
    """What one training came to."""

    seconds: float
    accuracy: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--pairs", type=int, default=5, help="rounds of each side (default 5)")
    parser.add_argument("--epochs", type=int, default=0, help="another number than that of the recipe")
    parser.add_argument("--first-size", type=int, default=0, help="likewise")
    asked = parser.parse_args()
    recipe = RECIPES[asked.recipe]
    with tempfile.TemporaryDirectory(prefix="convoy-progressive-") as folder, contextlib.chdir(folder):
        recipe.prepare(Path("source"))
        changes = [*recipe.changes, *([f"train.epochs={asked.epochs}"] if asked.epochs else []), FIXED]
        params = _params(*changes)
        ingest.run(params, DATASET)
        augment.run(params, Dataset.open(), POLICY.parent)
        print(f"{asked.recipe}: {machine()}", flush=True)
        growing = [*recipe.growing, *([f"train.first_size={asked.first_size}"] if asked.first_size else [])]
        show(_compared(changes, growing, asked.pairs))


def _params(*changes: str) -> Params:
    ready = ROOT / "params" / "classification-folder.yaml"
    text = merged(ready.read_text(), (ROOT / "params.yaml").read_text(), str(ready))
    return parse(Params, edited(text, ["data.path=source", *changes]))


def _compared(changes: list[str], growing: list[str], pairs: int) -> dict[str, list[Run]]:
    full, grown = _params(*changes), _params(*changes, *growing)
    sides = [side_of(grown.train, grown.augment.size, epoch) for epoch in range(grown.train.epochs)]
    cost = sum(side**2 for side in sides) / (len(sides) * grown.augment.size**2)
    shorter = _params(*changes, f"train.epochs={max(1, round(cost * full.train.epochs))}")
    print(
        f"sides of the epochs: {sides}; pixels {cost:.2f} of those of one size; shorter: {shorter.train.epochs} epochs"
    )
    found: dict[str, list[Run]] = {"fixed": [], "growing": [], "shorter": []}

    def side(name: str, params: Params) -> Callable[[], float]:
        def run() -> float:
            found[name].append(_run(params.model_copy(update={"seed": len(found[name])})))
            print(f"  {name:<8} {found[name][-1].seconds:6.1f} s  accuracy {found[name][-1].accuracy:.4f}", flush=True)
            return found[name][-1].seconds

        return run

    named = {"fixed": full, "growing": grown, "shorter": shorter}
    taking_turns({name: side(name, params) for name, params in named.items()}, pairs)
    return found


def _run(params: Params) -> Run:
    dataset, policy = Dataset.open(DATASET), Policy.open(POLICY)
    with contextlib.redirect_stdout(None):
        training = assemble(params, dataset, policy, members_of(params, dataset)[0])
        start = time.perf_counter()
        finish_epochs(training)
        seconds = time.perf_counter() - start
        training.close()
    return Run(seconds, _accuracy(training))


def _accuracy(training: Training) -> float:
    """Of the network as it stands, on all images that it was not trained on."""
    policy, learner = training.policy, training.machine.learner.eval()
    unseen = [Material.of(training.dataset.split(split), policy.frame, policy.plain) for split in ("val", "test")]
    return accuracy(lambda *batch: learner.validate(*batch)[1], unseen, policy, training.machine.device)


def show(found: dict[str, list[Run]]) -> None:
    """Times and accuracies of the sides, and whether the same accuracy was reached."""
    times = {name: [run.seconds for run in runs] for name, runs in found.items()}
    for name, runs in found.items():
        accuracies = [run.accuracy for run in runs]
        spread = f"({min(accuracies):.4f} to {max(accuracies):.4f})"
        print(f"{name:<8} {statistics.median(times[name]):6.1f} s  accuracy {statistics.mean(accuracies):.4f} {spread}")
    print(f"time, fixed / growing: {ratios(times, 'fixed', 'growing')}")
    for name in ("fixed", "shorter"):
        gains = [100 * (mine.accuracy - its.accuracy) for mine, its in zip(found["growing"], found[name], strict=True)]
        error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
        print(f"accuracy, growing - {name}: {statistics.mean(gains):+.2f} points, standard error {error:.2f}")


if __name__ == "__main__":
    main()
