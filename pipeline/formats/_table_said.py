"""What the rows of tables come to for one picture, and what is noted of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pipeline.annotations import Flaw, FlawKind, Objects, Points, Thing
from pipeline.contracts import SPLITS
from pipeline.formats._table_files import Row, Table


@dataclass
class Said:
    """What tables say of one picture."""

    labels: dict[str, str] = field(default_factory=dict)
    """Classes, each with where it stands first."""
    members: set[str] | None = None
    """All classes, where a picture may be of several; None: nothing is said of that."""
    numbers: dict[tuple[tuple[str, float], ...], str] = field(default_factory=dict)
    """Numbers with their names, likewise."""
    masks: dict[str, str] = field(default_factory=dict)
    """Names in the source, likewise."""
    things: list[Thing] | None = None
    """None: nothing is said of objects."""
    known: set[Thing] = field(default_factory=set)
    """The same: a picture may have thousands."""
    points: Points | None = None
    source: str = ""
    """The table that says so."""
    size: tuple[int, int] | None = None
    splits: dict[str, str] = field(default_factory=dict)
    group: str | None = None
    metadata: dict[str, str] | None = None
    flaws: list[Flaw] = field(default_factory=list)
    misplaced: bool = False
    """Whether its split cannot be understood: it is not learnt from, or a test image might be."""

    @property
    def split(self) -> str | None:
        """The one that keeps it from being learnt, where there are several."""
        return next((split for split in reversed(SPLITS) if split in self.splits), None)

    def placed(self, relative: bool) -> Points | None:
        """The points, if anything is said of them."""
        return self.points and replace(self.points, relative=relative)

    def objects(self, relative: bool) -> Objects | None:
        """The objects, if anything is said of them."""
        return None if self.things is None else Objects(tuple(self.things), self.source, relative, self.size)


def note(of: Said, known: dict[str, str], value: str, table: Table, row: Row) -> None:
    """Keep a class or a mask; a flaw if it is said again."""
    if first := known.get(value):
        of.flaws.append(Flaw(FlawKind.DUPLICATE, table.name, row.place, f"the same stands in {first}"))
    known.setdefault(value, f"{table.name}: {row.place}")


def parts(said: Mapping[str, Said], others: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The masks of each picture, also of those of which nothing is said."""
    return {**dict.fromkeys(others, ()), **{name: tuple(of.masks) for name, of in said.items()}}
