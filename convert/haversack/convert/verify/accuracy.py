"""Accuracy with the intervals that make it comparable."""

from __future__ import annotations

import math

import numpy as np

from haversack.convert.report import Accuracy
from haversack.convert.verify.compare import predictions
from haversack.runtimes.engines import Array

Z = 1.959963984540054
"""The 97.5th percentile of the standard normal distribution: two-sided 95 %."""


def wilson(correct: int, samples: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson, 1927), which stays within [0, 1] and holds for few samples."""
    if samples == 0:
        return 0.0, 1.0
    share = correct / samples
    weight = Z * Z / samples
    centre = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / samples + weight / (4 * samples))
    # At 0 and at 1 the bound is exact; rounding may leave it a hair inside.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == samples else min(1.0, centre + half)
    return low, high


def paired_difference(gained: int, lost: int, samples: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two proportions measured on the same samples.

    Wald's interval after half an observation is added to each of the four cells (Agresti and Min, Statistics in
    Medicine 24, 2005), because with few disagreements the plain one is far too narrow.

    Args:
        gained: Samples that only the second got right.
        lost: Samples that only the first got right.
        samples: All of them.

    Returns:
        The bounds of second minus first, as fractions of 1.
    """
    total = samples + 2
    difference = (gained - lost) / total
    spread = math.sqrt(gained + lost + 1 - (gained - lost) ** 2 / total) / total
    return max(-1.0, difference - Z * spread), min(1.0, difference + Z * spread)


def accuracy(scores: Array, source_scores: Array, labels: Array) -> Accuracy:
    """Top-1 accuracy of `scores` [samples, classes] and its paired difference to the source's."""
    right = predictions(scores) == labels
    source_right = predictions(source_scores) == labels
    samples = len(labels)
    correct = int(np.count_nonzero(right))
    gained, lost = int(np.count_nonzero(right & ~source_right)), int(np.count_nonzero(source_right & ~right))
    low, high = wilson(correct, samples)
    below, above = paired_difference(gained, lost, samples)
    return Accuracy(
        value=correct / samples,
        low=low,
        high=high,
        samples=samples,
        difference=(gained - lost) / samples,
        difference_low=below,
        difference_high=above,
    )
