"""Secrets come from the environment, never from `params.yaml`, which is committed and recorded with every run."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.errors import UserError

WEBHOOK_URL = "CONVOY_WEBHOOK_URL"
WEBHOOK_SECRET = "CONVOY_WEBHOOK_SECRET"  # noqa: S105 (a name)
SMTP_URL = "CONVOY_SMTP_URL"
TELLING = re.compile(r"SECRET|PASSWORD|TOKEN|API_KEY|AUTH_STRING", re.IGNORECASE)
"""In the names of variables whose values are secrets of other programs: S3's, MLflow's, Prefect's."""
SHORTEST, SHORTEST_PATH = 8, 12
"""Characters of such a value, and of a path that may be a key; shorter ones are switches, names and `/hook`."""
MAX_BYTES = 65_536


def credential(name: str) -> str:
    """The value of the variable `name`, or what the file holds that `name`_FILE names; empty if neither is set.

    Raises:
        UserError: the file cannot be read.
    """
    if value := os.environ.get(name, "").strip():
        return value
    if not (file := os.environ.get(f"{name}_FILE", "")):
        return ""
    try:
        with Path(file).open("rb") as handle:
            value = handle.read(MAX_BYTES).decode().strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(f"{name}_FILE names {file}, which cannot be read: {reason}.") from None
    if not value:
        raise UserError(f"{name}_FILE names {file}, which is empty.")
    return value


def known() -> list[str]:
    """Every secret that this process has, to keep it out of texts."""
    found = [
        value
        for name, value in os.environ.items()
        if TELLING.search(name) and not name.endswith("_FILE") and len(value) >= SHORTEST
    ]
    for name in (WEBHOOK_URL, WEBHOOK_SECRET, SMTP_URL):
        try:
            value = credential(name)
        except UserError:
            continue
        found.append(value)
        if "://" in value:
            found += _parts(value)
    return found


def _parts(address: str) -> list[str]:
    """The password of an address, and what of it may be a key: path and query."""
    try:
        parts = urlsplit(address)
        password = parts.password or ""
    except ValueError:
        return []
    return [password, unquote(password), *(part for part in (parts.query, parts.path) if len(part) >= SHORTEST_PATH)]
