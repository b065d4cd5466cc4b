"""`convoy verify`: rebuild a recorded run in a clean worktree, and compare it with its record, digest by digest.

The code is the run's own, commit and patch; nothing of this project's state, caches and checkpoints is used, only the
data. Where the source of the data is gone, the recorded data set is taken from DVC's cache or remote instead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows import worktrees
from flows.housekeeping.turns import run_at_work
from flows.records import outputs
from flows.run import device_of
from flows.stage import LOCK, Graph
from pipeline.dataset import DatasetInfo
from pipeline.door import PARAMS, parse
from pipeline.errors import ParamsError, UserError
from pipeline.files import DATASET, write_text
from pipeline.params import IngestParams
from pipeline.registry import difference, environment, proof
from pipeline.registry.environment import Environment
from pipeline.registry.proof import Change, Proof, StageProof
from pipeline.registry.runs import TRAINING, RunRecord

Say = Callable[[str], None]


def verify(project: Path, record: RunRecord, say: Say = print) -> Proof:
    """Rebuild a run and compare.

    Args:
        project: root of the project, which is the current folder.
        record: of the run.
        say: takes each line of progress.

    Raises:
        UserError: the record does not hold all that is needed, a stage fails, or the data are nowhere.
    """
    _refuse_incomplete(record)
    with run_at_work(), _alone_on_device(record), _clean_tree(project, record) as root:
        graph, recorded = Graph(root), proof.entries(record.lock_text)
        maker = graph.maker(DATASET)
        stages: list[StageProof] = []
        notes: list[str] = []
        for name in graph.stages():
            if name not in recorded:
                raise UserError(f"The record of run {record.id[:8]} has no stage {name!r}: it was changed.")
            if name == maker and (reason := _source_is_gone(record)):
                _take_over_dataset(root, record, say)
                stages.append(proof.taken_over(name, recorded[name]))
                notes.append(f"{name} was not rebuilt: {reason} The recorded data set was used.")
                continue
            graph.run(name, anew=True)
            stage = proof.compare_stage(name, recorded[name], proof.entries(LOCK.read_text())[name])
            say(f"verify: {name} is {stage.outcome}")
            if stage.outcome == "different":
                pictures = _pictures(record) if name == maker else []
                stages.append(stage.model_copy(update={"causes": [*stage.causes, *pictures]}))
                break
            stages.append(stage)
        return Proof(
            run=record.id,
            identical=all(stage.outcome != "different" for stage in stages),
            stages=stages,
            environment=proof.compare_environments(record.environment, _environment(record)),
            notes=notes,
        )


def _refuse_incomplete(record: RunRecord) -> None:
    what = f"Run {record.id[:8]} cannot be rebuilt:"
    if not record.code.commit:
        raise UserError(f"{what} it ran outside a git repository, so its code is not known.")
    if record.code.left_out:
        names = ", ".join(record.code.left_out[:3])
        raise UserError(f"{what} {names} was new, not known to git, and too large to be recorded with it.")


@contextmanager
def _alone_on_device(record: RunRecord) -> Iterator[None]:
    """Have the device that the run asks for to oneself."""
    from pipeline.devices import identity, pick

    with device_of(identity(pick(record.params["compute"]["device"]))):
        yield


@contextmanager
def _clean_tree(project: Path, record: RunRecord) -> Iterator[Path]:
    """The run's code and params in a worktree of its own, which is the current folder meanwhile."""
    name = worktrees.named_here(f"verify-{record.id[:8]}")
    chosen = record.environment.training
    given = {
        "CONVOY_FLOW_PID": str(os.getpid()),  # a stage ends itself when this process is gone
        "CONVOY_PROBE_CHOSE": " ".join(chosen.get(key, "") for key in ("precision", "memory_format", "execution")),
    }
    before = {key: os.environ.get(key) for key in given}
    try:
        root = worktrees.make(project, name, record.code.commit, record.code.patch)
        write_text(root / PARAMS, record.params_text)
        os.chdir(root)
        os.environ |= given
        yield root
    finally:
        os.chdir(project)
        os.environ |= {key: value for key, value in before.items() if value is not None}
        for key in (key for key, value in before.items() if value is None):
            os.environ.pop(key, None)
        worktrees.close(project, name)


def _source_is_gone(record: RunRecord) -> str:
    """Why the data cannot be ingested again, or nothing; params that only the run's own code knows are left to it."""
    try:
        params = parse(IngestParams, record.params_text)
    except ParamsError:
        return ""
    try:
        next(params.data.fingerprint(), None)
    except UserError as error:
        return str(error).splitlines()[0]
    return ""


def _take_over_dataset(root: Path, record: RunRecord, say: Say) -> None:
    """Put the recorded data set in place, from the cache or from the remote."""
    from flows.remote import moving as remote

    write_text(root / LOCK, record.lock_text)
    if not Graph(root).restore(DATASET):
        remote.fetch(root, [str(DATASET)], say)


def _pictures(record: RunRecord) -> list[Change]:
    """How the pictures at the source differ from those of the recorded data set, if that can be told."""
    table = f"{DATASET}/samples.parquet"
    try:
        info = DatasetInfo.model_validate_json((DATASET / "dataset.json").read_bytes())
        before, after = outputs.read(record, table), Path(table).read_bytes()
        found = difference.images(before, after, record.data.classes, info.classes)
    except UserError as error:
        return [Change(what="pictures", before="", after=f"cannot be compared: {error}")]
    went = {image.source: image for image in found.went}
    replaced = [image for image in found.came if image.source in went]
    return [
        *(Change(what=f"content of {i.source}", before=went[i.source].id[:12], after=i.id[:12]) for i in replaced),
        *(Change(what=f"picture {i.source}", before="", after=i.after) for i in found.came if i not in replaced),
        *(
            Change(what=f"picture {i.source}", before=i.before, after="")
            for i in found.went
            if i.source not in {image.source for image in replaced}
        ),
        *(Change(what=f"label of {i.source}", before=i.before, after=i.after) for i in found.relabelled),
        *(Change(what=f"split of {i.source}", before=i.before, after=i.after) for i in found.moved),
    ]


def _environment(record: RunRecord) -> Environment:
    """Of this machine; what training noted is the record's where it was not rebuilt."""
    training = json.loads(TRAINING.read_text()) if TRAINING.exists() else record.environment.training
    return environment.current(training)
