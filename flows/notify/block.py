"""A notification block of Prefect's: Slack, Teams, PagerDuty and whatever else a team has set up on its server."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from functools import partial

from flows.notify.message import Delivery, Event, Undelivered, subject, text
from pipeline.params import NotifyOptions

TALKATIVE = ("apprise", "httpcore.connection", "httpcore.http11", "httpx", "urllib3.connectionpool")
"""Loggers that repeat the whole address of what they call; a block's address is its secret."""


def channel(options: NotifyOptions) -> Delivery | None:
    """How to notify by the block, or None if none is named. Whether it exists is seen once there is a server."""
    return partial(notify, options.prefect_block) if options.prefect_block else None


def notify(name: str, event: Event, _: float) -> None:
    """Load the block `name` (`slack-webhook/team`) from Prefect's server and send `event` by it.

    Raises:
        Undelivered: there is no such block, it is no notification block, or it fails.
    """
    with _silence():
        import prefect.blocks.notifications  # noqa: F401 (its classes are found by name below)
        from prefect.blocks.abstract import NotificationBlock
        from prefect.blocks.core import Block

        try:
            block = Block.load(name)
        except ValueError:  # Prefect's word for: there is none
            raise Undelivered(f"Prefect's server has no block {name!r}. Its page lists the blocks there are.") from None
        except Exception as error:
            raise Undelivered(f"the block {name!r} cannot be loaded ({type(error).__name__}).") from None
        if not isinstance(block, NotificationBlock):
            raise Undelivered(f"{name!r} is a block of type {type(block).__name__}, which cannot notify.")
        try:
            with block.raise_on_failure():
                waiting = block.notify(text(event), subject(event))
                if inspect.isawaitable(waiting):  # Prefect's own answer a plain call, those of others may not
                    asyncio.run(_wait(waiting))
        except Exception as error:
            raise Undelivered(f"the block {name!r} fails ({type(error).__name__}).") from None


async def _wait(waiting: Awaitable[None]) -> None:
    await waiting


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing of `TALKATIVE` is logged meanwhile, by whatever thread."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]

    def nothing(_: logging.LogRecord) -> bool:
        return False

    for logger in loggers:
        logger.addFilter(nothing)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(nothing)
