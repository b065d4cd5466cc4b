"""How names and numbers read on the report and the sheet."""

from __future__ import annotations

import math


def shown(name: str) -> str:
    """A name for people to read: what cannot be seen, or would turn the text around it, is replaced."""
    joiners = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"  # some scripts and emoji are spelt with them
    visible = "".join(c if c.isprintable() or c in joiners else "\N{REPLACEMENT CHARACTER}" for c in name)
    return visible if visible.strip(joiners + " ") else "(blank)"


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


def lower(title: str) -> str:
    """A title within a sentence: `balanced accuracy`, but `ROC AUC` and `F1`."""
    return title if title[1:2].isupper() or title[1:2].isdigit() else title[0].lower() + title[1:]


def thousands(value: int) -> str:
    """`11,173,962`."""
    return f"{value:,}"
