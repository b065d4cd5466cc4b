"""A training taken up with other threads, libraries or device: told line by line, and refused unless allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from trained import change, copy, die, finish, folder, prepare, state, train

from flows.cli import main
from flows.isolated import Wish
from flows.schedule.request import Request
from pipeline.errors import UserError
from pipeline.failpoints import TrainingPoint
from pipeline.host import RESUME
from pipeline.train.environment import differences, environment, way
from pipeline.train.generations import CURRENT
from pipeline.train_options import ComputeOptions

PLACE = "epoch 2, step 5 of 18"


def test_what_the_bits_depend_on() -> None:
    here = environment(torch.device("cpu"), ComputeOptions(processes=2, sharded=True))
    assert here["device"] == "cpu"
    assert here["threads"] == str(torch.get_num_threads())
    assert (here["processes"], here["sharded"]) == ("2", "True")
    assert here["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"numpy", "opencv-python-headless", "albumentations", "processor", "processor's instructions"} <= here.keys()


def test_differences_by_hand() -> None:
    then = {"device": "cpu", "threads": "2", "timm": "1.0"}
    now = {"device": "cpu", "threads": "1", "torch": "2.15"}
    assert differences(then, now) == {
        "threads": "2 then, 1 now",
        "torch": "none then, 2.15 now",
        "timm": "1.0 then, none now",
    }
    assert differences(then, then) == {}


def test_it_is_refused_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RESUME, raising=False)
    with pytest.raises(UserError) as refused:
        way(
            PLACE,
            {"threads": "2 then, 1 now", "sharded": "True then, False now", "torch": "2.14 then, 2.15 now"},
            False,
        )
    assert str(refused.value).splitlines()[:3] == [
        f"train: {PLACE} was reached elsewhere, and from here on the weights would get other bits:",
        "  threads: 2 then, 1 now",
        "  torch: 2.14 then, 2.15 now",
    ]
    assert "`convoy run --resume anyway` goes on, `convoy run --resume anew` starts over" in str(refused.value)


@pytest.mark.parametrize(
    ("wanted", "differing", "finished", "expected", "words"),
    [
        ("", {}, False, "go on", ""),
        ("anew", {}, False, "go on", ""),  # the answer to a question that is not asked
        (
            "anyway",
            {"threads": "2 then, 1 now"},
            False,
            "go on",
            f"train: goes on, as told: {PLACE} was reached elsewhere (threads: 2 then, 1 now), and from here on the "
            "weights get other bits than they would have there\n",
        ),
        ("anew", {"threads": "2 then, 1 now"}, False, "start over", f"starts over, as told: {PLACE} was reached"),
        ("", {"threads": "2 then, 1 now"}, True, "start over", "(threads: 2 then, 1 now); here it is trained anew"),
        ("", {"processes": "2 then, 1 now", "threads": "1 then, 2 now"}, False, "go on", "2 now; that may change"),
    ],
)
def test_what_becomes_of_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wanted: str,
    differing: dict[str, str],
    finished: bool,
    expected: str,
    words: str,
) -> None:
    monkeypatch.setenv(RESUME, wanted)
    assert way(PLACE, differing, finished) == expected
    assert words in capsys.readouterr().out


def test_a_word_that_says_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RESUME, "yes")
    with pytest.raises(UserError, match="CONVOY_RESUME is 'yes'; it is `anyway`, `anew`, or not set"):
        way(PLACE, {}, False)


def test_the_word_travels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Wish("", None, push=True, resume="anew").options == ["--push", "--resume", "anew"]
    assert Wish("", None, push=False).options == []
    assert Request.model_validate({"resume": "anyway"}).resume == "anyway"
    with pytest.raises(ValidationError, match="Input should be '', 'anyway' or 'anew'"):
        Request.model_validate({"resume": "yes"})
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["convoy", "run", "--resume", "yes"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "--resume yes: it is `anyway`, to go on with other bits, or `anew`, to start over.\n"
    )


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that stands after four of its steps."""
    project = prepare(tmp_path_factory.mktemp("begun") / "project")
    change(project, train={"epochs": 1})
    die(project, TrainingPoint.CHECKPOINT_NAMED, 5)
    return project


@pytest.mark.slow
def test_other_threads(begun: Path, tmp_path: Path) -> None:
    project = copy(begun, tmp_path / "project")
    before = state(project)
    change(project, compute={"threads": 2})
    ended = train(project).ended()
    assert ended.status == 1
    assert "train: epoch 1, step 4 of 11 was reached elsewhere" in ended.words
    assert "\n  threads: 1 then, 2 now\n" in ended.words
    assert state(project)["progress"] == before["progress"]  # nothing is lost by asking
    words = finish(project, **{RESUME: "anyway"})
    assert "goes on from epoch 1, step 4 of 11" in words
    notes = json.loads((project / "out/training/training.json").read_text())
    assert notes["moves"] == ["after epoch 1, step 4 of 11: threads: 1 then, 2 now"]
    assert notes["threads"] == 2
    change(project, compute={"threads": 1})  # as it was begun; but it was finished with two
    words = finish(project)
    assert "the model of these params was made elsewhere (threads: 2 then, 1 now); here it is trained anew" in words
    assert "goes on" not in words
    assert "moves" not in json.loads((project / "out/training/training.json").read_text())


@pytest.mark.slow
def test_another_version_of_a_library(begun: Path, tmp_path: Path) -> None:
    project = copy(begun, tmp_path / "project")
    held = state(project)
    here, held["environment"]["torch"] = held["environment"]["torch"], "2.0.1"
    torch.save(held, folder(project) / CURRENT)
    ended = train(project).ended()
    assert (ended.status, f"\n  torch: 2.0.1 then, {here} now\n" in ended.words) == (1, True)
    ended = train(project, CONVOY_FAIL_POINT=f"{TrainingPoint.STEPS_NOTED.value}:1", **{RESUME: "anyway"}).ended()
    assert "goes on from epoch 1, step 4 of 11" in ended.words
    words = finish(project)  # what was allowed once need not be allowed again
    assert "goes on from epoch 1, step" in words


@pytest.mark.slow
def test_started_over(begun: Path, tmp_path: Path) -> None:
    project, other = copy(begun, tmp_path / "project"), copy(begun, tmp_path / "other")
    change(project, compute={"threads": 2})
    words = finish(project, **{RESUME: "anew"})
    assert "starts over, as told: epoch 1, step 4 of 11 was reached elsewhere (threads: 1 then, 2 now)" in words
    assert "goes on" not in words
    notes = json.loads((project / "out/training/training.json").read_text())
    assert "moves" not in notes
    assert "goes on from epoch 1, step 4 of 11" in finish(other, **{RESUME: "anew"})  # nothing is different there
