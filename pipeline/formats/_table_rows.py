"""What the rows of tables say of each picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

from pipeline.annotations import Flaw, FlawKind, Thing
from pipeline.errors import did_you_mean
from pipeline.formats import _hugging_face, _table_points
from pipeline.formats._files import Listing, Match
from pipeline.formats._label_sets import YES, flagged, listed, parted
from pipeline.formats._metadata import SPLIT_NAMES
from pipeline.formats._names import folder_splits
from pipeline.formats._numbers_of import numbers_of
from pipeline.formats._samples import find_picture, foreign, masks_among
from pipeline.formats._table_columns import Roles, text
from pipeline.formats._table_files import Row, Table
from pipeline.formats._table_said import Said, note
from pipeline.formats._values import class_name, class_said, number, number_in, shown
from pipeline.source import UNPRINTABLE

NO_CLASS = "object"
"""Of boxes in a table without a column of classes."""
BEYOND = 0.1
"""How far a share of a picture may lie beyond 0 and 1: by rounding, or where a box reaches over the edge."""


class Reading:
    """Gathers rows by picture."""

    def __init__(self, listing: Listing, splits: Mapping[str, str | None]) -> None:
        """For a source whose tables have these splits."""
        self.listing = listing
        self.splits = splits
        self.said: dict[str, Said] = {}
        self.flaws: list[Flaw] = []
        self.relative = True
        """Whether the coordinates of all boxes may be shares of the picture."""
        self.points_relative = True
        """The same of those of points."""
        self._matches: dict[tuple[str, str], Match] = {}
        self._masks: set[str] = set()

    def look_through(self, tables: Sequence[tuple[Table, Roles]]) -> None:
        """Find out which files are masks, before any row is taken in."""
        claims: list[tuple[str | None, str, bool]] = []
        for table, roles in tables:
            if roles.mask is None:
                continue
            for row in table.rows:
                for at, painted in ((roles.image, False), (roles.mask, True)):
                    said = text(row.cells[at])
                    claims.append((self._match(said, table.name).name, said, painted))
        self._masks = masks_among(claims)

    def add(self, table: Table, roles: Roles) -> None:
        """Take in all rows of a table."""
        self.flaws += table.flaws
        for row in table.rows:
            said = text(row.cells[roles.image])
            match, fault = self._picture(said, table.name)
            if match.name is None:
                kind = FlawKind.NO_PICTURE if said else FlawKind.UNREADABLE
                self.flaws.append(Flaw(kind, table.name, row.place, fault))
                continue
            of = self.said.setdefault(match.name, Said(source=table.name))
            if not any(flaw.kind is FlawKind.FOREIGN_PATH for flaw in of.flaws):
                of.flaws += foreign(said, match, table.name, row.place)
            self._row(of, table, row, roles)

    def _picture(self, said: str, table: str) -> tuple[Match, str]:
        if not said:
            return Match(None, False), "it names no picture"
        if "://" in said:
            return Match(None, False), f"{said[:200]} is an address; nothing is fetched"
        match = self._match(said, table)
        if match.name in self._masks:
            match = Match(None, False)
        return match, f"{said[:200]} is not in the source, or more than one file can be meant"

    def _match(self, said: str, table: str) -> Match:
        if (said, table) not in self._matches:
            self._matches[said, table] = self._found(said, table) if said else Match(None, False)
        return self._matches[said, table]

    def _found(self, said: str, table: str) -> Match:
        """The picture that is meant; of a table of one split, where folders say it too, of that or of none."""
        match = find_picture(self.listing, said, table)
        split = self.splits.get(table)
        if match.exact or split not in self._by_split:
            return match
        of_split = find_picture(self.listing, said, table, self._by_split[split])
        return of_split if of_split.name else find_picture(self.listing, said, table, self._by_split.get(None, set()))

    @cached_property
    def _by_split(self) -> dict[str | None, set[str]]:
        """Pictures by the split that their folders say, where folders are of several."""
        found: dict[str | None, set[str]] = {}
        for name, split in folder_splits(self.listing.pictures).items():
            found.setdefault(split, set()).add(name)
        return found if len(found.keys() - {None}) > 1 else {}

    def _row(self, of: Said, table: Table, row: Row, roles: Roles) -> None:
        label = "" if roles.label is None else text(row.cells[roles.label])
        if roles.box:
            self._box(of, table, row, roles, label)
        elif roles.objects is not None:
            self._cell(of, table, row, row.cells[roles.objects])
        elif roles.flags:
            self._flags(of, table, row, roles)
        elif roles.label is not None and label:
            self._label(of, table, row, roles)
        if roles.points:
            self._points(of, table, row, roles)
        if roles.mask is not None and (named := text(row.cells[roles.mask])):
            match = self._match(named, table.name)
            if match.name is None or match.name not in self._masks:
                what = f"its mask {named[:200]} is not in the source, or more than one file can be meant"
                of.flaws.append(Flaw(FlawKind.UNREADABLE, table.name, row.place, what))
            else:
                note(of, of.masks, match.name, table, row)
        if roles.numbers:
            self._numbers(of, table, row, roles)
        self._facts(of, table, row, roles)

    def _numbers(self, of: Said, table: Table, row: Row, roles: Roles) -> None:
        """Numbers of a picture; several rows may say the same ones, as of each of its objects."""
        cells = {name: row.cells[at] for name, at in roles.numbers.items()}
        try:
            if (found := numbers_of(cells)) is not None:
                of.numbers.setdefault(tuple(found.items()), f"{table.name}: {row.place}")
        except ValueError as error:
            of.flaws.append(Flaw(FlawKind.UNREADABLE, table.name, row.place, str(error)))

    def _label(self, of: Said, table: Table, row: Row, roles: Roles) -> None:
        """The class of a picture, or several in one cell."""
        assert roles.label is not None
        cell = row.cells[roles.label]
        try:
            if listed(cell) or roles.separator:
                several = set(map(_plain, cell)) - {""} if listed(cell) else parted(text(cell), roles.separator)
                of.members = (of.members or set()) | set(map(class_said, several))
            if not listed(cell) and (not roles.separator or class_name(text(cell))):  # a long list is no class
                note(of, of.labels, class_said(_plain(cell)), table, row)
        except ValueError as error:
            of.flaws.append(Flaw(FlawKind.UNREADABLE, table.name, row.place, str(error)))

    def _flags(self, of: Said, table: Table, row: Row, roles: Roles) -> None:
        """The classes whose column says yes."""
        try:
            found = flagged({name: text(row.cells[at]) for name, at in roles.flags.items()})
        except ValueError as error:
            of.flaws.append(Flaw(FlawKind.UNREADABLE, table.name, row.place, str(error)))
            return
        if found is not None:
            of.members = (of.members or set()) | found
            if roles.exclusive:
                note(of, of.labels, min(found), table, row)

    def _points(self, of: Said, table: Table, row: Row, roles: Roles) -> None:
        """The points of a picture, which has them once."""
        try:
            found = _table_points.told(row.cells, roles.points, table.name, row.place)
        except ValueError as error:
            of.flaws.append(Flaw(FlawKind.UNREADABLE, table.name, row.place, str(error)))
            return
        known = [place for place in found.places.values() if place]
        self.points_relative = self.points_relative and all(map(_share, chain.from_iterable(known)))
        if of.points is None:
            of.points = found
        else:
            second = f"points of the same picture stand in {of.points.source}: {of.points.place}"
            of.flaws.append(Flaw(FlawKind.DUPLICATE, table.name, row.place, second))

    def _box(self, of: Said, table: Table, row: Row, roles: Roles, label: str) -> None:
        """One object; a row without numbers says that there is none."""
        of.things = [] if of.things is None else of.things
        cells = [row.cells[at] for at in roles.box]
        if all(text(cell) == "" for cell in cells):
            return
        try:
            x1, y1, x2, y2 = _hugging_face.numbers(cells)
            if roles.label is not None and not label:
                raise ValueError("it has no class")
            name = class_said(label) if label else NO_CLASS
        except ValueError as error:
            of.flaws.append(Flaw(FlawKind.UNREADABLE, table.name, row.place, str(error)))
            return
        if roles.sized:
            x2, y2 = x1 + x2, y1 + y2
        self.relative = self.relative and all(map(_share, (x1, y1, x2, y2)))
        crowd = roles.crowd is not None and text(row.cells[roles.crowd]).lower() in YES
        self._thing(of, Thing(name, (x1, y1, x2, y2), f"{row.place} ({name})", crowd), table)

    def _cell(self, of: Said, table: Table, row: Row, objects: Any) -> None:
        of.things = [] if of.things is None else of.things
        for found in _hugging_face.things(objects, {}, table.name, row.place):
            if isinstance(found, Flaw):
                of.flaws.append(found)
            else:
                self.relative = self.relative and all(map(_share, found.box))
                self._thing(of, found, table)

    def _thing(self, of: Said, thing: Thing, table: Table) -> None:
        assert of.things is not None
        if thing in of.known:
            of.flaws.append(Flaw(FlawKind.DUPLICATE, table.name, thing.place, "the same object stands there before"))
        else:
            of.things.append(thing)
            of.known.add(thing)

    def _facts(self, of: Said, table: Table, row: Row, roles: Roles) -> None:
        """Split, group, size and metadata."""
        split = "" if roles.split is None else text(row.cells[roles.split]).lower()
        if split and split not in SPLIT_NAMES:
            hint = did_you_mean(split, SPLIT_NAMES) or " Expected train, val or test, or nothing."
            of.flaws.append(
                Flaw(FlawKind.UNREADABLE, table.name, row.place, f"no split is named {split[:80]!r}.{hint}")
            )
            of.misplaced = True
        if found := SPLIT_NAMES.get(split) or self.splits.get(table.name):
            of.splits.setdefault(found, f"{table.name}: {row.place}")
        if roles.group is not None and (group := text(row.cells[roles.group])):
            if UNPRINTABLE.search(group):
                found = f"the group is {shown(group)}; expected no control characters"
                of.flaws.append(Flaw(FlawKind.UNREADABLE, table.name, row.place, found))
                of.misplaced = True
            of.group = group
        if roles.size and of.size is None:
            of.size = _size([row.cells[at] for at in roles.size])
        told = {name: text(row.cells[at]) for name, at in roles.metadata.items()}
        if of.metadata is None:
            of.metadata = told
        else:  # of several rows what all of them say
            of.metadata = {name: value if told.get(name) == value else "" for name, value in of.metadata.items()}


def _plain(cell: Any) -> str:
    """A class as text.

    Raises:
        ValueError: it is neither text nor a number.
    """
    if cell is not None and not isinstance(cell, str | int | float):
        raise ValueError(f"the class is {shown(cell)}; expected text or a number")
    return text(cell)


def _share(value: float) -> bool:
    """Whether a coordinate may be a share of the picture; of one that is no number nobody knows."""
    return not math.isfinite(value) or -BEYOND <= value <= 1 + BEYOND


def _size(cells: Sequence[Any]) -> tuple[int, int] | None:
    found = [number_in(cell) if isinstance(cell, str) else number(cell) for cell in cells]
    whole = [int(value) for value in found if value is not None and 0 < value < 1_000_000]
    return (whole[0], whole[1]) if len(whole) == 2 else None
