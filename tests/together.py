"""Several processes at once that train together, as a stage starts them, but for whoever watches them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from forked import Ended, Forked


def begun_together(folder: Path, work: Callable[[], int], count: int, **variables: str) -> list[Forked]:
    """Begin so many processes in a folder, which find each other there; of one alone, nothing says that it is one.

    Args:
        folder: that they work in; what each says of its end is in `words-RANK` there.
        work: see `Forked`.
        count: of processes.
        variables: of the environment of each.
    """
    meeting = folder / "meeting"
    meeting.unlink(missing_ok=True)
    places = [
        {
            "RANK": str(rank),
            "WORLD_SIZE": str(count),
            "CONVOY_MEETING": str(meeting),
            "TORCHELASTIC_ERROR_FILE": str(folder / f"words-{rank}"),
            "GLOO_SOCKET_IFNAME": "lo",
            "TORCH_CPP_LOG_LEVEL": "ERROR",
        }
        for rank in range(count)
    ]
    return [Forked(folder, work, **(place if count > 1 else {}), **variables) for place in places]


def together(folder: Path, work: Callable[[], int], count: int = 2) -> list[Ended]:
    """Let so many processes do the same work; all went well."""
    ended = [one.ended() for one in begun_together(folder, work, count)]
    assert [one.status for one in ended] == [0] * count, "\n".join(one.words for one in ended)
    return ended
