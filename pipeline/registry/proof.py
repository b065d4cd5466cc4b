"""Whether a run that was rebuilt is the one that is recorded: digest by digest, stage by stage.

A stage is the same if all that it wrote is. What it read is compared as well, to say what was different before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import yaml

from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.registry.environment import Environment


class Change(Options):
    """One thing that is not as it was."""

    what: str
    """As `pipeline/train/loop.py`, `train.epochs`, `package numpy`."""
    before: str
    """As recorded; empty where there was none."""
    after: str


class StageProof(Options):
    """One stage, as recorded and as rebuilt."""

    name: str
    outcome: Literal["identical", "different", "taken over"]
    """Taken over: not rebuilt, its recorded output served those after it."""
    written: dict[str, str]
    """Digests of what it wrote, as recorded."""
    differing: list[Change]
    """What it wrote otherwise."""
    causes: list[Change]
    """What it read otherwise: code, params, outputs of stages before it."""


class Proof(Options):
    """What rebuilding a recorded run came to."""

    run: str
    identical: bool
    stages: list[StageProof]
    """In their order, up to the first one that differs."""
    environment: list[Change]
    """What is different about the machine; it may or may not have changed the result."""
    notes: list[str]

    @property
    def first_difference(self) -> StageProof | None:
        """The first stage that wrote something else."""
        return next((stage for stage in self.stages if stage.outcome == "different"), None)


def entries(lock_text: str) -> dict[str, Any]:
    """The stages of a `dvc.lock`.

    Raises:
        UserError: it cannot be read.
    """
    try:
        found: dict[str, Any] = yaml.safe_load(lock_text)["stages"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"The recorded dvc.lock cannot be read: {error}. The record was changed.") from None
    return found


def compare_stage(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> StageProof:
    """One stage's entry in `dvc.lock` as recorded and as rebuilt."""
    differing = _changes(_digests(before.get("outs")), _digests(after.get("outs")))
    causes = [
        *_changes({"command": str(before.get("cmd"))}, {"command": str(after.get("cmd"))}),
        *_changes(_digests(before.get("deps")), _digests(after.get("deps"))),
        *_changes(_params(before), _params(after)),
    ]
    return StageProof(
        name=name,
        outcome="different" if differing else "identical",
        written=_digests(before.get("outs")),
        differing=differing,
        causes=causes,
    )


def taken_over(name: str, before: Mapping[str, Any]) -> StageProof:
    """A stage whose recorded output was put in place instead of made again."""
    return StageProof(name=name, outcome="taken over", written=_digests(before.get("outs")), differing=[], causes=[])


def compare_environments(before: Environment, after: Environment) -> list[Change]:
    """What is different about the machine and its libraries."""

    def plain(environment: Environment) -> dict[str, str]:
        named = {"python": environment.python, "system": environment.system, "processor": environment.processor}
        packages = {f"package {name}": version for name, version in environment.packages.items()}
        training = {f"training {key}": str(value) for key, value in environment.training.items()}
        lock = {"requirements.lock": environment.requirements[:12]}
        return {**named, "cores": str(environment.cores), **lock, **training, **packages}

    return _changes(plain(before), plain(after))


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    return [
        Change(what=key, before=before.get(key, ""), after=after.get(key, ""))
        for key in sorted(before.keys() | after.keys())
        if before.get(key, "") != after.get(key, "")
    ]


def _digests(items: Any) -> dict[str, str]:
    return {item["path"]: str(item.get("md5", "")) for item in items or []}


def _params(entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: str(value)
        for file in (entry.get("params") or {}).values()
        for section, values in file.items()
        for key, value in _flat(section, values)
    }


def _flat(key: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [pair for name, inner in value.items() for pair in _flat(f"{key}.{name}", inner)]
    return [(key, value)]
