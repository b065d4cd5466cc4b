"""Regression and counting: losses, tasks and what turns what is learnt into an answer; tables that hold numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageDraw
from pydantic import ValidationError
from small_project import ROOT
from torch import Tensor, nn
from torch.nn import functional as F

from flows.edits import edited, merged
from pipeline import pooling
from pipeline.__main__ import STAGES
from pipeline.annotations import Objects, Thing
from pipeline.bundle import Bundle, BundleInfo, write
from pipeline.contracts import AnnotationRules, Found, LeftOut, Output, Target, Views
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.networks import Counting, Measuring, answered, learnt_from
from pipeline.numbers import Scale, decoded, encoded, of_numbers, worded
from pipeline.plugin import config_class, names
from pipeline.score import of_split
from pipeline.tasks._numbers import places
from pipeline.tasks.counting import Config as CountingTask
from pipeline.tasks.regression import Config as Regression

RULES = AnnotationRules()
NUMBERS = [name for name in names("losses") if (Output.VECTOR, Target.NUMBERS) in config_class("losses", name).takes]
COUNTS = [name for name in names("losses") if (Output.VECTOR, Target.COUNTS) in config_class("losses", name).takes]
NAN = float("nan")
SCALES = (Scale(mean=10, deviation=4), Scale(kind="log", mean=2, deviation=0.5), Scale(kind="circular", period=24))


def loss(name: str, outputs: int = 2, numbers: int = 1, **options: Any) -> nn.Module:
    return config_class("losses", name)(**options).build([5] * numbers, outputs)


def on_circle(*degrees: float) -> Tensor:
    turns = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([turns.cos(), turns.sin()], dim=1)


def sample(name: str, seed: int = 0, count: int = 12) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(seed)
    said = torch.from_numpy(random.normal(size=(count, 2)))
    if name in COUNTS:
        return said, torch.from_numpy(random.poisson(3.0, (count, 2)).astype(np.float64))
    return said, on_circle(*random.uniform(0, 360, count))


# Losses


@pytest.mark.parametrize("name", NUMBERS + COUNTS)
def test_an_unknown_number_costs_nothing_and_moves_nothing(name: str):
    said, true = sample(name)
    true[3:7] = NAN
    some = loss(name)(said.requires_grad_(), true)
    (gradient,) = torch.autograd.grad(some, said)
    kept = [0, 1, 2, 7, 8, 9, 10, 11]
    assert some.item() == pytest.approx(loss(name)(said[kept], true[kept]).item(), rel=1e-12)
    assert (gradient[3:7] == 0).all() and (gradient[kept] != 0).any()
    nothing = loss(name)(said, torch.full_like(true, NAN))
    assert nothing.item() == 0
    assert (torch.autograd.grad(nothing, said)[0] == 0).all()


@pytest.mark.parametrize("name", NUMBERS + COUNTS)
def test_gradient_is_the_numeric_one_and_order_does_not_matter(name: str):
    said, true = sample(name, seed=1)
    part = loss(name)
    order = torch.randperm(len(said), generator=torch.Generator().manual_seed(0))
    assert part(said[order], true[order]).item() == pytest.approx(part(said, true).item(), rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: part(x, true), said.requires_grad_())


@pytest.mark.parametrize("name", NUMBERS + COUNTS)
@pytest.mark.parametrize("size", [1e4, 1e15])
def test_extremes_stay_finite_with_their_gradients(name: str, size: float):
    said = torch.tensor([[size, -size], [-size, size], [0.0, 0.0]], requires_grad=True)
    true = on_circle(0, 90, 180).float() if name in NUMBERS else torch.tensor([[0.0, 5], [1e6, 0], [3, 3]])
    cost = loss(name)(said, true)
    cost.backward()
    assert torch.isfinite(cost) and torch.isfinite(said.grad).all()


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_nearer_costs_less_and_nothing_at_best(name: str):
    true = on_circle(40)
    costs = [loss(name)(on_circle(40 + away), true).item() for away in (0, 10, 60, 170)]
    assert costs == sorted(costs) and costs[0] == pytest.approx(0, abs=1e-9)
    east = on_circle(0)
    assert loss(name)(on_circle(10), east).item() == pytest.approx(loss(name)(on_circle(-10), east).item())


def test_losses_are_torchs():
    random = torch.Generator().manual_seed(0)
    said, true = torch.randn(2, 20, 3, generator=random).unbind()
    assert loss("mean_squared_error", 3, 3)(said, true).item() == pytest.approx(F.mse_loss(said, true).item())
    assert loss("mean_absolute_error", 3, 3)(said, true).item() == pytest.approx(F.l1_loss(said, true).item())
    for delta in (0.3, 2.0):
        own = loss("huber", 3, 3, delta=delta)(said, true).item()
        assert own == pytest.approx(F.huber_loss(said, true, delta=delta).item())
    counts = torch.poisson(said.exp(), generator=random)
    for full in (False, True):
        own = loss("poisson", 3, 3, full=full)(said, counts).item()
        assert own == pytest.approx(F.poisson_nll_loss(said, counts, full=full).item(), rel=1e-6)


def test_the_cost_of_a_rate_is_least_at_the_count():
    rates = torch.tensor([1.0, 6.0, 7.0, 8.0, 20.0])
    costs = [loss("poisson", 1)(rate.log().view(1, 1), torch.tensor([[7.0]])).item() for rate in rates]
    assert costs.index(min(costs)) == 2


def test_a_direction_costs_the_same_at_any_length_and_the_opposite_two():
    circular = loss("circular")
    assert circular(5 * on_circle(60), on_circle(0)).item() == pytest.approx(0.5)
    assert circular(on_circle(190), on_circle(10)).item() == pytest.approx(2)


def test_circular_refuses_numbers_that_are_not():
    with pytest.raises(UserError, match=r"1 of 2 numbers are not in task.circular. Name them there"):
        loss("circular", outputs=3, numbers=2)


# Scales, and the networks that answer by them


def test_what_is_encoded_is_decoded():
    values = np.array([[12.0, np.e**3, 6], [-3, 1e-3, 23.5]])
    columns = encoded(values, SCALES)
    assert columns[0] == pytest.approx([0.5, 2, 0, 1], abs=1e-6)
    assert decoded(columns.astype(np.float64), SCALES) == pytest.approx(values, rel=1e-5)
    assert np.isnan(encoded(np.full((1, 3), NAN), SCALES)).all()


@pytest.mark.parametrize("below", [-1e-30, -1e-9, -0.0, 0.0])
def test_a_shade_below_0_is_0_and_no_whole_period(below: float):
    turn = [Scale(kind="circular", period=24)]
    said = torch.tensor([[1.0, below]])
    told = Measuring(nn.Identity(), turn).answer(said)
    assert float(decoded(np.array([[1.0, below * 1e-9]]), turn)[0, 0]) == 0
    assert told.item() == 0 and worded(told.item()) == "0"
    assert pooling.numbers(torch.stack([told, told - 1e-6]), turn).item() < 24


def test_a_scale_is_that_of_the_training_pictures():
    values = np.array([1.0, 4.0, 16.0])
    assert of_numbers(values) == Scale(mean=7, deviation=float(values.std()))
    assert of_numbers(values, "log").mean == pytest.approx(np.log(4))
    assert of_numbers(np.full(3, 0.1)).deviation == of_numbers(np.zeros(3)).deviation == 1  # nothing to divide by
    assert of_numbers(1e-13 * values).deviation == pytest.approx(1e-13 * values.std())  # of any unit, as farads


class Fixed(nn.Module):
    """Says the same of every picture, and holds one weight so that it can be saved."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.values + 0 * pictures.mean(dim=(1, 2, 3))[:, None]


