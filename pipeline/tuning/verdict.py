"""What holds a training up, in words, and what to change: each piece of advice with the number that speaks for it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from pipeline.params import TrainParams
from pipeline.train_options import TrainOptions
from pipeline.tuning.laps import BACKWARD, COPY, FORWARD, INPUT, NOTING, OPTIMIZER
from pipeline.tuning.threads import Turns, faster

MUCH = 0.2
"""Share of a step from which something is worth changing."""
USUAL: float = TrainOptions.model_fields["checkpoint_seconds"].default
"""Seconds between checkpoints."""


class Bound(StrEnum):
    """What a training waits for."""

    INPUT = "input"
    COMPUTING = "computing"
    OVERHEAD = "overhead"


class Operator(NamedTuple):
    """One of torch's operations."""

    name: str
    calls: float
    """A step."""
    seconds: float
    """A step, without those that it calls."""


@dataclass(frozen=True)
class Facts:
    """What was measured; seconds are those of a step."""

    device: str
    cores: int
    images: int
    """A step."""
    available: int
    """Views of the training split."""
    size: int
    """Side of the pictures."""
    smaller: int
    """Another one that the network can be built for; 0: none was found."""
    steps: int
    """Behind `phases`."""
    phases: dict[str, float]
    """Of the real loop, by `laps.PHASES`."""
    input_alone: float
    """Of a batch that nobody learns from."""
    network_alone: float
    """Of a step whose batch lies ready."""
    fixed: float
    """Of that, what a batch of any size costs: launching, Python, the optimizer."""
    checkpoint: float
    """Of one checkpoint, as long as the loop waits for it."""
    operators: list[Operator]
    """The longest first."""
    operating: float
    """Of all operators, also of those that are not listed: in steps with a batch that lies ready, which torch's own
    profiler watches, and slows."""
    threads: Turns
    """What a step of the real loop takes with other numbers of threads."""
    params: TrainParams
    arithmetic: dict[str, str]
    """How steps were computed."""

    @property
    def step(self) -> float:
        """Of the real loop, all phases together."""
        return sum(self.phases.values())

    @property
    def bound(self) -> Bound:
        """What a training waits for.

        Input runs beside the network, so it holds a training up where it alone is slower than all the rest. Of the
        rest, overhead is what would stay if batches were small.
        """
        noting = self.phases[NOTING]
        if self.input_alone > self.network_alone + noting:
            return Bound.INPUT
        return Bound.OVERHEAD if self.fixed + noting > self.network_alone - self.fixed else Bound.COMPUTING

    def share(self, *phases: str) -> float:
        """Of a step that these phases take, together."""
        return sum(self.phases[phase] for phase in phases) / self.step

    def rate(self, seconds: float) -> str:
        """Images a second, where a batch takes so long."""
        return f"{self.images / seconds:,.0f} images/s"

    def plain(self) -> dict[str, Any]:
        """For `profile.json`."""
        facts = asdict(self) | {"operators": [one._asdict() for one in self.operators]}
        del facts["params"]
        timed = {"loop": self.step, "input_alone": self.input_alone, "network_alone": self.network_alone}
        rates = {name: self.images / seconds for name, seconds in timed.items()}
        told = {"bound": self.bound, "verdict": verdict(self), "advice": list(advice(self))}
        return facts | {"step": self.step, "images_per_second": rates} | told


def verdict(facts: Facts) -> str:
    """What holds the training up, in a sentence with the numbers that say so."""
    halves = (
        f"the input path alone gives {facts.rate(facts.input_alone)}, the network alone takes "
        f"{facts.rate(facts.network_alone)}, and together they make {facts.rate(facts.step)}"
    )
    if facts.bound is Bound.INPUT:
        return f"Bound by input: {halves}."
    if facts.bound is Bound.COMPUTING:
        return f"Bound by computing: {halves}."
    return (
        f"Bound by overhead: of {_ms(facts.network_alone + facts.phases[NOTING])} a step, {_ms(facts.fixed)} are there "
        f"for a batch of any size, and {_ms(facts.phases[NOTING])} go into notes and checkpoints; {halves}."
    )


def advice(facts: Facts) -> Iterator[str]:
    """What to change, the most promising first."""
    kinds = {Bound.INPUT: _input, Bound.COMPUTING: _computing, Bound.OVERHEAD: _overhead}
    yield from _threads(facts)
    yield from kinds[facts.bound](facts)
    yield from _besides(facts)


