"""Sessions: who is logged in. Kept in memory, bounded in number, gone with the process."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from dashboard.access.people import Person

IDLE = 3600
LONGEST = 12 * 3600
"""Seconds from its begin, however busy it is."""
MOST = 500
EACH = 20
"""Sessions of one person: nobody crowds the others out."""


@dataclass(eq=False)
class Session:
    """One browser of one person."""

    id: str = field(repr=False)
    """What the cookie holds; nothing else knows it."""
    person: Person
    began: float
    seen: float
    back: bool = False
    """Whether the browser has shown its cookie: a script that keeps none leaves a session at each page."""
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    """Seals its form tokens."""
    used: dict[bytes, int] = field(default_factory=dict)
    """Form tokens that were spent; see `tokens.spend`."""

    def ended(self, now: float) -> bool:
        """Whether it was idle or lasted for too long."""
        return now >= min(self.seen + IDLE, self.began + LONGEST)


class Sessions:
    """All of them; pages that are made in a thread may begin one."""

    def __init__(self, each: int = EACH, clock: Callable[[], float] = time.time) -> None:
        self.each = each
        self.clock = clock
        self.living: dict[str, Session] = {}
        self.lock = Lock()

    def start(self, person: Person) -> Session:
        """Begin one under an id that nobody can guess or choose; the least used make room for it."""
        now = self.clock()
        session = Session(secrets.token_urlsafe(32), person, began=now, seen=now)
        with self.lock:
            self.living = {key: other for key, other in self.living.items() if not other.ended(now)}
            self._make_room([other for other in self.living.values() if other.person.name == person.name], self.each)
            self._make_room(list(self.living.values()), MOST)
            self.living[session.id] = session
        return session

    def find(self, key: str) -> Session | None:
        """The living session with this id."""
        with self.lock:
            session = self.living.get(key)
            if session and session.ended(self.clock()):
                del self.living[key]
                return None
            return session

    def renew(self, session: Session) -> None:
        """It was used."""
        session.seen = self.clock()
        session.back = True

    def end(self, session: Session) -> None:
        """It is over."""
        with self.lock:
            self.living.pop(session.id, None)

    def _make_room(self, sessions: list[Session], most: int) -> None:
        too_many = max(0, len(sessions) + 1 - most)
        for session in sorted(sessions, key=lambda session: (session.back, session.seen))[:too_many]:
            del self.living[session.id]