def test_a_network_learns_columns_and_answers_in_own_units():
    network = Measuring(Fixed(0.5, 2.0, 0.0, 3.0), SCALES)
    pictures = torch.zeros(2, 3, 4, 4)
    assert learnt_from(network, pictures)[0].tolist() == [0.5, 2, 0, 3]
    assert network(pictures)[0].tolist() == pytest.approx([12, np.e**3, 6])
    columns = np.array([[0.5, 2, -0.3, -0.1]])
    told = network.answer(torch.tensor(columns, dtype=torch.float32))
    assert told.numpy() == pytest.approx(decoded(columns, SCALES), rel=1e-5)
    assert torch.isfinite(network.answer(torch.full((1, 4), 1e9))).all()


def test_a_counter_begins_at_the_means_and_answers_with_rates():
    network = Counting(Fixed(0.0, math.log(2), 0.0), [7.0, 1.5, 0.0])
    pictures = torch.zeros(2, 3, 4, 4)
    assert network(pictures)[0].tolist() == pytest.approx([7, 3, 0.01])
    assert learnt_from(network, pictures)[0].tolist() == pytest.approx([math.log(7), math.log(3), math.log(0.01)])
    assert answered(network, torch.zeros(1, 3)).tolist() == [[1, 1, 1]]


def test_where_a_counter_begins_is_the_same_in_half_precision():
    halved = Counting(Fixed(0.0).to(torch.bfloat16), [150.0])
    assert halved(torch.zeros(1, 3, 4, 4, dtype=torch.bfloat16)).tolist() == [[pytest.approx(150, rel=1e-6)]]


