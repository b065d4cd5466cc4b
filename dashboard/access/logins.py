"""Logging in with name and password: few tries, few hashes at once, the same time for a wrong name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from anyio import CapacityLimiter, to_thread

from dashboard.access.accounts import Accounts
from dashboard.access.limits import Limit, neighbourhood
from dashboard.access.people import Person
from dashboard.access.refusals import Refused, clipped

WINDOW = 300
BY_CLIENT, BY_NAME = 10, 30
"""Tries within 300 s. A name takes more than one client has: nobody keeps somebody else out alone."""
AT_ONCE, WAITING = 2, 20
"""A hash takes 64 MiB and a core for 50 ms."""


class Logins:
    """The door for people with a password."""

    def __init__(self, accounts: Accounts | None, clock: Callable[[], float] = time.time) -> None:
        self.accounts = accounts
        self.clients = Limit(BY_CLIENT, WINDOW, clock=clock)
        self.names = Limit(BY_NAME, WINDOW, clock=clock)
        self.hashing = CapacityLimiter(AT_ONCE)
        self.under_way = 0

    def known(self, name: str) -> str:
        """The name, if somebody has it; what is typed there by mistake may be a password."""
        return name if self.accounts and name in self.accounts.by_name else "nobody"

    async def person(self, name: str, password: str, client: str) -> Person:
        """Whom name and password belong to.

        Raises:
            Refused: they do not match, or it was tried too often.
        """
        if self.accounts is None:
            raise Refused(403, "Nobody logs in here: this page has no accounts.")
        client, tried = neighbourhood(client), clipped(name)
        wait = math.ceil(self.clients.take(client) or self.names.take(tried))
        if wait:
            raise Refused(429, f"Too many tries to log in. Try again in {wait} s.", {"Retry-After": str(wait)})
        if self.under_way >= WAITING:
            raise Refused(503, "Too many people log in at this moment. Try again in 10 s.", {"Retry-After": "10"})
        self.under_way += 1
        try:
            account = await to_thread.run_sync(self.accounts.with_password, name, password, limiter=self.hashing)
        finally:
            self.under_way -= 1
        if account is None:
            raise Refused(401, "Name and password do not match.")
        self.clients.forgive(client)
        self.names.forgive(tried)
        return Person(account.name, account.role, "session")
