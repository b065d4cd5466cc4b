"""The sections of `params.yaml` about training that name no part: how long, which layers, how many, where."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pipeline.contracts import SMALLEST, Options, Shaped

DEVICES = (
    "a device: auto (the first GPU, or else the processor), cpu, cuda (the first GPU), cuda:1 (another one, by its "
    "number from 0) or mps (that of an Apple)"
)


class TrainOptions(Options):
    """How long and in what portions, and what becomes of a training that goes wrong."""

    epochs: int = Field(10, ge=1)
    """Passes over the training images."""
    batch_size: int = Field(64, ge=1)
    """Images behind one step."""
    accumulation: int = Field(1, ge=1)
    """A batch is computed in so many parts, whose gradients are added up as what they weigh in its loss: the same step
    in less memory. Batch normalisation sees each part alone, as do losses about overlaps (`dice` and its like), and
    what detectors divide by."""
    clip_norm: float = Field(0, ge=0, allow_inf_nan=False)
    """A gradient whose norm over all weights is larger is shrunk to this one; 0 clips nothing."""
    recompute: bool = False
    """Forget what the blocks of the network compute and compute it again for the gradient (activation checkpointing):
    much less memory, up to a third more time."""
    first_size: int = Field(0, ge=0, le=4096)
    """Side of the pictures that training begins with; it grows to `augment.size` (progressive resizing). 0: all epochs
    see pictures of that size; else 4 or more."""
    full_size_from: float = Field(0.7, gt=0, le=1)
    """The share of the epochs after which pictures have grown to `augment.size`."""
    patience: int = Field(0, ge=0)
    """Stop after so many epochs without a better validation score; 0 never stops early."""
    checkpoint_seconds: float = Field(30, ge=0, allow_inf_nan=False)
    """Time between checkpoints within an epoch, on a slow disk as long as it takes to write one; each epoch's end has
    one anyway. 0: after each step, which waits until the one before it is written."""
    when_diverging: Literal["stop", "rollback"] = "stop"
    """Of a loss that is no number: stop, or go back to where the epoch began, and on with half the learning rate;
    further back each time, three times at most."""
    when_out_of_memory: Literal["stop", "halve"] = "stop"
    """Stop, or compute each batch in more parts from there on: in the fewest of those tried that fit."""

    @field_validator("accumulation")
    @classmethod
    def _has_no_empty_parts(cls, parts: int, others: ValidationInfo) -> int:
        images = others.data.get("batch_size", parts)
        if parts > images:
            raise ValueError(f"a batch of {images} images has no {parts} parts; set {images} or less")
        return parts

    @field_validator("first_size")
    @classmethod
    def _is_a_size_to_grow_from(cls, side: int, others: ValidationInfo) -> int:
        if 0 < side < SMALLEST:
            raise ValueError(f"found {side}; set {SMALLEST} or more, or 0 to have all epochs see pictures of full size")
        if side and others.data.get("epochs") == 1:
            raise ValueError(
                f"is {side}, but the last epoch is at full size, and there is one; set train.epochs to 2 or more, or "
                "this to 0"
            )
        return side


class LayersOptions(Options):
    """Which layers learn, when, and how fast: none rests in a network that begins with random weights."""

    frozen_epochs: int = Field(0, ge=0)
    """Epochs in which only the head, the last layer, learns; as many as `train.epochs`: nothing else ever does."""
    thawing_epochs: int = Field(0, ge=0)
    """Epochs after these in which the layers below follow one after the other, from the last to the first, which learns
    in the next one; 0: all at once."""
    rate_decay: float = Field(1.0, gt=0, le=1)
    """The learning rate of each layer, as a share of that of the layer after it."""


class EnsembleOptions(Options):
    """Several trainings that make one model."""

    members: int = Field(1, ge=1, le=100)
    """How many; 1 is a single training."""
    by: Literal["seeds", "folds"] = "seeds"
    """What differs: seeds of first weights, order and augmentation; or, of so many folds of the training and validation
    images, the one that each validates on (k-fold cross-validation). Mean and deviation of pixels, and the scales of
    numbers that are learnt, are those of the training split for every member, whatever it validates on."""
    join: Literal["average", "soup"] = "average"
    """average: each answers, and the mean is told; soup: one network with the mean of their weights, which all start
    from the same ones then."""

    @model_validator(mode="after")
    def _has_folds_to_learn_from_and_to_score(self) -> EnsembleOptions:
        if self.by == "folds" and self.members == 1:
            raise ValueError(
                "by is folds, and there is 1 member: with one fold to validate on, no other is left to learn from; set "
                "members to 2 or more, or by to seeds"
            )
        if self.by == "folds" and self.join == "soup":
            raise ValueError(
                "by is folds and join is soup, but the one network of a soup has learnt from every fold: no image is "
                "left to score it on; set join to average, or by to seeds"
            )
        if self.join == "soup" and self.members == 1:
            raise ValueError(
                "join is soup, and there is 1 member, whose weights have no others to be the mean with; set members to "
                "2 or more, or join to average"
            )
        return self


class ComputeOptions(Options):
    """Where and how the arithmetic is done. Nearly all of it changes the last bits of the weights."""

    device: Annotated[str, Shaped("auto|cpu|mps|cuda(:[0-9]+)?", DEVICES)] = "auto"
    """`auto` takes the first GPU, or the processor where there is none."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the forward pass; `auto` measures and takes the fastest."""
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """`auto` measures and takes the faster."""
    compile: Literal["auto", "never", "always"] = "auto"
    """Compile the forward and backward pass; `auto` tries it where the run is long enough to win the time back."""
    threads: int = Field(0, ge=0)
    """Processor threads for computing; 0 takes every core."""
    loader_threads: int = Field(0, ge=0)
    """Threads that augment pictures; 0 takes every core. No result depends on it."""
    pictures: Literal["auto", "host", "device"] = "auto"
    """Where the training pictures lie and are augmented; `auto`: on a GPU that has room for all of them."""
    processes: int = Field(1, ge=1, le=1024)
    """That train together, each on a part of every batch: one for each GPU. The stage starts them, or torchrun does."""
    sharded: bool = False
    """Share the weights and the optimizer's state out among the processes (FSDP2), for networks that do not fit into
    one; else each has all (DDP)."""

    @model_validator(mode="after")
    def _has_processes_to_share(self) -> ComputeOptions:
        if self.sharded and self.processes == 1:
            raise ValueError(
                "sharded shares weights out among processes, and there is one; set processes or turn it off"
            )
        return self
