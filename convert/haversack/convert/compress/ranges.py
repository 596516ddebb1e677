"""How an activation's range is chosen from what calibration saw.

| rule         | range                                                                                    |
|--------------|------------------------------------------------------------------------------------------|
| `minmax`     | the extremes                                                                             |
| `percentile` | 0.001 % of the values are cut off at each end                                            |
| `mse`        | the range with the smallest expected squared error of rounding and clipping together     |
| `entropy`    | the range whose 256 levels keep the most of the distribution (Kullback-Leibler)          |
"""

from __future__ import annotations

import numpy as np

from haversack.convert.compress.histogram import Histogram
from haversack.convert.compress.recipes import RangeRule
from haversack.convert.compress.scale import INT8_MAX, INT8_MIN

TAIL = 1e-5
"""The share of values that `percentile` cuts off at each end."""

UNSEEN = 1e-9
"""What `entropy` takes for the share of a bin that nothing was seen in."""

STEPS = 128
"""Candidates an end that `mse` tries, and of both that `entropy` does, from the extreme down to a 128th of it."""


def choose(rule: RangeRule, histogram: Histogram) -> tuple[float, float]:
    """The range [low, high] of a tensor by `rule`; (0, 0) where nothing but zeros was seen."""
    if rule == "minmax" or not histogram.counts.any():
        return histogram.low, histogram.high
    if rule == "entropy":
        return least_divergence(histogram)
    return percentile(histogram) if rule == "percentile" else smallest_error(histogram)


def percentile(histogram: Histogram, tail: float = TAIL) -> tuple[float, float]:
    """The range that leaves `tail` of the values outside at each end, to the resolution of the bins."""
    counts = histogram.counts.copy()
    counts[counts.size // 2] += histogram.zeros
    cumulative = np.cumsum(counts)
    total = cumulative[-1]
    centres = histogram.centres()
    low = centres[np.searchsorted(cumulative, tail * total, side="right")]
    high = centres[np.searchsorted(cumulative, (1 - tail) * total, side="left")]
    return float(low), float(high)


def smallest_error(histogram: Histogram) -> tuple[float, float]:
    """The range whose expected squared error is smallest, searched over a grid of both ends.

    The error of [low, high] is scale^2 / 12 for each value inside (uniform rounding noise) plus the squared distance
    to the range for each value outside; exact zeros have none. This is the decomposition of Banner, Nahshan and
    Soudry, "Post training 4-bit quantization of convolutional networks for rapid-deployment" (NeurIPS 2019), section
    2, with the measured distribution in the place of a Laplace or Gaussian one.
    """
    centres = histogram.centres()
    counts = histogram.counts.astype(np.float64)
    fractions = np.arange(1, STEPS + 1) / STEPS
    lows = np.minimum(histogram.low, 0.0) * fractions if histogram.low < 0 else np.zeros(1)
    highs = np.maximum(histogram.high, 0.0) * fractions if histogram.high > 0 else np.zeros(1)
    below = _clipped(centres, counts, lows)
    above = _clipped(-centres[::-1], counts[::-1], -highs)
    scales = (highs[None, :] - lows[:, None]) / (INT8_MAX - INT8_MIN)
    inside = counts.sum()  # the few values outside are counted as rounded too: an upper bound that keeps it smooth
    errors = inside * scales**2 / 12 + below[:, None] + above[None, :]
    best = np.unravel_index(int(np.argmin(errors)), errors.shape)
    return float(lows[best[0]]), float(highs[best[1]])


def least_divergence(histogram: Histogram) -> tuple[float, float]:
    """The range that loses the least information: what was seen, cut off at -t and t for the best t.

    For each t the distribution P has what lies outside in its outermost bins, and Q says what the levels of int8 know
    of it: the mass of a level, spread evenly over those of its bins that anything was in. KL(P||Q) judges (Migacz:
    "8-bit Inference with TensorRT", GTC 2017). Exact zeros are left out: they are kept by every range, and a ReLU makes
    so many that nothing else would count.
    """
    centres = histogram.centres()
    counts = histogram.counts.astype(np.float64)
    total = counts.sum()
    best, least = (histogram.low, histogram.high), np.inf
    for fraction in np.arange(1, STEPS + 1) / STEPS:
        cut = fraction * max(-histogram.low, histogram.high)
        low, high = max(min(histogram.low, 0.0), -cut), min(max(histogram.high, 0.0), cut)
        inside = (centres >= low) & (centres <= high)
        within, seen = centres[inside], counts[inside]
        if not seen.any():
            continue
        level = np.rint((within - low) / (high - low) * (INT8_MAX - INT8_MIN)).astype(np.int64)
        used = seen > 0
        mass, bins = np.bincount(level, seen), np.bincount(level, used)
        known = np.where(used, mass[level] / np.maximum(bins[level], 1), 0.0) / seen.sum()
        wanted = seen / total
        wanted[0] += counts[centres < low].sum() / total
        wanted[-1] += counts[centres > high].sum() / total
        held = wanted > 0
        # An outermost bin may hold nothing but what was cut off: Q says that this is rare, not that it cannot be.
        divergence = float((wanted[held] * np.log(wanted[held] / np.maximum(known[held], UNSEEN))).sum())
        if divergence < least:
            best, least = (float(low), float(high)), divergence
    return best


def _clipped(centres: np.ndarray, counts: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The sum of counts * (limit - centre)^2 over the centres below each limit; `centres` ascend."""
    moments = [np.concatenate([[0.0], np.cumsum(counts * centres**power)]) for power in range(3)]
    ends = np.searchsorted(centres, limits, side="left")
    zeroth, first, second = (moment[ends] for moment in moments)
    error: np.ndarray = np.maximum(limits**2 * zeroth - 2 * limits * first + second, 0.0)
    return error
