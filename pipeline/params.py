"""The sections of `params.yaml`, frozen and typed, and which of them each stage depends on.

A stage has its own sections only, the ones that `dvc.yaml` lists for it; whoever starts a run has `Params`, all of
them. `pipeline.door` reads them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from pipeline.contracts import (
    AnnotationRules,
    FormatConfig,
    LossConfig,
    ModelConfig,
    Options,
    PolicyConfig,
    Shaped,
    TaskConfig,
)
from pipeline.train_options import ComputeOptions, EnsembleOptions, LayersOptions, TrainOptions
from pipeline.training import AverageConfig, MixingConfig, OptimizerConfig, OrderConfig, ScheduleConfig

PART_FOLDERS = {
    "data": "formats",
    "task": "tasks",
    "augment": "policies",
    "model": "models",
    "loss": "losses",
    "optimizer": "optimizers",
    "schedule": "schedules",
    "order": "orders",
    "mixing": "mixings",
    "average": "averages",
}
"""Sections that name a part, and the folder that holds the parts."""

WORD = "[A-Za-z0-9_!#$%&'*+/=?^`{|}~-]+"
MAIL_ADDRESS = rf"(?=.{{3,254}}$){WORD}(\.{WORD})*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*"
"""What mail can be sent to; no character of it can start another header."""
BLOCK = "[a-z0-9-]+/[a-z0-9-]+"
"""Of Prefect."""


class SplitOptions(Options):
    """Shares of the images for a source that comes without splits."""

    val: float = Field(0.15, gt=0, lt=1)
    """Share for choosing the best epoch."""
    test: float = Field(0.2, gt=0, lt=1)
    """Share for the final score."""
    seed: int = Field(0, ge=0)
    """Another seed, other splits."""
    train: Literal["train", "val", "test"] = "train"
    """Which of the source's splits is learnt from: another one where the source has no `train`."""
    given: Literal["keep", "ignore"] = "keep"
    """What becomes of the source's own splits; ignore: all pictures are split anew, group by group."""
    group: str = ""
    """A regular expression whose first bracket, in the name of a file, is its group where the source names none:
    `([^/]+)_[0-9]+[.]jpg` takes `Ann_1.jpg` and `Ann_2.jpg` for one person. Groups are never parted between splits."""

    @field_validator("group")
    @classmethod
    def _has_a_bracket(cls, pattern: str) -> str:
        try:
            brackets = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        if pattern and brackets < 1:
            raise ValueError("has no bracket; put one around what is the group, as in `([^/]+)_[0-9]+[.]jpg`")
        return pattern

    @model_validator(mode="after")
    def _leaves_something(self) -> SplitOptions:
        if self.val + self.test >= 1:
            raise ValueError(f"val + test is {self.val + self.test:g}, which leaves nothing to train on")
        return self


class EvaluateOptions(Options):
    """What `evaluate` draws up."""

    resamples: int = Field(1000, ge=100, le=100_000)
    """Of the bootstrap behind every interval."""
    worst: int = Field(24, ge=0, le=1000)
    """Pictures on the sheet of worst errors."""


class GateOptions(Options):
    """What a model must show before it becomes champion."""

    promote: Literal["auto", "ask", "never"] = "auto"
    """`auto` moves the champion when the test says so; `ask` waits for a person; `never` only reports."""
    decide_within_hours: float = Field(72, gt=0, le=87_600, allow_inf_nan=False)
    """How long `ask` waits, ten years at most; silence is a no."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Of the paired test on the same test images."""
    baseline: Literal["class_means", "largest_class"] = "class_means"
    """What a first model has to beat: the better of the largest class and the nearest class mean of 8 x 8 pictures, or
    the largest class alone, for a task that is known to be easy."""
    class_floor: float = Field(0, ge=0, le=1)
    """Share of each class's test images that must be answered rightly; 0 asks nothing."""
    slices: tuple[str, ...] = ()
    """Columns of `samples.parquet` by which the test images are told apart: group, width, height, source, ..."""
    slice_floor: float = Field(0, ge=0, le=1)
    """Share of each slice's test images that must be answered rightly; 0 asks nothing."""
    smallest_slice: int = Field(10, ge=1)
    """Classes and slices of fewer test images are shown, and held to no floor."""
    latency_ms: float = Field(0, ge=0, allow_inf_nan=False)
    """Median time from one encoded picture to its answer, on the compute device; 0 is no limit."""
    size_mb: float = Field(0, ge=0, allow_inf_nan=False)
    """Of the model's files; 0 is no limit."""

    @model_validator(mode="after")
    def _has_slices_to_hold(self) -> GateOptions:
        if self.slice_floor and not self.slices:
            raise ValueError(
                f"slice_floor is {self.slice_floor:g}, and slices names no column, so that nothing is held to it; name "
                "some in slices, as in [group], or set slice_floor to 0"
            )
        return self

    @field_validator("slices")
    @classmethod
    def _are_different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the column {name!r} stands twice; keep one")
        return names


