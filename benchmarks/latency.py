"""Paired latency: contenders take turns in one process, so that a drifting machine cannot favour one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from haversack.runtimes.engines import Array


@dataclass(frozen=True)
class Latency:
    """What one contender took a call.

    Attributes:
        p50: Median, in microseconds.
        p95: 95th percentile, in microseconds.
        p99: 99th percentile, in microseconds.
        ratio: Median over rounds of (this round's median / the reference's median in the same round).
        spread: The 5th and 95th percentile of those ratios.
        rounds: The median of each round, in microseconds, so that any two contenders can be paired.
    """

    p50: float
    p95: float
    p99: float
    ratio: float
    spread: tuple[float, float]
    rounds: Array

    def against(self, other: Latency) -> tuple[float, float, float]:
        """Median, 5th and 95th percentile of this one's time over the other's, round by round."""
        low, middle, high = np.percentile(self.rounds / other.rounds, [5, 50, 95])
        return float(middle), float(low), float(high)


def interleaved(
    calls: Mapping[str, Callable[[], object]], reference: str, *, rounds: int = 60, seconds: float = 0.02
) -> dict[str, Latency]:
    """Time every contender in turn, in a fresh random order each round, and compare round by round.

    Args:
        calls: One call of each contender, by name.
        reference: The contender whose ratio is 1.
        rounds: How many rounds count; three more warm up.
        seconds: How long one contender runs in one round.
    """
    samples: dict[str, list[Array]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(0).shuffle
    for number in range(-3, rounds):
        shuffle(order)
        for name in order:
            taken = _repeat(calls[name], seconds)
            if number >= 0:
                samples[name].append(taken)
    medians = {name: np.array([np.median(taken) for taken in rows]) for name, rows in samples.items()}
    return {name: _summary(samples[name], medians[name], medians[reference]) for name in calls}


def _repeat(call: Callable[[], object], seconds: float) -> Array:
    taken = []
    until = time.perf_counter() + seconds
    while not taken or time.perf_counter() < until:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return np.array(taken) * 1e6


def _summary(rows: Sequence[Array], rounds: Array, reference: Array) -> Latency:
    p50, p95, p99 = np.percentile(np.concatenate(rows), [50, 95, 99])
    low, high = np.percentile(rounds / reference, [5, 95])
    ratio = float(np.median(rounds / reference))
    return Latency(float(p50), float(p95), float(p99), ratio, (float(low), float(high)), rounds)