class Mapped(nn.Module):
    """Says the same map of every picture."""

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.tensor([[1.0, 1.0], [3.0, 3.0]]).log().expand(len(pictures), 1, 2, 2)


def test_a_counter_adds_up_the_rates_of_the_pixels():
    # the mean of the pixels' rates is 2, and 7 are expected where it is 1
    assert Counting(Mapped(), [7.0])(torch.zeros(3, 1, 4, 4)).tolist() == [[pytest.approx(14)]] * 3
    assert {(Output.VECTOR, Target.COUNTS), (Output.MAP, Target.COUNTS)} <= config_class("losses", "poisson").takes


def test_the_exported_program_answers_in_own_units(tmp_path: Path):
    common = {"classes": ["a", "b", "c"], "channels": 3, "packed": 4, "size": 4, "mean": [0.0] * 3}
    more = {"deviation": [1.0] * 3, "model": {"name": "x"}, "parameters": 1, "dataset": ""}
    info = BundleInfo(task={"name": "regression", "log": ["b"], "circular": {"c": 24}}, **common, **more)
    write(tmp_path, info, Measuring(Fixed(0.5, 2.0, 0.0, -3.0), SCALES))
    bundle = Bundle.open(tmp_path)
    (outputs,) = bundle.outputs(np.zeros((3, 4, 4, 3), np.uint8))
    assert outputs == pytest.approx(np.tile([12, np.e**3, 18], (3, 1)))
    told = bundle.task.told(outputs, Views(np.arange(3), np.zeros((3, 4)), np.full((3, 2), 4), 4))
    assert bundle.task.plain(told[0], info.classes)["numbers"] == pytest.approx({"a": 12, "b": np.e**3, "c": 18})
    assert bundle.task.marks(told[0], info.classes).words == "a 12, b 20.09, c 18"


# Regression


def test_unknown_numbers_are_left_out_and_bad_ones_are_flaws():
    task = Regression(log=["price"])
    settled = task.settle({"price": 5.0, "age": NAN}, 8, 8, RULES)
    assert settled == ({"price": 5.0}, ())
    assert task.tally(settled.annotation) == {"price": 1}
    assert task.columns(settled.annotation, ["age", "price"]) == {"numbers": [None, 5.0]}
    for numbers, kind, words in (
        ({"price": 0.0}, "unreadable", "price is 0, which has no logarithm (task.log); expected a number above 0"),
        ({"age": math.inf}, "unreadable", "age is inf; expected a finite number"),
        ({"age": NAN}, "no_annotation", "none of its numbers is known"),
    ):
        ((flaw, done),) = task.settle(numbers, 8, 8, RULES).problems
        assert (flaw.kind, flaw.found, done) == (kind, words, "reject")
        assert task.settle(numbers, 8, 8, RULES).annotation is None


def test_numbers_are_those_asked_for_in_their_order():
    assert Regression().classes(["n10", "n2"]) == ["n2", "n10"]
    assert Regression(numbers=["n10", "n2"]).classes(["n2", "n3", "n10"]) == ["n10", "n2"]
    assert Regression(numbers=["a"]).settle({"a": 1.0, "b": math.inf}, 8, 8, RULES).annotation == {"a": 1.0}
    with pytest.raises(UserError, match="task.log: the source gives no number 'prise'. Did you mean 'price'"):
        Regression(log=["prise"]).classes(["price"])
    with pytest.raises(UserError, match="the source gives none of any usable picture"):
        Regression().classes([])
    with pytest.raises(ValidationError, match="'a' is in log and in circular; a number is learnt in one way"):
        Regression(log=["a"], circular={"a": 360})
    with pytest.raises(ValidationError, match="the number 'a' stands there twice; name each once"):
        Regression(numbers=["a", "b", "a"])


def test_about_are_the_scales_of_the_training_pictures():
    task = Regression(log=["b"], circular={"c": 360})
    train = [{"a": 1.0, "b": 1.0, "c": 10.0}, {"a": 3.0, "b": np.e**2}]
    scales = task.about(train, ["a", "b", "c"])["scales"]
    assert [(one.kind, one.mean, one.deviation) for one in scales[:2]] == [("linear", 2, 1), ("log", 1, 1)]
    assert scales[2] == Scale(kind="circular", period=360)
    assert task.outputs(SimpleNamespace(scales=scales), Output.VECTOR) == 4
    with pytest.raises(UserError, match="No training picture has the number 'd'"):
        task.about(train, ["d"])


class FakeSplit:
    def __init__(self, classes: list[str], numbers: Any, scales: Any, groups: Any = None) -> None:
        self.classes, self.numbers = classes, np.array(numbers, np.float64)
        self.groups = groups or [None] * len(numbers)
        self.dataset = SimpleNamespace(info=SimpleNamespace(scales=scales))

    def __len__(self) -> int:
        return len(self.numbers)


def test_views_of_a_picture_are_told_by_their_mean():
    task = Regression(log=["b"], circular={"c": 24})
    outputs = np.array([[10, 1, 23], [14, 100, 3], [5, 5, 5]], np.float32)
    told = task.told(outputs, Views(np.array([0, 0, 1]), np.zeros((3, 4)), np.array([[8, 4], [4, 4]]), 4))
    found = task.answers(FakeSplit(["a", "b", "c"], np.ones((2, 3)), SCALES), told)
    assert found.answer == pytest.approx(np.array([[12, 10, 1], [5, 5, 5]]))
    assert task.plain(told[0], ["a", "b", "c"])["numbers"] == pytest.approx({"a": 12, "b": 10, "c": 1})


def test_pictures_of_a_group_get_one_answer_if_they_shall():
    split = FakeSplit(["a"], np.ones((3, 1)), SCALES[:1], ["x", None, "x"])
    told = [np.array([[value]]) for value in (1.0, 2.0, 5.0)]
    assert Regression(together=True).answers(split, told).answer.ravel().tolist() == pytest.approx([3, 2, 3])
    assert Regression().answers(split, told).answer.ravel().tolist() == [1, 2, 5]
    assert places(["b", None, "b", None, "a"]).tolist() == [0, 1, 0, 2, 3]


def test_a_blind_answer_is_the_median_and_round_a_circle_the_mean_direction():
    train = FakeSplit(["a", "b", "c"], [[1, 1, 23], [2, NAN, 3], [9, 100, 1]], SCALES)
    blind = Regression().blind(train, FakeSplit(["a", "b", "c"], np.ones((2, 3)), SCALES))
    assert blind.answer == pytest.approx(np.tile([2, 50.5, 1], (2, 1)))


def test_copies_are_joined_unless_they_contradict_each_other():
    assert Regression().joined([{"a": 1.0}, {"a": 1.0, "b": 2.0}]) == {"a": 1.0, "b": 2.0}
    assert Regression().joined([{"a": 1.0}, {"a": 1.5}]) is None


# Counting


def thing(name: str, *box: float, **more: Any) -> Thing:
    return Thing(name, box or (0, 0, 2, 2), **more)  # type: ignore[arg-type]


def test_objects_are_counted_and_a_crowd_leaves_it_open():
    task = CountingTask()
    objects = Objects((thing("a"), thing("a", 1, 1, 3, 3), thing("b", crowd=True), thing("c", 5, 5, 5, 5)), "x.xml")
    settled = task.settle(objects, 8, 8, RULES)
    assert settled.annotation == {"a": 2.0, "b": None}
    assert [(flaw.kind, done) for flaw, done in settled.problems] == [("bad_box", "drop")]
    assert task.tally(settled.annotation) == {"a": 2}
    assert task.columns(settled.annotation, ["a", "b", "c"]) == {"numbers": [2.0, None, 0.0]}
    assert task.settle(task.nothing, 8, 8, RULES).annotation == {}
    assert task.settle(objects, 8, 8, AnnotationRules(bad_box="reject")).annotation is None


def test_counts_may_come_as_numbers():
    task = CountingTask()
    assert task.settle({"a": 3.0, "b": NAN}, 8, 8, RULES).annotation == {"a": 3.0, "b": None}
    ((flaw, done),) = task.settle({"a": -1.0}, 8, 8, RULES).problems
    assert (flaw.found, done) == ("a is -1; expected a count, 0 or more", "reject")
    scales = task.about([{"a": 3.0, "b": None}, {"b": 4.0}], ["a", "b"])["scales"]
    assert [(one.mean, one.deviation) for one in scales] == [(1.5, 1.5), (4, 1)]
    with pytest.raises(UserError, match="tells how many 'b' there are"):
        task.about([{"b": None}], ["b"])
    with pytest.raises(UserError, match="Counting needs objects"):
        task.classes([])


def test_a_blind_counter_and_its_words():
    train = FakeSplit(["a", "b"], [[1, 0], [5, 0], [2, 7]], SCALES[:2])
    blind = CountingTask().blind(train, FakeSplit(["a", "b"], np.ones((2, 2)), SCALES[:2]))
    assert blind.answer.tolist() == [[2, 0], [2, 0]] and blind.alike
    told = CountingTask().told(
        np.array([[1.5, 2], [2.5, 2]], np.float32), Views(np.zeros(2, int), 0, np.ones((1, 2)), 4)
    )
    assert CountingTask().marks(told[0], ["a", "b"]).words == "a 2, b 2"
    assert CountingTask().plain(told[0], ["a", "b"]) == {"counts": {"a": 2.0, "b": 2.0}}
    assert CountingTask().truth({"numbers": [4.0, None]}, None, ["a", "b"]).words == "a 4"


# Formats

PICTURE = b"no format looks into it: "


def read(root: Path, files: dict[str, str], form: str = "table", **options: Any) -> tuple[dict[str, Found], list[Any]]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE + name.encode() if name.endswith(".png") else text.encode())
    items = list(config_class("formats", form)(path=str(root), **options).read())
    found = [item for item in items if isinstance(item, Found)]
    return {one.name: one for one in found}, [item for item in items if not isinstance(item, Found)]


def numbers_in(found: dict[str, Found]) -> dict[str, Any]:
    return {name: one.annotation.get(Target.NUMBERS) for name, one in found.items()}


def test_columns_of_numbers_are_learnt_and_no_metadata(tmp_path: Path):
    text = "file,price,age,city\na.png,5e2,3,Rome\nb.png,,4,Oslo\nc.png,,,\nd.png,much,1,\n"
    files = {"t.csv": text, **dict.fromkeys(("a.png", "b.png", "c.png", "d.png"), "")}
    found, _ = read(tmp_path, files, numbers=["price", "age"])
    told = numbers_in(found)
    assert told["a.png"] == {"price": 500.0, "age": 3.0}
    assert math.isnan(told["b.png"]["price"]) and told["b.png"]["age"] == 4
    assert told["c.png"] is None and told["d.png"] is None
    assert found["a.png"].metadata == {"city": "Rome"}
    ((flaw,),) = [one.flaws for one in found.values() if one.flaws]
    assert (flaw.kind, flaw.place) == ("unreadable", "line 5")
    assert flaw.found == "price is 'much'; expected a number, or nothing where it is not known"


