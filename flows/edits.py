"""Changing `params.yaml` from the command line: its comments stay, and nothing is written that the door refuses."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.door import PARAMS, where_wrong
from pipeline.errors import NO_VALUE, ParamsError, Problem, UserError, did_you_mean
from pipeline.files import STATE, write_bytes, write_text
from pipeline.params import PART_FOLDERS

KEPT = STATE / "params"


def edited(text: str, assignments: Sequence[str]) -> str:
    """The text of a params file after `key=value` assignments, as in `train.epochs=5`; the value is YAML.

    Raises:
        UserError: an assignment without `=`, or a value that is no YAML.
        ParamsError: a key whose section does not exist.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    params = _loaded(text, str(PARAMS))
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise UserError(f"--set {assignment!r}: expected key=value, as in --set train.epochs=5.")
        try:
            _assign(params, key, YAML(typ="safe").load(value))
        except (YAMLError, *NO_VALUE):
            raise UserError(f"--set {assignment!r}: {value!r} is not valid YAML; quote it for the shell.") from None
    return _dumped(params)


def merged(text: str, base: str, file: str) -> str:
    """The text of a params file that need not be whole: what it does not hold stays as it is in another.

    A section that names a part takes the place of the other one as a whole, since another part has other options; of
    the rest (`train`, `split`, ...) only the keys that it holds do.

    Args:
        text: of the file.
        base: text of params.yaml.
        file: its name, for errors.

    Raises:
        UserError: one of them is no YAML.
    """
    said, params = _loaded(text, file), _loaded(base, str(PARAMS))
    for section, value in said.items():
        if isinstance(value, dict) and isinstance(params.get(section), dict) and section not in PART_FOLDERS:
            params[section].update(value)
        else:
            params[section] = value
    return _dumped(params)


def combinations(assignments: Sequence[str]) -> list[list[str]]:
    """The assignments of each run that is asked for: `lr=0.1,0.01` is two, with a second such key four.

    A comma within brackets or quotes belongs to the value: `optimizer={name: sgd, lr: 0.1}` is one.
    """
    choices = []
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        choices.append([f"{key}{equals}{part}" for part in _parts(value)])
    return [list(chosen) for chosen in itertools.product(*choices)]


def replace_params(path: Path, text: str) -> Path | None:
    """Write `text` as the params file, its lines ended as they were; where the old text is kept, if it was another."""
    old = path.read_bytes() if path.exists() else text.encode()
    if b"\r\n" in old:
        text = text.replace("\n", "\r\n")
    if old == text.encode():
        return None
    kept = KEPT / f"{hashlib.sha256(old).hexdigest()[:12]}.yaml"
    write_bytes(kept, old)
    write_text(path, text)
    return kept


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def _loaded(text: str, file: str) -> Any:
    """A params file with its comments."""
    from ruamel.yaml.error import YAMLError

    try:
        params = _yaml().load(text)
    except (YAMLError, *NO_VALUE) as error:
        raise UserError(f"{file}: not valid YAML: {where_wrong(error)}.") from None
    if not isinstance(params, dict):
        raise UserError(f"{file}: expected `key: value` lines, one section each.")
    return params


def _dumped(params: Any) -> str:
    out = io.StringIO()
    _yaml().dump(params, out)
    return out.getvalue()


def _parts(value: str) -> list[str]:
    """What stands between the commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in value:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        depth += (letter in "[{") - (letter in "]}") if not quote else 0
        if letter == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _assign(params: Any, key: str, value: Any) -> None:
    *sections, last = key.split(".")
    where = params
    for section in sections:
        if not isinstance(where, dict) or not isinstance(where.get(section), dict):
            valid = list(where) if isinstance(where, dict) else []
            raise ParamsError("--set", [Problem(key, f"no such section.{did_you_mean(section, valid)}")])
        where = where[section]
    where[last] = value
