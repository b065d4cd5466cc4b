"""Slices of the test images: counted by hand, named honestly, held to their floors."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from pipeline import masks
from pipeline.answers.labels import LabelAnswers
from pipeline.answers.masks import MaskAnswers
from pipeline.answers.objects import ObjectAnswers
from pipeline.bootstrap import alone
from pipeline.dataset import Dataset, DatasetInfo
from pipeline.errors import UserError
from pipeline.params import GateOptions
from pipeline.registry import slices
from pipeline.registry.slices import MOST, Cut, Slices
from pipeline.registry.verdict import SliceRow


def text(*values: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.string())])


def sliced(cut: Cut) -> dict[str, int]:
    """Images of each slice, in the order shown; and the text column says the same."""
    found = {value: int((cut.slice_of == place).sum()) for place, value in enumerate(cut.values)}
    assert {value: cut.texts().to_pylist().count(value) for value in cut.values} == found
    return found


def test_text_is_cut_by_value_the_most_common_first() -> None:
    cut = slices.by_column("camera", text("b", "a", None, "a", "c", "b", "a"))
    assert sliced(cut) == {"a": 3, "b": 2, "c": 1, "(none)": 1}
    assert cut.texts().to_pylist() == ["b", "a", "(none)", "a", "c", "b", "a"]


def test_rare_values_are_one_slice_together() -> None:
    values = [f"{number:02}" for number in range(MOST + 3)]
    cut = slices.by_column("group", text(*values, *values[:MOST], None))
    assert list(sliced(cut).items())[-3:] == [("19", 2), ("(other)", 3), ("(none)", 1)]
    assert len(cut.values) == MOST + 2
    exactly = slices.by_column("group", text(*values[:MOST]))
    assert exactly.values == values[:MOST]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (range(1, 10), {"1 to 3": 3, "4 to 6": 3, "7 to 9": 3}),
        ([64] * 5, {"64": 5}),
        ([5, 5, 5, 5, 9, 1], {"1 to 5": 5, "9": 1}),  # equal numbers stay together
        ([64, 640, None, 128], {"64": 1, "128": 1, "640": 1, "(none)": 1}),
        ([0.1, 0.25, 3.0, 2e6], {"0.1 to 0.25": 2, "3": 1, "2000000": 1}),
        ([None, None], {"(none)": 2}),
    ],
)
def test_numbers_are_cut_into_thirds_named_by_what_is_in_them(numbers: object, expected: dict[str, int]) -> None:
    assert sliced(slices.by_column("width", pa.chunked_array([pa.array(numbers)]))) == expected


def test_a_slice_counted_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    told = LabelAnswers(["cat", "dog", "owl"], labels, np.eye(3)[[0, 0, 0, 2, 1, 0]])
    rival = LabelAnswers(["cat", "dog", "owl"], labels, np.eye(3)[[0, 1, 2, 0, 2, 0]])
    cats, dogs = slices.by_class(told, rival, GateOptions(class_floor=0.6, smallest_slice=3), alone(6))
    assert cats == SliceRow(
        column="class",
        value="cat",
        images=4,
        challenger=0.75,
        champion=0.5,
        fixed=2,
        broken=1,
        p=1.0,
        floor=0.6,
        held=True,
    )
    # two dogs are too few to be held to a floor, and there is no owl
    assert (dogs.images, dogs.challenger, dogs.floor, dogs.held) == (2, 0.5, 0.0, True)


def test_a_class_of_objects_by_hand() -> None:
    # x1, y1, x2, y2, class id, crowd; each image has one or two cats and at most one dog
    cat, other_cat, dog = [0, 0, 8, 8, 0, 0], [10, 0, 18, 8, 0, 0], [0, 10, 8, 18, 1, 0]
    crowd = [10, 10, 18, 18, 1, 1]
    truth = [[cat, other_cat, dog], [cat, dog], [cat, crowd], [dog]]

    def finding(*found: list[list[int]]) -> ObjectAnswers:
        boxes = [[[*row[:4], 0.9, row[4]] for row in rows] for rows in found]
        arrays = [[np.array(rows, float).reshape(-1, 6) for rows in side] for side in (truth, boxes)]
        return ObjectAnswers(["cat", "dog", "owl"], *arrays, [(20, 20)] * 4)

    challenger = finding([cat, other_cat], [cat, dog], [cat, other_cat], [dog, cat])
    champion = finding([cat, dog], [cat, dog], [cat, crowd], [cat])
    cats, dogs = slices.by_class(challenger, champion, GateOptions(class_floor=0.8, smallest_slice=3), alone(4))
    # F1 of the cats in the three images that hold one: 1, 1, and one of two boxes is right, 2 / 3. The cat that is said
    # to be in the fourth image does not count here: the image holds none.
    assert (cats.value, cats.images, cats.challenger) == ("cat", 3, pytest.approx((1 + 1 + 2 / 3) / 3))
    assert cats.champion == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert (cats.fixed, cats.broken, cats.p) == (1, 1, 1.0)
    assert (cats.floor, cats.held) == (0.8, True)
    # dogs are in images 0, 1 and 3; the crowd in image 2 is nobody
    assert (dogs.value, dogs.images, dogs.challenger) == ("dog", 3, pytest.approx((0 + 1 + 1) / 3))
    assert (dogs.champion, dogs.fixed, dogs.broken, dogs.held) == (pytest.approx(2 / 3), 1, 1, False)
    assert slices.under([cats, dogs]) == [
        "Too few right answers in 1 slice: class 'dog' 0.6667 of 3 images (floor 0.8)."
    ]


def test_a_class_of_pixels_and_a_column_by_hand() -> None:
    truth = [np.array([[0, 0, 1, 255]]), np.array([[0, 0, 0, 0]]), np.array([[1, 1, 1, 0]])]

    def painting(*said: list[int]) -> MaskAnswers:
        encoded = [[masks.encode(np.array(mask, np.uint8).reshape(1, 4)) for mask in side] for side in (truth, said)]
        return MaskAnswers(["sky", "road"], *encoded, np.full(3, 0.7))

    challenger = painting([0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0])
    champion = painting([0, 1, 1, 0], [0, 0, 0, 1], [1, 1, 1, 0])
    sky, road = slices.by_class(challenger, champion, GateOptions(), alone(3))
    # IoU of the sky: 1, 1, one of two; the champion has one of two, three of four, one of one
    assert (sky.images, sky.challenger, sky.champion) == (3, pytest.approx(2.5 / 3), pytest.approx(2.25 / 3))
    assert (sky.fixed, sky.broken) == (2, 1)
    # of the road: 1, and two of three; the champion has one of two, and all three. The second image holds no road
    assert (road.images, road.challenger, road.champion) == (2, pytest.approx(5 / 6), pytest.approx(3 / 4))
    # the mean of both classes where either is true or said
    assert challenger.quality == pytest.approx([1, 1, (1 / 2 + 2 / 3) / 2])
    assert champion.quality == pytest.approx([1 / 2, (3 / 4 + 0) / 2, 1])
    cut = slices.by_column("camera", text("b", "a", "a"))
    asked = GateOptions(slices=("camera",), slice_floor=0.9, smallest_slice=1)
    first, second = slices.by_value(cut, challenger, champion, asked, alone(3))
    assert (first.value, first.images, first.challenger) == ("a", 2, pytest.approx((1 + 7 / 12) / 2))
    assert (first.champion, first.fixed, first.broken, first.held) == (pytest.approx((3 / 8 + 1) / 2), 1, 1, False)
    assert (second.value, second.challenger, second.champion, second.held) == ("b", 1, 1 / 2, True)


def of_all(column: str, value: str, images: int, units: np.ndarray | None = None) -> Slices:
    """One slice that holds all of so many images."""
    return Slices(column, [value], np.ones((images, 1), bool), alone(images) if units is None else units)


def test_images_that_belong_together_part_two_models_once() -> None:
    # the challenger is better on 8 of 10 images of one patient and on 1 of the second, the champion on 2 of the first
    challenger = np.array([1.0] * 8 + [0, 0] + [1.0] * 2 + [0.5] * 8)[:, None]
    champion = np.array([0.0] * 8 + [1, 1] + [0.0, 1.0] + [0.5] * 8)[:, None]
    (row,) = slices.rows(of_all("site", "north", 20), challenger, champion, GateOptions())
    assert (row.fixed, row.broken, row.p) == (9, 2, pytest.approx(stats.binomtest(9, 11).pvalue))
    patients = of_all("site", "north", 20, np.repeat([0, 1, 2], [10, 2, 8]))
    (row,) = slices.rows(patients, challenger, champion, GateOptions())
    assert (row.images, row.fixed, row.broken, row.p) == (20, 9, 2, 0.5)  # two patients of two


def test_floors_of_classes_and_slices_are_their_own() -> None:
    right, champion_right = (np.arange(20) % 4 > 0).astype(float)[:, None], np.ones((20, 1))
    asked = GateOptions(slices=("width",), class_floor=0.75, slice_floor=0.76)
    (of_class,) = slices.rows(of_all("class", "cat", 20), right, champion_right, asked)
    (of_slice,) = slices.rows(of_all("width", "64", 20), right, champion_right, asked)
    assert (of_class.held, of_slice.held) == (True, False)
    assert (of_slice.challenger, of_slice.champion, of_slice.broken) == (0.75, 1, 5)
    assert of_slice.p == pytest.approx(2 * 0.5**5)
    assert slices.under([of_class]) == []
    assert slices.under([of_class, of_slice]) == [
        "Too few right answers in 1 slice: width '64' 0.7500 of 20 images (floor 0.76)."
    ]


def test_of_many_slices_under_their_floor_the_farthest_are_named() -> None:
    images = np.arange(800)[:, None]
    of_classes = Slices("class", [f"c{place}" for place in range(8)], images % 8 == np.arange(8), alone(800))
    right = 1.0 * (images // 8 < 10 * (images % 8))  # c0 none, c1 10 of 100, ..., c7 70 of 100
    (words,) = slices.under(slices.rows(of_classes, right, right, GateOptions(class_floor=0.65)))
    assert words == (
        "Too few right answers in 7 slices: class 'c0' 0.0000 of 100 images (floor 0.65), class 'c1' 0.1000 of 100 "
        "images (floor 0.65), class 'c2' 0.2000 of 100 images (floor 0.65), class 'c3' 0.3000 of 100 images (floor "
        "0.65), class 'c4' 0.4000 of 100 images (floor 0.65), and 2 more."
    )


def test_what_can_be_sliced_by() -> None:
    known = {"id": ["a"], "source": ["x"], "width": [1], "label": [0], "camera": ["one"]}
    info = DatasetInfo.model_construct(metadata=["camera"])
    assert slices.columns(Dataset(root=None, info=info, samples=pa.table(known))) == ["width", "source", "camera"]


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("wdith", "Did you mean 'width'? It has: width, source."),
        ("id", "has no such column. It has: width, source."),
        ("label", "has no such column. It has: width, source; a slice of each class is there anyway."),
    ],
)
def test_a_slice_that_the_dataset_does_not_have(name: str, ending: str) -> None:
    slices.check(["source", "width"], ["width", "source"])
    with pytest.raises(UserError) as raised:
        slices.check(["source", name], ["width", "source"])
    words = str(raised.value)
    assert words.startswith(f"params.yaml: gate.slices names {name!r}, and the dataset has no such column.")
    assert words.endswith(ending)


def test_a_slice_is_named_once() -> None:
    with pytest.raises(ValueError, match="the column 'group' stands twice; keep one"):
        GateOptions(slices=("group", "width", "group"))
