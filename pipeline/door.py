"""The door: `params.yaml` becomes frozen, typed params, or every problem in it comes back at once.

Below the door nobody reads YAML or checks a range again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.clashes import clashes
from pipeline.contracts import Options
from pipeline.errors import ParamsError, Problem, about_value, did_you_mean, in_yaml
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
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.YAMLError(f"line {line}: a key must be a word; put quotes around a text that has braces")
            if key_node.value in seen:
                raise yaml.YAMLError(f"line {line}: the key {key_node.value!r} stands twice; keep one")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: {node.value!r} looks like a date or a number and is none; quote it"
            ) from error


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
        raise _Bad(list(_of_part(error, section, raw, part))) from None


def _of_part(error: ValidationError, section: str, raw: dict[str, Any], part: type[Options]) -> Iterator[Problem]:
    """The problems of a part's options, as they stand in its section."""
    for details, problem in zip(error.errors(), _worded(error, part), strict=True):
        text = problem.text
        if details["type"] == "extra_forbidden" and len(details["loc"]) == 1:
            text = _of_others(problem.place, section, raw, part) or text
        yield Problem(f"{section}.{problem.place}" if problem.place else section, text)


def _of_others(key: str, section: str, raw: dict[str, Any], part: type[Options]) -> str:
    """Of a key that a part lacks: which of its folder have it, and how it goes away; nothing if none does."""
    folder = PART_FOLDERS[section]
    having = [name for name in names(folder) if key in _keys(config_class(folder, name))]
    if not having:
        return ""
    rest = {"name": raw["name"], **{key: value for key, value in raw.items() if key in _keys(part)}}
    flow = yaml.safe_dump(rest, default_flow_style=True, sort_keys=False, width=MAX_BYTES).strip()
    return (
        f"{raw['name']!r} has no such key; {_and(map(repr, having))} {'has' if len(having) == 1 else 'have'} it. "
        f"Left over from there? Remove it, as --set '{section}={flow}' does."
    )


def _worded(error: ValidationError, wanted: type[Options]) -> list[Problem]:
    return [Problem(".".join(map(str, e["loc"])), _words(e, wanted)) for e in error.errors()]


def _words(error: ErrorDetails, wanted: type[Options]) -> str:
    kind, where = error["type"], error["loc"]
    if kind == "missing":
        return "missing."
    if kind == "extra_forbidden":
        valid = _keys(_options_at(where[:-1], wanted))
        near = did_you_mean(str(where[-1]), valid)
        return f"no such key.{near or (' Valid keys: ' + ', '.join(valid) + '.' if valid else '')}"
    if kind == "model_type":
        return f"expected a section, as in {_example(where, wanted)}; found {in_yaml(error['input'])}."
    if words := about_value(kind, error["input"], error.get("ctx", {})):
        return words
    text = error["msg"].removeprefix("Value error, ").rstrip(".")
    if kind == "value_error":
        return text if text.endswith("?") else f"{text}."
    return f"{text[0].lower()}{text[1:]}; found {error['input']!r}."


def _options_at(where: Sequence[int | str], wanted: type[Options]) -> type[Options] | None:
    """The class of options at a place; None: what is there has none of its own, such as an entry of a list."""
    section: Any = wanted
    for key in where:
        field = getattr(section, "model_fields", {}).get(key)
        section = field.annotation if field else None
    return section if isinstance(section, type) and issubclass(section, Options) else None


def _keys(options: type[Options] | None) -> list[str]:
    """The names of its options, as a params file has them."""
    return [field.alias or name for name, field in options.model_fields.items()] if options else []


def _example(where: Sequence[int | str], wanted: type[Options]) -> str:
    """The section at a place with the first of its options: `train: {epochs: 10}`."""
    options = _options_at(where, wanted)
    for name, field in options.model_fields.items() if options else ():
        return f"`{where[-1]}: {{{field.alias or name}: {'...' if field.is_required() else field.default}}}`"
    return "`key: value` lines"


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
