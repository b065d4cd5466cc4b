"""A weighted sum of other losses of this folder: cross-entropy learns early, dice evens out rare classes.

Source: Isensee et al. nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation, 2021,
methods, adds dice and cross-entropy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Options, Output, Target
from pipeline.errors import did_you_mean
from pipeline.plugin import config_class, names
from pipeline.training import Weighing

WANTED = (Output.MAP, Target.MASK)
MOST = 16


class Term(Options):
    """One loss of a sum, written as it is by itself, and how much it counts: `{name: dice, weight: 0.5, smooth: 1}`."""

    name: str
    """Of a file in `pipeline/losses/`."""
    weight: float = Field(1.0, gt=0, le=1e6)
    """What its value is multiplied by."""
    loss: SkipJsonSchema[LossConfig]
    """The loss itself; its options stand beside its name."""

    @model_validator(mode="before")
    @classmethod
    def _reads_flat(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            raise ValueError(f"expected a loss by its name, as in {{name: dice, weight: 0.5}}; found {given!r}")
        options = {key: value for key, value in given.items() if key not in ("name", "weight")}
        return {**{key: given[key] for key in ("name", "weight") if key in given}, "loss": part(given["name"], options)}

    @model_serializer(mode="wrap")
    def _writes_flat(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"name": self.name, "weight": self.weight, **self.loss.model_dump(mode="json")}


class Config(LossConfig):
    """Each loss with its options and a weight; by default cross-entropy and dice, which count alike."""

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({WANTED})

    terms: tuple[Term, ...] = Field(
        default_factory=lambda: tuple(Term.model_validate({"name": name}) for name in ("cross_entropy", "dice"))
    )
    """The losses, each with its name, its weight (1 if left out) and its options."""

    @field_validator("terms")
    @classmethod
    def _are_some(cls, terms: tuple[Term, ...]) -> tuple[Term, ...]:
        if not 1 <= len(terms) <= MOST:
            raise ValueError(f"expected 1 to {MOST} losses; found {len(terms)}")
        return terms

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return Sum([(term.weight, term.loss.build(counts, outputs)) for term in self.terms])


class Sum(nn.Module):
    """Losses, each times its weight, added up."""

    def __init__(self, terms: Sequence[tuple[float, nn.Module]]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in terms]
        self.losses = nn.ModuleList(loss for _, loss in terms)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits float [B, K, H, W] and masks uint8 [B, H, W] to a scalar."""
        costs = [weight * loss(logits, targets) for weight, loss in zip(self.weights, self.losses, strict=True)]
        return torch.stack(costs).sum()

    def total_weight(self, targets: Tensor) -> Tensor | float:
        """See `training.Weighing`: that of the first loss that says one; others, as of overlaps, are of parts then."""
        weighing = (loss for loss in self.losses if isinstance(loss, Weighing))
        first = next(weighing, None)
        return len(targets) if first is None else first.total_weight(targets)


def part(name: str, options: dict[str, Any]) -> LossConfig:
    """The loss in `pipeline/losses/<name>.py`.

    Raises:
        ValueError: there is none, it takes no masks, is a sum itself, or has no such options.
    """
    try:
        config = config_class("losses", name)
    except KeyError as error:
        raise ValueError(error.args[0]) from None
    assert issubclass(config, LossConfig)
    if config is Config:
        raise ValueError("a sum within a sum: write its terms beside the others")
    if WANTED not in config.takes:
        valid = (other for other in names("losses") if other != "sum")
        fitting = [other for other in valid if WANTED in config_class("losses", other).takes]  # type: ignore[attr-defined]
        raise ValueError(f"loss {name!r} does not learn from masks; of these, some do: {', '.join(fitting)}")
    try:
        return config.model_validate(options)
    except ValidationError as error:
        raise _worded(error, config) from None


def _worded(error: ValidationError, config: type[LossConfig]) -> ValidationError:
    """The same problems; for an unknown key the nearest of this loss, which the door cannot know."""
    lines: list[InitErrorDetails] = []
    for problem in error.errors():
        kind: str | PydanticCustomError = problem["type"]
        if kind == "extra_forbidden":
            valid = ["weight", *config.model_fields]
            text = did_you_mean(str(problem["loc"][-1]), valid) or f" Valid keys: {', '.join(valid)}"
            kind = PydanticCustomError("value_error", "no such key.{text}", {"text": text})
        line = InitErrorDetails(type=kind, loc=problem["loc"], input=problem["input"])
        if "ctx" in problem:
            line["ctx"] = problem["ctx"]
        lines.append(line)
    return ValidationError.from_exception_data(config.__name__, lines)
