"""Where a value, its interval or a difference lies, as small inline SVG; `Markup.format` escapes what goes in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from pipeline.wording import stepped

BAR = 100
"""Width of an interval's canvas; the style sheet says how wide it is shown."""
TICKS = 5


class Scale(NamedTuple):
    """From values low..high to pixels start..end."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value lies, held within the ends."""
        share = (value - self.low) / ((self.high - self.low) or 1)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values within, each with what it is called."""
        return stepped(self.low, self.high, TICKS)


def interval_bar(
    value: float, low: float | None, high: float | None, scale: tuple[float, float], other: float | None = None
) -> Markup:
    """Where a value and its interval lie on a scale; `other` is marked by a line across."""
    x = Scale(*scale, 3, BAR - 3)
    span = Markup()
    if low is not None and high is not None:
        span = Markup('<line class="range" x1="{}" x2="{}" y1="8" y2="8"/>').format(x.at(low), x.at(high))
    mark = Markup()
    if other is not None:
        mark = Markup('<line class="other" x1="{0}" x2="{0}" y1="1" y2="15"/>').format(x.at(other))
    return Markup(
        '<svg viewBox="0 0 {} 16" preserveAspectRatio="none" aria-hidden="true">'
        '<line class="rail" x1="3" x2="{}" y1="8" y2="8"/>{}{}'
        '<line class="point" x1="{at}" x2="{at}" y1="8" y2="8"/></svg>'
    ).format(BAR, BAR - 3, span, mark, at=x.at(value))


def difference_bar(found: tuple[float, float, float], left: str, right: str) -> Markup:
    """A difference and the ends of its interval on a rail whose middle is no difference, with words below either end.

    Args:
        found: the difference and both ends; one that is nan has no place, and nothing is drawn.
        left: what a difference below 0 means.
        right: what one above 0 means.
    """
    if any(map(math.isnan, found)):
        return Markup()
    reach = max(map(abs, (*found, 1e-9))) * 1.15
    x = Scale(-reach, reach, 10, 310)
    value, low, high = found
    return Markup(
        '<svg class="difference" viewBox="0 0 320 34" role="img" aria-label="Difference {words}">'
        '<line class="rail" x1="10" x2="310" y1="12" y2="12"/>'
        '<line class="range" x1="{low}" x2="{high}" y1="12" y2="12"/>'
        '<line class="zero" x1="160" x2="160" y1="3" y2="21"/><circle class="point" cx="{at}" cy="12" r="4.5"/>'
        '<text x="10" y="32">{left}</text><text x="310" y="32" text-anchor="end">{right}</text></svg>'
    ).format(
        words=f"{value:+.4f}, interval {low:+.4f} to {high:+.4f}",
        low=x.at(low),
        high=x.at(high),
        at=x.at(value),
        left=left,
        right=right,
    )


def spread(values: Sequence[tuple[float | None, float | None, float | None]]) -> tuple[float, float]:
    """The scale that (value, low, high) of all rows share, with a little room."""
    found = [one for row in values for one in row if one is not None and math.isfinite(one)]
    if not found:
        return 0.0, 1.0
    low, high = min(found), max(found)
    room = (high - low) * 0.04 or abs(high) * 0.05 or 0.5
    return low - room, high + room
