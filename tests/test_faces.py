"""`convoy faces`: faces cut out and set upright, a gallery that forgets whole, people recognised in scenes."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
import tempfile
from pathlib import Path

import face_project
import numpy as np
import pytest
from face_project import FACE, SCENE, THRESHOLD, crown, face
from PIL import Image
from scipy.optimize import least_squares
from typer.testing import CliRunner

from flows.cli import app
from flows.faces import asking
from flows.faces.asking import How
from pipeline import gallery
from pipeline.alignment import EYES, moved, similarity
from pipeline.bundle import Bundle
from pipeline.errors import UserError
from pipeline.faces import LARGEST, SIDE, Finder, eyes
from pipeline.images import decode, encode_png

PLAIN = How("", "", 0.0, False)
SECRET = "Ada Lovelace-Ünique"

# --- alignment


def test_a_similarity_of_two_places_by_hand():
    # (0, 0) -> (10, 0), (2, 0) -> (10, 4): twice as large, a quarter turn, then 10 to the right
    matrix = similarity(np.array([[0.0, 0], [2, 0]]), np.array([[10.0, 0], [10, 4]]))
    assert matrix == pytest.approx(np.array([[0, -2, 10], [2, 0, 0]]), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_a_similarity_of_many_places_leaves_the_least_squares(seed: int) -> None:
    random = np.random.default_rng(seed)
    places, wanted = random.normal(size=(2, 6, 2)) * 20
    if seed == 3:
        wanted = places * [-1, 1]  # a mirror fits exactly, and is no similarity that is asked for

    def apart(about: np.ndarray) -> np.ndarray:
        a, b, x, y = about
        return (places @ np.array([[a, b], [-b, a]]) + [x, y] - wanted).ravel()

    best = min(
        (least_squares(apart, start) for start in (np.array([1.0, 0, 0, 0]), np.array([-1.0, 1, 0, 0]))),
        key=lambda found: found.cost,
    )
    matrix = similarity(places, wanted)
    a, b, x, y = best.x
    assert matrix == pytest.approx(np.array([[a, -b, x], [b, a, y]]), abs=1e-5)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_pixels_move_to_where_their_places_do():
    pixels = np.zeros((40, 30, 3), np.uint8)
    pixels[10:14, 20:24] = 200  # a square around (22, 12)
    quarter = np.array([[0.0, -1, 40], [1, 0, 0]])  # (x, y) to (40 - y, x)
    turned = moved(pixels, quarter, 40)
    assert (turned[20:24, 26:30] == 200).all() and turned.sum() == pixels.sum()
    shrunk = moved(np.kron(pixels, np.ones((4, 4, 1), np.uint8)), np.array([[0.25, 0, 0], [0, 0.25, 0]]), 40)
    assert (shrunk[10:14, 20:24] == 200).all() and shrunk[:40, :30].sum() == pixels.sum()
    assert (moved(pixels[:, :, :1], quarter, 40) == turned[:, :, :1]).all()


def test_which_points_are_eyes():
    assert eyes(["left_eye", "right_eye", "nose"]) == ("left_eye", "right_eye")
    kaggle = [
        f"{side}_{part}"
        for side in ("left", "right")
        for part in ("eye_center", "eye_inner_corner", "eyebrow_outer_end")
    ]
    assert eyes(kaggle) == ("left_eye_center", "right_eye_center")
    with pytest.raises(UserError, match="two points for the middles of the eyes is needed.* this one has nose, chin"):
        eyes(["nose", "chin"])


# --- faces in pictures


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faces") / "project"
    face_project.make_project(root)
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, in which `model` is champion; it is the current folder, and no temporary file lies elsewhere."""
    root = tmp_path / "project"
    shutil.copytree(made, root)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(root)
    crown("model")
    return root


def picture(tmp_path: Path, name: str, pixels: np.ndarray) -> Path:
    path = tmp_path / name
    path.write_bytes(encode_png(pixels))
    return path


def scene(*placed: tuple[np.ndarray, int, int]) -> np.ndarray:
    """Faces on black, each with its left upper corner."""
    pixels = np.zeros((SCENE, SCENE, 3), np.uint8)
    for shown, x, y in placed:
        pixels[y : y + shown.shape[0], x : x + shown.shape[1]] = shown
    return pixels


