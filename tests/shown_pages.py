"""A project as the page finds it that has learnt every kind of target, each with a run, its data and a case.

made = shown_pages.make(tmp_path / "project")      made["points"].run, .dataset, .case
"""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import decision_project
import page_outputs
import page_project
import shown_sets
import yaml
from shown_sets import KINDS

from dashboard.answered import PREDICTIONS
from pipeline.registry import gate, trial
from pipeline.registry.trial import Trial
from pipeline.registry.verdict import Verdict

OUT = "out/dataset"


class Shown(NamedTuple):
    """Of one kind."""

    dataset: str
    """Digest."""
    run: str
    case: str
    made: shown_sets.Made


def make(root: Path) -> dict[str, Shown]:
    """Fill the empty folder `root`; the data lies in DVC's cache."""
    project = page_project.make(root, runs=len(KINDS) + 1)
    with contextlib.chdir(root):
        shutil.rmtree(OUT)
        return {kind: _learnt(kind, run) for kind, run in zip(KINDS, project.finished, strict=True)}


def _learnt(kind: str, run: str) -> Shown:
    home = Path("made") / kind
    made = shown_sets.make(home / "dataset", kind)
    figures = shown_sets.tell(made, home / "evaluation")
    info, test = made.dataset.info, made.dataset.split("test")
    files = {path.relative_to(made.dataset.root).as_posix(): path for path in made.dataset.root.rglob("*.*")}
    folder = page_outputs._cached_folder(Path(), {name: path.read_bytes() for name, path in files.items()})
    kept = {
        f"out/evaluation/{name}": page_outputs._cached(Path(), (home / "evaluation" / name).read_bytes())
        for name in (Path(PREDICTIONS).name, "report.html")
    }
    outs = [{"path": path, "md5": md5} for path, md5 in kept.items()]
    stages = {
        "ingest": {"cmd": "x", "outs": [{"path": OUT, "md5": folder}]},
        "evaluate": {"cmd": "x", "outs": outs},
    }
    path = Path(f".convoy/runs/{run}/record.json")
    record = json.loads(path.read_text())
    record["lock_text"] = yaml.safe_dump({"schema": "2.0", "stages": stages})
    record["params"]["task"] = {"name": info.task, "score": made.task.score}
    record["data"] |= {"digest": info.digest, "images": info.images, "classes": info.classes, "splits": info.splits}
    scores = {one.name: one.interval._asdict() for one in figures if one.interval.value == one.interval.value}
    record["scores"] = {"images": len(test), "units": len(test), **scores}
    path.write_text(json.dumps(record))
    return Shown(info.digest, run, _case(kind, run, made), made)


def _case(kind: str, run: str, made: shown_sets.Made) -> str:
    """The same answers against a champion that says of each image what is to be said of the next one."""
    test = made.dataset.split("test")
    told, rival = (made.task.answers(test, said) for said in (made.told, [*made.told[1:], made.told[0]]))
    comparison = trial.of_qualities(told.quality, rival.quality, "the baseline", Trial(made.task.score, 0.95, 100, 0))
    verdict = Verdict(outcome="promote", reasons=["Better than before."], comparison=comparison)
    about = {"images": gate._images(test, (told, rival), []), "dataset": made.dataset.info.digest, "verdict": verdict}
    return decision_project.make_case(decision_project.make_version("7", model=kind), run=run, **about).id
