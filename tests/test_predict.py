"""`convoy predict`: the champion's answers in words, for programs, and drawn, whatever its task."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import registry_project
from decision_project import make_case
from graded_project import OBJECTS, PIXELS, SHORT, SIDE, SQUARE, make_project
from PIL import Image

from flows import predict
from flows.predict import Asked, show_predictions
from pipeline.bundle import Bundle, digest_of
from pipeline.contracts import Frame
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.registry import decisions
from pipeline.registry.champion import Version

LABELS = "classification"
MODEL = Path("out/model")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = {task: tmp_path_factory.mktemp("predict") / "project" for task in (LABELS, OBJECTS, PIXELS)}
    registry_project.make_project(roots[LABELS])
    for task in (OBJECTS, PIXELS):
        make_project(roots[task], task)
    return roots


@pytest.fixture
def pictures(made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str) -> Path:
    """The test images of a project in a folder; its model is the champion, and it is the current folder."""
    root = tmp_path / "project"
    shutil.copytree(made[task], root)
    monkeypatch.chdir(root)
    version = Version(name="digits", version="7", digest=digest_of(MODEL), dataset="e" * 64, location=str(MODEL))
    decisions.promoted_by_gate(make_case(version))
    test = Dataset.open().split("test")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for place in range(len(test)):
        (folder / f"{place:02}.png").write_bytes(test.read(place))
    return folder


WORDS = {
    LABELS: ("dark 94.7%, light 5.3%", "light 94.0%, dark 6.0%"),
    OBJECTS: ("1 cell", "1 dust"),
    PIXELS: ("background 81%, cell 19%", "background 81%, dust 19%"),
}


@pytest.mark.parametrize("task", WORDS)
def test_in_words(pictures: Path, capsys: pytest.CaptureFixture[str], task: str, monkeypatch) -> None:
    monkeypatch.setattr(predict, "BATCH", 7)  # the last portion is not full
    show_predictions([pictures / "01.png", pictures], Asked(as_json=False, drawn=None))
    out, err = capsys.readouterr()
    lines = out.splitlines()
    first, second = WORDS[task]
    assert lines[:3] == [f"{pictures}/01.png  {second}", f"{pictures}/00.png  {first}", f"{pictures}/01.png  {second}"]
    assert len(lines) == 1 + len(list(pictures.iterdir()))
    assert err.startswith("digits version 7, champion since 20")


def answer_to_image_3(pictures: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    show_predictions([pictures / "03.png"], Asked(as_json=True, drawn=None))
    out, err = capsys.readouterr()
    assert err == ""
    (line,) = out.splitlines()
    answer = json.loads(line)
    assert answer.pop("image") == f"{pictures}/03.png"
    return answer


@pytest.mark.parametrize("task", [LABELS])
def test_a_class_for_programs(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = answer_to_image_3(pictures, capsys)
    assert (answer["label"], set(answer)) == ("dark", {"label", "probability", "probabilities"})
    assert answer["probabilities"] == {"dark": answer["probability"], "light": pytest.approx(1 - answer["probability"])}


@pytest.mark.parametrize("task", [OBJECTS])
def test_objects_for_programs(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # a square of 6 x 6 in a picture of 12 x 16: its number is 3, so it lies at the right, 5 down
    left, top = SHORT - SQUARE, 5
    box = [left, top, left + SQUARE, top + SQUARE]
    assert answer_to_image_3(pictures, capsys) == {"objects": [{"label": "dust", "score": 0.875, "box": box}]}


@pytest.mark.parametrize("task", [PIXELS])
def test_a_mask_for_programs(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = answer_to_image_3(pictures, capsys)
    assert answer["classes"] == ["background", "cell", "dust"]
    dust = SQUARE**2 / (SHORT * SIDE)
    assert answer["shares"] == {"background": pytest.approx(1 - dust), "cell": 0, "dust": pytest.approx(dust)}
    with Image.open(io.BytesIO(base64.b64decode(answer["mask"]))) as picture:
        mask = np.asarray(picture)
    expected = np.zeros((SIDE, SHORT), np.uint8)
    expected[5 : 5 + SQUARE, SHORT - SQUARE :] = 2
    assert (mask == expected).all()


@pytest.mark.parametrize("task", [OBJECTS, PIXELS])
def test_drawn(pictures: Path, tmp_path: Path, task: str) -> None:
    show_predictions([pictures], Asked(as_json=False, drawn=tmp_path / "drawn"))
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [f"{place:02}.png" for place in range(20)]
    with Image.open(tmp_path / "drawn" / "03.png") as drawn, Image.open(pictures / "03.png") as plain:
        assert drawn.size == plain.size == (SHORT, SIDE)
        pixels, before = np.asarray(drawn.convert("RGB")).astype(int), np.asarray(plain.convert("RGB")).astype(int)
    inside = np.zeros((SIDE, SHORT), bool)
    inside[5 : 5 + SQUARE, SHORT - SQUARE :] = True
    changed = (pixels != before).any(axis=2)
    edge = inside.copy()
    edge[6:10, SHORT - SQUARE + 1 : SHORT - 1] = False
    assert changed[edge].all()  # the line of a box, or the colour of a class, in the picture's own pixels
    assert changed[inside].all() == (task == PIXELS)  # a box is empty


@pytest.mark.parametrize("task", [OBJECTS])
def test_drawings_take_the_place_of_nothing(pictures: Path, tmp_path: Path) -> None:
    other, drawn = tmp_path / "other", tmp_path / "drawn"
    other.mkdir()
    for name in ("00.png", "00-2.png", "00.jpg"):
        shutil.copy(pictures / "05.png", other / name)
    show_predictions([pictures / "00.png", other], Asked(as_json=False, drawn=drawn))
    assert {path.name for path in drawn.iterdir()} == {"00.png", "00-2.png", "00-3.png", "00-4.png"}
    before = (pictures / "00.png").read_bytes()
    with pytest.raises(UserError, match=r"--draw .*pictures: 00.png lies there, and is one of the pictures. Name"):
        show_predictions([pictures], Asked(as_json=False, drawn=pictures))
    assert (pictures / "00.png").read_bytes() == before


@pytest.mark.parametrize("task", [LABELS])
def test_files_that_are_no_pictures_are_said_and_the_others_answered(
    pictures: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (pictures / "02.png").write_text("no picture")
    (pictures / "notes.txt").write_text("not looked at")
    with pytest.raises(UserError, match="1 of 40 files are no pictures that can be read; see above"):
        show_predictions([pictures], Asked(as_json=True, drawn=tmp_path / "drawn"))
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == len(list((tmp_path / "drawn").iterdir())) == 39
    assert err.startswith(f"{pictures}/02.png: not a picture")
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        show_predictions([Path("nowhere")], Asked(as_json=True, drawn=None))
    with pytest.raises(UserError, match="1 of 1 files are no pictures"):
        show_predictions([pictures / "02.png"], Asked(as_json=False, drawn=None))


@pytest.mark.parametrize("task", [LABELS])
def test_a_place_without_pictures_is_said(pictures: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "album.png").mkdir(parents=True)
    with pytest.raises(UserError, match=r"empty: no picture lies in this folder; its name would end in .jpg, .jpeg,"):
        show_predictions([pictures, empty], Asked(as_json=True, drawn=None))
    with pytest.raises(UserError, match=r"x{300}: File name too long\.$"):
        show_predictions([tmp_path / ("x" * 300)], Asked(as_json=True, drawn=None))


@pytest.mark.parametrize("task", [LABELS])
def test_a_pipe_is_read_once(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe, data = tmp_path / "pipe.png", (pictures / "00.png").read_bytes()
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    show_predictions([pipe], Asked(as_json=False, drawn=tmp_path / "drawn"))
    writer.join()
    assert capsys.readouterr().out == f"{pipe}  {WORDS[LABELS][0]}\n"
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["pipe.png"]


@pytest.mark.parametrize("task", [LABELS])
def test_names_of_files_are_no_commands_to_the_terminal(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strange = pictures / os.fsdecode(b"\xff\x1b[2J.png")  # no UTF-8, and what clears the screen
    strange.write_bytes((pictures / "00.png").read_bytes())
    show_predictions([strange], Asked(as_json=False, drawn=None))
    out = capsys.readouterr().out
    assert out == f"{pictures}/\\udcff\\x1b[2J.png  {WORDS[LABELS][0]}\n"
    show_predictions([strange], Asked(as_json=True, drawn=None))
    assert json.loads(capsys.readouterr().out)["image"] == str(strange)


@pytest.mark.parametrize("task", [LABELS])
def test_a_folder_for_drawings_that_cannot_be_one(pictures: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(UserError, match=r"--draw .*taken: a file lies there. Name a folder."):
        show_predictions([pictures], Asked(as_json=False, drawn=taken))
    with pytest.raises(UserError, match=r"--draw: .*taken/below/00.png cannot be written: .* Name another folder."):
        show_predictions([pictures / "00.png"], Asked(as_json=False, drawn=taken / "below"))


@pytest.mark.parametrize("task", [OBJECTS])
def test_of_pictures_in_many_tiles_few_are_held_at_a_time(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Bundle.open(MODEL)
    frame = Frame.model_validate({"name": "tiles", "tile": SHORT, "overlap": 0})
    tiled = Bundle(MODEL, whole.info.model_copy(update={"frame": frame}))
    monkeypatch.setattr(predict, "BATCH", 3)
    portions = list(predict._read(tiled, sorted(pictures.iterdir())[:5]))
    assert [[len(read.prepared.squares) for read in portion] for portion in portions] == [[2, 2], [2, 2], [2]]


@pytest.mark.parametrize("task", [LABELS])
def test_without_a_champion(made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    shutil.copytree(made[task], tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    with pytest.raises(UserError, match="'digits' has no champion yet: `convoy run` trains a model"):
        show_predictions([], Asked(as_json=False, drawn=None))