class FlowOptions(Options):
    """How Prefect runs the stages. No result depends on it."""

    retries: int = Field(1, ge=0, le=10)
    """Of a stage that dies; a mistake that a user can mend is not tried again."""
    timeout_seconds: float = Field(0, ge=0, allow_inf_nan=False)
    """Of one stage; 0 is no limit."""


class NotifyOptions(Options):
    """Whom a run tells what came of it. No result depends on it, and no secret belongs here: this file is recorded."""

    on: tuple[Literal["failure", "success", "decision"], ...] = ()
    """What is told; a decision is one that somebody has to make. Nothing is told by default."""
    webhook: str = ""
    """Address that gets a signed POST; one that is secret belongs into CONVOY_WEBHOOK_URL instead."""
    email: Annotated[tuple[Annotated[str, Shaped(MAIL_ADDRESS, "name@host")], ...], Field(max_length=50)] = ()
    """Recipients, by the server in CONVOY_SMTP_URL."""
    prefect_block: Annotated[str, Shaped(f"({BLOCK})?", "type/name of a block, as in slack-webhook/team")] = ""
    """A notification block of the Prefect server: `slack-webhook/team`."""

    @model_validator(mode="before")
    @classmethod
    def _read_on(cls, given: Any) -> Any:
        """YAML 1.1 takes the key `on` for true; YAML 1.2, as DVC reads this file, does not."""
        if isinstance(given, dict) and True in given and "on" not in given:
            return {"on" if key is True else key: value for key, value in given.items()}
        return given

    @field_validator("webhook")
    @classmethod
    def _is_web_address(cls, address: str) -> str:
        try:
            parts = urlsplit(address)
            usable = not address or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
        except ValueError:
            usable = False
        if not usable or not address.isascii() or not address.isprintable() or " " in address:
            raise ValueError("expected an address of the form https://host/path")
        if address and "@" in parts.netloc:
            raise ValueError("holds a user or password; give this address in the variable CONVOY_WEBHOOK_URL instead")
        return address


class IngestParams(Options):
    """What `ingest` depends on."""

    data: SerializeAsAny[FormatConfig]
    annotations: AnnotationRules
    split: SplitOptions
    task: SerializeAsAny[TaskConfig]


class AugmentParams(Options):
    """What `augment` depends on."""

    augment: SerializeAsAny[PolicyConfig]


class TrainParams(Options):
    """What `train` depends on."""

    seed: int = Field(0, ge=0, lt=2**32)
    """First weights, order of the pictures and augmentation follow from it."""
    task: SerializeAsAny[TaskConfig]
    model: SerializeAsAny[ModelConfig]
    loss: SerializeAsAny[LossConfig]
    optimizer: SerializeAsAny[OptimizerConfig]
    schedule: SerializeAsAny[ScheduleConfig]
    order: SerializeAsAny[OrderConfig]
    mixing: SerializeAsAny[MixingConfig]
    average: SerializeAsAny[AverageConfig]
    train: TrainOptions
    layers: LayersOptions
    ensemble: EnsembleOptions
    compute: ComputeOptions


class EvaluateParams(Options):
    """What `evaluate` depends on."""

    task: SerializeAsAny[TaskConfig]
    compute: ComputeOptions
    evaluate: EvaluateOptions


class Named(Options):
    """Which model this is about."""

    name: Annotated[
        str,
        Shaped(
            "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}",
            "at most 64 letters, digits, dots, hyphens and underscores, a letter or digit first",
        ),
    ]
    """Of the model in the registry and of the MLflow experiment."""


class Told(Named):
    """Who hears of it."""

    notify: NotifyOptions = NotifyOptions()


class Params(Told, IngestParams, AugmentParams, TrainParams, EvaluateParams):
    """The whole of `params.yaml`."""

    gate: GateOptions
    flow: FlowOptions


def part_name(part: Options) -> str:
    """The `name:` under which params chose this part: its file's name."""
    return type(part).__module__.rpartition(".")[2]


def described(params: Options) -> dict[str, Any]:
    """Params as plain JSON values, defaults and the names of parts included."""
    plain: dict[str, Any] = {}
    for key in type(params).model_fields:
        value = getattr(params, key)
        if isinstance(value, Options):
            dumped = value.model_dump(mode="json")
            plain[key] = {"name": part_name(value), **dumped} if key in PART_FOLDERS else dumped
        else:
            plain[key] = value
    return plain
