"""The infrastructure check: whether registered files are whole, answer as the trained model did, and fit the limits.

It looks at nothing but the files and a fresh process that has read them; the scores do not enter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.answering import Answers
from pipeline.asking import Told
from pipeline.bundle import FILES, Bundle
from pipeline.errors import UserError
from pipeline.files import DATASET
from pipeline.params import GateOptions
from pipeline.registry.champion import Version, bundle_of
from pipeline.registry.tracking import Away
from pipeline.registry.verdict import Check

PREDICTIONS = Path("out/evaluation/predictions.parquet")
OTHER_IMAGES = f"{PREDICTIONS} is about other test images than {DATASET}: run `convoy run` again."
NONE_IN_COMMON = "Its run evaluated none of today's test images, so nothing says what its files should answer."


@dataclass(frozen=True)
class Fitness:
    """What the check found."""

    checks: tuple[Check, ...]
    bundle: Bundle | None = None
    """The registered files; None if they are not whole."""
    told: Told | None = None
    """What they say."""

    @property
    def problems(self) -> list[str]:
        """What fails, in words."""
        return [check.found for check in self.checks if not check.passed]

    @property
    def comparable(self) -> bool:
        """Whether the answers are those of the trained model, so that comparing them says something."""
        return self.told is not None and all(check.passed for check in self.checks if check.name == "answers")


def examine(
    version: Version,
    ids: Sequence[str],
    limits: GateOptions,
    ask: Callable[[Path], Told],
    written: pa.Table | None = None,
) -> Fitness:
    """Check the registered files of a version.

    Args:
        version: as registered.
        ids: of the test images.
        limits: of time and size.
        ask: from a bundle's folder to what a fresh process finds in it.
        written: what it answered when it was evaluated, as in `predictions.parquet`; by default that of
            `out/evaluation`.

    Raises:
        UserError: nothing can be asked, for a reason that lies outside of the files.
    """
    try:
        folder = bundle_of(version)
    except Away:
        raise
    except UserError as error:
        return Fitness((Check(name="files", passed=False, found=str(error)),))
    told = ask(folder)
    whole = Check(name="files", passed=True, found=f"Whole: the digest is {version.digest[:12]}, as registered.")
    checks = (whole, _answers(told, ids, written), _latency(told, limits.latency_ms), _size(folder, limits.size_mb))
    return Fitness(checks, Bundle.open(folder), told)


def _answers(told: Told, ids: Sequence[str], written: pa.Table | None) -> Check:
    """Whether the files give what `evaluate` wrote, of packed pictures and as serving decodes its own."""
    table = pq.read_table(PREDICTIONS) if written is None else written
    rows = {image: row for row, image in enumerate(table.column("id").to_pylist())}
    common = [position for position, image in enumerate(ids) if image in rows]
    if written is None and not len(common) == len(ids) == len(rows):
        common = []
    served = [position for position in common if position < len(told.golden)]

    def apart(now: Answers, positions: list[int]) -> float:
        then = now.at(positions).again(
            table.take(pa.array([rows[ids[position]] for position in positions], pa.int64()))
        )
        return float(then.difference(now.at(positions)).max(initial=0.0))

    try:
        if not common:
            raise ValueError
        farthest = {
            "": apart(told.answers, common),
            " where encoded pictures are served": apart(told.golden, served),
        }
    except (ValueError, KeyError):  # of another kind, or of other classes
        return Check(name="answers", passed=False, found=OTHER_IMAGES if written is None else NONE_IN_COMMON)
    allowed = told.answers.tolerance
    for way, distance in farthest.items():
        if not distance <= allowed:  # so written, nan is caught too
            found = (
                f"The registered files give other answers than the trained model{way}: one differs by "
                f"{distance:.2g}, and {allowed:g} is the limit. Remove this version in MLflow and run again."
            )
            return Check(name="answers", passed=False, found=found)
    found = (
        f"As evaluated on {len(common)} test images, and on {len(served)} of them served as encoded pictures: "
        f"answers differ by {max(farthest.values()):.2g} at most, and {allowed:g} is the limit."
    )
    return Check(name="answers", passed=True, found=found)


def _latency(told: Told, limit: float) -> Check:
    took = f"{told.milliseconds:.3g} ms from an encoded picture to its answer (median of {told.timed}, {told.device})"
    if limit and not told.milliseconds <= limit:
        found = f"Too slow: {took}; gate.latency_ms allows {limit:g}."
        return Check(name="latency", passed=False, found=found)
    allowed = f"gate.latency_ms allows {limit:g}" if limit else "no limit is set"
    return Check(name="latency", passed=True, found=f"{took}; {allowed}.")


def _size(folder: Path, limit: float) -> Check:
    megabytes = sum((folder / name).stat().st_size for name in FILES) / 1e6
    if limit and megabytes > limit:
        found = f"Too large: {megabytes:.3g} MB of files; gate.size_mb allows {limit:g}."
        return Check(name="size", passed=False, found=found)
    allowed = f"gate.size_mb allows {limit:g}" if limit else "no limit is set"
    return Check(name="size", passed=True, found=f"{megabytes:.3g} MB of files; {allowed}.")
