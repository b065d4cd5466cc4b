"""The stage `ingest`: files of any format -> a dataset on disk, checked, split and digested.

The same source gives the same files, byte for byte, whatever the order, time and packing of its files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import interrupts
from pipeline.contracts import SPLITS
from pipeline.errors import UserError
from pipeline.files import STATE, replacing_folder
from pipeline.ingest import fingerprint
from pipeline.progress import track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sifting import Picture
    from pipeline.params import IngestParams


@dataclass(frozen=True)
class Ingested:
    """What the stage came to: the main lines of `dataset.json`."""

    new: bool
    """False where the outputs were up to date and have been left alone."""
    images: int
    classes: int
    splits: dict[str, int]
    """Images of each split."""
    rejected: int
    problems: int
    """Things that are wrong with annotations."""
    digest: str


def run(params: IngestParams, out: Path) -> Ingested:
    """Make the dataset in the folder `out`, unless it is up to date.

    Raises:
        UserError: the source cannot be read, or is no basis for training.
    """
    inputs = fingerprint.look(params)
    new = not fingerprint.unchanged(inputs, out)
    if new:
        _make(params, out, inputs)
    ingested = _ingested(out, new)
    print(_summary(ingested, out))
    return ingested


def unchanged(params: IngestParams, out: Path) -> bool:
    """Whether `run` would find nothing to do.

    Raises:
        UserError: the source is missing.
    """
    return fingerprint.unchanged(fingerprint.look(params), out)


def _make(params: IngestParams, out: Path, inputs: fingerprint.Inputs) -> None:
    from pipeline.ingest.decoding import remembered
    from pipeline.ingest.shards import Spool
    from pipeline.ingest.sifting import sift
    from pipeline.ingest.splits import assign
    from pipeline.ingest.together import settle
    from pipeline.ingest.writing import write

    total = inputs.files if inputs.files > 1 else None
    with Spool(STATE / "ingest") as spool:
        with remembered() as verdicts, track("ingest", total) as advance:
            rules, groups = params.annotations, params.split.group
            sifted = sift(params.data.read(), params.task, rules, spool, verdicts, advance, groups)
            looks = {picture.id: verdicts[picture.id].look for picture in sifted.pictures}
            sifted = settle(sifted, looks, params.task, rules)
        check_groups(params, sifted.pictures)
        sifted = sifted._replace(pictures=assign(sifted.pictures, params.split, params.task.stratum, sifted.kin))
        with replacing_folder(out) as folder:
            write(folder, params, sifted, spool)
            interrupts.heed()
    fingerprint.remember(inputs, out)


def check_groups(params: IngestParams, pictures: Sequence[Picture]) -> None:
    """Refuse what asks for groups of pictures where there are none.

    Args:
        params: with the pattern `split.group`, and the task.
        pictures: that are kept.

    Raises:
        UserError: no picture is of a group.
    """
    if not pictures or any(picture.group for picture in pictures):
        return
    pattern, first = params.split.group, min(each.name for each in pictures)
    if pattern:
        raise UserError(
            f"params.yaml: split.group: {pattern!r} finds no group in the name of any of {len(pictures):,} pictures, "
            f"such as {first!r}, so that none would be kept together. Mend it, or leave it out."
        )
    if params.task.grouped:
        raise UserError(
            f"params.yaml: task.together gives the pictures of a group one answer, and none of {len(pictures):,} "
            f"pictures, such as {first!r}, is of a group. Give the source a column `group`, set split.group, or leave "
            "it out."
        )


def _ingested(out: Path, new: bool) -> Ingested:
    """Read `dataset.json` as plain JSON: its class would import what an unchanged source does not need."""
    info = json.loads((out / "dataset.json").read_bytes())
    splits = {split: info["splits"][split] for split in SPLITS}
    problems = sum(info.get("problems", {}).values())
    return Ingested(new, info["images"], len(info["classes"]), splits, info["rejected"], problems, info["digest"])


def _summary(ingested: Ingested, out: Path) -> str:
    splits = ", ".join(f"{split} {count:,}" for split, count in ingested.splits.items())
    rejected = f"{ingested.rejected:,} rejected" + (f" (why: {out / 'rejected.parquet'})" if ingested.rejected else "")
    if ingested.problems:
        rejected += f"; {ingested.problems:,} problems with annotations (which: {out / 'problems.parquet'})"
    state = "" if ingested.new else "nothing new; "
    return f"ingest: {state}{ingested.images:,} images of {ingested.classes} classes; {splits}; {rejected}"
