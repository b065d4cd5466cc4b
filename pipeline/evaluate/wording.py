"""How names and numbers read on the report and the sheet."""

from __future__ import annotations

import math

from pipeline.drawing import shown

SPELT = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "f1": "F1", "iou": "IoU"}
"""Words of headings that are names."""


def plotted(name: str) -> str:
    """A name for `dvc plots`, whose page (DVC 3.67) runs a `</script><script>...` that stands in a plotted table."""
    return shown(name).replace("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}")


def percent(share: float) -> str:
    """`97.3%`; what falls short of all of it never reads 100.0%."""
    if not math.isfinite(share):
        return "undefined"
    return ">99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def decimal(value: float) -> str:
    """`0.973`; what falls short of 1 never reads 1.000."""
    if not math.isfinite(value):
        return "undefined"
    return ">0.999" if 0.9995 <= value < 1 else f"{value:.3f}"


def cell(value: str | int | float) -> str:
    """One of a table: a count, a share or score, a dash for what is undefined."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, int):
        return thousands(value)
    return decimal(value) if math.isfinite(value) else "\N{EN DASH}"


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
