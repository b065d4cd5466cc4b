"""How names and numbers read on the report and the sheet."""

from __future__ import annotations

import math

from pipeline.strokes.letters import shown
from pipeline.wording import SMALL, written

SPELT = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "f1": "F1", "iou": "IoU", "mae": "MAE", "rmse": "RMSE"}
"""Words of headings that are names."""


def plotted(name: str) -> str:
    """A name for `dvc plots`, whose page (DVC 3.67) runs a `</script><script>...` that stands in a plotted table."""
    return shown(name).replace("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}")


def percent(share: float) -> str:
    """`97.3%`, or `99.98%`: what falls short of all of it never reads 100.0%, nor what is not nothing 0.0%."""
    if not math.isfinite(share):
        return "undefined"
    least = min((part for part in (abs(share), abs(1 - share)) if part), default=1.0)
    return f"{share:.{max(1, min(9, -math.floor(math.log10(least)) - 2))}%}"


def decimal(value: float) -> str:
    """A share as `0.973`, or `0.9998`: see `written`."""
    return written(value, 3) if math.isfinite(value) else "undefined"


def amount(value: float) -> str:
    """What is no share: `52,310`, `418.24`, `12.405`, `0.973`, `0.00214`."""
    if not math.isfinite(value):
        return "undefined"
    return f"{value:.3g}" if SMALL <= abs(value) < 0.01 else written(value, 3)


def cell(value: str | int | float) -> str:
    """One of a table: a count, a share or an amount, a dash for what is undefined."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, int):
        return thousands(value)
    if not math.isfinite(value):
        return "\N{EN DASH}"
    return decimal(value) if 0 <= value <= 1 else amount(value)


def heading(name: str) -> str:
    """`boundary_f1` as `Boundary F1`."""
    words = " ".join(SPELT.get(word, word) for word in name.split("_"))
    return words[:1].upper() + words[1:]


def lower(title: str) -> str:
    """A title within a sentence: `balanced accuracy`, but `ROC AUC` and `F1`."""
    return title if title[1:2].isupper() or title[1:2].isdigit() else title[:1].lower() + title[1:]


def one(unit: str) -> str:
    """`images` as `image`."""
    return unit.removesuffix("s")


def thousands(value: int) -> str:
    """`11,173,962`."""
    return f"{value:,}"
