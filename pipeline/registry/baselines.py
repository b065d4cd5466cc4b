"""What a first model has to beat: the answers of nearly blind ones.

One that is no better than they are tells of a trivial task, or of training pictures among those of the test.

Source of the nearest class mean: Duda, Hart. Pattern Classification and Scene Analysis, 1973, chapter 2.
"""

from __future__ import annotations

import numpy as np

from pipeline.contracts import Target, TaskConfig
from pipeline.dataset import Dataset
from pipeline.packed import packed

LARGEST_CLASS = "the baseline of the largest class"
CLASS_MEANS = "the baseline of class means at 8 x 8 pixels"
SIDE = 8
MOST = 20_000
"""Training pictures behind the means; ids are hashes, so the first ones are as good as any."""
PORTION = 256
SHARPNESS = np.logspace(-2, 1.5, 36)
"""How sure an answer may be, in units of the mean squared distance to the own class: what fits best is taken."""
SMALLEST = np.finfo(np.float64).tiny


def answers(task: TaskConfig, dataset: Dataset, side: int, means: bool) -> dict[str, np.ndarray]:
    """What each baseline says of the test split: probabilities float64 [N, K], by its title.

    Args:
        task: of the params.
        dataset: whose training split they learn from.
        side: P of pictures that are packed already.
        means: whether class means are asked too, where the task has classes to take the mean of.
    """
    train, test, classes = dataset.split("train"), dataset.split("test"), len(dataset.info.classes)
    labels = task.targets(train.samples)
    found = {LARGEST_CLASS: task.baseline(labels, classes, len(test))}
    if means and task.learns is Target.LABEL:
        seen, asked = small(packed(train, side)[:MOST]), small(packed(test, side))
        found[CLASS_MEANS] = nearest_mean(seen, labels[:MOST], asked, classes)
    return found


def small(pictures: np.ndarray) -> np.ndarray:
    """Each picture averaged down to 8 x 8: uint8 [N, P, P, C] to float64 [N, 64 C]; fewer where P is less."""
    side = pictures.shape[1]
    edges = np.arange(min(SIDE, side)) * side // min(SIDE, side)
    pixels = np.diff(edges, append=side).astype(np.float64)
    shrunk = np.empty((len(pictures), len(edges), len(edges), pictures.shape[3]))
    for start in range(0, len(pictures), PORTION):
        tall = np.add.reduceat(pictures[start : start + PORTION], edges, axis=1, dtype=np.float64)
        shrunk[start : start + PORTION] = np.add.reduceat(tall, edges, axis=2)
    shrunk /= pixels[:, None, None] * pixels[:, None]
    return shrunk.reshape(len(pictures), -1)


def nearest_mean(seen: np.ndarray, labels: np.ndarray, asked: np.ndarray, classes: int) -> np.ndarray:
    """The class whose mean is nearest, and how sure: a softmax of squared distances that fits the training pictures.

    Args:
        seen: training pictures, float64 [M, D].
        labels: theirs, int64 [M].
        asked: float64 [N, D].
        classes: K.

    Returns:
        Probabilities, float64 [N, K]; 0 for a class without training pictures.
    """
    present = np.unique(labels)
    means = np.stack([seen[labels == label].mean(axis=0) for label in present])
    learnt, own = _distances(seen, means), (np.arange(len(seen)), np.searchsorted(present, labels))
    unit = float(learnt[own].mean()) or 1.0

    def loss(sharpness: float) -> float:
        return -float(np.log(np.maximum(_shares(learnt, sharpness / unit)[own], SMALLEST)).mean())

    found = np.zeros((len(asked), classes))
    found[:, present] = _shares(_distances(asked, means), min(SHARPNESS, key=loss) / unit)
    return found


def _distances(points: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Squared, float64 [N, K]."""
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ means.T + (means**2).sum(axis=1)
    distances: np.ndarray = np.maximum(squares, 0.0)
    return distances


def _shares(distances: np.ndarray, sharpness: float) -> np.ndarray:
    """The softmax of squared distances; rows sum to 1."""
    powers = np.exp(-sharpness * (distances - distances.min(axis=1, keepdims=True)))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares
