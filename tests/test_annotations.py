"""Objects and masks on their way into a dataset: what is wrong is named with its place, and goes by the rules."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import masks
from pipeline.annotations import Canvas, Drawn, Flaw, FlawKind, Layer, Objects, Painted, Thing
from pipeline.contracts import AnnotationRules, FormatConfig, Found, LeftOut, Target
from pipeline.dataset import PROBLEM_COLUMNS, Dataset
from pipeline.errors import UserError
from pipeline.images import ImageError, encode_png, values
from pipeline.ingest import painting
from pipeline.ingest.problems import check_stops, noted
from pipeline.ingest.shards import Spool
from pipeline.ingest.sifting import Picture, Sifted, sift
from pipeline.ingest.splits import assign
from pipeline.ingest.writing import write
from pipeline.params import IngestParams, SplitOptions
from pipeline.tasks.classification import Config as Classification
from pipeline.tasks.object_detection import Config as Detection
from pipeline.tasks.semantic_segmentation import Config as Segmentation

Item = Found | LeftOut | Flaw
RULES = AnnotationRules()
WIDTH, HEIGHT = 10, 8


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def picture(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def png(pixels: Any, mode: str | None = None, palette: list[int] | None = None, kind: str = "PNG") -> bytes:
    image = Image.fromarray(np.array(pixels, np.uint8))
    if palette:
        image.putpalette(palette + [0] * (768 - len(palette)))
    out = io.BytesIO()
    (image.convert(mode) if mode else image).save(out, format=kind)
    return out.getvalue()


def painted(*layers: Layer, background: str | None = None) -> tuple[Canvas, Any]:
    """What becomes of layers, and its mask."""
    job = Painted(layers, background)
    canvas = painting.canvas(job, *painting.paint(painting.packed(job)))
    return canvas, masks.decode(canvas.mask).tolist() if canvas.id else None


# Masks as sources paint them


def test_values_of_a_palette_are_its_indices_and_not_its_colours():
    """In VOC's palette the indices 1 and 2 are (128, 0, 0) and (0, 128, 0)."""
    indexed = png([[0, 1], [2, 255]], palette=[0, 0, 0, 128, 0, 0, 0, 128, 0])
    assert values(indexed).tolist() == [[0, 1], [2, 255]]
    canvas, mask = painted(Layer("m.png", indexed, {0: "background", 1: "plane", 2: "bike"}, frozenset({255})))
    assert canvas.names == ("background", "bike", "plane")
    assert mask == [[0, 2], [1, 255]]
    assert canvas.counts == {"background": 1, "bike": 1, "plane": 1} and canvas.flaws == ()


def test_the_same_palette_read_as_colours_is_named_and_not_guessed_at():
    colours = png([[0, 1], [2, 1]], mode="RGB", palette=[0, 0, 0, 128, 0, 0, 0, 128, 0])
    canvas, mask = painted(Layer("m.png", colours, {0: "background", 1: "plane"}))
    assert mask is None
    assert canvas.flaws == (Flaw(FlawKind.COLOUR_MASK, "m.png", "", "in colours; expected one value per pixel"),)


def test_colours_are_classes_where_the_source_says_so():
    colours = png([[[0, 0, 0], [128, 0, 0]], [[1, 2, 3], [128, 0, 0]]])
    canvas, mask = painted(Layer("m.png", colours, {(0, 0, 0): "sky", (128, 0, 0): "road"}))
    assert mask == [[1, 0], [255, 0]]
    assert canvas.flaws[0] == (FlawKind.UNKNOWN_CLASS, "m.png", "", "values without a class: (1, 2, 3) (1 pixels)")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_black_and_white_in_every_file_format(kind: str):
    canvas, mask = painted(Layer("m", png([[0, 255], [255, 0]], kind=kind), {0: "background", 255: "cell"}))
    assert mask == [[0, 1], [1, 0]], canvas


