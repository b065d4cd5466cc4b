"""Two runs compared from their tables, by hand: which pictures changed, and how well both were answered."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from test_runs import made_record, run_id

from dashboard.comparisons import Compared
from dashboard.page import templates
from flows.records.compare import _paired
from pipeline.dataset import FIELDS
from pipeline.errors import UserError
from pipeline.registry import difference
from pipeline.registry.difference import Images


def table(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def samples(ids: str, **annotation: Any) -> bytes:
    """`samples.parquet` of pictures with ids of one letter."""
    return table(
        id=list(ids),
        source=[f"{one}.png" for one in ids],
        split=["train"] * len(ids),
        shard=[0] * len(ids),
        row=list(range(len(ids))),
        **annotation,
    )


def thing(label: int, x1: float = 0, crowd: bool = False) -> dict[str, Any]:
    return {"label": label, "x1": x1, "y1": 0.0, "x2": x1 + 5, "y2": 5.0, "crowd": crowd, "outline": None}


def objects(*of_each: list[dict[str, Any]]) -> pa.Array:
    return pa.array(of_each, FIELDS["objects"])


def listed(found: Images, kind: str) -> list[tuple[str, str, str]]:
    return [(one.source, one.before, one.after) for one in getattr(found, kind)]


def test_labels_go_by_their_names() -> None:
    before = samples("abc", label=[0, 1, 1], camera=["x", "x", "y"])
    after = samples("bcd", label=[2, 0, 1], camera=["x", "z", "x"])  # ant is new, and cat is 2 now
    found = difference.images(before, after, ["bee", "cat"], ["ant", "bee", "cat"])
    assert listed(found, "came") == [("d.png", "", "bee, x")]
    assert listed(found, "went") == [("a.png", "bee, x", "")]
    assert listed(found, "relabelled") == [("c.png", "cat, y", "ant, z")]
    assert found.moved == []


def test_objects_that_came_moved_or_have_another_class() -> None:
    before = samples("abcd", objects=objects([thing(0), thing(0), thing(1)], [thing(0)], [thing(1)], []))
    after = samples("abcd", objects=objects([thing(1), thing(1), thing(2)], [thing(1, x1=3)], [thing(0)], [thing(0)]))
    found = difference.images(before, after, ["bee", "cat"], ["ant", "bee", "cat"])
    assert listed(found, "relabelled") == [
        ("b.png", "1 bee", "1 bee (placed otherwise)"),
        ("c.png", "1 cat", "1 ant"),
        ("d.png", "no objects", "1 ant"),
    ]


def test_a_mask_is_the_same_wherever_it_lies() -> None:
    ids = {one: f"{one}" * 64 for one in "123"}
    before = samples("ab", mask=[ids["1"], ids["2"]], mask_shard=[0, 0], mask_row=[0, 1])
    after = samples("abc", mask=[ids["1"], ids["3"], ids["2"]], mask_shard=[0, 1, 1], mask_row=[5, 0, 1])
    found = difference.images(before, after, ["sky"], ["sky"])
    assert listed(found, "relabelled") == [("b.png", "mask 22222222", "mask 33333333")]
    assert listed(found, "came") == [("c.png", "", "mask 22222222")]


def predictions(ids: str, actual: list[str], quality: list[float], units: list[int] | None = None) -> bytes:
    return table(id=list(ids), unit=units or list(map(ord, ids)), actual=actual, quality=quality)


IDS = "".join(map(chr, range(100, 150)))


def test_answers_that_are_right_in_part_are_compared_by_their_mean() -> None:
    records = made_record(run_id(1)), made_record(run_id(2))
    was = np.tile([0.5, 0.75, 1.0, 0.25, 0.5], 10)
    gain = np.tile([0.25, 0.0, -0.25, 0.25, 0.0], 10)
    before = predictions(IDS, ["1 cat"] * 50, was.tolist())
    after = predictions(IDS[::-1], ["1 cat"] * 49 + ["2 cat"], (was + gain)[::-1].tolist())  # the first has one more
    found, note = difference.paired(before, after, *records)
    assert found
    assert note == "Test pictures that are annotated otherwise are passed over: 1."
    kept = gain[1:]
    assert (found.images, found.score, found.graded) == (49, "Quality of the answers", True)
    assert (found.champion, found.challenger) == (pytest.approx(was[1:].mean()), pytest.approx((was + gain)[1:].mean()))
    assert (found.fixed, found.broken, found.decided_by) == (19, 10, "bootstrap")
    assert found.p == pytest.approx(stats.binomtest(19, 29).pvalue)
    error = kept.std() / 7
    assert found.difference == pytest.approx(kept.mean())
    assert found.low == pytest.approx(kept.mean() - 1.96 * error, abs=0.01)
    assert found.high == pytest.approx(kept.mean() + 1.96 * error, abs=0.01)
    assert found.champion_name == f"run {run_id(1)[:8]}"
    assert difference.paired(before, after, *records) == (found, note)  # the same every time


def test_images_that_belong_together_in_the_second_run_are_one() -> None:
    records = made_record(run_id(1)), made_record(run_id(2))
    before = predictions(IDS, ["cat"] * 50, [0.0] * 12 + [1.0] * 38)
    # ten of each of five; those of the second half, and one that the first run did not know, in another order
    of_five = [place // 10 + 3 for place in range(50)][::-1]
    after = predictions(IDS[::-1] + "A", ["cat"] * 51, [1.0] * 51, [*of_five, 99])
    found, note = difference.paired(before, after, *records)
    assert found and note == ""
    assert (found.images, found.units, found.grouped, found.fixed, found.broken) == (50, 5, True, 12, 0)
    assert (found.decided_by, found.p) == ("bootstrap", pytest.approx(2 / 2**2))  # ten of one, two of another
    assert _paired(found).splitlines() == [
        "Accuracy on the 50 test pictures that both answered (5 units: pictures that belong together are one): "
        "0.7600 before, 1.0000 after.",
        "Paired difference +0.2400 (no interval: these images are too few for one); positive is "
        "better. There is no difference that these pictures can show.",
        "12 answered rightly by the second run alone, 0 by the first alone (exact sign test of the units: p = 0.500).",
    ]
    shown = templates({}).get_template("compare_pictures.html").render(found=Compared(found, "", [], True, "", [], ""))
    assert "the 50 test pictures that both answered (5 units: pictures that belong together are one): <b" in shown
    assert "(exact sign test of the units: " in shown and "So few units of pictures show no difference" in shown
    alone = difference.paired(before, predictions(IDS, ["cat"] * 50, [1.0] * 50), *records)[0]
    assert alone and not alone.grouped and "unit" not in _paired(alone)


def test_right_and_wrong_answers_are_counted() -> None:
    records = made_record(run_id(1)), made_record(run_id(2))
    before = predictions(IDS, ["cat"] * 50, [0.0] * 10 + [1.0] * 40)
    after = predictions(IDS, ["cat"] * 50, [1.0] * 9 + [0.0] * 3 + [1.0] * 38)
    found, note = difference.paired(before, after, *records)
    assert found and note == ""
    assert (found.score, found.decided_by, found.graded) == ("Accuracy", "McNemar", False)
    assert (found.champion, found.challenger, found.fixed, found.broken) == (0.8, 0.94, 9, 2)
    old = table(id=list(IDS), label=[0] * 50, probabilities=[[1.0, 0.0]] * 50)
    with pytest.raises(UserError, match=r"has no actual, quality: another version of Convoy wrote it\.$"):
        difference.paired(old, after, *records)
    with pytest.raises(UserError, match=r"has no actual, quality, unit: another version of Convoy wrote it\.$"):
        difference.paired(before, old, *records)
    without = table(id=list(IDS), actual=["cat"] * 50, quality=[0.0] * 10 + [1.0] * 40)  # as before units were counted
    assert difference.paired(without, after, *records) == (found, "")
    nobody, note = difference.paired(before, predictions("ABC", ["cat"] * 3, [1.0] * 3), *records)
    assert (nobody, note) == (None, "No test picture was answered by both.")
