"""`prefect.yaml`: the deployments of `retrain`, read strictly and changed so that its comments stay.

The file is Prefect's own: `prefect deploy --all` takes it as it stands. Entries with another entrypoint are somebody
else's; they are neither read nor touched.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from flows.schedule import prefect_yaml
from flows.schedule.prefect_yaml import FILE
from flows.schedule.request import Request
from pipeline.contracts import Options
from pipeline.errors import ParamsError, Problem, UserError, did_you_mean

ENTRYPOINT = "flows/retrain.py:retrain"
POOL, TAG = "convoy", "convoy"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
CLOCKS = {"schedule", "schedules", "triggers"}
"""Prefect's own keys, whose cron is an hour off where clocks change."""


class Pool(Options):
    """Who serves the runs: `convoy worker`."""

    name: Literal["convoy"]


class Parameters(Options):
    """Of the flow."""

    request: Request


class Deployment(Options):
    """One entry of the file."""

    name: str = Field(pattern=NAME)
    description: str | None = Field(default=None, max_length=10_000)
    entrypoint: Literal["flows/retrain.py:retrain"]
    tags: list[str]
    paused: bool = False
    work_pool: Pool
    parameters: Parameters

    @property
    def request(self) -> Request:
        """What its runs are asked to do."""
        return self.parameters.request


def read(root: Path) -> list[Deployment]:
    """The deployments of `retrain` in the project's file, in its order; none where there is no file.

    Raises:
        ParamsError: with every problem of the file.
    """
    entries, problems, found = _entries(prefect_yaml.document(prefect_yaml.text(root))), [], []
    for place, entry in entries:
        try:
            found.append(Deployment.model_validate(entry))
        except ValidationError as error:
            problems += [_problem(place, detail) for detail in error.errors()]
            continue
        problems += _beyond_types(place, found[-1], {other.name for other in found[:-1]})
    if problems:
        raise ParamsError(str(FILE), problems)
    return found


def find(root: Path, name: str) -> Deployment:
    """The deployment of that name.

    Raises:
        UserError: there is none, or the file is wrong.
    """
    deployments = {deployment.name: deployment for deployment in read(root)}
    if name not in deployments:
        known = did_you_mean(name, deployments) or f" It has: {', '.join(deployments) or 'none'}."
        raise UserError(f"{FILE} has no deployment {name!r}.{known}")
    return deployments[name]


def entry(name: str, request: Request) -> dict[str, Any]:
    """A deployment as the file holds it: what has its default is left out.

    Raises:
        ParamsError: the name or the request is none.
    """
    plain = {
        "name": name,
        "entrypoint": ENTRYPOINT,
        "tags": [TAG],
        "work_pool": {"name": POOL},
        "parameters": {"request": request.model_dump(mode="json", exclude_defaults=True)},
    }
    try:
        deployment = Deployment.model_validate(plain)
    except ValidationError as error:
        raise ParamsError(f"{name!r}", [_problem("", detail) for detail in error.errors()]) from None
    if problems := list(_beyond_types(name, deployment, set())):
        raise ParamsError(f"{name!r}", problems)
    return plain


def add(root: Path, name: str, request: Request) -> None:
    """Write a new deployment.

    Raises:
        UserError: one of that name is there, or something is wrong; the file is as it was.
    """
    new = entry(name, request)
    if name in {deployment.name for deployment in read(root)}:
        raise UserError(f"{FILE} has a deployment {name!r} already. Edit it there, or `convoy schedule remove {name}`.")
    document = prefect_yaml.document(prefect_yaml.text(root))
    if not document.get("deployments"):
        document["deployments"] = []
    document["deployments"].append(new)
    prefect_yaml.write(root, document)


def set_paused(root: Path, name: str, paused: bool) -> None:
    """Write that a deployment rests, or does no more.

    Raises:
        UserError: there is no such deployment, or the file is wrong.
    """
    find(root, name)
    document = prefect_yaml.document(prefect_yaml.text(root))
    (mine,) = (found for _, found in _entries(document) if found["name"] == name)
    if bool(mine.get("paused", False)) != paused:
        if "paused" in mine:
            mine["paused"] = paused
        else:
            mine.insert(list(mine).index("tags") + 1, "paused", paused)  # where the shipped example has it
        prefect_yaml.write(root, document)


def remove(root: Path, name: str) -> None:
    """Take a deployment out.

    Raises:
        UserError: there is no such deployment, or the file is wrong.
    """
    find(root, name)
    text = prefect_yaml.text(root)
    document = prefect_yaml.document(text)
    (mine,) = (found for _, found in _entries(document) if found["name"] == name)
    position = next(number for number, found in enumerate(document["deployments"]) if found is mine)
    prefect_yaml.write_without(root, text, position)


def _entries(document: Any) -> Iterator[tuple[str, Any]]:
    """Place and contents of each entry that is ours."""
    entries = document.get("deployments") or []
    if not isinstance(entries, list):
        raise ParamsError(str(FILE), [Problem("deployments", f"expected a list; found {_shown(entries)}.")])
    for number, found in enumerate(entries):
        place = f"deployments.{number}"
        if not isinstance(found, dict):
            problem = Problem(place, f"expected a deployment, as in `- name: nightly`; found {_shown(found)}.")
            raise ParamsError(str(FILE), [problem])
        if _is_ours(found):
            name = found.get("name")
            yield (f"deployments.{name}" if isinstance(name, str) and name.isprintable() else place), found


def _is_ours(entry: Any) -> bool:
    return entry.get("entrypoint") == ENTRYPOINT or TAG in _listed(entry.get("tags"))


def _listed(tags: Any) -> list[Any]:
    return tags if isinstance(tags, list) else []


def _beyond_types(place: str, deployment: Deployment, others: set[str]) -> Iterator[Problem]:
    if deployment.name in others:
        yield Problem(place, "a second deployment of this name; give it another.")
    if TAG not in deployment.tags:
        yield Problem(f"{place}.tags", f"{TAG!r} is missing: by it the worker knows its deployments.")
    if not deployment.request.branch:
        yield Problem(f"{place}.parameters.request.branch", "missing: a deployment trains a branch's newest commit.")


def _problem(place: str, detail: ErrorDetails) -> Problem:
    """One finding of pydantic in words."""
    location = [str(part) for part in detail["loc"]]
    where = ".".join([*([place] if place else []), *location])
    if detail["type"] == "missing":
        return Problem(where, "missing.")
    if detail["type"] == "extra_forbidden":
        if location[-1] in CLOCKS:
            return Problem(where, "Prefect's own; say it in parameters.request.trigger, which minds daylight saving.")
        valid: Any = Deployment
        for key in location[:-1]:
            valid = valid.model_fields[key].annotation
        return Problem(where, f"no such key.{did_you_mean(location[-1], valid.model_fields) or _valid(valid)}")
    if detail["type"] == "string_pattern_mismatch":
        found = _shown(detail["input"])
        return Problem(where, f"expected up to 64 letters, digits and `_.-`, the first no sign; found {found}.")
    text = detail["msg"].removeprefix("Value error, ").rstrip(".")
    if detail["type"] == "value_error":
        return Problem(where, text if text.endswith("?") else f"{text}.")
    return Problem(where, f"{text[0].lower()}{text[1:]}; found {_shown(detail['input'])}.")


def _valid(options: type[Options]) -> str:
    return f" Valid keys: {', '.join(options.model_fields)}."


def _shown(value: Any) -> str:
    """What was found, in short: a collection may hold itself a billion times over, by YAML's aliases."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    return reprlib.repr(value)
