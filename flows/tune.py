"""`convoy tune`: a learning rate and a batch size, proposed from a short trial of the training itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows import settings
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.params import Params
    from pipeline.tuning.batch import Found
    from pipeline.tuning.trial import Trial

app = typer.Typer(
    no_args_is_help=True,
    help="Propose a learning rate, or a batch size, from a short trial on your data. Changes no model, no checkpoint.",
)
NARROWEST = 10.0
"""Factor from the first learning rate to the last, at least: a loss takes about a decade to fall, and one to rise."""
UNTOUCHED = "no model is changed."
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
    if high < low * NARROWEST * (1 - 1e-9):
        raise UserError(
            f"--from {low:g} --to {high:g}: less than a decade shows nothing; try --to {NARROWEST * low:g} or more."
        )
    root = settings.enter_project()
    print(f"tune lr: trains up to {steps:,} steps at learning rates from {low:g} to {high:g}; {UNTOUCHED}", flush=True)
    from flows.measuring import measuring
    from pipeline.progress import track

    with measuring(root) as params:
        from pipeline.dataset import Dataset
        from pipeline.policy import Policy
        from pipeline.tuning.apart import apart
        from pipeline.tuning.range_test import range_test
        from pipeline.tuning.rates import Doubt, proposal
        from pipeline.tuning.report import write_rates

        with apart(params, Dataset.open(), Policy.open()) as training, track("tune lr", steps) as advance:
            points = range_test(training, low, high, steps, advance)
        found = proposal(points)
        write_rates(points, found)
        ended = f"stopped at {points[-1].rate:.2g}, where the loss diverged" if len(points) < steps else "to the end"
        print(f"tune lr: {len(points)} steps from {low:g} to {high:g}, {ended}; the curve is in out/tuning/lr.svg")
        if isinstance(found, Doubt):
            raise UserError(f"No learning rate is proposed: {found.why}.")
        print(f"  the loss falls fastest at    {found.steepest:.2g}")
        print(f"  it is lowest at              {found.lowest:.2g}")
        print(
            f"Proposed, midway between the two by factors: optimizer.lr {found.rate:g}; it is "
            f"{params.optimizer.lr:g} now."
        )
        _conclude(_rates(params, found.rate), apply)


@app.command()
def batch(
    most: Annotated[int, typer.Option(min=1, help="The largest batch to try.")] = 4096,
    apply: Apply = False,
) -> None:
    """Try ever larger batches, a few steps each, and propose the fastest; say which is the largest that fits.

    What is proposed leaves at least 10 steps an epoch, and brings the learning rate along that goes with it.
    Batches are doubled until memory would run out, and then the gap is halved until it is a sixteenth of the batch. On
    a processor nothing is swapped or killed for it: memory grows by the same for each picture, so what the next size
    takes is known before it is tried.
    The curves are in out/tuning/batch.svg, their numbers in batch.csv.
    """
    root = settings.enter_project()
    print(f"tune batch: trains a few steps each with ever larger batches, up to {most:,}; {UNTOUCHED}", flush=True)
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
                f"No batch can be trained: {found.why}. Take smaller pictures (augment.size), a smaller network, or "
                "train.recompute: true."
            )
        write_batches(found)
        if line := found.line:
            print(f"Memory: {line.fixed / 1e6:,.0f} MB, and {line.each / 1e6:.3g} MB for each picture of a batch.")
        largest, quickest = found.largest, found.quickest
        speed = f"{largest.images_per_second:,.0f} images/s"
        print(f"The largest that fits, of those tried: {largest.size}, with {speed}; {found.why}.")
        if quickest is not largest:
            print(f"The fastest of them: {quickest.size}, with {quickest.images_per_second:,.0f} images/s.")
        if found.proposed is None:
            raise UserError(f"No batch size is proposed: {found.doubt}.")
        propose_batch(params, found, found.proposed, apply)


def propose_batch(params: Params, found: Found, one: Trial, apply: bool) -> None:
    """Say what is proposed and what it changes: steps an epoch, and the learning rates that go with it."""
    from pipeline.tuning.batch import STEPS, an_epoch, rate_for, steady

    old, fastest = params.train.batch_size, found.fastest
    as_fast, but = "about as fast as any", ""
    if fastest is not one:
        as_fast += f" that makes {STEPS} steps an epoch"
        gives = f"gives {fastest.images_per_second:,.0f} images/s"
        but = f"A batch of {fastest.size} {gives}, but makes {an_epoch(fastest.steps())}."
    speed = f"{one.images_per_second:,.0f} images/s"
    count = params.compute.processes
    size = max(count, one.size - one.size % count)  # what the door lets in
    parts = f", of which {size} have {count} equal parts, one for each process" if size != one.size else ""
    print(f"Proposed: train.batch_size {one.size}, the smallest that is {as_fast} ({speed}){parts}; it is {old} now.")
    if but:
        print(but)
    if size == old:
        print(f"It stays as it is, with {an_epoch(one.steps(size))}.")
        return
    print(f"It makes {an_epoch(one.steps(size))}; {old} makes {one.steps(old):,}.")
    rate = rate_for(params.optimizer, min(old, one.views), size)
    rule = "the linear rule, as for SGD"
    if steady(params.optimizer):
        rule = "the square root, as for Adam: its steps are as long whatever the gradient is"
    print(
        f"With it optimizer.lr changes from {params.optimizer.lr:g} to {rate:g}, by {rule}. `convoy tune lr` finds out."
    )
    _conclude([f"train.batch_size={size}", *_rates(params, rate)], apply)


def _rates(params: Params, rate: float) -> list[str]:
    """The assignments for every learning rate of the optimizer, where `lr` is `rate`; the others are told of."""
    from pipeline.tuning.rates import scaled

    rates = scaled(params.optimizer, rate)
    for name, value in rates.items():
        if name != "lr":
            print(f"By as much: optimizer.{name} {value:g}; it is {getattr(params.optimizer, name):g} now.")
    return [f"optimizer.{name}={value:g}" for name, value in rates.items()]


def _conclude(assignments: list[str], apply: bool) -> None:
    if apply:
        from flows.run import change_params

        change_params(assignments, None)
        print(f"params.yaml says {', '.join(assignments)} now; `convoy run` trains with it.")
    else:
        print(f"\n    convoy run {' '.join(f'--set {one}' for one in assignments)}\n")
