"""Housekeeping: what is needed, by hand; git, DVC's cache and turns for real; two real runs, one of which goes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_project import command, commit, convoy, environment, git, make, make_pictures

from flows.housekeeping import cache, group, marks, references, turns
from flows.housekeeping.show import human
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.registry import attempts, needed
from pipeline.registry.glances import Glance
from pipeline.registry.needed import DAY, Facts, Registered

NOW = 1_800_000_000.0
A, B, C, D = ("a" * 32, "b" * 32, "c" * 32, "d" * 32)


def run(name: str, ended: int = 0, **more: Any) -> Glance:
    state = "finished" if ended else "stopped"
    return Glance(**{"id": name, "model": "digits", "state": state, "started": 0, "ended": ended, **more})


def facts(**more: Any) -> Facts:
    nothing: dict[str, Any] = {"registered": (), "ledger": frozenset(), "kept": frozenset(), "touched": {}}
    return Facts(**{**nothing, "elsewhere": frozenset(), "newest": 0, "now": NOW, **more})


def test_a_run_is_needed_for_each_reason_alone_and_otherwise_not() -> None:
    runs = [
        run("registered by run", 1, mlflow_run="m1", digest="other"),
        run("registered by digest", 2, mlflow_run="m2", digest="d2"),
        run("was champion", 3, mlflow_run="m3", digest="d3"),
        run("kept", 4, mlflow_run="m4", digest="d4"),
        run("elsewhere", 5, mlflow_run="m5", digest="d5"),
        run("free", 6, mlflow_run="m6", digest="d6"),
        run("free without digest", 7),
        run("works", state="working"),
        run("stopped today"),
        run("stopped long ago"),
    ]
    found = needed.reasons(
        runs,
        facts(
            registered=[Registered("m1", "", ""), Registered("", "", "d2")],
            ledger=frozenset({"d3"}),
            kept=frozenset({"kept"}),
            elsewhere=frozenset({"elsewhere"}),
            touched={"stopped today": NOW - 6.9 * DAY, "stopped long ago": NOW - 7.1 * DAY},
        ),
    )
    assert found == {
        "registered by run": needed.REGISTERED,
        "registered by digest": needed.REGISTERED,
        "was champion": needed.IN_LEDGER,
        "kept": needed.KEPT,
        "elsewhere": needed.ELSEWHERE,
        "works": needed.WORKING,
        "stopped today": needed.MAY_GO_ON,
    }


def test_the_newest_finished_runs_of_each_model_stay_by_when_they_ended() -> None:
    runs = [run("old", 10), run("new", 40), run("middle", 20), run("other", 1, model="pets"), run("stopped")]
    touched = {"stopped": 0.0}
    assert set(needed.reasons(runs, facts(newest=2, touched=touched))) == {"new", "middle", "other"}
    assert set(needed.reasons(runs, facts(newest=0, touched=touched))) == set()


def test_an_md5_is_found_in_a_lock_that_is_no_yaml_any_more() -> None:
    lock = f"<<<<<<< mine\n    md5: {A}.dir\n=======\n  - {{md5: '{B}'}}\n>>>>>>> theirs\n\"{C}\\n\""
    assert needed.named(lock) == {f"{A}.dir", B, C}
    assert needed.named(f"{'e' * 40} {'f' * 64} x{A} {B}0 {'1' * 31}") == set()


def test_a_logged_model_is_needed_by_its_version_its_digest_or_its_run() -> None:
    known = [("m-1", ""), ("m-2", "d2"), ("m-3", "d3"), ("m-4", "d4"), ("m-5", "d5"), ("m-6", "")]
    given = facts(registered=[Registered("r", "m-1", ""), Registered("r", "m-9", "d2")], ledger=frozenset({"d3"}))
    assert needed.models(known, [run("x", 1, digest="d4"), run("y", 1)], given) == {"m-1", "m-2", "m-3", "m-4"}


def test_checkpoints_stay_while_a_run_may_go_back_to_them() -> None:
    done = run("done", ended=2_000, started=1_000)
    open_ = run("open", started=5_000)
    assert not needed.training(1.5, [done], ["done"], now=3.0)
    assert needed.training(2.5, [done], ["done"], now=3.0)  # by `dvc repro`, say
    assert not needed.training(2.5, [done], ["done"], now=2.6 + 7 * DAY)
    assert needed.training(6.0, [done, open_], ["open"], now=7 * DAY + 9)
    assert not needed.training(6.0, [done, open_], [], now=7 * DAY + 9)
    assert not needed.training(1.5, [done, open_], ["open"], now=7.0)


def test_sizes_read_like_those_of_people() -> None:
    assert [human(count) for count in (0, 999, 1_000, 99_940, 99_960, 999_600, 1_234_567, 5 * 10**15)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "99.9 kB",
        "100 kB",
        "1.0 MB",
        "1.2 MB",
        "5000 TB",
    ]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with one commit."""
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    (root / "readme").write_text("x\n")
    commit(root, "first")
    monkeypatch.chdir(root)
    return root


