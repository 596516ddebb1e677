"""Differences between two models measured on the same samples: intervals, a test, and the verdict they allow.

right or wrong, each alone       Wilson's score interval
right or wrong, the difference   Agresti and Min's interval; McNemar's exact test
any other metric                 the percentile interval of a paired bootstrap, seeded
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from haversack.convert.budget import ROUNDING, points
from haversack.runtimes.engines import Array

Z = 1.959963984540054
"""The 97.5th percentile of the standard normal distribution: two-sided 95 %."""

RESAMPLES = 1000
"""Of a bootstrap: a bound at 2.5 % then rests on 25 of them, and is off by some 7 % of the interval's half."""

SEED = 20_261_128
"""Of a bootstrap: the same for everyone, so that a result can be repeated."""

MOST_SAMPLES = 10**9
"""More samples than this are not asked for."""


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


def paired_difference(gained: float, lost: float, samples: float) -> tuple[float, float]:
    """The 95 % interval of the difference of two proportions measured on the same samples.

    Wald's interval after half an observation is added to each of the four cells (Agresti and Min, Statistics in
    Medicine 24, 2005), because with few disagreements the plain one is far too narrow.

    Args:
        gained: Samples that only the second got right (a fraction where counts are expected, not observed).
        lost: Samples that only the first got right.
        samples: All of them.

    Returns:
        The bounds of second minus first, as fractions of 1.
    """
    total = samples + 2
    difference = (gained - lost) / total
    spread = math.sqrt(gained + lost + 1 - (gained - lost) ** 2 / total) / total
    return max(-1.0, difference - Z * spread), min(1.0, difference + Z * spread)


def mcnemar(gained: int, lost: int) -> float:
    """The two-sided p-value of McNemar's exact test (Psychometrika 12, 1947).

    Where the two models are equally good, each sample that only one of them gets right is a fair coin; the p-value is
    twice the binomial probability of a split at least as uneven. Samples on which both agree say nothing.
    """
    flips, fewer = gained + lost, min(gained, lost)
    if 2 * fewer >= flips - 1:
        return 1.0
    # The largest term by its logarithm, the others by their ratios to it: no cancellation, no overflow.
    log_term = math.lgamma(flips + 1) - math.lgamma(fewer + 1) - math.lgamma(flips - fewer + 1)
    total, term = 1.0, 1.0
    for count in range(fewer, 0, -1):
        term *= count / (flips - count + 1)
        total += term
        if term < 1e-18 * total:
            break
    return min(1.0, 2 * math.exp(log_term - flips * math.log(2)) * total)


def bootstrap_means(values: Array, source: Array) -> tuple[tuple[float, float], tuple[float, float]]:
    """The 95 % intervals of a mean and of its paired difference to the source's, by resampling samples.

    Samples are drawn with replacement, the same for both (Efron and Tibshirani, An Introduction to the Bootstrap,
    1993, percentile interval).

    Args:
        values: [samples], the metric of each sample.
        source: [samples], the source's on the same samples.

    Returns:
        The bounds of the mean of `values`, and those of the mean of `values - source`.
    """
    rng = np.random.default_rng(SEED)
    count = len(values)
    both = np.stack([values, values - source]).astype(np.float64)
    means = np.empty((RESAMPLES, 2))
    for index in range(RESAMPLES):
        means[index] = both[:, rng.integers(count, size=count)].mean(axis=1)
    return _bounds(means[:, 0]), _bounds(means[:, 1])


def bootstrap_whole(
    value: Callable[[Array], float], source: Callable[[Array], float], count: int, resamples: int = RESAMPLES
) -> tuple[tuple[float, float], tuple[float, float]]:
    """As `bootstrap_means`, for a metric that is no mean over samples.

    Args:
        value: The metric of the samples at some indices, which may come more than once; NaN where it has none.
        source: The source's.
        count: How many samples there are.
        resamples: How often.
    """
    rng = np.random.default_rng(SEED)
    found = np.empty((resamples, 2))
    for index in range(resamples):
        drawn = rng.integers(count, size=count)
        found[index] = value(drawn), source(drawn)
    return _bounds(found[:, 0]), _bounds(found[:, 0] - found[:, 1])


def _bounds(drawn: Array) -> tuple[float, float]:
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return -math.inf, math.inf
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def more_samples(gained: int, lost: int, samples: int, allowed: float) -> int | None:
    """How many more samples bring the bound of the paired difference within `allowed`.

    It is assumed that the rates of gains and losses stay as observed: the least n is sought whose interval
    `paired_difference(gained / samples * n, lost / samples * n, n)` has its lower bound at or above `-allowed`. For
    large n that is n = Z² (g + l - (g - l)²) / (allowed + g - l)², with the rates g and l.

    Args:
        gained: Samples that only the variant got right.
        lost: Samples that only the source got right.
        samples: All of them.
        allowed: The drop that is allowed, as a fraction of 1.

    Returns:
        How many beyond `samples`; 0 where the bound is within already, None where no number up to `MOST_SAMPLES` does.
    """

    def proven(count: int) -> bool:
        low, _ = paired_difference(gained * count / samples, lost * count / samples, count)
        return low >= -allowed

    if samples == 0:
        return None
    enough = samples
    while not proven(enough):
        enough *= 2
        if enough > MOST_SAMPLES:
            return None
    few = enough // 2 if enough > samples else samples - 1
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if proven(middle) else (middle, enough)
    return enough - samples


def more_samples_scaled(drop: float, bound: float, samples: int, allowed: float) -> int | None:
    """The same for any metric: an interval's half shrinks as the square root of the number of samples.

    The least n with `drop + (bound - drop) * sqrt(samples / n) <= allowed`.

    Args:
        drop: By how much it is worse, as measured.
        bound: By how much at most, by the interval.
        samples: How many were measured.
        allowed: The drop that is allowed.
    """
    if bound <= allowed:
        return 0
    if drop >= allowed or not math.isfinite(bound):
        return None
    needed = samples * ((bound - drop) / (allowed - drop)) ** 2
    return None if needed > MOST_SAMPLES else max(1, math.ceil(needed) - samples)


def verdict(drop: float, bound: float, allowed: float, unit: str, more: int | None) -> str:
    """What may be said of a drop: exactly one of proven, cannot tell, worse.

    Args:
        drop: As measured.
        bound: Its 95 % interval's bound.
        allowed: The drop that is allowed.
        unit: `points`, or empty for the metric's own unit.
        more: How many more samples would settle it.
    """
    within = points(allowed) if unit == "points" else f"{allowed:g}"
    if drop > allowed + ROUNDING:
        return "worse"
    if bound <= allowed + ROUNDING:
        return f"proven within {within}"
    needed = f"{more:,} more samples needed" if more else "no number of samples would do at this difference"
    return f"measured within {within}, cannot tell, {needed}"
