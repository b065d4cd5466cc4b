"""What the gate does with equal models and with better ones, in simulation, beside what it claims.

    .venv/bin/python benchmarks/gate.py --pairs 4000

Each pair answers 500 test images; what is hard for one model is hard for the other (tests/test_trial.py says how). The
peer is the gate of most registries: "promote if the number is higher".
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import test_trial  # noqa: E402

DIFFERENCES = (0.0, 0.01, 0.02, 0.04)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=4000, help="of each kind (default 4000)")
    count = parser.parse_args().pairs
    print(f"{count:,} pairs of each kind, {test_trial.IMAGES} test images, promoted in 100 of them")
    print(f"{'truly better by':<20}{'exact test':>12}{'claimed':>10}{'higher number':>16}")
    for difference in DIFFERENCES:
        promoted, claimed = test_trial.rounds(count, "accuracy", difference)
        said = f"{100 * claimed:.1f}" if difference else "5 at most"
        print(f"{difference:<20}{100 * promoted:>12.1f}{said:>10}{100 * naive(count, difference):>16.1f}", flush=True)
    known, unknown = (test_trial.rounds_of_patients(count, known=known) for known in (True, False))
    print(f"equal ones, ten images of each of 50 patients: {100 * known:.1f}; taken for 500: {100 * unknown:.1f}")


def naive(count: int, difference: float) -> float:
    """The share of pairs whose challenger has the higher accuracy, were it by a single image."""
    random, gain, promoted = np.random.default_rng(7), test_trial.gain_for("accuracy", difference), 0
    for _ in range(count):
        challenger, champion = test_trial.margins(random, test_trial.IMAGES, gain)
        promoted += (challenger > 0).sum() > (champion > 0).sum()
    return float(promoted / count)


if __name__ == "__main__":
    main()
