"""Words on a terminal: what comes from outside cannot move the cursor, change colours, or look like our own markup."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text


def console() -> Console:
    """Of standard output; nothing is coloured by what it looks like."""
    return Console(highlight=False, emoji=False)


def plain(value: object, style: str = "") -> Text:
    """Text as it is: markup stays text, and each control character is shown as its escape."""
    return Text("\n".join(safe(line) for line in str(value).split("\n")), style=style)


def safe(text: str) -> str:
    """One line without control characters: an escape or a change of direction is shown as `\\x1b`."""
    return "".join(one if one.isprintable() or one == "\t" else one.encode("unicode_escape").decode() for one in text)


def grid(rows: Iterable[tuple[str, Text | Table]]) -> Table:
    """Names on the left, what there is to say on the right."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def lines(parts: Iterable[Text | str]) -> Text:
    """One under the other."""
    return Text("\n").join(part if isinstance(part, Text) else plain(part) for part in parts)


def day(milliseconds: int) -> str:
    """Local time, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(milliseconds / 1000))


def took(seconds: float) -> str:
    """A duration in its two largest units."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
