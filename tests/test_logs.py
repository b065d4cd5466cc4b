"""The log of a flow run: every line that its processes print, whole and once, bounded, and without what drew a bar."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flows import logs
from flows.housekeeping import leftovers
from pipeline import progress
from pipeline.errors import UserError
from pipeline.progress import LOG, copied, older, write_log
from pipeline.registry.glances import Glance
from pipeline.registry.needed import DAY, IDLE_DAYS

ROOT = Path(__file__).parents[1]
FLOW = "0a1b2c3d-0000-4000-8000-000000000001"
OTHER = "0a1b2c3d-0000-4000-8000-000000000002"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(LOG, str(tmp_path / "run.log"))
    return tmp_path / "run.log"


def lines(log: Path) -> list[str]:
    """Without their times, which each of them has."""
    found = log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in found), found
    return [line[21:] for line in found]


def test_what_is_printed_goes_to_the_terminal_as_it_is_and_to_the_log_in_lines(log: Path, capsys) -> None:
    with copied():
        print("one", end="")
        assert not log.exists()
        print(" line\nand \x1b[1mbold\x1b[0m")
        print("an error", file=sys.stderr)
        print("10 %\r20 %\rdone")
        print("no\aise \x1b]0;title\x07", "\u202e")
        print("begun", end="")
    print("outside")
    assert lines(log) == ["one line", "and bold", "an error", "done", "no\\x07ise  \\u202e", "begun"]
    seen = capsys.readouterr()
    assert seen.out.startswith("one line\nand \x1b[1mbold\x1b[0m\n10 %\r20 %\rdone\n")
    assert seen.out.endswith("begunoutside\n")
    assert seen.err == "an error\n"


def test_without_a_log_nothing_is_wrapped(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOG)
    before = sys.stdout
    with copied():
        assert sys.stdout is before
        write_log("nowhere")
    assert not log.exists()


def test_a_log_that_cannot_be_written_stops_nothing(log: Path, capsys) -> None:
    log.mkdir()
    with copied():
        print("goes on")
    assert capsys.readouterr().out == "goes on\n"


def test_a_line_without_end_takes_no_more_than_its_share(log: Path) -> None:
    with copied():
        for number in range(20_000):
            print(f"\rdrawn again {number}", end="")
        print()
        print("x" * 1_000_000)
    first, second = lines(log)
    assert first == "drawn again 19999"
    assert len(second) == progress.LONGEST_LINE


BAR = """
import sys, time
from pipeline import progress
progress.LINE_SECONDS = 0.2
with progress.copied():
    print("before")
    with progress.track("packing", 50) as advance:
        for number in range(50):
            advance(1)
            time.sleep(0.02)
            if number == 25:
                print("in the middle")
                print("a warning", file=sys.stderr)
    print("after")
"""


def test_a_bar_is_drawn_on_the_terminal_and_told_in_the_log(log: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", BAR], cwd=ROOT, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 65536):
            seen += data
    except OSError:  # how Linux says that nobody holds the other end
        pass
    os.close(ours)
    assert process.wait() == 0
    assert "━".encode() in seen
    assert b"in the middle" in seen and b"a warning" in seen
    found = lines(log)
    told = [line for line in found if re.fullmatch(r"packing: \d+ of 50 \(\d+%\)", line)]
    assert told
    assert [line for line in found if line not in told] == ["before", "in the middle", "a warning", "after"]


WRITERS = """
import os, sys
from pipeline import progress
progress.LOG_BYTES = int(sys.argv[2])
with progress.copied():
    for number in range(int(sys.argv[3])):
        print(f"{sys.argv[1]} {number}", "." * 100)
"""


def write_from_several(log: Path, limit: int, count: int) -> None:
    command = [sys.executable, "-c", WRITERS]
    writers = [
        subprocess.Popen([*command, name, str(limit), str(count)], cwd=ROOT, stdout=subprocess.DEVNULL)
        for name in "abc"
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]


def test_several_processes_write_whole_lines(log: Path) -> None:
    write_from_several(log, progress.LOG_BYTES, 2000)
    found = lines(log)
    for name in "abc":
        assert [line for line in found if line[0] == name] == [f"{name} {number} {'.' * 100}" for number in range(2000)]


def test_a_long_log_keeps_its_end(log: Path) -> None:
    write_from_several(log, 50_000, 2000)
    assert log.stat().st_size <= 50_300
    assert 50_000 < older(log).stat().st_size < 51_000
    found = lines(older(log)) + (lines(log) if log.exists() else [])
    last = [f"{name} 1999 {'.' * 100}" for name in "abc"]
    assert any(line in last for line in found[-3:])
    for name in "abc":  # nothing is missing between the first line that is kept and the last
        numbers = [int(line.split()[1]) for line in found if line[0] == name]
        assert numbers == list(range(numbers[0], 2000)) if numbers else True


KILLED = """
from pipeline import progress
progress.LOG_BYTES = 1 << 40
with progress.copied():
    print("begins", flush=True)
    for number in range(10**9):
        print(number, "." * 50)
