"""What a first model has to beat: the answers of nearly blind ones.

One that is no better than they are tells of a trivial task, or of training pictures among those of the test.

Source of the nearest class mean: Duda, Hart. Pattern Classification and Scene Analysis, 1973, chapter 2.
"""

from __future__ import annotations

import numpy as np

from pipeline.answering import Answers
from pipeline.answers.labels import LabelAnswers
from pipeline.bundle import BundleInfo
from pipeline.contracts import TaskConfig
from pipeline.dataset import Dataset, Split
from pipeline.packed import packed, views

LARGEST_CLASS = "the baseline of the largest class"
BLIND = "the baseline that never looks"
CLASS_MEANS = "the baseline of class means at 8 x 8 pixels"
SIDE = 8
MOST = 20_000
"""Training pictures behind the means; ids are hashes, so the first ones are as good as any."""
PORTION = 256
SHARPNESS = np.logspace(-2, 1.5, 36)
"""How sure an answer may be, in units of the mean squared distance to the own class: what fits best is taken."""
SMALLEST = np.finfo(np.float64).tiny


def answers(task: TaskConfig, dataset: Dataset, bundle: BundleInfo, means: bool) -> dict[str, Answers]:
    """What each baseline says of the test split, by its title.

    Args:
        task: of the params.
        dataset: whose training split they learn from.
        bundle: whose pictures are packed already.
        means: whether class means are asked too, where a picture has a class to take the mean of.
    """
    train, test, classes = dataset.split("train"), dataset.split("test"), dataset.info.classes
    blind = task.blind(train, test)
    if not isinstance(blind, LabelAnswers):
        return {BLIND: blind}
    found: dict[str, Answers] = {LARGEST_CLASS: blind}
    if means:
        seen, asked = (small(_first_squares(split, bundle)) for split in (train.at(range(min(MOST, len(train)))), test))
        shares = nearest_mean(seen, train.labels[:MOST], asked, len(classes))
        found[CLASS_MEANS] = task.answers(test, list(shares))
    return found


def _first_squares(split: Split, bundle: BundleInfo) -> np.ndarray:
    """One square of each picture: uint8 [N, P, P, C]."""
    squares = packed(split, bundle.frame, bundle.packed)
    seen = views(split, bundle.frame, bundle.packed).images
    return squares if len(squares) == len(split) else squares[np.searchsorted(seen, np.arange(len(split)))]


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