def test_rows_without_header_that_pictures_are_named_by(tmp_path: Path):
    rows = "4 4  4053 869500\n4 3 3343   865200\r\n 3 1 1000 200000\n"
    pictures = ("1_a.png", "1_b.png", "2_a.png", "11_a.png", "12.png")
    files = {"in/info.txt": rows, **{f"in/{name}": "" for name in pictures}}
    options = {"table": "in/info.txt", "header": ["rooms", "baths", "area", "price"], "image": "{row}_*.png"}
    found, others = read(tmp_path, files, numbers=["price"], **options)
    told = {name: (one.annotation.get(Target.NUMBERS), one.group) for name, one in found.items()}
    assert told == {
        "in/1_a.png": ({"price": 869500.0}, "1"),
        "in/1_b.png": ({"price": 869500.0}, "1"),
        "in/2_a.png": ({"price": 865200.0}, "2"),
        "in/11_a.png": (None, None),
        "in/12.png": (None, None),
    }
    assert found["in/2_a.png"].metadata == {"rooms": "4", "baths": "3", "area": "3343"}
    assert [(one.kind, one.place) for one in others if not isinstance(one, LeftOut)] == [("no_picture", "line 3")]


def test_a_pattern_names_columns_and_its_mistakes_are_told(tmp_path: Path):
    files = {"t.csv": "who,n,price\nann,7,5\nbob,8,6\n", "x/ann-7.png": "", "y/bob-8.png": "", "y/bob-9.png": ""}
    found, _ = read(tmp_path, files, numbers=["price"], image="{who}-{n}.png")
    assert {name: one.group for name, one in found.items()} == {
        "x/ann-7.png": None,
        "y/bob-8.png": None,
        "y/bob-9.png": None,
    }
    assert numbers_in(found)["y/bob-8.png"] == {"price": 6.0}
    for pattern, words in (("{whom}_*.png", "no column 'whom'. Did you mean 'who'"), ("*_{n}.png", "before the first")):
        with pytest.raises(UserError, match=words):
            read(tmp_path, {}, numbers=["price"], image=pattern)
    with pytest.raises(UserError, match="no column 'prize'. Did you mean 'price'"):
        read(tmp_path, {}, numbers=["prize"], image="{who}-{n}.png")


def test_rows_that_contradict_each_other_come_apart(tmp_path: Path):
    files = {"t.csv": "file,price\na.png,5\na.png,6\nb.png,7\nb.png,7\n", "a.png": "", "b.png": ""}
    found, _ = read(tmp_path, files, numbers=["price"])
    assert numbers_in(found)["b.png"] == {"price": 7.0}
    items = config_class("formats", "table")(path=str(tmp_path), numbers=["price"]).read()
    told = [one.annotation[Target.NUMBERS]["price"] for one in items if isinstance(one, Found) and one.name == "a.png"]
    assert told == [5, 6]


def test_lists_hold_numbers_too(tmp_path: Path):
    files = {"ages.txt": "a.png 23 1.5\nb.png nan,2\nc.png 4\n", **dict.fromkeys(("a.png", "b.png", "c.png"), "")}
    found, _ = read(tmp_path, files, "lists", numbers=["age", "height"])
    told = numbers_in(found)
    assert told["a.png"] == {"age": 23.0, "height": 1.5}
    assert math.isnan(told["b.png"]["age"]) and told["b.png"]["height"] == 2
    assert told["c.png"] is None
    assert [flaw.found for flaw in found["c.png"].flaws] == ["1 values, '4'; data.numbers names 2"]


