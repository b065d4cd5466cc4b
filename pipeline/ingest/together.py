"""What is seen only when all pictures are there: copies under two names, other shapes, names in common.

Each comes to `problems.parquet`, and to what its rule in `annotations` of params.yaml says.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import AnnotationRules, TaskConfig
from pipeline.ingest.alike import families
from pipeline.ingest.problems import Problem, check_stops, noted, reason
from pipeline.ingest.sifting import PREFERENCE, Picture, Rejected, Sifted, related

SHAPE = 0.05
"""How far the ratio of two sides may differ from that of the commonest shape, as a share of it."""
COMMON = 0.8
"""Share of the pictures that the commonest shape must have, so that another one is odd."""
LETTERS = 3
"""That a name has at least, so that it may be that of a person or a scene: `1`, `a7` are none."""
NAMES = 10
"""That there are at least, none of them of more than a tenth of the pictures: `IMG_1`, `IMG_2` name nobody."""
SHARED = 0.2
"""Share of a split's pictures whose names training pictures have too, from which on it is told."""


def settle(sifted: Sifted, looks: Mapping[str, bytes], task: TaskConfig, rules: AnnotationRules) -> Sifted:
    """Look at all pictures of a source together.

    Args:
        sifted: what was kept of it, and what was not.
        looks: of the pictures, by their ids: `images.Facts.look`.
        task: that learns from them.
        rules: what becomes of what is found.

    Returns:
        The same with what the rules make of it; of a picture that stays twice both are of one family, and groups that
        have it in common are kin whether it stays or not.

    Raises:
        UserError: a rule says to stop.
    """
    pictures, rejected, problems = list(sifted.pictures), list(sifted.rejected), list(sifted.problems)
    kin = set(sifted.kin)
    odd = {flaw.source: noted(flaw, rules) for flaw in (_odd_shapes(pictures) if task.alike else ())}
    problems += odd.values()
    shapeless = {name: problem for name, problem in odd.items() if problem.done == "reject"}
    rejected += [Rejected(name, reason([problem])) for name, problem in shapeless.items()]
    pictures = [picture for picture in pictures if picture.name not in shapeless]
    for family in families([looks[picture.id] for picture in pictures]):
        members = sorted((pictures[position] for position in family), key=lambda one: (PREFERENCE[one.split], one.name))
        kin |= related(member.group for member in members)
        kept, told, left_out = _copies(members, task, rules)
        problems += told
        rejected += left_out
        of_id = {picture.id: picture for picture in kept}
        for position in family:
            pictures[position] = of_id.get(pictures[position].id, replace(pictures[position], annotation=None))
    pictures = [picture for picture in pictures if picture.annotation is not None]
    problems += [noted(flaw, rules) for flaw in _shared_names(pictures)]
    check_stops(problems)
    return Sifted(pictures, sorted(rejected), sorted(problems), sorted(kin))


def _odd_shapes(pictures: Sequence[Picture]) -> list[Flaw]:
    """Pictures of another shape than nearly all."""
    shapes = Counter((picture.width, picture.height) for picture in pictures)
    if not shapes:
        return []
    (width, height), _ = max(shapes.items(), key=lambda item: (item[1], item[0]))
    usual = width / height
    odd = [picture for picture in pictures if abs(picture.width / picture.height / usual - 1) > SHAPE]
    if len(odd) > (1 - COMMON) * len(pictures):
        return []
    return [
        Flaw(
            FlawKind.OTHER_SHAPE,
            picture.name,
            "",
            f"{picture.width} x {picture.height}, where most have the shape of {width} x {height}: it is not cut out",
        )
        for picture in odd
    ]


def _copies(
    members: Sequence[Picture], task: TaskConfig, rules: AnnotationRules
) -> tuple[list[Picture], list[Problem], list[Rejected]]:
    """What stays of pictures that are the same, the one to keep first."""
    first, done = members[0], rules.same_picture
    problems = []
    for other in members[1:]:
        where = f", in {first.split}" if first.split != other.split else ""
        otherwise = "" if other.annotation == first.annotation else ", and annotated otherwise"
        found = f"the same picture as {first.name}{where}{otherwise}"
        problems.append(noted(Flaw(FlawKind.SAME_PICTURE, other.name, "", found), rules, done))
    if done in ("keep", "stop"):
        return [replace(picture, family=first.id) for picture in members], problems, []
    reasons = [Rejected(problem.source, reason([problem])) for problem in problems]
    if done == "reject":
        also = Rejected(first.name, f"the same picture as {members[1].name} (annotations.same_picture)")
        return [], problems, [also, *reasons]
    annotation = first.annotation
    if any(other.annotation != annotation for other in members):
        annotation = task.joined([picture.annotation for picture in members])
    if annotation is None:
        words = "the same picture is annotated otherwise in"
        also = Rejected(first.name, f"{words} {members[1].name} (annotations.same_picture)")
        return [], problems, [also, *reasons]
    return [replace(first, annotation=annotation)], problems, reasons


def _shared_names(pictures: Sequence[Picture]) -> list[Flaw]:
    """Splits of the source whose pictures have the names of training pictures, but for a number at their end."""
    known = [picture for picture in pictures if picture.split and picture.group is None]
    names: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for picture in known:
        if stem := _stem(picture.name):
            names[str(picture.split)][stem].append(picture.name)
    everywhere = Counter(stem for of_split in names.values() for stem, found in of_split.items() for _ in found)
    if len(everywhere) < NAMES or max(everywhere.values()) > max(NAMES, len(known)) / NAMES:
        return []
    flaws = []
    for split in ("val", "test"):
        shared = {stem: found for stem, found in names[split].items() if stem in names["train"]}
        count, total = sum(map(len, shared.values())), sum(map(len, names[split].values()))
        if count and count >= SHARED * total:
            stem = min(shared)
            example = f"{shared[stem][0]} and {names['train'][stem][0]}"
            found = (
                f"{count:,} of {total:,} pictures of {split} are named as training pictures are, but for a number: "
                f"{example}. If that is a person or a scene, set split.group: '([^/]+)_[0-9]+' and split.given: ignore"
            )
            flaws.append(Flaw(FlawKind.SHARED_NAME, shared[stem][0], "", found))
    return flaws


def _stem(name: str) -> str:
    """The name of a file without folder, suffix and the number at its end; empty if few letters are left."""
    stem = re.sub(r"[\W_]*[0-9]+$", "", name.rpartition("/")[2].rpartition(".")[0])
    return stem if sum(character.isalpha() for character in stem) >= LETTERS else ""
