"""Which tables of a source count: the one that names its pictures, or those of its splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.contracts import LeftOut
from pipeline.errors import UserError, did_you_mean
from pipeline.formats import _table_columns, _table_files
from pipeline.formats._files import Listing, base, folder, split_of
from pipeline.formats._label_sets import NOT_ASKED, Asked
from pipeline.formats._names import splits
from pipeline.formats._table_columns import AS_IT_IS, Layout, Roles
from pipeline.formats._table_files import Table
from pipeline.formats._table_patterns import expanded, is_pattern
from pipeline.formats._table_rows import Reading

HEAD_BYTES = 65_536


def gather(
    listing: Listing, table: str, image: str, label: str, sets: Asked = NOT_ASKED, layout: Layout = AS_IT_IS
) -> tuple[Reading, list[str], list[LeftOut]]:
    """The rows of the tables that count, the names of these, and the tables that do not.

    Args:
        listing: of the source.
        table: the name of the only one; empty: found out.
        image: the column that names pictures, or a pattern of their names; empty: found out.
        label: the column of the classes; empty: found out.
        sets: how several classes are written.
        layout: what else is said of the tables.

    Raises:
        UserError: there is no table of pictures, or several that do not belong together.
    """
    known = _table_columns.bases(listing.pictures)
    files = listing.with_suffix(*_table_files.SUFFIXES, *(_table_files.PLAIN if layout.header else ()))
    found: dict[str, tuple[Table, Roles]] = {}
    left_out: list[LeftOut] = []
    for name in [_named(listing, table, files)] if table else files:
        try:
            data = listing.text(name)
            start = None if table or is_pattern(image) else _table_files.head(data[:HEAD_BYTES], name, layout.header)
            if (
                start and _table_columns.roles(start, known, image, label, sets, layout) is None
            ):  # a large one is not read for nothing
                raise UserError(_useless(start, None))
            one = _table_files.parsed(data, name, layout.header)
            if is_pattern(image):
                one = expanded(one, image, listing.pictures, named=bool(table) or len(files) == 1)
            roles = _table_columns.roles(one, known, image, label, sets, layout)
            if roles is None or not roles.useful:
                raise UserError(_useless(one, roles))
            found[name] = (one, roles)
        except UserError as error:
            left_out.append(LeftOut(name, str(error)))
    chosen = _chosen(listing.path, {name: one.columns for name, (one, _) in found.items()}, left_out)
    left_out += [LeftOut(name, f"a table of all; {chosen[0]} says the splits") for name in found if name not in chosen]
    reading = Reading(listing, splits(chosen))
    reading.look_through([found[name] for name in chosen])
    for name in chosen:
        reading.add(*found[name])
    return reading, chosen, left_out


def _named(listing: Listing, table: str, files: Sequence[str]) -> str:
    for place in (folder(table), folder(f"{listing.inside}/{table}")):
        if place in listing.names:
            return place
    hint = did_you_mean(table, files) or f" Its tables: {', '.join(files[:8]) or 'none'}."
    raise UserError(f"data.table: {listing.path} has no file {table!r}.{hint}")


def _chosen(path: str, columns: Mapping[str, tuple[str, ...]], left_out: Sequence[LeftOut]) -> list[str]:
    """The tables that count: one, or one for each split."""
    by_split = {name: split_of(base(name)) or split_of(name) for name in columns}
    named = [name for name, split in by_split.items() if split] or list(columns)
    if not named:
        reasons = "".join(f" {item.reason}" for item in left_out[:2])
        raise UserError(
            f"{path}: it has no table of pictures.{reasons} Expected CSV, TSV, JSON lines or Parquet with a column of "
            "file names ('image', 'file', ...) and one of classes, boxes or masks, or set data.numbers."
        )
    alike = len({columns[name] for name in named}) == 1 and len({by_split[name] for name in named}) == len(named)
    if len(named) > 1 and not alike:
        raise UserError(
            f"{path}: {len(named)} tables name pictures: {', '.join(named[:6])}{', ...' if len(named) > 6 else ''}. "
            "Set data.table to the one that is meant."
        )
    return named


def _useless(table: Table, roles: Roles | None) -> str:
    missing = (
        "one of classes, boxes or masks; set data.label or data.numbers"
        if roles
        else "one of pictures here; set data.image"
    )
    columns = ", ".join(table.columns[:12]) + (", ..." if len(table.columns) > 12 else "")
    return f"{table.name}: none of its columns ({columns[:300]}) seems to be {missing}."
