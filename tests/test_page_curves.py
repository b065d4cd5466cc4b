"""The charts of a run: of one training, and of several with a line each."""

from __future__ import annotations

import math
import re

import pytest
from markupsafe import Markup

from dashboard import charts, wording
from dashboard.charts import Series
from dashboard.views import run
from flows.curves import Curves


def course(scores: list[float], **more: list[tuple[int, float]]) -> Curves:
    """Of as many epochs as there are scores."""
    losses = [(epoch, 1.0 / epoch) for epoch in range(1, len(scores) + 1)]
    by_epoch = {"train_loss": losses, "val_loss": losses, "val_accuracy": list(enumerate(scores, 1))}
    norms = {"all": [(1, 3.5), (20, 1.2)], "0.0": [(1, 0.02), (20, 0.026)], "3": [(1, 3.0), (20, 1.0)]}
    return Curves(epochs=by_epoch | more, steps={"loss": losses, "learning_rate": losses}, gradients=norms)


def titles(found: list[Markup]) -> list[str]:
    return [re.findall("<figcaption>(.*?)</figcaption>", chart)[0] for chart in found]


def lines(chart: Markup) -> list[list[list[float]]]:
    """The corners of its curves."""
    found = re.findall(r'<polyline class="c[0-9]" points="([^"]*)"/><circle', chart)
    return [[[float(at) for at in corner.split(",")] for corner in corners.split()] for corners in found]


def test_members_of_an_ensemble_have_a_line_each_on_one_axis() -> None:
    found = run.drawn([course([0.2, 0.9, 0.8]), course([0.5, 0.6]), course([0.9, 0.1, 0.1])])
    assert titles(found) == [
        "Training loss", "Validation loss", "Accuracy on validation", "Loss by step", "Learning rate",
        "Norm of the gradient",
    ]  # fmt: skip
    for chart in found:
        assert [len(line) for line in lines(chart)] == ([2, 2, 2] if "Norm" in chart else [3, 2, 3])
        assert all(f"</svg>member {number}</li>" in chart for number in (1, 2, 3))
    *rings, legend = re.findall(r'<circle class="best" cx="([0-9.]+)" cy="([0-9.]+)" r="5"/>', found[2])
    first, second, third = lines(found[2])
    assert [[float(at) for at in ring] for ring in rings] == [first[1], second[1], third[0]]
    assert legend == ("11", "7")
    assert "Epoch 3: member 1 0.8, member 3 0.1" in found[2]
    assert re.findall(r'text-anchor="middle">([0-9]+)<', found[2]) == ["1", "2", "3"]


def test_a_member_keeps_its_style_where_another_has_nothing_to_show() -> None:
    chart = run.drawn([course([math.nan]), course([0.5])])[2]
    assert 'class="c1"' in chart and 'class="c0"' not in chart and "</svg>member 2</li>" in chart


def test_charts_of_one_training_come_in_pairs_and_name_what_they_show() -> None:
    found = run.drawn([course([0.2, 0.9, 0.8], side=[(1, 16.0), (2, 16.0), (3, 32.0)])])
    assert titles(found) == [
        "Loss", "Accuracy on validation", "Loss by step", "Learning rate", "Norm of the gradient",
        "Norm of the gradient by layer",
    ]  # fmt: skip
    assert "</svg>training</li>" in found[0] and "</svg>validation</li>" in found[0]
    assert "Pictures have 16 px a side from epoch 1, 32 from epoch 3." in found[0]
    assert "</svg>largest, 3</li>" in found[5] and "</svg>smallest, 0.0</li>" in found[5]
    assert "Pictures have" not in run.drawn([course([0.5, 0.5])])[0]


def test_the_smallest_norm_is_not_drawn_flat_on_the_axis() -> None:
    largest, smallest = lines(run.drawn([course([0.5])])[-1])
    floor = charts.HEIGHT - charts.BOTTOM
    assert floor - smallest[0][1] > 5 and smallest[0][1] - smallest[1][1] > 5  # 0.02 and 0.026, beside 3 and 1
    ratio = (largest[1][1] - largest[0][1]) / (smallest[0][1] - smallest[1][1])
    assert ratio == pytest.approx(math.log(3) / math.log(0.026 / 0.02), rel=0.01)


def test_an_axis_of_factors_has_round_values_and_leaves_out_what_has_no_place() -> None:
    assert [text for _, text in charts.Factors(0.002, 40, 0, 1).ticks()] == ["0.01", "0.1", "1", "10"]
    assert [text for _, text in charts.Factors(0.3, 4, 0, 1).ticks()] == ["0.5", "1", "2"]
    assert [text for _, text in charts.Factors(1.05, 1.25, 0, 1).ticks()] == ["1.05", "1.10", "1.15", "1.20", "1.25"]
    wide = [value for value, _ in charts.Factors(1e-12, 1e12, 0, 1).ticks()]
    assert 3 <= len(wide) <= 8
    assert charts.Factors(0.01, 1, 100, 0).at(0.1) == 50
    assert charts.Factors(0.01, 1, 100, 0).at(0.0) == 100
    chart = charts.line_chart("x", [Series("a", [(1, 0.0), (2, 1.0), (3, -1.0), (4, 2.0)])], factors=True)
    assert [len(line) for line in lines(chart)] == [2]
    assert charts.line_chart("x", [Series("a", [(1, 0.0)])], factors=True) == ""


def test_an_ensemble_is_named_where_a_run_is() -> None:
    params = {"ensemble.members": 3, "ensemble.by": "folds", "ensemble.join": "average", "seed": 0}
    assert wording.members(params) == "3 members, by folds, answers averaged"
    soup = params | {"ensemble.by": "seeds", "ensemble.join": "soup"}
    assert wording.members(soup) == "3 members, by seeds, weights averaged"
    assert wording.members({"ensemble.members": 1, "ensemble.by": "seeds"}) == wording.members({}) == ""
