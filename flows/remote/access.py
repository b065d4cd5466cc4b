"""Opening the DVC remote, trying again where that may help, and words for what goes wrong."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from flows.notify.redaction import reason, redacted
from pipeline.errors import UserError

if TYPE_CHECKING:
    from dvc.data_cloud import Remote
    from dvc.repo import Repo

Say = Callable[[str], None]
T = TypeVar("T")

NO_REMOTE = (
    "No DVC remote is configured, so there is nowhere to push to or fetch from. "
    "`dvc remote add -d storage /path` or `dvc remote add -d storage s3://bucket/path` adds one."
)
TIMEOUTS = {"connect_timeout": 10, "read_timeout": 30}
"""Seconds, where the remote's own options say nothing. S3's client waits 60, and asks 25 times before it gives up."""
PASSING = {errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO), errno.EIO, errno.ESTALE}
"""What s3fs makes of status 500 and 503 and of codes that it does not know; a network disk has the last."""
TOLD_BY = ("dvc", "dvc_data", "dvc_objects")
BARS = ("dvc.progress", "dvc_data.callbacks")


@dataclass(frozen=True)
class Access:
    """A project's default remote, open."""

    repo: Repo
    remote: Remote
    say: Say
    pauses: Sequence[float]
    """Seconds before each further try."""

    @property
    def where(self) -> str:
        """What to call the remote."""
        return redacted(f"remote {self.remote.name!r} ({self.remote.fs.unstrip_protocol(self.remote.path)})")

    def tried(self, work: Callable[[], T]) -> T:
        """What `work` gives, tried again after each pause where that may help.

        Raises:
            UserError: what went wrong the last time.
        """
        for pause in (*self.pauses, None):
            try:
                with reasons():
                    return work()
            except Exception as error:
                problem = worded(error, self.where)
                if pause is None or not passing(error):
                    raise problem from error
            self.say(f"{problem} Trying again in {pause:g} s ...")
            time.sleep(pause)
        raise AssertionError  # the last round returns or raises


@contextmanager
def opened(root: Path, say: Say, pauses: Sequence[float]) -> Iterator[Access]:
    """The default remote of the project in `root`; no request is made yet.

    Raises:
        UserError: there is none, or DVC's configuration is wrong.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo(str(root))
    except DvcException as error:
        raise worded(error, str(root)) from error
    try:
        for options in repo.config["remote"].values():
            if options.get("url", "").startswith("s3://"):
                options.update({name: value for name, value in TIMEOUTS.items() if name not in options})
        try:
            remote = repo.cloud.get_remote()
        except Exception as error:
            raise worded(error, "The DVC remote") from error
        yield Access(repo, remote, say, pauses)
    finally:
        repo.close()


def worded(error: BaseException, where: str) -> UserError:
    """What `error` of DVC or of a file system means for somebody who uses the remote `where`."""
    from dvc.config import NoRemoteError
    from dvc.exceptions import DvcException

    if isinstance(error, UserError):
        return error
    if isinstance(error, NoRemoteError):
        return UserError(NO_REMOTE)
    chain = list(_chain(error))
    if locked(error):
        return UserError("Another DVC command is at work in this project; try again when it has ended.")
    if any(_code(cause) == "NoSuchBucket" for cause in chain):
        return UserError(f"{where}: there is no such bucket. Make it, or `dvc remote modify` the url.")
    if any(isinstance(cause, PermissionError) or _lacks_credentials(cause) for cause in chain):
        return UserError(
            f"{where} refuses: the credentials are missing, wrong or not enough, or the folder belongs to somebody "
            "else. For S3: `dvc remote modify --local` with access_key_id and secret_access_key, or AWS_PROFILE."
        )
    if any(isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in chain):
        return UserError(f"{where}, or the disk of DVC's cache: no room is left. Free some space and try again.")
    if passing(error):
        return UserError(f"{where} cannot be reached ({type(chain[-1]).__name__}). Is it up, and the network?")
    teller = "DVC" if isinstance(chain[-1], DvcException) else where
    return UserError(f"{teller} says: {reason(chain[-1])}")


def passing(error: BaseException) -> bool:
    """Whether the same may succeed a little later: the network, a server that starts anew, a lock."""
    return locked(error) or any(_network(cause) for cause in _chain(error))


def locked(error: BaseException) -> bool:
    """Whether another DVC command holds the project's lock."""
    from dvc.lock import LockError

    return any(isinstance(cause, LockError) for cause in _chain(error))


@contextmanager
def reasons() -> Iterator[None]:
    """Inside, DVC is silent, and an error is the reason: DVC itself logs why a file failed and raises how many did."""
    from dvc.exceptions import DvcException

    ear = _Ear(logging.ERROR)
    loggers = [logging.getLogger(name) for name in TOLD_BY]
    bars = [logging.getLogger(name) for name in BARS]
    kept = [(logger.handlers, logger.propagate) for logger in loggers]
    levels = [logger.level for logger in bars]
    for logger in loggers:
        logger.handlers, logger.propagate = [ear], False
    for logger in bars:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    except DvcException as error:
        raise ear.heard[0] if ear.heard else error  # noqa: B904 (what is raised is the cause)
    finally:
        for logger, (handlers, propagate) in zip(loggers, kept, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        for logger, level in zip(bars, levels, strict=True):
            logger.setLevel(level)


class _Ear(logging.Handler):
    """Keeps the exceptions that are logged."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.heard: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.heard.append(record.exc_info[1])


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause:
        yield cause
        cause = cause.__cause__


def _network(error: BaseException) -> bool:
    import aiohttp
    from botocore.exceptions import ConnectionError as NoConnection  # type: ignore[import-untyped]
    from botocore.exceptions import HTTPClientError

    if isinstance(error, (ConnectionError, TimeoutError, aiohttp.ClientError, HTTPClientError, NoConnection)):
        return True
    return isinstance(error, OSError) and error.errno in PASSING


def _code(error: BaseException) -> str:
    """The code of S3's answer, if it is one."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _lacks_credentials(error: BaseException) -> bool:
    from botocore import exceptions  # type: ignore[import-untyped]

    return isinstance(
        error,
        (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError,
            exceptions.ProfileNotFound,
            exceptions.TokenRetrievalError,
        ),
    )
