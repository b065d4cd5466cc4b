"""Prefect's API in a few requests, for processes that do not wait for Prefect's import or hold it in memory."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from flows import settings
from flows.worker import pool

AWAY = (httpx.HTTPError, ValueError)
"""A server that refuses, hangs, or answers what makes no sense."""
SECONDS = 5.0
"""For the server to answer."""


class Wire:
    """A connection to the API, with password and CSRF token."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._forgery: dict[str, str] = {}

    def get(self, path: str) -> Any:
        """The JSON at `path`.

        Raises:
            httpx.HTTPError: the server is away or refuses.
        """
        answer = self._http.get(path)
        answer.raise_for_status()
        return answer.json()

    def find(self, path: str) -> Any:
        """As `get`; None where there is nothing."""
        answer = self._http.get(path)
        return None if answer.status_code == httpx.codes.NOT_FOUND else answer.raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        """What the server answers to JSON sent to `path`; None where it has no words. See `get`."""
        answer = self._http.post(path, json=body, headers=self._own_words())
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def delete(self, path: str) -> None:
        """Remove what is at `path`; nothing there is no error. See `get`."""
        answer = self._http.delete(path, headers=self._own_words())
        if answer.status_code != httpx.codes.NOT_FOUND:
            answer.raise_for_status()

    def _own_words(self) -> dict[str, str]:
        """The headers that tell our requests from forged ones, where the server asks for them."""
        if not self._forgery:
            client = uuid.uuid4().hex
            answer = self._http.get("/csrf-token", params={"client": client})
            if answer.status_code == httpx.codes.OK:
                self._forgery = {"Prefect-Csrf-Token": answer.json()["token"], "Prefect-Csrf-Client": client}
            else:  # this server does not check
                self._forgery = {"Prefect-Csrf-Client": client}
        return self._forgery


@contextmanager
def wired(project: Path, api: str | None = None) -> Iterator[Wire | None]:
    """A connection to the project's Prefect server, or None where none is up.

    Args:
        project: its root.
        api: address of the API, if it is known.
    """
    api = api or pool.address(project)
    if api is None:
        yield None
        return
    variables = settings.environment(project)
    secret = variables.get("PREFECT_API_AUTH_STRING") or os.environ.get("PREFECT_API_AUTH_STRING", "")
    name, _, password = secret.partition(":")
    auth = httpx.BasicAuth(name, password) if secret else None
    # No proxy is asked: the server is ours, or named by its address.
    with httpx.Client(base_url=api, timeout=SECONDS, auth=auth, trust_env=False) as http:
        yield Wire(http)