def lock(root: Path, md5: str, name: str = "dvc.lock") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(f"md5: {md5}\n")


def test_a_working_tree_whose_path_nobody_understands_keeps_everything(repository: Path) -> None:
    git(repository, "worktree", "add", "-q", "--detach", str(repository.parent / "two\nlines"))
    with pytest.raises(UserError, match=r"^git worktree list says 'lines', which nobody here understands\."):
        references.md5s(repository, (), ())


def test_everything_that_git_can_bring_back_names_its_data(repository: Path) -> None:
    marks = [f"{number:032x}" for number in range(1, 10)]
    branch, tag, remote, stash, older, untracked, experiment, here, tree = marks
    for md5, refname in ((branch, "refs/heads/other"), (tag, "refs/tags/v1"), (remote, "refs/remotes/o/main")):
        lock(repository, md5, "deep/er/data.dvc")
        git(repository, "update-ref", refname, commit(repository, refname))
    foreign, ours = f"refs/exps/aa/{'b' * 38}/brave-puppy", f"refs/exps/aa/{'b' * 38}/digits-2026-11-22-{A[:8]}"
    lock(repository, experiment)
    git(repository, "update-ref", foreign, commit(repository, "an experiment"))
    lock(repository, D)
    git(repository, "update-ref", ours, commit(repository, "ours"))
    git(repository, "reset", "-q", "--hard", "refs/tags/v1~1")
    git(repository, "tag", "-am", "annotated", "v2", "v1")
    git(repository, "tag", "of-a-file", "HEAD:readme")  # leads to no tree
    for md5 in (older, stash):
        lock(repository, md5)
        git(repository, "add", "dvc.lock")
        git(repository, "stash", "push", "-q")
    lock(repository, untracked, "new.dvc")
    git(repository, "stash", "push", "-q", "--include-untracked")
    lock(repository, here, "sub/dvc.lock")
    git(repository, "worktree", "add", "-q", "--detach", "../tree")
    lock(repository.parent / "tree", tree)
    assert references.md5s(repository, [A], []) == {*marks}
    assert references.md5s(repository, [], [repository.parent / "tree"]) == {*marks, D} - {tree}
    gone = references.group(repository, [A])
    assert list(gone.names) == [f"digits-2026-11-22-{A[:8]}"]
    gone.free()
    gone.free()
    assert ours not in references.refs(repository)
    assert foreign in references.refs(repository)


def test_a_commit_of_a_needed_run_outlives_its_branch(repository: Path) -> None:
    on_main = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "-q", "--detach")
    (repository / "readme").write_text("y\n")
    loose = commit(repository, "of a run")
    git(repository, "checkout", "-q", "main")
    commits = {A: loose, B: on_main, C: "0" * 40, D: "--all"}
    assert references.unreachable(repository, commits) == {A: loose}
    references.pin(repository, {A: loose})
    assert references.unreachable(repository, commits) == {}
    git(repository, "reflog", "expire", "--expire=now", "--all")
    git(repository, "gc", "-q", "--prune=now")
    assert git(repository, "cat-file", "-t", loose) == "commit"
    references.group(repository, [A]).free()
    assert references.refs(repository).keys() == {"refs/heads/main"}


