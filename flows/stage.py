"""One DVC stage as one step of a flow: the graph of `dvc.yaml`, followed in this process.

DVC decides whether a stage is up to date and holds the hashes; a flow decides when it runs, and how often again.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flows import mending
from flows.alone import holder
from flows.repository import in_git
from pipeline.__main__ import EXIT_MISTAKE, EXIT_TEMPORARY, LAST_WORDS
from pipeline.errors import TemporaryFailure, UserError, shortened
from pipeline.interrupts import EXIT_CODE

if TYPE_CHECKING:
    from dvc.repo import Repo

LOCK = Path("dvc.lock")
STAGE_LOCK = Path(".convoy/stage.lock")
WORDS = Path(".convoy/stage.words")
"""Why a stage stopped, if it said so; see `pipeline.__main__.LAST_WORDS`."""
LONGEST = 20_000
"""Characters of it that are listened to."""
LOOK_SECONDS = 0.1
"""Between two looks for a stage that is to stop and has not begun."""
GOES_ON = " `convoy run` goes on from what is done."


class Mistake(UserError):
    """A stage says what the user has to change; going on without that would stop at the same place."""


class Stopped(UserError):
    """A stage was interrupted and has kept what was done."""

    status = EXIT_CODE


class Died(UserError):
    """A stage ended without a word: killed, out of memory, or a defect. Trying again may help."""

    @property
    def reason(self) -> str:
        """Without what to do next."""
        return str(self).removesuffix(GOES_ON)


@dataclass(frozen=True)
class StageRun:
    """What came of one stage."""

    name: str
    outcome: str
    """`ran`, `restored` from DVC's cache of earlier runs, or `unchanged`."""
    seconds: float


class Graph:
    """The stages of `dvc.yaml` in the folder `root`, opened once for many questions."""

    def __init__(self, root: Path) -> None:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.WARNING)  # its own progress; the stages print theirs
        logging.getLogger("dvc.rwlock").setLevel(logging.ERROR)  # it mends what a killed run left, and says so thrice
        if not os.environ.get("PATH", "").startswith(str(Path(sys.executable).parent)):
            # `python` in dvc.yaml is the one that runs here, whether or not its environment is activated.
            os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        mending.mend(root)
        try:
            self._repo: Repo = Repo(str(root), config=None if in_git(root) else {"core": {"no_scm": True}})
        except DvcException as error:
            raise UserError(f"DVC cannot open {root}: {error}") from error
        self._root = root

    def stages(self) -> list[str]:
        """Every stage, each after those that it depends on."""
        import networkx
        from dvc.exceptions import DvcException

        try:
            graph = self._repo.index.graph  # its edges point from a stage to those that it depends on
        except DvcException as error:
            raise UserError(f"dvc.yaml: {_one_line(error)}") from error
        return [stage.addressing for stage in networkx.lexicographical_topological_sort(graph.reverse(), key=str)]

    def maker(self, output: Path) -> str:
        """The stage that makes `output`, a path relative to the root."""
        return str(
            next(out.stage.addressing for out in self._repo.index.outs if out.fs_path == str(self._root / output))
        )

    def changed(self) -> dict[str, Any]:
        """The stages that are not up to date, and what changed; a source that has news is not among it.

        Raises:
            UserError: another DVC command is at work, or dvc.yaml is wrong.
        """
        from dvc.exceptions import DvcException
        from dvc.lock import LockError

        try:
            status = self._repo.status()
        except LockError as error:
            raise self._busy() from error
        except DvcException as error:
            raise UserError(f"DVC cannot tell what has changed: {_one_line(error)}") from error
        return {name: what for name, what in status.items() if what != ["always changed"]}

    def run(self, name: str, anew: bool = False) -> StageRun:
        """Bring one stage up to date.

        Args:
            name: of the stage.
            anew: run it in any case, and keep what it writes out of DVC's cache.

        Raises:
            Mistake: the stage says what the user should mend.
            TemporaryFailure: it says what the machine or the network lacks; as soon as it has that, the stage goes on.
            Stopped: it was interrupted.
            Died: it ended without a word.
        """
        from dvc.exceptions import DvcException
        from dvc.lock import LockError

        mending.keep_lock(self._root)
        before, last = self.locked(name), _last_process()
        start = time.perf_counter()
        words = self._root.absolute() / WORDS
        words.unlink(missing_ok=True)
        os.environ[LAST_WORDS] = str(words)
        # In a thread: in the main one, DVC would ignore Ctrl-C, and one that comes while a stage ends would be lost.
        with ThreadPoolExecutor(1, thread_name_prefix="dvc") as pool:
            how = {"force": True, "no_commit": True, "run_cache": False} if anew else {}
            reproducing = pool.submit(self._repo.reproduce, name, single_item=True, **how)
            try:
                wait([reproducing])
            except BaseException:  # Ctrl-C, or the time limit: the stage keeps what is done and ends
                _stop(reproducing, last)
                raise
            finally:
                del os.environ[LAST_WORDS]
        try:
            done = reproducing.result()
        except LockError as error:
            raise self._busy() from error
        except DvcException as error:
            raise _explained(name, error, _said(words)) from error
        ran = _last_process() != last
        if not done or (ran and self.locked(name) == before):  # ingest looks at its source each time
            outcome = "unchanged"
        else:
            outcome = "ran" if ran else "restored"
        return StageRun(name, outcome, time.perf_counter() - start)

    def restore(self, output: Path) -> bool:
        """Put an output in place as `dvc.lock` names it; False if DVC's cache does not have it."""
        from dvc.exceptions import CheckoutError

        try:
            self._repo.checkout([str(output)], force=True)
        except CheckoutError:
            return False
        return True

    def locked(self, name: str) -> Any:
        """The entry of a stage in `dvc.lock`: the digests of what it read and wrote."""
        try:
            lock = yaml.safe_load((self._root / LOCK).read_text())
        except FileNotFoundError:
            return None
        return (lock.get("stages") or {}).get(name)

    def _busy(self) -> UserError:
        return UserError(f"Another DVC command is at work in {self._root}; try again when it has ended.")


