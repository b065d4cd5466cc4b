"""`convoy tune`: a learning rate and a batch size, proposed from a short trial of the training itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows import settings
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.params import Params
    from pipeline.tuning.batch import Found
    from pipeline.tuning.rates import Proposal

app = typer.Typer(
    no_args_is_help=True,
    help="Propose a learning rate, or a batch size, from a short trial on your data. Changes no model, no checkpoint.",
)
Apply = Annotated[bool, typer.Option("--apply", help="Write what is proposed into params.yaml.")]


@app.command()
def lr(
    low: Annotated[float, typer.Option("--from", min=1e-12, help="Learning rate of the first step.")] = 1e-7,
    high: Annotated[float, typer.Option("--to", max=1e6, help="Of the last.")] = 10,
    steps: Annotated[int, typer.Option(min=20, max=10_000, help="At most; it ends where the loss diverges.")] = 100,
    apply: Apply = False,
) -> None:
    """Train a few steps at ever larger learning rates, and propose one: the range test of Smith, 2015.

    Optimizer, network, loss, mixing and precision are those of params.yaml, and so are the pictures. The curve is in
    out/tuning/lr.svg, its numbers in lr.csv.
    """
    if not low < high:
        raise UserError(f"--from {low:g} --to {high:g}: the first must be less than the second.")
    root = settings.enter_project()
    from flows.measuring import measuring
    from pipeline.progress import track

    with measuring(root) as params:
        from pipeline.dataset import Dataset
        from pipeline.policy import Policy
        from pipeline.tuning.apart import apart
        from pipeline.tuning.range_test import range_test
        from pipeline.tuning.rates import proposal
        from pipeline.tuning.report import write_rates

        with apart(params, Dataset.open(), Policy.open()) as training, track("tune lr", steps) as advance:
            points = range_test(training, low, high, steps, advance)
        found = proposal(points)
        write_rates(points, found)
        ended = f"stopped at {points[-1].rate:.2g}, where the loss diverged" if len(points) < steps else "to the end"
        print(f"tune lr: {len(points)} steps from {low:g} to {high:g}, {ended}; the curve is in out/tuning/lr.svg")
        if found is None:
            raise UserError(
                f"No learning rate can be proposed: from {low:g} to {points[-1].rate:.2g} the loss falls by no more "
                "than it scatters. Try more steps (--steps 400), or look at the curve."
            )
        _show_rates(params, found)
        _conclude([f"optimizer.lr={found.rate:g}"], apply)


@app.command()
def batch(
    most: Annotated[int, typer.Option(min=1, help="The largest batch to try.")] = 4096,
    apply: Apply = False,
) -> None:
    """Try ever larger batches, a few steps each, and propose the fastest; say which is the largest that fits.

    Batches are doubled until memory would run out, and then halved in between. On a processor nothing is swapped or
    killed for it: memory grows by the same for each picture, so what the next size takes is known before it is tried.
    The curves are in out/tuning/batch.svg, their numbers in batch.csv.
    """
    root = settings.enter_project()
    from flows.measuring import measuring

    with measuring(root) as params:
        from pipeline.dataset import Dataset
        from pipeline.policy import Policy
        from pipeline.tuning.batch import find
        from pipeline.tuning.report import write_batches
        from pipeline.tuning.trial import Subject

        dataset = Dataset.open()
        subject = Subject(params, dataset.root, Policy.open())
        found = find(subject, dataset.info.splits["train"], most, lambda line: print(line, flush=True))
        if not found.trials:
            raise UserError(
                f"Not even a batch of {found.too_large} can be trained: it {found.why}. Take smaller pictures "
                "(augment.size), a smaller network, or train.recompute: true."
            )
        write_batches(found)
        _show_batches(params, found)
        _conclude([f"train.batch_size={found.fastest.size}"], apply)


def _show_rates(params: Params, found: Proposal) -> None:
    print(f"  the loss falls fastest at    {found.steepest:.2g}")
    print(f"  it is lowest at              {found.lowest:.2g}, of which a tenth is {found.below_lowest:.2g}")
    print(f"Proposed, in the middle: optimizer.lr {found.rate:g}; it is {params.optimizer.lr:g} now.")


def _show_batches(params: Params, found: Found) -> None:
    from pipeline.tuning.batch import hint

    fastest, largest, old = found.fastest, found.largest, params.train.batch_size
    if line := found.line:
        print(f"Memory: {line.fixed / 1e6:,.0f} MB, and {line.each / 1e6:.3g} MB for each picture of a batch.")
    print(f"The largest that fits, of those tried: {largest.size}; the search ended at {found.why}.")
    print(
        f"Proposed: train.batch_size {fastest.size}, the smallest that is about as fast as any "
        f"({fastest.images_per_second:,.0f} images/s); it is {old} now."
    )
    if fastest.size != old:
        rates = hint(params.optimizer.lr, old, fastest.size)
        rule = "the square root, for Adam and its kin" if fastest.adaptive else "the linear rule, for SGD"
        rate = rates.root if fastest.adaptive else rates.linear
        print(f"With it the learning rate changes: {rate:.2g} by {rule}. `convoy tune lr` then finds out.")


def _conclude(assignments: list[str], apply: bool) -> None:
    if apply:
        from flows.run import change_params

        change_params(assignments, None)
        print(f"params.yaml says {', '.join(assignments)} now; `convoy run` trains with it.")
    else:
        print(f"\n    convoy run {' '.join(f'--set {one}' for one in assignments)}\n")
