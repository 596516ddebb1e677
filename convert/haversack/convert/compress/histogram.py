"""What calibration remembers of one tensor: its extremes, and a histogram that grows as larger values arrive."""

from __future__ import annotations

import numpy as np

from haversack.runtimes.engines import Array

HALF = 2048
"""Bins on each side of zero. The range in use fills at least half of one side, so one int8 step of it spans at
least four bins: fine enough that rounding noise can be computed rather than counted."""


class Histogram:
    """A histogram over [-HALF * width, HALF * width) whose bin width doubles when a value falls outside.

    Widths are powers of two, so a coarser bin is exactly two finer ones and the order of batches does not matter to
    where values end up. Exact zeros are counted apart: they are always representable, and a ReLU makes many.

    Attributes:
        low: Smallest finite value seen (0.0 before any).
        high: Largest finite value seen.
        zeros: How many exact zeros were seen.
        not_finite: How many NaN and infinities were seen; they are left out of everything else.
        width: Width of a bin.
        counts: Values a bin, int64 of [2 * HALF].
    """

    def __init__(self) -> None:
        self.low = 0.0
        self.high = 0.0
        self.zeros = 0
        self.not_finite = 0
        self.seen = 0
        self.width = 0.0
        self.counts = np.zeros(2 * HALF, np.int64)

    def add(self, values: Array) -> None:
        """Count `values` (float, any shape)."""
        values = np.asarray(values, np.float64).ravel()
        finite = values[np.isfinite(values)]
        self.not_finite += values.size - finite.size
        if not finite.size:
            return
        low, high = float(finite.min()), float(finite.max())
        if self.seen:
            low, high = min(low, self.low), max(high, self.high)
        self.low, self.high = low, high
        self.seen += finite.size
        finite = finite[finite != 0]
        self.zeros = self.seen - int(self.counts.sum()) - finite.size
        if not finite.size:
            return
        self._grow(max(abs(low), abs(high)))
        bins = np.floor(finite / self.width).astype(np.int64) + HALF
        self.counts += np.bincount(bins, minlength=2 * HALF)

    def _grow(self, reach: float) -> None:
        if not self.width:
            # the smallest power of two with which `reach` falls inside; 2^-1000 keeps the quotients finite
            self.width = 2.0 ** max(np.frexp(reach)[1] - int(np.log2(HALF)), -1000)
        while reach >= HALF * self.width:
            halves = self.counts.reshape(2, HALF // 2, 2).sum(axis=2)
            self.counts = np.zeros(2 * HALF, np.int64)
            self.counts[HALF // 2 : HALF], self.counts[HALF : HALF + HALF // 2] = halves[0], halves[1]
            self.width *= 2

    def centres(self) -> Array:
        """The middle of each bin, float64 of [2 * HALF], clipped to what was seen."""
        middles = (np.arange(-HALF, HALF) + 0.5) * self.width
        clipped: Array = np.clip(middles, self.low, self.high)
        return clipped
