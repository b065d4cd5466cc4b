"""The packed cache, where several runs share it."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from registry_project import make_project

from pipeline import packed as module
from pipeline.contracts import Frame
from pipeline.dataset import Dataset
from pipeline.packed import cache, packed

LARGE = 1 << 60
"""Bytes that no disk has: everything has to go."""


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Dataset.open().split("test")


def test_what_another_run_is_making_stays_and_what_a_killed_one_left_goes(split):
    packed(split, Frame(), 8)
    (whole,) = cache().glob("*.npy")
    busy, left, new = (cache() / f".{name}.1.tmp.npy" for name in ("busy", "left", "new"))
    for path in (busy, left):
        path.write_bytes(b"x")
    new.touch()
    with busy.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        module._make_room(cache(), 1)
        assert set(cache().iterdir()) == {whole, busy, new}
        module._make_room(cache(), LARGE)
        assert set(cache().iterdir()) == {busy, new}, "an empty one may be locked the next moment"
