"""Runs by name, in a list, and on a page: records made by hand, hostile words among them."""

from __future__ import annotations

import fcntl
import json
import time
from pathlib import Path
from typing import Any

import pytest

from flows.records import finding, listing
from flows.records.listing import Filter
from flows.records.show import show
from pipeline.errors import UserError
from pipeline.files import write_json, write_text
from pipeline.registry import attempts, glances, ledger, runs
from pipeline.registry.attempts import Attempt
from pipeline.registry.runs import RunRecord

HOME = Path(__file__).parents[1]
HOSTILE = "[red]\x1b[2J\x9b31m\u202e"
ESCAPED = "[red]\\x1b[2J\\x9b31m\\u202e"
MINUTE = 60_000
START = 1_793_000_000_000
LOCK = """schema: '2.0'
stages:
  ingest:
    cmd: python -m pipeline ingest
    outs:
    - {path: out/dataset, md5: aaaaaaaaaaaa.dir}
  train:
    cmd: python -m pipeline train
    outs:
    - {path: out/model, md5: bbbbbbbbbbbb.dir}
"""
PATCH = """diff --git a/x.py b/x.py
--- a/x.py
+++ b/x.py
@@ -1 +1,2 @@
-old
+new
+newer
"""


def made_record(run: str, **changes: Any) -> RunRecord:
    """A record like those of real runs; `changes` name places in it as `data.classes`, with __ for the dot."""
    plain: dict[str, Any] = {
        "id": run,
        "model": "digits",
        "started": START,
        "ended": START + 95_500,
        "resumed": 0,
        "code": {"commit": "c" * 40, "branch": "main", "patch": "", "left_out": [], "digest": "d" * 64},
        "params": {
            "name": "digits",
            "seed": 0,
            "model": {"name": "lenet5"},
            "task": {"name": "classification", "score": "accuracy"},
            "train": {"epochs": 3, "lr": 0.001},
            "gate": {"confidence": 0.95},
            "evaluate": {"resamples": 200},
            "flow": {"retries": 1},
        },
        "params_text": "seed: 0\n",
        "lock_text": LOCK,
        "seconds": {"train": 61.0},
        "first_computed": {"ingest": "e" * 32},
        "data": {
            "digest": "f" * 64,
            "origin": {"name": "folder", "path": "pictures"},
            "images": 120,
            "classes": ["dark", "light"],
            "splits": {"train": 72, "val": 19, "test": 29},
            "rejected": 2,
        },
        "environment": {
            "requirements": "1" * 64,
            "packages": {"torch": "2.15.0", "numpy": "2.4.6"},
            "python": "3.11.7",
            "system": "Linux",
            "processor": "AMD EPYC",
            "cores": 2,
            "training": {"device": "cpu", "threads": 1, "precision": "float32", "memory_format": "contiguous"},
        },
        "mlflow_run": f"a{run[1:]}",
        "flow_run": f"b{run[1:8]}-0000-4000-8000-000000000000",
        "tags": {},
        "version": {"name": "digits", "version": "1", "digest": "2" * 64, "dataset": "f" * 64, "location": "x/model"},
        "scores": {"images": 29, "units": 29, "accuracy": {"value": 0.9, "low": 0.8, "high": 1.0}},
        "verdict": {"outcome": "promote", "reasons": ["Better than the baseline."]},
    }
    for place, value in changes.items():
        *above, last = place.split("__")
        section = plain
        for key in above:
            section = section[key]
        section[last] = value
    return RunRecord.model_validate(plain)


def run_id(number: int) -> str:
    return f"{number:04x}" + "0" * 28


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, where the tests stand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for variable in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(variable, raising=False)
    write_text(tmp_path / "params.yaml", (HOME / "params.yaml").read_text())
    (tmp_path / ".dvc").mkdir()
    return tmp_path


def promoted(record: RunRecord, after: int = 0) -> None:
    version = record.version
    move = ledger.Act(
        action="promote",
        model=record.model,
        who="ada",
        via="page",
        why="better",
        to_version=version.version,
        model_digest=version.digest,
        dataset_digest=version.dataset,
        location=version.location,
    )
    ledger.append(move, after)


