"""Varied training pictures, written where a batch wants them: in bulk if their policy has a plan, else one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from pipeline.contracts import Target
from pipeline.mosaics import Mosaics
from pipeline.policy import Policy
from pipeline.transforms import Augmenter, sample_seed
from pipeline.variations import draws
from pipeline.variations.host import Bench
from pipeline.variations.plan import EVEN, Plan, alternating
from pipeline.variations.step import Drawn
from pipeline.variations.targets import moved_objects, moved_points


class Asked(NamedTuple):
    """Some views, as an epoch shows them."""

    epoch: int
    """0-based."""
    positions: np.ndarray
    """Of the views, int64 [n]."""
    turns: np.ndarray
    """How often each has come before in this epoch, int64 [n]: it is varied in another way each time."""

    @classmethod
    def all_of(cls, epoch: int, order: np.ndarray) -> Asked:
        """A whole epoch, of the views in that order, int64 [V]."""
        counts = np.bincount(order)
        by_view = np.argsort(order, kind="stable")
        turns = np.empty_like(order)
        turns[by_view] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        return cls(epoch, order, turns)

    def at(self, part: slice) -> Asked:
        """Some of them."""
        return Asked(self.epoch, self.positions[part], self.turns[part])


@dataclass(frozen=True)
class Recipe:
    """What decides how training pictures are varied; every thread reads it."""

    pictures: np.ndarray
    """uint8 [V, P, P, C]."""
    targets: np.ndarray
    """V entries."""
    learns: Target
    ids: Sequence[str]
    """Of each view."""
    policy: Policy
    seed: int
    """Of the run."""
    mosaic_epochs: int | None
    """The first ones, which see mosaics if the policy has any; None: all do."""

    @cached_property
    def keys(self) -> np.ndarray:
        """Of each view, for counted randomness: uint64 [V]."""
        return draws.keys(self.ids)

    @cached_property
    def plan(self) -> Plan | None:
        """How the policy is done in bulk; None: it is not."""
        policy = self.policy
        return Plan.read(policy.transforms, policy.packed, policy.channels, self.learns, policy.alternates)

    @cached_property
    def mosaics(self) -> Mosaics:
        """The pictures as they come in."""
        return Mosaics(self.pictures, self.targets, self.learns, self.policy.mosaic)

    def keys_of(self, asked: Asked) -> np.ndarray:
        """For counted randomness: uint64 [n]."""
        return draws.again(self.keys[asked.positions], asked.turns)

    def seeds_of(self, asked: Asked) -> list[int]:
        """The same as seeds."""
        named = zip(asked.positions.tolist(), asked.turns.tolist(), strict=True)
        identities = (f"{self.ids[position]}#{turn}" if turn else self.ids[position] for position, turn in named)
        return [sample_seed(self.seed, asked.epoch, identity) for identity in identities]

    def seen(self, asked: Asked) -> list[tuple[np.ndarray, np.ndarray]]:
        """The pictures that come in and what is known of each, as they are or in mosaics."""
        plain = not self.policy.mosaic or (self.mosaic_epochs is not None and asked.epoch >= self.mosaic_epochs)
        seeds = [None] * len(asked.positions) if plain else self.seeds_of(asked)
        return [self.mosaics.seen(*one) for one in zip(asked.positions.tolist(), seeds, strict=True)]


class Varied(Protocol):
    """What varies pictures. Each thread needs its own."""

    def fill(self, asked: Asked, pictures: np.ndarray, targets: np.ndarray) -> None:
        """Vary n pictures.

        Args:
            asked: which.
            pictures: written, uint8 [n, S, S, C].
            targets: written, n entries.
        """


def varied(recipe: Recipe) -> Varied:
    """What varies pictures as the recipe says."""
    return OneByOne(recipe) if recipe.plan is None else InBulk(recipe, recipe.plan)


class OneByOne:
    """By Albumentations itself. (Measured on 224 px, crop, mirror and light: 0.16 ms a picture, 0.08 in bulk.)"""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._augment = Augmenter(recipe.policy.transforms, recipe.learns)

    def fill(self, asked: Asked, pictures: np.ndarray, targets: np.ndarray) -> None:
        """See `Varied`."""
        recipe = self._recipe
        mirrored: Sequence[bool | None] = [None] * len(asked.positions)
        if recipe.policy.alternates:
            mirrored = (alternating(recipe.keys_of(asked), recipe.seed, asked.epoch) < EVEN).tolist()
        each = zip(recipe.seen(asked), recipe.seeds_of(asked), mirrored, strict=True)
        for row, (seen, seed, mirror) in enumerate(each):
            pictures[row], targets[row] = self._augment(*seen, seed, mirror)


class InBulk:
    """By a plan."""

    def __init__(self, recipe: Recipe, plan: Plan) -> None:
        self._recipe, self._plan = recipe, plan
        self._bench = Bench(plan)
        self._put = PUT.get(recipe.learns, _as_known)

    def fill(self, asked: Asked, pictures: np.ndarray, targets: np.ndarray) -> None:
        """See `Varied`."""
        recipe = self._recipe
        drawn = self._plan.drawn(recipe.keys_of(asked), recipe.seed, asked.epoch)
        seen = recipe.seen(asked)
        self._bench.vary([pixels for pixels, _ in seen], drawn, pictures)
        self._put(self._plan, self._bench, drawn, [known for _, known in seen], targets)


Put = Callable[[Plan, Bench, list[Drawn], list[np.ndarray], np.ndarray], None]


def _as_known(plan: Plan, bench: Bench, drawn: list[Drawn], known: list[np.ndarray], targets: np.ndarray) -> None:
    """What is known of a picture as a whole does not move."""
    targets[:] = known


def _masks(plan: Plan, bench: Bench, drawn: list[Drawn], known: list[np.ndarray], targets: np.ndarray) -> None:
    bench.move(known, drawn, targets)


def _objects(plan: Plan, bench: Bench, drawn: list[Drawn], known: list[np.ndarray], targets: np.ndarray) -> None:
    targets[:] = moved_objects(plan, drawn, np.stack(known))


def _points(plan: Plan, bench: Bench, drawn: list[Drawn], known: list[np.ndarray], targets: np.ndarray) -> None:
    targets[:] = moved_points(plan, drawn, np.stack(known))


PUT: dict[Target, Put] = {
    Target.MASK: _masks,
    Target.INSTANCES: _masks,
    Target.OBJECTS: _objects,
    Target.POINTS: _points,
}
"""How what is learnt goes with the pixels, for each kind of it that moves."""