def test_nothing_is_known_where_git_cannot_read_a_tip(repository: Path) -> None:
    [tree] = [
        repository / ".git/objects" / found[:2] / found[2:] for found in [git(repository, "rev-parse", "HEAD^{tree}")]
    ]
    tree.unlink()
    with pytest.raises(UserError, match="Nobody knows what is needed"):
        references.md5s(repository, [], [])


@pytest.fixture
def dvc(repository: Path) -> Iterator[Any]:
    from dvc.repo import Repo

    repo = Repo.init(str(repository))
    yield repo
    repo.close()


def put(repo: Any, md5: str, text: str) -> Path:
    path = Path(repo.cache.local.oid_to_path(md5))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o444)
    return path


def test_the_cache_keeps_files_of_needed_folders_and_frees_entries_before_objects(dvc: Any) -> None:
    folder, lost = f"{A}.dir", f"{B}.dir"
    put(dvc, folder, json.dumps([{"md5": C, "relpath": "x"}]))
    put(dvc, lost, json.dumps([{"md5": C, "relpath": "x"}, {"md5": D, "relpath": "y"}]))
    kept, gone = put(dvc, C, "c"), put(dvc, D, "d" * 1000)
    odd = gone.with_name(f"{gone.name}.tmp")  # what DVC is still writing
    odd.write_text("half")
    entries = [Path(dvc.stage_cache.cache_dir) / "ab" / "abcd" / name for name in ("good", "bad", "broken")]
    entries[0].parent.mkdir(parents=True)
    for entry, out in zip(entries, (folder, lost, ""), strict=True):
        entry.write_text(f"cmd: x\nouts: [{{path: out, md5: {out}}}]\n" if out else "cmd: [")
    later = time.time() + 1
    assert all(not one.names for one in cache.groups(dvc, {folder}, later - 3600))  # too young
    found = cache.groups(dvc, {folder}, later)
    assert [list(one.names) for one in found] == [["bad", "broken"], [lost[2:]], [D[2:]]]
    assert found[2].bytes == 1000
    for one in found:
        one.free()
        one.free()
    assert entries[0].exists()
    assert kept.exists()
    assert odd.exists()
    assert not gone.exists()
    assert not any(one.names for one in cache.groups(dvc, {folder}, later))


def test_a_cache_outside_the_project_is_not_ours(dvc: Any, repository: Path, tmp_path: Path) -> None:
    assert not cache.outside(dvc, repository)
    with dvc.config.edit() as config:
        config["cache"]["dir"] = str(tmp_path / "of-all")
    again = cache.opened(repository)
    assert again is not None
    assert cache.outside(again, repository)


def test_a_link_goes_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/picture").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert group.size(tmp_path / "data") == 5
    group.of_paths("links", "", [tmp_path / "link", tmp_path / "absent"]).free()
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "data/picture").exists()


def test_a_run_is_kept_until_the_mark_is_taken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    identity = "0123456789abcdef" * 2
    attempt = attempts.Attempt(id=identity, key="k", model="digits", started=1)
    write_json(attempts.folder(identity) / "attempt.json", attempt.model_dump())
    assert not marks.marked(identity)
    for _ in range(2):
        marks.keep(identity[:8], off=False)
        assert marks.marked(identity)
    for _ in range(2):
        marks.keep(identity[:8], off=True)
        assert not marks.marked(identity)


WORKS = "from flows.housekeeping.turns import run_at_work\nwith run_at_work():\n    print('works', flush=True); input()"


