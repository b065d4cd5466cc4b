"""Requests that are not served: why, for whom, and how often it is noted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from anyio import to_thread

LONGEST = 200
"""Characters of anything that a request says of itself, in a note or on a page."""
REASON = 1000
MINUTE = 60
NOTES = 60
"""A minute: whoever floods the page does not flood the ledger."""
LEFT_OUT = f"More than {NOTES} requests were refused within a minute; the rest of them is left out."


class Refused(Exception):
    """A request that is not served; the words are for whoever sent it."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


@dataclass(frozen=True)
class Refusal:
    """A request that would have changed something, and was refused."""

    who: str
    """The name of a person, or `nobody`."""
    client: str
    """The address that it came from."""
    method: str
    path: str
    reason: str


NoteRefusal = Callable[[Refusal], None]


class Notes:
    """Hands refusals on, so many a minute."""

    def __init__(self, note: NoteRefusal, clock: Callable[[], float] = time.time) -> None:
        self.note = note
        self.clock = clock
        self.until = 0.0
        self.count = 0

    async def take(self, refusal: Refusal) -> None:
        """Note it; in place of the first one too many, that there are more."""
        now = self.clock()
        if not self.until - MINUTE <= now < self.until:
            self.until, self.count = now + MINUTE, 0
        self.count += 1
        if self.count > NOTES + 1:
            return
        if self.count == NOTES + 1:
            refusal = Refusal("nobody", "", "", "", LEFT_OUT)
        parts = {part: clipped(getattr(refusal, part)) for part in ("who", "client", "method", "path")}
        told = replace(refusal, **parts, reason=clipped(refusal.reason, REASON))
        try:
            await to_thread.run_sync(self.note, told)
        except Exception:  # it is refused all the same, in words
            logging.getLogger(__name__).exception("A refusal is not noted: %s", told)


def clipped(text: str, most: int = LONGEST) -> str:
    """At most so many characters, each of which can be printed."""
    text = "".join(character if character.isprintable() else "?" for character in text[: most + 1])
    return text if len(text) <= most else f"{text[: most - 1]}…"