def stopped(run: str, error: str = "") -> Attempt:
    attempt = Attempt(id=run, key=f"key-{run}", model="digits", started=START, seconds={"ingest": 1.2}, error=error)
    write_json(attempts.folder(run) / "attempt.json", attempt.model_dump(mode="json"))
    return attempt


def test_every_name_of_a_run_finds_it(project):
    first = made_record("12345678" + "0" * 24, tags={"dvc.experiment": "digits-2026-10-26-12345678"})
    second = made_record(run_id(2), started=START + MINUTE, ended=START + 2 * MINUTE, version__version="2")
    again = made_record(run_id(3), started=START + 3 * MINUTE, ended=START + 99_000)  # found version 1 again
    for record in (first, second, again):
        runs.write(record)
    promoted(first)
    for name in (
        first.id,
        "1234",
        first.mlflow_run,
        first.mlflow_run[:6],
        first.flow_run,
        "digits-2026-10-26-12345678",
        "digits/1",
        "1",
        "champion",
        "champion:digits",
    ):
        assert finding.find(name) == first, name
    assert finding.find("2") == second
    assert finding.find("latest") == second  # finished last, though not begun last


def test_a_name_that_fits_several_runs_or_none(project):
    with pytest.raises(UserError, match=r"No run 'latest': none is recorded here\. `convoy run` makes one\."):
        finding.find("latest")
    for number in (1, 2):
        runs.write(made_record("abcd" + run_id(number)[4:], version__version=str(number)))
    runs.write(made_record("abcd" + "1" * 28, version__version="3", mlflow_run="3" * 32))
    with pytest.raises(UserError, match=r"'abcd' fits 2 runs: abcd0000 \(2026-.*\), abcd1111 .*Give more characters"):
        finding.find("abcd")
    with pytest.raises(UserError, match="No run 'abc' among the 2 runs recorded here"):  # too short to mean one
        finding.find("abc")
    with pytest.raises(UserError, match="Did you mean 'digits/3'.*`convoy runs` lists them"):
        finding.find("digit/3")
    with pytest.raises(
        UserError, match=r"'digits' has no champion here: `convoy run` trains a model, and the gate decides\."
    ):
        finding.find("champion")
    with pytest.raises(UserError, match="No run '../../x'"):
        finding.find("../../x")
    promoted(made_record(run_id(9), version__version="4", version__digest="9" * 64))
    with pytest.raises(UserError, match="The champion of 'digits' is version 4, and no run recorded here made it"):
        finding.find("champion")


