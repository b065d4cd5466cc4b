"""Counted randomness for many pictures at once: a number depends on run seed, epoch, sample id and its position alone.

SplitMix64, whose counter is the position: no generator is built and none has a state.

Source: Steele, Lea, Flood. Fast Splittable Pseudorandom Number Generators, 2014, figure 16; the constants are those of
Stafford's variant 13.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
LARGEST_POSITION = 1024
STRIDES = np.arange(1, LARGEST_POSITION + 1, dtype=np.uint64) * GOLDEN


def keys(ids: Sequence[str]) -> np.ndarray:
    """64 bits for each sample id: uint64 [V]."""
    digests = b"".join(hashlib.blake2b(identity.encode(), digest_size=8).digest() for identity in ids)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def again(samples: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Keys of samples that come several times an epoch, other ones each time: uint64 [B].

    Args:
        samples: their keys, uint64 [B]; the first time it is these.
        turns: how often each has come before, int64 [B].
    """
    return np.where(turns > 0, _mixed(samples + turns.astype(np.uint64) * GOLDEN), samples)


def uniform(samples: np.ndarray, count: int, seed: int, epoch: int | None) -> np.ndarray:
    """So many numbers for each sample, each evenly spread over [0, 1) and independent of all others.

    Args:
        samples: keys of them, uint64 [B].
        count: n, at most 1,024.
        seed: of the run.
        epoch: 0-based; None: numbers that are the same in every epoch.

    Returns:
        float64 [B, n].
    """
    text = f"{seed}/{'every epoch' if epoch is None else epoch}".encode()
    start = np.frombuffer(hashlib.blake2b(text, digest_size=8).digest(), "<u8").astype(np.uint64)
    states = _mixed(samples ^ start)
    bits: np.ndarray = _mixed(states[:, None] + STRIDES[:count])
    return (bits >> np.uint64(11)) * 2.0**-53


def between(random: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers of [0, 1) spread over an interval instead, as `random.uniform` spreads them."""
    spread: np.ndarray = low + (high - low) * random
    return spread


def whole(random: np.ndarray, count: np.ndarray | int) -> np.ndarray:
    """Numbers of [0, 1) as whole numbers 0..count-1, each as likely: int64."""
    chosen: np.ndarray = (random * count).astype(np.int64)
    return chosen


def _mixed(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * SECOND
    mixed: np.ndarray = bits ^ (bits >> np.uint64(31))
    return mixed
