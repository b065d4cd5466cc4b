"""Files by the end of their names, at a cost that does not grow with how many have the same."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable

from pipeline.formats._names import common_end

MOST = 1000
"""Files of one name that are told apart by the folders above them."""


class Lookup:
    """Names of files, or of files without their suffix, looked up by their last parts, in any case of letters.

    Of names that differ in that alone the one counts that is written just so.
    """

    def __init__(self, names: Iterable[str], key: Callable[[str], str]) -> None:
        """Of `names`; `key` leads from one to what is compared: itself, or itself without its suffix."""
        self._key = key
        self._whole: dict[str, list[str]] = defaultdict(list)
        self._last: dict[str, list[str]] = defaultdict(list)
        self._last_two: dict[str, list[str]] = defaultdict(list)
        for name in names:
            parts = alike(key(name)).split("/")
            self._whole["/".join(parts)].append(name)
            self._last[parts[-1]].append(name)
            self._last_two["/".join(parts[-2:])].append(name)

    def at(self, place: str, known: Callable[[str], bool]) -> str | None:
        """The one file in a place; None if there is none, or more than one."""
        here = [name for name in self._whole.get(alike(place), ()) if known(name)]
        return self._one(here, place)

    def closest(self, said: str, known: Callable[[str], bool]) -> str | None:
        """The one file whose last parts agree with most of `said`; None if there is none, or more than one."""
        exact = [part for part in said.split("/") if part not in ("", ".", "..")]
        parts = [alike(part) for part in exact]
        if not parts:
            return None
        near = self._some(self._last_two.get("/".join(parts[-2:]), []), known) if len(parts) > 1 else []
        if not near:  # nothing but the last part can agree, so that two are one too many
            return self._one(self._some(self._last.get(parts[-1], []), known), exact[-1])
        agreeing = {name: common_end(alike(self._key(name)), "/".join(parts)) for name in near}
        most = max(agreeing.values())
        best = [name for name, count in agreeing.items() if count == most]
        return self._one(best, "/".join(exact[-most:]))

    def _one(self, names: list[str], end: str) -> str | None:
        """The only one; of several that differ in the case of letters, the only one that ends just so."""
        if len(names) > 1:
            names = [name for name in names if f"/{self._key(name)}".endswith(f"/{end}")]
        return names[0] if len(names) == 1 else None

    def _some(self, names: list[str], known: Callable[[str], bool]) -> list[str]:
        return [name for name in names if known(name)] if len(names) <= MOST else []


def alike(name: str) -> str:
    """What names have in common that mean the same: macOS writes an accent as a character of its own."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).lower()


def without_suffix(name: str) -> str:
    """`a/b.tar.gz` as `a/b.tar`."""
    head, dot, tail = name.rpartition(".")
    return head if dot and "/" not in tail else name