def test_parquet_files_hold_numbers_too(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": PICTURE, "path": f"{at}.png"} for at in range(3)]
    pq.write_table(pa.table({"image": images, "price": [5, None, 7], "label": ["x", "y", "z"]}), tmp_path / "d.parquet")
    found, _ = read(tmp_path, {}, "parquet", numbers=["price"])
    assert list(numbers_in(found).values()) == [{"price": 5.0}, None, {"price": 7.0}]
    assert [one.annotation[Target.LABEL] for one in found.values()] == ["x", "y", "z"]
    with pytest.raises(UserError, match="data.numbers: d.parquet has no column 'prise'"):
        read(tmp_path, {}, "parquet", numbers=["prise"])


# All of it


def bars(root: Path, count: int = 400) -> None:
    """Hands of a clock, each at an angle and so bright, which is not always known."""
    random = np.random.default_rng(0)
    rows = ["file,angle,light"]
    root.mkdir()
    for number in range(count):
        angle, light = random.uniform(0, 360), random.uniform(60, 250)
        picture = Image.new("L", (24, 24), 30)
        tip = 12 + 10 * math.cos(math.radians(angle)), 12 - 10 * math.sin(math.radians(angle))
        ImageDraw.Draw(picture).line([(12, 12), tip], fill=round(light), width=4)
        picture.save(root / f"{number}.png")
        rows.append(f"{number}.png,{angle:.3f},{'' if number % 5 == 0 else f'{light:.3f}'}")
    (root / "hands.csv").write_text("\n".join(rows) + "\n")


def test_one_answer_for_a_group_takes_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bars(tmp_path / "bars", 30)
    monkeypatch.chdir(tmp_path)
    ready = (ROOT / "params/regression-table.yaml").read_text()
    changes = ["data={name: table, path: bars, numbers: [angle]}", "task={name: regression, together: true}"]
    text = merged(ready, (ROOT / "params.yaml").read_text(), "params.yaml")
    Path("params.yaml").write_text(edited(text, changes))
    words = r"gives the pictures of a group one answer, and none of 30 pictures, such as '0\.png', is of a group\. Give"
    with pytest.raises(UserError, match=words):
        STAGES["ingest"]()
    Path("params.yaml").write_text(edited(text, [*changes, "split.group='^([0-9])'"]))
    STAGES["ingest"]()


@pytest.mark.slow
def test_an_angle_and_a_brightness_are_learnt_from_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bars(tmp_path / "bars")
    monkeypatch.chdir(tmp_path)
    ready = (ROOT / "params/regression-table.yaml").read_text()
    changes = (
        *("data={name: table, path: bars, numbers: [angle, light]}", "model={name: convnet, width: 8}"),
        *("task={name: regression, circular: {angle: 360}}", "augment={name: none, size: 24}"),
        *("optimizer.lr=0.01", "train.epochs=10", "train.batch_size=16", "evaluate.resamples=100"),
        *("compute={device: cpu, precision: float32, memory_format: contiguous, threads: 1, loader_threads: 1}",),
    )
    merged_ = merged(ready, (ROOT / "params.yaml").read_text(), "params.yaml")
    Path("params.yaml").write_text(edited(merged_, changes))
    for stage in STAGES.values():
        stage()
    dataset, bundle = Dataset.open(), Bundle.open()
    test = dataset.split("test")
    assert np.isnan(test.numbers[:, 1]).any() and not np.isnan(test.numbers[:, 0]).any()
    said = bundle.task.answers(test, of_split(bundle, test, torch.device("cpu")))
    blind = bundle.task.blind(dataset.split("train"), test)
    errors, guesses = (np.nanmean(np.abs(one.errors), axis=0) for one in (said, blind))
    assert (errors < guesses / 2).all(), (errors, guesses)
    served = bundle.answer([bundle.prepare(test.read(position)) for position in range(5)])
    again = bundle.task.answers(test.at(range(5)), served)
    assert again.difference(said.at(range(5))).max() < said.tolerance
    scores = json.loads(Path("out/evaluation/metrics.json").read_text())
    once = np.ones((1, len(test)))
    assert scores["r2"]["value"] == pytest.approx(config_class("metrics", "r2")().score(said, once)[0], abs=1e-5)
    table = pq.read_table("out/evaluation/predictions.parquet")
    assert said.again(table).difference(said).max() == 0
    assert table.column("actual")[0].as_py() == said.true(0).words
