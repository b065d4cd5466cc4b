"""Every file in pipeline/orders/ meets one contract; what each shows is counted and worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from ready_files import clashes

from pipeline.bundle import normaliser
from pipeline.dataset import Split
from pipeline.door import parse
from pipeline.errors import UserError
from pipeline.orders.balanced import rounds
from pipeline.orders.curriculum import easier
from pipeline.orders.runs import in_runs
from pipeline.params import TrainParams
from pipeline.plugin import config_class, names
from pipeline.train.batches import Batch
from pipeline.train.learner import Learner
from pipeline.train.losses_of_views import losses_of_views
from pipeline.train.machine import Arithmetic, Machine
from pipeline.train.orders import check_column, epoch_order
from pipeline.training import Known, OrderConfig

NONE = config_class("mixings", "none")()
ROOT = Path(__file__).parents[1]
CLASSES = np.array([0] * 20 + [1] * 6 + [4] * 3 + [2])
COLUMNS = {"sharpness": np.linspace(0, 1, 30), "zero": np.zeros(30), "below": np.linspace(-1, 1, 30)}


def part(name: str, **options: object) -> OrderConfig:
    return config_class("orders", name)(**options)


def known(classes: np.ndarray | None = CLASSES, losses: np.ndarray | None = None) -> Known:
    return Known(30 if classes is None else len(classes), classes, COLUMNS.__getitem__, losses)


def order(config: OrderConfig, epoch: int = 0, epochs: int = 10, seed: int = 7, of: Known | None = None) -> np.ndarray:
    return epoch_order(config, seed, epoch, epochs, of or known(losses=np.random.default_rng(0).random(30)))


# --- the contract


@pytest.mark.parametrize("name", names("orders"))
def test_an_epoch_has_as_many_views_as_there_are_and_each_is_one(name: str) -> None:
    for epoch in range(10):
        views = order(part(name), epoch)
        assert views.shape == (30,) and views.dtype == np.int64 and views.min() >= 0 and views.max() < 30


@pytest.mark.parametrize("name", names("orders"))
def test_seed_and_epoch_decide_and_nothing_else(name: str) -> None:
    np.random.seed(0)
    first = order(part(name), 3)
    np.random.seed(1)
    assert (order(part(name), 3) == first).all()
    assert (order(part(name), 4) != first).any() and (order(part(name), 3, seed=8) != first).any()


@pytest.mark.parametrize("name", names("orders"))
def test_every_view_comes_at_some_time(name: str) -> None:
    seen = np.concatenate([order(part(name), epoch, 40) for epoch in range(40)])
    assert set(seen.tolist()) == set(range(30))


@pytest.mark.parametrize("name", names("orders"))
def test_one_view_alone_is_an_order(name: str) -> None:
    alone = Known(1, np.array([3]), lambda _: np.ones(1), np.ones(1))
    assert order(part(name), 5, of=alone).tolist() == [0]


@pytest.mark.parametrize("name", names("orders"))
def test_what_goes_by_no_class_does_without_classes(name: str) -> None:
    config = part(name)
    if not config.by_class:
        assert len(order(config, 5, of=known(None, np.ones(30)))) == 30


# --- shuffled and runs


def test_shuffled_shows_every_view_once() -> None:
    assert all(sorted(order(part("shuffled"), epoch)) == list(range(30)) for epoch in range(3))


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_views_of_a_class_follow_each_other_in_runs(length: int) -> None:
    classes = np.random.default_rng(0).integers(5, size=83)
    arranged = order(part("runs", images_per_class=length), of=known(classes))
    assert sorted(arranged.tolist()) == list(range(83))
    rounds_seen: list[list[tuple[int, int]]] = []
    place = 0
    left = np.bincount(classes).tolist()
    while place < 83:  # each round gives a run of every class that has some left
        seen = []
        for _ in range(sum(count > 0 for count in left)):
            label = int(classes[arranged[place]])
            count = min(length, left[label])
            assert (classes[arranged[place : place + count]] == label).all()
            seen.append((label, count))
            place += count
        for label, count in seen:
            left[label] -= count
        assert len({label for label, _ in seen}) == len(seen)
        rounds_seen.append(seen)
    assert left == [0] * 5
    if length < 5:
        assert len({tuple(label for label, _ in seen) for seen in rounds_seen[:4]}) > 1  # not one order for all


def test_runs_by_hand() -> None:
    # The order meets classes b a b b a a; runs of two: b b, then a a, then what is left of each
    assert in_runs(np.array([3, 0, 4, 5, 1, 2]), np.array([0, 0, 0, 1, 1, 1]), 2).tolist() == [3, 4, 0, 1, 5, 2]


# --- balanced


def test_balanced_shows_each_class_equally_often_and_within_it_each_view() -> None:
    # 30 views of 4 classes: 7 or 8 of each class an epoch, 30 in four epochs
    seen = [np.bincount(CLASSES[order(part("balanced"), epoch)], minlength=5)[[0, 1, 2, 4]] for epoch in range(4)]
    assert all(set(counts.tolist()) <= {7, 8} for counts in seen)
    assert np.sum(seen, axis=0).tolist() == [30] * 4
    times = np.bincount(np.concatenate([order(part("balanced"), epoch) for epoch in range(8)]), minlength=30)
    # 60 of each class in eight epochs
    assert set(times[:20].tolist()) == {3} and set(times[20:26].tolist()) == {10}
    assert set(times[26:29].tolist()) == {20} and times[29] == 60


def test_balanced_walks_on_where_the_epoch_before_it_ended() -> None:
    _, first, end = rounds(CLASSES, 0)
    _, again, last = rounds(CLASSES, 1)
    # floor((30 + k) / 4) and floor((60 + k) / 4) for k of 0..3
    assert (first.tolist(), end.tolist(), last.tolist()) == ([0] * 4, [7, 7, 8, 8], [15, 15, 15, 15])
    assert (again == end).all()


# --- weighted


@pytest.mark.parametrize(
    ("power", "shares"), [(0, [20, 6, 1, 3]), (1, [1, 1, 1, 1]), (0.5, [20**0.5, 6**0.5, 1, 3**0.5])]
)
def test_weighted_draws_classes_by_the_power_of_their_inverse_frequency(power: float, shares: list[float]) -> None:
    drawn = np.concatenate([order(part("weighted", power=power), epoch) for epoch in range(400)])
    counts = np.bincount(CLASSES[drawn], minlength=5)[[0, 1, 2, 4]]
    expected = np.array(shares) / sum(shares)
    deviation = np.sqrt(expected * (1 - expected) / len(drawn))
    assert (np.abs(counts / len(drawn) - expected) < 4 * deviation).all()


def test_weighted_draws_by_a_column_and_needs_no_classes_then() -> None:
    config = part("weighted", column="sharpness")
    assert part("weighted").by_class and not config.by_class
    drawn = np.concatenate([order(config, epoch, of=known(None)) for epoch in range(400)])
    counts, expected = np.bincount(drawn, minlength=30), np.arange(30) / np.arange(30).sum()
    deviation = np.sqrt(expected * (1 - expected) * len(drawn))
    assert counts[0] == 0 and (np.abs(counts - expected * len(drawn)) <= 4 * deviation).all()


def test_a_column_that_holds_no_weights_is_refused() -> None:
    with pytest.raises(UserError) as refused:
        order(part("weighted", column="below"))
    assert str(refused.value) == (
        "params.yaml: order.column 'below' holds -1 for 15 of 30 training pictures, and weights are numbers from 0 on. "
        "Mend it, or name another."
    )
    with pytest.raises(UserError, match="order.column 'zero' is 0 for all 30 training pictures, so that none would"):
        order(part("weighted", column="zero"))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("blurr", "the data set has no such column. Did you mean 'blur'? Set it to a column that holds a number"),
        ("camera", "it holds values of type string. Set it to a column that holds a number"),
        ("gap", "2 of 4 training images have no value there. Set it to a column that holds a number"),
    ],
)
def test_a_column_that_cannot_be_gone_by_is_told_with_those_that_can(name: str, found: str) -> None:
    gap, camera = pa.array([1.0, None, None, 2.0]), pa.array(["a", "b", "a", "b"])
    table = pa.table({"camera": camera, "row": range(4), "width": [1, 2, 3, 4], "blur": [0.5, 1, 2, 3], "gap": gap})
    split = Split(None, table)  # type: ignore[arg-type]
    check_column(part("shuffled"), split)
    check_column(part("weighted", column="blur"), split)
    with pytest.raises(UserError) as refused:
        check_column(part("weighted", column=name), split)
    assert str(refused.value) == (
        f"params.yaml: order.column is {name!r}, but {found} for each training image (width, blur), or order to "
        "shuffled."
    )


def test_weights_are_of_classes_or_in_a_column() -> None:
    with pytest.raises(ValueError, match="power is 1, which is of classes, and the column 'blur' is named; leave one"):
        part("weighted", column="blur", power=1)


# --- curriculum


def test_the_share_grows_by_the_same_factor_each_epoch() -> None:
    config = part("curriculum", by="column", column="sharpness", start=0.25, grown_at=0.4)
    shares = [config.share(epoch, 10) for epoch in range(6)]
    assert shares == pytest.approx([0.25, 0.25**0.75, 0.5, 0.25**0.25, 1, 1])


def test_by_loss_it_begins_after_the_warm_up_and_measures_until_all_are_seen() -> None:
    config = part("curriculum", start=0.25, grown_at=0.6, warmup_epochs=2)
    assert [config.share(epoch, 10) for epoch in range(7)] == pytest.approx(
        [1, 1, 0.25, 0.25**0.75, 0.5, 0.25**0.25, 1]
    )
    assert [epoch for epoch in range(10) if config.measures(epoch, 10)] == [2, 3, 4, 5]
    seldom = part("curriculum", grown_at=0.6, warmup_epochs=1, every=3)
    assert [epoch for epoch in range(10) if seldom.measures(epoch, 10)] == [1, 4]
    assert not any(part("shuffled").measures(epoch, 10) for epoch in range(10))
    column = part("curriculum", by="column", column="sharpness")
    assert not any(column.measures(epoch, 10) for epoch in range(10))


def test_the_easiest_of_each_class_by_hand() -> None:
    hardness = np.array([3.0, 1.0, 2.0, np.nan, 9.0, 8.0])
    classes = np.array([0, 0, 0, 0, 5, 5])
    assert easier(hardness, classes, 0.5).tolist() == [1, 2, 5]
    assert easier(hardness, None, 0.5).tolist() == [0, 1, 2]
    assert easier(hardness, classes, 0.01).tolist() == [1, 5]
    assert easier(hardness, classes, 1.0).tolist() == [0, 1, 2, 3, 4, 5]
    assert easier(np.zeros(4), None, 0.5).tolist() == [0, 1]


@pytest.mark.parametrize(("first", "easiest"), [("lowest", range(9)), ("highest", range(21, 30))])
def test_the_easiest_come_again_until_the_epoch_is_full(first: str, easiest: range) -> None:
    config = part("curriculum", by="column", column="sharpness", first=first, start=0.3)
    views = order(config, 0, of=known(None))
    # 9 views in an epoch of 30: three times each, and three of them once more
    assert set(views.tolist()) == set(easiest)
    assert sorted(np.bincount(views, minlength=30)[list(easiest)].tolist()) == [3] * 6 + [4] * 3
    assert sorted(order(config, 9, of=known(None)).tolist()) == list(range(30))


def test_by_loss_the_network_says_what_is_easy() -> None:
    losses = np.random.default_rng(3).random(30)
    config = part("curriculum", start=0.2, warmup_epochs=1, grown_at=0.5)
    views = order(config, 1, of=known(None, losses))
    assert set(views.tolist()) == set(np.argsort(losses)[:6].tolist())
    for epoch in (0, 1):  # where nothing is measured, as in a trial step
        assert sorted(order(config, epoch, of=known(None)).tolist()) == list(range(30))


def test_each_class_is_among_the_easiest() -> None:
    losses = CLASSES + np.random.default_rng(3).random(30)  # class 0 is easier than all others
    views = order(part("curriculum", start=0.2, warmup_epochs=0, grown_at=0.5), 0, of=known(CLASSES, losses))
    assert np.unique(CLASSES[np.unique(views)], return_counts=True)[1].tolist() == [4, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "column"}, "by is 'column', and none is named; set column, or by to loss"),
        (
            {"column": "sharpness"},
            "by is 'loss', and the column 'sharpness' is named; set by to column, or leave it out",
        ),
    ],
)
def test_a_curriculum_goes_by_one_thing(options: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        part("curriculum", **options)


def test_by_a_column_nothing_is_measured_and_no_warm_up_is_needed() -> None:
    with pytest.raises(ValueError, match="by is 'column', and every is 3, which is for losses; leave it out"):
        part("curriculum", by="column", column="sharpness", every=3)
    with pytest.raises(ValueError, match="by is 'column', and warmup_epochs is 0, which is for losses; leave it out"):
        part("curriculum", by="column", column="sharpness", warmup_epochs=0)


@pytest.mark.parametrize("grown_at", [0.1, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("warmup_epochs", [0, 1, 3, 7])
def test_a_curriculum_is_idle_where_every_epoch_shows_all_pictures(warmup_epochs: int, grown_at: float) -> None:
    config = part("curriculum", warmup_epochs=warmup_epochs, grown_at=grown_at)
    for epochs in range(1, 30):
        all_of_them = all(config.share(epoch, epochs) == 1 for epoch in range(epochs))
        assert bool(config.idle(epochs)) == all_of_them == (not any(config.measures(n, epochs) for n in range(epochs)))
    column = part("curriculum", by="column", column="sharpness", grown_at=grown_at)
    assert not any(column.idle(epochs) for epochs in range(1, 30)) and column.share(0, 1) < 1


# --- what views cost


@pytest.mark.parametrize(
    ("model", "loss", "targets"),
    [
        ({"name": "convnet", "width": 4}, {"name": "cross_entropy"}, torch.arange(7) % 3),
        (
            {"name": "unet", "width": 4, "depth": 1},
            {"name": "dice"},
            (torch.arange(7 * 256) % 3).byte().view(7, 16, 16),
        ),
        ({"name": "heatmap", "width": 4, "depth": 2, "features": 4}, {"name": "heatmap"}, torch.full((7, 3, 4), 5.0)),
        ({"name": "embedding", "width": 4}, {"name": "arcface"}, torch.arange(7) % 3),
    ],
)
def test_the_loss_of_a_view_is_that_of_a_batch_of_it_alone(
    model: dict[str, object], loss: dict[str, object], targets: torch.Tensor
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)  # else two losses of seven may be one by chance
    built = [config_class(folder, one.pop("name"))(**one) for folder, one in (("models", model), ("losses", loss))]
    outputs = 8 if targets.ndim == 1 and "arcface" in type(built[1]).__module__ else 3
    learner = Learner(
        normaliser([0.5], [0.2]), built[0].build(1, outputs, 16), built[1].build([3, 2, 2], outputs), NONE
    )
    params = parse(TrainParams, (ROOT / "params.yaml").read_text())
    machine = Machine.assemble(params, learner, torch.device("cpu"), Arithmetic("float32", "contiguous"), 10)
    pictures = torch.randint(256, (7, 16, 16, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    state = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    found = losses_of_views(machine, [Batch(pictures[:4], targets[:4]), Batch(pictures[4:], targets[4:])])
    assert all(torch.equal(tensor, state[name]) for name, tensor in learner.state_dict().items())
    assert found.shape == (7,) and found.dtype == np.float64 and len(set(found.tolist())) == 7
    learner.eval().loss.train()
    with torch.no_grad():
        alone = [learner(*learner.prepared(pictures[n : n + 1], targets[n : n + 1]))[0].item() for n in range(7)]
    assert found.tolist() == pytest.approx(alone, rel=1e-4)


# --- at the door


@pytest.mark.parametrize("name", names("orders"))
def test_an_order_by_class_needs_pictures_of_one_class_each(name: str) -> None:
    said = clashes("segmentation-lists", f"order={{name: {name}}}")
    assert bool(said) == part(name).by_class
    if said:
        assert said == [
            f"  the parts together: order {name!r} goes by the class of each picture, but task 'semantic_segmentation' "
            "learns one class per pixel; set order to shuffled."
        ]
    assert not clashes("ordinal", f"order={{name: {name}}}") and not clashes("faces-folder", f"order={{name: {name}}}")


@pytest.mark.parametrize(("options", "epochs", "enough"), [("", 2, 3), (", warmup_epochs: 3, grown_at: 0.3", 10, 11)])
def test_a_curriculum_that_is_plain_shuffling_is_refused(options: str, epochs: int, enough: int) -> None:
    order, (warmup, grown) = f"order={{name: curriculum{options}}}", ((3, 0.3) if options else (1, 0.5))
    assert clashes("ordinal", order, f"train.epochs={epochs}") == [
        f"  the parts together: order 'curriculum' would begin after order.warmup_epochs, {warmup}, and end after "
        f"order.grown_at, {grown}, of {epochs} epochs, so that none shows a part of the pictures; set train.epochs to "
        f"{enough} or more, or order to shuffled."
    ]
    assert not clashes("ordinal", order, f"train.epochs={enough}")


def test_weights_in_a_column_do_for_any_task() -> None:
    assert not clashes("segmentation-lists", "order={name: weighted, column: width}")
