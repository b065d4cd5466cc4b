"""Curves as a picture of their own: an SVG that any browser shows, in its light or dark colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from pipeline.answering import Curve
from pipeline.evaluate.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, of_curve

TITLE, LEGEND = 30, 18
"""Pixels above a chart, and of each line of its legend."""
LOOKS = (
    ("#0f766e", 1.2, ""),
    ("#b1400e", 2.6, "7 4"),
    ("#1f4d8c", 1.8, "2 4"),
    ("#7b3a86", 1.8, "10 4 2 4"),
    ("#a16207", 1.8, "18 5"),
)
"""Of a line: its colour, its width, and its dashes, by which it is told from the others without any colour."""
SWATCH = 36
"""Width in pixels of a piece of each line in the legend."""
STYLE = """
svg { background: #ffffff; font: 11px system-ui, sans-serif; }
text { fill: #57534e; } .title { fill: #1c1917; font-size: 14px; font-weight: 600; }
.grid { stroke: #e4e1da; } .axis { stroke: #57534e; } polyline { fill: none; }
@media (prefers-color-scheme: dark) {
  svg { background: #1c1f22; } text { fill: #a8a39b; } .title { fill: #ece9e4; }
  .grid { stroke: #33373b; } .axis { stroke: #a8a39b; } polyline { filter: brightness(1.8); }
}
"""


def svg(curves: Sequence[Curve], otherwise: str = "There is nothing to draw.") -> str:
    """The curves that can be drawn, one below the other.

    Args:
        curves: of one picture.
        otherwise: what it says where there are none.
    """
    charts = [chart for chart in map(of_curve, curves) if chart]
    heights = [TITLE + HEIGHT + LEGEND * len(chart.lines) + 10 for chart in charts]
    tops = [sum(heights[:place]) for place in range(len(heights))]
    drawn = "\n".join("\n".join(_chart(chart, top)) for chart, top in zip(charts, tops, strict=True))
    drawn = drawn or f'<text class="title" x="{LEFT}" y="20">{escape(otherwise)}</text>'
    summary = escape(" ".join(chart.summary for chart in charts) or otherwise)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {sum(heights) or TITLE}" width="{2 * WIDTH}" '
        f'role="img" aria-label="{summary}">\n<style>{STYLE}</style>\n{drawn}\n</svg>\n'
    )


def _chart(chart: Chart, top: float) -> Iterator[str]:
    yield f'<g transform="translate(0 {top})"><text class="title" x="{LEFT}" y="20">{escape(chart.title)}</text>'
    yield f'<g transform="translate(0 {TITLE})">'
    for tick in chart.y_ticks:
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{tick.at}" y2="{tick.at}"/>'
        yield f'<text x="{LEFT - 8}" y="{tick.at + 4}" text-anchor="end">{escape(tick.text)}</text>'
    for tick in chart.x_ticks:
        yield f'<text x="{tick.at}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(tick.text)}</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
    middle, centre = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(chart.x_label)}</text>'
    turned = f'transform="rotate(-90 13 {centre})"'
    yield f'<text x="13" y="{centre}" text-anchor="middle" {turned}>{escape(chart.y_label)}</text>'
    for place, line in enumerate(chart.lines):
        colour, width, dashes = LOOKS[place % len(LOOKS)]
        look = f'stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes or "none"}"'
        below = HEIGHT + LEGEND * place + 7
        yield f'<polyline points="{line.path}" {look}/>'
        yield f'<polyline class="swatch" points="{LEFT},{below} {LEFT + SWATCH},{below}" {look}/>'
        yield f'<text x="{LEFT + SWATCH + 8}" y="{below + 4}">{escape(line.name)}</text>'
    yield "</g></g>"
