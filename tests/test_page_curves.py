"""The charts of a run: of one training, and of several with a line each."""

from __future__ import annotations

import json
import math
import re

import pytest
from markupsafe import Markup

from dashboard import charts, curves, wording
from dashboard.charts import Series
from dashboard.views import run
from flows.curves import Curves
from pipeline.registry.runs import RunRecord


def course(scores: list[float], **more: list[tuple[int, float]]) -> Curves:
    """Of as many epochs as there are scores."""
    losses = [(epoch, 1.0 / epoch) for epoch in range(1, len(scores) + 1)]
    by_epoch = {"train_loss": losses, "val_loss": losses, "val_accuracy": list(enumerate(scores, 1))}
    norms = {"all": [(1, 3.5), (20, 1.2)], "0.0": [(1, 0.02), (20, 0.026)], "3": [(1, 3.0), (20, 1.0)]}
    return Curves(epochs=by_epoch | more, steps={"loss": losses, "learning_rate": losses}, gradients=norms)


def ensemble(*members: Curves) -> list[Curves]:
    """Those of its members, numbered."""
    return [one.model_copy(update={"member": number}) for number, one in enumerate(members, 1)]


def titles(found: list[Markup]) -> list[str]:
    return [re.findall("<figcaption>([^<]*)<", chart)[0].strip() for chart in found]


def lines(chart: Markup) -> list[list[list[float]]]:
    """The corners of its curves."""
    found = re.findall(r'<polyline class="c[0-9]" points="([^"]*)"/><circle', chart)
    return [[[float(at) for at in corner.split(",")] for corner in corners.split()] for corners in found]


def test_members_of_an_ensemble_have_a_line_each_on_one_axis() -> None:
    found = curves.drawn(ensemble(course([0.2, 0.9, 0.8]), course([0.5, 0.6]), course([0.9, 0.1, 0.1])))
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
    chart = curves.drawn(ensemble(course([math.nan]), course([0.5])))[2]
    assert 'class="c1"' in chart and 'class="c0"' not in chart and "</svg>member 2</li>" in chart


def test_charts_of_one_training_come_in_pairs_and_name_what_they_show() -> None:
    found = curves.drawn([course([0.2, 0.9, 0.8], side=[(1, 16.0), (2, 16.0), (3, 32.0)])])
    assert titles(found) == [
        "Loss", "Accuracy on validation", "Loss by step", "Learning rate", "Norm of the gradient",
        "Norm of the gradient by layer",
    ]  # fmt: skip
    assert "</svg>training</li>" in found[0] and "</svg>validation</li>" in found[0]
    assert "Pictures have 16 px a side from epoch 1, 32 from epoch 3." in found[0]
    assert "</svg>largest, layer 3</li>" in found[5] and "</svg>smallest, layer 0.0</li>" in found[5]
    assert "Pictures have" not in curves.drawn([course([0.5, 0.5])])[0]


def test_the_smallest_norm_is_not_drawn_flat_on_the_axis() -> None:
    largest, smallest = lines(curves.drawn([course([0.5])])[-1])
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


def labels(chart: Markup) -> list[str]:
    """Of the upright axis."""
    return re.findall(r'text-anchor="end">([^<]*)<', chart)


@pytest.mark.parametrize(
    "values", [(2.3, 1e30), (3.2e-7, 9e-7), (1e-30, 3e-30), (0.0, 3.4e38), (-2e-9, 1e-9), (1.0000001, 1.0000002)]
)
@pytest.mark.parametrize("factors", [False, True])
def test_values_of_any_size_have_room_beside_the_axis(values: tuple[float, float], factors: bool) -> None:
    chart = charts.line_chart("x", [Series("a", list(enumerate(values, 1)))], factors=factors)
    if factors and min(values) <= 0:
        values = (max(values), max(values))
    axis = float(re.findall(r'class="axis" x1="([0-9.]+)"', chart)[0])
    texts = labels(chart)
    assert texts and len(set(texts)) == len(texts)
    assert axis - 7 - charts.SIGN * max(map(len, texts)) >= 0  # where the longest one begins
    assert all("e+" not in text and "e-0" not in text for text in texts)
    assert "e+" not in chart.replace("e+0", "")


