"""Files by the end of their names, at a cost that does not grow with how many have the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import islice

from pipeline.formats._names import common_end


class Lookup:
    """Names of files, or of files without their suffix, looked up by their last parts, in any case of letters."""

    def __init__(self, names: Iterable[str], key: Callable[[str], str]) -> None:
        """Args:
        names: of files.
        key: from a name to what is compared: the name itself, or without its suffix.
        """
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
        near = filter(known, self._last_two.get("/".join(parts[-2:]), ()) if len(parts) > 1 else ())
        agreeing = {name: common_end(self._key(name), "/".join(parts)) for name in near}
        if agreeing:
            most = max(agreeing.values())
            best = [name for name, count in agreeing.items() if count == most]
        else:  # nothing but the last part can agree, so that two are one too many
            best = list(islice(filter(known, self._last.get(parts[-1], ()) if parts else ()), 2))
        return best[0] if len(best) == 1 else None


def without_suffix(name: str) -> str:
    """`a/b.tar.gz` as `a/b.tar`."""
    head, dot, tail = name.rpartition(".")
    return head if dot and "/" not in tail else name
