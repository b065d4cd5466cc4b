"""What `convoy verify` prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from flows.records.finding import find
from flows.records.terminal import safe
from flows.records.verify import verify
from pipeline.registry.proof import Change, Proof, StageProof
from pipeline.registry.runs import RunRecord

DIFFERENT = 1
"""Exit status."""
SHOWN = 10
OF_PICTURES = ("content of ", "picture", "label of ", "split of ")
"""How the causes begin that lie in the source of the data."""
OUTPUTS = {
    "out/dataset": "dataset",
    "out/policy": "policy",
    "out/model": "weights",
    "out/evaluation/metrics.json": "scores",
}


def verify_and_show(project: Path, name: str, as_json: bool) -> int:
    """Verify the run that `name` means; the exit status.

    Raises:
        UserError: there is no such run, or it cannot be rebuilt.
    """
    record = find(name)
    proof = verify(project, record, (lambda line: print(line, file=sys.stderr)) if as_json else print)
    if as_json:
        print(proof.model_dump_json(indent=2))
    else:
        show(record, proof)
    return 0 if proof.identical else DIFFERENT


def show(record: RunRecord, proof: Proof) -> None:
    """Say whether the run is proved, and if not, where it first differs and what was different before."""
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    for stage in proof.stages:
        for path, digest in stage.written.items():
            if path in OUTPUTS:
                changed = any(change.what == path for change in stage.differing)
                state = "different" if changed else ("as recorded" if stage.outcome == "taken over" else "identical")
                console.print(f"{OUTPUTS[path]:8} {digest[:12]}  {state}")
    for note in proof.notes:
        console.print(escape(safe(note)))
    first = proof.first_difference
    if first is None:
        console.print(f"Run {record.id[:8]}: identical.", style="bold")
        if proof.environment:
            _list(console, "The result is the same although the environment is not", proof.environment)
        return
    console.print(f"Run {record.id[:8]}: different, from the stage `{first.name}` on.", style="bold")
    _list(console, f"What {first.name} wrote otherwise", first.differing)
    _list(console, f"What {first.name} read otherwise", first.causes)
    _list(console, "What is different about this machine", proof.environment)
    console.print(escape(_hint(first, proof)))


def _hint(first: StageProof, proof: Proof) -> str:
    if any(not change.what.startswith(OF_PICTURES) for change in first.causes):
        return "Code or params of this stage are not those that the run had: its record was changed."
    if first.causes:
        return "The source of the data is not what it was; code and params are."
    if proof.environment:
        return "Code, params and data of this stage are those that the run had; the cause is among the above."
    return "Nothing that is recorded is different: the source of the data was changed, or the machine is at fault."


def _list(console: Console, title: str, changes: Sequence[Change]) -> None:
    if not changes:
        return
    console.print(f"{title}:")
    for change in changes[:SHOWN]:
        before, after = change.before[:40] or "none", change.after[:40] or "none"
        console.print(escape(safe(f"  {change.what}: {before} -> {after}")))
    if len(changes) > SHOWN:
        console.print(f"  and {len(changes) - SHOWN} more; --json lists all")
