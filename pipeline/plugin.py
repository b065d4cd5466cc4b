"""A folder is a registry: the file's name is the part's name, and the class `Config` in it is the part.

Only files that lie in a part folder can be named, so a `params.yaml` cannot reach any other code.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from pipeline.contracts import MetricConfig, Options, TaskConfig
from pipeline.errors import did_you_mean

HOME = Path(__file__).parent
SINGULAR = {
    "formats": "format",
    "tasks": "task",
    "policies": "policy",
    "models": "model",
    "losses": "loss",
    "metrics": "metric",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "orders": "order",
    "mixings": "mixing",
    "averages": "average",
}


@cache
def names(folder: str) -> tuple[str, ...]:
    """The parts of `pipeline/<folder>/`, sorted."""
    return tuple(sorted(path.stem for path in (HOME / folder).glob("*.py") if not path.stem.startswith("_")))


def config_class(folder: str, name: str) -> type[Options]:
    """The class of options in `pipeline/<folder>/<name>.py`.

    Raises:
        KeyError: no such file; the message names the nearest part and lists all.
    """
    valid = names(folder)
    if name not in valid:
        kind = SINGULAR[folder]
        raise KeyError(
            f"no {kind} named {name!r}.{did_you_mean(name, valid)} pipeline/{folder}/ has: {', '.join(valid)}."
        )
    config: type[Options] = importlib.import_module(f"pipeline.{folder}.{name}").Config
    return config


def imported(modules: Iterable[Path]) -> set[Path]:
    """These files and all of `pipeline` that they import, at the top or inside of functions."""
    needed: set[Path] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in needed:
            needed.add(module)
            waiting += _named(module)
    return needed


def _named(module: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(module.read_bytes())):
        found = []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        for name in found:
            place = HOME.parent.joinpath(*name.split("."))
            if name.startswith("pipeline."):
                yield from filter(Path.is_file, (place.with_suffix(".py"), place / "__init__.py"))


def metrics_for(task: TaskConfig) -> dict[str, MetricConfig]:
    """Every metric that scores what the task learns, by name; the task's own score first."""
    ordered = sorted(names("metrics"), key=lambda name: (name != task.score, name))
    metrics = {name: metric_named(name) for name in ordered}
    return {name: metric for name, metric in metrics.items() if task.learns in metric.takes}


def metric_named(name: str) -> MetricConfig:
    """The metric in `pipeline/metrics/<name>.py`."""
    metric = config_class("metrics", name)()
    assert isinstance(metric, MetricConfig)
    return metric
