"""What the gate says of a model, and all that it rests on."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from pipeline.contracts import Options

Outcome = Literal["promote", "hold", "reject"]


class Comparison(Options):
    """Challenger and champion on the same test images; a number that is undefined there is nan."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    score: str
    """Title of the metric."""
    champion_name: str
    """`version 3`, or the baseline that stands in for one: `the baseline of the largest class`."""
    images: int
    challenger: float
    champion: float
    difference: float
    """How much better the challenger is."""
    low: float
    high: float
    """Two-sided interval of the difference."""
    lower: float
    """One-sided bound: above 0 the challenger is better."""
    detectable: float
    """Smallest true difference that these images show in 80 of 100 such tests; nan if they show none."""
    confidence: float
    fixed: int
    """Images that the challenger answers better: where answers are right or wrong, that it alone answers rightly."""
    broken: int
    """Images that the champion answers better."""
    p: float
    """Of the exact sign test of the units, two-sided: how often equal models part so far."""
    decided_by: Literal["McNemar", "bootstrap"] = "bootstrap"
    """The test behind the interval, the bound and `power`."""
    graded: bool = False
    """Whether an image can be answered in part, as one of many objects is."""
    power: dict[float, float] = Field(default_factory=dict)
    """How often this test shows a true difference of so many points, each as a share: {0.01: 0.16, ...}."""
    units: int = 0
    """What the tests count: images, and of those that belong together, such as those of one patient, all as one; 0 in
    what was kept before they were counted."""

    @property
    def grouped(self) -> bool:
        """Whether some images belong together."""
        return 0 < self.units < self.images

    @property
    def exact_test(self) -> str:
        """The name of the test that `p` is of: McNemar's is the sign test of images that are right or wrong."""
        if self.grouped:
            return "exact sign test of the units"
        return "exact sign test" if self.graded else "exact McNemar test"


class SliceRow(Options):
    """How both fare on a part of the test images; `column` is `class` for the images that hold one class."""

    column: str
    value: str
    images: int
    challenger: float
    """Share of the images that it answers rightly; of graded answers the mean of how well, in a class of that class."""
    champion: float
    fixed: int
    """Images that it answers better than the champion."""
    broken: int
    p: float
    """As in `Comparison`."""
    floor: float
    """What the challenger's share must reach; 0 where nothing is asked of this slice."""
    held: bool
    """Whether it reaches that."""


class Check(Options):
    """One thing that must hold of the registered files, whatever the scores."""

    name: Literal["files", "answers", "latency", "size"]
    passed: bool
    found: str
    """In words, with the numbers."""


class Verdict(Options):
    """What the gate says, and why."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    outcome: Outcome
    reasons: list[str]
    comparison: Comparison | None = None
    slices: tuple[SliceRow, ...] = ()
    checks: tuple[Check, ...] = ()
    challenger: str = ""
    """Digest of the model that this is about."""
    champion: str = ""
    """Digest of the champion at that moment; empty if there was none, so that a baseline took its place."""
    dataset: str = ""
    """Digest of the dataset whose test split both answered."""
    epoch: int = 0
    """Of the ledger, when this was decided."""

    @property
    def sound(self) -> bool:
        """Whether the infrastructure check was made and passed: nobody can approve a model without."""
        return bool(self.checks) and all(check.passed for check in self.checks)