"""


def test_a_kill_leaves_whole_lines(log: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not log.exists() or log.stat().st_size < 20_000:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert log.read_text().endswith("\n")
    assert [line.split()[0] for line in lines(log)[1:4]] == ["0", "1", "2"]


def test_threads_that_print_lose_nothing(log: Path, capsys) -> None:  # noqa: ARG001
    def work(name: str) -> None:
        for number in range(200):
            sys.stdout.write(f"{name}{number}\n")

    with copied():
        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(lines(log)) == sorted(f"{name}{number}" for name in "abcd" for number in range(200))


def test_the_error_that_ends_a_run_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(LOG, raising=False)

    def work(error: Exception) -> None:
        with logs.kept(FLOW), logs.kept(FLOW):
            print("at work")
            raise error

    with pytest.raises(UserError):
        work(UserError("no room\nmake some"))
    with pytest.raises(ZeroDivisionError):
        work(ZeroDivisionError("a defect"))
    assert LOG not in os.environ
    found = lines(tmp_path / f".convoy/logs/runs/{FLOW}.log")
    assert re.fullmatch(r"The run begins, in process \d+\.", found[0])
    assert found[1:4] == ["at work", "no room", "make some"]
    assert re.fullmatch(r"The run goes on, in process \d+\.", found[4])
    assert found[6] == "Traceback (most recent call last):"
    assert found[-1] == "ZeroDivisionError: a defect"


def test_a_tail_goes_on_where_it_was_also_when_the_log_was_cut(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_BYTES", 1000)
    assert logs.tail(log, 0) == ("", 0)
    seen, offset = "", 0
    for number in range(100):
        write_log(f"{number} {'.' * 40}")
        if number % 3 == 0:
            text, offset = logs.tail(log, offset)
            seen += text
    seen += logs.tail(log, offset)[0]
    assert [int(line.split()[2]) for line in seen.splitlines()] == list(range(100))
    whole, end = logs.tail(log, 0)
    assert whole == older(log).read_text() + log.read_text()
    assert logs.tail(log, end) == ("", end)
    with log.open("a") as file:
        file.write("half a line")
    assert logs.tail(log, end) == ("", end)


def test_of_a_long_log_the_end_is_shown(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "AT_ONCE", 100)
    write_log("\n".join(f"line {number}" for number in range(100)))
    text, end = logs.tail(log, 0)
    assert text.startswith(logs.LEFT_OUT)
    assert [line[21:] for line in text.splitlines()[1:]] == ["line 97", "line 98", "line 99"]
    assert end == log.stat().st_size


def test_a_run_that_another_flow_run_takes_up_takes_its_log_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(LOG, raising=False)
    for flow_run, words in ((FLOW, "killed"), (OTHER, "taken up")):
        with logs.kept(flow_run):
            print(words)
    logs.go_on(FLOW, OTHER)
    logs.go_on(OTHER, OTHER)
    logs.go_on("", OTHER)
    text, _ = logs.tail(logs.path(OTHER), 0)
    assert [line[21:] for line in text.splitlines()][1::2] == ["killed", "taken up"]
    assert not logs.path(FLOW).exists()


def test_housekeeping_frees_the_logs_of_runs_that_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flow_runs = {name: f"0a1b2c3d-0000-4000-8000-00000000000{number}" for number, name in enumerate("abcd")}
    for name, flow_run in flow_runs.items():
        for path in (logs.path(flow_run), older(logs.path(flow_run))):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            if name == "d":  # it failed long ago, before its run was known; c did so just now
                os.utime(path, (time.time() - IDLE_DAYS * DAY - 60,) * 2)
    known = [
        Glance(id=name, model="digits", state="finished", started=1, ended=2, flow_run=flow_runs[name]) for name in "ab"
    ]
    groups = leftovers.caches(known, ["a"], time.time())
    (found,) = [group for group in groups if group.what == "logs of flow runs"]
    found.free()
    left = sorted(path.read_text() for path in (tmp_path / ".convoy" / logs.HOME).iterdir())
    assert left == ["a", "a", "c", "c"]
