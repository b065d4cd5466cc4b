"""Every part in every folder keeps its options as the door and the journal of a run expect."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.contracts import Options
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


@pytest.mark.parametrize(("folder", "name"), PARTS)
def test_part_says_what_it_is(folder: str, name: str) -> None:
    config = config_class(folder, name)
    assert config.__doc__
    assert config.__module__ == f"pipeline.{folder}.{name}"
