"""What of the machine this process may use, as far as results may depend on it. Nothing heavy is imported.

In a container that is less than what the machine has: control groups of Linux, of the first version or the second, say
how much memory and how many cores. (Documentation of the kernel: admin-guide/cgroup-v2, cgroup-v1/memory,
scheduler/sched-bwc.)
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

RESUME = "CONVOY_RESUME"
"""Variable that says what becomes of a training that was begun on another machine, or with other libraries or threads:
`anyway`, it goes on, or `anew`, it starts over. Unset, it is refused."""
ROOT = Path("/")
SECOND = ""
"""What /proc names the control groups of the second version, which has one tree for all that it limits."""
OF_MEMORY = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Files of the second version and of the first: the limit, what is used, and what of that is files that are given back
at once; the last is a line of `memory.stat`."""


class Limits(NamedTuple):
    """What the control groups of this process allow, its own and all that it lies in."""

    memory: float
    """Bytes; infinity: no limit."""
    left: float
    """Bytes of it that can still be taken; likewise."""
    cores: float
    """Any share of them; likewise."""


def limits(root: Path = ROOT) -> Limits:
    """What the control groups of this process allow now; without limits where there are none, as on other systems."""
    memory, left, cores = [math.inf], [math.inf], [math.inf]
    for group in _groups(root, "memory"):
        for limit, used, idle in OF_MEMORY:
            memory.append(most := _number(group / limit))
            if (taken := _number(group / used)) < math.inf:
                left.append(max(0.0, most - taken + _line(group / "memory.stat", idle)))
    for group in _groups(root, "cpu"):
        quota, _, period = _text(group / "cpu.max").partition(" ")
        if not period:
            quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
        if quota.isdecimal():  # and not `max`, or -1
            cores.append(int(quota) / int(period))
    return Limits(min(memory), min(left), min(cores))


def cores(root: Path = ROOT) -> int:
    """That this process may use; of a quota of a core and a half two, as one would leave a part of it unused."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(mine, limits(root).cores))


def memory(root: Path = ROOT) -> int:
    """Bytes that this process may have, in use or free: what the machine has, or what is allowed if that is less."""
    return int(min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), limits(root).memory))


def processor() -> str:
    """Its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of what limits memory, or cores: the group of this process, and all above it that are seen here."""
    lines = [line.split(":", 2) for line in _text(root / "proc/self/cgroup").splitlines()]
    groups = {name: path for _, names, path in lines for name in names.split(",")}
    for line in _text(root / "proc/self/mountinfo").splitlines():
        place, _, kind = line.partition(" - ")
        top, mounted = place.split()[3:5]
        system, *_, options = kind.split()
        second = system == "cgroup2"
        name = SECOND if second else controller
        if name in groups and (second or (system == "cgroup" and controller in options.split(","))):
            group = PurePosixPath(groups[name])
            # A container may be told its group's name on the machine, and see the folder of that group alone.
            inside = group.relative_to(top).parts if group.is_relative_to(top) else ()
            inside = () if ".." in inside else inside
            for depth in range(len(inside), -1, -1):
                yield root.joinpath(mounted.removeprefix("/"), *inside[:depth])


def _text(path: Path) -> str:
    """Nothing where it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: Path) -> float:
    """Infinity where there is none: no such file, or `max`."""
    text = _text(path)
    return int(text) if text.isdecimal() else math.inf


def _line(path: Path, name: str) -> int:
    """The number after a name; 0 where there is none."""
    fields = (line.split() for line in _text(path).splitlines())
    return next((int(number) for key, number in fields if key == name), 0)
