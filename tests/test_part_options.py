"""Every part in every folder keeps its options as the door and the journal of a run expect."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import ValidationError

from pipeline.contracts import Frame, Options
from pipeline.params import PART_FOLDERS, Params
from pipeline.plugin import SINGULAR, config_class, names

PARTS = [(folder, name) for folder in SINGULAR for name in names(folder)]
NEEDED: dict[tuple[str, str], dict[str, Any]] = {
    **{("formats", name): {"path": "pictures"} for name in names("formats") if name != "digits"},
    ("models", "timm"): {"architecture": "resnet18"},
    ("models", "torchvision"): {"architecture": "resnet18"},
    ("policies", "custom"): {"transforms": [{"name": "Crop", "arguments": {"x_max": 32}}], "from_size": 40},
}
"""What a part must be told, where it has an option without a default."""


def part(folder: str, name: str, **more: object) -> Options:
    size = {"size": 32} if folder == "policies" else {}
    return config_class(folder, name).model_validate({**size, **NEEDED.get((folder, name), {}), **more})


@pytest.mark.parametrize(("folder", "name"), PARTS)
def test_options_survive_dump_and_load(folder: str, name: str) -> None:
    options = part(folder, name)
    assert type(options).model_validate_json(options.model_dump_json()) == options


@pytest.mark.parametrize(("folder", "name"), PARTS)
def test_every_option_is_explained(folder: str, name: str) -> None:
    unexplained = [key for key, field in config_class(folder, name).model_fields.items() if not field.description]
    assert not unexplained, f"give them a docstring in pipeline/{folder}/{name}.py"


@pytest.mark.parametrize(("folder", "name"), PARTS)
def test_unknown_option_is_refused(folder: str, name: str) -> None:
    with pytest.raises(ValidationError, match="no_such_option"):
        part(folder, name, no_such_option=1)


@pytest.mark.parametrize(("folder", "name"), PARTS)
def test_options_do_not_change(folder: str, name: str) -> None:
    options = part(folder, name)
    for key in type(options).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(options, key, 1)


SECTIONS = [(key, field.annotation) for key, field in Params.model_fields.items() if key not in PART_FOLDERS]
CLASSES = [(f"{folder}-{name}", config_class(folder, name)) for folder, name in PARTS]
CLASSES += [(key, options) for key, options in SECTIONS if isinstance(options, type) and issubclass(options, Options)]
CLASSES += [("frame", Frame)]


def with_one(number: float, kind: Any) -> Iterator[Any]:
    """Values of a type that hold the number at one of its places for floats."""
    inner, origin = get_args(kind), get_origin(kind)
    if kind is float:
        yield number
    elif origin is Annotated:
        yield from with_one(number, inner[0])
    elif origin is Literal:
        return
    elif origin in (tuple, list):
        for place in range(len(inner)) if inner[-1] is not Ellipsis else (0,):
            for value in with_one(number, inner[place]):
                yield [0.5] * place + [value] + [0.5] * (len(inner) - place - 1 if inner[-1] is not Ellipsis else 0)
    elif origin is dict:
        yield from ({"key": value} for value in with_one(number, inner[1]))
    elif origin in (Union, UnionType):
        for choice in inner:
            yield from with_one(number, choice)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("options", [pytest.param(options, id=name) for name, options in CLASSES])
def test_no_option_is_without_end(options: type[Options], number: float) -> None:
    """Beyond every number, or none: a share, a rate, a limit of which nothing can come."""
    for key, field in options.model_fields.items():
        for value in with_one(number, field.annotation):
            with pytest.raises(ValidationError) as raised:
                options.model_validate({field.alias or key: value})
            refused = {error["loc"][:1] for error in raised.value.errors() if error["type"] != "missing"}
            assert (field.alias or key,) in refused, value


@pytest.mark.parametrize(("folder", "name"), PARTS)
def test_part_says_what_it_is(folder: str, name: str) -> None:
    config = config_class(folder, name)
    assert config.__doc__
    assert config.__module__ == f"pipeline.{folder}.{name}"
