"""Two real runs of a small project, compared: code, params, pictures, scores; found from MLflow and from the remote."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import databases
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_flow import EPOCHS, convoy, make_project
from test_runs import ESCAPED, HOSTILE, made_record, run_id

from flows.records import compare, finding, outputs
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.registry import code_difference, difference, runs

pytestmark = pytest.mark.slow
DARK = "[red]dark"
"""A class name that a terminal library would read as markup."""
SOURCE = "data:\n  name: digits "


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=root, check=True)


def make_pictures(folder: Path) -> None:
    """Noise, dark or light; every seventh looks like the other class."""
    random = np.random.default_rng(0)
    for name, dark in ((DARK, True), ("light", False)):
        (folder / name).mkdir(parents=True)
        for number in range(60):
            base = 0 if dark ^ (number % 7 == 3) else 120
            pixels = random.integers(0, 110, (16, 16)) + base
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:02}.png")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A project with two runs, both pushed: another seed, other pictures, a line of code that is not committed."""
    home = tmp_path_factory.mktemp("compare")
    project = make_project(home / "project")
    databases.give(project)
    make_pictures(project / "pictures")
    text = (project / "params.yaml").read_text()
    assert SOURCE in text
    (project / "params.yaml").write_text(text.replace(SOURCE, "data:\n  path: pictures\n  name: folder "))
    with (project / ".gitignore").open("a") as file:
        file.write("pictures\n")
    with (project / ".dvc" / "config").open("a") as file:
        file.write(f"    remote = storage\n['remote \"storage\"']\n    url = {home / 'storage'}\n")
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "first")
    convoy(project, "run", "--push")
    predictions = [pq.read_table(project / "out/evaluation/predictions.parquet")]
    samples = Dataset.open(project / "out/dataset").samples.to_pylist()
    (project / "pictures/light/05.png").unlink()
    Image.new("L", (16, 16), 77).save(project / "pictures/light/new.png")
    tested = next(row["source"] for row in samples if row["split"] == "test" and row["source"].startswith("light"))
    (project / "pictures" / tested).rename(project / "pictures" / DARK / "moved.png")
    with (project / "flows/__init__.py").open("a") as file:
        file.write("# another line\n")
    convoy(project, "run", "--push", "--set", "seed=1", "--set", "train.epochs=4")
    predictions.append(pq.read_table(project / "out/evaluation/predictions.parquet"))
    return SimpleNamespace(home=home, project=project, predictions=predictions)


