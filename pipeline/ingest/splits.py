"""Which picture is for training, which for choosing the best epoch, and which for the final score.

A source that says so decides. A split that it does not have is taken from the training pictures by their content:
a hash of the split seed and the picture's id is a number in [0, 1), and `test` takes those below its share, `val` the
next. So a picture that is added or removed moves no other, with one exception: a class that would have no picture in
`train` or in a split that is being taken gets the nearest one.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.contracts import SPLITS
from pipeline.errors import UserError
from pipeline.ingest.sifting import PREFERENCE, Picture

if TYPE_CHECKING:
    from pipeline.params import SplitOptions

ROUNDS = 20
"""Over the classes, each of which mends what the one before has left or made."""


def assign(
    pictures: Sequence[Picture],
    options: SplitOptions,
    stratum: Callable[[Any], str],
    kin: Sequence[tuple[str, str]] = (),
) -> list[Picture]:
    """The pictures, each with its split, and with what names those that it is never parted from.

    Args:
        pictures: those that are kept.
        options: shares of the pictures whose split the source leaves open, and the seed.
        stratum: from an annotation to what the splits are balanced over.
        kin: groups that are never parted from each other.

    Raises:
        UserError: the source has no training pictures, or too few of some class.
    """
    pictures = [replace(one, split=_meant(one.split, options)) for one in pictures]
    given = {picture.split for picture in pictures}
    taken = [split for split in ("test", "val") if split not in given]
    homes = _homes(pictures, kin)
    fixed = _fixed(pictures, homes)
    pool = [picture for picture in pictures if picture.id not in fixed]
    if not pool:
        named = " and ".join(split for split in SPLITS if split in given)
        raise UserError(
            f"The source has pictures for {named}, but none to train on. Set split.train to the one to learn from, as "
            "in `split: {train: val}`; a split that is missing then is taken from it."
        )
    strata = {picture.id: stratum(picture.annotation) for picture in pictures}
    _check_known({strata[picture.id] for picture in pool}, {strata[content]: split for content, split in fixed.items()})
    units: dict[str, list[str]] = defaultdict(list)
    for picture in pool:
        units[homes[picture.id]].append(picture.id)
    places = {unit: place(options.seed, unit) for unit in units}
    shares = {"test": options.test, "val": options.val}
    chosen = {unit: _split(at, [(split, shares[split]) for split in taken]) for unit, at in places.items()}
    _fill(chosen, places, {unit: {strata[i] for i in ids} for unit, ids in units.items()}, [*taken, "train"])
    splits = fixed | {content: chosen[unit] for unit, ids in units.items() for content in ids}
    sizes = Counter(homes.values())
    together = {content: home if sizes[home] > 1 else None for content, home in homes.items()}
    return [replace(one, split=splits[one.id], together=together[one.id]) for one in pictures]


def _meant(split: str | None, options: SplitOptions) -> str | None:
    """The split that the source gives a picture, as params take it."""
    if options.given == "ignore":
        return None
    return "train" if split == options.train else split


def _homes(pictures: Sequence[Picture], kin: Sequence[tuple[str, str]]) -> dict[str, str]:
    """For each picture what names all those that it is never parted from: its group with kin, its family, or itself."""
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while parents.setdefault(name, name) != name:
            name = parents[name]
        return name

    def join(one: str, other: str) -> None:
        first, second = sorted((root(one), root(other)))
        parents[second] = first

    for one, other in kin:
        join(of_group(one), of_group(other))
    names = {}
    for picture in pictures:
        names[picture.id] = picture.family or picture.id if picture.group is None else of_group(picture.group)
        join(names[picture.id], picture.family or names[picture.id])
    return {content: root(name) for content, name in names.items()}


def of_group(group: str) -> str:
    """What names the pictures of a group."""
    return f"group {group}"


def place(seed: int, unit: str) -> float:
    """Where a picture, or a group of them, lies in [0, 1): uniform, and independent for each seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{unit}".encode()).digest()[:6]) / 2**48


def _split(at: float, shares: list[tuple[str, float]]) -> str:
    end = 0.0
    for split, share in shares:
        end += share
        if at < end:
            return split
    return "train"