def _explained(name: str, error: Exception, said: str = "") -> Exception:
    """What the exit status of a stage's process means.

    Args:
        name: of the stage.
        error: of DVC.
        said: what the process has left to be said.
    """
    from dvc.stage.exceptions import StageCmdFailedError

    cause: BaseException = error
    while cause.__cause__ and not isinstance(cause, StageCmdFailedError):
        cause = cause.__cause__  # what DVC wraps says what happened; the wrapping does not
    if not isinstance(cause, StageCmdFailedError):
        return UserError(f"{name}: DVC says: {_one_line(cause)}")
    status = int(str(cause).rpartition(" ")[2])
    said = said or f"{name}: see the words above."
    if status in (EXIT_MISTAKE, EXIT_TEMPORARY):
        return Mistake(said) if status == EXIT_MISTAKE else TemporaryFailure(said)
    if status in (EXIT_CODE, -signal.SIGINT, 128 + signal.SIGINT):
        return Stopped(f"{name}: stopped. `convoy run` goes on.")
    number = -status if status < 0 else status - 128
    reason = f"by signal {signal.Signals(number).name}" if number in set(signal.Signals) else f"with status {status}"
    hint = " (the system kills so when memory runs out)" if number == signal.SIGKILL else ""
    return Died(f"{name}: its process ended {reason}{hint}.{GOES_ON}")


def _said(words: Path) -> str:
    """What the stage has left, not more of it than a person reads; and no more than once."""
    try:
        text = words.read_text(encoding="utf-8", errors="replace").strip()
        words.unlink()
    except OSError:
        return ""
    return shortened(text, LONGEST)


def _last_process() -> str:
    try:
        return STAGE_LOCK.read_text()
    except OSError:
        return ""


def _stop(reproducing: Future[Any], last: str) -> None:
    """End the stage that is at work, or that DVC is about to start: whoever waited for it does not any more.

    Args:
        reproducing: what DVC does; it cannot be called off, and may still be comparing files.
        last: the process that the lock of stages named before it began.
    """
    told = last
    while not reproducing.done():
        at_work = holder(STAGE_LOCK) or ""  # held, so the process that is named in it lives
        if at_work.isdecimal() and at_work != told:
            with suppress(ProcessLookupError):
                os.kill(int(at_work), signal.SIGTERM)
            told = at_work
        wait([reproducing], timeout=LOOK_SECONDS)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
