"""Files by the end of their names, at a cost that does not grow with how many have the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from pipeline.formats._names import common_end

MOST = 1000
"""Files of one name that are told apart by the folders above them."""


class Lookup:
    """Names of files, or of files without their suffix, looked up by their last parts, in any case of letters."""

    def __init__(self, names: Iterable[str], key: Callable[[str], str]) -> None:
        """Of `names`; `key` leads from one to what is compared: itself, or itself without its suffix."""
        self._key = key
        self._whole: dict[str, list[str]] = defaultdict(list)
        self._last: dict[str, list[str]] = defaultdict(list)
        self._last_two: dict[str, list[str]] = defaultdict(list)
        for name in names:
            parts = key(name).lower().split("/")
            self._whole["/".join(parts)].append(name)
            self._last[parts[-1]].append(name)
            self._last_two["/".join(parts[-2:])].append(name)

    def at(self, place: str, known: Callable[[str], bool]) -> str | None:
        """The one file in a place; None if there is none, or more than one."""
        here = [name for name in self._whole.get(place.lower(), ()) if known(name)]
        return here[0] if len(here) == 1 else None

    def closest(self, said: str, known: Callable[[str], bool]) -> str | None:
        """The one file whose last parts agree with most of `said`; None if there is none, or more than one."""
        parts = [part for part in said.lower().split("/") if part not in ("", ".", "..")]
        if not parts:
            return None
        near = self._some(self._last_two.get("/".join(parts[-2:]), []), known) if len(parts) > 1 else []
        if not near:  # nothing but the last part can agree, so that two are one too many
            last = self._some(self._last.get(parts[-1], []), known)
            return last[0] if len(last) == 1 else None
        agreeing = {name: common_end(self._key(name), "/".join(parts)) for name in near}
        most = max(agreeing.values())
        best = [name for name, count in agreeing.items() if count == most]
        return best[0] if len(best) == 1 else None

    def _some(self, names: list[str], known: Callable[[str], bool]) -> list[str]:
        return [name for name in names if known(name)] if len(names) <= MOST else []


def without_suffix(name: str) -> str:
    """`a/b.tar.gz` as `a/b.tar`."""
    head, dot, tail = name.rpartition(".")
    return head if dot and "/" not in tail else name
