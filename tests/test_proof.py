"""What a rebuilt run is compared with, by hand; and runs as DVC's experiments."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from small_project import commit, git

from pipeline.errors import UserError
from pipeline.registry import environment, experiment, proof
from pipeline.registry.proof import Change

LOCK = """
schema: '2.0'
stages:
  train:
    cmd: python -m pipeline train
    deps:
    - {path: out/dataset, md5: d1.dir, hash: md5}
    - {path: pipeline/train, md5: c1.dir, hash: md5}
    params:
      params.yaml:
        seed: 0
        model: {name: lenet5, width: 1.0}
    outs:
    - {path: out/model, md5: m1.dir, hash: md5}
"""


def stage(text: str = LOCK) -> dict:
    return proof.entries(text)["train"]


def test_the_same_entry_is_identical() -> None:
    found = proof.compare_stage("train", stage(), stage())
    assert (found.outcome, found.differing, found.causes) == ("identical", [], [])
    assert found.written == {"out/model": "m1.dir"}


def test_another_output_is_different_and_names_what_was_read_otherwise() -> None:
    other = LOCK.replace("m1", "m2").replace("c1", "c2").replace("width: 1.0", "width: 2.0").replace("seed: 0", "lr: 1")
    found = proof.compare_stage("train", stage(), stage(other))
    assert found.outcome == "different"
    assert found.differing == [Change(what="out/model", before="m1.dir", after="m2.dir")]
    assert [(change.what, change.before, change.after) for change in found.causes] == [
        ("pipeline/train", "c1.dir", "c2.dir"),
        ("lr", "", "1"),
        ("model.width", "1.0", "2.0"),
        ("seed", "0", ""),
    ]


def test_other_code_with_the_same_output_is_identical_and_still_named() -> None:
    found = proof.compare_stage("train", stage(), stage(LOCK.replace("c1", "c2")))
    assert found.outcome == "identical"
    assert [change.what for change in found.causes] == ["pipeline/train"]


@pytest.mark.parametrize("text", ["", "stages", "a: [", "stages: 3\nstage: 2: 1"])
def test_a_lock_that_cannot_be_read_is_said(text: str) -> None:
    with pytest.raises(UserError, match="recorded dvc.lock cannot be read"):
        proof.entries(text)


def test_environments_differ_by_package_and_threads() -> None:
    now = environment.current({"device": "cpu", "threads": 2, "best_epoch": 3})
    assert now.packages["torch"] == version("torch")
    assert now.training == {"device": "cpu", "threads": 2}
    assert proof.compare_environments(now, now) == []
    packages = {**now.packages, "torch": "0.1", "added": "1"}
    packages.pop("numpy")
    then = now.model_copy(update={"packages": packages, "training": {"device": "cpu", "threads": 1}})
    assert [(c.what, c.before, c.after) for c in proof.compare_environments(then, now)] == [
        ("package added", "1", ""),
        ("package numpy", "", version("numpy")),
        ("package torch", "0.1", version("torch")),
        ("training threads", "1", "2"),
    ]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / ".gitignore").write_text("out/\ndvc.lock\n")
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    commit(tmp_path, "one")
    return tmp_path


def test_an_experiment_is_one_commit_that_touches_neither_index_nor_files(repository: Path) -> None:
    (repository / "params.yaml").write_text("seed: 1\n")
    (repository / "dvc.lock").write_text("lock\n")  # ignored, and yet what an experiment is about
    (repository / "new.py").write_text("new\n")
    (repository / "out").mkdir()
    (repository / "out/large").write_text("x")
    before = git(repository, "status", "--porcelain")
    name = experiment.save("my.model", "0123456789abcdef", "2026-11-22", repository)
    assert name == "my-model-2026-11-22-01234567"
    base = git(repository, "rev-parse", "HEAD")
    ref = f"refs/exps/{base[:2]}/{base[2:]}/{name}"
    assert git(repository, "rev-parse", f"{ref}^") == base
    assert git(repository, "diff", "--name-status", base, ref).splitlines() == [
        "A\tdvc.lock",
        "A\tnew.py",
        "M\tparams.yaml",
    ]
    assert git(repository, "log", "-1", "--format=%an %ae", ref) == "Convoy convoy@localhost"
    assert git(repository, "status", "--porcelain") == before
    assert experiment.save("my.model", "0123456789abcdef", "2026-11-22", repository) == name
    assert len(git(repository, "for-each-ref", "refs/exps").splitlines()) == 1


def test_no_experiment_where_nothing_is_to_be_kept(repository: Path) -> None:
    with pytest.raises(UserError, match="cannot be kept as a DVC experiment: git add: .*dvc.lock"):
        experiment.save("m", "0123456789", "2026-11-22", repository)
