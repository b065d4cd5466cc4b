"""What the issue of the training engine asks of a GPU, in one command, the most telling rows first.

    .venv/bin/python benchmarks/on_a_gpu --minutes 9 --data ~/cifar-10-batches-bin --out rows.jsonl
    .venv/bin/python benchmarks/on_a_gpu --rehearse     # on the processor, with tiny sizes: that all of it runs

A row begins only if it fits into what is left of the minutes. What it finds is printed and appended to the file line by
line, so that nothing is lost when the machine is taken away; of one that fails the error is written down, and the next
one follows. CIFAR-10 is the binary version, or pictures in folders, or an archive of either.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parents[number]) for number in (0, 1, 2)]

import torch  # noqa: E402
from around import around  # noqa: E402
from bench import Bench, Found, opened  # noqa: E402
from determinism import determinism  # noqa: E402
from fed import fed  # noqa: E402
from optimizers import optimizers  # noqa: E402
from resnet18 import resnet18  # noqa: E402
from resnet50 import resnet50  # noqa: E402
from speedrun import speedrun  # noqa: E402
from turns import machine  # noqa: E402


class Row(NamedTuple):
    """Something that is measured."""

    measure: Callable[[Bench], Iterator[Found]]
    seconds: int
    """That it takes on an H100 with 16 cores, about; a guess until it has run there."""
    needs_data: bool = False


ROWS = (
    Row(speedrun, 150, needs_data=True),
    Row(resnet18, 130, needs_data=True),
    Row(resnet50, 210),
    Row(fed, 60),
    Row(determinism, 60),
    Row(optimizers, 15),
    Row(around, 45),
)


LONGER = 2
"""A row that takes so many times as long fails, for the sake of the next ones."""


def main() -> None:
    """Measure what fits, and print."""
    names = [row.measure.__name__ for row in ROWS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", choices=[*names, []], help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--minutes", type=float, default=60.0, help="that all of them may take (default 60)")
    parser.add_argument("--data", type=Path, help="CIFAR-10: a folder or an archive")
    parser.add_argument("--out", type=Path, help="a file that lines of JSON are appended to")
    parser.add_argument("--workers", type=int, default=16, help="of the loaders of others, at most (default 16)")
    parser.add_argument("--rehearse", action="store_true", help="on the processor, with tiny sizes")
    asked = parser.parse_args()
    if not asked.rehearse and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --rehearse tries the rows on the processor")
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _give_up)
    ends = time.monotonic() + 60 * asked.minutes
    data, out = (path and path.expanduser().resolve() for path in (asked.data, asked.out))
    bench = opened(asked.rehearse, data, min(asked.workers, len(os.sched_getaffinity(0))))
    tell = Telling(out)
    tell("machine", {"machine": machine(), "device": _named(bench), "torch": torch.__version__})
    for row in ROWS:
        name = row.measure.__name__
        if asked.rows and name not in asked.rows:
            continue
        if row.needs_data and not data and not asked.rehearse:
            tell(name, {"left out": "it needs --data"})
        elif not asked.rehearse and time.monotonic() + row.seconds > ends:
            tell(name, {"left out": f"it takes {row.seconds} s, and {ends - time.monotonic():.0f} are left"})
        else:
            _measure(row, bench, tell)


def _give_up(*_: object) -> None:
    raise TimeoutError(f"it takes more than {LONGER} times as long as it should")


def _measure(row: Row, bench: Bench, tell: Telling) -> None:
    name, start = row.measure.__name__, time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"convoy-{name}-") as folder, contextlib.chdir(folder):
        if not bench.rehearsing:
            signal.setitimer(signal.ITIMER_REAL, LONGER * row.seconds)
        try:
            for found in row.measure(bench):
                tell(name, found)
        except Exception:
            tell(name, {"failed": traceback.format_exc()})
        signal.setitimer(signal.ITIMER_REAL, 0)
    if bench.device.type == "cuda":
        torch.compiler.reset()
        torch.cuda.empty_cache()
    tell(name, {"seconds of the row": time.monotonic() - start})


class Telling:
    """Says what was found, and writes it down at once."""

    def __init__(self, out: Path | None) -> None:
        self._out = out

    def __call__(self, row: str, found: Found) -> None:
        if self._out:
            with self._out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"row": row, **found}) + "\n")
        print(f"{row:<12}{'  '.join(f'{name}: {_shown(value)}' for name, value in found.items())}", flush=True)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    if isinstance(value, float):
        return f"{value:.4g}" if value < 1000 else f"{value:,.0f}"
    return str(value)


def _named(bench: Bench) -> str:
    return torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "the processor"


if __name__ == "__main__":
    main()
