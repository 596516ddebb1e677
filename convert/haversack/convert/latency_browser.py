"""A browser's latency beside its native engine's: paired rounds, so that a busy machine slows both alike.

One call in a page cannot be timed from outside, a trip to the page takes longer than most calls. So the page times its
calls itself, in rounds, and between them the native engine's are timed here. The ratio is formed round by round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array, Engine

ROUNDS = 20
"""How many rounds count; one more warms up."""

FEWEST = 5
"""Calls of one round, however long they take."""


@dataclass(frozen=True)
class Paired:
    """What one engine took.

    Attributes:
        milliseconds: Every call of every round.
        ratio: Median over rounds of this engine's time over the first engine's.
        low: The 5th percentile of these.
        high: The 95th.
    """

    milliseconds: Array
    ratio: float
    low: float
    high: float


def paired(engines: Sequence[Engine], feeds: Mapping[str, Array], *, runs: int, seconds: float) -> list[Paired]:
    """Time engines that run the same artifact, in turn.

    A round's time is the mean of the middle half of its calls: robust as a median, and finer than the page's clock,
    whose step of 5 microseconds is a tenth of a small model's call.

    Args:
        engines: The first is what the others are compared with.
        feeds: Inputs of all of them.
        runs: Timed calls of each, at most.
        seconds: Time for each, at most; a round makes at least five calls.
    """
    rounds: list[list[Array]] = [[] for _ in engines]
    for number in range(-1, ROUNDS):
        # Now one begins, now another: whoever comes second may find the processor's clock raised.
        order = range(len(engines)) if number % 2 else reversed(range(len(engines)))
        for index in order:
            taken = _timer(engines[index])(feeds, seconds / ROUNDS, max(FEWEST, runs // ROUNDS))
            if number >= 0:
                rounds[index].append(taken)
    first = np.array([middle(taken) for taken in rounds[0]])
    found = []
    for own in rounds:
        ratios = np.array([middle(each) for each in own]) / first
        low, ratio, high = np.percentile(ratios, [5, 50, 95])
        found.append(Paired(np.concatenate(own), float(ratio), float(low), float(high)))
    return found


def middle(values: Array) -> float:
    """The mean of the middle half."""
    ordered = np.sort(values)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def _timer(engine: Any) -> Callable[[Mapping[str, Array], float, int], Array]:
    """What times calls of an engine for so many seconds and so often at most, in milliseconds."""
    if hasattr(engine, "time"):
        return lambda feeds, seconds, runs: engine.time(feeds, seconds=seconds, runs=runs)

    def here(feeds: Mapping[str, Array], seconds: float, runs: int) -> Array:
        times: list[float] = []
        clock, run = time.perf_counter, engine.run
        until = clock() + seconds
        while len(times) < runs and (len(times) < FEWEST or clock() < until):
            start = clock()
            run(feeds)
            times.append((clock() - start) * 1e3)
        return np.array(times)

    return here
