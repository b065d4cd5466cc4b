"""Counted randomness in bulk: even, independent, and a function of seed, epoch and sample alone."""

from __future__ import annotations

import numpy as np
from scipy import stats

from pipeline.variations.draws import GOLDEN, _mixed, keys, uniform
from pipeline.variations.plan import EVEN, alternating


def test_numbers_are_those_of_the_published_generator() -> None:
    # SplitMix64 from state 0, as its authors' code prints them.
    states = np.arange(1, 4, dtype=np.uint64) * GOLDEN
    assert [hex(value) for value in _mixed(states).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]
    assert uniform(keys(["a" * 64]), 1, 0, 0)[0, 0] == 0.1597511886529328  # another value would be other pixels


def test_numbers_are_even_and_independent() -> None:
    ids = [f"{number:064x}" for number in range(4000)]  # as like each other as ids can be
    numbers = np.concatenate([uniform(keys(ids), 5, 7, epoch) for epoch in range(4)], axis=1)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert all(stats.kstest(column, "uniform").pvalue > 1e-3 for column in numbers.T)
    # Between positions and epochs of one sample, and between neighbours; 4 deviations of a correlation by chance.
    assert np.abs(np.corrcoef(numbers.T) - np.eye(20)).max() < 4 / np.sqrt(4000)
    assert max(abs(np.corrcoef(column[1:], column[:-1])[0, 1]) for column in numbers.T) < 4 / np.sqrt(4000)
    assert len(np.unique(numbers)) == numbers.size


def test_numbers_depend_on_seed_epoch_and_id_alone() -> None:
    ids = [f"{number:064x}/{view}" for number in range(50) for view in range(4)]
    order = np.random.default_rng(0).permutation(200)
    assert np.array_equal(uniform(keys(ids)[order], 3, 1, 2), uniform(keys(ids), 3, 1, 2)[order])
    assert np.array_equal(uniform(keys(ids), 3, 1, 2), uniform(keys(ids), 9, 1, 2)[:, :3])
    seen = [uniform(keys(ids), 3, seed, epoch) for seed, epoch in ((1, 2), (1, 3), (2, 2), (1, None), (12, None))]
    assert len(np.unique(seen)) == 5 * 600


def test_mirrors_alternate() -> None:
    samples = keys([str(number) for number in range(2000)])
    mirrored = np.stack([alternating(samples, 3, epoch) < EVEN for epoch in range(4)])
    assert 900 < mirrored[0].sum() < 1100
    assert (mirrored[1] == ~mirrored[0]).all()
    assert (mirrored[2] == mirrored[0]).all()
    assert 900 < (mirrored[0] == (alternating(samples, 4, 0) < EVEN)).sum() < 1100