def test_one_bit_and_sixteen_bits():
    one_bit = png([[0, 255], [255, 255]], mode="1")
    assert values(one_bit).tolist() == [[0, 1], [1, 1]]
    wide, out = np.array([[0, 1000], [65535, 7]], np.uint16), io.BytesIO()
    Image.fromarray(wide).save(out, format="PNG")
    assert values(out.getvalue()).tolist() == wide.tolist()
    assert values(png([[[5, 5, 5], [9, 9, 9]]])).tolist() == [[5, 9]]  # grey in three channels is one value


def test_one_mask_per_object_lies_over_the_others():
    layers = [
        Layer("a.png", png([[255, 255], [0, 0]]), {255: "cell"}, clear=frozenset({0})),
        Layer("b.png", png([[0, 255], [255, 0]]), {255: "dust"}, clear=frozenset({0})),
    ]
    canvas, mask = painted(*layers, background="background")
    assert canvas.names == ("background", "cell", "dust")
    assert mask == [[1, 2], [2, 0]]
    assert painted(*layers)[1] == [[0, 1], [1, 255]]  # without a background what is left is void


def test_layers_of_two_sizes_damage_and_too_many_classes_are_flaws():
    small, large = (Layer(f"{n}.png", png(np.zeros((n, 3))), {0: "a"}) for n in (2, 3))
    assert painted(small, large)[0].flaws[0][:2] == (FlawKind.OTHER_SIZE, "3.png")
    broken = painted(Layer("c.png", b"no picture", {0: "a"}))[0]
    assert broken.flaws[0][:2] == (FlawKind.UNREADABLE, "c.png") and "not a picture" in broken.flaws[0].found
    many = painted(Layer("d.png", png([[0]]), {n: f"class {n}" for n in range(300)}))[0]
    assert "300 classes of pixels; 254 can be told apart" in many.flaws[0].found


def test_a_mask_in_floats_is_refused():
    out = io.BytesIO()
    Image.fromarray(np.ones((2, 2), np.float32)).save(out, format="TIFF")
    with pytest.raises(ImageError, match="a mask in the mode F"):
        values(out.getvalue())


# Sifting


def sifted(items: list[Item], task: Any, **rules: Any) -> Sifted:
    with Spool(Path("spool")) as spool:
        return sift(items, task, AnnotationRules(**rules), spool, {}, lambda count: None)


def boxed(name: str, seed: int, *boxes: Any, flaws: tuple[Flaw, ...] = (), source: str = "") -> Found:
    things = tuple(Thing("cell", box, f"object {n}") for n, box in enumerate(boxes, 1))
    return Found(name, picture(seed), {Target.OBJECTS: Objects(things, source or f"{name}.xml")}, flaws=flaws)


GOOD = (1.0, 1.0, 4.0, 5.0)


def test_a_bad_box_is_dropped_named_and_its_picture_kept():
    found = sifted([boxed("a", 1, GOOD, (5, 3, 5, 3)), boxed("b", 2, GOOD)], Detection())
    assert [len(picture.annotation.things) for picture in by_name(found)] == [1, 1]
    assert [tuple(one) for one in found.problems] == [
        ("a.xml", "object 2", "bad_box", "the box 5,3,5,3 has no area", "drop")
    ]
    assert found.rejected == []


def test_a_rule_rejects_the_picture_with_the_reason():
    found = sifted([boxed("a", 1, GOOD, (5, 3, 5, 3)), boxed("b", 2, GOOD)], Detection(), bad_box="reject")
    assert [picture.name for picture in found.pictures] == ["b"]
    assert found.rejected == [("a", "a.xml, object 2: the box 5,3,5,3 has no area (annotations.bad_box)")]


