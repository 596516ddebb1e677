"""Latency of one call with one sample, measured interleaved so that a busy machine slows all artifacts alike."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence

from haversack.convert.measured import Latency

WARM_UP = 5
"""Calls before the first that counts: lazy allocation, caches, the processor's clock."""


def machine() -> str:
    """This machine in words that stay true in a bundle that is opened elsewhere: architecture, cores, system."""
    import os

    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"


def interleaved(calls: Sequence[Callable[[], object]], *, runs: int = 200, seconds: float = 2.0) -> list[list[float]]:
    """Time each call once a round, round after round.

    Args:
        calls: What to time.
        runs: At most so many rounds.
        seconds: No new round starts after so many seconds a call; at least five rounds are made.

    Returns:
        Milliseconds, one list a call.
    """
    for call in calls:
        for _ in range(WARM_UP):
            call()
    times: list[list[float]] = [[] for _ in calls]
    clock = time.perf_counter
    deadline = clock() + seconds * len(calls)
    for done in range(runs):
        if done >= 5 and clock() > deadline:
            break
        for call, taken in zip(calls, times, strict=True):
            start = clock()
            call()
            taken.append((clock() - start) * 1e3)
    return times


def summary(milliseconds: Sequence[float], *, threads: int, engine: str) -> Latency:
    """Percentiles of what was timed (nearest rank above)."""
    ordered = sorted(milliseconds)

    def percentile(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Latency(percentile(0.5), percentile(0.95), percentile(0.99), len(ordered), threads, engine, machine())