@pytest.fixture
def here(two: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The two runs, with the test standing in their project."""
    monkeypatch.chdir(two.project)
    monkeypatch.setenv("COLUMNS", "80")
    return two


def compared(capsys: pytest.CaptureFixture[str], *names: str) -> dict:
    compare.show(*names, as_json=True)
    return json.loads(capsys.readouterr().out)


def test_all_that_was_planted_is_found(here, capsys):
    found = compared(capsys, "digits/1", "latest")
    assert not found["identical"]
    assert {change["what"]: (change["before"], change["after"]) for change in found["params"]} == {
        "seed": ("0", "1"),
        "train.epochs": (str(EPOCHS), "4"),
    }
    assert not found["code"]["same"]
    assert found["code"]["before"] == found["code"]["after"] == runs.read_all()[0].code.commit
    stat = found["code"]["stat"].splitlines()
    assert stat[0].split() == ["flows/__init__.py", "|", "1", "+"]  # params.yaml is compared apart
    assert len(stat) == 2
    assert found["environment"] == []
    images = found["data"]["images"]
    assert [image["source"] for image in images["came"]] == ["light/new.png"]
    assert [image["source"] for image in images["went"]] == ["light/05.png"]
    (relabelled,) = images["relabelled"]
    assert (relabelled["before"], relabelled["after"]) == ("light", DARK)
    assert relabelled["source"] == f"{DARK}/moved.png"


def test_the_paired_difference_by_hand(here, capsys):
    found = compared(capsys, "digits/1", "digits/2")
    answers = [{row["id"]: row for row in table.to_pylist()} for table in here.predictions]
    both = [one for one in answers[0] if one in answers[1] and answers[0][one]["actual"] == answers[1][one]["actual"]]
    before, after = (np.array([side[one]["answer"] == side[one]["actual"] for one in both]) for side in answers)
    paired = found["paired"]
    assert paired["images"] == len(both)
    assert paired["champion"] == pytest.approx(before.mean())
    assert paired["challenger"] == pytest.approx(after.mean())
    assert paired["difference"] == pytest.approx(after.mean() - before.mean())
    assert (paired["fixed"], paired["broken"]) == ((after & ~before).sum(), (before & ~after).sum())
    assert paired["low"] <= paired["difference"] <= paired["high"]
    turned = compared(capsys, "digits/2", "digits/1")["paired"]
    assert (turned["fixed"], turned["broken"]) == (paired["broken"], paired["fixed"])
    assert turned["difference"] == pytest.approx(-paired["difference"])
    passed_over = len(answers[0].keys() & answers[1].keys()) - len(both)
    assert passed_over == 1  # the one that moved
    assert found["note"] == "Test pictures that are annotated otherwise are passed over: 1."


def test_the_words_fit_a_terminal(here):
    words = convoy(here.project, "compare", "champion", "latest")
    assert "pictures: 1 new, 1 gone, 1 with another label, 0 in another split" in words
    assert f"{DARK}/moved.png (light -> {DARK})" in words
    assert "flows/__init__.py | 1 +" in words
    assert "Paired difference" in words
    assert "The same run twice." in convoy(here.project, "compare", "1", "digits/1")
    assert max(map(len, words.splitlines())) <= 80
    page = convoy(here.project, "show", "latest")
    assert f"2 classes: {DARK}, light" in page
    assert "and a patch: 2 files" in page or "and a patch: 3 files" in page


def test_a_run_that_is_recorded_in_mlflow_alone(here, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    record = runs.read_all()[0]
    kept = here.project / ".convoy" / "runs"
    aside = here.home / "runs"
    kept.rename(aside)
    try:
        for name in (record.mlflow_run, record.id[:8], record.flow_run, "digits/1"):
            assert finding.find(name) == record, name
        with pytest.raises(UserError, match="No run 'nothing': none is recorded here"):
            finding.find("nothing")
    finally:
        shutil.rmtree(kept, ignore_errors=True)
        aside.rename(kept)


def test_a_fresh_clone_asks_the_remote(here, tmp_path, monkeypatch, capsys):
    first, second = runs.read_all()
    git(tmp_path, "clone", "-q", str(here.project), "clone")
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert finding.find("champion") == first
    assert finding.find(second.id[:6]) == second
    assert finding.find(f"digits-2026-11-22-{second.id[:8]}") == second
    with pytest.raises(UserError, match="No run 'ffffffff': none is recorded here"):
        finding.find("ffffffff")
    found = compared(capsys, first.id, second.id)
    assert [image["source"] for image in found["data"]["images"]["came"]] == ["light/new.png"]
    assert found["paired"]["images"] > 20
    assert not (tmp_path / "clone/.dvc/cache").exists()  # looking leaves nothing behind


def test_what_is_nowhere_is_said(here, tmp_path, monkeypatch):
    first, second = runs.read_all()
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    monkeypatch.chdir(tmp_path)
    found = compare.difference_of(first, second)
    assert found.paired is None
    assert f"out/evaluation/predictions.parquet of run {first.id[:8]} is not in DVC's cache, and no DVC" in found.note
    assert "The pictures cannot be compared: out/dataset/samples.parquet of run" in found.data.note
    assert f"Commit {first.code.commit[:12]} of the first run is not here" in found.code.note
    assert "The package `pipeline` is the same, by its digest." in found.code.note


def test_a_damaged_cache_is_not_believed(here, tmp_path, monkeypatch):
    first = runs.read_all()[0]
    shutil.copytree(here.project / ".dvc/cache", tmp_path / ".dvc/cache")
    (tmp_path / ".dvc/config").touch()
    monkeypatch.chdir(tmp_path)
    whole = outputs.read(first, compare.SAMPLES)
    assert len(whole) > 1000
    for path in (tmp_path / ".dvc/cache/files").rglob("*"):
        if path.is_file() and path.read_bytes() == whole:
            path.chmod(0o644)
            path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match="not in DVC's cache"):
        outputs.read(first, compare.SAMPLES)


def test_equal_runs_are_identical(here, capsys):
    first = runs.read_all()[0]
    twin = first.model_copy(update={"id": run_id(9), "started": 1})
    runs.write(twin)
    try:
        assert compared(capsys, first.id, twin.id)["identical"]
        compare.show(first.id, twin.id, as_json=False)
        assert "Identical: code, params, data, environment, and the model" in capsys.readouterr().out
    finally:
        shutil.rmtree(here.project / ".convoy/runs" / twin.id)
    other = first.environment.model_copy(update={"packages": {"torch": "1.0"}, "cores": 64})
    changed = compare.difference_of(first, first.model_copy(update={"environment": other}))
    assert not changed.identical
    what = {change.what: (change.before, change.after) for change in changed.environment}
    assert what["cores"] == (str(first.environment.cores), "64")
    assert what["package torch"] == (first.environment.packages["torch"], "1.0")


def test_other_classes_are_not_compared():
    first = made_record(run_id(1))
    second = made_record(run_id(2), data__classes=["dark", HOSTILE])
    found, note = difference.paired(b"", b"", first, second)
    assert found is None
    assert "other classes" in note
    data = difference.data(first, second)
    assert (data.classes_came, data.classes_went) == ([HOSTILE], ["light"])


def test_tables_that_are_none_are_said():
    with pytest.raises(UserError, match="A table of the runs cannot be read"):
        difference.images(b"no parquet", b"", [], [])


def test_hostile_words_stay_words(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").touch()
    runs.write(made_record(run_id(1)))
    changes = {"params__train": {HOSTILE: HOSTILE}, "data__classes": [HOSTILE], "data__digest": HOSTILE}
    environment = {"environment__processor": HOSTILE, "environment__packages": {HOSTILE: HOSTILE}}
    runs.write(made_record(run_id(2), **changes, **environment, code__left_out=[HOSTILE], code__patch=HOSTILE))
    compare.show("0001", "0002", as_json=False)
    words = capsys.readouterr().out
    assert "".join(words.split()).count(ESCAPED) >= 6
    assert all(one.isprintable() or one == "\n" for one in words)


def test_a_patch_leaves_nothing_in_the_repository(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/x.py").write_text("old\n")
    (tmp_path / "inner/params.yaml").write_text("seed: 0\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "x")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True).stdout.strip()
    (tmp_path / "inner/x.py").write_text("new\nnewer\n")
    (tmp_path / "inner/params.yaml").write_text("seed: 1\n")
    patch = subprocess.run(["git", "diff"], cwd=tmp_path, capture_output=True, text=True).stdout
    git(tmp_path, "checkout", "-q", ".")
    stored = sorted((tmp_path / ".git").rglob("*"))
    before = made_record(run_id(1), code__commit=commit).code
    after = made_record(run_id(2), code__commit=commit, code__patch=patch).code
    found = code_difference.compare(before, after, tmp_path / "inner")
    assert found.stat.splitlines()[0].split() == ["inner/x.py", "|", "3", "++-"]
    assert "1 file changed, 2 insertions(+), 1 deletion(-)" in found.stat
    assert sorted((tmp_path / ".git").rglob("*")) == stored
    broken = after.model_copy(update={"patch": "diff --git a/x b/x\n"})
    assert "The two states cannot be compared: git apply" in code_difference.compare(before, broken, tmp_path).note
