"""The door: `params.yaml` becomes frozen, typed params, or every problem in it comes back at once.

Below the door nobody reads YAML or checks a range again.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.clashes import clashes
from pipeline.contracts import Options
from pipeline.errors import ParamsError, Problem, did_you_mean
from pipeline.params import PART_FOLDERS, Params
from pipeline.plugin import config_class, names

PARAMS = Path("params.yaml")
MAX_BYTES = 1_000_000

P = TypeVar("P", bound=Options)


def load(wanted: type[P], path: Path = PARAMS) -> P:
    """Read the sections that `wanted` has.

    Raises:
        ParamsError: with every problem of these sections.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "there is no such file here" if isinstance(error, FileNotFoundError) else str(error)
        raise ParamsError(str(path), [Problem("the file", f"cannot be read: {reason}.")]) from None
    return parse(wanted, text, str(path))


def parse(wanted: type[P], text: str, file: str = str(PARAMS)) -> P:
    """As `load`, from the text of a file named `file`."""
    raw = _mapping(text, file)
    problems = [
        Problem(key, f"no such section.{did_you_mean(key, Params.model_fields)}")
        for key in raw
        if key not in Params.model_fields
    ]
    values: dict[str, Any] = {}
    for key, field in wanted.model_fields.items():
        if key not in raw:
            if field.is_required():
                problems.append(Problem(key, "missing."))
            continue
        try:
            values[key] = _part(key, raw[key]) if key in PART_FOLDERS else raw[key]
        except _Bad as bad:
            problems += bad.problems
    try:
        # Sections already found bad are left out; that they are then missing is no second problem.
        params = wanted.model_validate(values)
    except ValidationError as error:
        known = {problem.place for problem in problems} | {p.place.split(".")[0] for p in problems}
        problems += [
            problem for problem in _worded(error, wanted) if not (problem.text == "missing." and problem.place in known)
        ]
    if problems:
        raise ParamsError(file, problems)
    if texts := list(clashes(params)):
        raise ParamsError(file, [Problem("the parts together", text) for text in texts])
    return params


class _Bad(Exception):
    def __init__(self, problems: list[Problem]) -> None:
        super().__init__()
        self.problems = problems


class _Loader(yaml.SafeLoader):
    """YAML without its traps: a repeated key is an error, and aliases, which can swell to gigabytes, are refused."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"line {mark.line + 1}: aliases (*name) are not read; write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: the key {key_node.value!r} stands twice; keep one")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _mapping(text: str, file: str) -> dict[str, Any]:
    problem = None
    if len(text) > MAX_BYTES:
        problem = f"{len(text)} characters; at most {MAX_BYTES} are read."
    else:
        try:
            raw = yaml.load(text, Loader=_Loader)
            if isinstance(raw, dict) and all(isinstance(key, str) for key in raw):
                return raw
            problem = "expected `key: value` lines, one section each."
        except (yaml.YAMLError, RecursionError) as error:
            problem = f"not valid YAML: {where_wrong(error)}."
    raise ParamsError(file, [Problem("the file", problem)])


def where_wrong(error: Exception) -> str:
    """In a line, what a YAML parser does not understand, and in which line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}: {problem}" if mark and problem else " ".join(str(error).split())


def _part(section: str, raw: Any) -> Options:
    folder = PART_FOLDERS[section]
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        example = next(iter(get_close_matches(str(raw), names(folder), n=1)), names(folder)[0])
        raise _Bad([Problem(section, f"expected a part by its name, as in {{name: {example}}}; found {raw!r}.")])
    options = dict(raw)
    try:
        part = config_class(folder, options.pop("name"))
    except KeyError as error:
        raise _Bad([Problem(section, error.args[0])]) from None
    try:
        return part.model_validate(options)
    except ValidationError as error:
        raise _Bad(
            [Problem(f"{section}.{p.place}" if p.place else section, p.text) for p in _worded(error, part)]
        ) from None


def _worded(error: ValidationError, wanted: type[Options]) -> list[Problem]:
    return [Problem(".".join(map(str, e["loc"])), _words(e, wanted)) for e in error.errors()]


def _words(error: ErrorDetails, wanted: type[Options]) -> str:
    if error["type"] == "missing":
        return "missing."
    if error["type"] == "extra_forbidden":
        section: Any = wanted
        for key in error["loc"][:-1]:
            field = getattr(section, "model_fields", {}).get(key)
            section = field.annotation if field else None
        valid = getattr(section, "model_fields", {})
        near = did_you_mean(str(error["loc"][-1]), valid)
        return f"no such key.{near or (' Valid keys: ' + ', '.join(valid) + '.' if valid else '')}"
    text = error["msg"].removeprefix("Value error, ").rstrip(".")
    if error["type"] == "value_error":
        return text if text.endswith("?") else f"{text}."
    return f"{text[0].lower()}{text[1:]}; found {error['input']!r}."
