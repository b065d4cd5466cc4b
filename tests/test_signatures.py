"""What a registered model says that it answers is what it answers, for every task."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import graded_project
import pytest
import registry_project
import shown_sets
import torch
import yaml
from graded_project import OBJECTS, PIXELS
from mlflow.models import ModelSignature, infer_signature, validate_schema
from mlflow.pyfunc import load_model
from mlflow.types import DataType, Schema
from mlflow.types.schema import AnyType, Array, Map, Object
from pandas import DataFrame
from shown_sets import KINDS
from torch import Tensor, nn

from pipeline import bundle as bundles
from pipeline import plugin
from pipeline.bundle import Bundle
from pipeline.dataset import Dataset
from pipeline.evaluate import schema, stage
from pipeline.params import EvaluateOptions, EvaluateParams
from pipeline.registry import versions
from pipeline.train_options import ComputeOptions

OUTPUTS: dict[str, Any] = {
    "instances": [[8, 8, 40, 40, 0.9, 1, *[1] * 9], [0] * 15],
    "points": [[8.0 * point, 20, 0.7] for point in range(6)],
    "faces": [0.5, -0.5, 0.25, 1],
    "labels": [-2, 2, -2, 3, 0.1],
    "grades": [0, 1, 4, 1, 0],
    "numbers": [200_000.0, 3.5],
    "counts": [2.5, 0],
}
"""What a network says of each picture."""
MADE_ELSEWHERE = ("classification", OBJECTS, PIXELS)
TASKS = {kind: about.task for kind, about in KINDS.items()} | {name: name for name in MADE_ELSEWHERE}
DOUBLE = {"type": "double"}


class Says(nn.Module):
    """The same of every picture."""

    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self.outputs = nn.Parameter(torch.tensor(outputs, dtype=torch.float32))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.outputs.expand(pictures.shape[0], *self.outputs.shape).clone()


def make_project(root: Path, kind: str) -> None:
    """Dataset, model and what the stage `evaluate` makes of them."""
    if kind == "classification":
        registry_project.make_project(root)
    elif kind in (OBJECTS, PIXELS):
        graded_project.make_project(root, kind)
    else:
        made = shown_sets.make(root / "out/dataset", kind)
        Path("out/model").mkdir()
        bundles.write(Path("out/model"), shown_sets.bundle_info(made), Says(OUTPUTS[kind]))
        params = EvaluateParams(
            task=made.task, compute=ComputeOptions(device="cpu", threads=1), evaluate=EvaluateOptions(resamples=100)
        )
        stage.run(params, made.dataset, Bundle.open(), Path("out/evaluation"))


@pytest.mark.filterwarnings("ignore:Operation with range", "ignore:Hint. Inferred schema contains integer")
@pytest.mark.parametrize("kind", TASKS)
def test_the_signature_is_what_mlflow_finds_in_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # MLflow adds the folder of the model's code
    make_project(Path(), kind)
    with monkeypatch.context() as patched:
        patched.setattr(Bundle, "outputs", asked_nothing)
        versions.save(Bundle.open(), Path("model"), "m-1", "r" * 32)
    said = ModelSignature.from_dict(yaml.safe_load(Path("model/MLmodel").read_text())["signature"])
    test = Dataset.open().split("test")
    pictures = DataFrame({"image": [test.read(place) for place in range(len(test))]})
    answers = load_model("model").predict(pictures)
    found = infer_signature(pictures, answers)
    assert said.inputs == found.inputs
    assert said.outputs.input_names() == list(answers.columns)
    for column, seen in zip(said.outputs.inputs, found.outputs.inputs, strict=True):
        assert agree(column.type, seen.type), (column, seen)
    validate_schema(answers, said.outputs)


def asked_nothing(*_: object) -> None:
    raise AssertionError("a model is registered without asking it")


def agree(said: Any, found: Any) -> bool:
    """Whether types are the same; MLflow takes a map for an object whose names happen to be those of its keys."""
    if isinstance(said, Map):
        return isinstance(found, Object) and all(agree(said.value_type, one.dtype) for one in found.properties)
    if isinstance(said, Array):
        return isinstance(found, Array) and agree(said.dtype, found.dtype)
    if isinstance(said, Object):
        names = [one.name for one in said.properties], [one.name for one in found.properties]
        pairs = zip(said.properties, found.properties, strict=True)
        return names[0] == names[1] and all(agree(one.dtype, other.dtype) for one, other in pairs)
    return not isinstance(said, AnyType) and bool(said == found)


def test_every_task_is_among_them() -> None:
    assert sorted(TASKS.values()) == sorted(plugin.names("tasks"))


def test_types_that_differ_do_not_agree() -> None:
    assert not agree(DataType.long, DataType.double)
    assert not agree(Map(DataType.long), infer_signature(DataFrame({"x": [{"a": 0.5}]})).inputs.inputs[0].type)
    assert not agree(Array(DataType.string), Array(DataType.double))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("kind", KINDS)
def test_plain_answers_are_json_and_their_types_are_written_by_hand(tmp_path: Path, kind: str) -> None:
    made = shown_sets.make(tmp_path, kind)
    plain = [made.task.plain(told, made.dataset.info.classes) for told in made.told]
    assert json.loads(json.dumps(plain)) == plain
    columns = schema.columns(plain)
    assert Schema.from_json(json.dumps(columns)).to_dict() == columns
    box, map_ = {"type": "array", "items": DOUBLE, "required": True}, {"type": "map", "values": DOUBLE}
    many = {"type": "array", "items": {"type": "long"}, "required": True}
    runs = {"type": "object", "properties": {"counts": many, "size": many}, "required": True}
    record = {"box": box, "label": {"type": "string", "required": True}, "runs": runs}
    record |= {"score": {**DOUBLE, "required": True}}
    expected: dict[str, dict[str, Any]] = {
        "instances": {"objects": {"type": "array", "items": {"type": "object", "properties": record}}},
        "points": {"points": {"type": "map", "values": {"type": "array", "items": DOUBLE}}},
        "faces": {"embedding": {"type": "array", "items": DOUBLE}},
        "labels": {"labels": {"type": "array", "items": {"type": "string"}}, "probabilities": map_},
        "grades": {
            "label": {"type": "string"}, "probability": DOUBLE, "grade": {"type": "long"}, "probabilities": map_
        },
        "numbers": {"numbers": map_},
        "counts": {"counts": map_},
    }  # fmt: skip
    assert columns == [{"name": name, "required": True, **kind_of} for name, kind_of in expected[kind].items()]


def test_a_list_that_is_empty_may_hold_anything() -> None:
    anything = {"type": "array", "items": {"type": "any"}}
    assert schema.columns([{"labels": []}]) == [{"name": "labels", "required": True, **anything}]
    assert Schema.from_json(json.dumps(schema.columns([{"labels": []}]))).inputs[0].type == Array(AnyType())  # type: ignore[no-untyped-call]


def test_no_more_answers_are_looked_at_than_needed() -> None:
    answers = iter([{"labels": [], "x": 0}, {"labels": ["a"], "x": 2.5}, {"labels": [1], "x": ""}])
    assert [(one["type"], one.get("items")) for one in schema.columns(answers)] == [
        ("array", {"type": "string"}), ("long", None),
    ]  # fmt: skip
    assert len(list(answers)) == 1