def test_a_run_without_a_record_is_shown_as_far_as_it_came(project, capsys):
    attempt = stopped(run_id(7), f"train: {HOSTILE}")
    with pytest.raises(UserError, match="No run has finished here yet; 1 stopped short or are at work"):
        finding.find("latest")
    with pytest.raises(
        UserError, match=r"Run 00070000 has no record yet: it stopped short \('train: .*convoy show 0007"
    ):
        finding.find(attempt.id)
    show("0007", as_json=False, patch=False, params=False)
    words = capsys.readouterr().out
    assert f"stopped short: train: {ESCAPED}" in words
    assert "ingest  ran in 1.2 s" in words
    (project / ".convoy/at-work").mkdir()
    with (project / f".convoy/at-work/{attempt.key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        show("0007", as_json=False, patch=False, params=False)
        assert "at work now" in capsys.readouterr().out
        assert [run.state for run in glances.read_all()] == ["working"]
    with pytest.raises(UserError, match="params and patch are kept when it has finished"):
        show("0007", as_json=False, patch=True, params=False)


def test_the_page_of_a_run(project, capsys):
    record = made_record(run_id(1), code__patch=PATCH, resumed=1, tags={"dvc.experiment": "digits-x"})
    runs.write(record)
    promoted(record)
    show("1", as_json=False, patch=False, params=False)
    words = " ".join(capsys.readouterr().out.split())
    for part in (
        f"{record.id}, of digits",
        "taken up again once, took 95.5 s",
        "commit cccccccccccc on main and a patch: 1 file, 3 lines; --patch prints it",
        "train epochs 3, lr 0.001",
        "120 images: train 72, val 19, test 29; 2 rejected",
        "ingest up to date; first made by MLflow run eeeeeeee aaaaaaaa out/dataset",
        "train ran in 61.0 s bbbbbbbb out/model",
        "device cpu, threads 1, precision float32, memory format contiguous",
        "AMD EPYC, 2 cores",
        "python 3.11.7, torch 2.15.0, numpy 2.4.6",
        f"Prefect run {record.flow_run}",
        "accuracy 0.9000 0.8000 to 1",
        "promote Better than the baseline.",
        "champion now",
        "promote: version 1, by",
        "`dvc exp apply digits-x`",
        "`convoy verify 00010000`",
    ):
        assert part in words, part
    assert "retries" not in words  # no result depends on it
    show("1", as_json=False, patch=True, params=False)
    assert capsys.readouterr().out == PATCH
    show("1", as_json=False, patch=False, params=True)
    assert capsys.readouterr().out == "seed: 0\n"
    show("1", as_json=True, patch=False, params=False)
    whole = json.loads(capsys.readouterr().out)
    assert whole.keys() == RunRecord.model_fields.keys() | {"state", "moves"}
    assert [move["action"] for move in whole["moves"]] == ["promote"]
    assert whole["environment"]["packages"] == {"torch": "2.15.0", "numpy": "2.4.6"}


def test_a_perfect_score_says_what_so_many_images_show(project, capsys):
    scores = {"images": 342, "units": 342, "accuracy": {"value": 1.0, "low": 1.0, "high": 1.0}}
    scores["brier"] = {"value": 0.001, "low": 0.0005, "high": 0.002}
    runs.write(made_record(run_id(1), scores=scores))
    show(run_id(1), as_json=False, patch=False, params=False)
    said = " ".join(capsys.readouterr().out.split())
    # (1 - 0.0087)^342 is 0.05
    assert "perfect; of other images like these, expect fewer than 0.9 % to be answered wrongly" in said
    assert "1.0000 to" not in said
    assert "brier 0.0010 0.00050 to 0.00200" in said


def test_latest_says_what_began_after_it(project, capsys):
    runs.write(made_record(run_id(1), started=START - MINUTE))
    show("latest", as_json=False, patch=False, params=False)
    assert "began later" not in capsys.readouterr().out
    later = stopped(run_id(2), "train: diverged.\nLower it.")
    show("latest", as_json=False, patch=False, params=False)
    said = " ".join(capsys.readouterr().out.split())
    assert f"of those that have finished; run {later.id[:8]} began later and stopped short: `convoy show" in said


def test_pages_of_servers_are_named(project, capsys, monkeypatch):
    record = made_record(run_id(1))
    runs.write(record)
    monkeypatch.setenv("PREFECT_API_URL", "http://team:4200/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@team:5000")
    show("1", as_json=False, patch=False, params=False)
    words = "".join(capsys.readouterr().out.split())
    assert f"http://team:4200/runs/flow-run/{record.flow_run}" in words
    assert "secret" not in words


def test_hostile_words_stay_words(project, capsys):
    record = made_record(
        run_id(1),
        model=f"m{HOSTILE}",
        code__branch=HOSTILE,
        code__left_out=[HOSTILE],
        params__train={HOSTILE: HOSTILE},
        data__classes=[HOSTILE, "light"],
        data__origin={"name": "folder", "path": HOSTILE},
        environment__processor=HOSTILE,
        version__location=HOSTILE,
        verdict__reasons=[HOSTILE],
        tags={"dvc.experiment": HOSTILE, "trigger": HOSTILE},
    )
    runs.write(record)
    show("0001", as_json=False, patch=False, params=False)
    page = capsys.readouterr().out
    assert "".join(page.split()).count(ESCAPED) >= 11
    listing.show(Filter(), 0, as_json=False)
    listed = capsys.readouterr().out
    assert "[red]" in listed
    assert all(one.isprintable() or one == "\n" for one in page + listed)


@pytest.fixture
def several(project: Path) -> None:
    """Three finished runs, one that stopped, of which the second is champion."""
    low = {"images": 29, "units": 29, "accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}
    first = made_record(run_id(1), version__digest="3" * 64, scores=low)
    second = made_record(
        run_id(2),
        started=START + MINUTE,
        version__version="2",
        params__train={"epochs": 5, "lr": 1e-5},
        code__patch=PATCH,
    )
    found_again = made_record(run_id(3), started=START + 2 * MINUTE, version__version="2", verdict__outcome="hold")
    for record in (first, second, found_again):
        runs.write(record)
    promoted(second)
    stopped(run_id(4), "No room to write")


def listed(capsys: pytest.CaptureFixture[str], limit: int = 0, **wanted: Any) -> list[str]:
    listing.show(Filter(**wanted), limit, as_json=True)
    return [run["id"][:4] for run in json.loads(capsys.readouterr().out)]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, ["0003", "0002", "0004", "0001"]),
        ({"state": "stopped"}, ["0004"]),
        ({"state": "finished", "verdict": "hold"}, ["0003"]),
        ({"params": ("train.epochs=5",)}, ["0002"]),
        ({"params": ("train.epochs=3.0", "model.name=lenet5")}, ["0003", "0001"]),
        ({"params": ("train.lr=1e-5",)}, ["0002"]),
        ({"params": ("train.epochs=true",)}, []),
        ({"model": "pets"}, []),
        ({"since": "1h"}, []),
        ({"since": "2026-01-01"}, ["0003", "0002", "0004", "0001"]),
    ],
)
def test_a_list_is_filtered(several, capsys, wanted, ids):
    assert listed(capsys, **wanted) == ids


