"""What git knows: the data that its branches, tags, stashes, experiments and working trees name, and refs of our own.

refs/exps/COMMIT/NAME     a DVC experiment; one that a run left goes with the run, any other keeps its data
refs/convoy/runs/ID       the commit of a needed run that is on no branch and under no tag any more
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from flows.housekeeping.group import Group
from pipeline.errors import UserError
from pipeline.registry.needed import named

EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38,62}/.+-\d{4}-\d{2}-\d{2}-([0-9a-f]{8})")
"""Of a run; see `pipeline.registry.experiment`."""
PINS = "refs/convoy/runs/"
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
ATTRIBUTES = {"worktree", "HEAD", "branch", "bare", "detached", "locked", "prunable"}
"""What git says of a working tree, line by line."""
SKIPPED = {".git", ".dvc", ".convoy", ".venv", "__pycache__", "node_modules"}
TEMPORARY = Path(".dvc/tmp/exps")
"""Where `dvc exp run --temp` has its working trees."""


def md5s(root: Path, freed: Collection[str], closed: Collection[Path]) -> set[str]:
    """Every md5 that git's tips and the working trees name in a `dvc.lock` or a `.dvc` file.

    Args:
        root: the project, in git.
        freed: ids of the runs whose experiments go.
        closed: worktrees that go.

    Raises:
        UserError: git cannot read a commit: then nobody knows what it names.
    """
    trees, heads = _trees(root)
    tips = {*heads, *(tip for ref, tip in refs(root).items() if of_run(ref, freed) is None), *_stashed(root)}
    blobs = {blob for tip in tips for blob in _describing(root, tip)}
    places = {root, *trees} - {place.absolute() for place in closed}
    return {md5 for text in _texts(root, blobs) for md5 in named(text)} | {
        md5 for place in places for md5 in working_tree(place)
    }


def working_tree(root: Path) -> set[str]:
    """Every md5 that the files of a tree name as they lie there."""
    found: set[str] = set()
    for top in (root, root / TEMPORARY):
        for folder, folders, files in os.walk(top):
            folders[:] = [name for name in folders if name not in SKIPPED or (top != root and name != ".git")]
            for path in (Path(folder, name) for name in files if _describes(name)):
                try:
                    found |= named(path.read_text(encoding="utf-8", errors="replace"))
                except FileNotFoundError:  # a link that leads nowhere
                    continue
                except OSError as error:
                    raise UserError(
                        f"{path} cannot be read ({error.strerror}), so nobody knows what it needs."
                    ) from None
    return found


def refs(root: Path) -> dict[str, str]:
    """Every ref that leads to files, and its tip."""
    form = "--format=%(refname)%00%(objectname)%00%(objecttype)%00%(*objecttype)"
    lines = (line.split("\0") for line in _git(root, "for-each-ref", form).splitlines())
    return {ref: tip for ref, tip, kind, leads_to in lines if (leads_to or kind) in ("commit", "tree")}


def of_run(ref: str, runs: Collection[str]) -> str | None:
    """The one of these runs that a ref of ours belongs to."""
    if ref.startswith(PINS):
        return ref.removeprefix(PINS) if ref.removeprefix(PINS) in runs else None
    found = EXPERIMENT.fullmatch(ref)
    return next((run for run in runs if found and run.startswith(found[1])), None)


def group(root: Path, freed: Collection[str]) -> Group:
    """The experiments, and pins, of runs that go."""
    gone = {ref: tip for ref, tip in refs(root).items() if of_run(ref, freed)}

    def free() -> None:
        there = refs(root)
        orders = "".join(f"delete {ref}\0{tip}\0" for ref, tip in gone.items() if there.get(ref) == tip)
        _git(root, "update-ref", "-z", "--stdin", given=orders)

    return Group("DVC experiments", "of runs that go", [ref.rpartition("/")[2] for ref in gone], 0, free)


def unreachable(root: Path, commits: dict[str, str]) -> dict[str, str]:
    """Those of the runs (id and commit) whose commit git still has, on no branch, under no tag, and not pinned."""
    wanted = {run: commit for run, commit in commits.items() if COMMIT.fullmatch(commit)}
    there = _git(root, "cat-file", "--batch-check", given="".join(f"{commit}\n" for commit in wanted.values()))
    known = {line.split()[0] for line in there.splitlines() if line.split()[1] == "commit"}
    pinned = {ref.removeprefix(PINS) for ref in refs(root) if ref.startswith(PINS)}
    kept = [tip for ref, tip in refs(root).items() if ref.startswith(("refs/heads/", "refs/tags/", "refs/remotes/"))]
    asked = "".join(f"{commit}\n" for commit in [*sorted(known), *(f"^{tip}" for tip in kept)])
    loose = set(_git(root, "rev-list", "--stdin", given=asked).split()) if known else set()
    return {run: commit for run, commit in wanted.items() if commit in loose and run not in pinned}


def pin(root: Path, commits: dict[str, str]) -> None:
    """Keep the commit of each run, whatever becomes of the branches."""
    orders = "".join(f"create {PINS}{run}\0{commit}\0" for run, commit in commits.items())
    _git(root, "update-ref", "-z", "--stdin", given=orders)


def _trees(root: Path) -> tuple[list[Path], list[str]]:
    """Every working tree of the repository, and what is checked out there."""
    # Without -z, which git has since 2.36 alone; what a path with a newline looks like then is no attribute.
    fields = [line.partition(" ") for line in _git(root, "worktree", "list", "--porcelain").split("\n") if line]
    if unknown := [name for name, _, _ in fields if name not in ATTRIBUTES]:
        raise UserError(f"git worktree list says {unknown[0]!r}, which nobody here understands. Nothing was freed.")
    heads = [value for name, _, value in fields if name == "HEAD" and value.strip("0")]
    return [Path(value) for name, _, value in fields if name == "worktree"], heads


def _stashed(root: Path) -> Iterator[str]:
    """Stashes below the first are in the log of its ref alone; DVC keeps experiments in a queue so, too."""
    for ref in refs(root):
        if ref.rpartition("/")[2] == "stash":
            yield from _git(root, "log", "--walk-reflogs", "--format=%H %P", ref, "--").split()


def _describing(root: Path, tip: str) -> Iterator[str]:
    """The ids of the files of a commit that name data."""
    for entry in _git(root, "ls-tree", "-r", "-z", "--full-tree", tip).split("\0"):
        facts, _, path = entry.partition("\t")
        if _describes(path.rpartition("/")[2]) and " blob " in facts:
            yield facts.split()[2]


def _describes(name: str) -> bool:
    return name == "dvc.lock" or name.endswith(".dvc")


def _texts(root: Path, blobs: Iterable[str]) -> Iterator[str]:
    """Headers and all, in one process: what git says around a file holds no md5."""
    yield _git(root, "cat-file", "--batch", given="".join(f"{blob}\n" for blob in sorted(blobs)))


def _git(root: Path, *arguments: str, given: str = "") -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env={**os.environ, "GIT_NO_LAZY_FETCH": "1"},
            input=given.encode("utf-8", "surrogateescape"),
            capture_output=True,
            check=True,
        )
    except FileNotFoundError:
        raise UserError("git is not installed; without it nobody knows what the branches need.") from None
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(
            f"git {arguments[0]}: {words[-1] if words else f'status {error.returncode}'}. Nobody knows what is needed "
            "until git can tell; `git fsck` looks for what is broken."
        ) from error
    return done.stdout.decode("utf-8", "surrogateescape")
