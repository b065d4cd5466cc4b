"""What two recorded runs differ in: params, data, environment, and what came of it."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.contracts import Options
from pipeline.dataset import MASK_COLUMNS, SAMPLE_COLUMNS
from pipeline.errors import UserError
from pipeline.registry.code_difference import CodeDifference
from pipeline.registry.glances import flat
from pipeline.registry.proof import Change
from pipeline.registry.runs import RunRecord
from pipeline.registry.trial import Trial, of_qualities
from pipeline.registry.verdict import Comparison

SEED = 0
"""Of the resamples: the same two runs compare the same way every time."""


class Image(Options):
    """A picture that is not as it was."""

    id: str
    source: str
    """Its file, where the picture is now or, if it went, was."""
    before: str = ""
    """Label or split."""
    after: str = ""


KINDS = {"came": "new", "went": "gone", "relabelled": "with another label", "moved": "in another split"}
"""The fields of `Images`, in words."""


class Images(Options):
    """How two data sets differ, picture by picture; each list by the files' names."""

    came: list[Image]
    went: list[Image]
    relabelled: list[Image]
    moved: list[Image]
    """Into another split."""


class DataDifference(Options):
    """Between the data of two runs."""

    same: bool
    before: str
    """Digest."""
    after: str
    classes_came: list[str]
    classes_went: list[str]
    images: Images | None = None
    note: str = ""
    """Why the pictures cannot be compared, if so."""


class Difference(Options):
    """Between two runs."""

    before: str
    """Id of the first run."""
    after: str
    code: CodeDifference
    params: list[Change]
    data: DataDifference
    environment: list[Change]
    same_model: bool
    """Whether the two made the same model, byte for byte."""
    scores: dict[str, list[dict[str, float] | None]]
    """Of each metric, value and interval in the first run and in the second."""
    paired: Comparison | None
    """Of how well the test pictures are answered that both were asked; positive where the second run is better."""
    note: str
    """Why there is no paired comparison, or what was passed over for it."""

    @property
    def identical(self) -> bool:
        """Whether nothing differs that is recorded."""
        same = self.code.same and self.data.same and self.same_model
        return same and not self.params and not self.environment


def params(before: RunRecord, after: RunRecord) -> list[Change]:
    """Keys whose values differ, defaults included; a key that one run's parts do not have is empty there."""
    first, second = flat(before.params), flat(after.params)
    return [
        Change(what=key, before=_worded(first, key), after=_worded(second, key))
        for key in sorted(first.keys() | second.keys())
        if _worded(first, key) != _worded(second, key)
    ]


def data(before: RunRecord, after: RunRecord) -> DataDifference:
    """What the records themselves say; `images` says the rest."""
    first, second = before.data, after.data
    return DataDifference(
        same=first.digest == second.digest,
        before=first.digest,
        after=second.digest,
        classes_came=[name for name in second.classes if name not in first.classes],
        classes_went=[name for name in first.classes if name not in second.classes],
    )


def images(before: bytes, after: bytes, classes_before: list[str], classes_after: list[str]) -> Images:
    """Compare two data sets picture by picture.

    Args:
        before: `samples.parquet` of the first.
        after: of the second.
        classes_before: names, by the ids that the first uses.
        classes_after: likewise.

    Raises:
        UserError: one of them is no such table.
    """
    first, second = _samples(before, classes_before), _samples(after, classes_after)
    both = [(one, first[one], now) for one, now in second.items() if one in first]
    found = {
        "came": [Image(id=one, source=now.source, after=now.words) for one, now in second.items() if one not in first],
        "went": [Image(id=one, source=was.source, before=was.words) for one, was in first.items() if one not in second],
        "relabelled": [_relabelled(one, was, now) for one, was, now in both if was.exact != now.exact],
        "moved": [
            Image(id=one, source=now.source, before=was.split, after=now.split)
            for one, was, now in both
            if was.split != now.split
        ],
    }
    return Images(**{kind: sorted(listed, key=lambda image: image.source) for kind, listed in found.items()})


def scores(before: RunRecord, after: RunRecord) -> dict[str, list[dict[str, float] | None]]:
    """Value and interval of each metric in both, the one that decides first."""
    main = after.params["task"]["score"]
    known = {name for side in (before, after) for name, value in side.scores.items() if isinstance(value, dict)}
    ordered = sorted(known, key=lambda name: (name != main, name))
    return {name: [before.scores.get(name), after.scores.get(name)] for name in ordered}


