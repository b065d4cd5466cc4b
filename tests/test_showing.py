"""Every kind of answer as it is shown: kept as text, in the report, on the sheet, on the page and in the terminal."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import page_project
import pyarrow.parquet as pq
import pytest
import shown_pages
import shown_sets
from PIL import Image
from shown_pages import Shown
from shown_sets import EVIL, KINDS

from dashboard import answered, mistaken, sides
from dashboard import told as tellings
from flows import predict
from flows.predict import _in_a_line
from pipeline import masks
from pipeline.annotations import Runs
from pipeline.answering import Confusion, Curve, MarkedBox, MarkedPoint, Marks, Span
from pipeline.augment import stage
from pipeline.bundle import Bundle
from pipeline.contracts import Target
from pipeline.evaluate import charts, pictures, sections, sheet, tables, wording
from pipeline.evaluate.sections import Figure, Interval
from pipeline.marking import Bar, as_text, bars, from_text
from pipeline.params import AugmentParams
from pipeline.plugin import config_class
from pipeline.registry import gate, said
from pipeline.strokes.colours import PALETTE
from pipeline.wording import stepped, written

LOCATED = ("instances", "points")
GRADED = [kind for kind in KINDS if kind != "faces"]


# What is to be drawn, as text


def test_marks_come_back_from_text_as_they_were() -> None:
    inside = Runs(4, 5, (3, 2, 15))
    marks = Marks(
        "said in words",
        boxes=[MarkedBox((0.1, 2, 3, 4), EVIL, 0.25), MarkedBox((0, 0, 5, 4), "a", None, True, inside)],
        classes=("a", EVIL),
        points=[MarkedPoint(1.5, -2, "nose"), MarkedPoint(0, 0, "")],
        bars=[("a", 0.5), (EVIL, 1.0)],
        beside=7,
    )
    found = from_text(as_text(marks), marks.classes)
    assert found == Marks("", marks.boxes, None, marks.classes, marks.points, marks.bars, 7)
    assert isinstance(found.boxes[1].inside, Runs)
    assert from_text(as_text(Marks("", beside=0)), ()).beside == 0
    assert as_text(Marks("nothing")) == ""
    mask = np.zeros((2, 2), np.uint8)
    assert from_text("", ("a",), mask).mask is mask


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.0, 1e-300])
def test_any_score_is_kept(score: float) -> None:
    (box,) = from_text(as_text(Marks("", boxes=[MarkedBox((0, 0, 1, 1), "a", score)])), ()).boxes
    assert box.score == score or (math.isnan(score) and box.score is not None and math.isnan(box.score))


def test_pixels_survive_the_text() -> None:
    inside = np.random.default_rng(0).random((40, 30)) < 0.3
    box = MarkedBox((0, 0, 30, 40), "a", inside=Runs(40, 30, tuple(masks.runs_of(inside))))
    (found,) = from_text(as_text(Marks("", boxes=[box])), ()).boxes
    assert found.inside
    assert (masks.of_runs(found.inside.lengths, found.inside.width, found.inside.height) == inside).all()


BOX = '[[0, 0, 1, 1], "a", null, false, null]'


@pytest.mark.parametrize(
    "text",
    [
        "{", "1", "null", "{}", "[]", "[[], [], []]", "[1, 2, 3, 4]", '[[["box"]], [], [], null]', "[" * 100_000,
        *(
            f"[[{BOX.replace(old, new)}], [], [], null]"
            for old, new in (
                ("1, 1", "1"), ("0, 0", '"x", 0'), ("1, 1", "1, 1" + "0" * 400), ("null, f", '"high", f'),
                ("null]", '{"height": 2}]'), ("null]", "[1]]"), ("null]", '[1, 2, ["a"]]]'), ("null]", "1, 2]"),
            )
        ),
        "[[], [[1, 2]], [], null]", '[[], [], [["a"]], null]', '[[], [], [["a", []]], null]', '[[], [], [], "next"]',
        "[[], [], [], 1e999]",
    ],
)  # fmt: skip
def test_text_that_is_damaged_is_said_to_be(text: str) -> None:
    assert from_text(f"[[{BOX}], [], [], null]", ("a",)).boxes == [MarkedBox((0, 0, 1, 1), "a")]
    with pytest.raises(ValueError, match="no marks"):
        from_text(text, ("a",))


def test_bars_keep_their_order_and_know_what_is_true() -> None:
    marks = Marks("", bars=[("a", 0.1), ("b", 0.7), ("c", 0.2), ("d", 0.05)])
    assert [tuple(bar) for bar in bars(marks, "b, d")] == [
        ("a", 0.1, False), ("b", 0.7, True), ("c", 0.2, False), ("d", 0.05, True),
    ]  # fmt: skip
    assert [bar.name for bar in bars(marks, "b, d", 3)] == ["b", "c", "d"]  # the true ones stay
    assert not any(bar.true for bar in bars(marks, "bb"))
    assert [bar.true for bar in bars(Marks("", bars=[("a, b", 0.1), ("a", 0.2)]), "a, b")] == [True, True]


# Numbers


@pytest.mark.parametrize(
    ("value", "four", "amount"),
    [
        (0.97312, "0.9731", "0.973"),
        (12.40479, "12.405", "12.405"),
        (418.2361, "418.24", "418.24"),
        (52_310.4, "52,310", "52,310"),
        (1_234_567.8, "1,234,568", "1,234,568"),
        (0.0, "0.0000", "0.000"),
        (0.0021414, "0.0021", "0.00214"),
        (-3.25, "-3.2500", "-3.250"),
        (1e20, "1e20", "1e20"),
        (-3.21e-7, "-3.21e-7", "-3.21e-7"),
        (0.9997, "0.9997", "0.9997"),
        (0.99996, "0.99996", "0.99996"),
        (math.nan, "nan", "undefined"),
        (math.inf, "inf", "undefined"),
    ],
)
def test_scores_of_any_size_read_well(value: float, four: str, amount: str) -> None:
    assert (written(value), wording.amount(value)) == (four, amount)


def test_a_sign_is_written_where_it_is_asked_for() -> None:
    assert [written(value, sign="+") for value in (0.5, -20_000.0)] == ["+0.5000", "-20,000"]
    assert written(12.54, 1) == "12.5"


def test_headlines_are_in_percent_if_they_are_shares_of_which_more_is_better() -> None:
    def text(value: float, higher: bool, measured: bool) -> str:
        return Figure("x", "X", higher, Interval(value, value, value), 0, measured).large(value)

    assert text(0.973, True, False) == "97.3%"
    assert text(0.043, False, False) == "0.043"
    assert text(52_310, False, True) == "52,310"
    assert text(-0.2, True, False) == "-0.200"  # R2 can be worse than nothing


def test_amounts_have_a_scale_of_their_own() -> None:
    def figure(value: float, higher: bool, measured: bool) -> Figure:
        return Figure("x", "X", higher, Interval(value, value * 0.9, value * 1.1), 0, measured)

    found = sections.groups([figure(0.8, True, False), figure(52_310, False, True), figure(0.07, False, False)])
    assert [(group.low, group.high) for group in found] == [(0.7, 1.0), (0.0, 0.1), (0.0, 100_000)]
    (_, bar), *_ = found[2].figures
    assert bar == {"value": 52.31, "low": 47.08, "high": 57.54}


def test_large_numbers_on_an_axis_are_short() -> None:
    assert [text for _, text in stepped(0, 400_000)] == ["0", "100k", "200k", "300k", "400k"]
    assert [text for _, text in stepped(0, 2_000_000)][1] == "0.5M"
    assert [text for _, text in stepped(0, 5000)][1] == "1000"
    assert [charts.above(value) for value in (0.03, 1, 1.2, 4, 52_310, 0)] == [0.05, 1, 2, 5, 100_000, 1]


def test_axes_say_what_they_stand_for(tmp_path: Path) -> None:
    prices = Span(1_000, 1_000_000, log=True)
    curve = Curve("A", "x", "y", [("a", [(0.0, 0.25), (1.0, 0.5)])], "Up.", x_span=prices, y_span=Span(-2, 2))
    chart = charts.of_curve(curve)
    assert chart
    assert [(tick.at, tick.text) for tick in chart.x_ticks] == [
        (52.0, "1000"), (176.67, "10k"), (301.33, "100k"), (426.0, "1M"),
    ]  # fmt: skip
    assert [tick.text for tick in chart.y_ticks] == ["-2", "-1", "0", "1", "2"]
    narrow = charts.of_curve(curve._replace(x_span=Span(110_000, 190_000, log=True)))
    assert narrow is not None and len(narrow.x_ticks) >= 3 and narrow.x_ticks[0].text == "120k"
    few = charts.of_curve(curve._replace(x_span=Span(15, 120, log=True)))
    assert few
    assert [tick.text for tick in few.x_ticks] == ["20", "50", "100"]
    tables.write_curves(tmp_path / "c.csv", [curve])
    assert (tmp_path / "c.csv").read_text() == "curve,series,x,y\nA,a,1000.0,-1.0\nA,a,1000000.0,0.0\n"
    assert [round(prices.share(prices.value(share)), 9) for share in (0, 0.3, 1)] == [0, 0.3, 1]


# The report and its files


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shown") / "project"


@pytest.fixture(scope="module")
def made(project: Path) -> dict[str, Shown]:
    return shown_pages.make(project)


def evaluation(project: Path, kind: str) -> Path:
    return project / "made" / kind / "evaluation"


def words(page: str) -> str:
    body = page.split("<body", 1)[1]
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", body).split()))


@pytest.mark.parametrize("kind", KINDS)
def test_every_report_shows_truth_beside_answer(made: dict[str, Shown], project: Path, kind: str) -> None:
    page = (evaluation(project, kind) / "report.html").read_text()
    assert "<script" not in page
    assert not re.search(r" (style|href|on\w+)=", page)
    text = words(page)
    errors = re.search(r"(?:The|Every) .*?test images? that (?:are|is) not answered perfectly", text)
    assert errors, text[:900]
    shown = page.count('src="data:image/jpeg;base64,')
    cards = page.count('<p class="quality">')
    assert shown == cards * (2 if kind in (*LOCATED, "faces") else 1)
    assert page.count('<ul class="bars">') == (cards if kind in ("labels", "grades") else 0)
    assert ("% sure" in text) is (kind not in ("numbers", "counts"))


NOUNS = {"points": ("Points 6", "Point by point"), "faces": ("People 4", "Person by person")}
SAID = {
    "faces": "Answer, with another image taken for Alan Turing (distance 0.04)",
    "numbers": "Lower is better, in the unit of what is measured",
    "points": "How many of each point",
    "labels": "What there is and is not found is in the last column",
    "instances": "Objects of each class",
    "grades": "Grade by grade",
    "counts": "Answer cell 2.4, ",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_has_the_words_of_its_kind(made: dict[str, Shown], project: Path, kind: str) -> None:
    text = words((evaluation(project, kind) / "report.html").read_text())
    for found in (SAID[kind], *NOUNS.get(kind, ())):
        assert found in text
    assert ("an answer given with 80% confidence" in text) is (kind in ("labels", "grades"))
    assert ("What there is and is not found" in text) is (kind in ("labels", "instances"))


def test_bars_of_a_report_say_which_are_true(made: dict[str, Shown], project: Path) -> None:
    page = (evaluation(project, "labels") / "report.html").read_text()
    (first, *_) = re.findall(r'<ul class="bars">(.*?)</ul>', page, re.S)
    found = re.findall(r'<li( class="true")?>.*?<bdi[^>]*>(.*?)</bdi>.*?class="number">(.*?)</span>', first, re.S)
    # Image 3 is of a city and of a forest.
    assert [(bool(true), name, share) for true, name, share in found[:3]] == [
        (True, "city, at night", "60%"),
        (True, "forest", "60%"),
        (False, "snow", "60%"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_sheet_is_drawn(made: dict[str, Shown], project: Path, kind: str) -> None:
    drawn = np.asarray(Image.open(evaluation(project, kind) / "errors.png"))
    wide = 16 + 4 * (180 + 16) if kind in ("numbers", "counts") else 16 + 2 * (484 + 16)
    assert drawn.shape[1] == wide
    assert (drawn != 255).mean() > 0.3 if kind in LOCATED else (drawn != 255).any()


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_keep_what_is_to_be_drawn(project: Path, made: dict[str, Shown], kind: str) -> None:
    table = pq.read_table(evaluation(project, kind) / "predictions.parquet")
    one = made[kind].made
    answers = one.task.answers(one.dataset.split("test"), one.told)
    for position, text in enumerate(table.column("marks").to_pylist()):
        marks = answers.said(position)
        found = from_text(text, one.dataset.info.classes)
        assert [box._replace(inside=None) for box in found.boxes] == [box._replace(inside=None) for box in marks.boxes]
        assert [box.inside and tuple(box.inside) for box in found.boxes] == [
            box.inside and (box.inside.height, box.inside.width, tuple(box.inside.lengths)) for box in marks.boxes
        ]
        assert (list(found.points), list(found.bars), found.beside) == (
            list(marks.points),
            list(marks.bars),
            marks.beside,
        )


class Nothing:
    """Answers of a kind that has no confusion."""

    def __init__(self, answers: Any) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answers, name)

    def __len__(self) -> int:
        return len(self._answers)

    def confusion(self) -> Confusion:
        return Confusion([], np.zeros((0, 0), np.int64), "images")


def test_where_nothing_is_taken_for_another_that_section_is_left_out(tmp_path: Path) -> None:
    made = shown_sets.make(tmp_path / "dataset", "numbers")
    answers = made.task.answers

    class Task(type(made.task)):  # type: ignore[misc]
        def answers(self, split: Any, told: Any) -> Any:
            return Nothing(answers(split, told))

    shown_sets.tell(made._replace(task=Task()), tmp_path / "out")
    assert (tmp_path / "out/confusion.csv").read_text() == "actual,predicted\n"
    text = words((tmp_path / "out/report.html").read_text())
    assert "What is taken for what" not in text
    assert "Number by number" in text


def test_a_confusion_of_thousands_of_people_is_written_in_a_moment(tmp_path: Path) -> None:
    counts = np.zeros((3000, 3000), np.int64)
    counts[7, 2999] = 2
    tables.write_confusion(tmp_path / "c.csv", Confusion([str(place) for place in range(3000)], counts, "images"))
    assert (tmp_path / "c.csv").read_text() == "actual,predicted\n7,2999\n7,2999\n"


def test_a_picture_beside_says_who_is_on_it(made: dict[str, Shown], project: Path, monkeypatch) -> None:
    monkeypatch.chdir(project)
    one = made["faces"].made
    test = one.dataset.split("test")
    answers = one.task.answers(test, one.told)
    worst = pictures.mistakes(test, answers, shown_sets.Frame(name="pad"), False, 3)
    for mistake in worst:
        assert mistake.answer is not None
        assert mistake.other in mistake.said
        assert mistake.other != mistake.actual
        assert mistake.answer.shape == mistake.pixels.shape == (72, 72, 3)


def test_a_sheet_of_bars_of_any_name() -> None:
    rows = [Bar("x" * 999, 2.0, True), Bar("\0", -1.0, False), Bar("猫", 0.5, True)]
    one = pictures.Mistake(np.full((5, 7, 1), 90, np.uint8), None, "a.png", "a", "b", 0.5, 0.5, rows)
    assert sheet.sheet([one] * 14, 14, 20).shape == (40 + 6 * (171 + 40 + 16) + 16, 1016, 3)


POLICY = config_class("policies", "none").model_validate({"size": 48, "frame": "pad"})


@pytest.mark.parametrize("kind", LOCATED)
def test_the_preview_of_training_pictures_shows_what_is_learnt(
    made: dict[str, Shown], project: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(project)  # the packed cache lies there
    params = AugmentParams.model_validate({"augment": POLICY})
    stage.run(params, made[kind].made.dataset, Path("out/policy") / kind)
    drawn = np.asarray(Image.open(f"out/policy/{kind}/preview.png"))
    assert drawn.shape == (8 * 164, 8 * 164, 3)
    first = drawn[:160, :160].reshape(-1, 3)
    for place in range(2 if kind == "points" else 1):  # of a point a dot, of an object its rim
        assert (np.abs(first.astype(int) - PALETTE[place]).max(axis=1) < 30).sum() > 4
    assert (drawn[:160, :160] == drawn[:160, 164:324]).all()  # this policy changes nothing


# The page


@pytest.fixture(scope="module")
def page(made: dict[str, Shown], project: Path) -> Iterator[httpx.Client]:
    with page_project.serve(project) as url, httpx.Client(base_url=url, timeout=120) as client:
        yield client


@pytest.mark.parametrize("kind", KINDS)
def test_mistakes_show_every_kind_of_answer(page: httpx.Client, made: dict[str, Shown], kind: str) -> None:
    one = made[kind]
    text = page.get(f"/runs/{one.run}/mistakes").text
    assert "<script>document" not in text
    assert "not answered perfectly: the truth, beside it the answer" in text
    cards = text.count('<li class="card">')
    assert cards == text.count("<figcaption>Truth</figcaption>") > 2
    assert text.count(f'src="/runs/{one.run}/answers/') == (cards if kind in LOCATED else 0)
    assert text.count('class="told-bars"') == (cards if kind in ("labels", "grades") else 0)
    assert text.count("with another picture") == (cards if kind == "faces" else 0)
    assert ("Colours of the classes" in text) is (kind in LOCATED)
    assert (" sure<" in text) is (kind not in ("numbers", "counts"))
    assert 'name="predicted"' not in text


def test_a_face_that_is_taken_for_another_is_shown_beside_it(page: httpx.Client, made: dict[str, Shown]) -> None:
    one = made["faces"]
    text = page.get(f"/runs/{one.run}/mistakes").text
    answers = one.made.task.answers(one.made.dataset.split("test"), one.made.told)
    ids = one.made.dataset.split("test").ids
    pairs = re.findall(rf'href="/pictures/{one.dataset}/([0-9a-f]{{64}})"', text)
    assert len(pairs) % 2 == 0
    for own, other in zip(pairs[::2], pairs[1::2], strict=True):
        assert answers.said(ids.index(own)).beside == ids.index(other)
    assert page.get(f"/pictures/{one.dataset}/{pairs[1]}").status_code == 200


def drawing(page: httpx.Client, address: str) -> np.ndarray:
    answer = page.get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg"), answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)


def test_points_are_drawn_where_they_are_and_where_they_are_said_to_be(
    page: httpx.Client, made: dict[str, Shown]
) -> None:
    one = made["points"]
    test = one.made.dataset.split("test")
    position = test.samples.column("source").to_pylist().index("test/6.png")
    image = test.ids[position]
    truth, told = test.points[position], one.made.told[position]
    said = f"/runs/{one.run}/answers/{image}"
    for address, places in ((f"/pictures/{one.dataset}/{image}/known", truth), (said, told[:, :2])):
        drawn = drawing(page, address)
        scale = drawn.shape[1] / shown_sets.WIDE
        for place in range(5):
            x, y = (places[place] * scale).astype(int)
            assert np.abs(drawn[y, x] - PALETTE[place]).max() < 45, (address, place)


def test_objects_are_tinted_pixel_by_pixel(page: httpx.Client, made: dict[str, Shown]) -> None:
    one = made["instances"]
    image = one.made.dataset.split("test").ids[0]
    plain = np.asarray(Image.open(io.BytesIO(page.get(f"/pictures/{one.dataset}/{image}").content))).astype(int)
    known = drawing(page, f"/pictures/{one.dataset}/{image}/known")
    scale = known.shape[1] / shown_sets.WIDE
    inside = (known[int(24 * scale), int(21 * scale)], plain[24 * 2, 21 * 2])
    assert np.abs(inside[0] - inside[1]).max() > 20
    assert np.abs(known[int(70 * scale), int(48 * scale)] - plain[70 * 2, 48 * 2]).max() < 30  # no object there


@pytest.mark.parametrize("kind", KINDS)
def test_the_data_shows_what_is_known(page: httpx.Client, made: dict[str, Shown], kind: str) -> None:
    one = made[kind]
    text = page.get(f"/data/{one.dataset}?show=pictures&split=test").text
    assert "<script>document" not in text
    assert text.count("<figure>") == 12
    assert (f"/pictures/{one.dataset}/" in text) and (("/known" in text) is (kind in LOCATED))
    truth = {"instances": "3 cell", "points": "5 points", "faces": "Ada Lovelace", "labels": "forest, snow"}
    truth |= {"grades": ">3<", "numbers": "price 389,500", "counts": "cell 3"}
    assert truth[kind].replace("389,500", "390,500") in text
    assert ('name="label"' in text) is (kind not in ("points", "numbers", "counts"))
    assert page.get(f"/data/{one.dataset}").status_code == 200


def test_pictures_of_a_class_among_others(page: httpx.Client, made: dict[str, Shown]) -> None:
    one = made["labels"]
    text = page.get(f"/data/{one.dataset}?show=pictures&split=test&label=3").text
    found = re.findall(r"/pictures/[0-9a-f]{64}/([0-9a-f]{64})\"", text)
    test = one.made.dataset.split("test")
    assert set(found) == {image for image, row in zip(test.ids, test.label_sets, strict=True) if row[3]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_decision_shows_both_answers(page: httpx.Client, made: dict[str, Shown], kind: str) -> None:
    one = made[kind]
    text = page.get(f"/decisions/{one.case}").text
    assert "<script>document" not in text
    cards = text.count('<li class="card">')
    assert cards
    assert text.count("<figcaption>Baseline") == text.count("<figcaption>Challenger") == cards
    addresses = re.findall(rf'src="(/decisions/{one.case}/[a-z]+/[0-9a-f]{{64}})"', text)
    assert len(addresses) == (2 * cards if kind in LOCATED else 0)
    assert text.count('class="told-bars"') == (2 * cards if kind in ("labels", "grades") else 0)
    assert text.count("with another picture") == (2 * cards if kind == "faces" else 0)
    if addresses:
        champion, challenger = (drawing(page, address) for address in addresses[:2])
        assert np.abs(champion - challenger).max() > 40


def test_a_decision_draws_nothing_else(page: httpx.Client, made: dict[str, Shown]) -> None:
    one = made["points"]
    image = one.made.dataset.split("test").ids[0]
    for address in (
        f"/decisions/{one.case}/nobody/{image}",
        f"/decisions/{one.case}/champion/{'f' * 64}",
        f"/decisions/{one.case}/champion/..%2f..",
        f"/decisions/{'f' * 16}/champion/{image}",
        f"/decisions/{made['faces'].case}/champion/{image}",
    ):
        assert page.get(address).status_code == 404


def test_an_answer_whose_text_is_damaged_is_shown_in_words() -> None:
    def other(place: int) -> str:
        return f"/{place}"

    assert tellings.told("b", "a", "[[", other) == tellings.Told("b")
    assert tellings.told("b", "a", None, other) == tellings.Told("b")
    text = as_text(Marks("", bars=[("a", 0.5)], beside=3))
    assert tellings.told("b", "a", text, other) == tellings.Told("b", "", "/3", (Bar("a", 0.5, True),))


def test_a_position_that_there_is_none_of_has_no_picture(
    made: dict[str, Shown], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    from pipeline.registry import runs

    record = runs.read(made["faces"].run)
    assert record
    mistaken._mistakes.cache_clear()
    every = mistaken._mistakes(record.id, record.version.digest)
    texts = [as_text(Marks("", beside=place)) for place in (-1, 10**9)] + ["[["] * (every.table.num_rows - 2)
    table = every.table.set_column(every.table.column_names.index("marks"), "marks", [texts])
    monkeypatch.setattr(mistaken, "_mistakes", lambda *_: every._replace(table=table))
    assert [row.told.other for row in mistaken.found(record, "", "", 1, 60).rows] == [""] * len(texts)


# What a case keeps


def test_a_case_keeps_what_is_to_be_drawn_until_it_is_too_much(made: dict[str, Shown], project: Path) -> None:
    one = made["instances"].made
    answers = one.task.answers(one.dataset.split("test"), one.told)
    whole = said.said(answers, [3, 1, 2])
    assert [text is not None for text in whole.marks] == [place in (1, 2, 3) for place in range(12)]
    assert whole.words == [answers.said(place).words for place in range(12)]
    assert whole.marks[3] == as_text(answers.said(3))
    small = said.said(answers, [3, 1, 2], most=1)
    assert [place for place, text in enumerate(small.marks) if text is not None] == [3]
    assert small.words == whole.words


def test_masks_are_kept_as_such() -> None:
    class One:
        def __len__(self) -> int:
            return 2

        def said(self, position: int) -> Marks:
            return Marks("x", mask=np.full((3, 4), position, np.uint8))

    found = said.said(One(), [1])  # type: ignore[arg-type]
    assert found.masks[0] is None
    assert found.masks[1] is not None
    assert (masks.decode(found.masks[1]) == 1).all()
    assert found.marks == [None, ""]


def test_a_case_of_before_has_nothing_to_draw(made: dict[str, Shown], project: Path, monkeypatch) -> None:
    monkeypatch.chdir(project)
    table = sides.cases.images(made["points"].case)
    old = table.drop_columns([name for name in gate.IMAGE_COLUMNS if name.endswith(("_marks", "_mask"))])
    monkeypatch.setattr(sides, "_kept", lambda case: old.select(["id"]))  # noqa: ARG005
    row = old.to_pylist()[0]
    found = sides._shown("c" * 16, row, sides.Data("d" * 64, True))
    assert found["told"]["champion"] == tellings.Told(row["champion"])
    with pytest.raises(answered.Missing, match="no answer to it"):
        sides.marks("c" * 16, "champion", None, row)  # type: ignore[arg-type]


# In the terminal, and elsewhere


def test_a_line_says_the_most_probable_too() -> None:
    marks = Marks("beach", bars=[("a", 0.1), ("beach", 0.7), ("c", 0.2), ("d", 0.05)])
    assert _in_a_line(marks) == "beach  (beach 70%, c 20%, a 10%)"
    assert _in_a_line(Marks("price 52,310")) == "price 52,310"


@pytest.mark.parametrize("kind", LOCATED)
def test_predictions_are_drawn(made: dict[str, Shown], project: Path, tmp_path: Path, kind: str) -> None:
    one = made[kind].made
    info = shown_sets.bundle_info(one)
    pixels = KINDS[kind].picture(6)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    told = KINDS[kind].told(6)
    predict._draw(Bundle(tmp_path, info), (tmp_path / "a.png").read_bytes(), told, tmp_path / "drawn.png")
    drawn = np.asarray(Image.open(tmp_path / "drawn.png"))
    assert drawn.shape == pixels.shape
    changed = (drawn != pixels).any(axis=2)
    if kind == "points":
        assert 6 * 9 < changed.sum() < 6 * 40
        assert all(changed[int(y), int(x)] for x, y, _ in told[:5])
    else:
        inside = masks.of_runs(told.runs[0], *told.size)
        assert changed[inside].all()
        assert not changed[-6:].any()


def test_every_target_says_what_its_classes_are() -> None:
    assert {target.named for target in Target} == {
        ("class", "classes"), ("grade", "grades"), ("number", "numbers"), ("point", "points"), ("person", "people"),
    }  # fmt: skip
    for kind in KINDS.values():
        task = config_class("tasks", kind.task)
        assert issubclass(task, shown_sets.TaskConfig)
