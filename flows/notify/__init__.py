"""Telling people that a run failed, succeeded or waits for a decision: by webhook, by mail, by a Prefect block.

    notify.check(params.notify)                   # at the start: whatever is missing is said before hours of training
    problems = notify.send(params.notify, Event("success", "digits", run, "digits version 4 is the champion"))

A run never fails because a notification does: `send` raises nothing and takes no longer than its limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue

from flows.notify import block, mail, webhook
from flows.notify.credentials import known
from flows.notify.message import Delivery, Event, Kind, Undelivered, cleaned
from flows.notify.redaction import redacted
from flows.notify.webhook import verify
from pipeline.errors import UserError
from pipeline.params import NotifyOptions

__all__ = ["Event", "Kind", "check", "send", "verify"]

CHANNELS = {"webhook": webhook.channel, "email": mail.channel, "Prefect block": block.channel}
LIMIT = 30.0
"""Seconds that `send` takes at most; every channel has all of them, side by side."""


def check(options: NotifyOptions) -> None:
    """See whether everything is there that the notifications asked for need; nobody is contacted.

    Raises:
        UserError: with all that is missing.
    """
    if not options.on:
        return
    deliveries, problems = _deliveries(options)
    if not deliveries and not problems:
        problems = ["notify.on names events, but webhook, email and prefect_block are empty. Set one, or on: []."]
    if problems:
        raise UserError("\n".join(problems))


def send(options: NotifyOptions, event: Event, limit: float = LIMIT) -> list[str]:
    """Tell everybody whom `options` name about `event`, if its kind is among those to tell about.

    A channel that has not ended within `limit` seconds is left to itself, in a thread that ends with the process.

    Returns:
        What could not be delivered, in words without secrets; empty if all was.
    """
    if event.kind not in options.on:
        return []
    try:
        return [redacted(problem, known()) for problem in _sent(options, event, limit)]
    except Exception as error:
        return [f"Nobody could be notified: {type(error).__name__}."]  # its text might hold a secret


def _sent(options: NotifyOptions, event: Event, limit: float) -> list[str]:
    end = time.monotonic() + limit
    deliveries, problems = _deliveries(options)
    told = cleaned(event, known())
    ended: SimpleQueue[tuple[str, str]] = SimpleQueue()
    for name, deliver in deliveries.items():
        deliver_now = partial(copy_context().run, deliver, told, end)  # Prefect's context says which server is meant
        threading.Thread(target=_report, args=(name, deliver_now, ended), name=f"notify {name}", daemon=True).start()
    waiting = set(deliveries)
    while waiting:
        try:
            name, problem = ended.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            break
        waiting.discard(name)
        problems += [problem] if problem else []
    return problems + [f"{name}: no end within {limit:g} s; whether it was delivered is unknown." for name in waiting]


def _report(name: str, deliver: Callable[[], None], ended: SimpleQueue[tuple[str, str]]) -> None:
    problem = ""
    try:
        deliver()
    except Undelivered as error:
        problem = f"{name}: {error}"
    except BaseException as error:
        problem = f"{name}: failed with {type(error).__name__}."  # its text might hold a secret
    ended.put((name, problem))


def _deliveries(options: NotifyOptions) -> tuple[dict[str, Delivery], list[str]]:
    """How to deliver, by channel, and what is missing for the others."""
    deliveries, problems = dict[str, Delivery](), list[str]()
    for name, channel in CHANNELS.items():
        try:
            if deliver := channel(options):
                deliveries[name] = deliver
        except UserError as error:
            problems.append(f"{name}: {error}")
    return deliveries, problems
