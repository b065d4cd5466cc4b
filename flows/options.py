"""`convoy options`: what can be set in `params.yaml`, read from where it is declared, so that nothing is written twice.

Names of parts are names of files. A part's options are asked of its class, which costs what its file imports: of
losses, models, optimizers, mixings and averages that is torch.
"""

from __future__ import annotations

import ast
import inspect
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flows.declared import declared
from pipeline.contracts import Options
from pipeline.errors import UserError, did_you_mean
from pipeline.params import PART_FOLDERS, Params
from pipeline.plugin import HOME, config_class, names

COLUMNS = 80


class Line(NamedTuple):
    """One line, which a narrow terminal shows as several."""

    text: str = ""
    indent: int = 0
    hanging: int = 0
    """Indent of its further lines."""


def show(place: str = "") -> None:
    """Print what can be set: at most 80 columns wide in a terminal, a paragraph a line in a pipe.

    Args:
        place: a section (`train`), a part (`schedule.step`), an option of one (`train.epochs`); empty: all sections.

    Raises:
        UserError: there is no such place; the nearest is named.
    """
    width = min(COLUMNS, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 0
    for line in told(place):
        print(_wrapped(line, width))


def told(place: str) -> Iterator[Line]:
    """The lines of `show`."""
    section, *below = place.split(".")
    if not place:
        yield from _sections()
    elif section not in Params.model_fields:
        raise UserError(f"{place}: no such section of params.yaml.{_nearest(section)} `convoy options` lists them.")
    elif section not in PART_FOLDERS:
        yield from _section(section, ".".join(below))
    elif below:
        yield from _part(section, below[0], ".".join(below[1:]))
    else:
        yield from _parts(section)


def _sections() -> Iterator[Line]:
    words = {}
    for section, field in sorted(Params.model_fields.items()):
        of_parts = section in PART_FOLDERS
        words[section] = " ".join(names(PART_FOLDERS[section])) if of_parts else field.description or ""
        if not words[section] and field.annotation is not None:
            words[section] = _first(field.annotation.__doc__)
    yield from _columns(words)
    yield Line()
    yield Line("Options of a section: `convoy options train`; of a part: `convoy options schedule.step`.")


def _parts(section: str) -> Iterator[Line]:
    """The parts that a section can name, each with the first line of its file, which is not imported for it."""
    folder = PART_FOLDERS[section]
    files = {name: (HOME / folder / f"{name}.py").read_bytes() for name in names(folder)}
    yield from _columns({name: _first(ast.get_docstring(ast.parse(code))) for name, code in files.items()})
    yield Line()
    yield Line(f"Options of a part: `convoy options {section}.{names(folder)[0]}`.")


def _part(section: str, name: str, option: str) -> Iterator[Line]:
    try:
        part = config_class(PART_FOLDERS[section], name)
    except KeyError as error:
        raise UserError(f"{section}.{name}: {error.args[0]}") from None
    if option:
        yield from _one(part, f"{section}.{name}", option)
    else:
        yield Line(f"{section}: {{name: {name}}}")
        yield from _texts([sys.modules[part.__module__].__doc__, part.__doc__])
        yield from _every(part)


def _section(section: str, option: str) -> Iterator[Line]:
    options = Params.model_fields[section].annotation
    if not (isinstance(options, type) and issubclass(options, Options)):  # a single value, as `seed`
        yield from _one(Params, "params.yaml", f"{section}.{option}" if option else section)
    elif option:
        yield from _one(options, section, option)
    else:
        yield Line(f"{section}:")
        yield from _texts([options.__doc__])
        yield from _every(options)


def _every(options: type[Options], within: str = "") -> Iterator[Line]:
    """The options of a class, all or those that are one, or lie within it."""
    for option in declared(options):
        if not within or f"{option.name}.".startswith(f"{within}."):
            yield Line()
            yield Line(f"{option.name}: {option.kind}; {option.default}", 2, 6)
            yield from (Line(text, 4, 4) for text in _paragraphs(option.docstring))


def _one(options: type[Options], place: str, option: str) -> Iterator[Line]:
    valid = [other.name for other in declared(options)]
    if option not in valid:
        near = did_you_mean(option, valid) or (f" It has: {', '.join(valid)}." if valid else " It has none.")
        raise UserError(f"{place}: no option named {option!r}.{near}")
    yield Line(f"{place}:")
    yield from _every(options, option)


def _columns(words: dict[str, str]) -> Iterator[Line]:
    wide = max(map(len, words)) + 2
    yield from (Line(f"{name:{wide}}{text}", 0, wide) for name, text in words.items())


def _texts(docstrings: Iterable[str | None]) -> Iterator[Line]:
    for docstring in docstrings:
        yield from (Line(text, 2, 2) for text in _paragraphs(docstring))


def _nearest(section: str) -> str:
    """What may be meant by a name that is no section: one that is, or a part of that name."""
    parts = [f"{key}.{section}" for key, folder in PART_FOLDERS.items() if section in names(folder)]
    return f" Did you mean {parts[0]!r}?" if parts else did_you_mean(section, Params.model_fields)


def _first(docstring: str | None) -> str:
    return next(_paragraphs(docstring), "")


def _paragraphs(docstring: str | None) -> Iterator[str]:
    """Each paragraph in one line, but each line of one that is laid out in columns."""
    for paragraph in inspect.cleandoc(docstring or "").split("\n\n"):
        if "  " in paragraph:
            yield from paragraph.splitlines()
        elif paragraph:
            yield " ".join(paragraph.split())


def _wrapped(line: Line, width: int) -> str:
    """The line as it is printed, as several where a terminal has so many columns; 0: there is none."""
    first, more = " " * line.indent, " " * line.hanging
    if not width or not line.text:
        return (first + line.text).rstrip()
    return textwrap.fill(line.text, width, initial_indent=first, subsequent_indent=more, break_on_hyphens=False)