def test_runs_work_side_by_side_and_housekeeping_alone(dvc: Any, repository: Path) -> None:  # noqa: ARG001
    def begin() -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        home = {"PYTHONPATH": str(Path(__file__).parents[1])}
        return subprocess.Popen(
            [sys.executable, "-c", WORKS], cwd=repository, env=environment(**home), text=True, **pipes
        )

    both = [begin(), begin()]
    assert [one.stdout.readline() for one in both if one.stdout] == ["works\n", "works\n"]
    for one in both:
        with (
            pytest.raises(UserError, match=r"^Nothing was freed: a run is at work"),
            turns.alone_in_project(repository),
        ):
            pass
        one.kill()
        one.wait()
    with turns.alone_in_project(repository):
        waiting = begin()
        assert waiting.stdout
        assert "this run waits for it" in waiting.stdout.readline()
        with pytest.raises(UserError, match="another `convoy gc`"), turns.alone_in_project(repository):
            pass
    assert waiting.stdout.readline() == "works\n"
    waiting.communicate("\n")
    with dvc.lock, pytest.raises(UserError, match="a DVC command is at work"), turns.alone_in_project(repository):
        pass


def files(project: Path) -> dict[str, tuple[int, int]]:
    """Everything that housekeeping could touch; databases' logs and locks change when they are read."""
    homes = [project / name for name in (".convoy", ".dvc/cache", ".git/refs")]
    paths = [path for home in homes for path in home.rglob("*") if path.is_file() and path.suffix not in (".lock", "")]
    paths += [path for path in (project / ".dvc/cache").rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths if "prefect" not in path.name}


def outputs(lock_text: str, objects: Path) -> set[str]:
    """Every md5 that a lock's outputs are made of, by the book."""
    outs = [out["md5"] for stage in yaml.safe_load(lock_text)["stages"].values() for out in stage["outs"]]
    listings = [json.loads((objects / md5[:2] / md5[2:]).read_text()) for md5 in outs if md5.endswith(".dir")]
    return {*outs, *(file["md5"] for listing in listings for file in listing)}


DELETE = """
from pathlib import Path
from flows import settings
settings.apply(Path.cwd())
from pipeline.registry import tracking
tracking.connect().delete_model_version("shades", "2")
"""


@pytest.mark.slow
def test_a_deleted_version_goes_and_the_other_still_verifies(tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path / "pictures")
    project = make(tmp_path / "project", pictures)
    objects = project / ".dvc/cache/files/md5"
    convoy(project, "run")
    lock_text = (project / "dvc.lock").read_text()
    params_text = (project / "params.yaml").read_text()
    convoy(project, "run", "--set", "seed=7", "--set", "gate.promote=never")
    first, second = sorted((project / ".convoy/runs").iterdir(), key=lambda path: path.stat().st_ctime)
    mlflow_run = json.loads((second / "record.json").read_text())["mlflow_run"]
    both = {f"{path.parent.name}{path.name}" for path in objects.glob("*/*")}
    stay = outputs(lock_text, objects)
    assert outputs((project / "dvc.lock").read_text(), objects) | stay == both
    assert stay < both

    (project / "dvc.lock").write_text(lock_text)
    (project / "params.yaml").write_text(params_text)
    options = ("--newest", "0", "--grace", "0")
    command(project, "-c", DELETE)
    before = files(project)
    shown = convoy(project, "gc", *options)
    assert "`convoy gc --yes` frees it" in shown
    assert files(project) == before
    used = group.size(project / ".convoy/mlartifacts") + group.size(objects)
    plan = json.loads(convoy(project, "gc", *options, "--yes", "--json"))
    assert plan["freed"]
    assert plan["kept"] == {needed.REGISTERED: 1}
    assert {f"{path.parent.name}{path.name}" for path in objects.glob("*/*")} == stay
    assert [path.name for path in (project / ".convoy/runs").iterdir()] == [first.name]
    of = {one["what"]: one["bytes"] for one in plan["groups"]}
    freed = used - group.size(project / ".convoy/mlartifacts") - group.size(objects)
    cached = of["files in DVC's cache"] + of["folders in DVC's cache"]
    assert freed == cached + of["MLflow runs"] + of["logged models in MLflow"]
    assert not any(mlflow_run in path for path in files(project))
    assert len(list((project / ".convoy/mlartifacts/shades/models").iterdir())) == 1

    shutil.rmtree(project / "out")
    pictures.rename(tmp_path / "away")
    words = convoy(project, "verify", "shades/1")
    assert "The recorded data set was used." in words
    assert "identical." in words
    assert os.listdir(project / ".convoy/worktrees") == []
