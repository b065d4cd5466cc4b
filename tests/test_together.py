"""What ingest sees only when all pictures are there: copies, odd shapes, names in common; and how splits follow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.contracts import AnnotationRules
from pipeline.errors import UserError
from pipeline.images import LOOK, examine
from pipeline.ingest.alike import CONTRAST, FAMILY, _pairs, families
from pipeline.ingest.sifting import Picture, Sifted
from pipeline.ingest.splits import assign
from pipeline.ingest.together import settle
from pipeline.params import SplitOptions
from pipeline.tasks.classification import Config as Classification


class Faces(Classification):
    """Of pictures that are all cut alike."""

    alike = True


def photograph(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Smooth light and shade, as a photograph has them."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


def look(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return examine(out.getvalue()).look


def test_a_picture_encoded_anew_and_resized_is_the_same_one():
    first = photograph(1)
    looks = [
        look(first),
        look(photograph(2)),
        look(first, "JPEG", quality=60),
        look(first.resize((128, 96), Image.Resampling.BICUBIC), "WEBP"),
        look(photograph(3)),
    ]
    assert all(len(one) == LOOK for one in looks)
    assert families(looks) == [[0, 2, 3]]


def test_nearness_by_hand():
    """A level more in all places is near, a level and a half is not; of little contrast nothing is near."""
    base = np.tile(np.linspace(0, 200, 16), (16, 1))
    shifts = [0, 1, 2.5]
    looks = [(base + shift).round().astype(np.uint8).tobytes() for shift in shifts]
    assert families(looks) == [[0, 1]]
    flat = [np.full(LOOK, level, np.uint8).tobytes() for level in (9, 10)]
    assert families(flat) == []
    assert families([flat[0], flat[0]]) == [[0, 1]]  # the very same look is the same picture even so


def test_families_equal_those_of_all_pairs():
    random = np.random.default_rng(0)
    bases = random.integers(0, 240, (60, LOOK))
    chosen = random.integers(0, 60, 300)
    looks = np.clip(bases[chosen] + random.integers(-1, 2, (300, LOOK)), 0, 255).astype(np.uint8)
    expected = [np.flatnonzero(chosen == base).tolist() for base in range(60)]
    expected = sorted(members for members in expected if 1 < len(members) <= FAMILY)
    levels = looks.astype(float)
    apart = np.sqrt(((levels[:, None] - levels[None]) ** 2).mean(axis=2))
    near = (apart <= 1) & ~np.eye(300, dtype=bool)
    assert sorted(families([one.tobytes() for one in looks])) == _components(near)


def _components(near: np.ndarray) -> list[list[int]]:
    from scipy.sparse.csgraph import connected_components

    _, labels = connected_components(near)
    members = [np.flatnonzero(labels == label).tolist() for label in range(labels.max() + 1)]
    return sorted(one for one in members if 1 < len(one) <= FAMILY)


def test_a_camera_that_stands_still_makes_no_family():
    same = look(photograph(1))
    assert families([same] * FAMILY) == [list(range(FAMILY))]
    assert families([same] * (FAMILY + 1)) == []


def test_a_camera_that_stands_still_for_long_costs_no_look_at_every_pair():
    """Its frames are two million pairs, of which none may be told; what is joined to a frame is no family either."""
    random = np.random.default_rng(0)
    scene = random.integers(0, 200, LOOK)
    frames = (scene + random.integers(0, 2, (2000, LOOK))).astype(np.uint8)
    far = scene.copy()
    far[:24] += 3  # near some frames only: 24 x 9 / 256 is less than a level, and with the noise about one
    pairs = random.integers(0, 200, (5, LOOK)).repeat(2, axis=0).astype(np.uint8)
    looks = [one.tobytes() for one in (*pairs[:5], *frames, far.astype(np.uint8), *pairs[5:])]
    moved = [sorted((at if at < 5 else at + 2001) for at in (2 * k, 2 * k + 1)) for k in range(5)]
    crowded = np.zeros(len(looks), bool)
    levels = np.frombuffer(b"".join(looks), np.uint8).reshape(len(looks), LOOK).astype(np.float32)
    assert len(list(_pairs(levels, crowded))) < 50_000
    assert families(looks) == sorted(moved)


@pytest.mark.parametrize("seed", range(20))
def test_families_beside_crowds_equal_those_of_all_pairs(seed: int):
    random = np.random.default_rng(seed)
    bases = random.integers(60, 200, (8, LOOK))
    chosen = random.integers(0, 8, 200) ** 2 // 8  # some of them a crowd
    steps = random.integers(0, 3, 200)[:, None] * (np.arange(LOOK) < 200)  # chains of near ones, whose ends are far
    looks = (bases[chosen] + steps + random.integers(0, 2, (200, LOOK))).astype(np.uint8)
    levels = looks.astype(float)
    apart = np.sqrt(((levels[:, None] - levels[None]) ** 2).mean(axis=2))
    limits = np.minimum(1.0, levels.std(axis=1) / CONTRAST)
    near = (apart <= np.minimum(limits[:, None], limits)) & ~np.eye(200, dtype=bool)
    assert sorted(families([one.tobytes() for one in looks])) == _components(near)


def picture(name: str, annotation: Any = "cat", split: str | None = None, group: str | None = None, **more: Any) -> Any:
    size = more.pop("size", (8, 6))
    return Picture(f"id of {name}", name, annotation, split, group, *size, grey=False, **more)


def settled(pictures: Sequence[Picture], same: Sequence[str] = (), task: Any = None, **rules: str) -> Sifted:
    """What becomes of pictures of which those named in `same` are one."""
    every = {one.id: look(photograph(0 if one.name in same else 1 + k)) for k, one in enumerate(pictures)}
    return settle(Sifted(list(pictures), [], []), every, task or Classification(), AnnotationRules(**rules))


COPIES = [picture("a.png", "shorts", "train"), picture("b.png", "skirt", "test"), picture("c.png", "hat")]


def test_copies_are_told_and_stay_together():
    found = settled(COPIES, ["a.png", "b.png"])
    (problem,) = found.problems
    assert (problem.source, problem.problem, problem.done) == ("a.png", "same_picture", "keep")
    assert problem.found == "the same picture as b.png, in test, and annotated otherwise"
    assert [(one.name, one.family) for one in found.pictures] == [
        ("a.png", "id of b.png"),
        ("b.png", "id of b.png"),
        ("c.png", ""),
    ]


def test_copies_are_dropped_rejected_or_stop():
    alike = [COPIES[0], replace(COPIES[1], annotation="shorts"), COPIES[2]]
    found = settled(alike, ["a.png", "b.png"], same_picture="drop")
    assert [one.name for one in found.pictures] == ["b.png", "c.png"]
    assert found.rejected[0].source == "a.png" and "the same picture as b.png, in test" in found.rejected[0].reason
    contradicting = settled(COPIES, ["a.png", "b.png"], same_picture="drop")
    assert [one.name for one in contradicting.pictures] == ["c.png"]
    assert "annotated otherwise" in contradicting.rejected[1].reason
    rejected = settled(alike, ["a.png", "b.png"], same_picture="reject")
    assert [one.name for one in rejected.pictures] == ["c.png"] and len(rejected.rejected) == 2
    with pytest.raises(UserError, match=r"annotations\.same_picture"):
        settled(COPIES, ["a.png", "b.png"], same_picture="stop")


def test_what_can_be_joined_is():
    class Joining(Classification):
        def joined(self, annotations: Sequence[Any]) -> Any:
            return "+".join(sorted(annotations))

    found = settled(COPIES, ["a.png", "b.png"], task=Joining(), same_picture="drop")
    assert [(one.name, one.annotation) for one in found.pictures] == [("b.png", "shorts+skirt"), ("c.png", "hat")]


def test_of_faces_one_that_is_not_cut_out_is_left_out_with_a_reason():
    faces = [picture(f"{k}.pgm", size=(84, 96)) for k in range(9)] + [picture("whole.pgm", size=(320, 240))]
    found = settled(faces, task=Faces())
    assert len(found.pictures) == 9
    words = "320 x 240, where most have the shape of 84 x 96: it is not cut out (annotations.other_shape)"
    assert found.rejected[0].source == "whole.pgm" and words in found.rejected[0].reason
    assert len(settled(faces, task=Faces(), other_shape="keep").pictures) == 10
    assert len(settled(faces).pictures) == 10  # of other tasks any shape will do
    mixed = [replace(one, width=40 + k) for k, one in enumerate(faces)]
    assert len(settled(mixed, task=Faces()).pictures) == 10  # none is the usual one


def test_names_in_common_are_told_with_what_to_do():
    people = [f"Person {letter * 3}" for letter in "abcdefghijklmnopqrst"]
    pictures = [picture(f"training/{one}_1.jpg", split="train") for one in people]
    pictures += [picture(f"test/{one}_2.jpg", split="test") for one in people[:3]]
    pictures += [picture("test/Somebody_2.jpg", split="test")]
    (problem,) = settled(pictures).problems
    assert (problem.problem, problem.done, problem.source) == ("shared_name", "keep", "test/Person aaa_2.jpg")
    assert problem.found.startswith(
        "3 of 4 pictures of test are named as training pictures are, but for a number: test/Person aaa_2.jpg and "
        "training/Person aaa_1.jpg. If that is a person or a scene, set split.group:"
    )
    with pytest.raises(UserError, match=r"annotations\.shared_name"):
        settled(pictures, shared_name="stop")
    numbered = [picture(f"{one.split}/IMG_{k}.jpg", split=one.split) for k, one in enumerate(pictures)]
    assert settled(numbered).problems == []  # of all the same name nothing follows
    grouped = [replace(one, group=one.name) for one in pictures]
    assert settled(grouped).problems == []  # what a group is is known


def test_a_family_and_its_groups_are_never_parted():
    """House 59 is house 72: a picture of each is the same one, so all pictures of both go into one split."""
    houses = [picture(f"{house}_{room}.jpg", group=str(house)) for house in range(40) for room in range(2)]
    houses = [replace(one, family="twin") if one.name in ("3_0.jpg", "7_1.jpg") else one for one in houses]
    for seed in range(8):
        splits = {one.name: one.split for one in assign(houses, SplitOptions(seed=seed), lambda annotation: "")}
        assert len({splits[f"{house}_{room}.jpg"] for house in (3, 7) for room in range(2)}) == 1


def test_kin_are_never_parted_and_copies_make_groups_kin():
    houses = [picture(f"{house}_{room}.jpg", group=str(house)) for house in range(40) for room in range(2)]
    for seed in range(8):
        found = assign(houses, SplitOptions(seed=seed), lambda annotation: "", [("3", "7"), ("7", "11")])
        assert len({one.split for one in found if one.group in ("3", "7", "11")}) == 1
    rooms = [picture("3_0.jpg", group="3"), picture("7_1.jpg", group="7"), picture("9_0.jpg", group="9")]
    for rule in ("keep", "drop", "reject"):
        assert settled(rooms, ["3_0.jpg", "7_1.jpg"], same_picture=rule).kin == [("3", "7")]


def test_a_copy_follows_the_one_that_the_source_puts_into_a_split():
    pictures = [picture(f"{k}.jpg", split=("train", "val", "test")[k % 3]) for k in range(9)]
    pictures += [picture("copy.jpg", family="id of 2.jpg")]
    pictures[2] = replace(pictures[2], family="id of 2.jpg")
    splits = {one.name: one.split for one in assign(pictures, SplitOptions(), lambda annotation: "")}
    assert splits["2.jpg"] == splits["copy.jpg"] == "test"


def test_what_is_kept_together_has_one_name_and_what_is_alone_none():
    pictures = [
        *(picture("a.png", group="3"), picture("b.png", group="7"), picture("c.png", group="7")),
        *(picture("d.png", family="id of d.png"), picture("e.png", family="id of d.png"), picture("f.png", group="9")),
        *(picture(f"{k}.png") for k in range(4)),
    ]
    for order in (pictures, pictures[::-1]):
        found = assign(order, SplitOptions(), lambda annotation: "", [("3", "7")])
        assert {one.name: one.together for one in found if one.together} == {
            **dict.fromkeys(["a.png", "b.png", "c.png"], "group 3"),
            **dict.fromkeys(["d.png", "e.png"], "id of d.png"),
        }


def test_the_splits_of_the_source_can_be_ignored():
    people = [
        picture(f"{person}_{k}.jpg", split=("train", "test")[k], group=f"{person}")
        for person in range(50)
        for k in (0, 1)
    ]
    with pytest.raises(UserError, match=r"50 groups of pictures in several splits.*set split\.given to ignore"):
        assign(people, SplitOptions(), lambda annotation: "")
    found = assign(people, SplitOptions(given="ignore"), lambda annotation: "")
    homes = {(one.group, one.split) for one in found}
    assert len(homes) == 50 and {split for _, split in homes} == {"train", "val", "test"}


def test_too_few_people_are_told_without_a_class():
    people = [picture(f"{person}_{k}.jpg", group=f"{person}") for person in range(2) for k in range(5)]
    with pytest.raises(UserError, match=r"groups of pictures that stay together: 2\. Expected 3 or more"):
        assign(people, SplitOptions(), lambda annotation: "")


@pytest.mark.parametrize(("pattern", "words"), [("(", "no regular expression"), ("[a-z]+_", "has no bracket")])
def test_a_group_is_a_bracket(pattern: str, words: str):
    with pytest.raises(ValueError, match=words):
        SplitOptions(group=pattern)
