"""The text of `prefect.yaml`: parsed, and changed so that the comments of others stay."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from pipeline.door import where_wrong
from pipeline.errors import NO_VALUE, ParamsError, Problem
from pipeline.files import write_text

FILE = Path("prefect.yaml")
MAX_BYTES = 1_000_000
HEADER = """\
# The deployments of this project: which branch is retrained when. `convoy schedule` writes and applies them.
deployments: []
"""


def text(root: Path) -> str:
    path = root / FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ParamsError(str(FILE), [Problem("the file", f"it is larger than {MAX_BYTES:,} bytes.")])
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return HEADER
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(str(FILE), [Problem("the file", f"cannot be read: {error}.")]) from None


def document(text: str) -> Any:
    from ruamel.yaml.error import YAMLError

    try:
        document = _yaml().load(text)
    except (YAMLError, *NO_VALUE) as error:
        raise ParamsError(str(FILE), [Problem("the file", f"not valid YAML: {where_wrong(error)}.")]) from None
    if not isinstance(document, dict):
        raise ParamsError(str(FILE), [Problem("the file", "expected `deployments:` and a list below it.")])
    return document


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def write(root: Path, document: Any) -> None:
    out = io.StringIO()
    _yaml().dump(document, out)
    write_text(root / FILE, out.getvalue())


def write_without(root: Path, text: str, position: int) -> None:
    """Write the text without the deployment at that position: its lines go, all others stay as they are."""
    shorter = document(text)
    del shorter["deployments"][position]
    if (cut := _cut(text, position)) is None or _outline(document(cut)) != _outline(shorter):
        write(root, shorter)  # several on one line, or one that another refers to
    else:
        write_text(root / FILE, cut)


def _cut(text: str, position: int) -> str | None:
    import yaml

    tree: Any = yaml.compose(text, yaml.SafeLoader)
    entries = next(value for key, value in tree.value if key.value == "deployments")
    lines, entry = text.splitlines(keepends=True), entries.value[position]
    last = entry
    while isinstance(last, yaml.CollectionNode) and not last.flow_style and last.value:
        last = last.value[-1][1] if isinstance(last, yaml.MappingNode) else last.value[-1]
    end = last.end_mark.line + (last.end_mark.column > 0)
    try:
        cut = "".join([*lines[: entry.start_mark.line], *lines[end:]])
        document(cut)
    except ParamsError:
        return None
    return cut


def _outline(document: Any) -> tuple[list[Any], list[Any]]:
    """What is where, not deeper: aliases may hold themselves a billion times over."""
    return list(document), [str(entry.get("name")) for entry in document["deployments"] or []]
