"""Objects pixel by pixel, from the formats that tell them through ingest to what a network says, and out again."""

from __future__ import annotations

import io
import json
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pycocotools import mask as coco_masks

from pipeline import masks, packed, runs
from pipeline.annotations import Flaw, FlawKind, Layer, Objects, Pieces, Runs, Thing
from pipeline.answers.instances import InstanceAnswers
from pipeline.contracts import AnnotationRules, Frame, Views
from pipeline.dataset import Dataset
from pipeline.door import parse
from pipeline.errors import UserError
from pipeline.export._contours import contour
from pipeline.export.run import export
from pipeline.ingest import pieces, stage
from pipeline.ingest.layers import framed
from pipeline.ingest.painting import paint
from pipeline.inspection.look import look
from pipeline.params import IngestParams
from pipeline.tasks.instance_segmentation import Config
from pipeline.tasks.object_detection import Config as Detection

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
TASK, RULES = Config(), AnnotationRules()
WIDTH, HEIGHT = 12, 8


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def project(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one decoding process: a second takes longer to start than these pictures take."""
    monkeypatch.setattr("pipeline.ingest.decoding.cores", lambda: 1)
    return place


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def picture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    return png(np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8))


def area(*boxes: tuple[int, int, int, int], width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """The pixels of boxes x1, y1, x2, y2: bool [H, W]."""
    inside = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in boxes:
        inside[y1:y2, x1:x2] = True
    return inside


def as_runs(inside: np.ndarray) -> Runs:
    return Runs(*inside.shape, tuple(masks.runs_of(inside)))


def ingest(root: Path, form: str, split: str = "{val: 0.2, test: 0.25}", **options: Any) -> Dataset:
    data = json.dumps({"name": form, "path": str(root), **options})
    text = f"data: {data}\nannotations: {{}}\nsplit: {split}\ntask: {{name: instance_segmentation}}\n"
    stage.run(parse(IngestParams, text), Path("out"))
    return Dataset.open(Path("out"))


def told_of(dataset: Dataset) -> dict[str, list[tuple[str, bool, list[int]]]]:
    """Of each picture by its name: class, crowd and runs of each object."""
    classes = dataset.info.classes
    return {
        row["source"]: [(classes[one["label"]], one["crowd"], one["runs"]) for one in row["objects"]]
        for row in dataset.samples.to_pylist()
    }


def problems() -> list[tuple[str, str, str]]:
    return [(row["problem"], row["done"], row["place"]) for row in pq.read_table("out/problems.parquet").to_pylist()]


def tree(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


# Settled by hand: pictures of 12 x 8


def settle(*things: Thing, rules: AnnotationRules = RULES, **options: Any) -> Any:
    return TASK.settle(Objects(things, "a.json", **options), WIDTH, HEIGHT, rules)


def test_outlines_become_runs_with_a_box_around_them():
    triangle = (1.0, 1.0, 5.0, 1.0, 1.0, 5.0)
    settled = settle(Thing("cell", (0, 0, 99, 99), outline=(triangle, (8, 2, 10, 2, 10, 4, 8, 4))))
    assert settled.problems == ()
    (thing,) = settled.annotation.things
    inside = masks.fill([triangle], WIDTH, HEIGHT) | area((8, 2, 10, 4))
    assert list(thing.outline.lengths) == masks.runs_of(inside)
    assert thing.box == masks.box_of(inside) == (1, 1, 10, 4)
    assert TASK.tally(settled.annotation) == {"cell": 1}
    assert TASK.columns(settled.annotation, ["cell"])["objects"] == [
        {"label": 0, "x1": 1, "y1": 1, "x2": 10, "y2": 4, "crowd": False, "runs": array("i", masks.runs_of(inside))}
    ]
    shares = settle(Thing("cell", (0, 0, 1, 1), outline=((0, 0, 0.5, 0, 0.5, 0.5, 0, 0.5),)), relative=True)
    assert list(shares.annotation.things[0].outline.lengths) == masks.runs_of(area((0, 0, 6, 4)))


def test_runs_of_other_libraries_are_equal_runs():
    inside = area((2, 3, 9, 5))
    own, loose = as_runs(inside), Runs(HEIGHT, WIDTH, (0, 0, *masks.runs_of(inside), 0))
    kept = [settle(Thing("cell", (0, 0, 1, 1), outline=one)).annotation for one in (own, loose)]
    assert kept[0] == kept[1] and kept[0].things[0].box == (2, 3, 9, 5)


@pytest.mark.parametrize(
    ("outline", "kind", "done", "words"),
    [
        (None, FlawKind.UNREADABLE, "reject", "it has no outline"),
        (((1, 1, 1.2, 1, 1.2, 1.2),), FlawKind.BAD_BOX, "drop", "its outline holds no pixel"),
        (((1, 1, float("nan"), 1, 2, 2),), FlawKind.BAD_BOX, "drop", "its outline is not finite"),
        (as_runs(area()), FlawKind.BAD_BOX, "drop", "its outline holds no pixel"),
        (Runs(2, 2, (0, 4)), FlawKind.OTHER_SIZE, "reject", "runs of 2 x 2; the picture is 12 x 8"),
        (Runs(8, 12, (0, 4)), FlawKind.UNREADABLE, "reject", "expected runs that fill 12 x 8 pixels, found 4"),
        (((9, 6, 20, 6, 20, 20, 9, 20),), FlawKind.OUTSIDE, "clip", "its outline reaches beyond the picture of 12 x 8"),
        (((13, 9, 20, 9, 20, 20),), FlawKind.OUTSIDE, "drop", "its outline has no pixel in the picture of 12 x 8"),
    ],
)
def test_what_is_wrong_with_an_outline(outline: Any, kind: FlawKind, done: str, words: str):
    settled = settle(Thing("cell", (0, 0, 1, 1), "object 1", outline=outline))
    assert settled.problems == ((Flaw(kind, "a.json", "object 1", words), done),)
    assert (settled.annotation is None) == (done == "reject")
    if done == "clip":
        assert settled.annotation.things[0].box == (9, 6, 12, 8)
        dropped = settle(Thing("cell", (0, 0, 1, 1), outline=outline), rules=AnnotationRules(outside="drop"))
        assert dropped.annotation.things == () and dropped.problems[0][1] == "drop"


def test_a_size_that_is_written_down_and_what_was_seen_while_decoding():
    flaw = Flaw(FlawKind.UNKNOWN_CLASS, "m.png", "", "values without a class: 7 (1 pixels)")
    settled = settle(said_size=(3, 3), flaws=(flaw,), rules=AnnotationRules(unknown_class="drop"))
    assert settled.annotation is None
    assert [(one.kind, done) for one, done in settled.problems] == [
        (FlawKind.UNKNOWN_CLASS, "drop"),
        (FlawKind.OTHER_SIZE, "reject"),
    ]
    with pytest.raises(UserError, match="Instance segmentation needs objects"):
        TASK.classes([])


# What a network says


def said(*objects: tuple[Sequence[float], float, int, np.ndarray]) -> np.ndarray:
    """Rows of a box, a score, a class and a small mask: float32 [1, d, 6 + m * m]."""
    rows = [
        np.concatenate([box, [score, label], np.asarray(small, float).ravel()]) for box, score, label, small in objects
    ]
    return np.array([rows], np.float32)


def whole(side: int, width: int = WIDTH, height: int = HEIGHT) -> Views:
    longer = max(width, height)
    return Views(np.array([0]), np.array([[0, 0, longer, longer]], float), np.array([[width, height]]), side)


def test_small_masks_are_pasted_as_mask_r_cnn_does():
    """Against `torch.nn.functional.grid_sample`, with which Detectron2 pastes."""
    random = np.random.default_rng(0)
    for _ in range(100):
        cells = random.choice([1, 2, 7, 28])
        shares = random.random((cells, cells))
        x1, y1 = random.uniform(-4, WIDTH - 1), random.uniform(-4, HEIGHT - 1)
        x2, y2 = x1 + random.uniform(0.5, 9), y1 + random.uniform(0.5, 9)
        pixels = masks.of_runs(runs.pasted(shares, (x1, y1, x2, y2), WIDTH, HEIGHT), WIDTH, HEIGHT)
        across, down = (
            (np.arange(WIDTH) + 0.5 - x1) / (x2 - x1) * 2 - 1,
            (np.arange(HEIGHT) + 0.5 - y1) / (y2 - y1) * 2 - 1,
        )
        grid = torch.tensor(np.stack(np.meshgrid(across, down), axis=-1))[None]
        values = F.grid_sample(torch.tensor(shares)[None, None], grid, align_corners=False)[0, 0].numpy()
        assert (pixels == (values > 0.5))[np.abs(values - 0.5) > 1e-9].all()


def test_told_by_hand():
    # The network sees 12 x 12 as 24 x 24: boxes are halved. The second lies beyond the picture, the third is empty.
    full, none = np.ones((2, 2)), np.zeros((2, 2))
    outputs = said(
        ([4, 4, 12, 8], 0.5, 1, full),
        ([30, 0, 40, 10], 0.9, 0, full),
        ([0, 0, 8, 8], 0.8, 0, none),
        ([20, 12, 28, 20], 0.75, 0, [[1, 1], [1, 1]]),
        ([0, 0, 0, 0], 0, 0, full),
    )
    (told,) = TASK.told(outputs, whole(24))
    assert told.rows.tolist() == [[10, 6, 12, 8, 0.75, 0], [2, 2, 6, 4, 0.5, 1]] and told.size == (WIDTH, HEIGHT)
    assert [one.tolist() for one in told.runs] == [masks.runs_of(area(box)) for box in ((10, 6, 12, 8), (2, 2, 6, 4))]
    plain = TASK.plain(told, ["a", "b"])["objects"]
    assert plain[1] == {
        "label": "b",
        "score": 0.5,
        "box": [2, 2, 6, 4],
        "runs": {"size": [HEIGHT, WIDTH], "counts": masks.runs_of(area((2, 2, 6, 4)))},
    }
    packed_runs = coco_masks.frPyObjects(plain[1]["runs"], HEIGHT, WIDTH)
    assert coco_masks.toBbox(packed_runs).tolist() == [2, 2, 4, 2] and coco_masks.area(packed_runs) == 8
    marks = TASK.marks(told, ["a", "b"])
    assert marks.words == "1 a, 1 b" and marks.boxes[0].inside == as_runs(area((10, 6, 12, 8)))
    (nothing,) = TASK.told(outputs[:, :0], whole(24))
    assert nothing.rows.shape == (0, 6) and TASK.marks(nothing, ["a", "b"]).words == "nothing"


def test_left_halves_are_left_halves():
    (told,) = TASK.told(said(([2, 2, 10, 6], 0.9, 0, [[1, 0], [1, 0]])), whole(12))
    # Between the centres of cells at x = 4 and 8 it falls from 1 to 0: a half is reached at 6. At the corners it falls
    # along x and y: at 2.5, 2.5 it is 0.625 times 0.75.
    assert told.runs[0].tolist() == masks.runs_of(area((2, 3, 6, 5), (3, 2, 5, 6)))


def test_an_object_that_two_tiles_found_is_told_once_and_neighbours_stay():
    seen = Views(np.zeros(2, int), np.array([[0, 0, 8, 8], [4, 0, 12, 8]], float), np.array([[WIDTH, HEIGHT]]), 8)
    full, upper, lower = np.ones((2, 2)), np.array([[1, 1], [0, 0]]), np.array([[0, 0], [1, 1]])
    first = said(([5, 1, 8, 5], 0.6, 0, full), ([1, 1, 4, 7], 0.5, 0, upper))
    second = said(([1, 1, 4, 5], 0.8, 0, full), ([5, 5, 8, 8], 0.4, 0, lower))
    (told,) = TASK.told(np.concatenate([first, second]), seen)
    assert told.rows[:, 4].tolist() == pytest.approx([0.8, 0.5, 0.4])
    # Two halves of one box, each found by a tile, are no one object, though their boxes are the same.
    halves = np.concatenate([said(([5, 1, 8, 7], 0.6, 0, upper)), said(([1, 1, 4, 7], 0.7, 0, lower))])
    assert len(TASK.told(halves, seen)[0].rows) == 2
    assert (
        len(TASK.told(np.concatenate([first[:, :1], second[:, :1] * [1, 1, 1, 1, 1, 1, *[1] * 4]]), seen)[0].rows) == 1
    )


def test_an_object_larger_than_the_margin_of_tiles_is_told_once():
    seen = Views(np.zeros(2, int), np.array([[0, 0, 8, 8], [4, 0, 12, 8]], float), np.array([[WIDTH, HEIGHT]]), 8)
    # x 0..12 of the picture: each tile sees 8 columns of it, 4 of which both see, a half of either.
    wide = said(([0, 1, 8, 5], 0.6, 0, np.ones((2, 2)))), said(([0, 1, 8, 5], 0.8, 0, np.ones((2, 2))))
    (told,) = TASK.told(np.concatenate(wide), seen)
    assert told.rows[:, 4].tolist() == pytest.approx([0.8])
    # Below it, seen by one tile where both look, another one: they have no pixel in common.
    apart = said(([0, 1, 8, 5], 0.6, 0, np.ones((2, 2)))), said(([0, 5, 8, 8], 0.8, 0, np.ones((2, 2))))
    assert len(TASK.told(np.concatenate(apart), seen)[0].rows) == 2


def test_three_hundred_objects_take_no_time():
    import time

    random = np.random.default_rng(0)
    corners, sides = random.uniform(0, 480, (300, 2)), random.uniform(8, 60, (300, 2))
    boxes = np.concatenate([corners, corners + sides, random.random((300, 1)), np.zeros((300, 1))], axis=1)
    outputs = np.concatenate([boxes, random.random((300, 28 * 28))], axis=1).astype(np.float32)[None]
    start = time.process_time()
    (told,) = TASK.told(outputs, whole(512, 1000, 800))
    assert time.process_time() - start < 0.5 and len(told.rows) > 250


# Answers


class FakeSplit:
    """What the task asks of a split: objects as class, crowd and pixels."""

    def __init__(self, *images: Sequence[tuple[int, bool, np.ndarray]]) -> None:
        self.classes = ["a", "b"]
        self.sizes = np.array([[WIDTH, HEIGHT]] * len(images))
        self._images = images
        self.dataset = SimpleNamespace()

    def __len__(self) -> int:
        return len(self._images)

    def objects(self, position: int) -> np.ndarray:
        rows = [(*masks.box_of(inside), label, crowd) for label, crowd, inside in self._images[position]]
        return np.array(rows, np.float64).reshape(-1, 6)

    def runs(self, position: int) -> list[list[int]]:
        return [masks.runs_of(inside) for _, _, inside in self._images[position]]


def test_answers_are_beside_the_truth():
    split = FakeSplit([(0, False, area((2, 2, 6, 4)))], [])
    outputs = np.concatenate([said(([2, 2, 6, 4], 0.6, 0, np.ones((2, 2))))] * 2)
    views = Views(np.arange(2), np.array([[0, 0, 12, 12]] * 2, float), split.sizes, 12)
    answers = TASK.answers(split, TASK.told(outputs, views))
    assert isinstance(answers, InstanceAnswers)
    assert answers.quality.tolist() == [1, 0] and answers.true(0).words == "1 a"


def test_a_blind_answer_puts_ellipses_in_training_boxes():
    train = FakeSplit([(0, False, area((0, 0, 12, 8))), (0, False, area((4, 2, 8, 6))), (1, True, area((0, 0, 2, 2)))])
    blind = TASK.blind(train, FakeSplit([(0, False, area((4, 2, 8, 6)))]))
    assert len(blind.found.rows) == 2 and (blind.found.rows[:, 4] == 1).all(), "crowds are none"
    small = masks.of_runs(blind.found_insides[0].lengths, WIDTH, HEIGHT)
    assert small.sum() == 12 and not small[2, 4] and small[2, 5]  # 4 x 4 without its corners


@pytest.mark.parametrize("task", [TASK, Detection()])
def test_the_threshold_is_chosen_on_validation_and_then_shared(task: Any):
    split = FakeSplit([(0, False, area((2, 2, 6, 4))), (0, False, area((8, 2, 10, 6)))])
    boxes = [([2, 2, 6, 4], 0.7), ([8, 2, 10, 6], 0.3), ([0, 0, 2, 2], 0.1)]
    if task is TASK:
        told = TASK.told(said(*((box, score, 0, np.ones((2, 2))) for box, score in boxes)), whole(12))
    else:
        told = [np.array([[*box, score, 0] for box, score in boxes])]
    assert task.answers(split, told).threshold == pytest.approx(0.3)
    assert task.marks(told[0], ["a", "b"]).words == "1 a", "half sure or more, while no threshold is known"
    tuned = task.tuned(task.answers(split, told))
    assert tuned.threshold == pytest.approx((0.3 + 0.1) / 2) and tuned.tuned(task.answers(split, told)) == tuned
    assert tuned.marks(told[0], ["a", "b"]).words == "2 a"
    one = [told[0]._replace(rows=told[0].rows[:1], runs=told[0].runs[:1])] if task is TASK else [told[0][:1]]
    assert tuned.answers(split, one).threshold == tuned.threshold, "not that of these answers"
    assert task.tuned(task.answers(split, one)).threshold == pytest.approx(0.35), "none is lower"
    fixed = task.model_copy(update={"threshold": 0.9})
    assert fixed.tuned(task.answers(split, told)).threshold == 0.9
    assert fixed.answers(split, told).quality.tolist() == [0]
    assert type(task).model_validate(tuned.model_dump()) == tuned


def test_truth_is_shown_with_its_pixels():
    row = {
        "width": WIDTH,
        "height": HEIGHT,
        "objects": [
            {
                "label": 1,
                "x1": 2.0,
                "y1": 2.0,
                "x2": 6.0,
                "y2": 4.0,
                "crowd": True,
                "runs": masks.runs_of(area((2, 2, 6, 4))),
            }
        ],
    }
    marks = TASK.truth(row, None, ["a", "b"])
    assert marks.words == "nothing" and marks.boxes[0].faint and marks.boxes[0].inside == as_runs(area((2, 2, 6, 4)))


# Masks of single objects


def test_pieces_are_cut_by_value():
    numbers = np.zeros((HEIGHT, WIDTH), np.uint16)
    numbers[1:4, 2:5], numbers[3:6, 4:9], numbers[7, 0], numbers[7, 11] = 300, 7, 9, 300
    layer = Layer("m.png", b"", {300: "cell", 7: "cell", 8: "cell"}, frozenset({0}))
    about = pieces.tables(Pieces((layer,)))
    assert about == [[[([300], 0), ([7], 1), ([8], 2), ([0], -1)]], False]
    answers, lengths = pieces.cut(about, [png(numbers)])
    assert answers[0][:2] == [WIDTH, HEIGHT] and answers[0][3] == {"9": 1}
    made = pieces.objects(Pieces((layer,), frozenset({7})), json.loads(json.dumps(answers)), lengths)
    assert [(thing.name, thing.place, thing.crowd) for thing in made.things] == [
        ("cell", "value 7 (cell)", True),
        ("cell", "value 300 (cell)", False),
    ]
    assert [list(thing.outline.lengths) for thing in made.things] == [masks.runs_of(numbers == one) for one in (7, 300)]
    assert made.flaws == (Flaw(FlawKind.UNKNOWN_CLASS, "m.png", "", "values without a class: 9 (1 pixels)"),)


def test_an_object_is_of_the_class_that_most_of_its_pixels_are_of():
    numbers, kinds = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    numbers[1:4, 1:5], numbers[5:7, 2:6], numbers[7, 11], numbers[0] = 1, 2, 3, 255
    kinds[1:4, 1:3], kinds[1:4, 3:5], kinds[1, 3] = 15, 255, 12  # half of it void, and one pixel of another class
    kinds[5:7, 2:6] = 12
    ground, void = frozenset({0}), frozenset({255})
    layer, classes = Layer("o.png", png(numbers), {}, void, ground), {12: "dog", 15: "person"}
    told = Pieces((layer,), kinds=Layer("c.png", png(kinds), classes, void, ground))
    answers, lengths = paint(framed(pieces.tables(told), pieces.layers_of(told)))
    made = pieces.objects(told, answers, lengths)
    assert [(one.name, one.place) for one in made.things] == [
        ("person", "object 1 (person)"),
        ("dog", "object 2 (dog)"),
    ]
    assert list(made.things[0].outline.lengths) == masks.runs_of(numbers == 1)
    assert [flaw.found for flaw in made.flaws] == ["values without a class: 3 (1 pixels)"]
    smaller = Pieces((layer,), kinds=Layer("c.png", png(kinds[1:]), classes, void, ground))
    answers, lengths = paint(framed(pieces.tables(smaller), pieces.layers_of(smaller)))
    assert pieces.objects(smaller, answers, lengths).flaws[0].found == "of another size than the mask of classes"


def test_masks_that_cannot_be_cut_are_flaws():
    coloured = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    coloured[0, 0] = 1, 2, 3
    blank = png(np.zeros((HEIGHT, WIDTH), np.uint8))
    layers = tuple(Layer(f"{k}.png", b"", {255: "cell"}, clear=frozenset({0})) for k in range(3))
    answers, lengths = paint(framed(pieces.tables(Pieces(layers)), [png(coloured), b"no picture", blank]))
    made = pieces.objects(Pieces(layers), answers, lengths)
    assert made.things == ()
    assert [(flaw.kind, flaw.source) for flaw in made.flaws] == [
        (FlawKind.COLOUR_MASK, "0.png"),
        (FlawKind.UNREADABLE, "1.png"),
        (FlawKind.BAD_BOX, "2.png"),
    ]
    assert made.flaws[2].found == "no pixel of this mask is of an object"


def test_a_mask_for_each_object(project: Path, tmp_path: Path):
    first, second = area((1, 1, 5, 5)), area((4, 4, 9, 7))  # they have a pixel in common, which both keep
    files = {f"{k}/images/{k}.png": picture(k) for k in range(5)}
    for k in range(4):
        for number, inside in enumerate((first, second)):
            files[f"{k}/masks/{number}.png"] = png(inside.astype(np.uint8) * 255)
    files["3/masks/2.png"] = png(np.zeros((HEIGHT, WIDTH), np.uint8))
    files["4/masks/0.png"] = png(np.full((HEIGHT + 1, WIDTH), 255, np.uint8))
    source = tree(tmp_path / "source", files)
    dataset = ingest(source, "masks")
    wanted = [("object", False, masks.runs_of(inside)) for inside in (first, second)]
    assert told_of(dataset) == {f"{k}/images/{k}.png": wanted for k in range(4)}
    assert dataset.info.unit == "objects" and sum(sum(c.values()) for c in dataset.info.counts.values()) == 8
    assert problems() == [("bad_box", "drop", ""), ("other_size", "reject", "value 255 (object)")]
    seen = look(str(source))
    assert list(seen.tasks.items())[:2] == [
        ("instance_segmentation", "INSTANCES"),
        ("semantic_segmentation", "MASK"),
    ]
    assert seen.targets["INSTANCES"]["object"].count == 10 and "name: instance_segmentation" in seen.params
    square = packed.packed_instances(dataset.split("train"), Frame(name="stretch"), 24)
    assert set(np.unique(square[0, :, :, 1])) == {0, 1, 255}


# Formats


def coco_source(root: Path, crowds: bool = True, seed: int = 0) -> Path:
    """Ten pictures with objects of any shape as polygons, and as both kinds of runs."""
    random = np.random.default_rng(seed)
    files, images, entries = {}, [], []
    for k in range(10):
        width, height = random.integers(9, 40, 2).tolist()
        files[f"{k}.png"] = picture(k, width, height)
        images.append({"id": k, "file_name": f"{k}.png", "width": width, "height": height})
        for number in range(0 if k == 7 else random.integers(1, 5)):
            inside = random.random((height, width)) < random.choice([0.05, 0.5, 1])
            inside[: random.integers(0, height - 1)] = False
            inside[height // 2, width // 2] = True
            counts: Any = masks.runs_of(inside)
            if number % 2:
                packed_runs = coco_masks.frPyObjects({"size": [height, width], "counts": counts}, height, width)
                counts = packed_runs["counts"].decode()
            outline: Any = {"size": [height, width], "counts": counts}
            if number == 2:
                outline = [[1.5, 1.5, width - 2.25, 1.5, width / 2, height - 1.0]]
            entry = {"image_id": k, "category_id": 1 + number % 2, "bbox": [0, 0, 5, 5], "segmentation": outline}
            entries.append(entry | {"id": len(entries) + 1, "iscrowd": int(crowds and k == 4 and number == 0)})
    categories = [{"id": 1, "name": "round cell"}, {"id": 2, "name": "long"}]
    told = {"images": images, "annotations": entries, "categories": categories}
    return tree(root, {**files, "annotations.json": json.dumps(told).encode()})


def test_coco_polygons_and_runs_of_both_kinds(project: Path, tmp_path: Path):
    source = coco_source(tmp_path / "source")
    raw, dataset = json.loads((source / "annotations.json").read_text()), ingest(source, "coco")
    found = told_of(dataset)
    for entry in raw["annotations"]:
        image = raw["images"][entry["image_id"]]
        width, height = image["width"], image["height"]
        drawn = entry["segmentation"]
        if isinstance(drawn, list):
            drawn = {"size": [height, width], "counts": masks.runs_of(masks.fill(drawn, width, height))}
        wanted = coco_masks.frPyObjects(drawn, height, width) if isinstance(drawn["counts"], list) else drawn
        name = raw["categories"][entry["category_id"] - 1]["name"]
        own = [
            coco_masks.frPyObjects({"size": [height, width], "counts": lengths}, height, width)
            for kind, crowd, lengths in found[image["file_name"]]
            if (kind, crowd) == (name, bool(entry["iscrowd"]))
        ]
        assert 1 in coco_masks.iou(own, [wanted], [0])
    assert sum(map(len, found.values())) == len(raw["annotations"]) > 10
    assert any(crowd for of_image in found.values() for _, crowd, _ in of_image)


def test_a_panoptic_mask_tells_things_apart_and_leaves_stuff(project: Path, tmp_path: Path):
    ids = {7: (1, 0), 65793: (1, 1), 300: (2, 0), 9: (3, 0)}  # 65793 is the grey 1, 1, 1
    pixels = np.zeros((HEIGHT, WIDTH), np.int64)
    for number, key in enumerate(ids):
        pixels[2 * number : 2 * number + 2, 1:9] = key
    segments = [
        {"id": key, "category_id": kind, "iscrowd": crowd, "bbox": [1, 0, 8, 2]} for key, (kind, crowd) in ids.items()
    ]
    files: dict[str, bytes] = {}
    for k in range(4):
        files[f"val/{k}.png"] = picture(k)
        files[f"annotations/panoptic_val/{k}.png"] = png(
            np.stack([pixels % 256, pixels // 256 % 256, pixels // 65536], axis=-1).astype(np.uint8)
        )
    told = {
        "images": [{"id": k, "file_name": f"{k}.png"} for k in range(4)],
        "annotations": [{"image_id": k, "file_name": f"{k}.png", "segments_info": segments} for k in range(4)],
        "categories": [
            {"id": 1, "name": "cat", "isthing": 1},
            {"id": 2, "name": "dog", "isthing": 1},
            {"id": 3, "name": "sky", "isthing": 0},
        ],
    }
    files["annotations/panoptic_val.json"] = json.dumps(told).encode()
    source = tree(tmp_path / "source", files)
    wanted = [
        (name, crowd, masks.runs_of(pixels == key))
        for key, name, crowd in ((7, "cat", False), (300, "dog", False), (65793, "cat", True))
    ]
    found = told_of(ingest(source, "coco", "{train: val}"))
    assert len(found) == 4 and all(sorted(one) == sorted(wanted) for one in found.values())
    assert problems() == []


@pytest.mark.parametrize("form", ["yolo", "labelme"])
def test_polygons_of_other_formats_are_filled(project: Path, tmp_path: Path, form: str):
    corners = [(2, 2), (6, 2), (6, 5), (2, 5)]
    files = {f"{k}.png": picture(k) for k in range(4)}
    for k in range(4):
        if form == "yolo":
            shares = " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in corners)
            files |= {f"{k}.txt": f"0 {shares}\n".encode(), "classes.txt": b"cell\n"}
        else:
            other = [(9, 5), (11, 5), (11, 8), (9, 8)]
            shapes = [
                {"label": "cell", "shape_type": "polygon", "points": points, "group_id": 1}
                for points in (corners, other)
            ]
            about = {"imagePath": f"{k}.png", "imageWidth": WIDTH, "imageHeight": HEIGHT}
            files[f"{k}.json"] = json.dumps({"shapes": shapes, **about}).encode()
    dataset = ingest(tree(tmp_path / "source", files), form)
    inside = area((2, 2, 6, 5)) if form == "yolo" else area((2, 2, 6, 5), (9, 5, 11, 8))
    assert list(told_of(dataset).values()) == [[("cell", False, masks.runs_of(inside))]] * 4


# And out again


def test_a_contour_is_filled_to_the_same_pixels():
    random = np.random.default_rng(0)
    for _ in range(300):
        height, width = random.integers(1, 9, 2)
        inside = random.random((height, width)) < random.choice([0.2, 0.5, 0.8, 1])
        if inside.any():
            corners = [value for corner in contour(inside) for value in corner]
            assert (masks.fill([corners], width, height) == inside).all()
    assert contour(area((2, 2, 6, 4))) == [(2, 2), (6, 2), (6, 4), (2, 4)]


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_instances_are_read_again_exactly(project: Path, tmp_path: Path, form: str):
    dataset = ingest(coco_source(tmp_path / "source", crowds=form == "coco"), "coco")
    before, digest = told_of(dataset), dataset.info.digest
    exported = export(tmp_path / "dest", form, dataset)
    again = ingest(tmp_path / "dest", form)
    assert exported.lost == [] and again.info.digest == digest
    assert sorted(before.values()) == sorted(told_of(again).values())


def test_what_yolo_cannot_hold_is_named(project: Path, tmp_path: Path):
    dataset = ingest(coco_source(tmp_path / "source"), "coco")
    assert export(tmp_path / "dest", "yolo", dataset).lost == [
        "1 crowds are left out: YOLO would take each for an object"
    ]
    with pytest.raises(
        UserError, match="'voc' holds boxes with classes per image, and the dataset has the object that"
    ):
        export(tmp_path / "other", "voc", dataset)


# Real sets


@needs_data
def test_exports_of_labelme_say_the_same_as_its_own_files(project: Path):
    archive, home = DATA / "labelme-examples" / "labelme-examples.tar.gz", "labelme-examples/data/examples"
    found = {}
    for form, folder in (("labelme", "data_annotated"), ("coco", "data_dataset_coco"), ("voc", "data_dataset_voc")):
        dataset = ingest(archive, form, "{val: 0.34, test: 0.34}", inside=f"{home}/instance_segmentation/{folder}")
        found[form] = {name.rpartition("/")[2]: objects for name, objects in told_of(dataset).items()}
    assert found["labelme"] == found["coco"] and sum(map(len, found["labelme"].values())) == 12
    for name, objects in found["voc"].items():  # painted with an edge of a pixel more, one over the other
        for (kind, _, own), (other, _, exact) in zip(objects, found["labelme"][name], strict=True):
            assert kind == other and sum(own[1::2]) == pytest.approx(sum(exact[1::2]), rel=0.08)


@needs_data
@pytest.mark.slow
def test_nuclei_have_a_mask_each_and_overlap_in_some_pictures(place: Path):
    dataset = ingest(DATA / "nuclei-dsb2018" / "nuclei-dsb2018.tar.gz", "masks")
    assert dataset.info.images == 149 and dataset.info.classes == ["object"] and dataset.info.problems == {}
    assert sum(counts["object"] for counts in dataset.info.counts.values()) == 5250  # one for each of the mask files
    counts, overlapping = [], []
    for split in map(dataset.split, ("train", "val", "test")):
        for position in range(len(split)):
            held = runs.Insides.of(split.runs(position), np.tile(split.sizes[position], (len(split.runs(position)), 1)))
            one, other = np.triu_indices(len(held), 1)
            meet = (
                np.minimum(held.boxes[one, 2:], held.boxes[other, 2:])
                > np.maximum(held.boxes[one, :2], held.boxes[other, :2])
            ).all(axis=1)
            common = held.common(one[meet], held, other[meet])
            counts.append(len(held))
            overlapping += [common[common > 0].tolist()] if common.any() else []
    assert min(counts) >= 1 and max(counts) <= 375
    assert 0 < len(overlapping) <= 6 and all(pixels <= 2 for of_image in overlapping for pixels in of_image)


@needs_data
@pytest.mark.slow
def test_coco128_has_the_same_things_as_polygons_and_as_pixels(place: Path):
    archive = DATA / "coco128" / "coco128.tar.gz"
    drawn = ingest(archive, "yolo", inside="coco128/data/instance_segmentation")
    polygons = {name.rpartition("/")[2]: objects for name, objects in told_of(drawn).items()}
    assert len(polygons) == 200 and sum(map(len, polygons.values())) == 1458  # rows of its label files
    painted = {name.rpartition("/")[2]: objects for name, objects in told_of(ingest(archive, "coco")).items()}
    assert painted.keys() == polygons.keys()
    alone = sum(not crowd for objects in painted.values() for _, crowd, _ in objects)
    assert alone == 1447 and sum(map(len, painted.values())) > alone
    names = {name: sorted(kind for kind, _, _ in objects) for name, objects in polygons.items()}
    alike = sum(sorted(kind for kind, _, _ in painted[name]) == kinds for name, kinds in names.items())
    assert alike > 150
