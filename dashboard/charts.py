"""Curves as inline SVG, drawn on the server: no script, and nothing that the page's policy would stop.

Every text goes through `Markup.format`, which escapes it: a name in the data stays a name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from dashboard.axes import Factors, spans_decades, upright
from dashboard.bars import Scale
from pipeline.wording import counted, short

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 10, 42
SIGN, GAP = 8.4, 14
"""Width of a character on an axis, at most, and what is left beside its longest label."""
SMALLEST, LARGEST = 1e-100, 1e100
"""Sizes of what is drawn: a loss beyond them is on its way to no number."""
SPOTS = 80
"""Places of a chart that say their values when pointed at."""
CORNERS = 600
"""Of a curve: more than pixels could show."""
STYLES = 8
"""Of curves, in the style sheet."""

Points = Sequence[tuple[float, float]]


class Series(NamedTuple):
    """A curve of a chart."""

    name: str
    points: Points
    style: int = 0
    """Which of those in the style sheet; `line_chart` says."""


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str = "Epoch",
    best: Sequence[tuple[float, float]] = (),
    factors: bool = False,
    note: str = "",
) -> Markup:
    """A figure with some curves, a legend, and the numbers as a table; empty if nothing can be drawn.

    Args:
        title: above it.
        series: values that are not finite, or nearly so, are left out; after `STYLES` of them the styles begin anew.
        x_label: below it.
        best: points to draw attention to.
        factors: whether like factors are alike on the upright axis; values that are not above 0 are left out then.
        note: what else is to be known of it.
    """
    least = SMALLEST if factors else -LARGEST
    known = [
        Series(one.name, [p for p in one.points if least <= p[1] <= LARGEST], place % STYLES)
        for place, one in enumerate(series)
    ]
    known = [one for one in known if one.points]
    if not known:
        return Markup()
    x, y = _scales(known, factors)
    curves = Markup().join(_curve(one, x, y) for one in known)
    mark = Markup().join(
        Markup('<circle class="best" cx="{}" cy="{}" r="5"/>').format(x.at(a), y.at(b)) for a, b in best
    )
    return Markup(
        '<figure class="chart"><figcaption>{title}{scale}</figcaption>'
        '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{summary}">{axes}{curves}{mark}{spots}</svg>'
        "{legend}{note}{table}</figure>"
    ).format(
        title=title,
        scale=Markup(' <span class="scale">log scale</span>') if factors else "",
        width=WIDTH,
        height=HEIGHT,
        summary=_summary(title, known),
        axes=_axes(x, y, x_label),
        curves=curves,
        mark=mark,
        spots=_spots(known, x, y, x_label),
        legend=_legend(known, bool(best)),
        note=Markup('<p class="note">{}</p>').format(note) if note else "",
        table=_table(title, known, x_label),
    )


def in_factors(series: Sequence[Series]) -> bool:
    """Whether these curves are to be drawn with like factors alike."""
    return spans_decades([y for one in series for _, y in one.points])


def _scales(series: Sequence[Series], factors: bool) -> tuple[Scale, Scale | Factors]:
    across = [x for one in series for x, _ in one.points]
    up = [y for one in series for _, y in one.points]
    y = upright(min(up), max(up), (HEIGHT - BOTTOM, TOP), factors)
    left, right = min(across), max(across)
    start = max(LEFT, GAP + SIGN * max((len(text) for _, text in y.ticks()), default=0))
    return Scale(left, right if right > left else left + 1, start, WIDTH - RIGHT), y


def _axes(x: Scale, y: Scale | Factors, x_label: str) -> Markup:
    parts = [
        Markup(
            '<line class="grid-line" x1="{}" x2="{}" y1="{at}" y2="{at}"/>'
            '<text x="{}" y="{at}" dy="4" text-anchor="end">{}</text>'
        ).format(x.start, x.end, x.start - 7, text, at=y.at(value))
        for value, text in y.ticks()
    ]
    parts += [
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(x.at(value), HEIGHT - BOTTOM + 17, text)
        for value, text in counted(x.low, x.high)
    ]
    parts.append(
        Markup('<line class="axis" x1="{}" x2="{}" y1="{at}" y2="{at}"/>').format(x.start, x.end, at=HEIGHT - BOTTOM)
    )
    middle = (x.start + x.end) / 2
    parts.append(Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(middle, HEIGHT - 4, x_label))
    return Markup().join(parts)


def _curve(one: Series, x: Scale, y: Scale | Factors) -> Markup:
    points = _thinned(one.points, CORNERS)
    corners = " ".join(f"{x.at(a):g},{y.at(b):g}" for a, b in points)
    end = points[-1]
    return Markup('<polyline class="c{0}" points="{1}"/><circle class="d{0} last" cx="{2}" cy="{3}" r="3"/>').format(
        one.style, corners, x.at(end[0]), y.at(end[1])
    )


def _spots(series: Sequence[Series], x: Scale, y: Scale | Factors, x_label: str) -> Markup:
    """Upright strips, each of which says the values at its place when it is pointed at."""
    values = [dict(one.points) for one in series]
    places = [a for a, _ in _thinned([(a, 0.0) for a in sorted({a for of in values for a in of})], SPOTS)]
    half = max((x.end - x.start) / max(1, len(places)) / 2, 1.0)
    spots = []
    for place in places:
        here = [(one.style, one.name, of[place]) for one, of in zip(series, values, strict=True) if place in of]
        said = f"{x_label} {place:g}: " + ", ".join(f"{name} {short(value)}" for _, name, value in here)
        dots = Markup().join(
            Markup('<circle class="dot-mark d{}" cx="{}" cy="{}" r="0"/>').format(style, x.at(place), y.at(value))
            for style, _, value in here
        )
        spots.append(
            Markup(
                '<g class="spot"><title>{}</title><rect class="hit" x="{}" y="{}" width="{}" height="{}"/>{}</g>'
            ).format(said, round(x.at(place) - half, 2), TOP, round(2 * half, 2), HEIGHT - BOTTOM - TOP, dots)
        )
    return Markup().join(spots)


def _legend(series: Sequence[Series], marked: bool) -> Markup:
    if len(series) < 2 and not marked:
        return Markup()
    items = [
        Markup(
            '<li><svg viewBox="0 0 22 10" aria-hidden="true"><polyline class="c{}" points="0,5 22,5"/></svg>{}</li>'
        ).format(one.style, one.name)
        for one in series
    ]
    if marked:
        items.append(
            Markup(
                '<li><svg viewBox="0 0 22 14" aria-hidden="true"><circle class="best" cx="11" cy="7" r="5"/></svg>'
                "kept</li>"
            )
        )
    return Markup('<ul class="legend">{}</ul>').format(Markup().join(items))


def _table(title: str, series: Sequence[Series], x_label: str) -> Markup:
    values = [dict(one.points) for one in series]
    places = [a for a, _ in _thinned([(a, 0.0) for a in sorted({a for of in values for a in of})], SPOTS)]
    head = Markup().join(Markup('<th scope="col" class="number">{}</th>').format(one.name) for one in series)
    rows = Markup().join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            f"{place:g}",
            Markup().join(
                Markup('<td class="number">{}</td>').format(short(of[place], 5) if place in of else "") for of in values
            ),
        )
        for place in places
    )
    return Markup(
        "<details><summary>As a table</summary>"
        '<div class="scroll" role="region" aria-label="{}, as a table" tabindex="0"><table class="table">'
        '<thead><tr><th scope="col">{}</th>{}</tr></thead><tbody>{}</tbody></table></div></details>'
    ).format(title, x_label, head, rows)


def _summary(title: str, series: Sequence[Series]) -> str:
    ends = "; ".join(f"{one.name} from {short(one.points[0][1])} to {short(one.points[-1][1])}" for one in series)
    return f"{title}: {ends}."


def _thinned(points: Points, most: int) -> Points:
    """At most so many of them, evenly, the last one always."""
    if len(points) <= most:
        return points
    step = math.ceil(len(points) / most)
    return [*points[:-1:step], points[-1]]
