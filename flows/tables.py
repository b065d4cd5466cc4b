"""Tables on a terminal or in a pipe, of cells that are text and no markup. Rich is imported when one is drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPED = 120
"""Columns of what goes into a file or a pipe."""


def console() -> Console:
    """Of standard output; nothing is coloured by what it looks like."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = (1,)) -> Table:
    """A table without lines between its columns.

    Args:
        header: a title for each column; all empty: no header.
        rows: cells of each; more than there are columns are left out.
        right: columns with a title whose cells stand on the right.
    """
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE if any(header) else None, show_header=any(header), pad_edge=False)
    for place, name in enumerate(header):
        made.add_column(Text(name), overflow="fold", justify="right" if name and place in right else "left")
    for row in rows:
        made.add_row(*map(Text, row[: len(header)]))
    return made
