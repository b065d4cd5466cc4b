"""COCO's twelve numbers by our own evaluation beside pycocotools, in turns, and what a bootstrap of them costs.

    .venv/bin/python benchmarks/coco.py --pairs 5

Real sets with made-up detections, and a made-up set of 500 images of 20 classes. pycocotools starts with both sides
indexed, ours from plain arrays: what its own reading of the JSON costs is not counted. A pair is A B B A.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import coco_reference  # noqa: E402

from pipeline.answers.objects import ObjectAnswers  # noqa: E402

AREAS = ("small", "medium", "large")
RESAMPLES = 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="of each set (default 5)")
    count = parser.parse_args().pairs
    print(f"medians of {2 * count} runs in milliseconds; {RESAMPLES:,} resamples in seconds")
    print(f"{'set':<20}{'images':>8}{'boxes':>8}{'ours':>8}{'pycocotools':>13}{'ratio':>8}{'mAP':>8}{'mAP 50':>8}")
    for name, made in {**coco_reference.REAL, "500 of 20 classes": coco_reference.many_classes}.items():
        boxes = made()
        ours, theirs = in_turns(boxes, count)
        resampled = [bootstrap(boxes, ious) for ious in (range(10), [0])]
        print(
            f"{name:<20}{len(boxes.truth):>8,}{sum(map(len, boxes.found)):>8,}{1000 * ours:>8.1f}{1000 * theirs:>13.1f}"
            f"{ours / theirs:>8.3f}{resampled[0]:>8.2f}{resampled[1]:>8.2f}",
            flush=True,
        )


def in_turns(boxes: coco_reference.Boxes, pairs: int) -> tuple[float, float]:
    """The median seconds of ours and of pycocotools; the numbers of both are the same, or it ends here."""
    truth, found = coco_reference.prepared(boxes)
    spent: dict[bool, list[float]] = {True: [], False: []}
    told: dict[bool, np.ndarray] = {}
    for mine in [True, False, False, True] * pairs:
        start = time.perf_counter()
        told[mine] = numbers(boxes) if mine else np.array(list(coco_reference.evaluated(truth, found)[0].values()))
        spent[mine].append(time.perf_counter() - start)
    np.testing.assert_allclose(told[True], told[False], rtol=0, atol=1e-9)
    return statistics.median(spent[True]), statistics.median(spent[False])


def numbers(boxes: coco_reference.Boxes) -> np.ndarray:
    """COCO's twelve numbers, from the arrays."""
    answers = ObjectAnswers(*boxes)
    ones = np.ones((1, len(answers)))
    precision = answers.average_precision(ones)[0]
    recalls = [answers.average_recall(ones, "all", most) for most in (1, 10, 100)]
    return np.array(
        [
            *(np.nanmean(part) for part in (precision, precision[:, 0], precision[:, 5])),
            *(np.nanmean(answers.average_precision(ones, area)) for area in AREAS),
            *map(np.nanmean, recalls),
            *(np.nanmean(answers.average_recall(ones, area)) for area in AREAS),
        ]
    )


def bootstrap(boxes: coco_reference.Boxes, ious: range | list[int]) -> float:
    """Seconds for the resamples of a score, once it is known which boxes are right."""
    answers = ObjectAnswers(*boxes)
    images = len(answers)
    answers.average_precision(np.ones((1, images)))
    weights = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), RESAMPLES).astype(np.float64)
    start = time.perf_counter()
    answers.average_precision(weights, "all", ious)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
