"""What `convoy faces` does: the champion's embeddings, the gallery, and words for both.

What is said of people goes to the terminal of whoever asks, and nowhere else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import typer

from flows.predict import files_of
from flows.records.terminal import safe
from pipeline import faces, gallery
from pipeline.bundle import Bundle
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.faces import Face, Finder, Match
from pipeline.images import ImageError
from pipeline.params import Named
from pipeline.registry import champion


class How(NamedTuple):
    """How faces are to be found: see `pipeline.faces.Finder`."""

    detector: str
    """A folder, or the name of a model; empty: pictures are faces already cut out."""
    points: str
    """Likewise; empty: faces stay as they are."""
    margin: float
    square: bool

    def finder(self) -> Finder:
        """The models, opened.

        Raises:
            UserError: one of them is not there, or is for something else.
        """
        detector = _opened("--detector", self.detector) if self.detector else None
        points = _opened("--points", self.points) if self.points else None
        finder = Finder(detector, points, self.margin, self.square)
        finder.check()
        return finder


class Recogniser(NamedTuple):
    """The champion."""

    bundle: Bundle
    digest: str
    threshold: float


def enrol(name: str, pictures: Sequence[Path], how: How) -> None:
    """Put a person into the gallery.

    Raises:
        UserError: the name or one of the pictures cannot be used; nothing is kept then.
    """
    person = gallery.named(name)
    recogniser, finder = _recogniser(), how.finder()
    crops, problems = [], []
    for path in files_of(pictures):
        try:
            found = finder.faces(path.read_bytes())
        except (ImageError, OSError) as error:
            problems.append(f"{path}: {error}")
            continue
        if found:
            crops.append(found[0].crop)
        else:
            problems.append(f"{path}: no face is found")
    if problems or not crops:
        listed = "".join(f"\n  {problem}" for problem in problems) or " there is none."
        raise UserError(f"Nothing is enrolled; all pictures have to show a face:{listed}")
    new = gallery.add(person, crops)
    _bring_up_to_date(recogniser)
    old = len(crops) - new
    known = f"; {old} {'was' if old == 1 else 'were'} there already" if old else ""
    print(f"{person} is enrolled by {new} new picture{'s' * (new != 1)}{known}.")


def show() -> None:
    """Print who is in the gallery."""
    listed = gallery.people()
    if not listed:
        print("Nobody is enrolled: `convoy faces enrol NAME IMAGE...`")
    width = max((len(person.name) for person in listed), default=0)
    for person in listed:
        pictures = f"{person.faces} picture{'s' * (person.faces > 1)}"
        print(f"{person.name:<{width}}  {pictures}, since {person.since}")


def delete(name: str, yes: bool) -> None:
    """Take a person out of the gallery.

    Raises:
        UserError: nobody of that name is there.
    """
    person = gallery.named(name)
    there = {one.name: one.faces for one in gallery.people()}
    if person not in there:
        raise gallery.unknown(person)
    count = there[person]
    lost = f"{count} pictures? They" if count > 1 else "1 picture? It"
    if not yes and not typer.confirm(f"Delete {person} with {lost} cannot be brought back."):
        print("Nothing is deleted.")
        return
    gallery.delete(person)
    print(f"{person} is deleted.")


def identify(pictures: Sequence[Path], how: How, as_json: bool) -> None:
    """Print who is on each picture.

    Raises:
        UserError: some pictures cannot be read; the others are answered first.
    """
    recogniser, finder = _recogniser(), how.finder()
    _bring_up_to_date(recogniser)
    known, asked, unread = gallery.known(recogniser.digest), files_of(pictures), 0
    for path in asked:
        try:
            found = finder.faces(path.read_bytes())
        except (ImageError, OSError) as error:
            print(f"{safe(str(path))}: {error}", file=sys.stderr)
            unread += 1
            continue
        told = faces.embedded(recogniser.bundle, [face.crop for face in found])
        matches = faces.matched(told, known.people, known.embeddings, recogniser.threshold)
        if as_json:
            rows = [_plain(face, match) for face, match in zip(found, matches, strict=True)]
            print(json.dumps({"image": str(path), "faces": rows}))
            continue
        for face, match in zip(found, matches, strict=True):
            print(f"{safe(str(path))}  {_place(face)}{_words(match)}")
        if not found:
            print(f"{safe(str(path))}  no face is found")
    if unread:
        raise UserError(f"{unread} of {len(asked)} files are no pictures that can be read; see above.")


def verify(first: Path, second: Path, how: How) -> None:
    """Print whether two pictures show the same person.

    Raises:
        UserError: one of them cannot be read, or shows no face.
    """
    recogniser, finder = _recogniser(), how.finder()
    crops = []
    for path in (first, second):
        try:
            found = finder.faces(path.read_bytes())
        except (ImageError, OSError) as error:
            raise UserError(f"{path}: {error}.") from error
        if not found:
            raise UserError(f"{path}: no face is found.")
        crops.append(found[0].crop)
    told = faces.embedded(recogniser.bundle, crops)
    (match,) = faces.matched(told[:1], ["the same person"], told[1:], recogniser.threshold)
    words = match.person or "two people"
    print(f"{words} (distance {match.distance:.3f}; one person below {recogniser.threshold:.3f})")


def _recogniser() -> Recogniser:
    name = load(Named).name
    reigning = champion.current(name)
    if reigning is None:
        raise UserError(f"{name!r} has no champion yet: `convoy run` trains a model, and the gate decides.")
    bundle = Bundle.open(reigning.bundle())
    return Recogniser(bundle, reigning.version.digest, faces.threshold(bundle))


def _opened(option: str, model: str) -> Bundle:
    if Path(model).is_dir():
        return Bundle.open(Path(model))
    reigning = champion.current(model)
    if reigning is None:
        raise UserError(f"{option} {model}: there is neither a folder nor a champion of that name.")
    return Bundle.open(reigning.bundle())


def _bring_up_to_date(recogniser: Recogniser) -> None:
    """Have the champion look at the faces that only another model has looked at, or none."""
    waiting = gallery.waiting(recogniser.digest)
    told = faces.embedded(recogniser.bundle, [crop.data for crop in waiting])
    gallery.embed(recogniser.digest, {crop.id: embedding for crop, embedding in zip(waiting, told, strict=True)})


def _plain(face: Face, match: Match) -> dict[str, object]:
    return {"box": face.box, "score": face.score, "person": match.person, "distance": match.distance}


def _place(face: Face) -> str:
    return f"at {','.join(f'{edge:.0f}' for edge in face.box)}: " if face.box else ""


def _words(match: Match) -> str:
    if match.distance is None:
        return "unknown (nobody is enrolled)"
    return f"{match.person or 'unknown'} (distance {match.distance:.3f})"