def test_faces_are_cut_out_largest_first(made: Path) -> None:
    small, large = face(1), face(2, side=24)
    data = encode_png(scene((small, 3, 40), (large, 36, 5)))
    detector = Bundle.open(made / "detector")
    first, second = Finder(detector).faces(data)
    assert (first.box, second.box) == ((36, 5, 60, 29), (3, 40, 19, 56)) and first.score == pytest.approx(0.9)
    assert (decode(first.crop, 3) == large).all() and (decode(second.crop, 3) == small).all()
    (wide, near) = Finder(detector, margin=0.25).faces(data)
    assert decode(wide.crop, 3).shape == (36, 36, 3) and decode(near.crop, 3).shape == (24, 24, 3)
    assert (decode(near.crop, 3)[4:20, 3:19] == small).all()  # moved into the picture: 1 pixel less to the left
    (tall,) = Finder(detector).faces(encode_png(scene((large[:, :10], 40, 5))))
    (square,) = Finder(detector, square=True).faces(encode_png(scene((large[:, :10], 40, 5))))
    assert decode(tall.crop, 3).shape == (24, 10, 3) and decode(square.crop, 3).shape == (24, 24, 3)
    assert Finder(detector).faces(encode_png(scene())) == []


def test_a_picture_without_a_detector_is_a_face_and_not_kept_larger_than_needed() -> None:
    (whole,) = Finder().faces(encode_png(face(1)))
    assert whole.box is None and (decode(whole.crop, 3) == face(1)).all()
    large = np.repeat(np.repeat(face(1, side=400), 2, axis=0), 3, axis=1)
    (shrunk,) = Finder().faces(encode_png(large))
    pixels = decode(shrunk.crop, 3)
    assert pixels.shape == (round(800 * LARGEST / 1200), LARGEST, 3)
    wanted = np.asarray(Image.fromarray(large).resize(pixels.shape[1::-1], Image.Resampling.BOX)).astype(int)
    assert np.abs(pixels.astype(int) - wanted).mean() < 2


def test_a_strip_is_shrunk_to_a_pixel_at_least() -> None:
    (shrunk,) = Finder().faces(encode_png(np.full((1, 3000, 3), 200, np.uint8)))
    assert decode(shrunk.crop, 3).shape == (1, LARGEST, 3)


def test_faces_are_set_upright_by_their_eyes(made: Path) -> None:
    pixels = np.full((SCENE, SCENE, 3), 90, np.uint8)
    pixels[20:23, 12:15], pixels[40:43, 46:49] = 250, 250  # eyes at 13.5, 21.5 and 47.5, 41.5: tilted
    finder = Finder(points=Bundle.open(made / "points"))
    finder.check()
    (upright,) = finder.faces(encode_png(pixels))
    shown = decode(upright.crop, 3)
    assert shown.shape == (SIDE, SIDE, 3)
    # The lightest pixel is the first of its eye: its middle, (12.5, 20.5) and (46.5, 40.5), is what is moved.
    for x, y in EYES * SIDE:
        assert shown[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2, 0].max() > 240
    ys, xs = np.nonzero(shown[:, :, 0] > 200)
    assert ys.max() - ys.min() < 6 and xs.max() - xs.min() > 30  # level now


# --- the gallery


