"""From scenes to names, all of it learnt here: faces are found on a ground of noise, and strangers are told apart."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from face_scenes import (
    DETECTING,
    RECOGNISING,
    SIDE,
    compose,
    looked_for,
    read_people,
    scenes,
    trained,
    write_coco,
    write_people,
)

SET = Path(__file__).parents[2] / "shared" / "data" / "orl-faces" / "orl-faces.tar.gz"


def test_faces_lie_where_the_boxes_say():
    random = np.random.default_rng(0)
    faces = [("a", np.full((28, 23), 255, np.uint8)), ("b", np.zeros((28, 23), np.uint8))]
    for count in (1, 2):
        scene = compose(faces[:count], random)
        assert scene.people == ["a", "b"][:count] and scene.pixels.shape == (SIDE, SIDE, 1)
        for shade, (x, y, width, height) in zip((200, 0), scene.boxes, strict=False):
            inside = scene.pixels[y : y + height, x : x + width]
            assert inside.shape[:2] == (height, width) and (inside >= shade).all() and inside.std() == 0
    again = [scenes({"a": [faces[0][1]], "b": [faces[1][1]]}, 4, seed=1) for _ in range(2)]
    assert all((one.pixels == other.pixels).all() for one, other in zip(*again, strict=True))
    assert [len(one.people) for one in again[0]] == [1, 2, 1, 2]


@pytest.mark.slow
@pytest.mark.skipif(not SET.exists(), reason="the shared data are not here")
def test_strangers_are_found_and_told_apart_in_scenes(tmp_path: Path) -> None:
    with tarfile.open(SET) as archive:
        archive.extractall(tmp_path, filter="data")
    faces = read_people(tmp_path / "orl-faces" / "data" / "att_faces")
    names = sorted(faces)
    known, strangers = ({name: faces[name] for name in part} for part in (names[:28], names[28:]))
    write_coco(tmp_path / "scenes", scenes(known, 160, 0))
    write_people(tmp_path / "people", known)
    detector = trained(tmp_path / "a", "detection-coco", tmp_path / "scenes", (*DETECTING, "train.epochs=6"))
    recogniser = trained(tmp_path / "b", "faces-folder", tmp_path / "people", (*RECOGNISING, "train.epochs=10"))
    random = np.random.default_rng(1)
    enrolled = [compose([(name, shown[0])], random) for name, shown in strangers.items()]
    later = {name: shown[1:] for name, shown in strangers.items()}
    found = looked_for(detector, recogniser, enrolled, scenes(later, 40, 2))
    assert found.people >= 11  # of twelve
    assert found.found >= 0.8 * found.faces  # measured: 0.97
    assert found.right >= 0.25 * found.found  # measured: 0.34 to 0.57 of six, by one picture of each; chance is 0.08