def test_a_rule_stops_with_all_of_its_kind():
    items = [boxed(str(n), n, GOOD, (5, 3, 5, 3)) for n in range(7)]
    with pytest.raises(UserError) as error:
        sifted(items, Detection(), bad_box="stop")
    text = str(error.value)
    assert text.startswith(
        "7 things are wrong with the annotations, and params.yaml says to stop: annotations.bad_box (7).\n"
        "  0.xml, object 2: the box 5,3,5,3 has no area\n"
    )
    assert text.endswith("and 2 more\nMend them, or choose another rule.")


@pytest.mark.parametrize("kind", list(FlawKind))
def test_every_flaw_of_a_format_has_a_rule_and_is_counted(kind: FlawKind):
    flaw = Flaw(kind, "a.xml", "object 9", "what is wrong")
    found = sifted([boxed("a", 1, GOOD, flaws=(flaw,)), boxed("b", 2, GOOD), flaw], Detection())
    done = getattr(RULES, kind.value)
    assert [one.problem for one in found.problems] == [kind.value] * 2
    assert {one.done for one in found.problems} == {done}
    assert ("a" in [picture.name for picture in found.pictures]) == (done != "reject")


def test_a_picture_of_which_nothing_is_said_goes_by_its_rule():
    items: list[Item] = [boxed("a", 1, GOOD), Found("b", picture(2), {})]
    found = sifted(items, Detection())
    assert found.rejected == [("b", "b: nothing is said of this picture (annotations.no_annotation)")]
    kept = sifted(items, Detection(), no_annotation="keep")
    assert [len(picture.annotation.things) for picture in by_name(kept)] == [1, 0]
    assert kept.problems[0][2:] == ("no_annotation", "nothing is said of this picture", "keep")
    labels: list[Item] = [Found("a", picture(1), {Target.LABEL: "x"}), Found("b", picture(2), {})]
    only = sifted(labels, Classification(), no_annotation="keep")  # there is no class for it
    assert [picture.name for picture in only.pictures] == ["a"]


def test_copies_with_other_boxes_are_all_rejected_and_with_the_same_one_stays():
    same = sifted([boxed("a", 1, GOOD), boxed("b", 1, GOOD), boxed("c", 2, GOOD)], Detection())
    assert same.rejected == [("b", "the same bytes as a")]
    other = sifted([boxed("a", 1, GOOD), boxed("b", 1, (1, 1, 4, 6)), boxed("c", 2, GOOD)], Detection())
    assert other.rejected == [
        ("a", "annotated otherwise than b, the same bytes"),
        ("b", "annotated otherwise than a, the same bytes"),
    ]


def test_a_source_that_says_nothing_of_the_task_is_refused_in_words():
    with pytest.raises(UserError) as error:
        sifted([Found("a", picture(1), {Target.LABEL: "x"})], Detection())
    assert "nothing that this task learns from, of none of its 1 pictures: expected boxes with classes" in str(
        error.value
    )


def test_masks_of_pictures_are_painted_in_the_decoding_process():
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:4] = 1
    classes = {0: "sky", 1: "road"}
    items: list[Item] = [
        Found("a", picture(1), {Target.MASK: Painted((Layer("a.png", png(mask), classes),))}),
        Found("b", picture(2), {Target.MASK: Painted((Layer("b.png", png(mask.T), classes),))}),
        Found("c", picture(3), {Target.MASK: Painted((Layer("c.png", png(mask + 1), classes),))}),
    ]
    found = sifted(items, Segmentation())
    assert [(picture.name, picture.annotation.counts) for picture in found.pictures] == [("a", {"sky": 60, "road": 20})]
    reasons = dict(found.rejected)
    assert "a mask of 8 x 10; the picture is 10 x 8 (annotations.other_size)" in reasons["b"]
    assert "values without a class: 2 (20 pixels) (annotations.unknown_class)" in reasons["c"]
    void = sifted(items, Segmentation(), unknown_class="drop")
    assert {one.done for one in void.problems} == {"reject", "void"}
    assert by_name(void)[-1].annotation.counts == {"road": 60}


