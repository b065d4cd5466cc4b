"""Whatever lies there: every other format is asked whether it knows the source, and the surest one reads it.

It finds the format, and nothing else: what the task learns from must be among what that format gives. Where two are
equally sure, nobody guesses. `convoy inspect` says what was found and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, ValidationError

from pipeline.annotations import Flaw
from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.errors import UserError, did_you_mean
from pipeline.formats._looking import Heads
from pipeline.formats._names import below, clutter, folder, parent, suffix
from pipeline.plugin import config_class, names
from pipeline.source import Entry, open_source, printable, quoted

NOT_ASKED = frozenset({"auto", "digits"})
"""Itself, and the format that reads no source."""
SHOWN = 6
FOLDERS = 64
"""Of a source that are looked into, one by one."""


class Finding(NamedTuple):
    """A format that knows a source."""

    name: str
    certainty: int
    why: str
    options: Mapping[str, Any]
    """Of the format, its path among them."""


class Config(FormatConfig):
    """Where to look; how to read it is found out."""

    gives: ClassVar[frozenset[Target]] = frozenset(Target)

    path: str = Field(min_length=1)
    """A folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets."""

    def found(self) -> Finding:
        """The format of the source, looked for once.

        Raises:
            UserError: the source cannot be read; no format knows it, or several are equally sure.
        """
        return self._finding

    def format(self) -> FormatConfig:
        """It, with its options.

        Raises:
            UserError: as `found`.
        """
        finding = self.found()
        try:
            made = config_class("formats", finding.name)(**finding.options)
        except ValidationError as error:
            raise UserError(
                f"data: {error.errors()[0]['msg']}. Name the format: {_example(finding.name, self)}."
            ) from None
        assert isinstance(made, FormatConfig)
        return made

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each file, or of the archive; no format is looked for."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """As the format has it."""
        yield from self.format().listing()

    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """As the format does."""
        yield from self.format().read()

    @cached_property
    def _finding(self) -> Finding:
        findings, seen = recognised(self.path, self.inside)
        if not findings:
            raise UserError(
                f"data: no format knows what lies in {self.path}: {_summary(seen)}. Name it, as in "
                f"{_example('folder', self)}; pipeline/formats/ has: {', '.join(names('formats'))}."
            )
        best = [finding for finding in findings if finding.certainty == findings[0].certainty]
        if len(best) > 1:
            listed = "; ".join(f"{finding.name} ({finding.why})" for finding in best)
            folders = "" if self.inside else ", or a folder within it by `inside`"
            raise UserError(
                f"data: {self.path} may be of {len(best)} formats: {listed}. Name one, as in "
                f"{_example(best[0].name, self)}{folders}."
            )
        return best[0]


def recognised(path: str, inside: str = "") -> tuple[list[Finding], list[str]]:
    """Every format that knows a source, the surest first, and the names of its files.

    Raises:
        UserError: the source cannot be read, or has no such folder.
    """
    source, home = open_source(path), folder(inside)
    everything = sorted(entry.name for entry in source.entries() if isinstance(entry, Entry))
    seen = [name for name in everything if below(name, home)]
    if home and not seen:
        folders = {parent(name) for name in everything} - {""}
        raise UserError(f"data.inside: {path} has no folder {inside!r}.{did_you_mean(inside, folders)}")
    return _asked(seen, Heads(source, seen), path, home), seen


def in_folders(path: str) -> list[Finding]:
    """The surest format of each folder of a source that one format alone is surest of, where it holds several sets.

    Raises:
        UserError: the source cannot be read.
    """
    source = open_source(path)
    seen = sorted(entry.name for entry in source.entries() if isinstance(entry, Entry) and not clutter(entry.name))
    heads = Heads(source, seen)
    homes = _folders(seen, "")
    while len(homes) == 1:
        homes = _folders(seen, homes[0])
    found = []
    for home in homes[:FOLDERS]:
        best = _asked([name for name in seen if below(name, home)], heads, path, home)
        if best and (len(best) == 1 or best[0].certainty > best[1].certainty):
            found.append(best[0])
    return found


def _folders(seen: Sequence[str], home: str) -> list[str]:
    """Those in a folder."""
    start = len(home) + 1 if home else 0
    return sorted({name[: name.index("/", start)] for name in seen if below(name, home) and "/" in name[start:]})


def _asked(seen: Sequence[str], heads: Heads, path: str, home: str) -> list[Finding]:
    """The formats that know files of these names, the surest first."""
    findings = []
    for name in names("formats"):
        config = config_class("formats", name)
        if name in NOT_ASKED or not issubclass(config, FormatConfig):
            continue
        if known := config.recognise(seen, heads):
            findings.append(_finding(name, known, path, home))
    return sorted(findings, key=lambda finding: -finding.certainty)


def _finding(name: str, known: Recognised, path: str, inside: str) -> Finding:
    where = {"path": path, **({"inside": inside} if inside else {})}
    return Finding(name, known.certainty, printable(known.why), where | dict(known.options))


def _summary(seen: Sequence[str]) -> str:
    """What was seen: so many files of each suffix, and the first of them."""
    if not seen:
        return "there are no files"
    counts: dict[str, int] = {}
    for name in seen:
        if not clutter(name):
            kind = f".{suffix(name)}" if "." in name.rpartition("/")[2] else "without suffix"
            counts[kind] = counts.get(kind, 0) + 1
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    listed = ", ".join(f"{count:,} {printable(kind)}" for kind, count in ordered[:SHOWN])
    more = f" and {len(ordered) - SHOWN} kinds more" if len(ordered) > SHOWN else ""
    files = "1 file" if len(seen) == 1 else f"{len(seen):,} files"
    return f"{files} ({listed}{more}), {printable(seen[0])} for one"


def _example(name: str, config: Config) -> str:
    inside = f", inside: {_quoted(config.inside)}" if config.inside else ""
    return f"`data: {{name: {name}, path: {_quoted(config.path)}{inside}}}`"


def _quoted(text: str) -> str:
    """As YAML takes it between braces."""
    return text if re.fullmatch(r"[\w./~-]+(:/[\w./~-]+)?", text) else quoted(text)