def test_people_are_enrolled_recognised_and_strangers_are_unknown(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for person, name in ((1, SECRET), (2, "Bo")):
        asking.enrol(name, [picture(tmp_path, f"{person}-{shot}.png", face(person, shot)) for shot in range(3)], PLAIN)
    capsys.readouterr()
    asking.show()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{SECRET}  3 pictures, since 20") and second.startswith("Bo ")
    asked = [picture(tmp_path, f"asked-{person}.png", face(person, 9)) for person in (1, 2, 3)]
    asking.identify(asked, PLAIN, as_json=True)
    answers = [json.loads(line)["faces"] for line in capsys.readouterr().out.splitlines()]
    assert [one["person"] for (one,) in answers] == [SECRET, "Bo", None]
    assert answers[0][0]["distance"] < THRESHOLD <= answers[2][0]["distance"]
    asking.identify([asked[2], asked[0]], PLAIN, as_json=False)
    unknown, ada = capsys.readouterr().out.splitlines()
    assert unknown == f"{asked[2]}  unknown (distance {answers[2][0]['distance']:.3f})"
    assert ada.startswith(f"{asked[0]}  {SECRET} (distance 0.0")
    asking.verify(asked[0], tmp_path / "1-0.png", PLAIN)
    asking.verify(asked[0], asked[1], PLAIN)
    same, other = capsys.readouterr().out.splitlines()
    assert same.startswith("the same person (distance 0.0") and same.endswith("one person below 0.050)")
    assert other.startswith("two people (distance ")


def test_people_are_recognised_in_scenes(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = How("detector", "", 0.0, False)
    asking.enrol("Ada", [picture(tmp_path, "ada.png", scene((face(1, side=24), 3, 8), (face(2), 40, 8)))], how)
    assert [person.name for person in gallery.people()] == ["Ada"]  # the largest face of the picture
    both = picture(tmp_path, "both.png", scene((face(1, 5), 40, 30), (face(3, 5), 8, 3)))
    capsys.readouterr()
    asking.identify([both, picture(tmp_path, "none.png", scene())], how, as_json=False)
    first, second, third = capsys.readouterr().out.splitlines()
    assert {first.split("  ")[1].split(" (")[0], second.split("  ")[1].split(" (")[0]} == {
        "at 40,30,56,46: Ada",
        "at 8,3,24,19: unknown",
    }
    assert third == f"{tmp_path / 'none.png'}  no face is found"
    with pytest.raises(UserError, match=r"Nothing is enrolled.*\n  .*none.png: no face is found"):
        asking.enrol("Ada", [both, tmp_path / "none.png"], how)
    with pytest.raises(UserError, match="none.png: no face is found"):
        asking.verify(both, tmp_path / "none.png", how)


def test_another_champion_looks_at_the_faces_anew(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = gallery.known("nobody")
    assert len(before.people) == 0
    asking.enrol("Ada", [picture(tmp_path, "ada.png", face(1))], PLAIN)
    digest = Bundle.open(project / "model").digest()
    assert gallery.known(digest).embeddings.shape == (1, 16)
    other = crown("other", "2")
    capsys.readouterr()
    asking.identify([picture(tmp_path, "again.png", face(1, 4))], PLAIN, as_json=True)
    assert json.loads(capsys.readouterr().out)["faces"][0]["person"] == "Ada"
    assert gallery.known(other).embeddings.shape == (1, 4) and len(gallery.known(digest).people) == 0
    straight = Bundle.open(project / "other")
    told = straight.answer([straight.prepare(encode_png(face(1)))])[0]
    assert (gallery.known(other).embeddings[0] == told).all()


def everything(*roots: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file()}


def test_whoever_is_deleted_is_gone_from_every_file(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = tmp_path / "asked"
    asked.mkdir()
    shots = [face(1, shot) for shot in range(3)]
    paths = [picture(asked, f"{shot}.png", pixels) for shot, pixels in enumerate(shots)]
    asking.enrol("Bo", [picture(asked, "bo.png", face(2))], PLAIN)
    asking.enrol(SECRET, paths, PLAIN)
    asking.identify([picture(asked, "again.png", face(1, 8))], PLAIN, as_json=True)
    assert SECRET in capsys.readouterr().out
    digest = Bundle.open(project / "model").digest()
    known = gallery.known(digest)
    told = [row for person, row in zip(known.people, known.embeddings, strict=True) if person == SECRET]
    assert len(told) == 3
    traces = [SECRET.encode(), SECRET.encode("utf-16-le"), json.dumps(SECRET).encode(), b"Lovelace"]
    traces += [row.astype(kind).tobytes() for row in told for kind in ("<f8", "<f4")]
    traces += [encode_png(pixels) for pixels in shots] + [pixels.tobytes() for pixels in shots]
    traces += [encode_png(pixels)[60:124] for pixels in shots]  # a part of it, were a page of the file left over
    roots = (project, tmp_path / "temporary")
    found = [trace for trace in traces if any(trace in data for data in everything(*roots).values())]
    assert {SECRET.encode(), b"Lovelace"} <= set(found) and len(found) >= 2 + 3 + 3  # the search finds what is there
    result = CliRunner().invoke(app, ["faces", "delete", SECRET], input="n\n")
    assert "They cannot be brought back" in result.output and "Nothing is deleted." in result.output
    assert len(gallery.people()) == 2
    result = CliRunner().invoke(app, ["faces", "delete", SECRET, "--yes"])
    assert (result.exit_code, result.output) == (0, f"{SECRET} is deleted.\n")
    for path, data in everything(*roots).items():
        assert not [trace for trace in traces if trace in data], path
    assert not [path for path in everything(*roots) if "faces.db-" in path.name]
    assert [person.name for person in gallery.people()] == ["Bo"]
    asking.identify([asked / "again.png"], PLAIN, as_json=False)
    assert "unknown (distance" in capsys.readouterr().out


def test_a_person_is_gone_from_between_many_others_too(project: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(60):  # several pages of the file, which move when rows go
        gallery.add(f"person {number}", [random.bytes(900 + 37 * number)])
    crop = b"CROP" + random.bytes(6000) + b"PORC"
    gallery.add(SECRET, [crop])
    gallery.embed("m" * 64, {one.id: random.normal(size=128) for one in gallery.waiting("m" * 64)})
    for number in range(0, 60, 3):
        gallery.delete(f"person {number}")
    gallery.delete(SECRET)
    data = (project / ".convoy/faces.db").read_bytes()
    assert b"CROP" not in data and b"PORC" not in data and crop[3000:3064] not in data and b"Lovelace" not in data
    assert len(gallery.people()) == 40 and b"person 1" in data


def test_the_file_is_for_its_owner_alone(project: Path) -> None:
    assert gallery.people() == [] and not gallery.place().exists()  # looking leaves nothing behind
    gallery.add("Ada", [b"crop"])
    place = project / ".convoy/faces.db"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    place.chmod(0o644)
    gallery.people()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    with sqlite3.connect(place) as base:
        assert base.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_the_same_face_is_kept_once_and_of_one_person(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = picture(tmp_path, "ada.png", face(1))
    asking.enrol("Ada", [path], PLAIN)
    asking.enrol(" Ada ", [path, picture(tmp_path, "two.png", face(1, 2))], PLAIN)
    assert capsys.readouterr().out.splitlines()[-1] == "Ada is enrolled by 1 new picture; 1 was there already."
    assert [(person.name, person.faces) for person in gallery.people()] == [("Ada", 2)]
    with pytest.raises(UserError, match="One of these faces is enrolled as 'Ada' already"):
        asking.enrol("Bo", [picture(tmp_path, "bo.png", face(2)), path], PLAIN)
    assert len(gallery.people()) == 1  # all or none


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1b[2J", "x" * 101, "\u202eevil"])
def test_names_that_cannot_be_printed_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="cannot be a name: 1 to 100 characters are taken that can be printed"):
        gallery.named(name)


def test_names_are_compared_as_they_are_read() -> None:
    assert gallery.named("U\u0308nal ") == gallery.named("Ünal") and gallery.named("李") == "李"


def test_words_for_what_is_not_there(project: Path, tmp_path: Path, made: Path) -> None:
    path = picture(tmp_path, "ada.png", face(1))
    gallery.add("Ada", [b"crop"])
    with pytest.raises(UserError, match="Nobody called 'Adda' is enrolled. Did you mean 'Ada'"):
        asking.delete("Adda", yes=True)
    with pytest.raises(UserError, match="--detector nowhere: there is neither a folder nor a champion of that name"):
        asking.identify([path], How("nowhere", "", 0, False), as_json=False)
    with pytest.raises(
        UserError,
        match="--detector points: that model learns named points per image, and boxes with classes per image are",
    ):
        asking.identify([path], How("points", "", 0, False), as_json=False)
    with pytest.raises(
        UserError, match="--points detector: that model learns boxes with classes per image, and named points"
    ):
        asking.identify([path], How("", "detector", 0, False), as_json=False)
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(UserError, match=r"Nothing is enrolled.*\n  .*notes.png: not a picture"):
        asking.enrol("Bo", [path, tmp_path / "notes.png"], PLAIN)
    (project / ".convoy/faces.db").write_bytes(b"not a database" * 100)
    with pytest.raises(UserError, match=r"The gallery in .convoy/faces.db cannot be used: file is not a database"):
        gallery.people()


def test_a_champion_of_something_else_recognises_nobody(project: Path, tmp_path: Path) -> None:
    path = picture(tmp_path, "ada.png", face(1))
    crown("detector", "2")
    with pytest.raises(UserError, match="The champion learns boxes with classes per image, not faces: set `task"):
        asking.verify(path, path, PLAIN)
    info = json.loads(Path("other/bundle.json").read_text())
    info["task"]["threshold"] = None
    Path("other/bundle.json").write_text(json.dumps(info))
    crown("other", "3")
    with pytest.raises(UserError, match="The champion has no threshold"):
        asking.verify(path, path, PLAIN)


def test_the_commands(project: Path, tmp_path: Path) -> None:
    path = picture(tmp_path, "both.png", scene((face(1, 5), 40, 30), (face(3, 5), 8, 3)))
    result = CliRunner().invoke(app, ["faces", "list"])
    assert result.output == "Nobody is enrolled: `convoy faces enrol NAME IMAGE...`\n"
    model = ["--detector", "detector"]
    assert CliRunner().invoke(app, ["faces", "enrol", "Ada", str(path), *model]).exit_code == 0
    assert CliRunner().invoke(app, ["faces", "list"]).output.startswith("Ada  1 picture, since 20")
    result = CliRunner().invoke(app, ["faces", "identify", str(path), "--json", *model, "--margin", "0", "--square"])
    people = [one["person"] for one in json.loads(result.output)["faces"]]
    assert sorted(people, key=str) == ["Ada", None]
    result = CliRunner().invoke(app, ["faces", "verify", str(path), str(path), *model])
    assert result.output == "the same person (distance 0.000; one person below 0.050)\n"
    assert FACE == 16
