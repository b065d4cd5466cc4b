"""Geometry of the report's charts: numbers in, places on an SVG canvas out. The template draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from pipeline.answering import Curve, Span
from pipeline.evaluate.wording import amount
from pipeline.wording import UNITS, counted, stepped

WIDTH, HEIGHT = 440, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 44
MOST_TICKS = 7
STYLES = 7
"""Of lines, in the style sheet."""

Points = Sequence[tuple[float, float]]


class Tick(NamedTuple):
    """A mark on an axis: where, in pixels, and what it says."""

    at: float
    text: str


class Line(NamedTuple):
    """A curve of a chart."""

    name: str
    style: str
    """The class that the style sheet draws it by."""
    path: str
    """Its corners, as SVG wants them."""
    end: tuple[float, float]
    """Where its last point lies."""


class Bar(NamedTuple):
    """An upright rectangle, and what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    text: str


class Chart(NamedTuple):
    """A chart, ready to be drawn on a canvas of WIDTH x HEIGHT."""

    title: str
    summary: str
    """What it shows, for whoever cannot see it."""
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]
    bars: Sequence[Bar] = ()
    marks: Sequence[tuple[float, float]] = ()
    """Points to draw attention to."""


class Scale(NamedTuple):
    """From values low..high to pixels start..end."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a value, to two decimals; values outside land on the edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self) -> list[Tick]:
        """Round numbers within the scale."""
        return [Tick(self.at(value), text) for value, text in stepped(self.low, self.high)]

    def whole_ticks(self) -> list[Tick]:
        """Whole numbers within the scale, round ones where there are many."""
        return [Tick(self.at(value), text) for value, text in counted(self.low, self.high)]


def above(value: float) -> float:
    """A round number that is not below `value`: 1, 2 or 5 times a power of ten; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= value * (1 - 1e-9))


def curves(
    title: str, y_label: str, series: dict[str, Points], best: Sequence[tuple[float, float]] = ()
) -> Chart | None:
    """Curves over the epochs; None if nothing in them can be drawn."""
    known = {name: [p for p in points if math.isfinite(p[1])] for name, points in series.items()}
    everything = [p for points in known.values() for p in points]
    if not everything:
        return None
    x = _across(min(p[0] for p in everything), max(p[0] for p in everything))
    low, high = min(p[1] for p in everything), max(p[1] for p in everything)
    margin = (high - low) * 0.08 or abs(high) * 0.1 or 1
    y = Scale(max(0.0, low - margin) if low >= 0 else low - margin, high + margin, HEIGHT - BOTTOM, TOP)
    lines = [
        _line(name, f"line-{index % STYLES}", points, x, y)
        for index, (name, points) in enumerate(known.items())
        if points
    ]
    ends = "; ".join(
        f"{name} from {amount(points[0][1])} to {amount(points[-1][1])}" for name, points in known.items() if points
    )
    marks = [(x.at(epoch), y.at(value)) for epoch, value in best]
    return Chart(
        title, f"{title} over the epochs: {ends}.", "Epoch", y_label, x.whole_ticks(), y.ticks(), lines, marks=marks
    )


def of_curve(curve: Curve) -> Chart | None:
    """A curve of the answers, its axes named by what they stand for; None if nothing in it can be drawn."""
    x, y = _unit()
    series = [(name, [p for p in points if all(map(math.isfinite, p))]) for name, points in curve.series]
    series = [(name, points) for name, points in series if points]
    if not series:
        return None
    lines = [_line(curve.ideal_name, "line-ideal", curve.ideal, x, y)] if curve.ideal else []
    bars: list[Bar] = []
    if curve.sizes:
        bars = _bars(curve, x, y)
    else:
        lines += [_line(name, f"line-{place % STYLES}", points, x, y) for place, (name, points) in enumerate(series)]
    ticks = _named(curve.x_span, x), _named(curve.y_span, y)
    return Chart(curve.title, curve.summary, curve.x_label, curve.y_label, *ticks, lines, bars)


def _named(span: Span, scale: Scale) -> list[Tick]:
    """Round values that a span stands for, where they lie on a scale from 0 to 1."""
    if not span.log:
        return [Tick(scale.at(span.share(value)), text) for value, text in stepped(span.low, span.high)]
    powers = range(math.floor(math.log10(span.low)), math.ceil(math.log10(span.high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    inside = [value for value in values if span.low <= value <= span.high]
    if len(inside) < 2:  # less than a factor of 5 wide: round steps lie as densely as factors would
        return [Tick(scale.at(span.share(value)), text) for value, text in stepped(span.low, span.high)]
    whole = [value for value in inside if math.log10(value) % 1 == 0]
    few = inside if len(inside) <= MOST_TICKS or len(whole) < 2 else whole
    few = few[:: -(-len(few) // MOST_TICKS)]
    return [Tick(scale.at(span.share(value)), _short(value)) for value in few]


def _short(value: float) -> str:
    unit, sign = next(((unit, sign) for least, unit, sign in UNITS if value >= least), (1.0, ""))
    return f"{value / unit:g}{sign}"


def _bars(curve: Curve, x: Scale, y: Scale) -> list[Bar]:
    """Upright bars at the points of the only series, the wider the more images are behind them."""
    ((name, points),) = curve.series
    floor, most = y.at(0), max(curve.sizes)
    places = [x.at(a) for a, _ in points]
    room = min((b - a for a, b in pairwise(places)), default=(x.end - x.start) / 15) - 2
    bars = []
    for place, (_, value), images in zip(places, points, curve.sizes, strict=True):
        width = round(room * max(0.15, math.sqrt(images / most)), 2)
        text = f"{images:,} images, {name.lower()} {value:.1%}"
        bars.append(Bar(round(place - width / 2, 2), y.at(value), width, round(floor - y.at(value), 2), text))
    return bars


def _unit() -> tuple[Scale, Scale]:
    return _across(0, 1), Scale(0, 1, HEIGHT - BOTTOM, TOP)


def _across(low: float, high: float) -> Scale:
    return Scale(low, high if high > low else low + 1, LEFT, WIDTH - RIGHT)


def _line(name: str, style: str, points: Points, x: Scale, y: Scale) -> Line:
    corners = [(x.at(a), y.at(b)) for a, b in points]
    return Line(name, style, " ".join(f"{a:g},{b:g}" for a, b in corners), corners[-1])
