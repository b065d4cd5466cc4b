"""Where Prefect's and MLflow's servers are, and by which way in."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from flows import settings
from flows.servers.processes import running

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


class Address(NamedTuple):
    """A server."""

    url: str
    """Without a slash at the end; empty if there is none."""
    auth: tuple[str, str] | None = None


@dataclass(frozen=True)
class Addresses:
    """Where the servers are said to be; those of `convoy up` are found in its own file."""

    root: Path
    prefect: str = ""
    """Its API."""
    prefect_auth: str = ""
    mlflow: str = ""

    def now(self) -> tuple[Address, Address]:
        """Prefect (its API) and MLflow, as of now: `convoy up` may have started them on other ports."""
        ours = running(self.root)
        prefect, auth = self.prefect.rstrip("/"), self.prefect_auth
        if not prefect and "prefect" in ours:
            prefect = f"{ours['prefect'].url}/api"
            with suppress(OSError):
                auth = auth or settings.password_file(self.root).read_text().strip()
        mlflow = self.mlflow if self.mlflow.startswith(("http:", "https:")) else ""
        if not mlflow and "mlflow" in ours:
            mlflow = ours["mlflow"].url
        name, _, word = auth.partition(":")
        return Address(prefect, (name, word) if auth else None), Address(mlflow.rstrip("/"), _mlflow_auth())

    def links(self, host: str, flow_run: str, mlflow_run: str) -> dict[str, str]:
        """The pages of a run at both servers, for a browser that reached this page by the name `host`."""
        prefect, mlflow = self.now()
        found = {
            "Prefect": prefect.url and flow_run and f"{prefect.url.removesuffix('/api')}/runs/flow-run/{flow_run}",
            "MLflow": mlflow.url and mlflow_run and f"{mlflow.url}/#/runs/{mlflow_run}",
        }
        return {name: url for name, url in found.items() if url and _reaches(host, url)}

    def version(self, host: str, name: str, version: str) -> str:
        """The page of a model version in MLflow; empty where this browser does not reach it."""
        _, mlflow = self.now()
        url = f"{mlflow.url}/#/models/{quote(name)}/versions/{quote(version)}"
        return url if mlflow.url and _reaches(host, url) else ""


def _reaches(host: str, url: str) -> bool:
    """Who came from another machine has something else at its own 127.0.0.1."""
    return host in LOOPBACK or not near(url)


def near(url: str) -> bool:
    """Whether it is an address of this machine, which no proxy knows."""
    return urlsplit(url).hostname in LOOPBACK


def _mlflow_auth() -> tuple[str, str] | None:
    name, word = (os.environ.get(f"MLFLOW_TRACKING_{what}", "") for what in ("USERNAME", "PASSWORD"))
    return (name, word) if name else None