def _threads(facts: Facts) -> Iterator[str]:
    if (count := faster(facts.threads)) is None:
        return
    own = next(iter(facts.threads))
    now, then = (facts.rate(statistics.median(facts.threads[each])) for each in (own, count))
    yield (
        f"compute.threads: {0 if count == facts.cores else count} makes {then} in place of {now}, in each of "
        f"{len(facts.threads[own])} turns of {count} and {own} threads; weights get other last bits."
    )


def _input(facts: Facts) -> Iterator[str]:
    compute, could = facts.params.compute, facts.rate(facts.network_alone)
    if 0 < compute.loader_threads < facts.cores:
        yield (
            f"compute.loader_threads: 0 takes all {facts.cores} cores; it is {compute.loader_threads}, and gives "
            f"{facts.rate(facts.input_alone)} where the network could take {could}."
        )
    if facts.device == "cuda" and compute.pictures == "host":
        yield f"compute.pictures: auto varies the pictures on the GPU, which now waits for them {_wait(facts)}."
    yield (
        f"augment: fewer or cheaper transforms; a picture takes {1000 * facts.input_alone / facts.images:.2f} ms until "
        f"it is ready, and the network {1000 * facts.network_alone / facts.images:.2f} ms to learn from it."
    )
    yield f"A larger network would cost little: a step waits for input {_wait(facts)}."


def _computing(facts: Facts) -> Iterator[str]:
    train, compute = facts.params.train, facts.params.compute
    passes = f"forward and backward pass take {facts.share(FORWARD, BACKWARD):.0%} of a step"
    if train.recompute:
        yield (
            f"train.recompute: false, if memory allows: each forward pass is computed twice, and takes "
            f"{_ms(facts.phases[FORWARD])} of {_ms(facts.step)}."
        )
    for name in ("precision", "memory_format", "compile"):
        if (chosen := getattr(compute, name)) != "auto":
            yield f"compute.{name}: auto measures what is fastest; it is {chosen}, and {passes}."
    if smaller := facts.smaller:
        pixels = f"{(smaller / facts.size) ** 2:.0%} of the pixels"
        yield f"augment.size: {smaller} instead of {facts.size} is {pixels}; {passes}."
    yield f"A smaller network: nothing else holds this training up ({_ms(facts.phases[INPUT])} of waiting for input)."


def _overhead(facts: Facts) -> Iterator[str]:
    train, compute = facts.params.train, facts.params.compute
    if facts.share(NOTING) > MUCH:
        more = f"{max(USUAL, 2 * train.checkpoint_seconds):g} or more"
        yield (
            f"train.checkpoint_seconds: {more}; it is {train.checkpoint_seconds:g}, and notes and checkpoints take "
            f"{facts.share(NOTING):.0%} of a step, one checkpoint {_ms(facts.checkpoint)}."
        )
    if facts.fixed > MUCH * facts.network_alone and 2 * facts.images <= facts.available:
        each = (facts.network_alone - facts.fixed) / facts.images
        twice = 2 * facts.images / (facts.fixed + 2 * facts.images * each)
        yield (
            f"train.batch_size: {2 * facts.images} would learn from about {twice:,.0f} images/s in place of "
            f"{facts.images / facts.network_alone:,.0f}; `convoy tune batch` finds the fastest."
        )
    if facts.fixed > MUCH * facts.network_alone:
        if train.accumulation > 1:
            part = _ms(facts.fixed / train.accumulation)
            yield f"train.accumulation: 1, if memory allows: each part costs about {part} of its own."
        if compute.compile == "never":
            fixed, whole = _ms(facts.fixed), _ms(facts.network_alone)
            yield f"compute.compile: auto; launching and Python take up to {fixed} of {whole}."


def _besides(facts: Facts) -> Iterator[str]:
    if facts.share(OPTIMIZER) > MUCH:
        yield (
            f"The optimizer takes {facts.share(OPTIMIZER):.0%} of a step, whatever the batch: a larger "
            "train.batch_size makes fewer steps."
        )
    if facts.device != "cpu" and facts.share(COPY) > MUCH:
        yield (
            "compute.pictures: auto keeps the pictures on the device, if they fit; copying takes "
            f"{facts.share(COPY):.0%} of a step."
        )
    every = max(facts.params.train.checkpoint_seconds, facts.step)
    if facts.share(NOTING) <= MUCH < facts.checkpoint / every:
        yield (
            f"A checkpoint takes {_ms(facts.checkpoint)}, and one is due every {every:g} s: raise "
            "train.checkpoint_seconds."
        )


def _wait(facts: Facts) -> str:
    return f"{facts.share(INPUT):.0%} of the time"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
