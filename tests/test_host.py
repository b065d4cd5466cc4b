"""What a container leaves of its machine: files as the kernel writes them, of both versions of control groups."""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path

import pytest
import torch

from pipeline import host
from pipeline.host import Limits, cores, limits
from pipeline.host import memory as memory_of
from pipeline.train import resident, shortage

GB = 10**9
NONE = Limits(math.inf, math.inf, math.inf)
WITHOUT = 9223372036854771712
"""Bytes that the first version tells where there is no limit."""
SECOND = "29 23 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n"
FIRST = (
    "31 30 0:27 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:28 {top} /sys/fs/cgroup/cpu,cpuacct ro,relatime master:12 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:29 {top} /sys/fs/cgroup/memory ro,relatime master:13 - cgroup cgroup rw,memory\n"
    "34 31 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)


def told(root: Path, groups: str, mounts: str) -> Path:
    """The machine as /proc tells of it."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/self/mountinfo").write_text(f"22 28 0:20 / /proc rw - proc proc rw\n{mounts}")
    return root


def group(root: Path, path: str, **files: object) -> None:
    """Files of a control group, in whose names the first underscore is a dot."""
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")


def second(root: Path, path: str, most: object, used: int, idle: int = 0, cpu: str = "max 100000") -> None:
    """A control group of the second version."""
    stat = f"anon {used - idle}\nfile {idle}\ninactive_file {idle}\nactive_file 0"
    group(root, path, memory_max=most, memory_current=used, memory_stat=stat, cpu_max=cpu)


def first(root: Path, path: str, most: int, used: int, idle: int, quota: int) -> None:
    """A control group of the first version."""
    stat = f"cache {idle}\ninactive_file 1\ntotal_cache {idle}\ntotal_inactive_file {idle}"
    group(root, f"memory/{path}", memory_limit_in_bytes=most, memory_usage_in_bytes=used, memory_stat=stat)
    group(root, f"cpu,cpuacct/{path}", cpu_cfs_quota_us=quota, cpu_cfs_period_us=50_000)


def test_no_control_groups_no_limits(tmp_path: Path) -> None:
    assert limits(tmp_path) == NONE
    assert cores(tmp_path) == len(os.sched_getaffinity(0))
    assert memory_of(tmp_path) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_container_of_the_second_version_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    root = told(tmp_path, "0::/\n", SECOND)
    second(root, "", 4 * GB, 3 * GB, idle=GB, cpu="150000 100000")
    assert limits(root) == Limits(4 * GB, 2 * GB, 1.5)  # what was read from files is given back
    second(root, "", "max", 3 * GB)
    assert limits(root) == NONE


def test_the_least_of_a_group_and_of_all_above_it_counts(tmp_path: Path) -> None:
    root = told(tmp_path, "0::/pod.slice/one\n", SECOND)
    second(root, "pod.slice/one", 8 * GB, GB, cpu="400000 100000")
    second(root, "pod.slice", 6 * GB, 5 * GB, cpu="50000 20000")
    second(root, "pod.slice/other", GB, GB, cpu="1000 100000")  # not of this process
    assert limits(root) == Limits(6 * GB, GB, 2.5)
    second(root, "pod.slice", "max", 5 * GB)
    assert limits(root) == Limits(8 * GB, 7 * GB, 4)


@pytest.mark.parametrize("top", ["/", "/docker/c0ffee"])
def test_a_container_of_the_first_version(tmp_path: Path, top: str) -> None:
    """With all groups of the machine in sight, or its own alone, whose name on the machine it is told anyway."""
    own = "" if top == "/docker/c0ffee" else "docker/c0ffee"
    names = "/docker/c0ffee"
    groups = f"12:cpu,cpuacct:{names}\n8:memory:{names}\n1:name=systemd:{names}\n0::{names}\n"
    root = told(tmp_path, groups, FIRST.format(top=top))
    if own:
        first(root, "", WITHOUT, 9 * GB, 0, -1)
    first(root, own, 2 * GB, GB, GB // 2, 25_000)
    assert limits(root) == Limits(2 * GB, 3 * GB // 2, 0.5)
    first(root, own, WITHOUT, GB, 0, -1)
    free = limits(root)
    assert free.memory == WITHOUT and free.cores == math.inf
    assert memory_of(root) == memory_of(tmp_path / "nowhere")


def test_a_group_above_what_is_seen_is_no_path_out_of_it(tmp_path: Path) -> None:
    root = told(tmp_path, "0::/../../other\n", SECOND)
    second(root, "", 4 * GB, GB)
    second(root, "../other", GB, GB)
    assert limits(root).memory == 4 * GB


def test_parts_of_cores_are_rounded_up_and_never_to_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    root = told(tmp_path, "0::/\n", SECOND)
    for quota, count in {"150000": 2, "200000": 2, "1000": 1, "6400000": 8, "max": 8}.items():
        second(root, "", "max", GB, cpu=f"{quota} 100000")
        assert cores(root) == count


def test_what_is_too_small_is_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = told(tmp_path, "0::/\n", SECOND)
    second(root, "", GB // 2, 0)
    monkeypatch.setattr(host.limits, "__defaults__", (root,))
    monkeypatch.setattr(host.memory, "__defaults__", (root,))
    assert resident.memory(torch.device("cpu")) == GB // 2
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        assert shortage.room(MemoryError()) == "the 0.5 GB that this container may have"
    second(root, "", "max", 0)
    assert shortage.room(MemoryError()) == shortage.SHARED
