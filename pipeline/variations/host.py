"""A plan on the processor: OpenCV writes each picture where the batch wants it, in as few passes as there are steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from pipeline.variations.plan import Plan
from pipeline.variations.step import Drawn, Step

cv2.setNumThreads(0)  # our own threads share the processor; OpenCV's would fight them
cv2.ocl.setUseOpenCL(False)


class Bench:
    """Rooms for pictures that are half done. Each thread needs its own."""

    def __init__(self, plan: Plan) -> None:
        self._steps = plan.steps
        self._rooms = [np.empty((step.side, step.side, plan.channels), np.uint8) for step in plan.steps]
        self._masks: list[np.ndarray] = []

    def vary(self, pictures: Iterable[np.ndarray], drawn: Sequence[Drawn], into: Iterable[np.ndarray]) -> None:
        """Change pictures.

        Args:
            pictures: B of them, uint8 [P, P, C].
            drawn: what each step does to them.
            into: uint8 [S, S, C] for each.
        """
        happens = [what.happens.tolist() for what in drawn]
        for row, (pixels, room) in enumerate(zip(pictures, into, strict=True)):
            todo = [place for place, happening in enumerate(happens) if happening[row]]
            for place in todo:
                step_room = room if place == todo[-1] else self._rooms[place]
                pixels = self._steps[place].on_host(pixels, drawn[place].values[row], step_room)
            if pixels is not room:
                np.copyto(room, pixels)

    def move(self, masks: Iterable[np.ndarray], drawn: Sequence[Drawn], into: Iterable[np.ndarray]) -> None:
        """Move masks with their pictures, likewise: B of uint8 [P, P, ...] into [S, S, ...] each."""
        moving = [(place, step) for place, step in enumerate(self._steps) if step.moves]
        happens = {place: drawn[place].happens.tolist() for place, _ in moving}
        for row, (mask, room) in enumerate(zip(masks, into, strict=True)):
            todo = [(place, step) for place, step in moving if happens[place][row]]
            for place, step in todo:
                step_room = room if place == todo[-1][0] else self._mask_room(step, place, mask)
                mask = step.mask_on_host(mask, drawn[place].values[row], step_room)
            if mask is not room:
                np.copyto(room, mask)

    def _mask_room(self, step: Step, place: int, mask: np.ndarray) -> np.ndarray:
        if not self._masks:
            self._masks = [np.empty((each.side, each.side, *mask.shape[2:]), np.uint8) for each in self._steps]
        return self._masks[place]
