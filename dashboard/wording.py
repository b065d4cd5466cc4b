"""Numbers and moments as a person reads them: the filters of the templates."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from pipeline import wording

DASH, MINUS = "–", "\N{MINUS SIGN}"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[^\S\n\t ]|[\x00-\x08\x0e-\x1f\x7f]")
"""Colours and movements of a terminal, and what else cannot be printed."""


class Moment(NamedTuple):
    """A point in time, in the server's zone."""

    iso: str
    whole: str
    """To the second, with the zone."""
    words: str
    """As short as can be: `today 14:05`, `3 Nov 09:12`, `2024-11-03`."""
    seconds: str
    """What follows the words where seconds matter."""


def moment(value: float | str) -> Moment:
    """Of milliseconds since 1970, or an ISO text."""
    if isinstance(value, str):
        then = datetime.fromisoformat(value).astimezone()
    else:
        then = datetime.fromtimestamp(value / 1000).astimezone()
    now = datetime.now().astimezone()
    clock = f"{then:%H:%M}"
    if then.date() == now.date():
        words = f"today {clock}"
    elif then.date() == (now - timedelta(days=1)).date():
        words = f"yesterday {clock}"
    elif abs((now - then).days) < 300:
        words = f"{then.day} {then:%b} {clock}"
    else:
        words, clock = f"{then:%Y-%m-%d}", ""
    return Moment(
        then.isoformat(timespec="seconds"), f"{then:%Y-%m-%d %H:%M:%S %Z}", words, f"{then::%S}" * bool(clock)
    )


def took(seconds: float | None) -> str:
    """A duration in its two largest units."""
    if seconds is None or seconds < 0:
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def since(milliseconds: float) -> str:
    """How long it has been."""
    return took(max(0.0, time.time() - milliseconds / 1000))


def fixed(value: float | None, digits: int = 4) -> str:
    """With so many decimals, of a large value with fewer; a dash if it is undefined."""
    return DASH if value is None or math.isnan(value) else wording.written(value, digits)


def signed(value: float | None, digits: int = 4) -> str:
    """With its sign, a real minus; a dash if it is undefined."""
    return DASH if value is None or math.isnan(value) else wording.written(value, digits, "+").replace("-", MINUS)


def between(low: float | None, high: float | None, digits: int = 4) -> str:
    """The ends of an interval; a dash if there is none, or it is a point."""
    return wording.between(low, high, digits).replace("-", MINUS) or DASH


def spread(low: float, high: float, confidence: float) -> str:
    """The interval of a difference, or that it has none."""
    return wording.interval_said(low, high, confidence, sign="+").replace("-", MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as `12.5 %`."""
    return DASH if share is None else f"{100 * share:.{digits}f} %"


def chance(p: float) -> str:
    """A p-value: `p = 0.031`, `p < 0.001`."""
    return wording.chance_said(p)


def number(value: int) -> str:
    """With commas between the thousands."""
    return f"{value:,}"


def count(value: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{value:,} {what}{'' if value == 1 else 's'}"


def size(amount: float) -> str:
    """Bytes in the unit that suits."""
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def plain(text: str) -> str:
    """What a program says, without what it tells a terminal to do."""
    return CONTROL.sub("", text)


def coded(text: str) -> Markup:
    """Text whose parts in backticks, as commands are, stand out as code; all of it is escaped."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one that nothing closes
        return escape(text)
    return Markup().join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def title(name: str) -> str:
    """A metric's or param's name as words: `balanced_accuracy` is `Balanced accuracy`."""
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def members(params: Mapping[str, Any]) -> str:
    """By the flat params of a run: `3 members, by folds, answers averaged`; empty where there is one training alone."""
    options = {key.partition(".")[2]: value for key, value in params.items() if key.startswith("ensemble.")}
    return wording.members_said(options)
