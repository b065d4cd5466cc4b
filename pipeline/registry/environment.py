"""What a run's result may depend on beside code, params and data: the machine, its libraries, its cores."""

from __future__ import annotations

import platform
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from pipeline.contracts import Options
from pipeline.files import sha256_of
from pipeline.host import cores, processor

REQUIREMENTS = Path("requirements.lock")


class Environment(Options):
    """Of a run. Nothing here is a dependency of a stage: a newer library retrains nothing, `convoy verify` names it."""

    requirements: str
    """sha256 of requirements.lock; empty where there is none."""
    packages: dict[str, str]
    """Installed distributions and their versions."""
    python: str
    system: str
    processor: str
    cores: int
    """That this process may use."""
    training: dict[str, Any]
    """As `train` noted it: device, threads, what the probe chose, and where it was taken up elsewhere."""


def current(training: dict[str, Any]) -> Environment:
    """The environment of this process.

    Args:
        training: the notes of the stage `train`.
    """
    chosen = ("device", "processes", "threads", "precision", "memory_format", "execution", "moves")
    return Environment(
        requirements=sha256_of(REQUIREMENTS) if REQUIREMENTS.exists() else "",
        packages=_packages(),
        python=platform.python_version(),
        system=platform.platform(),
        processor=processor(),
        cores=cores(),
        training={key: training[key] for key in chosen if key in training},
    )


def _packages() -> dict[str, str]:
    found: dict[str, str] = {}
    for distribution in distributions():
        if distribution.name:
            found.setdefault(distribution.name.lower(), distribution.version)  # of two, an import takes the first
    return dict(sorted(found.items()))
