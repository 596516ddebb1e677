"""Palettes: the few numbers that stand for many weights with the least error.

One-dimensional weighted k-means. The error that a palette makes at a layer's output is, to second order, the sum of
h·(w - c)² over its weights, where h is the mean square of the input that meets w: so that, where calibration data is
given, is the weight of w (Choi, El-Khamy, Lee: "Towards the Limit of Network Quantization", ICLR 2017, section 3).

Lloyd's iterations (Lloyd: "Least Squares Quantization in PCM", IEEE Trans. Information Theory 28(2), 1982) run on the
sorted weights: clusters are intervals there, their sums are differences of running sums, and an iteration costs
k·log(n) instead of k·n. They end in a local optimum, so several starts are tried: k-means++ (Arthur, Vassilvitskii:
"k-means++: The Advantages of Careful Seeding", SODA 2007), evenly spaced quantiles, and evenly spaced numbers.
"""

from __future__ import annotations

import numpy as np

from haversack.runtimes.engines import Array

ITERATIONS = 100
SEEDED_STARTS = 6
SEED = 20_240_301
SAMPLE = 1 << 15
"""Starts are drawn from so many of the sorted weights, evenly spaced: a draw looks at all of them once an entry."""


def cluster(values: Array, count: int, importance: Array | None = None, *, fixed_zero: bool = False) -> Array:
    """Choose the entries of a palette.

    Args:
        values: Float, any shape, finite, at least one.
        count: How many entries.
        importance: Of each value, not negative, broadcastable to `values`; None: all alike.
        fixed_zero: One entry is exactly zero, and only that one is.

    Returns:
        float32 [count], ascending; repeated entries where there are fewer different values.
    """
    flat = values.astype(np.float64).reshape(-1)
    order = np.argsort(flat, kind="stable")
    x = flat[order]
    weight = np.ones(x.size)
    if importance is not None:
        weight = np.broadcast_to(importance, values.shape).astype(np.float64).reshape(-1)[order]
        # A channel whose input calibration never saw counts a little: its weights must not become arbitrary.
        weight = weight + max(1e-3 * weight.mean(), np.finfo(np.float64).tiny)
    if fixed_zero:
        kept = x != 0
        x, weight, count = x[kept], weight[kept], count - 1
    different = np.unique(x)
    if different.size <= count:
        chosen = np.concatenate([different, np.full(count - different.size, different[-1] if different.size else 0.0)])
    else:
        chosen = _best(x, weight, count)
    if fixed_zero:
        chosen = np.append(chosen, 0.0)
    result: Array = np.sort(chosen).astype(np.float32)
    return result


def nearest(values: Array, tables: Array, groups: Array | None = None) -> Array:
    """The index, uint8, of the entry that is nearest to each of `values` in its group's palette.

    Args:
        values: Float, any shape.
        tables: Float [groups, entries], each ascending, at most 256 entries.
        groups: The group of each value, of their shape; None where there is one.
    """
    middles = (tables[:, 1:] + tables[:, :-1]) / 2
    if groups is None:
        return np.searchsorted(middles[0], values).astype(np.uint8)
    result = np.empty(values.shape, np.uint8)
    for group in np.unique(groups):
        own = groups == group
        result[own] = np.searchsorted(middles[group], values[own])
    return result


def _best(x: Array, weight: Array, count: int) -> Array:
    """The best of several runs on sorted values."""
    sums = _Sums(x, weight)
    random = np.random.default_rng(SEED)
    middles = (np.arange(count) + 0.5) / count
    starts = [np.interp(middles * sums.total, sums.weight[1:], x), x[0] + middles * (x[-1] - x[0])]
    every = slice(None, None, max(1, x.size // SAMPLE))
    starts += [_seeded(x[every], weight[every], count, random) for _ in range(SEEDED_STARTS)]
    runs = [_lloyd(x, sums, np.sort(start)) for start in starts]
    return min(runs, key=lambda run: run[0])[1]


class _Sums:
    """Running sums over sorted values, so that those of an interval are two look-ups."""

    def __init__(self, x: Array, weight: Array):
        self.weight = np.concatenate([[0.0], np.cumsum(weight)])
        self.first = np.concatenate([[0.0], np.cumsum(weight * x)])
        self.second = np.concatenate([[0.0], np.cumsum(weight * x * x)])
        self.total = self.weight[-1]


def _lloyd(x: Array, sums: _Sums, centers: Array) -> tuple[float, Array]:
    """Iterate to a local optimum; returns its error and its centers."""
    previous: Array | None = None
    for _ in range(ITERATIONS):
        edges = np.concatenate([[0], np.searchsorted(x, (centers[1:] + centers[:-1]) / 2), [x.size]])
        if previous is not None and np.array_equal(edges, previous):
            break
        previous = edges
        mass = np.diff(sums.weight[edges])
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.diff(sums.first[edges]) / mass
        centers = np.sort(np.where(mass > 0, means, centers))  # an empty cluster stays where it is
    moments = np.diff(sums.first[edges]), np.diff(sums.second[edges])
    error = moments[1] - 2 * centers * moments[0] + centers**2 * np.diff(sums.weight[edges])
    return float(error.sum()), centers


def _seeded(x: Array, weight: Array, count: int, random: np.random.Generator) -> Array:
    """k-means++: each next center is drawn in proportion to its weighted squared distance from those before."""
    centers = [x[random.choice(x.size, p=weight / weight.sum())]]
    distance = (x - centers[0]) ** 2
    for _ in range(count - 1):
        share = np.cumsum(weight * distance)
        at = int(np.searchsorted(share, random.random() * share[-1], side="right"))
        centers.append(x[min(at, x.size - 1)])
        distance = np.minimum(distance, (x - centers[-1]) ** 2)
    return np.array(centers)
