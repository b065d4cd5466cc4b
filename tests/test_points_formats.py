"""Named points out of tables and COCO files, by hand, and a small set of them all the way to its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from object_sources import Result, needs_data, tree
from raster_sources import picture, put, read, recognised
from tiny_sources import png

from pipeline.annotations import Place, Points
from pipeline.augment import stage as augment
from pipeline.bundle import Bundle
from pipeline.contracts import Target
from pipeline.dataset import Dataset
from pipeline.door import parse
from pipeline.errors import ParamsError, UserError
from pipeline.ingest import stage as ingest
from pipeline.params import AugmentParams, IngestParams, TrainParams
from pipeline.score import of_split
from pipeline.tasks._mirrors import IBUG68
from pipeline.train import stage as train

# --- tables


def points_of(path: str, **options: Any) -> dict[str, Points]:
    return {name: said for name, said in read("table", path, **options).of(Target.POINTS).items() if said}


@pytest.mark.parametrize(
    "header",
    [
        "file,nose_x,nose_y,left eye_x,left eye_y",
        "file,x_nose,y_nose,x_left eye,y_left eye,x_chin,y_chin",
        "file,nose.X,nose.Y,left eye.X,left eye.Y",
    ],
)
def test_points_by_the_names_of_their_columns(header: str, tmp_path: Path) -> None:
    row = "a.png,1,2.5,-3,4" + (",7,8" if "chin" in header else "")
    path = put(tmp_path, {"a.png": picture(), "t.csv": f"{header}\n{row}\n"})
    (said,) = points_of(path).values()
    assert dict(list(said.places.items())[:2]) == {"nose": Place(1, 2.5), "left eye": Place(-3, 4)}
    assert (said.source, said.place, said.relative) == ("t.csv", "line 2", False)
    assert recognised("table", path) == 2


def test_points_as_numbered_columns_after_a_nameless_one_with_tables_by_split_and_the_same_names(
    tmp_path: Path,
) -> None:
    # as facial-keypoints has them: the pictures of both splits have the same names
    files: dict[str, bytes | str] = {}
    for number, (table, folder) in enumerate((("training_points", "training"), ("test_points", "test"))):
        files |= {f"{folder}/ann_{at}.jpg": picture(10 * number + at, form="JPEG") for at in (1, 2)}
        rows = [f"ann_{at}.jpg,{at},{number},3,4.5,5,6" for at in (1, 2)]
        files[f"{table}.csv"] = "\n".join([",0,1,2,3,4,5", *rows]) + "\n"
    told = read("table", put(tmp_path, files))
    assert {item.name: item.split for item in told.found} == {
        **{f"training/ann_{at}.jpg": "train" for at in (1, 2)},
        **{f"test/ann_{at}.jpg": "test" for at in (1, 2)},
    }
    assert told.of(Target.POINTS)["test/ann_2.jpg"].places == {"0": (2, 1), "1": (3, 4.5), "2": (5, 6)}
    assert told.every_flaw() == [] and all(not item.metadata for item in told.found)


def test_a_picture_of_a_table_of_one_split_is_never_that_of_another(tmp_path: Path) -> None:
    files = {"training/a.jpg": picture(form="JPEG"), "training/b.jpg": picture(1, form="JPEG")}
    files |= {"test/b.jpg": picture(2, form="JPEG")}
    files |= {
        "train_points.csv": ",0,1,2,3\na.jpg,1,2,3,4\nb.jpg,1,2,3,4\n",
        "test_points.csv": ",0,1,2,3\na.jpg,1,2,3,4\n",
    }
    told = read("table", put(tmp_path, files))
    assert set(points_of(str(tmp_path))) == {"training/a.jpg", "training/b.jpg"}
    assert told.every_flaw() == [("no_picture", "test_points.csv", "line 2")]


def test_what_is_empty_is_unknown_and_what_is_no_number_or_said_twice_a_flaw(tmp_path: Path) -> None:
    rows = ["a.png,1,2,,", "b.png,1,,3,4", "c.png,nan,2,3,4", "d.png,1,2,3,here", "a.png,9,9,9,9"]
    rows += [f"e{at}.png,1,2,3,4" for at in range(8)]
    names = ["a", "b", "c", "d", *(f"e{at}" for at in range(8))]
    files = {f"{name}.png": picture(at) for at, name in enumerate(names)}
    path = put(tmp_path, {**files, "t.csv": "\n".join(["file,p_x,p_y,q_x,q_y", *rows]) + "\n"})
    said, told = points_of(path), read("table", path)
    assert said["a.png"].places == {"p": (1, 2), "q": None}
    assert said["b.png"].places == {"p": None, "q": (3, 4)}
    assert np.isnan(said["c.png"].places["p"].x)
    assert "d.png" not in said
    assert told.every_flaw() == [("duplicate", "t.csv", "line 6"), ("unreadable", "t.csv", "line 5")]
    (flaw,) = next(item for item in told.found if item.name == "d.png").flaws
    assert flaw.found == "a coordinate is 'here'; expected a number"


def test_places_in_0_to_1_are_shares_of_the_picture(tmp_path: Path) -> None:
    path = put(tmp_path, {"a.png": picture(), "t.csv": "file,p_x,p_y,q_x,q_y\na.png,0.5,1,0.25,0\n"})
    assert points_of(path)["a.png"].relative


@pytest.mark.parametrize(
    "table",
    [
        "filename,class,x1,y1,x2,y2\na.png,cat,1,1,3,3\n",
        "file,label,centre_x,centre_y\na.png,cat,1,2\n",
        "file,label,a_x,b_y\na.png,cat,1,2\n",
        "file,0,1,2\na.png,4,5,6\n",
        "file,1,2,3,5\na.png,4,5,6,7\n",
        "file,label,eye_x,eye_y,lens_x,lens_y\na.png,cat,thin,thick,small,large\n",
    ],
)
def test_what_is_no_table_of_points(table: str, tmp_path: Path) -> None:
    path = put(tmp_path, {"a.png": picture(), "t.csv": table})
    try:
        assert points_of(path) == {}
    except UserError as error:
        assert "has no table of pictures" in str(error)


@pytest.mark.slow
@needs_data
def test_facial_keypoints_has_68_points_for_each_of_its_pictures() -> None:
    told = read(
        "table",
        str(Path(__file__).parents[2] / "shared/data/facial-keypoints/facial-keypoints.tar.gz"),
        inside="facial-keypoints/small",
    )
    assert len(told.found) == 3462 + 770 and told.every_flaw() == []
    assert {len(said.places) for said in told.of(Target.POINTS).values()} == {68}
    assert (
        sum(item.split == "test" and item.name.startswith("facial-keypoints/small/test/") for item in told.found) == 770
    )


# --- COCO


def coco_points(*annotations: dict[str, Any], names: Any = ("nose", "chin")) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(names)}],
        "annotations": [
            {"id": at, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], **said}
            for at, said in enumerate(annotations, 1)
        ],
    }


def coco_told(tmp_path: Path, raw: dict[str, Any]) -> Points | None:
    annotation = Result("coco", tree(tmp_path, {"x.json": raw, "a.png": None})).found["a.png"].annotation
    assert Target.OBJECTS in annotation
    said = annotation.get(Target.POINTS)
    assert said is None or isinstance(said, Points)
    return said


def test_coco_points_hidden_ones_are_known_and_unlabelled_ones_are_not(tmp_path: Path) -> None:
    said = coco_told(tmp_path, coco_points({"keypoints": [3, 2, 1, 0, 0, 0]}))
    assert said is not None and said.places == {"nose": (3, 2), "chin": None}
    assert (said.source, said.place) == ("x.json", "annotation 1")


def test_coco_points_of_several_are_those_of_the_largest_that_has_any(tmp_path: Path) -> None:
    small = {"keypoints": [1, 1, 2, 1, 2, 2], "bbox": [0, 0, 2, 2]}
    large = {"keypoints": [2, 2, 2, 2, 3, 2], "bbox": [0, 0, 3, 3]}
    largest = {"keypoints": [0, 0, 0, 0, 0, 0], "bbox": [0, 0, 5, 4]}
    crowd = {"keypoints": [4, 4, 2, 4, 4, 2], "bbox": [0, 0, 5, 4], "iscrowd": 1}
    said = coco_told(tmp_path, coco_points(small, large, largest, crowd))
    assert said is not None and said.places == {"nose": (2, 2), "chin": (2, 3)}


@pytest.mark.parametrize("keypoints", [None, [], [1, 2], [1, 2, 2], ["a", 1, 2, 1, 1, 2], {"x": 1}, [0] * 6])
def test_coco_without_points_that_can_be_read_has_objects_still(keypoints: Any, tmp_path: Path) -> None:
    assert coco_told(tmp_path, coco_points({"keypoints": keypoints})) is None


@pytest.mark.parametrize("names", [None, 3, ["nose", "nose"], ["nose", 7]])
def test_coco_points_without_names_are_numbered(names: Any, tmp_path: Path) -> None:
    raw = coco_points({"keypoints": [3, 2, 1, 4, 1, 2]})
    raw["categories"][0]["keypoints"] = names
    said = coco_told(tmp_path, raw)
    assert said is not None and said.places == {"0": (3, 2), "1": (4, 1)}


# --- all the way


PARAMS = """
name: points
seed: 0
data: {{name: table, path: {path}}}
annotations: {{}}
split: {{}}
task: {{name: keypoints{task}}}
augment: {{name: {policy}, size: 32, frame: pad}}
model: {model}
loss: {{name: {loss}}}
optimizer: {{name: adamw, lr: 0.004}}
schedule: {{name: constant}}
order: {{name: shuffled}}
mixing: {{name: none}}
average: {{name: none}}
layers: {{}}
ensemble: {{}}
train: {{epochs: 20, batch_size: 8}}
compute: {{device: cpu, precision: float32, memory_format: contiguous, threads: 1, loader_threads: 1}}
"""


def params(path: Path, model: str, loss: str, task: str = "", policy: str = "standard") -> str:
    return PARAMS.format(path=path, model=model, loss=loss, task=task, policy=policy)


def two_dots(root: Path) -> None:
    """Eighty pictures, each with a red dot in its left half and a blue one in the other."""
    random, rows = np.random.default_rng(0), ["file,left_x,left_y,right_x,right_y"]
    for number in range(80):
        pixels = random.integers(0, 40, (24, 32, 3)).astype(np.uint8)
        left, right = random.uniform((3, 3), (13, 21)), random.uniform((19, 3), (29, 21))
        across, down = np.meshgrid(np.arange(32) + 0.5, np.arange(24) + 0.5)
        for (x, y), channel in ((left, 0), (right, 2)):
            pixels[(across - x) ** 2 + (down - y) ** 2 < 9, channel] = 250
        put(root, {f"{number}.png": png(pixels)})
        rows.append(f"{number}.png,{left[0]},{left[1]},{right[0]},{right[1]}")
    put(root, {"points.csv": "\n".join(rows) + "\n"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "loss", "epochs"),
    [
        ("{name: heatmap, width: 8, depth: 3, features: 16}", "heatmap", 6),
        ("{name: convnet, width: 8, pooled: false}", "wing", 30),
    ],
)
def test_a_small_set_is_learnt_and_answered_alike_from_the_bundle(
    model: str, loss: str, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    two_dots(tmp_path / "source")
    text = params(tmp_path / "source", model, loss, policy="light").replace("epochs: 20", f"epochs: {epochs}")
    ingest.run(parse(IngestParams, text), Path("out/dataset"))
    dataset = Dataset.open()
    assert (dataset.info.classes, dataset.info.mirrored) == (["left", "right"], [1, 0])
    assert (dataset.info.learns, dataset.info.unit) == ("POINTS", "points")
    policy = augment.run(parse(AugmentParams, text), dataset, Path("out/policy"))
    train.run(parse(TrainParams, text), dataset, policy, Path("out/model"), Path("out/training"))
    bundle, test = Bundle.open(), dataset.split("test")
    told = bundle.task.answers(test, of_split(bundle, test, torch.device("cpu")))
    assert told.mean_errors.mean() < 0.6 * bundle.task.blind(dataset.split("train"), test).mean_errors.mean()
    again = bundle.answer([bundle.prepare(test.read(0))])
    assert np.abs(again[0] - told.told[0]).max() < 1e-3


def test_a_face_of_68_numbered_points_is_mirrored_only_if_somebody_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    files: dict[str, bytes | str] = {f"{at}.png": picture(20 * at) for at in range(8)}
    rows = [f"{at}.png," + ",".join(f"{value:.2f}" for value in random.uniform(0, 4, 136)) for at in range(8)]
    files["points.csv"] = "\n".join([",".join(["", *map(str, range(136))]), *rows]) + "\n"
    put(tmp_path / "source", files)
    for task in ("", ", mirror: ibug68, normalise: [36, 45]"):
        text = params(tmp_path / "source", "{name: convnet, width: 4}", "wing", task)
        ingest.run(parse(IngestParams, text), Path("out/dataset"))
        info = Dataset.open().info
        assert len(info.classes) == 68 and info.classes[:3] == ["0", "1", "2"]
        assert info.mirrored == (list(IBUG68) if task else [])
        if task:
            augment.run(parse(AugmentParams, text), Dataset.open(), Path("out/policy"))
        else:
            with pytest.raises(UserError, match="augment mirrors pictures, and nobody has said which of the 68 points"):
                augment.run(parse(AugmentParams, text), Dataset.open(), Path("out/policy"))


def test_the_door_matches_networks_losses_and_scores(tmp_path: Path) -> None:
    from pipeline.params import Params

    def clashes(model: str, loss: str) -> str:
        text = params(tmp_path, model, loss) + "evaluate: {}\ngate: {}\nflow: {}\n"
        try:
            parse(Params, text)
        except ParamsError as error:
            return str(error)
        return ""

    assert clashes("{name: convnet}", "huber") == "" and clashes("{name: heatmap}", "heatmap") == ""
    assert "compares one vector per image [B, K] with named points" in clashes("{name: convnet}", "heatmap")
    assert "needs places with a score per image" in clashes("{name: unet}", "heatmap")
