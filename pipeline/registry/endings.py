"""What a run that stopped short says and what becomes of it, in the same words in a terminal and on the page.

The same params may simply go on after a kill, a defect, an interruption or a time limit, and once what was lacking is
there: room on a disk, memory that others held, a server. What somebody has to change or choose first is a mistake: of
the params or the data, or a training that was begun on another machine.
"""

from __future__ import annotations

from pipeline.journal import trainings
from pipeline.registry.attempts import Attempt
from pipeline.registry.glances import SHOWN


def reason_said(error: str) -> str:
    """Why it stopped short, also if it could not say so."""
    return error.strip() or "It was killed, or its machine went down."


def next_said(attempt: Attempt) -> str:
    """What is to be done about it, with commands in backticks."""
    if attempt.mistake:
        return "As it is, it would stop at the same place again: change what it says, then `convoy run`."
    again = f"`convoy rerun {attempt.id[:SHOWN]}` goes on with its own code and params"
    words = f"Nothing has to be changed: {again}, `convoy run` if these and the data are the same."
    if attempt.training and not (trainings() / attempt.training).is_dir():
        words += " What it had learnt is not kept any more, so training begins anew."
    return words