def _fill(chosen: dict[str, str], places: dict[str, float], strata: dict[str, set[str]], wanted: list[str]) -> None:
    """Change `chosen` so that each stratum has a picture in every split of `wanted`.

    A group that moves may be the last one there of another of its classes: another one goes first, and all are looked
    at again.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for unit in sorted(places, key=places.__getitem__):
        for name in strata[unit]:
            members[name].append(unit)
    few = {name: len(units) for name, units in members.items() if len(units) < len(wanted)}
    if few:
        raise UserError(_too_few(few, wanted))

    def last(unit: str) -> bool:
        """Whether a class of a unit has no other one in its split."""
        return any(sum(chosen[other] == chosen[unit] for other in members[name]) == 1 for name in strata[unit])

    for _ in range(ROUNDS):
        every = ((name, split) for name in sorted(members) for split in wanted)
        lacking = [(name, split) for name, split in every if _lacks(members[name], chosen, split)]
        if not lacking:
            return
        for name, split in lacking:
            if _lacks(members[name], chosen, split):
                counts = Counter(chosen[unit] for unit in members[name])
                spare = [unit for unit in members[name] if counts[chosen[unit]] > 1]
                spare = spare[::-1] if split == "train" else spare
                chosen[next((unit for unit in spare if not last(unit)), spare[0])] = split
    listed = ", ".join(f"{name!r} ({split})" for name, split in lacking[:8])
    raise UserError(
        f"Groups of pictures that stay together hold several classes each, and no way was found to share them out so "
        f"that every class is in every split: {listed}. Name smaller groups, or leave a class out."
    )


def _lacks(units: Sequence[str], chosen: dict[str, str], split: str) -> bool:
    return all(chosen[unit] != split for unit in units)


def _too_few(few: dict[str, int], wanted: list[str]) -> str:
    splits = ", ".join(split for split in SPLITS if split in wanted)
    if "" in few:
        return (
            f"Too few usable pictures, or groups of pictures that stay together: {few['']}. Expected {len(wanted)} or "
            f"more, one for each of {splits}. Add some."
        )
    listed = ", ".join(f"{name!r} ({count})" for name, count in sorted(few.items())[:8])
    more = f" and {len(few) - 8} more" if len(few) > 8 else ""
    return (
        f"Too few usable pictures of {listed}{more}: each class needs {len(wanted)} or more, one for each of {splits}. "
        "Add pictures or leave the class out."
    )


def _fixed(pictures: Sequence[Picture], homes: dict[str, str]) -> dict[str, str | None]:
    """The pictures that the source puts into `val` or `test`, themselves or by another that they are not parted from.

    Copies of one picture may lie in two of its splits: that is told, and left as it is.
    """
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    given: dict[str, str] = {}
    for picture in sorted(pictures, key=lambda picture: PREFERENCE[picture.split]):
        if picture.split is not None:
            given.setdefault(homes[picture.id], picture.split)
            if picture.group is not None:
                groups[picture.group][picture.split] = picture.name
    parted = [group for group, places in groups.items() if len(places) > 1]
    if parted:
        places = "; ".join(f"{split}: {name}" for split, name in sorted(groups[min(parted)].items()))
        raise UserError(
            f"{len(parted):,} group{'s' * (len(parted) > 1)} of pictures in several splits, {min(parted)!r} for one "
            f"({places}). Put each group into one split, or set split.given to ignore, and all are split anew."
        )
    splits = {picture.id: picture.split or given.get(homes[picture.id]) for picture in pictures}
    return {content: split for content, split in splits.items() if split in ("val", "test")}


def _check_known(known: set[str], fixed: dict[str, str | None]) -> None:
    unknown = sorted(fixed.keys() - known)
    if unknown:
        listed = ", ".join(f"{name!r} ({fixed[name]})" for name in unknown[:8])
        raise UserError(
            f"{len(unknown)} class{'es' * (len(unknown) > 1)} to validate or test with, but none of it to train on: "
            f"{listed}. Add training pictures of it or leave it out."
        )
