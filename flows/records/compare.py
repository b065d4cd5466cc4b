"""`convoy compare RUN RUN`: what two runs differ in, and whether one is better than the other."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from flows.records import finding, outputs
from flows.records.terminal import console, day, grid, lines, plain
from pipeline.errors import UserError
from pipeline.registry import code_difference, difference
from pipeline.registry.code_difference import CodeDifference
from pipeline.registry.difference import KINDS, DataDifference, Difference, Image
from pipeline.registry.fitness import PREDICTIONS
from pipeline.registry.proof import Change, compare_environments
from pipeline.registry.runs import RunRecord
from pipeline.registry.verdict import Comparison
from pipeline.wording import chance_said, difference_said, scored, written

SAMPLES = "out/dataset/samples.parquet"
SHOWN = 10
"""Names of one kind; `--json` has them all."""


def show(first: str, second: str, as_json: bool) -> None:
    """Print the difference from the run that `first` means to that of `second`.

    As JSON it is a `pipeline.registry.difference.Difference`: `before` and `after` (ids), `identical`, `code`
    (`before` and `after`, commits; `same`, `stat`, `note`), `params` and `environment` (lists of `what`, `before`,
    `after`), `data` (`same`, `before` and `after`, digests; `classes_came`, `classes_went`, `images` with the lists
    `came`, `went`, `relabelled`, `moved`, or null and a `note`), `same_model`, `scores` (of each metric the two values
    with `low` and `high`), `paired` (a `pipeline.registry.verdict.Comparison`, or null), and `note`.

    Raises:
        UserError: one of them means no finished run.
    """
    before, after = finding.find(first), finding.find(second)
    found = difference_of(before, after)
    if as_json:
        whole = {"identical": found.identical, **found.model_dump(mode="json")}
        print(json.dumps(whole, indent=2, sort_keys=True))
        return
    out = console()
    out.print(grid(_runs(before, after)))
    if before.id == after.id:
        out.print("\nThe same run twice.", style="bold")
        return
    if found.identical:
        out.print("\nIdentical: code, params, data, environment, and the model byte for byte.", style="bold")
    else:
        out.print()
        out.print(grid(_differences(found)))
    out.print()
    out.print(_scores(found))
    if found.paired:
        out.print()
        out.print(plain(_paired(found.paired)))
    if found.note:
        out.print(plain(found.note))


def difference_of(before: RunRecord, after: RunRecord) -> Difference:
    """All that the two differ in; what cannot be looked at is said in its place."""
    compared, note = None, ""
    try:
        first, second = (outputs.read(record, str(PREDICTIONS)) for record in (before, after))
        compared, note = difference.paired(first, second, before, after)
    except UserError as problem:
        note = f"The scores cannot be compared picture by picture: {problem}"
    return Difference(
        before=before.id,
        after=after.id,
        code=code_difference.compare(before.code, after.code),
        params=difference.params(before, after),
        data=_data(before, after),
        environment=compare_environments(before.environment, after.environment),
        same_model=before.version.digest == after.version.digest,
        scores=difference.scores(before, after),
        paired=compared,
        note=note,
    )


def _data(before: RunRecord, after: RunRecord) -> DataDifference:
    found = difference.data(before, after)
    if found.same:
        return found
    try:
        first, second = (outputs.read(record, SAMPLES) for record in (before, after))
        images = difference.images(first, second, before.data.classes, after.data.classes)
        return found.model_copy(update={"images": images})
    except UserError as problem:
        return found.model_copy(update={"note": f"The pictures cannot be compared: {problem}"})


def _runs(before: RunRecord, after: RunRecord) -> list[tuple[str, Text | Table]]:
    return [
        (name, plain(f"{run.id[:8]}  {day(run.started)}  {run.model} version {run.version.version}  {_commit(run)}"))
        for name, run in (("before", before), ("after", after))
    ]


def _commit(run: RunRecord) -> str:
    if not run.code.commit:
        return "no commit"
    return f"commit {run.code.commit[:8]}{' + patch' * bool(run.code.patch)}"


def _differences(found: Difference) -> list[tuple[str, Text | Table]]:
    return [
        ("code", _code(found.code)),
        ("params", _changes(found.params)),
        ("data", _data_words(found.data)),
        ("environment", _changes(found.environment)),
        ("model", plain("the same, byte for byte" if found.same_model else "another")),
    ]


def _code(found: CodeDifference) -> Text:
    files = [line.removeprefix(" ") for line in found.stat.splitlines()]
    if len(files) > SHOWN + 2:
        files = [*files[:SHOWN], f"and {len(files) - SHOWN - 1:,} more files", files[-1]]
    said = files or ["the same" if found.same else "differs"]
    return lines([*said, *([found.note] if found.note else [])])


def _changes(changes: Sequence[Change]) -> Text | Table:
    if not changes:
        return plain("the same")
    table = Table.grid(padding=(0, 2))
    for change in changes[:SHOWN]:
        table.add_row(plain(change.what), plain(f"{change.before or '-'} -> {change.after or '-'}"))
    if len(changes) > SHOWN:
        table.add_row(plain(f"and {len(changes) - SHOWN} more; --json lists all"))
    return table


def _data_words(found: DataDifference) -> Text:
    if found.same:
        return plain("the same")
    said = [f"{found.before[:12]} -> {found.after[:12]}"]
    for what, names in (("new", found.classes_came), ("gone", found.classes_went)):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            said.append(f"classes that are {what}: {', '.join(map(repr, names[:SHOWN]))}{more}")
    if found.images:
        kinds: dict[str, list[Image]] = {kind: getattr(found.images, kind) for kind in KINDS}
        said.append("pictures: " + ", ".join(f"{len(images):,} {KINDS[kind]}" for kind, images in kinds.items()))
        for kind, images in kinds.items():
            said += [f"  {KINDS[kind]}: {_image(image)}" for image in images[:SHOWN]]
            if len(images) > SHOWN:
                said.append(f"  and {len(images) - SHOWN:,} more {KINDS[kind]}; --json lists all")
    return lines([*said, *([found.note] if found.note else [])])


def _image(image: Image) -> str:
    change = f"{image.before} -> {image.after}" if image.before and image.after else image.before or image.after
    return f"{image.source} ({change})"


def _scores(found: Difference) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("score, 95 % interval", "before", "after"):
        table.add_column(title, no_wrap=True)
    for name, sides in found.scores.items():
        table.add_row(plain(name.replace("_", " ")), *(plain(_score(side)) for side in sides))
    return table


def _score(side: dict[str, float] | None) -> str:
    return scored(side["value"], side["low"], side["high"]) if side else "-"


def _paired(found: Comparison) -> str:
    sure = "better" if found.low > 0 else "worse" if found.high < 0 else "no difference that these pictures can show"
    verdict = f"The second run is {sure}" if sure in ("better", "worse") else f"There is {sure}"
    parted = (
        f"{found.fixed} answered better by the second run, {found.broken} by the first"
        if found.graded
        else f"{found.fixed} answered rightly by the second run alone, {found.broken} by the first alone"
    )
    units = f" ({found.units:,} unit{'s'[: found.units > 1]}: pictures that belong together are one)"
    return (
        f"{found.score} on the {found.images:,} test pictures that both answered{units * found.grouped}: "
        f"{written(found.champion)} before, {written(found.challenger)} after.\n"
        f"Paired difference {difference_said(found.difference, found.low, found.high, found.confidence)}; positive is "
        f"better. {verdict}.\n"
        f"{parted} ({found.exact_test}: {chance_said(found.p)})."
    )
