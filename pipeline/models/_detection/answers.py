"""From what a detector thinks of every place to the boxes that it answers with: always D of them, in any batch.

torchvision does the same picture by picture, in lists as long as it comes. Here all pictures of a batch go together and
every shape is fixed, so that torch.export gives one program; it needs no other library to be run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MOST = 4096
"""Boxes that are compared with each other in one picture: the best, if there are more."""

FEW = 2560
"""Boxes of a picture that are compared all with all; of more, a GPU is asked first how many there really are."""
ROUNDS = 16
"""Steps towards what is kept before a GPU is asked whether that is reached. (Measured on pictures of 256 px, five
networks as they begin and with noise on all weights: it takes 2 to 9.)"""

PAIRS = 2**28
"""Pairs of boxes that are compared at once, a byte for each, and three more on the way."""

State = tuple[Tensor, Tensor, Tensor, Tensor]


class Limits(NamedTuple):
    """What is answered."""

    size: int
    detections: int
    nms_iou: float
    score_threshold: float = 0.0
    smallest: float = 0.0
    """Boxes that are narrower or lower, in pixels, are none."""


def answered(boxes: Tensor, scores: Tensor, classes: Tensor, limits: Limits) -> Tensor:
    """The best boxes that do not overlap others of their class too much.

    Args:
        boxes: corners in pixels, float32 [B, N, 4].
        scores: in 0..1, float32 [B, N].
        classes: int64 [B, N].
        limits: which are answered.

    Returns:
        float32 [B, D, 6]: x1, y1, x2, y2, score, class id, by falling score; then rows of zeros.
    """
    return answered_at(boxes, scores, classes, limits)[0]


def answered_at(boxes: Tensor, scores: Tensor, classes: Tensor, limits: Limits) -> tuple[Tensor, Tensor]:
    """Likewise, and which of the N boxes each row is, int64 [B, D]; of rows of zeros any."""
    boxes = boxes.clamp(0, limits.size)
    sides = boxes[..., 2:] - boxes[..., :2]
    scores = torch.where((scores > limits.score_threshold) & (sides >= limits.smallest).all(dim=2), scores, 0.0)
    best = None
    if scores.shape[1] > MOST:
        scores, best = scores.topk(MOST, dim=1)
        boxes, classes = picked(boxes, best), classes.gather(1, best)
    kept, places = suppressed(boxes, scores, classes, limits.detections, limits.nms_iou)
    rows = torch.cat([picked(boxes, places), kept[..., None], classes.gather(1, places)[..., None].float()], dim=2)
    return torch.where(kept[..., None] > 0, rows, 0.0), places if best is None else best.gather(1, places)


def suppressed(boxes: Tensor, scores: Tensor, classes: Tensor, count: int, iou: float) -> tuple[Tensor, Tensor]:
    """Non-maximum suppression: the best box is taken, those of its class that overlap it are dropped, and so on.

    Args:
        boxes: float32 [B, N, 4].
        scores: float32 [B, N]; 0 is no box.
        classes: int64 [B, N].
        count: D, the boxes that are taken.
        iou: boxes of a class that overlap a taken one by more are dropped.

    Returns:
        Scores float32 [B, D], falling, 0 where no box is left; and their places among the N, int64 [B, D].
    """
    if scores.device.type == "cpu" or torch.compiler.is_exporting():
        return _one_by_one(boxes, scores, classes, count, iou)
    portion = max(1, PAIRS // scores.shape[1] ** 2)
    found = [
        _all_at_once(boxes[part], scores[part], classes[part], count, iou)
        for part in (slice(start, start + portion) for start in range(0, len(scores), portion))
    ]
    return torch.cat([kept for kept, _ in found]), torch.cat([places for _, places in found])


def _one_by_one(boxes: Tensor, scores: Tensor, classes: Tensor, count: int, iou: float) -> tuple[Tensor, Tensor]:
    """Box by box: the least work. A GPU would wait for each, and is asked for little at a time."""
    x1, y1, x2, y2 = (side.contiguous() for side in boxes.unbind(dim=2))  # four planes: twice as fast as rows of four
    areas = (x2 - x1) * (y2 - y1)
    columns = torch.arange(count, device=scores.device)

    def unfinished(taken: Tensor, left: Tensor, _kept: Tensor, _places: Tensor) -> Tensor:
        return (taken < count) & (left.amax() > 0)

    def take(taken: Tensor, left: Tensor, kept: Tensor, places: Tensor) -> State:
        best, place = left.max(dim=1, keepdim=True)
        width = torch.minimum(x2, x2.gather(1, place)) - torch.maximum(x1, x1.gather(1, place))
        height = torch.minimum(y2, y2.gather(1, place)) - torch.maximum(y1, y1.gather(1, place))
        common = width.clamp(min=0) * height.clamp(min=0)
        overlap = common / (areas + areas.gather(1, place) - common)
        dropped = (overlap > iou) & (classes == classes.gather(1, place))
        here = columns == taken
        left = left.masked_fill(dropped, 0.0).scatter(1, place, 0.0)
        return taken + 1, left, torch.where(here, best, kept), torch.where(here, place, places)

    start = (
        torch.zeros((), dtype=torch.int64, device=scores.device),
        scores,
        scores.new_zeros(scores.shape[0], count),
        torch.zeros(scores.shape[0], count, dtype=torch.int64, device=scores.device),
    )
    _, _, kept, places = repeated(unfinished, take, start)
    return kept, places


def _all_at_once(boxes: Tensor, scores: Tensor, classes: Tensor, count: int, iou: float) -> tuple[Tensor, Tensor]:
    """The same boxes, by comparing all of them with each other: much more work in few operations."""
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    if scores.shape[1] > FEW:
        order = order[:, : max(1, int((scores > 0).sum(dim=1).amax()))]  # the device is waited for
    there = scores[:, : order.shape[1]] > 0
    dropping = torch.stack(
        [_dropping(*each, iou) for each in zip(picked(boxes, order), classes.gather(1, order), strict=True)]
    )
    # A box is kept that no kept one before it drops. What is right of the first so many stays right, and then the next
    # one is too, so this ends at the one choice that does not change any more.
    kept, before = there, None
    while before is None or not torch.equal(kept, before):  # the device is waited for, once as a rule
        for _ in range(ROUNDS):
            before, kept = kept, there & ~(dropping & kept[:, :, None]).any(dim=1)
    first = (~kept).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
    places = torch.where(kept.gather(1, first), order.gather(1, first), 0)
    found = torch.where(kept.gather(1, first), scores.gather(1, first), 0.0)
    missing = (0, count - places.shape[1])
    return F.pad(found, missing), F.pad(places, missing)


def _dropping(boxes: Tensor, classes: Tensor, iou: float) -> Tensor:
    """Which boxes drop which later ones of their class, of boxes [N, 4] by falling score: bool [N, N]."""
    x1, y1, x2, y2 = (side.contiguous() for side in boxes.unbind(dim=1))
    common = (torch.minimum(x2[:, None], x2) - torch.maximum(x1[:, None], x1)).clamp_(min=0)
    common *= (torch.minimum(y2[:, None], y2) - torch.maximum(y1[:, None], y1)).clamp_(min=0)
    areas = (x2 - x1) * (y2 - y1)
    overlap = common / (areas[:, None] + areas - common)
    return ((overlap > iou) & (classes[:, None] == classes)).triu_(1)


def repeated(unfinished: Callable[..., Tensor], step: Callable[..., State], state: State) -> State:
    """A loop that ends when the data says so, also in an exported program."""
    if torch.compiler.is_exporting():
        end: State = torch.while_loop(unfinished, step, state)  # type: ignore[no-untyped-call]
        return end
    while unfinished(*state):
        state = step(*state)
    return state


def picked(rows: Tensor, places: Tensor) -> Tensor:
    """Of each picture the rows at some places: [B, A, 4] and int64 [B, N] to [B, N, 4]."""
    return rows.gather(1, places[..., None].expand(-1, -1, rows.shape[2]))


def best_of_each_map(scores: Tensor, maps: list[int], candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of a place and a class, map by map.

    Args:
        scores: float32 [B, A, K].
        maps: how many of the A places each map has.
        candidates: taken of each map at most.

    Returns:
        Scores float32 [B, N], places int64 [B, N] and classes int64 [B, N].
    """
    count, start = scores.shape[2], 0
    best, places = [], []
    for each in torch.split(scores, maps, dim=1):
        top, where = each.flatten(1).topk(min(candidates, each.shape[1] * count), dim=1)
        best.append(top)
        places.append(where + start * count)
        start += each.shape[1]
    flat = torch.cat(places, dim=1)
    return torch.cat(best, dim=1), flat // count, flat % count
