"""Why a run stopped short, and whether the same params may simply go on: in a terminal as on the page."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import page_project
import pytest
import torch
from dvc.stage.exceptions import StageCmdFailedError

from flows.recording import Recording
from flows.records import show
from flows.stage import _explained
from pipeline import __main__ as stages
from pipeline.errors import UserError
from pipeline.interrupts import Interrupted
from pipeline.registry import attempts
from pipeline.registry.attempts import Attempt
from pipeline.registry.endings import next_said
from pipeline.room import explained
from pipeline.sources.remote import insisting
from pipeline.sources.store import Passing
from pipeline.train import environment, shortage
from pipeline.train.environment import way


def disk_full() -> None:
    raise explained(OSError(errno.ENOSPC, "No space left on device"), Path("out/model/weights.safetensors"), 1000)


def disk_full_in_a_library() -> None:
    raise RuntimeError("the writer failed") from OSError(errno.ENOSPC, "No space left on device")


def source_away() -> None:
    with insisting("s3://bucket/pets"):
        raise Passing("the server says 503")


def host_short_of_memory() -> None:
    with shortage.enough_for("what a training begins with", "Take a smaller model."):
        raise MemoryError


def limit_on_memory() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shortage.resource, "getrlimit", lambda _: (4e9, 4e9))
        host_short_of_memory()


def gpu_too_small() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shortage, "room", lambda _: "the 8 GiB of a GPU")
        with shortage.enough_for("what a training begins with", "Take a smaller model."):
            raise torch.OutOfMemoryError("CUDA out of memory")


def diverged() -> None:
    raise UserError("train: diverged in epoch 2, step 1 of 18.\nLower optimizer.lr.")


def begun_elsewhere() -> None:
    way("epoch 2, step 0 of 3", {"threads": "2 then, 1 now"}, finished=False)


def interrupted() -> None:
    raise Interrupted("train: stopped; the next run goes on from the last checkpoint.")


def defect() -> None:
    raise ZeroDivisionError


KINDS: list[tuple[Callable[[], None], bool, str]] = [
    (disk_full, False, "No room to write out/model/weights.safetensors: it needs 1,000 bytes"),
    (disk_full_in_a_library, False, "train: cannot write: No space left on device. Make room, then run again"),
    (source_away, False, "data.path: s3://bucket/pets cannot be reached: the server says 503."),
    (host_short_of_memory, False, "train: what a training begins with does not fit into memory."),
    (limit_on_memory, True, "does not fit into the 4.0 GB that are allowed (ulimit -v)"),
    (gpu_too_small, True, "does not fit into the 8 GiB of a GPU"),
    (diverged, True, "train: diverged in epoch 2, step 1 of 18."),
    (begun_elsewhere, True, "threads: 2 then, 1 now"),
    (interrupted, False, "train: stopped. `convoy run` goes on."),
    (defect, False, "train: its process ended with status 70."),
]


def stopped_by(work: Callable[[], None], monkeypatch: pytest.MonkeyPatch, folder: Path) -> Exception:
    """What a flow makes of a stage that does this."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv(environment.RESUME, raising=False)
    monkeypatch.setattr(stages.interrupts, "listen", lambda: None)
    monkeypatch.setitem(stages.STAGES, "train", work)
    words = folder / "words"
    monkeypatch.setenv(stages.LAST_WORDS, str(words))
    status = stages.main(["train"])
    said = words.read_text() if words.exists() else ""
    return _explained("train", StageCmdFailedError("python -m pipeline train", status), said)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], dict[str, Any]]:
    """What is kept of a run that ends with an error."""

    def note(error: Exception) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        recording = object.__new__(Recording)
        recording._opening = None
        recording._work = SimpleNamespace(  # type: ignore[assignment]
            stopped=lambda words, told, mistake: kept.update(error=words, mistake=mistake)
        )
        monkeypatch.setattr(recording, "_training_found", lambda: False)
        recording._interrupt(error)
        return kept

    return note


@pytest.mark.parametrize(("work", "mistake", "words"), KINDS, ids=[work.__name__ for work, *_ in KINDS])
def test_an_ending_is_a_mistake_if_the_same_params_cannot_simply_go_on(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    noted: Callable[[Exception], dict[str, Any]],
    work: Callable[[], None],
    mistake: bool,
    words: str,
) -> None:
    error = stopped_by(work, monkeypatch, tmp_path)
    kept = noted(error)
    assert (kept["mistake"], words in kept["error"]) == (mistake, True), kept
    assert isinstance(error, UserError)
    assert error.status == {disk_full: 69, diverged: 1, interrupted: 130}.get(work, error.status)


@pytest.mark.parametrize("mistake", [False, True])
def test_terminal_and_page_say_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: bool
) -> None:
    project = page_project.make(tmp_path / "project", 6)
    monkeypatch.chdir(project.root)
    path = project.root / f".convoy/runs/{project.stopped[0]}/attempt.json"
    kept = json.loads(path.read_text()) | {"error": "train: see `out`.", "mistake": mistake}
    path.write_text(json.dumps(kept))
    attempt = attempts.read(project.stopped[0])
    assert attempt
    what = next_said(attempt)
    assert ("would stop at the same place" in what, attempt.id[:8] in what) == (mistake, not mistake)
    show.show(attempt.id, False, False, False)
    assert " ".join(f"next {what}".split()) in " ".join(capsys.readouterr().out.split())
    with page_project.serve(project.root) as url:
        html = httpx.get(f"{url}/runs/{attempt.id}", timeout=120).text
    text = " ".join(re.sub("<[^>]*>", "", html).split())
    assert " ".join(what.replace("`", "").split()) in text
    assert "<code>out</code>" in html
    assert (f"/runs/{attempt.id}/rerun" in html) is not mistake


def test_a_training_that_is_not_kept_any_more_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    attempt = Attempt(id="1a2b3c4d" * 4, key="k", model="m", started=0, training="there")
    assert next_said(attempt).endswith("What it had learnt is not kept any more, so training begins anew.")
    (tmp_path / ".convoy/train/there").mkdir(parents=True)
    assert next_said(attempt) == (
        "Nothing has to be changed: `convoy rerun 1a2b3c4d` goes on with its own code and params, `convoy run` if "
        "these and the data are the same."
    )
