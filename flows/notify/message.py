"""What is told, the same on every channel: one event in words that are fit to leave the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from flows.notify.redaction import redacted

Kind = Literal["failure", "success", "decision"]

LINES, LINKS, LENGTH = 50, 10, 500
"""What a message holds at most; names of classes and words of an error may be of any length."""


class Undelivered(Exception):
    """A channel could not deliver; its text says why, without secrets."""


@dataclass(frozen=True)
class Event:
    """Something that people should hear of."""

    kind: Kind
    model: str
    """Its name in the registry."""
    run: str
    """What `convoy show` takes."""
    headline: str
    """One line that says what happened."""
    lines: tuple[str, ...] = ()
    """More about it."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Address by what is found there: `{"report": "http://..."}`."""


Delivery = Callable[[Event, float], None]
"""Delivers an event until a time of the monotonic clock; raises `Undelivered`."""


def cleaned(event: Event, secrets: Iterable[str]) -> Event:
    """`event` without secrets, control characters and excess.

    Model and class names come from files of others: a line break in one must not become a header of a mail.
    """
    hidden = list(secrets)

    def line(text: str) -> str:
        printable = "".join(letter if letter.isprintable() else " " for letter in redacted(text, hidden))
        return " ".join(printable.split())[:LENGTH]

    return Event(
        kind=event.kind,
        model=line(event.model),
        run=line(event.run),
        headline=line(event.headline),
        lines=tuple(map(line, event.lines[:LINES])),
        links={line(name): line(address) for name, address in list(event.links.items())[:LINKS]},
    )


def subject(event: Event) -> str:
    """The event in one line."""
    return f"[{event.model}] {event.kind}: {event.headline}"


def text(event: Event) -> str:
    """The event as plain text."""
    links = [f"{name}: {address}" for name, address in event.links.items()]
    paragraphs = [[event.headline], event.lines, links, [f"model {event.model}, run {event.run}"]]
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines) + "\n"