def paired(before: bytes, after: bytes, first: RunRecord, second: RunRecord) -> tuple[Comparison | None, str]:
    """The paired test of how well the second run answers the test pictures that both were asked, and what to note.

    Args:
        before: `predictions.parquet` of the first run.
        after: of the second, which says what belongs together.
        first: its record.
        second: its record; its score, confidence and number of resamples are used.

    Raises:
        UserError: one of them is no such table.
    """
    if first.data.classes != second.data.classes:
        return None, "The two runs tell other classes apart, so their scores cannot be compared picture by picture."
    needed = ["id", "actual", "quality"]
    old, new = _table(before, needed), _table(after, [*needed, "unit"])
    rows = {one: row for row, one in enumerate(old["id"].to_pylist())}
    shared = [(rows[one], row) for row, one in enumerate(new["id"].to_pylist()) if one in rows]
    left, right = (np.array([pair[side] for pair in shared], np.int64) for side in (0, 1))
    was, is_now = (np.array(table["actual"].to_pylist(), object) for table in (old, new))
    kept = was[left] == is_now[right] if shared else np.zeros(0, bool)
    note = (
        f"Test pictures that are annotated otherwise are passed over: {int((~kept).sum())}." if not kept.all() else ""
    )
    if not kept.any():
        return None, f"No test picture was answered by both. {note}".strip()
    trial = Trial(
        score=second.params["task"]["score"],
        confidence=second.params["gate"]["confidence"],
        resamples=second.params["evaluate"]["resamples"],
        seed=SEED,
        units=np.unique(new["unit"].to_numpy()[right[kept]], return_inverse=True)[1],
    )
    now, then = new["quality"].to_numpy()[right[kept]], old["quality"].to_numpy()[left[kept]]
    return of_qualities(now, then, f"run {first.id[:8]}", trial), note


def worded(value: Any) -> str:
    """A param as params.yaml writes it: a text as it is, the rest as JSON."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _worded(values: dict[str, Any], key: str) -> str:
    return worded(values[key]) if key in values else ""


class _Sample(NamedTuple):
    source: str
    split: str
    words: str
    """What is known of the picture, for people."""
    exact: str
    """Likewise, whole."""


def _samples(table: bytes, classes: list[str]) -> dict[str, _Sample]:
    """What a data set says of each picture."""
    found = _table(table, None)
    elsewhere = {*SAMPLE_COLUMNS, *MASK_COLUMNS} - {"mask"}  # where a picture or its mask lies says nothing of it
    known = [name for name in found.column_names if name not in elsewhere]
    samples = {}
    for row in found.select(["id", "source", "split", *known]).to_pylist():
        values = {name: _named(name, row[name], classes) for name in known}
        words = ", ".join(_in_words(name, value) for name, value in values.items())
        samples[row["id"]] = _Sample(row["source"], row["split"], words, json.dumps(values, default=str))
    return samples


def _named(column: str, value: Any, classes: list[str]) -> Any:
    """A value of a sample, with names instead of the class ids of its data set."""
    if column == "objects" and isinstance(value, list):
        return [{**thing, "label": _named("label", thing["label"], classes)} for thing in value]
    is_class = column == "label" and isinstance(value, int) and 0 <= value < len(classes)
    return classes[value] if is_class else value


def _in_words(column: str, value: Any) -> str:
    if column == "objects" and isinstance(value, list):
        counts = Counter(str(thing["label"]) for thing in value)
        return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "no objects"
    return f"mask {value[:8]}" if column == "mask" and isinstance(value, str) else worded(value)


def _relabelled(one: str, was: _Sample, now: _Sample) -> Image:
    after = now.words if now.words != was.words else f"{now.words} (placed otherwise)"
    return Image(id=one, source=now.source, before=was.words, after=after)


def _table(data: bytes, columns: list[str] | None) -> pa.Table:
    try:
        if missing := [name for name in columns or () if name not in pq.read_schema(io.BytesIO(data)).names]:
            raise UserError(f"A table of the runs has no {', '.join(missing)}: another version of Convoy wrote it.")
        return pq.read_table(io.BytesIO(data), columns=columns)
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise UserError(f"A table of the runs cannot be read: {error}. Was DVC's cache damaged?") from error