def by_name(found: Sifted) -> list[Picture]:
    return sorted(found.pictures, key=lambda picture: picture.name)


def test_words_from_a_source_are_made_printable():
    problem = noted(Flaw(FlawKind.UNREADABLE, "a\x1b[31m.xml", "x\ny", "z\x00"), RULES)
    assert problem[:2] == ("a\\u001b[31m.xml", "x\\u000ay")
    check_stops([problem])  # nothing says to stop


# The dataset on disk


class Given(FormatConfig):
    """Whatever a test hands in."""

    gives = frozenset(Target)

    def fingerprint(self) -> Any:
        yield "given"

    def read(self) -> Any:
        yield from ()


def written(items: list[Item], task: Any) -> Dataset:
    params = IngestParams(
        data=Given(), annotations=RULES, split=SplitOptions.model_validate({"val": 0.2, "test": 0.2}), task=task
    )
    out = Path("dataset")
    out.mkdir()
    with Spool(Path("spool")) as spool:
        found = sift(items, task, RULES, spool, {}, lambda count: None)
        found = found._replace(pictures=assign(found.pictures, params.split, task.stratum))
        write(out, params, found, spool)
    return Dataset.open(out)


def test_objects_come_back_as_they_were_said():
    boxes = [(0.1, 0.2, 3.3, 4.4), (1 / 3, 0, 10, 8)]
    items: list[Item] = [boxed(f"{n}.png", n, *boxes[: n % 3]) for n in range(12)]
    dataset = written([*items, boxed("bad", 50, GOOD, (4, 4, 4, 4))], Detection())
    info = dataset.info
    assert (info.classes, info.unit, info.learns) == (["cell"], "objects", "OBJECTS")
    assert sum(info.splits.values()) == 13 and sum(split["cell"] for split in info.counts.values()) == 4 + 8 + 1
    assert info.problems == {"bad_box": 1}
    table = pq.read_table(dataset.root / "problems.parquet")
    assert table.column_names == list(PROBLEM_COLUMNS) and table.num_rows == 1
    for split in ("train", "val", "test"):
        part = dataset.split(split)
        for position, row in enumerate(part.samples.to_pylist()):
            count = 1 if row["source"] == "bad" else int(row["source"].removesuffix(".png")) % 3
            expected = [GOOD] if row["source"] == "bad" else boxes[:count]
            assert part.objects(position).tolist() == [[*box, 0, 0] for box in expected]


def test_masks_come_back_with_the_ids_of_the_dataset():
    random = np.random.default_rng(0)
    painted_as = [random.integers(0, 3, (HEIGHT, WIDTH)) for _ in range(10)]
    names = {0: "tree", 1: "car", 2: "road", 9: "never painted"}
    items: list[Item] = [
        Found(f"{n}", picture(n), {Target.MASK: Painted((Layer("m", png(mask), names, frozenset({255})),))})
        for n, mask in enumerate(painted_as)
    ]
    dataset = written(items, Segmentation())
    assert dataset.info.classes == ["car", "road", "tree"]
    counts = {name: sum(split[name] for split in dataset.info.counts.values()) for name in dataset.info.classes}
    assert counts == {names[v]: int(sum((mask == v).sum() for mask in painted_as)) for v in (0, 1, 2)}
    for split in ("train", "val", "test"):
        part = dataset.split(split)
        for position, row in enumerate(part.samples.to_pylist()):
            expected = np.array([2, 0, 1])[painted_as[int(row["source"])]]
            assert (masks.decode(part.mask(position)) == expected).all()
    drawn = Drawn(Objects((Thing("car", (0, 0, 2, 2), outline=((0, 0, 2, 0, 2, 2, 0, 2),)),)), "road")
    other = sifted([Found("x", picture(99), {Target.MASK: drawn})], Segmentation()).pictures[0].annotation
    assert other.counts == {"car": 4, "road": 76}