def test_losses_that_span_decades_are_drawn_by_factors_and_say_so() -> None:
    low = [(1, 2.3), (2, 0.5), (3, 0.003)]
    assert not charts.in_factors([Series("a", low), Series("b", [(1, math.nan), (2, 0.004)])])
    exploded = [*low, (4, 1e12)]
    assert charts.in_factors([Series("a", exploded)])
    assert not charts.in_factors([Series("a", [*exploded, (5, 0.0)])]) and not charts.in_factors([Series("a", [])])
    wild = course([0.5, 0.5, 0.5, 0.5]).model_copy(update={"steps": {"loss": exploded}})
    by_epoch, _, by_step, *_ = curves.drawn([wild])
    assert "log scale" in by_step and "log scale" not in by_epoch
    heights = [at[1] for at in lines(by_step)[0]]
    assert heights[2] - heights[1] > 10  # what went before is no flat line below the last value


def test_what_a_loss_was_before_it_was_no_number_is_still_drawn() -> None:
    chart = charts.line_chart("x", [Series("a", [(1, 2.0), (2, 1.0), (3, 1e200), (4, math.inf), (5, math.nan)])])
    assert [len(line) for line in lines(chart)] == [2]


def test_a_curve_of_many_steps_says_what_was_averaged() -> None:
    def by_step(steps: int) -> Markup:
        losses = [(at, 1.0) for at in range(steps // 400 or 1, steps + 1, -(-steps // 400))]
        return curves.drawn([course([0.5]).model_copy(update={"steps": {"loss": [*losses, (steps, 1.0)]}})])[2]

    assert "Each point" not in by_step(400)
    assert "Each point is the mean of 2 steps." in by_step(401)
    assert "Each point is the mean of 250 steps." in by_step(100_000)


def test_a_layer_is_named_by_what_it_is_shown_for() -> None:
    found = curves.drawn([course([0.5])])
    assert "The layers whose norm is the largest and the smallest at the end." in found[-1]


def test_an_ensemble_is_named_where_a_run_is() -> None:
    params = {"ensemble.members": 3, "ensemble.by": "folds", "ensemble.join": "average", "seed": 0}
    assert wording.members(params) == "3 members, by folds, answers averaged"
    soup = params | {"ensemble.by": "seeds", "ensemble.join": "soup"}
    assert wording.members(soup) == "3 members, by seeds, weights averaged"
    assert wording.members({"ensemble.members": 1, "ensemble.by": "seeds"}) == wording.members({}) == ""


def test_a_training_that_went_back_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(facts: object) -> str:
        monkeypatch.setattr(curves.outputs, "read", lambda *_, **__: json.dumps(facts).encode())
        return curves.went_back_said(RunRecord.model_construct())

    once, twice = ({"diverged": [{"epoch": at, "step": 9} for at in epochs]} for epochs in ((3,), (3, 4)))
    assert said(once) == "Training diverged in epoch 3, step 9: it went back, and on with half the learning rate."
    assert said(twice).startswith("Training diverged in epoch 3, step 9, and in epoch 4, step 9: each time it went")
    assert said({"epochs": 3}) == said([1]) == said({"diverged": [{}]}) == said({"diverged": 3}) == ""


def test_the_bars_of_scores_say_what_they_reach_from_and_to() -> None:
    def row(scale: tuple[float, float], higher: bool, measured: bool = False) -> run.Score:
        return run.Score("A", 0.5, None, None, scale, higher, False, measured)

    rows = [row((0.9, 1.0), True), row((0.9, 1.0), True), row((0.0, 0.1), False)]
    assert run.bars_said(rows) == "Bars reach from 0.9 to 1; from 0 to 0.1 where lower is better."
    assert run.bars_said([row((0.0, 60_000.0), False, measured=True)]) == (
        "Bars reach from 0 to 60000 where lower is better in the unit of what is measured."
    )
    assert run.bars_said([]) == ""
