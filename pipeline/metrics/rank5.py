"""Rank 5: the share of the images of which one of the five nearest other images shows the same person.

Source: Phillips, Moon, Rizvi, Rauss. The FERET Evaluation Methodology for Face-Recognition Algorithms, 2000, section 3.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.identities import IdentityAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._pairs import found_among


class Config(MetricConfig):
    """Each image is looked for among all others; one whose person is on no other is left out: the set is closed.

    Of equally near images the first counts. The more images there are, the harder it is.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.IDENTITY})
    title: ClassVar[str] = "Rank 5"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: IdentityAnswers, weights: np.ndarray) -> np.ndarray:
        """A weight is that of an image that is looked for among all others; nan where nobody can be found."""
        return found_among(answers, weights, 5)