def test_a_list_is_a_table(several, capsys):
    listing.show(Filter(), 3, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "began", "score", "version", "state"]
    assert "0.9000 (0.800 to 1)" in lines[1] and "hold" in lines[1]
    assert "champion" not in lines[1]  # it only found the champion's files again
    assert "champion, dirty" in lines[2]
    assert "stopped" in lines[3] and "No room to write" in lines[3]
    assert lines[3].index("stopped: No room") == lines[0].index("score")  # it takes the room of what it has not
    assert lines[0].index("version") + len("version") == lines[1].index("2  hold") + 1  # numbers end below each other
    assert lines[4] == "1 older ones; --limit 0 shows all."
    assert max(map(len, lines)) <= 80


def test_filters_that_mean_nothing_are_refused(several):
    for wanted, words in (
        ({"state": "stoped"}, "--state 'stoped': expected one of finished, working, stopped. Did you mean 'stopped'"),
        ({"verdict": "good"}, "--verdict 'good': expected one of promote, hold, reject."),
        ({"since": "tomorrow"}, "--since 'tomorrow': expected a day as in 2026-11-01, or how long ago as in 7d"),
        ({"params": ("train.epoch=5",)}, "no run has a param 'train.epoch'. Did you mean 'train.epochs'"),
        ({"params": ("train.epochs",)}, "--param 'train.epochs': expected key=value"),
    ):
        with pytest.raises(UserError) as error:
            listing.show(Filter(**wanted), 0, as_json=False)
        assert words in str(error.value)


def test_a_record_that_came_without_its_glance_gets_one(project):
    record = made_record(run_id(1))
    write_json(attempts.folder(record.id) / "record.json", record.model_dump(mode="json"))
    (glance,) = glances.read_all()
    assert (glance.value, glance.params["train.epochs"], glance.state) == (0.9, 3, "finished")
    assert (attempts.folder(record.id) / "glance.json").exists()
    write_text(attempts.folder(run_id(2)) / "record.json", '{"id": 3}')
    write_text(attempts.folder(run_id(3)) / "record.json", "[]")
    assert glances.read_all() == [glance]


def test_two_thousand_runs_are_listed_in_a_moment(project, capsys):
    for number in range(2000):
        glances.write(made_record(run_id(number), started=START + number).model_dump(mode="json"))
    start = time.process_time()
    assert len(listed(capsys, limit=20)) == 20
    assert time.process_time() - start < 5
